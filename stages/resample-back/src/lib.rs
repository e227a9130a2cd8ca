//! Brings label maps from the model grid back to the original grid of their image (paper 2.4).

use anyhow::{Context, Result};
use dataset::ImageFile;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use stage_kit::{Role, Stage, StageIo};
use volume::nifti;

/// `resample-back` has no parameters: labels go to the nearest voxel.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {}

/// The stage `resample-back`.
pub struct ResampleBack;

impl Stage for ResampleBack {
    const NAME: &'static str = "resample-back";
    const REVISION: u32 = 1;
    const ABOUT: &'static str = "Brings label maps back to the orientation, spacing and grid of the original images";
    const READS: &'static [Role] = &[
        Role::required("labels", "a folder with labels/CASE.nii.gz on the model grid, as overlay writes it"),
        Role::required("images", "the folder of the original CT scans, CASE_0000.nii.gz"),
    ];
    const WRITES: &'static str = "labels/CASE.nii.gz with the grid and header of its image";
    const PAPER: &'static str = "2.4";
    type Config = Config;

    fn run(_: &Config, io: &StageIo) -> Result<()> {
        let labels = io.input("labels")?.join("labels");
        let images = dataset::image_files(io.input("images")?)?;
        let folder = io.output_folder("labels")?;
        let place = |case: &ImageFile| folder.join(case.label_name());
        stage_kit::over_cases(
            io,
            &images,
            |case| &case.id,
            |case| stage_kit::finished(&place(case)),
            |case| {
                let header = nifti::read_header(&case.path)?;
                let path = labels.join(case.label_name());
                let (on_model_grid, _) = nifti::read_labels(&path).with_context(|| format!("the labels of {}", case.path.display()))?;
                let original = volume::resample_nearest(&on_model_grid, &header.grid());
                Ok(nifti::write_labels(place(case), &original, &header)?)
            },
        )
    }
}
