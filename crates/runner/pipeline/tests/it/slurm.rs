//! Runs on a real Slurm of one host. Without Slurm's packages, or without root, these tests say so and are skipped.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use crate::lab::{Lab, Outcome, PIPELINE, await_that, files, send};

/// A Slurm that ends with this value, or else with this process, whatever becomes of it.
struct Cluster {
    conf: PathBuf,
    script: Child,
    // The script ends when this is closed.
    stdin: Option<ChildStdin>,
}

impl Cluster {
    fn start() -> Option<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/slurm/one-host-slurm.sh");
        let mut script = Command::new(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(script.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let stdin = script.stdin.take();
        match line.trim_end().split_once(' ') {
            Some(("ready", conf)) => Some(Self { conf: conf.into(), script, stdin }),
            Some(("skip:", reason)) => {
                references::skipped(&format!("the tests on Slurm: {reason}"));
                None
            }
            _ => panic!("the Slurm for tests has not come up: {line}"),
        }
    }

    /// One of Slurm's own commands; returns what it says.
    fn slurm(&self, program: &str, arguments: &[&str]) -> String {
        let output = Command::new(program).args(arguments).env("SLURM_CONF", &self.conf).output().unwrap();
        assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The jobs of a lab that are in the queue.
    fn jobs(&self, lab: &Lab) -> Vec<String> {
        let root = lab.path("work").display().to_string();
        let listed = self.slurm("squeue", &["--noheader", "--array", "--Format=ArrayJobID:20,ArrayTaskID:20,StdOut:400"]);
        let mine = listed.lines().filter(|line| line.contains(&root));
        mine.map(|line| line.split_whitespace().take(2).collect::<Vec<_>>().join("_")).collect()
    }

    fn command(&self, lab: &Lab, arguments: &[&str]) -> Command {
        let quick = ["run", "--executor", "slurm", "--slurm", "poll=0.2 s", "--slurm", "latency=1 s"];
        let mut command = lab.command(&[&quick, arguments].concat());
        command.env("SLURM_CONF", &self.conf);
        command
    }

    fn run(&self, lab: &Lab, arguments: &[&str]) -> Outcome {
        Lab::outcome(self.command(lab, arguments))
    }

    fn start_run(&self, lab: &Lab, arguments: &[&str]) -> Running {
        Running::of(self.command(lab, arguments))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stdin.take();
        let _ = self.script.wait();
    }
}

/// A runner on its way.
struct Running(Child);

impl Running {
    fn of(mut command: Command) -> Self {
        Self(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap())
    }

    /// Waits for its end.
    fn ended(mut self) -> (Option<i32>, String) {
        let mut said = String::new();
        self.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (self.0.wait().unwrap().code(), said)
    }
}

/// The cluster that most tests share.
fn shared() -> Option<&'static Cluster> {
    static SHARED: OnceLock<Option<Cluster>> = OnceLock::new();
    SHARED.get_or_init(Cluster::start).as_ref()
}

/// `j` joins ten words, a fifth of a second each.
const SLOW: &str = "seed: 1
store: work
nodes:
  a: {stage: words, params: {text: w0 w1 w2 w3 w4 w5 w6 w7 w8 w9}}
  j: {stage: join, params: {glue: '', delay_ms: 200}, inputs: {parts: {a: a/words}}}
";

const JOINED: &str = "w0w1w2w3w4w5w6w7w8w9";

/// `loud` and `louder` work case by case, in jobs of three cases.
const CASES: &str = "seed: 1
store: work
nodes:
  a: {stage: words, params: {text: w0 w1 w2 w3 w4 w5 w6 w7}}
  loud: {stage: shout, inputs: {texts: a/words}, resources: {batch: 3}}
  louder: {stage: shout, inputs: {texts: loud/loud}, params: {mark: '!'}, resources: {batch: 3, cpus: 2, memory: 200 MB, time: 5 min}}
  m: {stage: measure, inputs: {what: louder/loud}}
";

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none())
}

#[test]
fn a_cluster_makes_what_one_machine_makes_and_the_results_are_each_others() {
    let Some(cluster) = shared() else { return };
    for pipeline in [PIPELINE, CASES] {
        let (here, there) = (Lab::new(pipeline), Lab::new(pipeline));
        here.run(&[]).must_succeed();
        cluster.run(&there, &[]).must_succeed();
        let results = |lab: &Lab| files(&lab.path("work/results/pipeline"));
        assert!(results(&here) == results(&there));
        assert!(is_empty(&there.path("work/slurm")) && is_empty(&there.path("work/attempts")), "nothing is left to do");
        assert_eq!(cluster.run(&there, &[]).must_succeed().ran(), [""; 0]);
        assert_eq!(there.run(&[]).must_succeed().ran(), [""; 0], "one machine finds what the cluster has made");
        assert_eq!(cluster.run(&here, &[]).must_succeed().ran(), [""; 0], "and the other way round");
    }
}

#[test]
fn cases_go_out_in_arrays_and_only_those_that_are_missing() {
    let Some(cluster) = shared() else { return };
    let lab = Lab::new(CASES);
    let first = cluster.run(&lab, &[]).must_succeed();
    assert!(first.stderr.contains("loud: 3 jobs are in the queue, as array "), "{}", first.stderr);
    assert!(first.stderr.contains("loud: 8 of 8 cases are there already"), "the last job only publishes: {}", first.stderr);
    let log = lab.call(&["log", "louder"]).must_succeed().stdout;
    assert_eq!(log.matches(": louder starts on ").count(), 4, "the logs of all jobs are in one: {log}");

    let other = ["--set", "a.text=w0 w1 w2 w3 w4 w5 x y"];
    let second = cluster.run(&lab, &other).must_succeed();
    assert!(!second.stderr.contains("as array"), "two cases are one job: {}", second.stderr);
    assert!(second.stderr.contains("louder: 6 of 8 cases are there already"), "{}", second.stderr);

    let forced = cluster.run(&lab, &[&other[..], &["loud", "--force"]].concat()).must_succeed();
    assert!(forced.stderr.contains("loud: 3 jobs are in the queue, as array "), "{}", forced.stderr);
    assert!(forced.stderr.contains("loud: 8 of 8 cases are there already"), "no case is done twice: {}", forced.stderr);
}

#[test]
fn few_jobs_at_a_time_come_to_the_same_end() {
    let Some(cluster) = shared() else { return };
    let lab = Lab::new(&CASES.replace("batch: 3", "batch: 2"));
    let outcome = cluster.run(&lab, &["loud", "--slurm", "queue=3", "--slurm", "array=2"]).must_succeed();
    assert!(outcome.stderr.contains("loud: 2 jobs are in the queue"), "{}", outcome.stderr);
    assert!(!outcome.stderr.contains("4 jobs are in the queue"), "{}", outcome.stderr);
    assert_eq!(lab.read("work/results/pipeline/loud/loud/7.txt"), "W7");
}

#[test]
fn a_failing_stage_shows_its_log_and_good_cases_are_kept() {
    let Some(cluster) = shared() else { return };
    let lab = Lab::new(PIPELINE);
    let fails = ["--set", "j.fails_at=two"];
    let failed = cluster.run(&lab, &fails);
    assert_eq!(failed.code, Some(1));
    assert!(failed.stderr.contains("j: FAILED: the stage ended with code 1 (job "), "{}", failed.stderr);
    assert!(failed.stderr.contains("error: j: the word two cannot be joined"), "{}", failed.stderr);
    assert!(lab.call(&[&["log", "j"], &fails[..]].concat()).stdout.contains("cannot be joined"));
    cluster.run(&lab, &[]).must_succeed();

    let lab = Lab::new(CASES);
    let fails = ["--set", "loud.fails_at=4.txt"];
    let failed = cluster.run(&lab, &fails);
    assert_eq!(failed.code, Some(1));
    assert!(failed.stderr.contains("1 of 3 cases failed; the others are done and kept"), "{}", failed.stderr);
    assert!(lab.call(&[&["log", "loud"], &fails[..]].concat()).stdout.contains("4.txt cannot be shouted"));
    let status = lab.call(&[&["status", "loud"], &fails[..]].concat()).stdout;
    assert!(status.contains("failed") && status.contains("7 of 8 cases are done"), "{status}");
}

#[test]
fn what_the_site_refuses_is_told_in_its_words() {
    let Some(cluster) = shared() else { return };
    let lab = Lab::new(PIPELINE);
    let refused = cluster.run(&lab, &["--slurm", "partition=none"]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("the job was not taken") && refused.stderr.contains("invalid partition"), "{}", refused.stderr);
}

#[test]
fn a_job_that_somebody_cancels_is_reported_and_the_next_run_goes_on_from_its_checkpoint() {
    let Some(cluster) = shared() else { return };
    let lab = Lab::new(SLOW);
    let runner = cluster.start_run(&lab, &[]);
    lab.await_checkpoint("w1");
    cluster.slurm("scancel", &[&cluster.jobs(&lab)[0]]);
    let (code, said) = runner.ended();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("j: FAILED: the stage was cancelled by somebody (scancel)"), "{said}");
    let second = cluster.run(&lab, &[]).must_succeed();
    assert!(second.stderr.contains("j: goes on where it was interrupted"), "{}", second.stderr);
    assert_eq!(lab.read("work/results/pipeline/j/joined.txt"), JOINED);
}

#[test]
fn a_job_whose_time_is_up_ends_in_good_order_and_another_goes_on() {
    let Some(cluster) = shared() else { return };
    let lab = Lab::new(SLOW);
    let runner = cluster.start_run(&lab, &[]);
    lab.await_checkpoint("w1");
    // What Slurm sends two minutes before the time is up, to the script alone.
    cluster.slurm("scancel", &["--batch", "--signal=TERM", &cluster.jobs(&lab)[0]]);
    let (code, said) = runner.ended();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("was lost, it was asked to end, as it is when its time is up; it is submitted again"), "{said}");
    assert!(said.contains("j: goes on where it was interrupted"), "{said}");
    assert_eq!(lab.read("work/results/pipeline/j/joined.txt"), JOINED);
}

#[test]
fn a_killed_runner_that_comes_back_adopts_its_job_and_starts_no_second_one() {
    let Some(cluster) = shared() else { return };
    let lab = Lab::new(SLOW);
    let mut runner = cluster.start_run(&lab, &[]);
    lab.await_checkpoint("w1");
    let job = cluster.jobs(&lab).remove(0);
    runner.0.kill().unwrap();
    runner.0.wait().unwrap();
    let second = cluster.run(&lab, &[]).must_succeed();
    assert!(second.stderr.contains(&format!("j: 1 job of an earlier run adopted: {job}\n")), "{}", second.stderr);
    assert_eq!(lab.read("work/results/pipeline/j/joined.txt"), JOINED);
    let log = lab.call(&["log", "j"]).stdout;
    assert_eq!(log.matches("0 of 10 words were joined before").count(), 1, "{log}");
    assert_eq!(log.matches("---").count(), 1, "one job has done it all: {log}");
}

#[test]
fn a_job_that_was_submitted_in_the_moment_of_the_kill_is_found_by_its_name() {
    let Some(cluster) = shared() else { return };
    let lab = Lab::new("seed: 1\nstore: work\nnodes:\n  a: {stage: words, params: {text: one two}}\n");
    let mut runner = cluster.start_run(&lab, &["--slurm", "args=[--hold]"]);
    let job = await_that("the job in the queue", || cluster.jobs(&lab).pop());
    let key = fs::read_dir(lab.path("work/slurm")).unwrap().next().unwrap().unwrap().path();
    let entries = fs::read_dir(key).unwrap().map(|entry| entry.unwrap().path().join("submission.json"));
    let path = entries.into_iter().find(|path| path.is_file()).unwrap();
    let known = format!("\"job\":\"{}\"", job.trim_end_matches("_0"));
    await_that("the number on disk", || fs::read_to_string(&path).is_ok_and(|text| text.contains(&known)).then_some(()));
    runner.0.kill().unwrap();
    runner.0.wait().unwrap();
    let status = lab.call(&["status"]).must_succeed().stdout;
    assert!(status.contains(&format!("its jobs ({}) may be in the queue still", job.trim_end_matches("_0"))), "{status}");
    // As if the kill had come before the number was written down.
    fs::write(&path, fs::read_to_string(&path).unwrap().replace(&known, "\"job\":null")).unwrap();
    let second = cluster.start_run(&lab, &[]);
    cluster.slurm("scontrol", &["release", &job]);
    let (code, said) = second.ended();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(&format!("a: 1 job of an earlier run adopted: {job}\n")), "{said}");
    assert!(!said.contains("in the queue\n"), "no second job: {said}");
}

#[test]
fn two_runners_do_not_submit_the_same_work() {
    let Some(cluster) = shared() else { return };
    let lab = Lab::new("seed: 1\nstore: work\nnodes:\n  a: {stage: words, params: {text: one two}}\n");
    // Held, so that the work is still to be done when the second runner comes.
    let first = cluster.start_run(&lab, &["--slurm", "args=[--hold]"]);
    let job = await_that("the job in the queue", || cluster.jobs(&lab).pop());
    let second = cluster.run(&lab, &[]);
    assert_eq!(second.code, Some(4), "{second:?}");
    assert!(second.stderr.contains(&format!("a: locked: process {} on ", first.0.id())), "{}", second.stderr);
    await_that("the queue in the status", || {
        let status: serde_json::Value = serde_json::from_str(&lab.call(&["status", "--json"]).stdout).unwrap();
        let node = &status["nodes"][0];
        assert_eq!(node["state"], "queued", "it does not run: {status}");
        node["about"][0].as_str().is_some_and(|about| about.starts_with("1 job in the queue (JobHeldUser")).then_some(())
    });
    cluster.slurm("scontrol", &["release", &job]);
    assert_eq!(first.ended().0, Some(0));
}

#[test]
fn a_runner_that_is_asked_to_stop_leaves_nothing_in_the_queue() {
    let Some(cluster) = shared() else { return };
    // Both want the whole machine, so that one runs and one waits.
    let other = "  k: {stage: join, params: {glue: '-', delay_ms: 400}, inputs: {parts: {a: a/words}}, resources: {cpus: 8}}\n";
    let slow = SLOW.replace("delay_ms: 200", "delay_ms: 400").replace("{a: a/words}}}", "{a: a/words}}, resources: {cpus: 8}}");
    let lab = Lab::new(&(slow + other));
    let runner = cluster.start_run(&lab, &[]);
    lab.await_checkpoint("w1");
    await_that("both jobs", || (cluster.jobs(&lab).len() == 2).then_some(()));
    send("-INT", runner.0.id());
    let (code, said) = runner.ended();
    assert_eq!(code, Some(130), "{said}");
    assert_eq!(cluster.jobs(&lab), [""; 0]);
    assert!(said.contains("stopped; the next run goes on from its last checkpoint"), "{said}");
    let second = cluster.run(&lab, &[]).must_succeed();
    assert!(second.stderr.contains(": goes on where it was interrupted"), "{}", second.stderr);
    assert_eq!(lab.read("work/results/pipeline/j/joined.txt"), JOINED);
}

#[test]
fn a_queue_that_does_not_answer_is_no_failure_of_a_job() {
    let Some(cluster) = shared() else { return };
    let lab = Lab::new(SLOW);
    // While the file `down` is there, the controller does not answer.
    lab.write("down", "");
    let stub = "#!/bin/sh\nif [ -e \"$DOWN\" ]; then echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1; fi\n";
    for program in ["squeue", "scontrol"] {
        lab.write(&format!("bin/{program}"), &format!("{stub}exec /usr/bin/{program} \"$@\"\n"));
        Command::new("chmod").arg("+x").arg(lab.path(&format!("bin/{program}"))).status().unwrap();
    }
    let path = format!("{}:{}", lab.path("bin").display(), std::env::var("PATH").unwrap());
    let command = |arguments: &[&str]| {
        let mut command = cluster.command(&lab, arguments);
        command.env("PATH", &path).env("DOWN", lab.path("down"));
        command
    };
    let outcome = Lab::outcome(command(&["--set", "j.glue=/"])).must_succeed();
    assert!(outcome.stderr.contains("j: does not know of its jobs and waits"), "{}", outcome.stderr);

    // Nor is silence the end of a job that has really gone.
    let mut runner = Running::of(command(&[]));
    lab.await_checkpoint("w1");
    cluster.slurm("scancel", &["--signal=KILL", "--full", &cluster.jobs(&lab)[0]]);
    await_that("the end of the job", || cluster.jobs(&lab).is_empty().then_some(()));
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(runner.0.try_wait().unwrap(), None, "the runner waits for an answer");
    fs::remove_file(lab.path("down")).unwrap();
    let (code, said) = runner.ended();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("was cancelled by somebody"), "{said}");
}

#[test]
fn jobs_of_a_machine_that_fails_are_submitted_again_so_many_times() {
    let Some(cluster) = Cluster::start() else { return };
    let host = cluster.slurm("sinfo", &["--noheader", "--format=%n"]).trim().to_owned();
    let fail = || {
        cluster.slurm("scontrol", &["update", &format!("nodename={host}"), "state=down", "reason=test"]);
        std::thread::sleep(Duration::from_millis(500));
        // Slurm may have taken it back already.
        let resume = ["update", &format!("nodename={host}"), "state=resume"];
        let _ = Command::new("scontrol").args(resume).env("SLURM_CONF", &cluster.conf).stderr(Stdio::null()).status();
    };
    let lab = Lab::new(SLOW);
    let runner = cluster.start_run(&lab, &[]);
    lab.await_checkpoint("w1");
    fail();
    let (code, said) = runner.ended();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("was lost, its machine failed; it is submitted again"), "{said}");
    assert!(said.contains("j: goes on where it was interrupted"), "{said}");
    assert_eq!(lab.read("work/results/pipeline/j/joined.txt"), JOINED);

    let again = ["--set", "j.glue=/", "--slurm", "resubmit=0"];
    let runner = cluster.start_run(&lab, &again);
    lab.await_checkpoint("w1");
    fail();
    let (code, said) = runner.ended();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("j: FAILED: the stage was lost, its machine failed, more often than `resubmit` allows"), "{said}");
}

#[test]
fn a_job_does_not_begin_before_the_records_of_what_it_reads_are_there() {
    let lab = Lab::new(PIPELINE);
    assert_eq!(lab.run(&["--set", "j.fails_at=two"]).code, Some(1));
    let job = fs::read_dir(lab.path("work/attempts")).unwrap().next().unwrap().unwrap().file_name().into_string().unwrap();
    let root = lab.path("work").display().to_string();
    let work = ["work", "--root", &root, &job];
    assert!(lab.call(&work).stderr.contains("the word two cannot be joined"), "with its inputs it begins");
    let parent = fs::read_link(lab.path("work/results/pipeline/a")).unwrap();
    let key = parent.file_name().unwrap().to_str().unwrap();
    let record = lab.path(&format!("work/records/{key}.json"));
    fs::rename(&record, lab.path("record.json")).unwrap();
    let refused = lab.call(&work);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("the job cannot begin: input parts.a (a/words): there is no record of "), "{}", refused.stderr);
}
