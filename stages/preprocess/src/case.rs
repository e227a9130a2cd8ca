//! The way of one case from NIfTI to its prepared file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, ensure};
use dataset::Case;
use labels::{BACKGROUND, FULL_TRUST, LabelPattern, NUM_ORGANS, TUMOR};
use prepared::{CaseInfo, CaseSource, CropBox, GridRecord, LabelSource, Map, MeanTrust, Part, case_path, write_case};
use serde_json::{Value, json};
use stage_kit::write_atomic;
use volume::{Box3, Grid, LabelScan, Scan, nifti};

use crate::Config;

const HIGHEST_ORGAN: u8 = NUM_ORGANS as u8;

/// A case to prepare, with its files.
pub struct Job {
    pub(crate) case: Case,
    pub(crate) image: PathBuf,
    pub(crate) labels: Labels,
}

/// The label maps of a case.
pub enum Labels {
    /// The dataset's own, if it says anything that its annotators looked for.
    True(Option<PathBuf>),
    /// The output of `pseudo-label`.
    Pseudo {
        /// All 13 organs.
        organs: PathBuf,
        /// Cancer.
        cancer: PathBuf,
        /// How far the labels of both can be trusted, if anybody has weighed them.
        trust: Option<[PathBuf; 2]>,
    },
}

impl Labels {
    pub(crate) fn files(&self) -> Vec<(&'static str, &Path)> {
        match self {
            Self::True(label) => label.iter().map(|label| ("label", label.as_path())).collect(),
            Self::Pseudo { organs, cancer, trust } => {
                let trust = trust.iter().flat_map(|[organs, cancer]| [("organs_trust", organs.as_path()), ("cancer_trust", cancer)]);
                [("organs", organs.as_path()), ("cancer", cancer)].into_iter().chain(trust).collect()
            }
        }
    }
}

impl Job {
    /// The case with its files in the dataset, and in the output of `pseudo-label` if there is one.
    pub(crate) fn new(case: &Case, dataset: &Path, pseudo: Option<&Path>) -> Self {
        let labels = match pseudo {
            Some(pseudo) => {
                let map = |kind: &str| pseudo.join(kind).join(format!("{}.nii.gz", case.id));
                let trust = ["organs_trust", "cancer_trust"].map(map);
                let weighed = trust.iter().any(|path| path.is_file());
                Labels::Pseudo { organs: map("organs"), cancer: map("cancer"), trust: weighed.then_some(trust) }
            }
            None => {
                let annotated = case.pattern.has_tumor() || !case.subset.annotated_organs().is_empty();
                Labels::True(case.label.as_ref().filter(|_| annotated).map(|label| dataset.join(label)))
            }
        };
        Self { image: dataset.join(&case.image), labels, case: case.clone() }
    }

    /// What of the manifest goes into the prepared file.
    pub(crate) fn facts(&self) -> Value {
        json!({"subset": self.case.subset, "pattern": self.case.pattern})
    }

    /// The prepared file, in the output folder.
    pub(crate) fn place(&self) -> String {
        case_path(Path::new(""), &self.case.id).display().to_string()
    }

    /// Reads, prepares and writes the case, plane by plane.
    pub(crate) fn prepare(&self, config: &Config, output: &Path) -> Result<()> {
        let scan = Scan::open(&self.image, &config.grid)?;
        let crop = if config.crop_foreground { scan.foreground()? } else { scan.whole() };
        let maps = match &self.labels {
            Labels::Pseudo { organs, cancer, trust } => self.pseudo_maps(&scan, [organs, cancer], trust.as_ref())?,
            Labels::True(label) => self.true_maps(&scan, label.as_deref())?,
        };
        let (annotated_organs, source) = match &self.labels {
            Labels::Pseudo { .. } => (LabelPattern::ORGANS, LabelSource::Pseudo),
            Labels::True(_) => (self.case.subset.annotated_organs(), LabelSource::True),
        };
        let voxels = Voxels { scan, crop, maps };
        let info = CaseInfo {
            id: self.case.id.clone(),
            layout: config.layout,
            subset: self.case.subset,
            spacing_mm: voxels.scan.grid().spacing_mm(),
            grid: record(&voxels.scan.grid().cropped(&crop)),
            original_grid: record(&voxels.scan.header().grid()),
            crop: CropBox { start: crop.start, shape: crop.shape },
            window_hu: config.grid.window_hu,
            annotated_organs,
            organs_source: voxels.has(Map::Organs).then_some(source),
            cancer_source: voxels.has(Map::Cancer).then_some(source),
            trust: voxels.mean_trust()?,
        };
        write_atomic(output, |file| write_case(file, &voxels, &info))
    }

    /// The teachers' maps of organs and cancer, and the trust in them; all must be there. They know of all organs.
    fn pseudo_maps(&self, scan: &Scan, [organs, cancer]: [&PathBuf; 2], trust: Option<&[PathBuf; 2]>) -> Result<Vec<MapFile>> {
        let mut files = vec![(Map::Organs, organs, HIGHEST_ORGAN), (Map::Cancer, cancer, 1)];
        files.extend(
            trust.iter().flat_map(|[organs, cancer]| [(Map::OrgansTrust, organs, FULL_TRUST), (Map::CancerTrust, cancer, FULL_TRUST)]),
        );
        let map = |(map, path, highest): (Map, &PathBuf, u8)| {
            ensure!(path.is_file(), "{} is missing; run `pseudo-label` for the subset {}", path.display(), self.case.subset);
            Ok(MapFile { map, labels: on_model_grid(path, scan, highest)?, kept: |label| label })
        };
        files.into_iter().map(map).collect()
    }

    /// The dataset's own map, taken apart into what its annotators looked for.
    fn true_maps(&self, scan: &Scan, label: Option<&Path>) -> Result<Vec<MapFile>> {
        let Some(label) = label else { return Ok(Vec::new()) };
        let labels = on_model_grid(label, scan, TUMOR)?;
        let mut maps = Vec::new();
        if !self.case.subset.annotated_organs().is_empty() {
            // Under a tumor the organ is not annotated; the dataset gives a voxel one label.
            let kept = |label| if label == TUMOR { BACKGROUND } else { label };
            maps.push(MapFile { map: Map::Organs, labels: Arc::clone(&labels), kept });
        }
        if self.case.pattern.has_tumor() {
            maps.push(MapFile { map: Map::Cancer, labels, kept: |label| u8::from(label == TUMOR) });
        }
        Ok(maps)
    }
}

/// A map of a case, and what is kept of the labels in its file.
struct MapFile {
    map: Map,
    labels: Arc<LabelScan>,
    kept: fn(u8) -> u8,
}

/// The voxels of a case on the model grid, read from its files for every pass.
struct Voxels {
    scan: Scan,
    crop: Box3,
    maps: Vec<MapFile>,
}

impl Voxels {
    /// A part of the case as a box of the model grid.
    fn region(&self, part: &Part) -> Box3 {
        Box3 { start: std::array::from_fn(|axis| self.crop.start[axis] + part[axis].start), shape: part.clone().map(|range| range.len()) }
    }

    /// The mean trust in both maps, if anybody has weighed them.
    fn mean_trust(&self) -> Result<Option<MeanTrust>> {
        if !self.has(Map::OrgansTrust) {
            return Ok(None);
        }
        let part = self.crop.shape.map(|side| 0..side);
        let mean = |map: Map| {
            let mut sum = 0;
            self.map(map, &part, &mut |_, plane| sum += plane.iter().map(|&trust| u64::from(trust)).sum::<u64>())?;
            anyhow::Ok(sum as f64 / (f64::from(FULL_TRUST) * self.crop.shape.iter().product::<usize>() as f64))
        };
        Ok(Some(MeanTrust { organs: mean(Map::OrgansTrust)?, cancer: mean(Map::CancerTrust)? }))
    }
}

impl CaseSource for Voxels {
    type Error = anyhow::Error;

    fn shape(&self) -> [usize; 3] {
        self.crop.shape
    }

    fn has(&self, map: Map) -> bool {
        self.maps.iter().any(|file| file.map == map)
    }

    fn image(&self, part: &Part, sink: &mut dyn FnMut(usize, &[f32])) -> Result<()> {
        let mut planes = self.scan.planes(&self.region(part))?;
        while let Some(plane) = planes.next_plane()? {
            sink(plane.z - self.crop.start[2], &plane.values);
        }
        Ok(())
    }

    fn map(&self, map: Map, part: &Part, sink: &mut dyn FnMut(usize, &[u8])) -> Result<()> {
        let Some(file) = self.maps.iter().find(|file| file.map == map) else { return Ok(()) };
        let (mut planes, mut plane) = (file.labels.planes(&self.region(part))?, Vec::new());
        while let Some(z) = planes.next_plane(&mut plane)? {
            plane.iter_mut().for_each(|label| *label = (file.kept)(*label));
            sink(z - self.crop.start[2], &plane);
        }
        Ok(())
    }
}

fn record(grid: &Grid) -> GridRecord {
    GridRecord { shape: grid.shape, affine: grid.affine.0 }
}

/// A label map that goes the scan's way onto the model grid; reads all of it to check its labels.
fn on_model_grid(path: &Path, scan: &Scan, highest: u8) -> Result<Arc<LabelScan>> {
    let (counts, header) = nifti::count_labels(path)?;
    let (found, original) = (header.grid(), scan.header().grid());
    ensure!(
        found.shape == original.shape,
        "{}: shape {:?}, expected the image's {:?}; run `partition` again, which leaves out such cases",
        path.display(),
        found.shape,
        original.shape
    );
    ensure!(
        found.approx_eq(&original),
        "{}: affine {:?}, expected the image's {:?}; run `partition` again, which leaves out such cases",
        path.display(),
        found.affine.0,
        original.affine.0
    );
    let value = counts.iter().rposition(|&voxels| voxels > 0).unwrap_or(0);
    ensure!(value <= usize::from(highest), "{}: value {value}, expected at most {highest}; correct the label map", path.display());
    Ok(Arc::new(LabelScan::open(path, &original, &scan.grid())?))
}
