//! Batches in parts: how they are cut, and which parts a rank takes.

use candle_core::Device;
use ranks::{RankError, Ranks, Word};

use crate::batch::{Batch, BatchError, BatchSource, HostBatch};
use crate::sampler::{Epoch, Sample};

/// How a batch is cut into parts, and whose they are: part `p` is that of rank `p` modulo the number of ranks.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// The most samples of a part.
    part: usize,
    rank: usize,
    size: usize,
}

impl Cut {
    /// Parts of at most so many samples, shared out among the ranks; the whole batch is one part if there is no such number.
    #[must_use]
    pub fn new(part: Option<usize>, ranks: &Ranks) -> Self {
        Self { part: part.unwrap_or(usize::MAX).max(1), rank: ranks.rank(), size: ranks.size() }
    }

    /// The samples of this rank, part after part.
    fn own(&self, samples: &[Sample]) -> Vec<Sample> {
        samples.chunks(self.part).skip(self.rank).step_by(self.size).flatten().copied().collect()
    }
}

/// A batch of which this rank has read what it needs.
#[derive(Clone, Debug)]
pub struct Drawn {
    /// The samples of the whole batch.
    pub samples: Vec<Sample>,
    /// Those of this rank's parts.
    pub own: HostBatch,
    cut: Cut,
}

impl BatchSource {
    /// What [`BatchSource::assemble`] gives, of the parts that are this rank's.
    ///
    /// # Errors
    /// As there.
    pub fn draw(&self, epoch: &Epoch<'_>, number: u64, step: u64, cut: Cut) -> Result<Drawn, BatchError> {
        let samples = epoch.batch(step);
        let own = self.assemble_samples(number, cut.own(&samples))?;
        Ok(Drawn { samples, own, cut })
    }
}

impl Drawn {
    /// Moves this rank's parts to a device.
    ///
    /// # Errors
    /// When the device is out of memory.
    pub fn into_parts<'a>(self, device: &Device, ranks: &'a Ranks) -> Result<Parts<'a>, BatchError> {
        let own = match self.own.samples.is_empty() {
            true => Vec::new(),
            false => self.own.into_tensors(device)?.micro_batches(self.cut.part)?,
        };
        Ok(Parts { all: self.samples.len().div_ceil(self.cut.part), samples: self.samples, own, ranks })
    }
}

/// A batch in parts, of which this rank has some.
#[derive(Clone, Debug)]
pub struct Parts<'a> {
    samples: Vec<Sample>,
    all: usize,
    own: Vec<Batch>,
    ranks: &'a Ranks,
}

impl Parts<'static> {
    /// A whole batch as one part.
    #[must_use]
    pub fn whole(batch: &Batch) -> Self {
        Self { samples: batch.samples.clone(), all: 1, own: vec![batch.clone()], ranks: &Ranks::Alone }
    }
}

impl Parts<'_> {
    /// The samples of the whole batch.
    #[must_use]
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// How many parts the batch has.
    #[must_use]
    pub fn all(&self) -> usize {
        self.all
    }

    /// The parts of this rank.
    #[must_use]
    pub fn own(&self) -> &[Batch] {
        &self.own
    }

    /// The place among all parts of one of this rank's.
    #[must_use]
    pub fn place(&self, own: usize) -> usize {
        self.ranks.rank() + own * self.ranks.size()
    }

    /// How many rounds the ranks need. In the last one, some may have nothing to do.
    #[must_use]
    pub fn rounds(&self) -> usize {
        self.ranks.rounds(self.all)
    }

    /// The ranks that have the parts.
    #[must_use]
    pub fn ranks(&self) -> &Ranks {
        self.ranks
    }

    /// What the ranks know of each part, in the order of the parts, from what this one knows of its own.
    ///
    /// # Errors
    /// When a rank is lost.
    pub fn gather<T: Word>(&self, own: &[Vec<T>]) -> Result<Vec<Vec<T>>, RankError> {
        let mut all = Vec::with_capacity(self.all);
        for round in 0..self.rounds() {
            all.extend(self.ranks.gather(own.get(round).map_or(&[][..], Vec::as_slice))?);
        }
        all.truncate(self.all);
        Ok(all)
    }
}
