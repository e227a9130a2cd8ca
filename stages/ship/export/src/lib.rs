//! Puts a trained student and what the pipeline file says of inference into one file, which `predict` takes without parameters.
//!
//! What `train-student` writes says all else of itself, and `predict` takes it too.

use anyhow::Result;
use inference::{Student, StudentParams};
use model_card::{MODEL_FILE, WEIGHTS_FILE};
use stage_kit::{Role, Stage, StageIo};

/// The stage `export`.
pub struct Export;

impl Stage for Export {
    const NAME: &'static str = "export";
    const REVISION: u32 = 3;
    const ABOUT: &'static str = "Puts the student and how it is to be used (grid, windows, least parts) into one file for `predict`";
    const READS: &'static [Role] = &[Role::required(
        "student",
        "a folder with weights.safetensors, as train-student writes it, or a file of weights: .safetensors, .pth",
    )];
    const WRITES: &'static str =
        "model.safetensors: the weights, and in the file's metadata what they say of themselves and the parameters";
    const PAPER: &'static str = "2.2, 2.3";
    const EXAMPLE: &'static str = include_str!("../example.yaml");
    type Config = StudentParams;

    fn check(config: &StudentParams) -> Result<()> {
        Ok(config.check()?)
    }

    fn run(config: &StudentParams, io: &StageIo) -> Result<()> {
        let student = io.input("student")?;
        let weights = if student.is_dir() { student.join(WEIGHTS_FILE) } else { student.to_owned() };
        Ok(Student::export(config, &weights, &io.output.join(MODEL_FILE))?)
    }
}
