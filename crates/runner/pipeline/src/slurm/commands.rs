//! Slurm's commands. What they say is used to tell whether a job lives; a command that fails tells nothing at all.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Read;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a command may take; a controller in trouble lets them hang.
const PATIENCE: Duration = Duration::from_secs(60);

/// A job as the queue shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) name: String,
    pub(super) is_pending: bool,
    /// Why it waits, in Slurm's words.
    pub(super) reason: String,
}

/// The user's jobs that have not ended, by their identity: `12_3` is job 3 of array 12.
#[derive(Debug)]
pub(super) struct Listing {
    /// When the queue was asked.
    pub(super) asked: Instant,
    pub(super) jobs: BTreeMap<String, Listed>,
}

/// What the queue says, or why it says nothing.
type Answer = Result<Arc<Listing>, String>;

/// The queue, looked at no more often than need be by all who want to know.
#[derive(Default)]
pub(super) struct Queue {
    seen: Mutex<Option<(Instant, Answer)>>,
}

impl Queue {
    /// What is in the queue, or was within `age`; an error means that nothing is known.
    pub(super) fn look(&self, age: Duration) -> Answer {
        // Held while the queue is asked: whoever comes meanwhile waits for the same answer.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((when, answer)) = &*seen
            && when.elapsed() < age
        {
            return answer.clone();
        }
        let asked = Instant::now();
        let answer = call("squeue", ["--me", "--noheader", "--array", "--format=%i|%T|%r|%j"]);
        let answer = answer.map(|text| Arc::new(Listing { asked, jobs: parse_queue(&text) }));
        *seen = Some((Instant::now(), answer.clone()));
        answer
    }
}

/// States of jobs that have ended, of which some sites show the latest for a while.
const ENDED: [&str; 9] =
    ["BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "TIMEOUT"];

fn parse_queue(text: &str) -> BTreeMap<String, Listed> {
    let job = |line: &str| {
        // The name comes last, whatever is in it.
        let mut fields = line.splitn(4, '|');
        let (id, state, reason, name) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        let listed = Listed { name: name.to_owned(), is_pending: state == "PENDING", reason: reason.to_owned() };
        (!ENDED.contains(&state)).then(|| (id.to_owned(), listed))
    };
    text.lines().filter_map(job).collect()
}

/// Why there is no job.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// It is worth trying again; perhaps the job was even taken.
    ForNow(String),
    /// There are too many jobs.
    Full(String),
    /// It will never be taken as it is.
    ForGood(String),
}

/// Submits a script; returns the job's number.
pub(super) fn submit(arguments: &[String], script: &Path) -> Result<String, Refused> {
    let arguments = arguments.iter().map(OsString::from).chain([script.as_os_str().to_owned()]);
    let said = call("sbatch", arguments).map_err(refused)?;
    // With more than one cluster its name follows after a semicolon.
    let id = said.trim().split(';').next().unwrap_or_default();
    let sound = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit());
    if sound { Ok(id.to_owned()) } else { Err(Refused::ForNow(format!("sbatch says `{}` instead of a job's number", said.trim()))) }
}

fn refused(text: String) -> Refused {
    let says = |phrases: &[&str]| phrases.iter().any(|phrase| text.contains(phrase));
    match () {
        () if says(&["job submit limit", "MaxSubmitJob", "MaxJobCount"]) => Refused::Full(text),
        () if says(&["timed out", "took longer", "contact slurm", "temporarily", "Connection refused", "transmitted or received"]) => {
            Refused::ForNow(text)
        }
        () => Refused::ForGood(text),
    }
}

/// The state of a job that is not in the queue anymore, and how its script ended (`CODE:SIGNAL`); `None` when Slurm does
/// not tell, as it forgets jobs after a while.
pub(super) fn final_state(id: &str) -> Option<(String, String)> {
    parse_job(&call("scontrol", ["show", "job", "--oneliner", id]).ok()?)
}

fn parse_job(text: &str) -> Option<(String, String)> {
    let field = |name: &str| text.split_whitespace().find_map(|word| word.strip_prefix(name)).map(str::to_owned);
    Some((field("JobState=")?, field("ExitCode=").unwrap_or_default()))
}

/// Cancels jobs, or asks their scripts to end. That it fails is found out from the queue.
pub(super) fn cancel(ids: &[String], options: &[&str]) {
    for ids in ids.chunks(500) {
        let _ = call("scancel", options.iter().map(OsString::from).chain(ids.iter().map(OsString::from)));
    }
}

/// Whether Slurm is here at all.
pub(super) fn version() -> Result<String, String> {
    call("sbatch", ["--version"])
}

/// Runs a command and returns what it says, or why it failed.
fn call(program: &str, arguments: impl IntoIterator<Item = impl Into<OsString>>) -> Result<String, String> {
    let mut command = Command::new(program);
    command.args(arguments.into_iter().map(Into::into));
    // A group of its own, since Ctrl-C is for the runner; and nothing of the job that the runner may be in itself.
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("SQUEUE_") || (text.starts_with("SLURM_") && text != "SLURM_CONF") {
            command.env_remove(&name);
        }
    }
    let mut child = command.spawn().map_err(|error| format!("cannot run {program}: {error}"))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    std::thread::scope(|scope| {
        let said = scope.spawn(|| text_of(stdout));
        let complaint = scope.spawn(|| text_of(stderr));
        let begun = Instant::now();
        let status = loop {
            match child.try_wait() {
                Ok(Some(status)) => break Ok(status),
                Ok(None) if begun.elapsed() > PATIENCE => {
                    // Killed, it is reaped by the next round.
                    let _ = child.kill().and_then(|()| child.wait());
                    break Err(format!("{program} timed out after {} s", PATIENCE.as_secs()));
                }
                Ok(None) => std::thread::sleep(Duration::from_millis(5)),
                Err(error) => break Err(format!("cannot wait for {program}: {error}")),
            }
        };
        let (said, complaint) = (said.join().unwrap_or_default(), complaint.join().unwrap_or_default());
        match status? {
            status if status.success() => Ok(said),
            status => Err(format!("{program} failed ({}): {}", crate::child::describe(status), complaint.trim())),
        }
    })
}

fn text_of(from: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    // What was read before an error is what there is.
    let _ = from.map(|mut from| from.read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_is_read_whatever_the_names_and_reasons_are() {
        let jobs = parse_queue(
            "12_0|RUNNING|None|segment[M_1,0.5].ab.1\n\
             12_1|PENDING|Nodes required for job are DOWN, DRAINED|a|b\n\
             12_2|COMPLETED|None|c\nslurm is strange today\n",
        );
        assert_eq!(jobs.len(), 2, "what has ended is not in the queue, and noise is no job");
        assert_eq!(jobs["12_0"], Listed { name: "segment[M_1,0.5].ab.1".into(), is_pending: false, reason: "None".into() });
        assert_eq!(jobs["12_1"].name, "a|b");
        assert!(jobs["12_1"].is_pending && jobs["12_1"].reason.ends_with("DRAINED"));
    }

    #[test]
    fn the_end_of_a_job_is_read_from_its_line() {
        let line = "JobId=4 ArrayJobId=3 JobName=x JobState=NODE_FAIL Reason=NodeDown Requeue=0 ExitCode=0:15 RunTime=00:00:01\n";
        assert_eq!(parse_job(line), Some(("NODE_FAIL".into(), "0:15".into())));
        assert_eq!(parse_job("slurm_load_jobs error: Invalid job id specified"), None);
    }

    #[test]
    fn a_refusal_is_for_now_for_lack_of_room_or_for_good() {
        let error = |text: &str| refused(format!("sbatch failed (ended with code 1): sbatch: error: Batch job submission failed: {text}"));
        assert!(matches!(error("Socket timed out on send/recv operation"), Refused::ForNow(_)));
        assert!(matches!(error("Unable to contact slurm controller (connect failure)"), Refused::ForNow(_)));
        assert!(matches!(error("Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"), Refused::Full(_)));
        assert!(matches!(error("Invalid partition name specified"), Refused::ForGood(_)));
    }
}
