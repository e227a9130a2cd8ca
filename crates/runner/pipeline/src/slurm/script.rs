//! What is submitted: a script that becomes the program's hidden verb `work`, and the arguments of `sbatch`.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use crate::job::{Job, Part};
use crate::slurm::SlurmOptions;

/// How long before its time is up a job is asked to end, in seconds, so that training writes a checkpoint.
const WARNING: u64 = 120;

/// What every job of a run is called with.
pub(super) struct Program<'a> {
    pub(super) executable: &'a Path,
    /// The store.
    pub(super) root: &'a Path,
    /// How long to wait for the records of what it reads.
    pub(super) patience: Duration,
}

/// The script of an array whose jobs do `parts`, a part each. `folder` is where they tell how they ended.
///
/// The script becomes the program, so that signals for the script reach it; which part it does is written in the script
/// itself, of which Slurm keeps a copy.
pub(super) fn script(program: &Program<'_>, job: &Job, parts: &[Part], folder: &Path) -> String {
    let mut text = format!("#!/bin/sh\n# {}: {} job{}\n", one_line(&job.node), parts.len(), if parts.len() == 1 { "" } else { "s" });
    text.push_str("case \"$SLURM_ARRAY_TASK_ID\" in\n");
    for (index, part) in parts.iter().enumerate() {
        let part = match part {
            Part::Whole => String::new(),
            Part::Cases(range) => format!(" --cases {}..{}", range.start, range.end),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{index}) set --{part} ;;");
    }
    let path = |path: &Path| quoted(&path.to_string_lossy());
    let _ = write!(
        text,
        "esac\nexec {} work --root {} --threads {} --patience {} --outcome {}/\"$SLURM_ARRAY_TASK_ID\".json \"$@\" {}\n",
        path(program.executable),
        path(program.root),
        cpus(job),
        program.patience.as_secs_f64(),
        path(folder),
        job.key
    );
    text
}

/// The arguments of `sbatch` for an array of `n_jobs` jobs under `name`. Every submission is an array, be it of one job, so
/// that all jobs are told apart in one way.
pub(super) fn arguments(options: &SlurmOptions, job: &Job, name: &str, n_jobs: usize, folder: &Path) -> Vec<String> {
    let resources = &job.resources;
    let mut arguments = vec![
        "--parsable".to_owned(),
        format!("--job-name={name}"),
        format!("--array=0-{}", n_jobs.saturating_sub(1)),
        // Slurm reads percent signs in it.
        format!("--output={}/%a.out", folder.to_string_lossy().replace('%', "%%")),
        // The runner submits again what was lost; Slurm doing the same would make two of it.
        "--no-requeue".to_owned(),
        format!("--ntasks={}", resources.processes),
        format!("--cpus-per-task={}", cpus(job)),
    ];
    if resources.processes == 1 {
        arguments.push("--nodes=1".to_owned());
    }
    arguments.extend(resources.memory.map(|bytes| format!("--mem={}M", bytes.div_ceil(1 << 20))));
    arguments.extend(resources.time.map(|seconds| format!("--time={}", seconds.div_ceil(60))));
    // Slurm may be a minute early: of a short time nothing would be left.
    if resources.time.is_none_or(|seconds| seconds >= 5 * WARNING) {
        arguments.push(format!("--signal=B:TERM@{WARNING}"));
    }
    arguments.extend(options.partition.as_ref().map(|partition| format!("--partition={partition}")));
    arguments.extend(options.account.as_ref().map(|account| format!("--account={account}")));
    arguments.extend(options.args.iter().cloned());
    if resources.gpus > 0 {
        arguments.push(format!("--gres=gpu:{}", resources.gpus));
        arguments.extend(options.gpu_args.iter().cloned());
    }
    arguments
}

/// What a node does not ask for it does not get: Slurm gives one core, and more threads than cores help nobody.
fn cpus(job: &Job) -> usize {
    job.resources.cpus.unwrap_or(1)
}

/// A word of the shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// A text that cannot end a comment.
fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::PathBuf;
    use std::process::Command;

    use super::*;
    use crate::resources::Resources;

    fn job(resources: Resources) -> Job {
        Job {
            key: "abc".into(),
            node: "segment[M_1]".into(),
            stage: "segment".into(),
            revision: 1,
            params: serde_json::Value::Null,
            seed: 1,
            device: Default::default(),
            inputs: Default::default(),
            pipeline: String::new(),
            resources,
            version: String::new(),
            forced: false,
            verify: false,
            cards: None,
            cases: None,
        }
    }

    #[test]
    fn each_job_of_an_array_does_its_part_and_tells_of_its_own_end() {
        let folder = tempfile::tempdir().unwrap();
        // A name that a careless script would trip over, with a program that tells how it was called.
        let tricky = folder.path().join("it's $HOME & \"more\"");
        std::fs::create_dir(&tricky).unwrap();
        let program = tricky.join("flare");
        std::fs::write(&program, "#!/bin/sh\nfor word; do echo \"$word\"; done\n").unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let parts = [Part::Cases(0..50), Part::Cases(70..120), Part::Whole];
        let called = Program { executable: &program, root: &tricky, patience: Duration::from_millis(1500) };
        let text = script(&called, &job(Resources { cpus: Some(4), ..Resources::default() }), &parts, &tricky);
        let path = folder.path().join("script.sh");
        std::fs::write(&path, text).unwrap();
        let called = |index: &str| {
            let output = Command::new("sh").arg(&path).env("SLURM_ARRAY_TASK_ID", index).output().unwrap();
            String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()
        };
        let root = tricky.display().to_string();
        let expected = |index: &str, part: &[&str]| {
            let outcome = format!("{root}/{index}.json");
            let words = ["work", "--root", &root, "--threads", "4", "--patience", "1.5", "--outcome", &outcome]
                .into_iter()
                .chain(part.iter().copied());
            words.chain(["abc"]).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(called("0"), expected("0", &["--cases", "0..50"]));
        assert_eq!(called("1"), expected("1", &["--cases", "70..120"]));
        assert_eq!(called("2"), expected("2", &[]));
    }

    #[test]
    fn the_arguments_say_what_the_node_and_the_site_ask_for() {
        let options = SlurmOptions {
            partition: Some("cpu".into()),
            account: Some("lab".into()),
            args: vec!["--qos=long".into()],
            gpu_args: vec!["--partition=gpu".into()],
            ..SlurmOptions::default()
        };
        let folder = PathBuf::from("/store/100%/slurm");
        let asks = Resources { cpus: Some(4), gpus: 2, memory: Some(16_000_000_000), time: Some(5401), ..Resources::default() };
        let expected = [
            "--parsable",
            "--job-name=n",
            "--array=0-79",
            "--output=/store/100%%/slurm/%a.out",
            "--no-requeue",
            "--ntasks=1",
            "--cpus-per-task=4",
            "--nodes=1",
            "--mem=15259M",
            "--time=91",
            "--signal=B:TERM@120",
            "--partition=cpu",
            "--account=lab",
            "--qos=long",
            "--gres=gpu:2",
            "--partition=gpu",
        ];
        assert_eq!(arguments(&options, &job(asks), "n", 80, &folder), expected);
        let short = arguments(&SlurmOptions::default(), &job(Resources { time: Some(120), ..Resources::default() }), "n", 1, &folder);
        assert_eq!(
            short[6..],
            ["--cpus-per-task=1", "--nodes=1", "--time=2"],
            "no warning at the very beginning, and nothing that nobody asks for"
        );
        let several = arguments(&SlurmOptions::default(), &job(Resources { processes: 3, ..Resources::default() }), "n", 1, &folder);
        assert!(
            several.contains(&"--ntasks=3".to_owned()) && !several.contains(&"--nodes=1".to_owned()),
            "processes may be on several machines"
        );
    }
}
