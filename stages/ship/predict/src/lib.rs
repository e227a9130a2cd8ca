//! From CT scans to label maps in one process, as a challenge calls it (paper 2.2 to 2.4): what `segment`, `overlay` and
//! `resample-back` do one after another, without their files and, unless `exact` is asked for, without looking at what
//! lies outside the patient.

mod clean_up;
mod journal;
mod look;

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Instant;

use anyhow::Result;
use dataset::{ImageFile, Naming};
use inference::{LabelledPlane, Manner, Model};
use model_card::model_file;
use nets::Precision;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use stage_kit::{Aside, ByCase, CaseSpec, CaseStage, Role, Stage, StageIo};
use volume::Scan;

pub use journal::JOURNAL_FILE;

/// The parameters of `predict`. What the model says of itself holds, but for what is said here.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Turns every shortcut off: single precision, and the student is shown what it was shown in training, the
    /// foreground or all of the scan. Without it: the fastest numbers of the machine, the box around the patient, and
    /// no look at slices and windows of nothing but air.
    pub exact: bool,
    /// The numbers to compute with, in place of the fastest (`auto`) or, with `exact`, of `f32`.
    pub precision: Option<Precision>,
    /// Takes the mean over each slice and its three mirror images, or each window of a volume and its seven: so many times the work,
    /// and for models alone that were trained on mirror images. The paper's are not: the demonstration's students lose a third of
    /// their organ DSC by it.
    pub flips: bool,
    /// Removes small parts of the model's first group, as the winner of FLARE23 does: of `liver`, `spleen`, `pancreas`,
    /// `right_adrenal`, `left_adrenal` and `stomach` everything but the largest part, of `right_kidney`, `left_kidney` and
    /// `gallbladder` what is below a tenth of it. Off in the paper.
    pub clean_up: bool,
    /// Writes CASE.png with slices of the scan and the labels on them.
    pub preview: bool,
    /// Writes CASE.json with volume and mean HU of every class.
    pub statistics: bool,
    /// Adds a line for each case to `journal.jsonl`: what it was made of, how long it took, or why it failed.
    pub journal: bool,
}

/// The stage `predict`.
pub struct Predict;

impl Stage for Predict {
    const NAME: &'static str = "predict";
    const REVISION: u32 = 5;
    const ABOUT: &'static str = "Labels CT scans with trained models: segment, overlay and resample-back in one go";
    const READS: &'static [Role] = &[
        Role::required("images", "a folder of CT scans, CASE_0000.nii.gz, or one such file").by_case(),
        Role::required("model", "a file as `export` or a training writes it, or the folder that it is in"),
        Role {
            required: false,
            ..Role::many("also", "more models: the mean of those that find the same counts, and others add their groups on top")
        },
    ];
    const WRITES: &'static str =
        "CASE.nii.gz in the values of the model's classes, with the grid and header of its image; CASE.png and CASE.json if asked for";
    const PAPER: &'static str = "2.2 to 2.4";
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

impl CaseStage for Predict {
    type Job = ImageFile;
    type Tools = Tools;

    fn jobs(_: &Config, io: &StageIo) -> Result<Vec<ImageFile>> {
        Ok(dataset::images_at(io.input("images")?)?.some(Naming::Images)?)
    }

    fn aside(_: &Config, io: &StageIo) -> Result<Aside> {
        Ok(dataset::images_at(io.input("images")?)?.apart_from(&io.output).aside)
    }

    const KEEPS_LEFT_OUT: bool = false;

    fn case(config: &Config, case: &ImageFile) -> CaseSpec {
        let more = [(config.preview, "png"), (config.statistics, "json")];
        let more = more.into_iter().filter(|(asked, _)| *asked).map(|(_, ending)| format!("{}.{ending}", case.id));
        CaseSpec::of(&case.id).reads("image", &case.path).writes(std::iter::once(case.label_name()).chain(more).collect::<Vec<_>>())
    }

    fn tools(config: &Config, io: &StageIo) -> Result<Tools> {
        let mut models: Vec<PathBuf> = vec![model_file(io.input("model")?)];
        models.extend(io.inputs_under("also").into_iter().map(|(_, path)| model_file(path)));
        let fastest = if config.exact { Precision::F32 } else { Precision::Auto };
        let manner = Manner { precision: Some(config.precision.unwrap_or(fastest)), flips: config.flips, partial: Some(partial::open) };
        let model = Model::open(&models, &manner, &nets::device(io.device)?)?;
        let journal = if config.journal { Some(journal::Journal::open(config, io, &models)?) } else { None };
        Ok(Tools { model, turn: Mutex::default(), journal })
    }

    fn work(config: &Config, io: &StageIo, tools: &Tools, case: &ImageFile) -> Result<()> {
        let begun = Instant::now();
        let labelled = label(config, io, tools, case).and_then(|()| look::look(config, io, tools.model.classes(), case));
        if let Some(journal) = &tools.journal {
            journal.add(case, begun.elapsed(), labelled.as_ref().err())?;
        }
        labelled
    }
}

/// Writes the label map of one scan.
fn label(config: &Config, io: &StageIo, tools: &Tools, case: &ImageFile) -> Result<()> {
    let model = &tools.model;
    let scan = Scan::open(&case.path, model.grid())?;
    // Either finds out what is wrong with a file before the network is set to work on it.
    let region = if config.exact { model.region(&scan)? } else { scan.body()? };
    stage_kit::note_memory(io, &case.id, inference::HELD, model.held_bytes(&region), inference::LESS);
    let mut back = scan.labels_to(&io.output.join(case.label_name()), &region)?;
    let mut put = |LabelledPlane { z, labels }: LabelledPlane| -> Result<()> { Ok(back.add(z, &labels.overlaid()?)?) };
    let turn = tools.turn.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if config.clean_up || !model.streams() {
        let mut maps = model.label_maps(&scan, &region, !config.exact, &io.work)?;
        drop(turn);
        if let Some(lowest) = maps.maps.first_mut().filter(|_| config.clean_up) {
            lowest.keep_parts(|value| clean_up::rule(&model.classes().key_of(value)));
        }
        maps.each_plane(scan.runs_down(), &mut put)?;
    } else {
        model.label(&scan, &region, !config.exact, &io.work, &mut put)?;
        drop(turn);
    }
    io.report.warn(scan.path(), scan.doubt());
    Ok(back.finish()?)
}
