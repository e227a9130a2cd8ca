//! Overlays the cancer map on the organ map (paper 2.4).

use std::path::Path;

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use stage_kit::{Role, Stage, StageIo};
use volume::{LabelVolume, nifti};

/// The parameters of `overlay`. The rule has none: it is the paper's.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Leaves the cancer map out: for a student whose cancer decoder was never trained and would say anything. Off in the
    /// paper.
    #[serde(default)]
    pub organs_only: bool,
}

/// The stage `overlay`.
pub struct Overlay;

impl Stage for Overlay {
    const NAME: &'static str = "overlay";
    const REVISION: u32 = 1;
    const ABOUT: &'static str = "Puts the cancer map on top of the organ map: one label map with 0 to 14";
    const READS: &'static [Role] = &[Role::required("labels", "a folder with organs/CASE.nii.gz and cancer/CASE.nii.gz on the same grid")];
    const WRITES: &'static str = "labels/CASE.nii.gz on the same grid";
    const PAPER: &'static str = "2.4";
    type Config = Config;

    fn run(config: &Config, io: &StageIo) -> Result<()> {
        let labels = io.input("labels")?;
        let cases = dataset::label_files(&labels.join("organs"))?;
        let folder = io.output_folder("labels")?;
        let place = |name: &str| folder.join(name);
        stage_kit::over_cases(
            io,
            &cases,
            |case| &case.id,
            |case| stage_kit::finished(&place(&case.label_name())),
            |case| {
                let (mut organs, header) = nifti::read_labels(&case.path)?;
                if !config.organs_only {
                    organs = overlaid(&organs, &case.path, &labels.join("cancer").join(case.label_name()))?;
                }
                Ok(nifti::write_labels(place(&case.label_name()), &organs, &header)?)
            },
        )
    }
}

/// The organs with the cancer map at `cancer_path` on top; `organs_path` is named in errors.
fn overlaid(organs: &LabelVolume, organs_path: &Path, cancer_path: &Path) -> Result<LabelVolume> {
    let (cancer, _) = nifti::read_labels(cancer_path)?;
    anyhow::ensure!(
        organs.grid().approx_eq(&cancer.grid()),
        "{} and {} are on different grids ({:?} and {:?} voxels); make both with the same stage",
        organs_path.display(),
        cancer_path.display(),
        organs.grid().shape,
        cancer.grid().shape
    );
    let mut labels = organs.x_fastest().into_owned();
    labels::overlay_in_place(&mut labels, &cancer.x_fastest())?;
    Ok(LabelVolume::from_x_fastest(&organs.grid(), labels)?)
}
