//! What a training reads and writes, and what ends it early.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::Result;
use ranks::Ranks;
use stage_kit::{Report, StageIo};

/// Where a training reads and writes.
#[derive(Clone, Debug)]
pub struct Run {
    /// Name for messages.
    pub node: String,
    /// Folder of the curve and the plot, and in [`stage_kit::ABOUT`] of the times and the event file.
    pub output: PathBuf,
    /// Folder of the checkpoint.
    pub checkpoints: PathBuf,
    /// The way to the user.
    pub report: Report,
    /// What makes this training differ from others, besides its [`FitConfig`](crate::FitConfig) and live parameters: parameters of the
    /// network, seed, inputs.
    pub identity: String,
    /// The key of the work, where a runner has planned it.
    pub key: Option<String>,
    /// Digests of the inputs, by role.
    pub inputs: BTreeMap<String, String>,
    /// Wall time between checkpoints within an epoch. Has no influence on results.
    pub checkpoint_interval: Duration,
    /// Once it is set, the step under way is the last: a checkpoint is written, and the training ends as [`Interrupted`].
    pub stop: Arc<AtomicBool>,
    /// The processes that train together. The first one writes; all read the checkpoint.
    pub ranks: Ranks,
}

impl Run {
    /// The run of a stage, with a checkpoint every ten minutes besides those at the end of each epoch, and with one more
    /// when the process is asked to end.
    ///
    /// # Errors
    /// When an input cannot be read, or the process cannot listen for signals.
    pub fn of(io: &StageIo, mut identity: String) -> Result<Self> {
        let inputs = io.digests()?;
        if !io.planned {
            // The folder of the checkpoint may be that of a training on other inputs.
            identity = serde_json::json!({ "parameters": identity, "inputs": inputs }).to_string();
        }
        Ok(Self {
            node: io.node.clone(),
            output: io.output.clone(),
            checkpoints: io.work.join("checkpoint"),
            report: io.report,
            identity,
            key: io.known.key.clone(),
            inputs,
            checkpoint_interval: Duration::from_secs(600),
            stop: stage_kit::stop_on_signals()?,
            ranks: io.ranks.clone(),
        })
    }
}

/// The training was asked to end.
#[derive(Debug, thiserror::Error)]
#[error("asked to end in epoch {epoch} after step {step}; the checkpoint in {} goes on from there", .checkpoints.display())]
pub struct Interrupted {
    /// Counted from 1.
    pub epoch: u64,
    /// Counted from 1.
    pub step: u64,
    /// The folder of the checkpoint.
    pub checkpoints: PathBuf,
}

/// Training has left the realm of numbers.
#[derive(Debug, thiserror::Error)]
#[error(
    "{what} became {value} in epoch {epoch}, step {step}, at learning rate {learning_rate:e}; \
     lower `learning_rate`, or lengthen the warm-up. The checkpoint, if there is one, is from before"
)]
pub struct Diverged {
    /// The loss, or a parameter.
    pub what: String,
    /// Infinite or NaN.
    pub value: f64,
    /// Counted from 1.
    pub epoch: u64,
    /// Counted from 1.
    pub step: u64,
    /// The rate at that step.
    pub learning_rate: f64,
}
