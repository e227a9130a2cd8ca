//! Ranks that are threads of one process: what tests prove of any number of ranks needs no MPI.

use std::any::Any;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};

use crate::{RankError, Word};

type Letter = Box<dyn Any + Send>;

/// The place of one thread among the others.
#[derive(Debug)]
pub struct Seat {
    rank: usize,
    /// To each rank and from each. Whoever is gone has closed both.
    lines: Mutex<Vec<(Sender<Letter>, Receiver<Letter>)>>,
}

impl Seat {
    pub(crate) fn all(size: usize) -> Vec<Self> {
        let mut lines: Vec<Vec<(Option<Sender<Letter>>, Option<Receiver<Letter>>)>> =
            (0..size).map(|_| (0..size).map(|_| (None, None)).collect()).collect();
        for from in 0..size {
            for to in 0..size {
                let (sender, receiver) = channel();
                lines[from][to].0 = Some(sender);
                lines[to][from].1 = Some(receiver);
            }
        }
        let seat = |(rank, lines): (usize, Vec<_>)| {
            let lines = lines.into_iter().filter_map(|(sender, receiver)| Option::zip(sender, receiver)).collect();
            Self { rank, lines: Mutex::new(lines) }
        };
        lines.into_iter().enumerate().map(seat).collect()
    }

    pub(crate) fn rank(&self) -> usize {
        self.rank
    }

    pub(crate) fn size(&self) -> usize {
        self.lock().len()
    }

    pub(crate) fn exchange<T: Word>(&self, to: &[&[T]]) -> Result<Vec<Vec<T>>, RankError> {
        let lines = self.lock();
        for (rank, ((sender, _), part)) in lines.iter().zip(to).enumerate() {
            sender.send(Box::new(part.to_vec())).map_err(|_| RankError::Lost(rank))?;
        }
        let received = |(rank, (_, receiver)): (usize, &(_, Receiver<Letter>))| {
            let letter = receiver.recv().map_err(|_| RankError::Lost(rank))?;
            // Ranks that do not call the same in the same order have lost each other.
            letter.downcast::<Vec<T>>().map(|values| *values).map_err(|_| RankError::Lost(rank))
        };
        lines.iter().enumerate().map(received).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(Sender<Letter>, Receiver<Letter>)>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
