//! Lets the teachers label what nobody labelled (paper 2.3, Fig. 1c): D_u and D_l3 become D_u' and D_l3'.
//!
//! The paper's text names M_c and M_o1 as the teachers and the caption of its Fig. 1 M_c and M_o2; only M_o2 knows the
//! organs that are asked of it (the 3-D U-Net skips the training of M_o1), so M_o2 it is.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use candle_core::{Device, Tensor};
use dataset::Manifest;
use inference::SlidingWindow;
use labels::{CANCER_CLASSES, ORGAN_CLASSES, Subset, SubsetName, TUMOR};
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
        Role::optional("dataset", "the root of the dataset; with `partition`").by_case(),
        Role::optional("partition", "the output of partition").by_case(),
        Role::optional("images", "instead of a dataset: a folder of CT scans, CASE_0000.nii.gz, none of them labelled").by_case(),
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
    type Job = Job;
    type Tools = Teachers;

    fn jobs(config: &Config, io: &StageIo) -> Result<Vec<Job>> {
        jobs(config, io)
    }

    fn case(_: &Config, job: &Job) -> CaseSpec {
        let spec = CaseSpec::of(&job.id).reads("image", &job.image).writes(job.places());
        match &job.truth {
            Some((label, subset)) => spec.reads("label", label).depends_on(json!({"subset": subset})),
            None => spec,
        }
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

    fn work(config: &Config, io: &StageIo, teachers: &Teachers, job: &Job) -> Result<()> {
        job.run(config, io, teachers)
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

/// One case: what to read.
pub struct Job {
    id: String,
    image: PathBuf,
    /// The label map and what its annotators looked for.
    truth: Option<(PathBuf, Subset)>,
}

fn jobs(config: &Config, io: &StageIo) -> Result<Vec<Job>> {
    let job = |id: &str, image: PathBuf, truth| Job { id: id.to_owned(), image, truth };
    match (io.input_opt("images")?, io.input_opt("dataset")?, io.input_opt("partition")?) {
        (Some(images), None, None) => Ok(dataset::image_files(images)?.into_iter().map(|file| job(&file.id, file.path, None)).collect()),
        (None, Some(root), Some(partition)) => {
            let manifest = Manifest::load(partition)?;
            let mut jobs = Vec::new();
            for &subset in &config.subsets {
                for case in manifest.select(subset, None)? {
                    let truth = case.label.as_ref().filter(|_| case.subset != Subset::Du);
                    jobs.push(job(&case.id, root.join(&case.image), truth.map(|label| (root.join(label), case.subset))));
                }
            }
            Ok(jobs)
        }
        _ => bail!("give either `images`, or `dataset` together with `partition`"),
    }
}

impl Job {
    /// The organ map and the cancer map, in the output folder.
    fn places(&self) -> [String; 2] {
        ["organs", "cancer"].map(|folder| format!("{folder}/{}.nii.gz", self.id))
    }

    fn run(&self, config: &Config, io: &StageIo, teachers: &Teachers) -> Result<()> {
        let (image, header) = nifti::read_scalar(&self.image)?;
        let image = config.grid.prepare(image).with_context(|| format!("{}", self.image.display()))?;
        let shown = config.grid.shown(&image, config.crop_foreground).with_context(|| format!("{}", self.image.display()))?;
        let mut organs = teachers.organs.label(&image, &shown, &config.window, &teachers.device, &header)?;
        let truth = self.truth.as_ref().map(|(path, subset)| read_truth(path, &header).map(|truth| (truth, *subset))).transpose()?;
        let cancer = match &truth {
            Some((truth, subset)) if SubsetName::Dc.contains(*subset) => {
                LabelVolume { data: truth.data.mapv(|label| u8::from(label == TUMOR)), affine: truth.affine }
            }
            _ => teachers.cancer.label(&image, &shown, &config.window, &teachers.device, &header)?,
        };
        if let Some((truth, subset)) = &truth {
            let mut merged = vec![0; organs.data.len()];
            labels::merge_annotated_organs(subset.annotated_organs(), &truth.x_fastest(), &organs.x_fastest(), &mut merged)
                .with_context(|| format!("merging with {:?}", self.truth.as_ref().map(|(path, _)| path)))?;
            organs = LabelVolume::from_x_fastest(&header.grid(), merged)?;
        }
        for (place, labels) in self.places().iter().zip([&organs, &cancer]) {
            nifti::write_labels(io.output.join(place), labels, &header)?;
        }
        Ok(())
    }
}

fn read_truth(path: &PathBuf, image: &Header) -> Result<LabelVolume> {
    let (truth, header) = nifti::read_labels(path)?;
    ensure!(
        header.grid().approx_eq(&image.grid()),
        "{}: the label map has {:?} voxels and the image {:?}, or their affines differ; correct the header of one of them",
        path.display(),
        header.grid().shape,
        image.grid().shape
    );
    Ok(truth)
}
