//! Ranks that are processes, joined by MPI.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use mpi::collective::CommunicatorCollectives as _;
use mpi::datatype::{Partition, PartitionMut};
use mpi::environment::Universe;
use mpi::topology::{Communicator as _, SimpleCommunicator};
use mpi::{Count, Threading};

use crate::{LaunchError, RankError, Word};

/// This process in `MPI_COMM_WORLD`.
pub struct Process {
    rank: usize,
    size: usize,
    on_this_machine: usize,
    /// MPI ends with it. Whoever calls MPI holds it, because one thread may at a time.
    universe: Mutex<Universe>,
}

impl Process {
    /// Joins the other processes that a launcher has started.
    pub(crate) fn join(launched: usize) -> Result<Self, LaunchError> {
        let (universe, threading) = mpi::initialize_with_threading(Threading::Serialized).ok_or(LaunchError::Twice)?;
        let world = universe.world();
        let (rank, size) = (usize_of(world.rank()), usize_of(world.size()));
        if size != launched {
            return Err(LaunchError::Strangers { launched, joined: size });
        }
        if threading < Threading::Serialized {
            return Err(LaunchError::Threading);
        }
        let on_this_machine = usize_of(world.split_shared(0).size());
        Ok(Self { rank, size, on_this_machine, universe: Mutex::new(universe) })
    }

    pub(crate) fn rank(&self) -> usize {
        self.rank
    }

    pub(crate) fn size(&self) -> usize {
        self.size
    }

    pub(crate) fn on_this_machine(&self) -> usize {
        self.on_this_machine
    }

    pub(crate) fn exchange<T: Word>(&self, to: &[&[T]]) -> Result<Vec<Vec<T>>, RankError> {
        let _one_at_a_time = self.lock();
        let world = SimpleCommunicator::world();
        let lengths: Vec<u64> = to.iter().map(|part| part.len() as u64).collect();
        let mut expected = vec![0_u64; self.size];
        world.all_to_all_into(&lengths[..], &mut expected[..]);
        let (sent, received) = (Layout::of(&lengths)?, Layout::of(&expected)?);
        let sending: Vec<T> = to.concat();
        let mut values = vec![T::default(); received.all];
        world.all_to_all_varcount_into(
            &Partition::new(&sending[..], &sent.counts[..], &sent.begins[..]),
            &mut PartitionMut::new(&mut values[..], &received.counts[..], &received.begins[..]),
        );
        Ok(received.cut(&values))
    }

    pub(crate) fn gather<T: Word>(&self, own: &[T]) -> Result<Vec<Vec<T>>, RankError> {
        let _one_at_a_time = self.lock();
        let world = SimpleCommunicator::world();
        let mut expected = vec![0_u64; self.size];
        world.all_gather_into(&(own.len() as u64), &mut expected[..]);
        let received = Layout::of(&expected)?;
        let mut values = vec![T::default(); received.all];
        world.all_gather_varcount_into(own, &mut PartitionMut::new(&mut values[..], &received.counts[..], &received.begins[..]));
        Ok(received.cut(&values))
    }

    pub(crate) fn abort(&self) {
        SimpleCommunicator::world().abort(1);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Universe> {
        self.universe.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // MPI's own end waits for the other ranks, which wait for this one.
        if std::thread::panicking() {
            self.abort();
        }
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rank {} of {}", self.rank, self.size)
    }
}

/// Where the values of each rank lie in one row.
struct Layout {
    counts: Vec<Count>,
    begins: Vec<Count>,
    all: usize,
}

impl Layout {
    fn of(lengths: &[u64]) -> Result<Self, RankError> {
        let all: usize = lengths.iter().map(|&length| usize::try_from(length).unwrap_or(usize::MAX)).fold(0, usize::saturating_add);
        let count = |length: u64| Count::try_from(length).map_err(|_| RankError::TooLong(all));
        count(all as u64)?;
        let counts = lengths.iter().map(|&length| count(length)).collect::<Result<Vec<_>, _>>()?;
        let begins = counts.iter().scan(0, |end, &length| Some(std::mem::replace(end, *end + length))).collect();
        Ok(Self { counts, begins, all })
    }

    fn cut<T: Word>(&self, values: &[T]) -> Vec<Vec<T>> {
        let part = |(&begin, &length): (&Count, &Count)| values[usize_of(begin)..usize_of(begin + length)].to_vec();
        self.begins.iter().zip(&self.counts).map(part).collect()
    }
}

/// MPI's counts and ranks are never negative.
fn usize_of(count: Count) -> usize {
    usize::try_from(count).unwrap_or_default()
}
