//! Progress with time left: bars on a terminal, plain lines elsewhere, JSON lines for a parent process.

use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle as BarStyle};
use serde::{Deserialize, Serialize};

use crate::shown::shown;

/// How progress is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ProgressStyle {
    /// Bars on a terminal, lines otherwise.
    #[default]
    Auto,
    /// A line every few seconds.
    Lines,
    /// One JSON object a line on standard output, for a parent process that draws.
    Json,
}

/// One step of progress, as a parent process reads it.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Update {
    /// What is counted, such as `cases`.
    pub what: String,
    /// How many are done.
    pub done: u64,
    /// Of how many.
    pub total: u64,
    /// What is worth knowing now, such as the loss.
    pub message: String,
}

/// The way from a stage to its user. Cheap to clone.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    style: ProgressStyle,
    is_silent: bool,
}

impl Report {
    /// A report in the given style.
    #[must_use]
    pub fn new(style: ProgressStyle) -> Self {
        Self { style, is_silent: false }
    }

    /// A report that says nothing, for processes beside the one that speaks.
    #[must_use]
    pub fn silent() -> Self {
        Self { style: ProgressStyle::Lines, is_silent: true }
    }

    /// Says one line to the user, [harmlessly](shown()). While a bar is drawn use [`Progress::note`], which does not tear it.
    pub fn note(&self, text: &str) {
        if self.is_silent {
            return;
        }
        // A closed standard error is no reason to stop working.
        let _ = writeln!(std::io::stderr(), "{}", shown(text));
    }

    /// Warns of what is doubtful about a file that is used nevertheless, if anything is.
    pub fn warn(&self, file: &Path, doubt: Option<impl Display>) {
        if let Some(doubt) = doubt {
            self.note(&format!("warning: {}: {doubt}", file.display()));
        }
    }

    /// Starts counting `total` of `what` under the name `node`.
    #[must_use]
    pub fn start(&self, node: &str, what: &str, total: u64) -> Progress {
        let bar = (self.style == ProgressStyle::Auto && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(5));
            // The template is a constant; should it ever be wrong, the default bar still works.
            if let Ok(style) = BarStyle::with_template("{prefix} {wide_bar} {pos}/{len} [{elapsed} elapsed, {eta} left] {msg}") {
                bar.set_style(style);
            }
            bar.set_prefix(shown(&format!("{node}: {what}")).into_owned());
            // The clock goes on while a long step is under way.
            bar.enable_steady_tick(Duration::from_secs(1));
            bar
        });
        let now = Instant::now();
        Progress {
            report: *self,
            node: node.to_owned(),
            bar,
            state: Mutex::new(State {
                update: Update { what: what.to_owned(), done: 0, total, message: String::new() },
                begun: now,
                resumed_from: 0,
                last_line: now,
            }),
        }
    }
}

struct State {
    update: Update,
    begun: Instant,
    resumed_from: u64,
    last_line: Instant,
}

/// A count that goes up until it is whole. Shared between threads by reference.
pub struct Progress {
    report: Report,
    node: String,
    bar: Option<ProgressBar>,
    state: Mutex<State>,
}

const LINE_INTERVAL: Duration = Duration::from_secs(5);

impl Progress {
    /// Counts `done` from an earlier attempt, which say nothing about the speed of this one.
    pub fn resume_from(&self, done: u64) {
        let mut state = self.lock();
        state.update.done = done;
        state.resumed_from = done;
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            bar.reset_eta();
        }
    }

    /// There is less, or more, to do than was known at first.
    pub fn set_total(&self, total: u64) {
        self.lock().update.total = total;
        if let Some(bar) = &self.bar {
            bar.set_length(total);
        }
    }

    /// One more is done.
    pub fn step(&self, message: &str) {
        let mut state = self.lock();
        state.update.done += 1;
        state.update.message = message.to_owned();
        let whole = state.update.done >= state.update.total;
        match (&self.bar, self.report.style) {
            (Some(bar), _) => {
                bar.set_message(shown(message).into_owned());
                bar.inc(1);
                if whole {
                    bar.finish();
                }
            }
            (None, ProgressStyle::Json) => {
                if let Ok(line) = serde_json::to_string(&state.update) {
                    let _ = writeln!(std::io::stdout(), "{line}");
                }
            }
            (None, _) => {
                if whole || state.last_line.elapsed() >= LINE_INTERVAL {
                    state.last_line = Instant::now();
                    self.report.note(&format!("{}: {}", self.node, line(&state.update, state.begun.elapsed(), state.resumed_from)));
                }
            }
        }
    }

    /// Says one line without tearing the bar.
    pub fn note(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| self.report.note(text)),
            None => self.report.note(text),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // A panic elsewhere leaves a count at worst one behind; the count goes on.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn line(update: &Update, elapsed: Duration, resumed_from: u64) -> String {
    let Update { what, done, total, message } = update;
    let fresh = done.saturating_sub(resumed_from).max(1);
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    let left = elapsed.as_secs_f64() / fresh as f64 * total.saturating_sub(*done) as f64;
    let message = if message.is_empty() { String::new() } else { format!(", {message}") };
    format!("{done}/{total} {what}, {} elapsed, {} left{message}", clock(elapsed.as_secs_f64()), clock(left))
}

/// Seconds as `5 s`, `3:20 min` or `4:05 h`.
fn clock(seconds: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "durations are positive and far below the limit")]
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => format!("{}:{:02} min", whole / 60, whole % 60),
        _ => format!("{}:{:02} h", whole / 3600, whole / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_count_time_and_message() {
        let update = Update { what: "cases".into(), done: 30, total: 120, message: "loss 0.5".into() };
        assert_eq!(line(&update, Duration::from_secs(60), 0), "30/120 cases, 1:00 min elapsed, 3:00 min left, loss 0.5");
    }

    #[test]
    fn resumed_work_does_not_flatter_the_time_left() {
        let update = Update { what: "cases".into(), done: 110, total: 120, message: String::new() };
        assert_eq!(line(&update, Duration::from_secs(60), 100), "110/120 cases, 1:00 min elapsed, 1:00 min left");
    }
}
