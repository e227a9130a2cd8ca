//! Makes one label map of the masks of a case, for datasets that have a file for each class, such as TotalSegmentator's. The
//! result has nnU-Net's layout.

mod masks;
mod merge;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use dataset::{CaseFiles, DatasetConfig, Source};
use labels::Classes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, json};
use stage_kit::{ByCase, CaseSpec, CaseStage, LeftOut, Look, Role, Stage, StageIo, some_of, write_atomic_text};

use crate::masks::{MaskPaths, Named};
use crate::merge::{Mask, Share};

/// The parameters of `merge-masks`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The images: a path with `{case}`, such as `{case}/ct.nii.gz`, as in the layout `pattern` of `partition`. `{patient}` and `*` may stand in it, too.
    pub images: String,
    /// The masks: a path with `{case}` and, in the name of the file, `{class}`, such as `{case}/segmentations/{class}.nii.gz`. Every
    /// value but 0 is inside.
    pub masks: String,
    /// The masks to take, by their `{class}`, in the order of their values: 1, 2, 3 … Where masks overlap, the one that stands later here
    /// counts.
    pub labels: Vec<String>,
    /// Whether a mask that a case lacks counts as empty. Otherwise such a case is left out, because nobody knows whether it was looked
    /// for.
    #[serde(default)]
    pub missing_is_empty: bool,
    /// Other scans in the folders of the images, which are passed over, such as `{case}/pet.nii.gz`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<String>,
}

impl Config {
    /// The masks as classes, which refuses names and numbers of masks that a label map cannot have.
    fn classes(&self) -> Result<Classes> {
        ensure!(!self.labels.is_empty(), "labels: names no mask; name those to take, such as [liver, spleen]");
        let (most, found) = (usize::from(u8::MAX), self.labels.len());
        ensure!(found <= most, "labels: {found} masks, and a label map has room for {most}; merge them in two nodes");
        let mut classes = Map::new();
        for (label, value) in self.labels.iter().zip(1..) {
            let value: u8 = value;
            ensure!(classes.insert(label.clone(), value.into()).is_none(), "labels: `{label}` stands there twice; name each mask once");
        }
        serde_json::from_value(json!([{"group": "the_masks", "classes": classes}])).context("labels")
    }

    /// The images as a dataset without label maps.
    fn dataset(&self) -> Result<DatasetConfig> {
        let others: Vec<String> = self.others.iter().cloned().chain([MaskPaths::as_others(&self.masks)]).collect();
        Ok(serde_json::from_value(json!({"layout": {"pattern": {"images": self.images, "others": others}}}))?)
    }
}

/// The stage `merge-masks`.
pub struct MergeMasks;

impl Stage for MergeMasks {
    const NAME: &'static str = "merge-masks";
    const REVISION: u32 = 1;
    const ABOUT: &'static str = "Makes one label map of the masks of a case, for datasets that have a file for each class";
    const READS: &'static [Role] = &[Role::required("cases", "a folder with the images and masks of all cases").by_case()];
    const WRITES: &'static str = "nnU-Net's layout: imagesTr/CASE_0000.* (copies), labelsTr/CASE.nii.gz, dataset.json; masks.csv: how much of each mask is in the label maps";
    const PAPER: &'static str = "none";
    const EXAMPLE: &'static str = include_str!("../example.yaml");
    type Config = Config;

    fn check(config: &Config) -> Result<()> {
        MaskPaths::of(&config.masks)?;
        Ok(config.dataset()?.check("cases", &config.classes()?)?)
    }

    const BY_CASE: Option<ByCase> = Some(ByCase::of::<Self>());

    fn run(config: &Config, io: &StageIo) -> Result<()> {
        stage_kit::run_cases::<Self>(config, io)
    }
}

/// So many names of masks are told at once.
const SHOWN: usize = 12;

/// The files of a case.
pub struct Masked {
    id: String,
    image: PathBuf,
    masks: Vec<Mask>,
}

impl Masked {
    /// The case with its masks, or why it has to be left out.
    fn of(config: &Config, paths: &MaskPaths<'_>, root: &Path, case: CaseFiles) -> Result<Self, LeftOut> {
        let named = Named::of(&case.case, case.patient.as_deref());
        let found = paths.found(root, &named);
        let (there, missed): (Vec<_>, Vec<_>) = config.labels.iter().zip(1..).partition(|(label, _)| found.contains(*label));
        if let ([(first, _), ..], false) = (&missed[..], config.missing_is_empty) {
            let found: Vec<&String> = found.iter().collect();
            let missed: Vec<&String> = missed.iter().map(|(label, _)| *label).collect();
            return Err(LeftOut {
                file: paths.path(&named, first),
                found: format!("no such file, but masks of {}", some_of(&found, SHOWN)),
                expected: format!("masks of {}", some_of(&missed, SHOWN)),
                remedy: "add them, take them out of `labels`, or say `missing_is_empty: true` if what is missing was looked for".into(),
                case: case.case,
            });
        }
        let masks = there.into_iter().map(|(label, value)| Mask { value, path: root.join(paths.path(&named, label)) }).collect();
        Ok(Self { image: root.join(case.image), masks, id: case.case })
    }

    fn image_place(&self) -> String {
        let name = self.image.file_name().unwrap_or_default().to_string_lossy();
        format!("imagesTr/{}_0000{}", self.id, dataset::ending(&name))
    }

    fn label_place(&self) -> String {
        format!("labelsTr/{}.nii.gz", self.id)
    }

    fn shares_place(&self) -> String {
        format!("shares/{}.json", self.id)
    }
}

impl CaseStage for MergeMasks {
    type Job = Masked;
    type Tools = ();

    fn look(config: &Config, io: &StageIo) -> Result<Look<Masked>> {
        let (root, paths) = (io.input("cases")?, MaskPaths::of(&config.masks)?);
        let (dataset, classes) = (config.dataset()?, config.classes()?);
        let (cases, mut aside) = match Source::open("cases", &dataset, root, &classes).and_then(|source| source.cases()) {
            Ok(found) => found,
            Err(error) => return Ok(Look::of(Err(error.into()))),
        };
        let mut jobs = Vec::with_capacity(cases.len());
        for case in cases {
            match Masked::of(config, &paths, root, case) {
                Ok(job) => jobs.push(job),
                Err(left_out) => aside.left_out.push(left_out),
            }
        }
        Ok(Look::of(Ok(jobs)).beside(aside))
    }

    fn case(config: &Config, job: &Masked) -> CaseSpec {
        let spec = CaseSpec::of(&job.id).reads("image", &job.image).writes([job.image_place(), job.label_place()]);
        let name = |mask: &Mask| format!("mask of {}", config.labels[usize::from(mask.value) - 1]);
        job.masks.iter().fold(spec.keeps([job.shares_place()]), |spec, mask| spec.reads(&name(mask), &mask.path))
    }

    fn tools(_: &Config, _: &StageIo) -> Result<()> {
        Ok(())
    }

    fn work(_: &Config, io: &StageIo, (): &(), job: &Masked) -> Result<()> {
        let shares = merge::merge(&job.image, &job.masks, &io.output.join(job.label_place()))?;
        merge::copy(&job.image, &io.output.join(job.image_place()))?;
        let shares: Vec<(u8, Share)> = job.masks.iter().map(|mask| mask.value).zip(shares).collect();
        write_atomic_text(&io.work.join(job.shares_place()), &serde_json::to_string(&shares)?)
    }

    fn finish(config: &Config, io: &StageIo, jobs: &[Masked]) -> Result<Vec<LeftOut>> {
        write_atomic_text(&io.output.join("masks.csv"), &table(config, io, jobs)?)?;
        dataset::write_list(&io.output, config.labels.iter().map(String::as_str).zip(1..), jobs.len())?;
        Ok(Vec::new())
    }
}

/// A row for each mask: its value, in how many cases it has a file and any voxel, its voxels, and those that later masks hide.
fn table(config: &Config, io: &StageIo, jobs: &[Masked]) -> Result<String> {
    let mut sums = vec![(0u64, 0u64, Share::default()); config.labels.len()];
    for job in jobs {
        let place = io.work.join(job.shares_place());
        let text = std::fs::read_to_string(&place).with_context(|| format!("cannot read {}", place.display()))?;
        for (value, share) in serde_json::from_str::<Vec<(u8, Share)>>(&text)? {
            let (files, shown, sum) = &mut sums[usize::from(value) - 1];
            *files += 1;
            *shown += u64::from(share.voxels > 0);
            sum.voxels += share.voxels;
            sum.hidden += share.hidden;
        }
    }
    let heads = ["mask", "value", "files", "cases_that_show_it", "voxels", "hidden_by_later_masks"].map(str::to_owned);
    let rows = config.labels.iter().zip(1..).zip(sums).map(|((label, value), (files, shown, Share { voxels, hidden }))| {
        let value: usize = value;
        [label.clone(), value.to_string(), files.to_string(), shown.to_string(), voxels.to_string(), hidden.to_string()]
    });
    Ok(tables::to_csv(std::iter::once(heads).chain(rows)))
}
