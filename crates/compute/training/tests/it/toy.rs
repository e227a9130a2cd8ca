//! Prepared cases with a learnable pattern, and a network with an encoder and two decoders of one layer each.

use std::cell::Cell;
use std::path::Path;

use anyhow::Result;
use candle_core::{Device, Tensor};
use dataset::Split;
use labels::{Classes, LabelPattern, Regions};
use ndarray::Array3;
use nets::{Init, ParamSpec, Params};
use prepared::{CaseArrays, CaseInfo, CropBox, GridRecord, Index, LabelSource, Layout, PreparedCase, PreparedSet, case_path, write_case};
use random::Streams;
use training::{
    Augment, AugmentConfig, Batch, BatchError, BatchSource, NoiseConfig, Normalisation, Order, RangeConfig, Sampler, Sampling, Target,
    Targets, Trainable, Trust, Validation,
};

pub(crate) fn paper_augmentation() -> Augment {
    let tenth = Some(RangeConfig { probability: 0.5, range: 0.1 });
    let noise = Some(NoiseConfig { probability: 0.5, std: 0.05, fixed_std: false });
    let config = AugmentConfig { noise, scale: tenth, shift: tenth, ..AugmentConfig::default() };
    config.for_boxes(Sampling::Slices { shape: [12, 12] }, Normalisation::Unit).unwrap()
}

/// An organ and a tumor, of which the label maps of the toy show both at a core.
pub(crate) fn classes() -> Classes {
    serde_json::from_str(r#"[{"group": "organ", "classes": {"block": 30}}, {"group": "cancer", "classes": {"core": 140}}]"#).unwrap()
}

fn regions() -> Regions {
    let declared = [("block", vec![1, 2]), ("core", vec![2])].map(|(key, values)| (key.to_owned(), values));
    Regions::declared(&classes(), &declared.into(), &[]).unwrap()
}

/// The image of case `number`: a gradient with a bright block (organ) that has a brighter core (tumor).
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
    let mut index = index(layout, classes());
    for (number, &shape) in shapes.iter().enumerate() {
        let id = format!("case{number}");
        let annotated = if with_cancer { classes().pattern() } else { LabelPattern::of(30) };
        let mean_trust = |&trust: &u8| [("organ".to_owned(), f64::from(trust) / 255.0), ("cancer".to_owned(), 0.0)].into();
        let info = CaseInfo { trust: trust.get(number).map(mean_trust), ..info(&id, layout, shape, regions(), annotated) };
        let image = image(shape, number);
        let labels = Array3::from_shape_fn(image.dim(), |(i, j, _)| block(i, j, number));
        let of_organs = trust.get(number).map(|&trust| Array3::from_shape_fn(image.dim(), |(i, _, _)| [trust, 255 * trust.min(1)][i % 2]));
        let maps: Vec<Array3<u8>> = of_organs.into_iter().flat_map(|organs| [organs.clone(), organs.mapv(|_| 0)]).collect();
        let arrays = CaseArrays {
            trust_groups: ["organ", "cancer"].into_iter().take(maps.len()).map(str::to_owned).collect(),
            trust: maps.iter().map(|map| map.view()).collect(),
            ..CaseArrays::new(image.view(), Some(labels.view()))
        };
        write(folder, &mut index, &arrays, &info);
    }
    open(folder, &index)
}

/// A case `one` of as many voxels along x as there are values, which are those of its label map.
pub(crate) fn cases_of(folder: &Path, classes: &Classes, regions: &Regions, annotated: LabelPattern, values: &[u8]) -> PreparedSet {
    let shape = [values.len(), 1, 1];
    let labels = Array3::from_shape_fn(shape, |(i, _, _)| values[i]);
    let image = labels.mapv(|_| 0.5);
    let mut index = index(Layout::Volume, classes.clone());
    let info = info("one", Layout::Volume, shape, regions.clone(), annotated);
    write(folder, &mut index, &CaseArrays::new(image.view(), Some(labels.view())), &info);
    open(folder, &index)
}

fn index(layout: Layout, classes: Classes) -> Index {
    let (spacing_mm, window_hu) = ([Some(1.0); 3], [-200.0, 300.0]);
    Index { layout, spacing_mm, window_hu, crop_foreground: true, classes, regions: Vec::new(), cases: Vec::new() }
}

fn info(id: &str, layout: Layout, shape: [usize; 3], regions: Regions, annotated: LabelPattern) -> CaseInfo {
    let grid = GridRecord { shape, affine: [[1., 0., 0., 0.], [0., 1., 0., 0.], [0., 0., 1., 0.], [0., 0., 0., 1.]] };
    CaseInfo {
        id: id.into(),
        dataset: "toy".into(),
        layout,
        subset: "D_l1".into(),
        spacing_mm: [1.0; 3],
        grid,
        original_grid: grid,
        crop: CropBox { start: [0; 3], shape },
        window_hu: [-200.0, 300.0],
        annotated,
        regions,
        source: Some(LabelSource::True),
        trust: None,
    }
}

fn write(folder: &Path, index: &mut Index, arrays: &CaseArrays<'_>, info: &CaseInfo) {
    let path = case_path(folder, &info.id);
    stage_kit::write_atomic(&path, |file| Ok(write_case(file, arrays, info)?)).unwrap();
    index.add(&PreparedCase::open(&path).unwrap(), Split::Training);
}

fn open(folder: &Path, index: &Index) -> PreparedSet {
    stage_kit::write_atomic_text(&folder.join(prepared::INDEX_FILE), &serde_json::to_string(index).unwrap()).unwrap();
    let ids: Vec<&str> = index.cases.iter().map(|case| case.id.as_str()).collect();
    PreparedSet::open(folder, &ids).unwrap()
}

/// Organs, cancer, or both.
pub(crate) fn targets(groups: &[usize], trust: Trust) -> Targets {
    Targets { outputs: groups.iter().map(|&group| Target::of_group(&classes(), group)).collect(), trust }
}

/// Batches of `batch` slices of 12×12 from three cases with 9 slices in all.
pub(crate) fn slices(folder: &Path, order: Order, batch: usize) -> BatchSource {
    let set = prepared_cases(folder, Layout::Slices, &[[12, 14, 4], [16, 12, 3], [10, 12, 2]], true);
    source(set, Sampling::Slices { shape: [12, 12] }, order, batch).unwrap()
}

pub(crate) fn source(set: PreparedSet, sampling: Sampling, order: Order, batch: usize) -> Result<BatchSource, BatchError> {
    let shapes = set.cases().iter().map(|case| case.shape).collect();
    let sampler = Sampler::new(sampling, order, shapes, batch, None, Streams::new(5)).unwrap();
    let augment = (order == Order::EachEpochAnew).then(paper_augmentation);
    BatchSource::new(set, sampler, targets(&[0, 1], Trust::Unused), augment, Streams::new(5))
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
        Ok((ops::dice_ce(&organs, &batch.labels[0])?, ops::dice_ce(&cancer, &batch.labels[1])?))
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

    fn validate(&self, _: &stage_kit::Ranks) -> Result<Validation> {
        let (organs, cancer) = self.losses(&self.validation)?;
        let loss = f64::from((organs + cancer)?.to_scalar::<f32>()?);
        Ok(Validation { loss, dice: 1.0 / (1.0 + loss), details: Vec::new() })
    }
}
