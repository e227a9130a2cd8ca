//! Overlays the cancer map on the organ map (paper 2.4).

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use dataset::{ImageFile, Naming};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use stage_kit::{Aside, ByCase, CaseSpec, CaseStage, Role, Stage, StageIo};
use volume::nifti::{Header, LabelReader, LabelWriter};

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
    const READS: &'static [Role] =
        &[Role::required("labels", "a folder with organs/CASE.nii.gz and cancer/CASE.nii.gz on the same grid").by_case()];
    const WRITES: &'static str = "labels/CASE.nii.gz on the same grid";
    const PAPER: &'static str = "2.4";
    type Config = Config;

    const BY_CASE: Option<ByCase> = Some(ByCase::of::<Self>());

    fn run(config: &Config, io: &StageIo) -> Result<()> {
        stage_kit::run_cases::<Self>(config, io)
    }
}

/// The two maps of a case.
pub struct Maps {
    organs: ImageFile,
    cancer: PathBuf,
}

impl Maps {
    fn place(&self) -> String {
        format!("labels/{}", self.organs.label_name())
    }
}

impl CaseStage for Overlay {
    type Job = Maps;
    type Tools = ();

    fn jobs(_: &Config, io: &StageIo) -> Result<Vec<Maps>> {
        let labels = io.input("labels")?;
        let maps = |organs: ImageFile| Maps { cancer: labels.join("cancer").join(organs.label_name()), organs };
        Ok(dataset::label_files(&labels.join("organs"))?.into_iter().map(maps).collect())
    }

    fn aside(_: &Config, io: &StageIo) -> Result<Aside> {
        Ok(dataset::list(&io.input("labels")?.join("organs"), Naming::Labels)?.aside)
    }

    fn case(config: &Config, maps: &Maps) -> CaseSpec {
        let spec = CaseSpec::of(&maps.organs.id).reads("organs", &maps.organs.path).writes([maps.place()]);
        if config.organs_only { spec } else { spec.reads("cancer", &maps.cancer) }
    }

    fn tools(_: &Config, _: &StageIo) -> Result<()> {
        Ok(())
    }

    fn work(config: &Config, io: &StageIo, (): &(), maps: &Maps) -> Result<()> {
        let cancer = (!config.organs_only).then_some(maps.cancer.as_path());
        write_overlaid(&io.output.join(maps.place()), &maps.organs.path, cancer)
    }
}

/// Writes the organs with the cancer map on top, slice by slice.
fn write_overlaid(output: &Path, organs_path: &Path, cancer_path: Option<&Path>) -> Result<()> {
    let mut organs = LabelReader::open(organs_path)?;
    let mut cancer = cancer_path.map(|path| anyhow::Ok((path, on_same_grid(organs.header(), organs_path, path)?))).transpose()?;
    let mut writer = LabelWriter::create(output, organs.header())?;
    let (mut labels, mut is_cancer) = (Vec::new(), Vec::new());
    while organs.next_slice(&mut labels)? {
        if let Some((path, cancer)) = &mut cancer {
            cancer.next_slice(&mut is_cancer)?;
            labels::overlay_in_place(&mut labels, &is_cancer)
                .with_context(|| format!("{} over {}", path.display(), organs_path.display()))?;
        }
        writer.add(&labels)?;
    }
    Ok(writer.finish()?)
}

/// The cancer map, if it lies on the grid of the organs.
fn on_same_grid(organs: &Header, organs_path: &Path, cancer_path: &Path) -> Result<LabelReader> {
    let cancer = LabelReader::open(cancer_path)?;
    anyhow::ensure!(
        organs.grid().approx_eq(&cancer.header().grid()),
        "{} and {} are on different grids ({:?} and {:?} voxels); make both with the same stage",
        organs_path.display(),
        cancer_path.display(),
        organs.grid().shape,
        cancer.header().grid().shape
    );
    Ok(cancer)
}
