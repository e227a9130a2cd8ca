//! Segments CT scans with the student (paper 2.2 and 2.3): images to organ and cancer maps on the model grid.

use std::path::PathBuf;

use anyhow::{Context, Result};
use dataset::ImageFile;
use inference::SliceWindow;
use nets::{DualUNet2d, DualUNet2dConfig, Network, Params};
use serde::{Deserialize, Serialize};
use stage_kit::{Role, Stage, StageIo};
use volume::{LabelVolume, ModelGrid, nifti};

/// The parameters of `segment`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The size of the student; the same as in its training.
    pub network: DualUNet2dConfig,
    /// The grid of inference; the paper's is 1×1×2.5 mm and [−200, 300] HU.
    pub grid: ModelGrid,
    /// Whether the network is shown the foreground alone, as in its training.
    pub crop_foreground: bool,
    /// How slices pass the network.
    pub window: SliceWindow,
}

/// The stage `segment`.
pub struct Segment;

impl Stage for Segment {
    const NAME: &'static str = "segment";
    const REVISION: u32 = 3;
    const ABOUT: &'static str = "Segments CT scans with the dual-decoding student, both decoders in one pass";
    const READS: &'static [Role] = &[
        Role::required("images", "a folder of CT scans, CASE_0000.nii.gz"),
        Role::required("student", "a folder with weights.safetensors, as train-student writes it"),
    ];
    const WRITES: &'static str = "organs/CASE.nii.gz (0-13) and cancer/CASE.nii.gz (0, 1) on the model grid";
    const PAPER: &'static str = "2.2, 2.3";
    type Config = Config;

    fn check(config: &Config) -> Result<()> {
        config.grid.check()?;
        config.window.check().context("window")
    }

    fn run(config: &Config, io: &StageIo) -> Result<()> {
        let student = DualUNet2d::new(&config.network);
        let device = nets::device(io.device)?;
        let mut params = Params::init(&student.parameters(), streams::Streams::new(io.seed), &device)?;
        params.load(&io.input("student")?.join("weights.safetensors"))?;
        params.set_live(|_| false);
        let cases = dataset::image_files(io.input("images")?)?;
        let folders = [io.output_folder("organs")?, io.output_folder("cancer")?];
        let places = |case: &ImageFile| -> [PathBuf; 2] { folders.each_ref().map(|folder| folder.join(case.label_name())) };
        stage_kit::over_cases(
            io,
            &cases,
            |case| &case.id,
            |case| places(case).iter().all(|path| stage_kit::finished(path)),
            |case| {
                let (image, _) = nifti::read_scalar(&case.path)?;
                let image = config.grid.prepare(image).with_context(|| format!("{}", case.path.display()))?;
                let shown = config.grid.shown(&image, config.crop_foreground).with_context(|| format!("{}", case.path.display()))?;
                let labels = inference::segment_slices(&student, &params, &shown.of(&image.data), &config.window, &device)?;
                let [organs, cancer] = places(case);
                for (path, data) in [(organs, labels.organs), (cancer, labels.cancer)] {
                    let data = shown.embed(&data, image.grid().shape);
                    nifti::write_labels_on(path, &LabelVolume { data, affine: image.affine })?;
                }
                Ok(())
            },
        )
    }
}
