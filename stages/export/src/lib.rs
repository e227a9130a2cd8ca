//! Puts a trained student and all that inference must know of it into one file, which is what `predict` takes.

use std::collections::BTreeMap;

use anyhow::Result;
use inference::{MODEL_FILE, Student, StudentParams};
use labels::CLASS_KEYS;
use stage_kit::{Role, Stage, StageIo};

/// The stage `export`.
pub struct Export;

impl Stage for Export {
    const NAME: &'static str = "export";
    const REVISION: u32 = 2;
    const ABOUT: &'static str = "Puts the student's weights, grid, windows and classes into one file for `predict`";
    const READS: &'static [Role] = &[Role::required(
        "student",
        "a folder with weights.safetensors, as train-student writes it, or a file of weights: .safetensors, .pth",
    )];
    const WRITES: &'static str = "model.safetensors, its config in the file's metadata";
    const PAPER: &'static str = "2.2, 2.3";
    type Config = StudentParams;

    fn check(config: &StudentParams) -> Result<()> {
        Ok(config.check()?)
    }

    fn run(config: &StudentParams, io: &StageIo) -> Result<()> {
        let student = io.input("student")?;
        let weights = if student.is_dir() { student.join("weights.safetensors") } else { student.to_owned() };
        let student = Student::load(config, &weights, &nets::device(io.device)?)?;
        // What training says of its best epoch goes along.
        let mut metadata: BTreeMap<String, String> = nets::metadata(&weights)?.into_iter().collect();
        metadata.insert("classes".into(), serde_json::to_string(&CLASS_KEYS)?);
        Ok(student.save(&io.output.join(MODEL_FILE), metadata)?)
    }
}
