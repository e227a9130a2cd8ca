//! Brings label maps from the model grid back to the original grid of their image (paper 2.4).

use std::path::PathBuf;

use anyhow::{Context, Result};
use dataset::{ImageFile, Naming};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use stage_kit::{ByCase, CaseSpec, CaseStage, Look, Role, Stage, StageIo};
use volume::nifti;

/// `resample-back` has no parameters: labels go to the nearest voxel.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {}

/// The stage `resample-back`.
pub struct ResampleBack;

impl Stage for ResampleBack {
    const NAME: &'static str = "resample-back";
    const REVISION: u32 = 2;
    const ABOUT: &'static str = "Brings label maps back to the orientation, spacing and grid of the original images";
    const READS: &'static [Role] = &[
        Role::required("labels", "a folder with labels/CASE.nii.gz on the model grid, as overlay writes it").by_case(),
        Role::required("images", "the folder of the original CT scans, CASE_0000.nii.gz").by_case(),
    ];
    const WRITES: &'static str = "labels/CASE.nii.gz with the grid and header of its image";
    const PAPER: &'static str = "2.4";
    const EXAMPLE: &'static str = include_str!("../example.yaml");
    type Config = Config;

    const BY_CASE: Option<ByCase> = Some(ByCase::of::<Self>());

    fn run(config: &Config, io: &StageIo) -> Result<()> {
        stage_kit::run_cases::<Self>(config, io)
    }
}

/// A scan and the label map that is to lie on it.
pub struct Pair {
    image: ImageFile,
    labels: PathBuf,
}

impl Pair {
    fn place(&self) -> String {
        format!("labels/{}", self.image.label_name())
    }
}

impl CaseStage for ResampleBack {
    type Job = Pair;
    type Tools = ();

    fn look(_: &Config, io: &StageIo) -> Result<Look<Pair>> {
        let labels = io.input("labels")?.join("labels");
        let (images, aside) = dataset::list(io.input("images")?, Naming::Images)?.parted(Naming::Images);
        let pair = |image: ImageFile| Pair { labels: labels.join(image.label_name()), image };
        Ok(Look::of(images.map(|images| images.into_iter().map(pair).collect()).map_err(Into::into)).beside(aside))
    }

    fn case(_: &Config, pair: &Pair) -> CaseSpec {
        CaseSpec::of(&pair.image.id).reads("image", &pair.image.path).reads("labels", &pair.labels).writes([pair.place()])
    }

    fn tools(_: &Config, _: &StageIo) -> Result<()> {
        Ok(())
    }

    fn work(_: &Config, io: &StageIo, (): &(), pair: &Pair) -> Result<()> {
        let header = nifti::read_header(&pair.image.path)?;
        let labels = || format!("the labels of {}", pair.image.path.display());
        let (on_model_grid, _) = nifti::read_labels(&pair.labels).with_context(labels)?;
        nifti::write_nearest(io.output.join(pair.place()), &on_model_grid, &header).with_context(labels)
    }
}
