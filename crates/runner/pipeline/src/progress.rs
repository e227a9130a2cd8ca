//! How far an attempt is, for whoever asks from outside: `status`, or the runner of a job elsewhere.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};
use stage_kit::Update;

/// The latest step of progress of an attempt, as `progress.json` in its folder tells it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Progress {
    /// What was counted, and how far.
    #[serde(flatten)]
    pub update: Update,
    /// Seconds since this count began.
    pub elapsed: f64,
    /// How much was done when it began.
    pub first: u64,
}

const FILE: &str = "progress.json";

impl Progress {
    /// The progress of the attempt in `folder`, if it has told any.
    #[must_use]
    pub fn of(folder: &Path) -> Option<Self> {
        serde_json::from_str(&std::fs::read_to_string(folder.join(FILE)).ok()?).ok()
    }

    /// The time that is left at the pace so far.
    #[must_use]
    pub fn left(&self) -> Duration {
        let done = self.update.done.saturating_sub(self.first).max(1);
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let left = self.elapsed * self.update.total.saturating_sub(self.update.done) as f64 / done as f64;
        Duration::try_from_secs_f64(left).unwrap_or_default()
    }
}

/// Keeps the progress of an attempt in its folder.
pub(crate) struct ProgressFile {
    folder: PathBuf,
    state: Mutex<Option<State>>,
}

struct State {
    what: String,
    begun: Instant,
    first: u64,
    written: SystemTime,
}

/// How often it is written.
const INTERVAL: Duration = Duration::from_secs(1);

impl ProgressFile {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder, state: Mutex::new(None) }
    }

    /// Takes a step of progress in, and writes it unless another was written just now.
    pub(crate) fn keep(&self, update: &Update) {
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if state.as_ref().is_none_or(|state| state.what != update.what) {
            let first = update.done.saturating_sub(1);
            *state = Some(State { what: update.what.clone(), begun: Instant::now(), first, written: SystemTime::UNIX_EPOCH });
        }
        let Some(state) = state.as_mut() else { return };
        // A clock that was set back makes one write too many.
        if state.written.elapsed().is_ok_and(|age| age < INTERVAL) {
            return;
        }
        state.written = SystemTime::now();
        let progress = Progress { update: update.clone(), elapsed: state.begun.elapsed().as_secs_f64(), first: state.first };
        // Progress that cannot be written, as on a full disk, does not hold the work up.
        let _ = serde_json::to_string(&progress).map(|text| std::fs::write(self.folder.join(FILE), text));
    }
}
