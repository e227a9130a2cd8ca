//! The way of one case from NIfTI to its prepared file.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use dataset::{Case, Manifest};
use labels::{Classes, FULL_TRUST, LabelPattern, Regions};
use prepared::{CaseInfo, CaseSource, CropBox, GridRecord, LabelSource, Map, MeanTrust, Part, case_path, write_case};
use serde_json::{Value, json};
use stage_kit::write_atomic;
use volume::{Box3, Grid, Scan};

use crate::Config;
use crate::maps::{self, MapFile};

/// A case to prepare, with its files.
pub struct Job {
    pub(crate) case: Case,
    pub(crate) image: PathBuf,
    pub(crate) labels: Labels,
    pub(crate) classes: Classes,
    /// What the values of the label map mean that is prepared.
    pub(crate) regions: Regions,
}

/// The label maps of a case.
pub(crate) enum Labels {
    /// The dataset's own, if it says anything that its annotators looked for.
    True(Option<PathBuf>),
    /// The output of `pseudo-label`.
    Pseudo {
        /// A map for each group.
        maps: Vec<PathBuf>,
        /// How far the labels of each can be trusted, if anybody has weighed them.
        trust: Option<Vec<PathBuf>>,
    },
}

impl Job {
    /// The case with its files in the dataset at `root`, and in the output of `pseudo-label` if there is one.
    pub(crate) fn new(case: &Case, manifest: &Manifest, root: &Path, pseudo: Option<&Path>) -> Result<Self> {
        let classes = manifest.classes.clone();
        let (labels, regions) = match pseudo {
            Some(pseudo) => {
                let file = |folder: &str| pseudo.join(folder).join(format!("{}.nii.gz", case.id));
                let groups = || classes.groups().iter().map(labels::Group::key);
                let trust: Vec<PathBuf> = groups().map(|group| file(&pseudo_labels::trust_folder(group))).collect();
                let weighed = trust.iter().any(|path| path.is_file());
                let maps = groups().map(file).collect();
                (Labels::Pseudo { maps, trust: weighed.then_some(trust) }, Regions::product(&classes)?.0)
            }
            None => {
                let regions = manifest.regions.get(&case.dataset).cloned().unwrap_or_default();
                (Labels::True(case.annotated_label().map(|label| root.join(label))), regions)
            }
        };
        Ok(Self { image: root.join(&case.image), labels, case: case.clone(), classes, regions })
    }

    /// The label maps, by what they are.
    pub(crate) fn label_files(&self) -> Vec<(String, &Path)> {
        let groups = || self.classes.groups().iter().map(|group| group.key().to_owned());
        match &self.labels {
            Labels::True(label) => label.iter().map(|label| ("label".to_owned(), label.as_path())).collect(),
            Labels::Pseudo { maps, trust } => {
                let trust = groups().map(|group| pseudo_labels::trust_folder(&group)).zip(trust.iter().flatten());
                groups().zip(maps).chain(trust).map(|(name, path)| (name, path.as_path())).collect()
            }
        }
    }

    /// What of the manifest goes into the prepared file.
    pub(crate) fn facts(&self) -> Value {
        let Case { dataset, subset, .. } = &self.case;
        let mut facts = json!({"dataset": dataset, "subset": subset, "annotated": self.annotated(), "regions": self.regions});
        if matches!(self.labels, Labels::True(_)) && !self.case.cuts.is_empty() {
            facts["cuts"] = json!(self.case.cuts);
        }
        facts
    }

    /// The classes that the prepared labels know; of all where models have labelled.
    fn annotated(&self) -> LabelPattern {
        match self.labels {
            Labels::True(_) => self.case.annotated,
            Labels::Pseudo { .. } => self.classes.pattern(),
        }
    }

    /// The prepared file, in the output folder.
    pub(crate) fn place(&self) -> String {
        case_path(Path::new(""), &self.case.id).display().to_string()
    }

    /// Reads, prepares and writes the case, plane by plane.
    pub(crate) fn prepare(&self, config: &Config, output: &Path) -> Result<()> {
        let scan = Scan::open(&self.image, &config.grid)?;
        let crop = if config.crop_foreground { scan.foreground()? } else { scan.whole() };
        let source = match &self.labels {
            Labels::Pseudo { .. } => Some(LabelSource::Pseudo),
            Labels::True(label) => label.as_ref().map(|_| LabelSource::True),
        };
        let voxels = Voxels { labels: self.labels(&scan)?, trust: self.trust(&scan)?, trust_groups: self.trust_groups(), scan, crop };
        let info = CaseInfo {
            id: self.case.id.clone(),
            dataset: self.case.dataset.clone(),
            layout: config.layout,
            subset: self.case.subset.clone(),
            spacing_mm: voxels.scan.grid().spacing_mm(),
            grid: record(&voxels.scan.grid().cropped(&crop)),
            original_grid: record(&voxels.scan.header().grid()),
            crop: CropBox { start: crop.start, shape: crop.shape },
            window_hu: config.grid.window_hu,
            annotated: self.annotated(),
            regions: self.regions.clone(),
            source,
            trust: voxels.mean_trust()?,
        };
        write_atomic(output, |file| write_case(file, &voxels, &info))
    }

    /// The maps behind the labels, and by what each adds to the value of a voxel: the dataset's own as it is, and those of models
    /// by the place of their class and the factor of their group.
    fn labels(&self, scan: &Scan) -> Result<Vec<MapFile>> {
        let map = match &self.labels {
            Labels::True(None) => return Ok(Vec::new()),
            Labels::True(Some(label)) => {
                let check = |voxels: &[u64; 256]| self.regions.shown(voxels).map(|_| ());
                return Ok(vec![MapFile::open(label, scan, &self.case.cuts, maps::AS_IT_IS, check)?]);
            }
            Labels::Pseudo { maps, .. } => maps,
        };
        let (_, factors) = Regions::product(&self.classes)?;
        let of_group = |((group, path), factor): ((&labels::Group, &PathBuf), u8)| {
            self.must_be_there(path)?;
            let values = group.values();
            let mut table = [0; 256];
            values.iter().zip(1u8..).for_each(|(&value, place)| table[usize::from(value)] = place * factor);
            MapFile::open(path, scan, &[], table, |voxels| Regions::plain(group.pattern()).shown(voxels).map(|_| ()))
        };
        self.classes.groups().iter().zip(map).zip(factors).map(of_group).collect()
    }

    fn trust(&self, scan: &Scan) -> Result<Vec<MapFile>> {
        let Labels::Pseudo { trust: Some(trust), .. } = &self.labels else { return Ok(Vec::new()) };
        let map = |path: &PathBuf| {
            self.must_be_there(path)?;
            MapFile::open(path, scan, &[], maps::AS_IT_IS, |_| Ok(()))
        };
        trust.iter().map(map).collect()
    }

    fn trust_groups(&self) -> Vec<String> {
        match &self.labels {
            Labels::Pseudo { trust: Some(_), .. } => self.classes.groups().iter().map(|group| group.key().to_owned()).collect(),
            _ => Vec::new(),
        }
    }

    fn must_be_there(&self, path: &Path) -> Result<()> {
        ensure!(path.is_file(), "{} is missing; run `pseudo-label` for the subset {}", path.display(), self.case.subset);
        Ok(())
    }
}

/// The voxels of a case on the model grid, read from its files for every pass.
struct Voxels {
    scan: Scan,
    crop: Box3,
    labels: Vec<MapFile>,
    trust: Vec<MapFile>,
    trust_groups: Vec<String>,
}

impl Voxels {
    /// A part of the case as a box of the model grid.
    fn region(&self, part: &Part) -> Box3 {
        Box3 { start: std::array::from_fn(|axis| self.crop.start[axis] + part[axis].start), shape: part.clone().map(|range| range.len()) }
    }

    /// The mean trust in each group, if anybody has weighed them.
    fn mean_trust(&self) -> Result<Option<MeanTrust>> {
        let part = self.crop.shape.map(|side| 0..side);
        let mean = |(k, group): (usize, &String)| {
            let mut sum = 0;
            self.map(Map::Trust(k), &part, &mut |_, plane| sum += plane.iter().map(|&trust| u64::from(trust)).sum::<u64>())?;
            let mean = sum as f64 / (f64::from(FULL_TRUST) * self.crop.shape.iter().product::<usize>() as f64);
            anyhow::Ok((group.clone(), mean))
        };
        let means: MeanTrust = self.trust_groups.iter().enumerate().map(mean).collect::<Result<_>>()?;
        Ok(Some(means).filter(|means| !means.is_empty()))
    }
}

impl CaseSource for Voxels {
    type Error = anyhow::Error;

    fn shape(&self) -> [usize; 3] {
        self.crop.shape
    }

    fn has_labels(&self) -> bool {
        !self.labels.is_empty()
    }

    fn trust_groups(&self) -> &[String] {
        &self.trust_groups
    }

    fn image(&self, part: &Part, sink: &mut dyn FnMut(usize, &[f32])) -> Result<()> {
        let mut planes = self.scan.planes(&self.region(part))?;
        while let Some(plane) = planes.next_plane()? {
            sink(plane.z - self.crop.start[2], &plane.values);
        }
        Ok(())
    }

    fn map(&self, map: Map, part: &Part, sink: &mut dyn FnMut(usize, &[u8])) -> Result<()> {
        let files = match map {
            Map::Labels => &self.labels[..],
            Map::Trust(group) => &self.trust[group..=group],
        };
        maps::sum_planes(files, &self.region(part), |z, plane| sink(z - self.crop.start[2], plane))
    }
}

fn record(grid: &Grid) -> GridRecord {
    GridRecord { shape: grid.shape, affine: grid.affine.0 }
}
