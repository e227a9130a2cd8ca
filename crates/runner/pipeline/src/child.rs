//! One run of a stage, as a child process that never outlives the runner.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, getppid, kill_process_group, set_parent_process_death_signal};
use stage_kit::Update;

/// A signal that a scheduler sends to all processes of a job may reach the stage a moment before this process.
const SAME_MOMENT: Duration = Duration::from_millis(200);

/// How a child has ended.
pub(crate) enum Ended {
    Well,
    /// By itself, with this status.
    Badly(ExitStatus),
    /// Because it was asked to.
    Stopped,
}

/// Makes this process die with its parent, however the parent dies; called by the stage's process at its start.
///
/// # Errors
/// When the parent is gone already, or the kernel refuses.
pub fn die_with_parent(parent: u32) -> Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL)).context("cannot tie the stage to its runner")?;
    // The parent may have died before the line above.
    let now = getppid().map(Pid::as_raw_pid);
    anyhow::ensure!(now.is_some_and(|now| u32::try_from(now) == Ok(parent)), "the runner is gone");
    Ok(())
}

/// The process that has started this one.
#[must_use]
pub fn parent_process() -> Option<u32> {
    getppid().and_then(|pid| u32::try_from(pid.as_raw_pid()).ok())
}

/// How a child is asked to end.
#[derive(Clone, Copy)]
pub(crate) struct Patience {
    /// The signal that asks.
    pub(crate) ask: Signal,
    /// How long it may take before it is killed.
    pub(crate) grace: Duration,
}

/// What a running stage has to tell.
pub enum Word {
    /// How far it is.
    Update(Update),
    /// A line for the user.
    Line(String),
}

/// Runs `command` to its end. Its words go to `tell`, and its lines into `log` as well.
/// Asked to stop, the stage has some time before it is killed.
pub(crate) fn run(
    mut command: Command,
    stdin: Stdio,
    mut log: File,
    tell: impl Fn(Word) + Sync,
    stop: &AtomicBool,
    patience: Patience,
) -> Result<Ended> {
    // A group of its own: Ctrl-C on the terminal reaches the runner alone, which then ends its stages in good order.
    command.process_group(0).stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
    let program = Path::new(command.get_program()).display().to_string();
    let mut child = command.spawn().with_context(|| format!("cannot start {program}"))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let tell = &tell;
    std::thread::scope(|scope| {
        // Other lines on standard output are no progress, and nothing to fail for.
        scope.spawn(|| each_line(stdout, |line| serde_json::from_str(line).into_iter().for_each(|update| tell(Word::Update(update)))));
        scope.spawn(|| {
            each_line(stderr, |line| {
                // A log that cannot be written, as on a full disk, does not hold the work up.
                let _ = writeln!(log, "{line}");
                tell(Word::Line(line.to_owned()));
            });
        });
        wait(&mut child, stop, patience).context("cannot wait for the stage")
    })
}

/// Calls `each` with every line until the other end is closed; bytes that are no UTF-8 are replaced.
fn each_line(from: Option<impl Read>, mut each: impl FnMut(&str)) {
    let Some(from) = from else { return };
    let mut reader = BufReader::new(from);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        each(String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']));
        line.clear();
    }
}

/// Waits for the end, and brings it about when `stop` is set. Only this thread reaps the child, so that no signal can
/// reach a stranger under the same number.
fn wait(child: &mut Child, stop: &AtomicBool, Patience { ask, grace }: Patience) -> Result<Ended> {
    let begun = Instant::now();
    let mut asked: Option<Instant> = None;
    loop {
        if let Some(status) = child.try_wait()? {
            if status.signal() == Some(Signal::TERM.as_raw()) && asked.is_none() {
                std::thread::sleep(SAME_MOMENT);
            }
            return Ok(match () {
                () if status.success() => Ended::Well,
                () if asked.is_some() || stop.load(Ordering::Relaxed) => Ended::Stopped,
                () => Ended::Badly(status),
            });
        }
        match asked {
            None if stop.load(Ordering::Relaxed) => {
                signal(child, ask);
                asked = Some(Instant::now());
            }
            Some(when) if when.elapsed() > grace => signal(child, Signal::KILL),
            _ => {}
        }
        // Short stages are not kept waiting, long ones are not disturbed.
        std::thread::sleep((begun.elapsed() / 20).clamp(Duration::from_millis(1), Duration::from_millis(50)));
    }
}

fn signal(child: &Child, signal: Signal) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // The group may have ended this moment, which is what was wanted.
        let _ = kill_process_group(group, signal);
    }
}

/// A status in words.
pub(crate) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with code {code}"),
        (None, Some(9)) => "was killed (signal 9); was memory short?".into(),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended in an unknown way".into(),
    }
}
