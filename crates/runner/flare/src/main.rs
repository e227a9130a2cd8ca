//! `flare`: from a folder of partly labelled CT scans to organ and tumor segmentations, with one command.
//!
//! The program links every stage and runs each as a child process of itself, so that one file is all that a machine or
//! an image needs. The pipeline files tell what to run; see `docs/pipeline-files.md`.

mod registry;

use std::process::ExitCode;

use pipeline::cli::{Program, main as program_main};

fn main() -> ExitCode {
    ops::tune_process();
    program_main(&Program {
        name: "flare",
        about: "Segmentation from CT datasets that label different things: the FLARE23 pipeline of Ye, Zheng and Zhang, and others",
        version: version::VERSION,
        stages: registry::STAGES,
        report: report::page,
        init: survey::pipeline_file,
    })
}
