//! What the user sees while nodes run: bars on a terminal, lines elsewhere.

use std::io::{IsTerminal as _, Write as _};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use stage_kit::Update;

use crate::text::duration;

/// The screen.
pub struct Display {
    bars: Option<MultiProgress>,
}

impl Default for Display {
    fn default() -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self { bars: terminal.then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(5))) }
    }
}

/// How often a line tells how far a node is.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// How often a terminal shows how far the run is.
const RUN_INTERVAL: Duration = Duration::from_secs(1);

impl Display {
    /// Says one line.
    pub fn note(&self, text: &str) {
        let say = || {
            // A closed standard error is no reason to stop working.
            let _ = writeln!(std::io::stderr(), "{}", stage_kit::shown(text));
        };
        match &self.bars {
            Some(bars) => bars.suspend(say),
            None => say(),
        }
    }

    /// A run begins. On a terminal its line stays below those of its nodes.
    pub(crate) fn run(&self) -> RunDisplay<'_> {
        let bar = self.bars.as_ref().map(|bars| {
            let bar = bars.add(ProgressBar::no_length());
            set_style(&bar, "{msg}");
            bar
        });
        RunDisplay { display: self, bar, told: Instant::now() }
    }

    /// A node of the run begins.
    pub(crate) fn start(&self, node: &str) -> NodeDisplay<'_> {
        let bar = self.bars.as_ref().map(|bars| {
            let bar = bars.insert_from_back(1, ProgressBar::no_length());
            set_style(&bar, "{prefix} [{elapsed} elapsed]");
            bar.set_prefix(node.to_owned());
            bar.enable_steady_tick(Duration::from_secs(1));
            bar
        });
        NodeDisplay { display: self, node: node.to_owned(), bar, begun: Instant::now(), state: Mutex::new(None) }
    }
}

fn set_style(bar: &ProgressBar, template: &str) {
    // The templates are constants; should one ever be wrong, the bar before it still works.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
}

/// A run as a whole.
pub(crate) struct RunDisplay<'a> {
    display: &'a Display,
    bar: Option<ProgressBar>,
    told: Instant,
}

impl RunDisplay<'_> {
    /// Whether the clock alone is a reason to tell how far the run is. Lines would be too many.
    pub(crate) fn is_due(&self) -> bool {
        self.bar.is_some() && self.told.elapsed() >= RUN_INTERVAL
    }

    /// Tells how far the run is.
    pub(crate) fn tell(&mut self, course: String) {
        self.told = Instant::now();
        match &self.bar {
            Some(bar) => bar.set_message(course),
            None => self.display.note(&course),
        }
    }

    /// The run has ended.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// One running node.
pub(crate) struct NodeDisplay<'a> {
    display: &'a Display,
    node: String,
    bar: Option<ProgressBar>,
    begun: Instant,
    state: Mutex<Option<Counting>>,
}

/// One count of a stage: a stage may count cases first and steps later.
struct Counting {
    begun: Instant,
    first: u64,
    /// The latest step, and when it was told.
    latest: (Update, Instant),
    last_line: Instant,
}

impl NodeDisplay<'_> {
    /// One step of progress.
    pub(crate) fn update(&self, update: &Update) {
        let mut state = self.state();
        let now = Instant::now();
        if state.as_ref().is_none_or(|counting| counting.latest.0.what != update.what) {
            *state = Some(Counting { begun: now, first: update.done.saturating_sub(1), latest: (update.clone(), now), last_line: now });
            if let Some(bar) = &self.bar {
                set_style(bar, "{prefix} {wide_bar} {pos}/{len} [{elapsed} elapsed, {eta} left] {msg}");
                bar.set_prefix(format!("{}: {}", self.node, update.what));
                bar.set_position(update.done);
                bar.reset_eta();
            }
        }
        let Some(counting) = state.as_mut() else { return };
        counting.latest = (update.clone(), now);
        match &self.bar {
            Some(bar) => {
                bar.set_length(update.total);
                bar.set_position(update.done);
                bar.set_message(update.message.clone());
            }
            None if now.duration_since(counting.last_line) >= LINE_INTERVAL => {
                counting.last_line = now;
                self.display.note(&format!("{}: {}", self.node, line(update, counting.begun.elapsed(), counting.first)));
            }
            None => {}
        }
    }

    /// How long it has run.
    pub(crate) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// How long its count takes yet, once its pace is known.
    pub(crate) fn left(&self) -> Option<Duration> {
        let state = self.state();
        let Counting { begun, first, latest: (update, told), .. } = state.as_ref()?;
        // Nobody knows when the first step began.
        let timed = update.done.saturating_sub(first + 1);
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let seconds = (*told - *begun).as_secs_f64() * update.total.saturating_sub(update.done) as f64 / timed as f64;
        // Without a timed step it is no number.
        Some(Duration::try_from_secs_f64(seconds).ok()?.saturating_sub(told.elapsed()))
    }

    fn state(&self) -> std::sync::MutexGuard<'_, Option<Counting>> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The node has ended.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn line(update: &Update, elapsed: Duration, first: u64) -> String {
    let Update { what, done, total, message } = update;
    // What an earlier attempt has done says nothing about the speed of this one.
    let fresh = done.saturating_sub(first).max(1);
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    let left = elapsed.mul_f64(total.saturating_sub(*done) as f64 / fresh as f64);
    let message = if message.is_empty() { String::new() } else { format!(", {message}") };
    format!("{done}/{total} {what}, {} elapsed, {} left{message}", duration(elapsed), duration(left))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_count_time_and_message_and_is_not_flattered_by_resumed_work() {
        let update = Update { what: "steps".into(), done: 110, total: 120, message: "loss 0.5".into() };
        assert_eq!(line(&update, Duration::from_secs(60), 100), "110/120 steps, 1:00 min elapsed, 1:00 min left, loss 0.5");
    }
}
