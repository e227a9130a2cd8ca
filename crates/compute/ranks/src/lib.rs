//! Processes that compute one thing together, to the bit as one process does.
//!
//! The processes of a job are its *ranks*, numbered from 0. Work comes in pieces with an order, such as the parts of a batch. Rank `r` of
//! `n` does the pieces `r`, `r + n`, `r + 2n`, …: in each *round* every rank does one piece at most, and the rounds follow the order of the
//! pieces. Whoever adds what the ranks did round after round, rank after rank, adds in the order of the pieces, as one process does.
//! So sums of floating-point numbers do not depend on the number of ranks. No sum is left to MPI, whose order is its own.
//!
//! All ranks must call [`Ranks::exchange`] and what is made of it equally often and in the same order.

mod launch;
#[cfg(feature = "mpi")]
mod mpi;
mod threads;

use std::sync::Arc;

pub use launch::{LaunchError, check, check_built, is_launched, join, launch, mpirun};

/// Why ranks cannot go on together.
#[derive(Debug, thiserror::Error)]
pub enum RankError {
    /// Another rank is not there any more.
    #[error("rank {0} has ended before its work was done; its own message says why")]
    Lost(usize),
    /// The ranks are not at the same place, or do not hold the same values.
    #[error("rank {rank} differs from rank 0 in {what}; {remedy}")]
    Differ {
        /// The first rank that differs.
        rank: usize,
        /// In what.
        what: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// A message beyond what MPI counts.
    #[error("the ranks have {0} values to exchange at once, and MPI takes 2147483647; train a smaller network, or with more processes")]
    TooLong(usize),
}

/// A value that ranks send each other.
#[cfg(not(feature = "mpi"))]
pub trait Word: Copy + Default + Send + 'static {}
/// A value that ranks send each other.
#[cfg(feature = "mpi")]
pub trait Word: Copy + Default + Send + 'static + ::mpi::traits::Equivalence {}
impl Word for u8 {}
impl Word for f32 {}
impl Word for f64 {}

/// Sums that go from rank to rank.
pub trait Sums {
    /// All of them, in an order that is the same on every rank.
    fn sums(&mut self) -> Vec<&mut f64>;
}

impl<S: Sums> Sums for Vec<S> {
    fn sums(&mut self) -> Vec<&mut f64> {
        self.iter_mut().flat_map(Sums::sums).collect()
    }
}

/// This process among those of its job. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub enum Ranks {
    /// There are no others.
    #[default]
    Alone,
    /// Threads of one process, each of which stands for a process: see [`Ranks::in_threads`].
    Threads(Arc<threads::Seat>),
    /// Processes that a launcher such as `mpirun` has started.
    #[cfg(feature = "mpi")]
    Mpi(Arc<mpi::Process>),
}

impl Ranks {
    /// Ranks for so many threads of this process. A rank that is dropped, as by an error or a panic, ends the work of the others.
    #[must_use]
    pub fn in_threads(size: usize) -> Vec<Self> {
        threads::Seat::all(size).into_iter().map(|seat| Self::Threads(Arc::new(seat))).collect()
    }

    /// The number of this rank, from 0.
    #[must_use]
    pub fn rank(&self) -> usize {
        match self {
            Self::Alone => 0,
            Self::Threads(seat) => seat.rank(),
            #[cfg(feature = "mpi")]
            Self::Mpi(process) => process.rank(),
        }
    }

    /// How many ranks there are.
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Self::Alone => 1,
            Self::Threads(seat) => seat.size(),
            #[cfg(feature = "mpi")]
            Self::Mpi(process) => process.size(),
        }
    }

    /// How many ranks this machine has; they share its cores.
    #[must_use]
    pub fn on_this_machine(&self) -> usize {
        match self {
            Self::Alone | Self::Threads(_) => 1,
            #[cfg(feature = "mpi")]
            Self::Mpi(process) => process.on_this_machine(),
        }
    }

    /// Whether this is the rank that speaks and writes.
    #[must_use]
    pub fn is_first(&self) -> bool {
        self.rank() == 0
    }

    /// In how many rounds so many pieces are done.
    #[must_use]
    pub fn rounds(&self, pieces: usize) -> usize {
        pieces.div_ceil(self.size())
    }

    /// Which of so many pieces this rank does.
    pub fn own(&self, pieces: usize) -> impl Iterator<Item = usize> + use<> {
        (self.rank()..pieces).step_by(self.size())
    }

    /// Sends `to[r]` to rank `r`, and returns what each rank sends to this one.
    ///
    /// # Errors
    /// When a rank is lost, or a message is too long.
    pub fn exchange<T: Word>(&self, to: &[&[T]]) -> Result<Vec<Vec<T>>, RankError> {
        match self {
            Self::Alone => Ok(to.iter().map(|part| part.to_vec()).collect()),
            Self::Threads(seat) => seat.exchange(to),
            #[cfg(feature = "mpi")]
            Self::Mpi(process) => process.exchange(to),
        }
    }

    /// What each rank has, on every rank.
    ///
    /// # Errors
    /// As [`Ranks::exchange`].
    pub fn gather<T: Word>(&self, own: &[T]) -> Result<Vec<Vec<T>>, RankError> {
        match self {
            #[cfg(feature = "mpi")]
            Self::Mpi(process) => process.gather(own),
            _ => self.exchange(&vec![own; self.size()]),
        }
    }

    /// One round of additions to sums that all ranks hold: each rank that has something `add`s it in its turn, to what those before it
    /// have made of the sums.
    ///
    /// # Errors
    /// Those of `add`, and as [`Ranks::exchange`].
    pub fn in_turn<S: Sums, E: From<RankError>>(&self, sums: &mut S, add: Option<impl FnOnce(&mut S) -> Result<(), E>>) -> Result<(), E> {
        let mut add = add;
        for turn in 0..self.size() {
            if turn == self.rank()
                && let Some(add) = add.take()
            {
                add(sums)?;
            }
            if self.size() > 1 {
                let own: Vec<f64> = if turn == self.rank() { sums.sums().into_iter().map(|sum| *sum).collect() } else { Vec::new() };
                let of_turn = self.gather(&own)?.swap_remove(turn);
                sums.sums().into_iter().zip(of_turn).for_each(|(sum, value)| *sum = value);
            }
        }
        Ok(())
    }

    /// The same by a rank that has nothing to add in this round.
    ///
    /// # Errors
    /// As [`Ranks::exchange`].
    pub fn pass_turn<S: Sums>(&self, sums: &mut S) -> Result<(), RankError> {
        self.in_turn(sums, None::<fn(&mut S) -> Result<(), RankError>>)
    }

    /// Makes sure that all ranks have the same.
    ///
    /// # Errors
    /// [`RankError::Differ`] on every rank when one has something else than rank 0.
    pub fn agree(&self, own: &[u8], what: &'static str, remedy: &'static str) -> Result<(), RankError> {
        let all = self.gather(own)?;
        all.iter().position(|other| *other != all[0]).map_or(Ok(()), |rank| Err(RankError::Differ { rank, what, remedy }))
    }

    /// Ends all processes of the job, because this one has failed; it returns where there are no others.
    pub fn abort(&self) {
        match self {
            Self::Alone | Self::Threads(_) => {}
            #[cfg(feature = "mpi")]
            Self::Mpi(process) => process.abort(),
        }
    }
}
