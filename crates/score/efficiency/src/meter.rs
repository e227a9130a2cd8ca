//! Runs a command and looks at its memory meanwhile.

use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::figures::{MB, SECONDS_PER_SAMPLE};
use crate::nvml::{Gpu, NvmlError};
use crate::processes::{Tree, end_tree};

/// Why a run was not measured.
#[derive(Debug, thiserror::Error)]
pub enum MeterError {
    /// The command is missing or may not be run.
    #[error("cannot start {program}: {reason}")]
    Start {
        /// The program.
        program: String,
        /// The reason.
        reason: std::io::Error,
    },
    /// The kernel does not tell how the command ended.
    #[error("cannot wait for the command: {0}")]
    Wait(std::io::Error),
    /// The graphics card answered before and does no more.
    #[error(transparent)]
    Gpu(#[from] NvmlError),
    /// Somebody has asked for the end.
    #[error("interrupted")]
    Interrupted,
}

/// The memory in use at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Since the start.
    pub seconds: f64,
    /// Of the processes.
    pub ram_mb: f64,
    /// Of the graphics card, if there is one.
    pub gpu_mb: Option<f64>,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// By itself with this code; none after a signal.
    Ended(Option<i32>),
    /// It was ended, because its time was up.
    TimedOut,
}

/// A command from its start to its end.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// From the start to the end.
    pub seconds: f64,
    /// How it ended.
    pub outcome: Outcome,
    /// Every 0.1 s from the start on.
    pub samples: Vec<Sample>,
    /// The end of what it said on standard error.
    pub said: String,
}

/// Measures commands.
pub struct Meter<'a> {
    /// The graphics card, if there is one.
    pub gpu: Option<&'a Gpu>,
    /// The longest that a command may take.
    pub limit: Duration,
    /// Set when everything is to end.
    pub stop: &'a AtomicBool,
}

/// How often it is asked whether the command has ended, so that its time is not rounded to the samples'.
const GLANCE: Duration = Duration::from_millis(2);
/// How much of what a command says is kept.
const KEPT: usize = 4000;

impl Meter<'_> {
    /// Runs a command. `first` tells the process at the top of those that are counted, as soon as there is one; `end` ends them
    /// when the time is up.
    ///
    /// # Errors
    /// When the command cannot be started, or the end is asked for.
    pub fn run(&self, mut command: Command, mut first: impl FnMut(u32) -> Option<u32>, end: impl Fn()) -> Result<Run, MeterError> {
        let program = command.get_program().to_string_lossy().into_owned();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let begun = Instant::now();
        let mut child = command.spawn().map_err(|reason| MeterError::Start { program, reason })?;
        let stderr = child.stderr.take();
        std::thread::scope(|scope| {
            let said = scope.spawn(|| stderr.map_or_else(String::new, tail));
            let watched = self.watch(&mut child, begun, &mut first);
            if !matches!(watched, Ok((_, Some(_)))) {
                end();
                end_tree(child.id());
                // It has been killed, and what is told is why.
                let _ = child.wait();
            }
            let (samples, status) = watched?;
            let seconds = begun.elapsed().as_secs_f64();
            let outcome = status.map_or(Outcome::TimedOut, |status| Outcome::Ended(status.code()));
            Ok(Run { seconds, outcome, samples, said: said.join().unwrap_or_default() })
        })
    }

    /// Samples until the command ends; without a status when its time is up.
    fn watch(
        &self,
        child: &mut Child,
        begun: Instant,
        first: &mut impl FnMut(u32) -> Option<u32>,
    ) -> Result<(Vec<Sample>, Option<ExitStatus>), MeterError> {
        let (mut samples, mut top) = (Vec::new(), None);
        loop {
            let seconds = begun.elapsed().as_secs_f64();
            if seconds >= samples.len() as f64 * SECONDS_PER_SAMPLE {
                top = top.or_else(|| first(child.id()));
                let ram_mb = top.map_or(0.0, |top| Tree::below(top).resident as f64 / MB);
                let gpu_mb = self.gpu.map(Gpu::used).transpose()?.map(|bytes| bytes as f64 / MB);
                let sample = Sample { seconds, ram_mb, gpu_mb };
                samples.push(sample);
                // What was missed while the machine was busy stood as high as what is seen now.
                while begun.elapsed().as_secs_f64() >= (samples.len() + 1) as f64 * SECONDS_PER_SAMPLE {
                    samples.push(sample);
                }
            }
            if let Some(status) = child.try_wait().map_err(MeterError::Wait)? {
                return Ok((samples, Some(status)));
            }
            if self.stop.load(Ordering::Relaxed) {
                return Err(MeterError::Interrupted);
            }
            if begun.elapsed() >= self.limit {
                return Ok((samples, None));
            }
            std::thread::sleep(GLANCE);
        }
    }
}

/// Reads to the end and keeps the last of it.
fn tail(mut from: impl Read) -> String {
    let mut kept = Vec::new();
    let mut part = [0; 4096];
    while let Ok(read @ 1..) = from.read(&mut part) {
        kept.extend_from_slice(&part[..read]);
        kept.drain(..kept.len().saturating_sub(KEPT));
    }
    String::from_utf8_lossy(&kept).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(script: &str, limit: Duration) -> Result<Run, MeterError> {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Meter { gpu: None, limit, stop: &AtomicBool::new(false) }.run(command, Some, || {})
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_command_is_sampled_every_tenth_of_a_second() {
        let run = run("sleep 0.95; echo words >&2; exit 3", LONG).unwrap();
        assert_eq!((run.outcome, run.said.as_str()), (Outcome::Ended(Some(3)), "words"));
        assert!(run.seconds >= 0.95, "{}", run.seconds);
        let expected = (run.seconds / SECONDS_PER_SAMPLE).ceil();
        assert!((run.samples.len() as f64 - expected).abs() <= 1.0, "{} samples of {} s", run.samples.len(), run.seconds);
        assert!(run.samples[1..].iter().all(|sample| sample.ram_mb > 0.1 && sample.ram_mb < 50.0 && sample.gpu_mb.is_none()));
    }

    #[test]
    fn a_command_that_hangs_is_ended_with_all_its_children() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("number");
        let run = run(&format!("sh -c 'echo $$ > {}; exec sleep 60' & wait", file.display()), Duration::from_millis(500)).unwrap();
        assert_eq!(run.outcome, Outcome::TimedOut);
        assert!(run.seconds < 30.0);
        let child: u32 = std::fs::read_to_string(file).unwrap().trim().parse().unwrap();
        assert_eq!(Tree::below(child).resident, 0);
    }

    #[test]
    fn the_end_can_be_asked_for() {
        let stop = AtomicBool::new(true);
        let mut command = Command::new("sleep");
        command.arg("60");
        let run = Meter { gpu: None, limit: LONG, stop: &stop }.run(command, Some, || {});
        assert!(matches!(run, Err(MeterError::Interrupted)));
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let command = Command::new("/absent/program");
        let error = Meter { gpu: None, limit: LONG, stop: &AtomicBool::new(false) }.run(command, Some, || {}).unwrap_err();
        assert!(error.to_string().contains("/absent/program"), "{error}");
    }
}
