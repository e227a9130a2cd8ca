//! Which boxes of which cases make up each batch.
//!
//! Everything is a pure function of the seed, the epoch and the step, so a resumed run needs no sampler state.

use std::ops::Range;

use random::rand::RngExt as _;
use random::{Streams, permutation};

/// How an epoch goes through the cases. Shapes are in the axis order in which the cases are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sampling {
    /// 3-D: each case gives `per_case` patches of `shape` voxels, placed uniformly (paper 3.2: two of 128³). The patches
    /// of a case follow each other, as with MONAI's `RandCropSamples` and a shuffled data loader.
    Patches {
        /// Patches from each case in one epoch.
        per_case: usize,
        /// Voxels along x, y, z.
        shape: [usize; 3],
    },
    /// 2-D: each slice (first stored axis) of each case gives one crop of `shape` pixels, placed uniformly
    /// (paper 3.2: 224×224).
    Slices {
        /// Pixels along x, y.
        shape: [usize; 2],
    },
}

impl Sampling {
    pub(crate) fn box_shape(self) -> [usize; 3] {
        match self {
            Self::Patches { shape, .. } => shape,
            Self::Slices { shape: [x, y] } => [1, x, y],
        }
    }

    /// How often a case is drawn in an epoch, and how many draws belong together.
    fn draws(self, case: [usize; 3]) -> (usize, usize) {
        match self {
            Self::Patches { per_case, .. } => (1, per_case),
            Self::Slices { .. } => (case[0], 1),
        }
    }
}

/// Whether epochs differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// For training: each epoch has an order and crops of its own.
    EachEpochAnew,
    /// For validation: every epoch sees the same samples in the same (shuffled) order, so that a shortened epoch is still
    /// a fair sample of all cases.
    AlwaysTheSame,
}

/// One sample of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Place of the case in the set.
    pub case: usize,
    /// The first voxel of the box, along the stored axes. Negative where the case is smaller than the box: it then lies
    /// in the middle, as with MONAI's `SpatialPad`.
    pub start: [isize; 3],
    /// Voxels of the box along the stored axes.
    pub shape: [usize; 3],
    /// Place of the sample in its epoch; names its random streams.
    pub number: u64,
}

/// Why there is nothing to sample.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SamplerError {
    /// An epoch without samples.
    #[error("there are no samples: {cases} cases, sampled as {sampling:?}; give cases with voxels, and sizes above 0")]
    Nothing {
        /// How many cases there are.
        cases: usize,
        /// How they would be sampled.
        sampling: Sampling,
    },
    /// Chances or places of labels that are not those of the cases.
    #[error("{found} chances (each 0 or more) or places of labels for {cases} cases")]
    Chances {
        /// How many were given.
        found: usize,
        /// How many cases there are.
        cases: usize,
    },
    /// A batch without samples.
    #[error("batch_size is 0; it must be at least 1")]
    EmptyBatch,
}

/// Draws batches from cases of known shapes.
#[derive(Clone, Debug)]
pub struct Sampler {
    sampling: Sampling,
    order: Order,
    cases: Vec<[usize; 3]>,
    /// `first_group[c]..first_group[c + 1]` are the groups of draws of case `c`.
    first_group: Vec<usize>,
    batch_size: usize,
    max_steps: Option<u64>,
    /// For each group its chance and those of all before it, where groups are drawn by chance.
    chances: Option<Vec<f64>>,
    foreground: Option<Foreground>,
    streams: Streams,
}

/// Where the labels of every case lie, and how often boxes are placed there.
#[derive(Clone, Debug, PartialEq)]
pub struct Foreground {
    /// For each case the first voxel and the one after the last along the stored axes; nothing for a case without labels.
    pub boxes: Vec<Option<[Range<usize>; 3]>>,
    /// The chance that a box of a sample lies among the labels; else it lies anywhere.
    pub probability: f64,
    /// Voxels around the labels that belong to them.
    pub margin: usize,
}

impl Foreground {
    /// Where a box of `length` begins along an axis of `size` voxels of a case: anywhere within the labels and their margin, and
    /// anywhere around the labels, whichever lets it move further. So a box that is longer than the labels by their margin or
    /// more holds all of them, and none is pinned to one place but at the ends of a case.
    fn place(&self, labels: &Range<usize>, size: usize, length: usize, chance: u64) -> isize {
        let Some(last) = size.checked_sub(length).filter(|last| *last > 0) else { return place(size, length, chance) };
        let (within, around) = (labels.start.saturating_sub(self.margin), labels.end.saturating_sub(length));
        let begin = within.min(around).min(last);
        let end = labels.end.saturating_add(self.margin).saturating_sub(length).max(labels.start).min(last);
        (begin + (chance % (end - begin + 1) as u64) as usize) as isize
    }
}

impl Sampler {
    /// A sampler over cases with the given stored shapes. `max_steps_per_epoch` ends epochs early; as every epoch has an
    /// order of its own, all cases still get their turn.
    ///
    /// # Errors
    /// When an epoch or a batch would be empty.
    pub fn new(
        sampling: Sampling,
        order: Order,
        cases: Vec<[usize; 3]>,
        batch_size: usize,
        max_steps_per_epoch: Option<u64>,
        streams: Streams,
    ) -> Result<Self, SamplerError> {
        let mut first_group = vec![0];
        let mut groups = 0;
        for &case in &cases {
            groups += sampling.draws(case).0;
            first_group.push(groups);
        }
        let per_group = sampling.draws([0; 3]).1;
        let voxels: usize = sampling.box_shape().iter().product();
        if batch_size == 0 {
            return Err(SamplerError::EmptyBatch);
        }
        if groups * per_group == 0 || voxels == 0 || max_steps_per_epoch == Some(0) {
            return Err(SamplerError::Nothing { cases: cases.len(), sampling });
        }
        Ok(Self {
            sampling,
            order,
            cases,
            first_group,
            batch_size,
            max_steps: max_steps_per_epoch,
            chances: None,
            foreground: None,
            streams,
        })
    }

    /// Draws each case anew with a chance in proportion to `of_case`, instead of every case once: an epoch is as long as
    /// before, and may hold a case often or not at all.
    ///
    /// # Errors
    /// When the chances are not those of the cases, or no case has any.
    pub fn by_chance(mut self, of_case: &[f64]) -> Result<Self, SamplerError> {
        if of_case.len() != self.cases.len() || !of_case.iter().all(|chance| chance.is_finite() && *chance >= 0.0) {
            return Err(SamplerError::Chances { found: of_case.len(), cases: self.cases.len() });
        }
        let mut sum = 0.0;
        let mut chances = Vec::with_capacity(self.groups());
        for (case, chance) in of_case.iter().enumerate() {
            for _ in self.first_group[case]..self.first_group[case + 1] {
                sum += chance;
                chances.push(sum);
            }
        }
        if sum <= 0.0 {
            return Err(SamplerError::Nothing { cases: 0, sampling: self.sampling });
        }
        self.chances = Some(chances);
        Ok(self)
    }

    /// Places boxes among the labels more often than elsewhere.
    ///
    /// # Errors
    /// When there are not as many boxes as cases.
    pub fn among_labels(mut self, foreground: Foreground) -> Result<Self, SamplerError> {
        if foreground.boxes.len() != self.cases.len() {
            return Err(SamplerError::Chances { found: foreground.boxes.len(), cases: self.cases.len() });
        }
        self.foreground = Some(foreground);
        Ok(self)
    }

    /// How the cases are sampled.
    #[must_use]
    pub fn sampling(&self) -> Sampling {
        self.sampling
    }

    /// Samples in an epoch that is not ended early.
    #[must_use]
    pub fn samples_per_epoch(&self) -> u64 {
        (self.groups() * self.sampling.draws([0; 3]).1) as u64
    }

    /// Batches in an epoch. The last one may be smaller than the others.
    #[must_use]
    pub fn steps_per_epoch(&self) -> u64 {
        let whole = self.samples_per_epoch().div_ceil(self.batch_size as u64);
        self.max_steps.map_or(whole, |most| whole.min(most))
    }

    /// The epoch numbered `epoch`, from 0.
    #[must_use]
    pub fn epoch(&self, epoch: u64) -> Epoch<'_> {
        let (purpose, number) = match self.order {
            Order::EachEpochAnew => ("training", epoch),
            Order::AlwaysTheSame => ("validation", 0),
        };
        let mut stream = self.streams.stream(&format!("{purpose} order"), &[number]);
        let order = match &self.chances {
            None => permutation(&mut stream, self.groups()),
            Some(chances) => (0..self.groups()).map(|_| draw(chances, stream.random::<f64>())).collect(),
        };
        Epoch { sampler: self, number, crop_purpose: format!("{purpose} crop"), order }
    }

    fn groups(&self) -> usize {
        self.first_group[self.cases.len()]
    }
}

/// One epoch, with its order drawn.
pub struct Epoch<'a> {
    sampler: &'a Sampler,
    number: u64,
    crop_purpose: String,
    order: Vec<usize>,
}

impl Epoch<'_> {
    /// The batch at a `step` counted from 0; empty from [`Sampler::steps_per_epoch`] on.
    #[must_use]
    pub fn batch(&self, step: u64) -> Vec<Sample> {
        if step >= self.sampler.steps_per_epoch() {
            return Vec::new();
        }
        let size = self.sampler.batch_size as u64;
        let end = ((step + 1) * size).min(self.sampler.samples_per_epoch());
        (step * size..end).map(|number| self.sample(number)).collect()
    }

    fn sample(&self, number: u64) -> Sample {
        let Sampler { sampling, cases, first_group, streams, foreground, .. } = self.sampler;
        let shape = sampling.box_shape();
        let per_group = sampling.draws([0; 3]).1;
        let group = self.order[number as usize / per_group];
        // Cases without slices share their first group with the next case; the last of them has it.
        let case = first_group.partition_point(|&first| first <= group) - 1;
        let mut stream = streams.stream(&self.crop_purpose, &[self.number, number]);
        let mut start = std::array::from_fn(|axis| place(cases[case][axis], shape[axis], stream.random::<u64>()));
        if let Some(foreground) = foreground
            && let Some(labels) = &foreground.boxes[case]
            && stream.random::<f64>() < foreground.probability
        {
            start = std::array::from_fn(|axis| foreground.place(&labels[axis], cases[case][axis], shape[axis], stream.random::<u64>()));
        }
        if matches!(sampling, Sampling::Slices { .. }) {
            start[0] = (group - first_group[case]) as isize;
        }
        Sample { case, start, shape, number }
    }
}

/// The place whose chance `at` of 0..1 falls into; `chances` are sums from the first place on.
fn draw(chances: &[f64], at: f64) -> usize {
    let sum = chances.last().copied().unwrap_or(0.0);
    chances.partition_point(|&until| until <= at * sum).min(chances.len() - 1)
}

/// Where a box of `length` begins on an axis of `size` voxels: anywhere inside, or around it when it is longer.
fn place(size: usize, length: usize, chance: u64) -> isize {
    if size <= length {
        return -(((length - size) / 2) as isize);
    }
    // The bias of the remainder is below 2^-40 for axes of a CT.
    (chance % (size - length + 1) as u64) as isize
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    fn slices(order: Order, max_steps: Option<u64>) -> Sampler {
        let cases = vec![[5, 40, 30], [0, 40, 30], [7, 20, 64]];
        Sampler::new(Sampling::Slices { shape: [32, 32] }, order, cases, 5, max_steps, Streams::new(1)).unwrap()
    }

    fn all(epoch: &Epoch<'_>, steps: u64) -> Vec<Sample> {
        (0..steps).flat_map(|step| epoch.batch(step)).collect()
    }

    #[test]
    fn an_epoch_holds_every_slice_of_every_case_once() {
        let sampler = slices(Order::EachEpochAnew, None);
        assert_eq!(sampler.steps_per_epoch(), 3);
        let samples = all(&sampler.epoch(4), 3);
        let seen: BTreeSet<(usize, isize)> = samples.iter().map(|s| (s.case, s.start[0])).collect();
        let expected = (0..5).map(|z| (0, z)).chain((0..7).map(|z| (2, z))).collect();
        assert_eq!(seen, expected);
        assert_eq!(samples.len(), 12);
        assert_eq!(sampler.epoch(4).batch(2).len(), 2, "the last batch is what remains");
        assert!(sampler.epoch(4).batch(3).is_empty());
    }

    #[test]
    fn crops_lie_inside_and_smaller_cases_in_the_middle() {
        for sample in all(&slices(Order::EachEpochAnew, None).epoch(0), 3) {
            match sample.case {
                0 => assert!((0..=8).contains(&sample.start[1]) && sample.start[2] == -1, "{sample:?}"),
                _ => assert!(sample.start[1] == -6 && (0..=32).contains(&sample.start[2]), "{sample:?}"),
            }
            assert_eq!(sample.shape, [1, 32, 32]);
        }
    }

    #[test]
    fn a_batch_depends_on_seed_epoch_and_step_alone() {
        let a = slices(Order::EachEpochAnew, None);
        let b = slices(Order::EachEpochAnew, None);
        assert_eq!(a.epoch(3).batch(1), b.epoch(3).batch(1));
        assert_ne!(a.epoch(3).batch(1), a.epoch(2).batch(1));
        assert_ne!(a.epoch(3).batch(1), a.epoch(3).batch(0));
    }

    #[test]
    fn validation_sees_the_same_samples_in_every_epoch() {
        let sampler = slices(Order::AlwaysTheSame, Some(2));
        assert_eq!(all(&sampler.epoch(0), 2), all(&sampler.epoch(9), 2));
        let cases: BTreeSet<usize> = all(&sampler.epoch(0), 2).iter().map(|s| s.case).collect();
        assert_eq!(cases, BTreeSet::from([0, 2]), "a shortened epoch still draws from all cases");
    }

    #[test]
    fn shortened_epochs_reach_all_slices_in_time() {
        let sampler = slices(Order::EachEpochAnew, Some(1));
        assert_eq!(sampler.steps_per_epoch(), 1);
        let seen: BTreeSet<_> = (0..40).flat_map(|e| sampler.epoch(e).batch(0)).map(|s| (s.case, s.start[0])).collect();
        assert_eq!(seen.len(), 12);
    }

    #[test]
    fn each_case_gives_its_patches_together_and_they_cover_the_volume() {
        let sampling = Sampling::Patches { per_case: 2, shape: [8, 8, 8] };
        let sampler = Sampler::new(sampling, Order::EachEpochAnew, vec![[10, 8, 6]; 50], 4, None, Streams::new(1)).unwrap();
        assert_eq!((sampler.steps_per_epoch(), sampler.samples_per_epoch()), (25, 100));
        let samples = all(&sampler.epoch(0), 25);
        assert!(samples.as_chunks::<2>().0.iter().all(|[a, b]| a.case == b.case));
        assert_eq!(samples.iter().map(|s| s.case).collect::<BTreeSet<_>>().len(), 50);
        assert_eq!(samples.iter().map(|s| s.start[0]).collect::<BTreeSet<_>>(), BTreeSet::from([0, 1, 2]));
        assert!(samples.iter().all(|s| s.start[1..] == [0, -1]));
    }

    #[test]
    fn cases_come_as_often_as_their_chances_say() {
        let sampling = Sampling::Patches { per_case: 1, shape: [4; 3] };
        let new = || Sampler::new(sampling, Order::EachEpochAnew, vec![[8; 3]; 5], 1, None, Streams::new(1)).unwrap();
        let sampler = new().by_chance(&[1.0, 0.0, 2.0, 0.5, 0.5]).unwrap();
        let mut seen = [0; 5];
        for epoch in 0..2000 {
            all(&sampler.epoch(epoch), 5).iter().for_each(|sample| seen[sample.case] += 1);
        }
        for (seen, expected) in seen.into_iter().zip([2500, 0, 5000, 1250, 1250]) {
            // Four standard deviations of the most frequent.
            assert!(i32::abs(seen - expected) <= 200, "{seen} instead of {expected}");
        }
        assert_eq!(all(&sampler.epoch(7), 5), all(&new().by_chance(&[2.0, 0.0, 4.0, 1.0, 1.0]).unwrap().epoch(7), 5));
        assert!(new().by_chance(&[1.0]).is_err() && new().by_chance(&[0.0; 5]).is_err());
    }

    /// The places of 4,000 boxes of `length` for labels of a case of one axis.
    fn places(labels: Range<usize>, size: usize, length: usize, margin: usize) -> BTreeMap<isize, usize> {
        let foreground = Foreground { boxes: Vec::new(), probability: 1.0, margin };
        let mut stream = Streams::new(4).stream("places", &[]);
        let mut places = BTreeMap::new();
        for _ in 0..4000 {
            *places.entry(foreground.place(&labels, size, length, stream.random::<u64>())).or_default() += 1;
        }
        places
    }

    #[test]
    fn a_box_that_is_longer_than_the_labels_moves_and_always_holds_them() {
        // Labels of 10 voxels with a margin of 32 are longer than a box of 64, and shorter than one of 96.
        for (length, margin) in [(64, 32), (96, 32), (64, 0), (11, 0)] {
            let found = places(200..210, 500, length, margin);
            let expected: Vec<isize> = (210 - length as isize..=200).collect();
            assert_eq!(found.keys().copied().collect::<Vec<_>>(), expected, "{length} voxels, margin {margin}");
            let mean = 4000.0 / expected.len() as f64;
            // Five standard deviations.
            assert!(found.values().all(|&times| (times as f64 - mean).abs() < 5.0 * mean.sqrt()), "{found:?}");
        }
    }

    #[test]
    fn a_box_that_is_shorter_than_the_labels_goes_anywhere_among_them_and_their_margin() {
        let found = places(100..300, 500, 64, 32);
        assert_eq!((found.keys().next(), found.keys().next_back(), found.len()), (Some(&68), Some(&268), 201));
    }

    #[test]
    fn no_length_of_labels_pins_a_box() {
        for labels in 1..200 {
            let moves = places(200..200 + labels, 600, 64, 32).len();
            assert!(moves > 32, "labels of {labels} voxels leave {moves} places");
        }
    }

    #[test]
    fn a_box_stays_in_the_case() {
        assert_eq!(places(3..60, 70, 64, 32).into_keys().collect::<Vec<_>>(), (0..=6).collect::<Vec<_>>());
        for (labels, held) in [(0..10, 0), (495..500, 436)] {
            assert_eq!(places(labels, 500, 64, 32).into_keys().collect::<Vec<_>>(), [held], "labels at the end of a case are held");
        }
        assert_eq!(places(495..500, 500, 64, usize::MAX).len(), 437);
        assert_eq!(places(10..20, 64, 64, 32).into_keys().collect::<Vec<_>>(), [0]);
        assert_eq!(places(10..20, 60, 64, 32).into_keys().collect::<Vec<_>>(), [-2]);
    }

    #[test]
    fn boxes_lie_among_the_labels_as_often_as_asked() {
        let sampling = Sampling::Patches { per_case: 1, shape: [8; 3] };
        let cases = vec![[100, 100, 6], [100, 100, 100]];
        let plain = Sampler::new(sampling, Order::EachEpochAnew, cases, 1, None, Streams::new(1)).unwrap();
        let labels = [40..60, 96..99, 2..4];
        let foreground = Foreground { boxes: vec![Some(labels), None], probability: 0.75, margin: 3 };
        let sampler = plain.clone().among_labels(foreground).unwrap();
        let samples: Vec<Sample> = (0..2000).flat_map(|epoch| all(&sampler.epoch(epoch), 2)).collect();
        let anywhere: Vec<Sample> = (0..2000).flat_map(|epoch| all(&plain.epoch(epoch), 2)).collect();
        let (mut near, mut both) = (0, 0);
        for (sample, plain) in samples.iter().zip(&anywhere) {
            if sample.case == 1 {
                assert_eq!(sample, plain, "a case without labels is sampled as before");
                continue;
            }
            both += 1;
            near += i32::from((37..=55).contains(&sample.start[0]) && sample.start[1] >= 91);
            assert!((0..=92).contains(&sample.start[0]) && sample.start[2] == -1, "{sample:?}");
        }
        // Three quarters, and hardly any by chance; four standard deviations.
        assert!(both == 2000 && (1420..=1590).contains(&near), "{near} of {both}");
    }

    #[test]
    fn nothing_to_sample_is_an_error_and_no_endless_epoch() {
        let new =
            |cases, batch| Sampler::new(Sampling::Slices { shape: [4, 4] }, Order::EachEpochAnew, cases, batch, None, Streams::new(1));
        assert!(new(vec![], 1).unwrap_err().to_string().contains("0 cases"));
        assert!(new(vec![[0, 9, 9]], 1).is_err());
        assert_eq!(new(vec![[3, 9, 9]], 0).unwrap_err(), SamplerError::EmptyBatch);
    }
}
