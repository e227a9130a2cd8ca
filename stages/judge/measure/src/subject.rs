//! What is measured.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use containers::Engine;
use efficiency::{Meter, Run};
use stage_kit::{Digested, StageIo};

use crate::Config;

/// A program, or an image and the engine that runs it.
pub(crate) enum Subject {
    Program { path: PathBuf, model: Option<PathBuf>, arguments: Vec<String> },
    Image { engine: Engine, image: String, memory: String, gpu: u32 },
}

const ARCHIVE: &str = ".tar.gz";

impl Subject {
    pub(crate) fn of(config: &Config, io: &StageIo) -> Result<Self> {
        match (io.input_opt("program")?, io.input_opt("submission")?) {
            (Some(program), None) => {
                let path = std::path::absolute(program)?;
                let file = |model: &Path| std::path::absolute(model_card::model_file(model));
                let model = io.input_opt("model")?.map(file).transpose()?;
                Ok(Self::Program { path, model, arguments: config.arguments.clone() })
            }
            (None, Some(submission)) => {
                let archive = archive(submission)?;
                let engine = Engine::find(config.engine).context("an image is run by a container engine")?;
                let image = engine.load(&archive)?;
                Ok(Self::Image { engine, image, memory: config.memory.clone(), gpu: config.gpu })
            }
            _ => bail!("give one of the inputs `program` and `submission`: what is to be measured"),
        }
    }

    pub(crate) fn name(&self) -> String {
        match self {
            Self::Program { path, .. } => format!("the program {}", path.file_name().unwrap_or_default().display()),
            Self::Image { engine, image, .. } => format!("the image {image} by {}", engine.name()),
        }
    }

    /// What tells this subject from another.
    pub(crate) fn identity(&self) -> Result<String> {
        match self {
            Self::Program { path, model, arguments } => {
                let model = model.as_ref().map(|model| Digested::of(model).map(|model| model.digest)).transpose()?;
                Ok(format!("{} {arguments:?} {model:?}", Digested::of(path)?.digest))
            }
            Self::Image { engine, image, .. } => Ok(engine.manifest(image)?.id),
        }
    }

    /// Runs one case, from the folder of the scan to that of the label map.
    pub(crate) fn run(&self, meter: &Meter<'_>, inputs: &Path, outputs: &Path) -> Result<Run> {
        match self {
            Self::Program { path, model, arguments } => {
                let mut command = Command::new(path);
                command.args([inputs, outputs]).args(arguments);
                if let Some(model) = model {
                    command.arg("--model").arg(model);
                }
                Ok(meter.run(command, Some, || {})?)
            }
            Self::Image { engine, image, memory, gpu } => {
                let name = format!("measured-{}", std::process::id());
                let mounts =
                    [(inputs, "inputs"), (outputs, "outputs")].map(|(folder, at)| format!("{}:/workspace/{at}/", folder.display()));
                let device = format!("device={gpu}");
                let mut arguments = vec!["container", "run", "--rm", "--name", &name, "--network", "none"];
                arguments.extend(["--memory", memory, "--shm-size", memory, "--volume", &mounts[0], "--volume", &mounts[1]]);
                if meter.gpu.is_some() {
                    arguments.extend(["--gpus", &device]);
                }
                arguments.extend([image, "/bin/bash", "-c", "sh predict.sh"]);
                let run = meter.run(engine.command(&arguments), |_| engine.process(&name), || engine.remove(&name))?;
                // A short one may have ended before it was found.
                let unseen = run.samples.len() > 20 && run.samples.iter().all(|sample| sample.ram_mb == 0.0);
                ensure!(!unseen, "no process of the container was seen here; measure on the machine on which {} runs it", engine.name());
                Ok(run)
            }
        }
    }
}

/// The archive itself, or the only one of a folder.
fn archive(submission: &Path) -> Result<PathBuf> {
    if submission.is_file() {
        return Ok(submission.to_owned());
    }
    let list = std::fs::read_dir(submission).with_context(|| format!("cannot list {}", submission.display()))?;
    let mut found: Vec<PathBuf> = list.filter_map(|entry| Some(entry.ok()?.path())).collect();
    found.retain(|path| path.to_string_lossy().ends_with(ARCHIVE));
    match found.pop() {
        Some(only) if found.is_empty() => Ok(only),
        _ => bail!("{} must hold one file *{ARCHIVE}, as the stage `submission` writes it", submission.display()),
    }
}
