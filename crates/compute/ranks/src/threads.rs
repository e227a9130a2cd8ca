//! Ranks that are threads of one process: what tests prove of any number of ranks needs no MPI.

use std::any::Any;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{RankError, Word};

type Letter = Box<dyn Any + Send>;

/// To a rank, and from it.
type Line = (Sender<Letter>, Receiver<Letter>);

/// The place of one thread among the others.
#[derive(Debug)]
pub struct Seat {
    rank: usize,
    /// With each rank. Whoever is gone has closed both ways.
    lines: Mutex<Vec<Line>>,
}

impl Seat {
    pub(crate) fn all(size: usize) -> Vec<Self> {
        let mut senders: Vec<Vec<Sender<Letter>>> = Vec::new();
        let mut receivers: Vec<Vec<Receiver<Letter>>> = (0..size).map(|_| Vec::new()).collect();
        for _from in 0..size {
            let (to, at): (Vec<_>, Vec<_>) = (0..size).map(|_| channel()).unzip();
            senders.push(to);
            receivers.iter_mut().zip(at).for_each(|(receivers, receiver)| receivers.push(receiver));
        }
        let seats = senders.into_iter().zip(receivers).enumerate();
        seats.map(|(rank, (to, from))| Self { rank, lines: Mutex::new(to.into_iter().zip(from).collect()) }).collect()
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
        let received = |(rank, (_, receiver)): (usize, &Line)| {
            let letter = receiver.recv().map_err(|_| RankError::Lost(rank))?;
            // Ranks that do not call the same in the same order have lost each other.
            letter.downcast::<Vec<T>>().map(|values| *values).map_err(|_| RankError::Lost(rank))
        };
        lines.iter().enumerate().map(received).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
