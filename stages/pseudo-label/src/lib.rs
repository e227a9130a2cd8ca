//! Lets the teachers label what nobody labelled (paper 2.3, Fig. 1c): D_u and D_l3 become D_u' and D_l3'.
//!
//! The paper's text names M_c and M_o1 as the teachers and the caption of its Fig. 1 M_c and M_o2; only M_o2 knows the
//! organs that are asked of it (the 3-D U-Net skips the training of M_o1), so M_o2 it is.

use anyhow::{Context, Result};
use candle_core::{Device, Tensor};
use inference::SlidingWindow;
use labelling::Scan;
use labels::{CANCER_CLASSES, ORGAN_CLASSES, SubsetName};
use nets::{Network, Params, Precision, TeacherConfig, Trained};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use stage_kit::{ByCase, CaseSpec, CaseStage, Role, Stage, StageIo};
use volume::nifti::Header;
use volume::{Box3, LabelVolume, ModelGrid, ScalarVolume, nifti};

/// The parameters of `pseudo-label`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The subsets to label; the paper's are D_u and D_l3. Not used when a folder of `images` is given.
    pub subsets: Vec<SubsetName>,
    /// The kind and the size of the organ teacher.
    pub organ_network: TeacherConfig,
    /// The kind and the size of the cancer teacher.
    pub cancer_network: TeacherConfig,
    /// The grid of the teachers; the paper's is 1 mm and [−200, 300] HU.
    pub grid: ModelGrid,
    /// Whether the networks are shown the foreground alone, as in their training.
    pub crop_foreground: bool,
    /// How windows are laid over a volume.
    pub window: SlidingWindow,
    /// The numbers that the networks compute with on a CPU.
    #[serde(default)]
    pub precision: Precision,
}

/// The stage `pseudo-label`.
pub struct PseudoLabel;

impl Stage for PseudoLabel {
    const NAME: &'static str = "pseudo-label";
    const REVISION: u32 = 4;
    const ABOUT: &'static str = "Lets the teachers write organ and cancer labels where nobody labelled; true labels win";
    const READS: &'static [Role] = &[
        Role::required("organ_teacher", "a folder with weights.safetensors of M_o2"),
        Role::required("cancer_teacher", "a folder with weights.safetensors of M_c"),
        labelling::ROLES[0],
        labelling::ROLES[1],
        labelling::ROLES[2],
    ];
    const WRITES: &'static str = "organs/CASE.nii.gz (0-13) and cancer/CASE.nii.gz (0, 1) on the grid of the image";
    const PAPER: &'static str = "2.3";
    type Config = Config;

    fn check(config: &Config) -> Result<()> {
        config.grid.check()?;
        config.window.check()?;
        for network in [&config.organ_network, &config.cancer_network] {
            network.check(config.window.patch).map_err(anyhow::Error::msg)?;
        }
        Ok(())
    }

    const BY_CASE: Option<ByCase> = Some(ByCase::of::<Self>());

    fn run(config: &Config, io: &StageIo) -> Result<()> {
        stage_kit::run_cases::<Self>(config, io)
    }
}

impl CaseStage for PseudoLabel {
    type Job = Scan;
    type Tools = Teachers;

    fn jobs(config: &Config, io: &StageIo) -> Result<Vec<Scan>> {
        labelling::scans(&config.subsets, io)
    }

    fn case(_: &Config, scan: &Scan) -> CaseSpec {
        scan.spec()
    }

    /// Which subsets are labelled changes no case.
    fn case_params(config: &Config) -> Result<Value> {
        let Config { subsets: _, organ_network, cancer_network, grid, crop_foreground, window, precision } = config;
        Ok(json!({
            "organ_network": organ_network,
            "cancer_network": cancer_network,
            "grid": grid,
            "crop_foreground": crop_foreground,
            "window": window,
            "precision": precision,
        }))
    }

    fn tools(config: &Config, io: &StageIo) -> Result<Teachers> {
        let device = nets::device(io.device)?;
        Ok(Teachers {
            organs: Teacher::load("organ_teacher", &config.organ_network, ORGAN_CLASSES, config.precision, io, &device)?,
            cancer: Teacher::load("cancer_teacher", &config.cancer_network, CANCER_CLASSES, config.precision, io, &device)?,
            device,
        })
    }

    fn work(config: &Config, io: &StageIo, teachers: &Teachers, scan: &Scan) -> Result<()> {
        let (image, header) = nifti::read_scalar(&scan.image)?;
        let image = config.grid.prepare(image).with_context(|| format!("{}", scan.image.display()))?;
        let shown = config.grid.shown(&image, config.crop_foreground).with_context(|| format!("{}", scan.image.display()))?;
        let label = |teacher: &Teacher| teacher.label(&image, &shown, &config.window, &teachers.device, &header);
        scan.write(io, &header, label(&teachers.organs)?, || label(&teachers.cancer))
    }
}

/// A trained network, frozen.
struct Teacher {
    network: nets::Teacher,
    weights: Trained,
    classes: usize,
}

/// Both teachers.
pub struct Teachers {
    organs: Teacher,
    cancer: Teacher,
    device: Device,
}

impl Teacher {
    fn load(role: &str, config: &TeacherConfig, classes: usize, precision: Precision, io: &StageIo, device: &Device) -> Result<Self> {
        let network = nets::Teacher::new(config, classes);
        let params = Params::init(&network.parameters(), streams::Streams::new(io.seed), device)?;
        params.load(&io.input(role)?.join("weights.safetensors"))?;
        Ok(Self { network, weights: Trained::new(params, precision), classes })
    }

    /// Labels of an image on the model grid, brought to the nearest voxels of `header`'s grid.
    fn label(&self, image: &ScalarVolume, shown: &Box3, window: &SlidingWindow, device: &Device, header: &Header) -> Result<LabelVolume> {
        let forward = |patch: &Tensor| self.network.infer(&self.weights, patch);
        let data = inference::segment_windows(&shown.of(&image.data), window, self.classes, device, forward)?;
        let data = shown.embed(&data, image.grid().shape);
        Ok(volume::resample_nearest(&LabelVolume { data, affine: image.affine }, &header.grid()))
    }
}
