//! Batches: boxes of prepared cases, augmented, as tensors.

use std::slice::ChunksMut;

use candle_core::{Device, Tensor};
use prepared::{PreparedError, PreparedSet};
use rayon::prelude::*;
use streams::Streams;

use crate::augment::AugmentConfig;
use crate::sampler::{Epoch, Sample, Sampler, Sampling};
use crate::trust::{Trust, Truth};

/// Which label maps a training needs, and what it makes of the trust in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Targets {
    /// Organs, 0..=13.
    pub organs: bool,
    /// Tumor, 0 or 1.
    pub cancer: bool,
    /// How much each label counts.
    pub trust: Trust,
}

/// Why a batch cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    /// A prepared case cannot be read.
    #[error("case {case}: {reason}")]
    Case {
        /// The case.
        case: String,
        /// What is wrong; names the file.
        reason: PreparedError,
    },
    /// A case lacks the labels that are trained on.
    #[error(
        "case {case} has no {map} map, and the training needs one; train on a subset whose cases have it, or prepare it with pseudo labels"
    )]
    NoTarget {
        /// The case.
        case: String,
        /// Which map.
        map: &'static str,
    },
    /// The prepared cases are of the other kind.
    #[error(
        "the cases are prepared in the layout {found:?}, and {sampling:?} needs {expected:?}; set the layout of the stage `preprocess`"
    )]
    Layout {
        /// The layout of the cases.
        found: prepared::Layout,
        /// The layout that the sampling needs.
        expected: prepared::Layout,
        /// How boxes are drawn.
        sampling: Sampling,
    },
    /// The thread that prepares batches ended by a fault.
    #[error("the preparation of batches broke off: {0}")]
    Broken(String),
    /// A failure of the tensor library.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

/// Where batches come from: the cases, how boxes are drawn from them, and what changes them.
#[derive(Clone, Debug)]
pub struct BatchSource {
    set: PreparedSet,
    sampler: Sampler,
    targets: Targets,
    /// Whether a map that a case lacks is filled with background; else such a case is refused.
    blank_where_missing: bool,
    augment: Option<AugmentConfig>,
    streams: Streams,
}

impl BatchSource {
    /// Batches from `set`, whose shapes `sampler` must have been made with.
    ///
    /// # Errors
    /// When the layout of the cases does not fit the sampling, or a case lacks a map in `targets`.
    pub fn new(
        set: PreparedSet,
        sampler: Sampler,
        targets: Targets,
        augment: Option<AugmentConfig>,
        streams: Streams,
    ) -> Result<Self, BatchError> {
        let sampling = sampler.sampling();
        let expected = match sampling {
            Sampling::Patches { .. } => prepared::Layout::Volume,
            Sampling::Slices { .. } => prepared::Layout::Slices,
        };
        if set.layout() != expected {
            return Err(BatchError::Layout { found: set.layout(), expected, sampling });
        }
        for case in set.cases() {
            for (map, needed, there) in [("organ", targets.organs, case.has_organs), ("cancer", targets.cancer, case.has_cancer)] {
                if needed && !there {
                    return Err(BatchError::NoTarget { case: case.id.clone(), map });
                }
            }
        }
        Ok(Self { set, sampler, targets, blank_where_missing: false, augment, streams })
    }

    /// Batches with both maps from cases of which some lack one, for losses that look at what is annotated alone: a map that is
    /// not there is all background.
    ///
    /// # Errors
    /// When the layout of the cases does not fit the sampling.
    pub fn partly_labelled(
        set: PreparedSet,
        sampler: Sampler,
        augment: Option<AugmentConfig>,
        streams: Streams,
    ) -> Result<Self, BatchError> {
        let nothing_needed = Targets { organs: false, cancer: false, trust: Trust::Unused };
        let source = Self::new(set, sampler, nothing_needed, augment, streams)?;
        Ok(Self { targets: Targets { organs: true, cancer: true, trust: Trust::Unused }, blank_where_missing: true, ..source })
    }

    /// How boxes are drawn.
    #[must_use]
    pub fn sampler(&self) -> &Sampler {
        &self.sampler
    }

    /// The cases.
    #[must_use]
    pub fn set(&self) -> &PreparedSet {
        &self.set
    }

    /// Reads and augments the batch at `step` of the epoch numbered `number`.
    ///
    /// # Errors
    /// Names the case that cannot be read, and its file.
    pub fn assemble(&self, epoch: &Epoch<'_>, number: u64, step: u64) -> Result<HostBatch, BatchError> {
        let samples = epoch.batch(step);
        let voxels = samples.len() * self.sampler.sampling().box_shape().iter().product::<usize>();
        let labels = |wanted: bool| wanted.then(|| vec![0_u8; voxels]);
        let weights = |wanted: bool| (wanted && !self.targets.trust.is_unused()).then(|| vec![1.0_f32; voxels]);
        let spatial = match self.sampler.sampling() {
            Sampling::Patches { shape, .. } => shape.to_vec(),
            Sampling::Slices { shape } => shape.to_vec(),
        };
        let Targets { organs, cancer, .. } = self.targets;
        let mut batch = HostBatch {
            samples,
            spatial,
            image: vec![0.0; voxels],
            organs: labels(organs),
            cancer: labels(cancer),
            organ_weights: weights(organs),
            cancer_weights: weights(cancer),
        };
        batch.parts().into_par_iter().try_for_each(|(sample, part)| self.fill(number, &sample, part))?;
        Ok(batch)
    }

    fn fill(&self, epoch: u64, sample: &Sample, part: Part<'_>) -> Result<(), BatchError> {
        let case = || self.set.cases()[sample.case].id.clone();
        let patch =
            self.set.read_box(sample.case, sample.start, sample.shape).map_err(|reason| BatchError::Case { case: case(), reason })?;
        part.image.copy_from_slice(&patch.image);
        for (map, wanted, found) in [("organ", part.organs, patch.organs), ("cancer", part.cancer, patch.cancer)] {
            let Some(wanted) = wanted else { continue };
            match found {
                Some(found) => wanted.copy_from_slice(&found),
                None if self.blank_where_missing => wanted.fill(0),
                None => return Err(BatchError::NoTarget { case: case(), map }),
            }
        }
        for (weights, trust) in [(part.organ_weights, patch.organs_trust), (part.cancer_weights, patch.cancer_trust)] {
            // What nobody has weighed, such as true labels, counts fully.
            if let (Some(weights), Some(trust)) = (weights, trust) {
                weights.iter_mut().zip(trust).for_each(|(weight, trust)| *weight = self.targets.trust.weight(trust));
            }
        }
        if let Some(augment) = &self.augment {
            augment.draw(&mut self.streams.stream("augment", &[epoch, sample.number])).apply(part.image);
        }
        Ok(())
    }
}

/// What belongs to one sample of a batch.
struct Part<'a> {
    image: &'a mut [f32],
    organs: Option<&'a mut [u8]>,
    cancer: Option<&'a mut [u8]>,
    organ_weights: Option<&'a mut [f32]>,
    cancer_weights: Option<&'a mut [f32]>,
}

/// A batch in main memory.
#[derive(Clone, Debug, PartialEq)]
pub struct HostBatch {
    /// Where its samples come from.
    pub samples: Vec<Sample>,
    /// Voxels along x, y, z, or pixels along x, y.
    pub spatial: Vec<usize>,
    /// Intensities, sample after sample, in C order.
    pub image: Vec<f32>,
    /// Organ labels, if wanted.
    pub organs: Option<Vec<u8>>,
    /// Tumor labels, if wanted.
    pub cancer: Option<Vec<u8>>,
    /// How much each organ label counts, if trust is used.
    pub organ_weights: Option<Vec<f32>>,
    /// How much each tumor label counts, if trust is used.
    pub cancer_weights: Option<Vec<f32>>,
}

impl HostBatch {
    /// The samples, and the part of each.
    fn parts(&mut self) -> Vec<(Sample, Part<'_>)> {
        let voxels = self.spatial.iter().product();
        let mut images = self.image.chunks_mut(voxels);
        let [mut organs, mut cancer] = [&mut self.organs, &mut self.cancer].map(|map| chunks(map, voxels));
        let [mut organ_weights, mut cancer_weights] = [&mut self.organ_weights, &mut self.cancer_weights].map(|map| chunks(map, voxels));
        let part = |sample: &Sample| {
            let part = Part {
                image: images.next().unwrap_or_default(),
                organs: organs.next(),
                cancer: cancer.next(),
                organ_weights: organ_weights.next(),
                cancer_weights: cancer_weights.next(),
            };
            (*sample, part)
        };
        self.samples.iter().map(part).collect()
    }

    /// Moves the batch to a device.
    ///
    /// # Errors
    /// When the device is out of memory.
    pub fn into_tensors(self, device: &Device) -> Result<Batch, BatchError> {
        let shape = |channels: &[usize]| [&[self.samples.len()], channels, &self.spatial].concat();
        let labels = |values: Option<Vec<u8>>| values.map(|values| Tensor::from_vec(values, shape(&[]), device)).transpose();
        let weights = |values: Option<Vec<f32>>| values.map(|values| Tensor::from_vec(values, shape(&[]), device)).transpose();
        let image = Tensor::from_vec(self.image, shape(&[1]), device)?;
        let (organs, cancer) = (labels(self.organs)?, labels(self.cancer)?);
        let (organ_weights, cancer_weights) = (weights(self.organ_weights)?, weights(self.cancer_weights)?);
        Ok(Batch { samples: self.samples, image, organs, cancer, organ_weights, cancer_weights })
    }
}

/// The parts of a map, none if there is no map.
fn chunks<T>(map: &mut Option<Vec<T>>, voxels: usize) -> ChunksMut<'_, T> {
    map.as_deref_mut().unwrap_or_default().chunks_mut(voxels)
}

/// A batch on its device.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Where its samples come from.
    pub samples: Vec<Sample>,
    /// `f32 (b, 1, x, y, z)` or `(b, 1, x, y)`.
    pub image: Tensor,
    /// `u8 (b, x, y, z)` or `(b, x, y)`, 0..=13, if wanted.
    pub organs: Option<Tensor>,
    /// `u8`, shaped as `organs`, 0 or 1, if wanted.
    pub cancer: Option<Tensor>,
    /// `f32`, shaped as `organs`: how much each label counts, if trust is used.
    pub organ_weights: Option<Tensor>,
    /// The same of `cancer`.
    pub cancer_weights: Option<Tensor>,
}

impl Batch {
    /// The number of samples.
    #[must_use]
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// Whether there are no samples.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// The organ labels.
    ///
    /// # Errors
    /// When the batch was assembled without them.
    pub fn organs(&self) -> candle_core::Result<&Tensor> {
        self.organs.as_ref().ok_or_else(|| candle_core::Error::Msg("the batch was assembled without organ labels".into()))
    }

    /// The tumor labels.
    ///
    /// # Errors
    /// When the batch was assembled without them.
    pub fn cancer(&self) -> candle_core::Result<&Tensor> {
        self.cancer.as_ref().ok_or_else(|| candle_core::Error::Msg("the batch was assembled without tumor labels".into()))
    }

    /// The organ labels and their weights.
    ///
    /// # Errors
    /// When the batch was assembled without them.
    pub fn organ_truth(&self) -> candle_core::Result<Truth> {
        Ok(Truth { labels: self.organs()?.clone(), weights: self.organ_weights.clone() })
    }

    /// The tumor labels and their weights.
    ///
    /// # Errors
    /// When the batch was assembled without them.
    pub fn cancer_truth(&self) -> candle_core::Result<Truth> {
        Ok(Truth { labels: self.cancer()?.clone(), weights: self.cancer_weights.clone() })
    }

    /// The batch in parts of at most `size` samples.
    ///
    /// # Errors
    /// Those of the tensor library.
    pub fn micro_batches(&self, size: usize) -> candle_core::Result<Vec<Batch>> {
        let part = |begin: usize| {
            let length = size.min(self.len() - begin);
            let narrowed = |map: &Option<Tensor>| map.as_ref().map(|map| map.narrow(0, begin, length)).transpose();
            Ok(Batch {
                samples: self.samples[begin..begin + length].to_vec(),
                image: self.image.narrow(0, begin, length)?,
                organs: narrowed(&self.organs)?,
                cancer: narrowed(&self.cancer)?,
                organ_weights: narrowed(&self.organ_weights)?,
                cancer_weights: narrowed(&self.cancer_weights)?,
            })
        };
        (0..self.len()).step_by(size.max(1)).map(part).collect()
    }
}
