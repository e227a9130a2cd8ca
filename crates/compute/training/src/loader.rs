//! Batches ahead of time: a thread of its own reads and augments the next batches while the network computes.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use serde::{Deserialize, Serialize};

use crate::batch::{BatchError, BatchSource};
use crate::parts::{Cut, Drawn};

/// Batches that wait for the network. More would only take memory.
const AHEAD: usize = 2;

/// A position in training: the next batch to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// Epoch, from 0.
    pub epoch: u64,
    /// Step within the epoch, from 0.
    pub step: u64,
}

/// Hands out the batches of a range of epochs in order. What a batch holds depends on its position alone, never on
/// how far ahead the thread was.
pub struct Loader {
    batches: Receiver<Result<Drawn, BatchError>>,
    thread: Option<JoinHandle<()>>,
}

impl Loader {
    /// Begins to prepare this rank's parts of the batches from `from` up to the end of epoch `epochs − 1`.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(source: Arc<BatchSource>, cut: Cut, from: Position, epochs: u64) -> Result<Self, BatchError> {
        let (sender, batches) = sync_channel(AHEAD);
        let thread = std::thread::Builder::new()
            .name("batches".into())
            .spawn(move || prepare(&source, cut, from, epochs, &sender))
            .map_err(|error| BatchError::Broken(format!("no thread could be started: {error}")))?;
        Ok(Self { batches, thread: Some(thread) })
    }

    /// The next batch; none after the last.
    ///
    /// # Errors
    /// Names the case that cannot be read, and its file. There are no batches after an error.
    pub fn next_batch(&mut self) -> Result<Option<Drawn>, BatchError> {
        if let Ok(batch) = self.batches.recv() {
            return batch.map(Some);
        }
        match self.thread.take().map(JoinHandle::join) {
            None | Some(Ok(())) => Ok(None),
            Some(Err(panic)) => {
                let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
                Err(BatchError::Broken(text.unwrap_or("unknown internal error").to_owned()))
            }
        }
    }
}

/// The body of the thread. It ends with the last batch, with an error, or when nobody takes batches any more.
fn prepare(source: &BatchSource, cut: Cut, from: Position, epochs: u64, sender: &SyncSender<Result<Drawn, BatchError>>) {
    let mut first = from.step;
    for number in from.epoch..epochs {
        let epoch = source.sampler().epoch(number);
        for step in first..source.sampler().steps_per_epoch() {
            let batch = source.draw(&epoch, number, step, cut);
            let failed = batch.is_err();
            if sender.send(batch).is_err() || failed {
                return;
            }
        }
        first = 0;
    }
}
