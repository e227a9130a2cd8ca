//! From CT scans to label maps in one process, as a challenge calls it (paper 2.2 to 2.4): what `segment`, `overlay` and
//! `resample-back` do one after another, without their files and, unless `exact` is asked for, without looking at what
//! lies outside the patient.

mod clean_up;
mod files;
mod journal;
mod look;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use dataset::{ScanCase, Scans};
use formats::LabelFile;
use inference::{LabelledPlane, Manner, Model};
use labels::Class;
use model_card::model_file;
use nets::Precision;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use stage_kit::{ByCase, CaseSpec, CaseStage, Look, Role, Stage, StageIo};
use volume::Keep;

use files::{Kept, outputs};

pub use files::LabelFormat;
pub use journal::JOURNAL_FILE;

/// The parameters of `predict`. What the model says of itself holds, but for what is said here.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Turns every shortcut off: single precision, and the student is shown what it was shown in training, the
    /// foreground or all of the scan. Without it: the fastest numbers of the machine, the box around the patient, and
    /// no look at slices and windows of nothing but air.
    pub exact: bool,
    /// The numbers to compute with, in place of the fastest (`auto`) or, with `exact`, of `f32`.
    pub precision: Option<Precision>,
    /// Takes the mean over each slice and its three mirror images, or each window of a volume and its seven: so many times the work,
    /// and for models alone that were trained on mirror images (`augment: {mirror: {}}`). The paper's are not. From left to right,
    /// left and right classes are exchanged.
    pub flips: bool,
    /// Removes small parts of the model's first group, as the winner of FLARE23 does, for classes of which the model does not say by itself
    /// which parts are kept: of `liver`, `spleen`, `pancreas`,
    /// `right_adrenal`, `left_adrenal` and `stomach` everything but the largest part, of `right_kidney`, `left_kidney` and
    /// `gallbladder` what is below a tenth of it; `kidney_left` is `left_kidney`. Off in the paper.
    pub clean_up: bool,
    /// Writes CASE.png with slices of the scan and the labels on them.
    pub preview: bool,
    /// Writes CASE.json and CASE.csv with volume, mean and deviation in HU of every class.
    pub statistics: bool,
    /// The format of label maps, in place of that of each scan.
    pub format: Option<LabelFormat>,
    /// Writes names and colours of the classes into the header of NIfTI label maps too, as TotalSegmentator does.
    pub names: bool,
    /// Writes CASE.label and CASE.ctbl: names and colours for ITK-SNAP and 3D Slicer.
    pub tables: bool,
    /// Only these classes, by their keys; all others become background.
    pub only: Vec<String>,
    /// Adds a line for each case to `journal.jsonl`: what it was made of, how long it took, or why it failed.
    pub journal: bool,
    /// The name of the one label map, where the input is one scan; its ending says the format. If there is none, the label map is called as
    /// its scan.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

/// The stage `predict`.
pub struct Predict;

impl Stage for Predict {
    const NAME: &'static str = "predict";
    const REVISION: u32 = 9;
    const ABOUT: &'static str = "Labels CT scans with trained models: segment, overlay and resample-back in one go";
    const READS: &'static [Role] = &[
        Role::required("images", "a folder of CT scans in NIfTI, NRRD, MetaImage or DICOM, or one such file").by_case(),
        Role::required("model", "a file as `export` or a training writes it, or the folder that it is in"),
        Role {
            required: false,
            ..Role::many("also", "more models: the mean of those that find the same counts, and others add their groups on top")
        },
    ];
    const WRITES: &'static str = "CASE.nii.gz, CASE.seg.nrrd, CASE.mha or CASE.dcm, in the values of the model's classes and on the grid of its image; CASE.png, CASE.json, CASE.csv, CASE.label and CASE.ctbl if asked for";
    const PAPER: &'static str = "2.2 to 2.4";
    const EXAMPLE: &'static str = include_str!("../example.yaml");
    type Config = Config;

    const BY_CASE: Option<ByCase> = Some(ByCase::of::<Self>());

    fn run(config: &Config, io: &StageIo) -> Result<()> {
        stage_kit::run_cases::<Self>(config, io)
    }
}

/// What all cases share.
pub struct Tools {
    model: Model,
    /// One case computes at a time, while another one is read and a third is written: memory for one network is enough.
    turn: Mutex<()>,
    journal: Option<journal::Journal>,
}

impl Tools {
    /// The classes that are written.
    fn classes(&self, config: &Config) -> Vec<&Class> {
        let is_asked = |class: &&Class| config.only.is_empty() || config.only.contains(&class.key);
        self.model.classes().all().into_iter().filter(is_asked).collect()
    }
}

impl CaseStage for Predict {
    type Job = ScanCase;
    type Tools = Tools;

    fn look(config: &Config, io: &StageIo) -> Result<Look<ScanCase>> {
        let scans = dataset::scans_at(io.input("images")?, &io.output)?;
        let aside = scans.aside.clone();
        Ok(Look::of(named(config, io, scans)).beside(aside))
    }

    const KEEPS_LEFT_OUT: bool = false;

    fn case(config: &Config, case: &ScanCase) -> CaseSpec {
        let files = case.scan.files();
        let width = files.len().to_string().len();
        let spec = CaseSpec::of(&case.id).writes(outputs(config, case));
        files.iter().enumerate().fold(spec, |spec, (n, file)| {
            let name = if n == 0 { "image".to_owned() } else { format!("image.{n:0width$}") };
            spec.reads(&name, file)
        })
    }

    fn tools(config: &Config, io: &StageIo) -> Result<Tools> {
        let mut models: Vec<PathBuf> = vec![model_file(io.input("model")?)];
        models.extend(io.inputs_under("also").into_iter().map(|(_, path)| model_file(path)));
        let fastest = if config.exact { Precision::F32 } else { Precision::Auto };
        let device = nets::device(io.device)?;
        let precision = config.precision.unwrap_or(fastest);
        precision.warn(&device, &io.report);
        let manner = Manner { precision: Some(precision), flips: config.flips, partial: Some(partial::open) };
        let model = Model::open(&models, &manner, &device)?;
        for path in models.iter().filter(|_| config.flips) {
            io.report.warn(path, inference::unseen_mirrors(path)?);
        }
        for key in &config.only {
            model.classes().class(key).context("only")?;
        }
        let journal = if config.journal { Some(journal::Journal::open(config, io, &models)?) } else { None };
        Ok(Tools { model, turn: Mutex::default(), journal })
    }

    fn work(config: &Config, io: &StageIo, tools: &Tools, case: &ScanCase) -> Result<()> {
        let begun = Instant::now();
        let labelled = label(config, io, tools, case);
        if let Some(journal) = &tools.journal {
            journal.add(config, case, begun.elapsed(), labelled.as_ref().err())?;
        }
        labelled
    }
}

/// The scans. If a name is asked for, the only one has it.
fn named(config: &Config, io: &StageIo, scans: Scans) -> Result<Vec<ScanCase>> {
    let mut cases = scans.some()?;
    let Some(label) = &config.label else { return Ok(cases) };
    let [case] = &mut cases[..] else {
        let images = io.input("images")?.display();
        bail!("{label} is one label map, and {images} holds {} scans; name a folder for label maps", cases.len());
    };
    case.id = dataset::likely_case(Path::new(label));
    files::check_label(config, label)?;
    Ok(cases)
}

/// Writes the label map of one scan, and what else was asked for.
fn label(config: &Config, io: &StageIo, tools: &Tools, case: &ScanCase) -> Result<()> {
    let (model, classes) = (&tools.model, tools.classes(config));
    let source = case.scan.open().map_err(anyhow::Error::from_boxed)?;
    let scan = model.scan(source.clone())?;
    // Either finds out what is wrong with a file before the network is set to work on it.
    let region = if config.exact { model.region(&scan)? } else { scan.body()? };
    stage_kit::note_memory(io, &case.id, inference::HELD, model.held_bytes(&region), inference::LESS);
    let format = files::format(config, case);
    let file = LabelFile { format, scan: &case.scan, source: &*source, classes: &classes, names: config.names };
    let file = file.create(&io.output.join(files::label_name(config, case))).map_err(anyhow::Error::from_boxed)?;
    let (file, kept) = if config.statistics || config.preview { Kept::beside(file, &io.work)? } else { (file, None) };
    let mut back = scan.labels_into(file, &region);
    let mut written = [0; 256];
    classes.iter().for_each(|class| written[usize::from(class.value)] = class.value);
    let mut put = |LabelledPlane { z, labels }: LabelledPlane| -> Result<()> {
        let mut labels = labels.overlaid()?;
        if !config.only.is_empty() {
            labels.iter_mut().for_each(|label| *label = written[usize::from(*label)]);
        }
        Ok(back.add(z, &labels)?)
    };
    let turn = tools.turn.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if config.clean_up || !model.streams() {
        let mut maps = model.label_maps(&scan, &region, !config.exact, &io.work)?;
        drop(turn);
        if let Some(lowest) = maps.maps.first_mut().filter(|_| config.clean_up) {
            let kept = model.kept();
            lowest.keep_parts(|value| if kept.says(value) { Keep::All } else { clean_up::rule(&model.classes().key_of(value)) });
        }
        maps.each_plane(scan.runs_down(), &mut put)?;
    } else {
        model.label(&scan, &region, !config.exact, &io.work, &mut put)?;
        drop(turn);
    }
    io.report.warn(scan.path(), scan.doubt());
    back.finish()?;
    if let Some(kept) = kept {
        look::Look { case, source: &*source, labels: &kept, classes: &classes, all: model.classes() }.write(config, io)?;
    }
    if config.tables {
        files::write_tables(&classes, case, io)?;
    }
    Ok(())
}
