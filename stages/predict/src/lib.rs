//! From CT scans to label maps in one process, as a challenge calls it (paper 2.2 to 2.4): what `segment`, `overlay` and
//! `resample-back` do one after another, without their files.

use anyhow::{Context, Result};
use dataset::ImageFile;
use inference::{MODEL_FILE, Student};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use stage_kit::{ByCase, CaseSpec, CaseStage, Role, Stage, StageIo};
use volume::{LabelVolume, nifti};

/// `predict` has no parameters: the model says how it is used.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {}

/// The stage `predict`.
pub struct Predict;

impl Stage for Predict {
    const NAME: &'static str = "predict";
    const REVISION: u32 = 2;
    const ABOUT: &'static str = "Labels CT scans with an exported model: segment, overlay and resample-back in one go";
    const READS: &'static [Role] = &[
        Role::required("images", "a folder of CT scans, CASE_0000.nii.gz, or one such file").by_case(),
        Role::required("model", "a file as `export` writes it, or the folder that it is in"),
    ];
    const WRITES: &'static str = "CASE.nii.gz (0-14) with the grid and header of its image";
    const PAPER: &'static str = "2.2 to 2.4";
    type Config = Config;

    const BY_CASE: Option<ByCase> = Some(ByCase::of::<Self>());

    fn run(config: &Config, io: &StageIo) -> Result<()> {
        stage_kit::run_cases::<Self>(config, io)
    }
}

impl CaseStage for Predict {
    type Job = ImageFile;
    type Tools = Student;

    fn jobs(_: &Config, io: &StageIo) -> Result<Vec<ImageFile>> {
        Ok(dataset::images_at(io.input("images")?)?)
    }

    fn case(_: &Config, case: &ImageFile) -> CaseSpec {
        CaseSpec::of(&case.id).reads("image", &case.path).writes([case.label_name()])
    }

    fn tools(_: &Config, io: &StageIo) -> Result<Student> {
        let model = io.input("model")?;
        let model = if model.is_dir() { model.join(MODEL_FILE) } else { model.to_owned() };
        Ok(Student::open(&model, &nets::device(io.device)?)?)
    }

    fn work(_: &Config, io: &StageIo, student: &Student, case: &ImageFile) -> Result<()> {
        let (image, header) = nifti::read_scalar(&case.path)?;
        let (labels, affine) = student.segment(image).with_context(|| format!("{}", case.path.display()))?;
        let mut data = labels.organs;
        labels::overlay_in_place(
            data.as_slice_memory_order_mut().context("internal error: labels in pieces")?,
            labels.cancer.as_slice_memory_order().context("internal error: labels in pieces")?,
        )?;
        let labels = volume::resample_nearest(&LabelVolume { data, affine }, &header.grid());
        Ok(nifti::write_labels(io.output.join(case.label_name()), &labels, &header)?)
    }
}
