//! Prepared cases with a learnable pattern, and a network with an encoder and two decoders of one layer each.

use std::cell::Cell;
use std::path::Path;

use anyhow::Result;
use candle_core::{Device, Tensor};
use dataset::Split;
use labels::{LabelPattern, Subset};
use ndarray::Array3;
use nets::{Init, ParamSpec, Params};
use prepared::{
    CaseArrays, CaseInfo, CropBox, GridRecord, Index, IndexEntry, LabelSource, Layout, MeanTrust, PreparedSet, case_path, write_case,
};
use streams::Streams;
use training::{
    AugmentConfig, Batch, BatchError, BatchSource, NoiseConfig, Order, RangeConfig, Sampler, Sampling, Targets, Trainable, Trust,
    Validation,
};

pub(crate) fn paper_augmentation() -> AugmentConfig {
    let tenth = RangeConfig { probability: 0.5, range: 0.1 };
    AugmentConfig { noise: NoiseConfig { probability: 0.5, std: 0.05, fixed_std: false }, scale: tenth, shift: tenth }
}

/// The image of case `number`: a gradient with a bright block (organ 1) that has a brighter core (tumor).
fn image([x, y, z]: [usize; 3], number: usize) -> Array3<f32> {
    Array3::from_shape_fn((x, y, z), |(i, j, k)| match block(i, j, number) {
        0 => 0.02 * ((i + 2 * j + 3 * k) % 10) as f32,
        1 => 0.6,
        _ => 0.9,
    })
}

fn block(i: usize, j: usize, number: usize) -> u8 {
    let inside = |margin: usize| (2 + number + margin..10 - margin).contains(&i) && (3 + margin..11 - margin).contains(&j);
    u8::from(inside(0)) + u8::from(inside(2))
}

/// Writes cases `case0`, `case1`, … of the given shapes (along x, y, z) and opens them.
pub(crate) fn prepared_cases(folder: &Path, layout: Layout, shapes: &[[usize; 3]], with_cancer: bool) -> PreparedSet {
    weighed_cases(folder, layout, shapes, with_cancer, &[])
}

/// The same, the first ones with trust in organs that is the number given at even x and 255 at odd, and with none in cancer.
pub(crate) fn weighed_cases(folder: &Path, layout: Layout, shapes: &[[usize; 3]], with_cancer: bool, trust: &[u8]) -> PreparedSet {
    let mut cases = Vec::new();
    for (number, &shape) in shapes.iter().enumerate() {
        let id = format!("case{number}");
        let grid = GridRecord { shape, affine: [[1., 0., 0., 0.], [0., 1., 0., 0.], [0., 0., 1., 0.], [0., 0., 0., 1.]] };
        let info = CaseInfo {
            id: id.clone(),
            layout,
            subset: Subset::Dl1,
            spacing_mm: [1.0; 3],
            grid,
            original_grid: grid,
            crop: CropBox { start: [0; 3], shape },
            window_hu: [-200.0, 300.0],
            annotated_organs: LabelPattern::ORGANS,
            organs_source: Some(LabelSource::True),
            cancer_source: with_cancer.then_some(LabelSource::True),
            trust: trust.get(number).map(|&trust| MeanTrust { organs: f64::from(trust) / 255.0, cancer: 0.0 }),
        };
        let image = image(shape, number);
        let organs_trust =
            trust.get(number).map(|&trust| Array3::from_shape_fn(image.dim(), |(i, _, _)| [trust, 255 * trust.min(1)][i % 2]));
        let cancer_trust = organs_trust.as_ref().map(|trust| trust.mapv(|_| 0));
        let organs = Array3::from_shape_fn(image.dim(), |(i, j, _)| block(i, j, number).min(1));
        let cancer = Array3::from_shape_fn(image.dim(), |(i, j, _)| u8::from(block(i, j, number) == 2));
        let arrays = CaseArrays {
            image: image.view(),
            organs: Some(organs.view()),
            cancer: with_cancer.then(|| cancer.view()),
            organs_trust: organs_trust.as_ref().map(|trust| trust.view()),
            cancer_trust: cancer_trust.as_ref().map(|trust| trust.view()),
        };
        stage_kit::write_atomic(&case_path(folder, &id), |file| Ok(write_case(file, &arrays, &info)?)).unwrap();
        cases.push(IndexEntry {
            id,
            shape: info.stored_shape(),
            slices: shape[2],
            has_organs: true,
            annotated_organs: LabelPattern::ORGANS,
            has_cancer: with_cancer,
            subset: Subset::Dl1,
            split: Split::Training,
            trust: info.trust,
        });
    }
    let ids: Vec<String> = cases.iter().map(|case| case.id.clone()).collect();
    let index = Index { layout, spacing_mm: [Some(1.0); 3], window_hu: [-200.0, 300.0], crop_foreground: true, cases };
    stage_kit::write_atomic_text(&folder.join(prepared::INDEX_FILE), &serde_json::to_string(&index).unwrap()).unwrap();
    PreparedSet::open(folder, &ids).unwrap()
}

pub(crate) const BOTH: Targets = Targets { organs: true, cancer: true, trust: Trust::Unused };

/// Batches of `batch` slices of 12×12 from three cases with 9 slices in all.
pub(crate) fn slices(folder: &Path, order: Order, batch: usize) -> BatchSource {
    let set = prepared_cases(folder, Layout::Slices, &[[12, 14, 4], [16, 12, 3], [10, 12, 2]], true);
    source(set, Sampling::Slices { shape: [12, 12] }, order, batch).unwrap()
}

pub(crate) fn source(set: PreparedSet, sampling: Sampling, order: Order, batch: usize) -> Result<BatchSource, BatchError> {
    let shapes = set.cases().iter().map(|case| case.shape).collect();
    let sampler = Sampler::new(sampling, order, shapes, batch, None, Streams::new(5)).unwrap();
    let augment = (order == Order::EachEpochAnew).then(paper_augmentation);
    BatchSource::new(set, sampler, BOTH, augment, Streams::new(5))
}

/// Encoder (1→4 channels, 3×3), organ decoder (4→2, 1×1), cancer decoder (4→2, 1×1).
pub(crate) struct Toy {
    pub(crate) params: Params,
    validation: Batch,
    /// Losses that may still be computed; at 0 the model fails, which to a training is as good as a kill.
    pub(crate) calls_left: Cell<u64>,
}

impl Toy {
    pub(crate) fn new(source: &BatchSource) -> Self {
        let spec =
            |name: &str, shape: &[usize], fan_in| ParamSpec { name: name.into(), shape: shape.into(), init: Init::Uniform { fan_in } };
        let specs = [
            spec("encoder.weight", &[4, 1, 3, 3], 9),
            spec("encoder.bias", &[4], 9),
            spec("organ_decoder.weight", &[2, 4, 1, 1], 4),
            spec("cancer_decoder.weight", &[2, 4, 1, 1], 4),
        ];
        let params = Params::init(&specs, Streams::new(8), &Device::Cpu).unwrap();
        let validation = source.assemble(&source.sampler().epoch(0), 0, 0).unwrap().into_tensors(&Device::Cpu).unwrap();
        Self { params, validation, calls_left: Cell::new(u64::MAX) }
    }

    fn losses(&self, batch: &Batch) -> Result<(Tensor, Tensor)> {
        let get = |name| self.params.get(name);
        let features = ops::conv(&batch.image, &get("encoder.weight")?, Some(&get("encoder.bias")?), 1, 1)?.relu()?;
        let organs = ops::conv(&features, &get("organ_decoder.weight")?, None, 1, 0)?;
        let cancer = ops::conv(&features, &get("cancer_decoder.weight")?, None, 1, 0)?;
        Ok((ops::dice_ce(&organs, batch.organs()?)?, ops::dice_ce(&cancer, batch.cancer()?)?))
    }

    pub(crate) fn values(&self) -> Vec<(String, Vec<f32>)> {
        self.params.all().map(|(name, var)| (name.to_owned(), var.flatten_all().unwrap().to_vec1().unwrap())).collect()
    }
}

impl Trainable for Toy {
    fn params(&self) -> &Params {
        &self.params
    }

    fn loss(&self, batch: &Batch) -> Result<Tensor> {
        anyhow::ensure!(self.calls_left.get() > 0, "killed");
        self.calls_left.set(self.calls_left.get() - 1);
        let (organs, cancer) = self.losses(batch)?;
        Ok((organs + cancer)?)
    }

    fn validate(&self) -> Result<Validation> {
        let (organs, cancer) = self.losses(&self.validation)?;
        let loss = f64::from((organs + cancer)?.to_scalar::<f32>()?);
        Ok(Validation { loss, dice: 1.0 / (1.0 + loss), details: Vec::new() })
    }
}
