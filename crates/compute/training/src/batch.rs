//! Batches: boxes of prepared cases, augmented, as tensors.

use candle_core::{Device, Tensor};
use labels::{BACKGROUND, Classes, LabelError, LabelPattern, Regions};
use model_card::Output as Target;
use prepared::{Patch, PreparedCase, PreparedError, PreparedSet};
use random::Streams;
use rayon::prelude::*;
use volume::Scaling;

use crate::augment::{Augment, Geometry};
use crate::sampler::{Epoch, Sample, Sampler, Sampling};
use crate::trust::{Trust, Truth};

/// What a training learns, and what it makes of the trust in labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Targets {
    /// Classes that exclude each other, for each target; a batch has labels for each in this order.
    pub outputs: Vec<Target>,
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
    /// A case lacks labels that are trained on.
    #[error(
        "case {case} has no labels of {}, and the training learns the group `{group}`; train on a subset in which they are annotated, or prepare it with pseudo labels",
        .classes.join(", ")
    )]
    NoTarget {
        /// The case.
        case: String,
        /// The group of the target.
        group: String,
        /// The classes that nobody looked for in it.
        classes: Vec<String>,
    },
    /// A value of a label map that shows two classes of a target.
    #[error("case {case}: {reason}")]
    Regions {
        /// A case with such a label map.
        case: String,
        /// Which value, and which classes.
        reason: Box<LabelError>,
    },
    /// Left and right would change places where only one of them is known.
    #[error("augment.mirror: {}{reason}; mirror along the other axes alone (`axes`)", .case.as_ref().map_or_else(String::new, |case| format!("case {case}: ")))]
    Sides {
        /// The case, if it is one that is at fault.
        case: Option<String>,
        /// Which class has no other side.
        reason: String,
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
    /// For each meaning of label maps and each target, the place of every value's class.
    tables: Vec<Vec<[u8; 256]>>,
    /// The same of mirror images along x, where there are any.
    mirrored_tables: Vec<Vec<[u8; 256]>>,
    scaling: Scaling,
    augment: Option<Augment>,
    streams: Streams,
}

impl BatchSource {
    /// Batches from `set`, whose shapes `sampler` must have been made with.
    ///
    /// # Errors
    /// When the layout of the cases does not fit the sampling, or a case has not all classes of a target annotated.
    pub fn new(
        set: PreparedSet,
        sampler: Sampler,
        targets: Targets,
        augment: Option<Augment>,
        streams: Streams,
    ) -> Result<Self, BatchError> {
        let source = Self::unchecked(set, sampler, targets, augment, streams)?;
        for case in source.set.cases() {
            let annotated = if case.has_labels { case.annotated } else { LabelPattern::EMPTY };
            let lacks = |target: &&Target| !target.pattern().is_within(annotated);
            if let Some(target) = source.targets.outputs.iter().find(lacks) {
                let classes = source.set.index().classes.keys_of(target.pattern().minus(annotated));
                return Err(BatchError::NoTarget { case: case.id.clone(), group: target.group.clone(), classes });
            }
        }
        Ok(source)
    }

    /// Batches with a target for each group of the classes, from cases that have some of them annotated, for losses that look at
    /// what is annotated alone: what is not is background.
    ///
    /// # Errors
    /// When the layout of the cases does not fit the sampling.
    pub fn partly_labelled(set: PreparedSet, sampler: Sampler, augment: Option<Augment>, streams: Streams) -> Result<Self, BatchError> {
        let classes = &set.index().classes;
        let outputs = (0..classes.groups().len()).map(|group| Target::of_group(classes, group)).collect();
        Self::unchecked(set, sampler, Targets { outputs, trust: Trust::Unused }, augment, streams)
    }

    fn unchecked(
        set: PreparedSet,
        sampler: Sampler,
        targets: Targets,
        augment: Option<Augment>,
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
        let values: Vec<Vec<u8>> = targets.outputs.iter().map(|output| output.values.clone()).collect();
        let mirrored_tables = match augment.as_ref().is_some_and(Augment::swaps_sides) {
            true => tables(&set, &mirrored(&set, &targets.outputs)?)?,
            false => Vec::new(),
        };
        Ok(Self { tables: tables(&set, &values)?, mirrored_tables, set, sampler, targets, scaling: Scaling::default(), augment, streams })
    }

    /// The same with images that are scaled so, before anything is changed at random.
    #[must_use]
    pub fn scaled(self, scaling: Scaling) -> Self {
        Self { scaling, ..self }
    }

    /// The same with this made of the trust in labels.
    #[must_use]
    pub fn trusting(mut self, trust: Trust) -> Self {
        self.targets.trust = trust;
        self
    }

    /// How images are scaled.
    #[must_use]
    pub fn scaling(&self) -> Scaling {
        self.scaling
    }

    /// Along which of x, y and z samples may be mirrored.
    #[must_use]
    pub fn mirrored(&self) -> [bool; 3] {
        self.augment.as_ref().map_or([false; 3], Augment::mirrored)
    }

    /// What there are labels for.
    #[must_use]
    pub fn targets(&self) -> &Targets {
        &self.targets
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
        self.assemble_samples(number, epoch.batch(step))
    }

    /// The same of samples of that epoch.
    pub(crate) fn assemble_samples(&self, number: u64, samples: Vec<Sample>) -> Result<HostBatch, BatchError> {
        let voxels = samples.len() * self.sampler.sampling().box_shape().iter().product::<usize>();
        let targets = self.targets.outputs.len();
        let weights = (!self.targets.trust.is_unused()).then(|| vec![1.0_f32; voxels]);
        let spatial = match self.sampler.sampling() {
            Sampling::Patches { shape, .. } => shape.to_vec(),
            Sampling::Slices { shape } => shape.to_vec(),
        };
        let mut batch = HostBatch {
            samples,
            spatial,
            image: vec![0.0; voxels],
            labels: vec![vec![BACKGROUND; voxels]; targets],
            weights: vec![weights; targets],
        };
        batch.parts().into_par_iter().try_for_each(|(sample, part)| self.fill(number, &sample, part))?;
        Ok(batch)
    }

    fn fill(&self, epoch: u64, sample: &Sample, part: Part<'_>) -> Result<(), BatchError> {
        let entry = &self.set.cases()[sample.case];
        let failed = |reason| BatchError::Case { case: entry.id.clone(), reason };
        let drawn = self.augment.as_ref().map(|augment| augment.draw(&self.streams, &[epoch, sample.number])).unwrap_or_default();
        let patch = self.set.case(sample.case).and_then(|case| self.read(&case, sample, &drawn.geometry)).map_err(failed)?;
        part.image.copy_from_slice(&patch.image);
        self.scaling.apply(part.image);
        let tables = if drawn.geometry.swaps_sides() { &self.mirrored_tables } else { &self.tables };
        if let Some(found) = &patch.labels {
            for (labels, table) in part.labels.into_iter().zip(&tables[entry.regions]) {
                labels.iter_mut().zip(found).for_each(|(label, value)| *label = table[usize::from(*value)]);
            }
        }
        for (weights, target) in part.weights.into_iter().zip(&self.targets.outputs) {
            // What nobody has weighed, such as true labels, counts fully.
            if let (Some(weights), Some(trust)) = (weights, patch.trust.get(&target.group)) {
                weights.iter_mut().zip(trust).for_each(|(weight, &trust)| *weight = self.targets.trust.weight(trust));
            }
        }
        drawn.apply(part.image, sample.shape, self.set.layout());
        Ok(())
    }

    /// The box of a sample, rotated, zoomed and mirrored.
    fn read(&self, case: &PreparedCase, sample: &Sample, geometry: &Geometry) -> Result<Patch, PreparedError> {
        // Without a target nobody asks for labels, and they are not read.
        let read = if self.targets.outputs.is_empty() { PreparedCase::read_image } else { PreparedCase::read_box };
        let Some(resampling) = geometry.resampling(case.layout(), case.info().spacing_mm) else {
            return read(case, sample.start, sample.shape);
        };
        let (from, shape) = resampling.source(sample.start, sample.shape, case.shape());
        Ok(resampling.apply(&read(case, from, shape)?, from, sample.start, sample.shape))
    }
}

/// For each target the classes whose mirror images are its classes, in their order.
fn mirrored(set: &PreparedSet, targets: &[Target]) -> Result<Vec<Vec<u8>>, BatchError> {
    let classes = &set.index().classes;
    let sides = |case: Option<&String>, reason: String| BatchError::Sides { case: case.cloned(), reason };
    let learned = targets.iter().map(Target::pattern).fold(LabelPattern::EMPTY, LabelPattern::union);
    for case in set.cases().iter().filter(|case| case.has_labels) {
        for value in case.annotated.intersection(learned).iter() {
            let other = classes.mirror_of(value).map_err(|reason| sides(None, reason.to_string()))?;
            if !case.annotated.contains(other) {
                let [known, other] = [value, other].map(|value| classes.key_of(value));
                return Err(sides(Some(&case.id), format!("{known} is annotated, and {other}, which it would be along x, is not")));
            }
        }
    }
    // What no case shows is nothing in a mirror image either.
    let of_class = |classes: &Classes, value: u8| classes.mirror_of(value).unwrap_or(value);
    Ok(targets.iter().map(|target| target.values.iter().map(|&value| of_class(classes, value)).collect()).collect())
}

/// For each meaning of label maps in a set and each target, the place of every value's class. What no case uses is left out.
fn tables(set: &PreparedSet, targets: &[Vec<u8>]) -> Result<Vec<Vec<[u8; 256]>>, BatchError> {
    let index = set.index();
    let of_regions = |(number, regions): (usize, &Regions)| {
        let Some(case) = set.cases().iter().find(|case| case.regions == number) else { return Ok(Vec::new()) };
        let refused = |reason: LabelError| BatchError::Regions { case: case.id.clone(), reason: reason.into() };
        targets.iter().map(|target| regions.table(target, &index.classes).map_err(refused)).collect()
    };
    index.regions.iter().enumerate().map(of_regions).collect()
}

/// What belongs to one sample of a batch.
struct Part<'a> {
    image: &'a mut [f32],
    /// Of each target.
    labels: Vec<&'a mut [u8]>,
    /// Of each target.
    weights: Vec<Option<&'a mut [f32]>>,
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
    /// For each target the place of the class in its values, from 1; 0 for background.
    pub labels: Vec<Vec<u8>>,
    /// For each target how much each label counts, if trust is used.
    pub weights: Vec<Option<Vec<f32>>>,
}

impl HostBatch {
    /// The samples, and the part of each.
    fn parts(&mut self) -> Vec<(Sample, Part<'_>)> {
        let voxels = self.spatial.iter().product();
        let mut images = self.image.chunks_mut(voxels);
        let mut labels: Vec<_> = self.labels.iter_mut().map(|labels| labels.chunks_mut(voxels)).collect();
        let mut weights: Vec<_> =
            self.weights.iter_mut().map(|weights| weights.as_deref_mut().unwrap_or_default().chunks_mut(voxels)).collect();
        let part = |sample: &Sample| {
            let part = Part {
                image: images.next().unwrap_or_default(),
                labels: labels.iter_mut().map(|labels| labels.next().unwrap_or_default()).collect(),
                weights: weights.iter_mut().map(Iterator::next).collect(),
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
        let image = Tensor::from_vec(self.image, shape(&[1]), device)?;
        let labels = |values: Vec<u8>| Tensor::from_vec(values, shape(&[]), device);
        let weights = |values: Option<Vec<f32>>| values.map(|values| Tensor::from_vec(values, shape(&[]), device)).transpose();
        let labels = self.labels.into_iter().map(labels).collect::<candle_core::Result<_>>()?;
        let weights = self.weights.into_iter().map(weights).collect::<candle_core::Result<_>>()?;
        Ok(Batch { samples: self.samples, image, labels, weights })
    }
}

/// A batch on its device.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Where its samples come from.
    pub samples: Vec<Sample>,
    /// `f32 (b, 1, x, y, z)` or `(b, 1, x, y)`.
    pub image: Tensor,
    /// `u8 (b, x, y, z)` or `(b, x, y)` for each target: the place of the class in its values, from 1; 0 for background.
    pub labels: Vec<Tensor>,
    /// For each target how much each label counts, `f32`, shaped as its labels, if trust is used.
    pub weights: Vec<Option<Tensor>>,
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

    /// The labels of a target and their weights.
    ///
    /// # Errors
    /// When the batch was assembled for fewer targets.
    pub fn truth(&self, target: usize) -> candle_core::Result<Truth> {
        let (Some(labels), Some(weights)) = (self.labels.get(target), self.weights.get(target)) else {
            candle_core::bail!("target {target} is asked of a batch with labels for {}", self.labels.len());
        };
        Ok(Truth { labels: labels.clone(), weights: weights.clone() })
    }

    /// The batch in parts of at most `size` samples.
    ///
    /// # Errors
    /// Those of the tensor library.
    pub fn micro_batches(&self, size: usize) -> candle_core::Result<Vec<Batch>> {
        let part = |begin: usize| {
            let length = size.min(self.len() - begin);
            let narrowed = |map: &Tensor| map.narrow(0, begin, length);
            Ok(Batch {
                samples: self.samples[begin..begin + length].to_vec(),
                image: narrowed(&self.image)?,
                labels: self.labels.iter().map(narrowed).collect::<candle_core::Result<_>>()?,
                weights: self.weights.iter().map(|map| map.as_ref().map(narrowed).transpose()).collect::<candle_core::Result<_>>()?,
            })
        };
        (0..self.len()).step_by(size.max(1)).map(part).collect()
    }
}
