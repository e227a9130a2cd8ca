//! Where a stage reads and writes, and with what it computes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ranks::Ranks;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::digest::Digested;
use crate::progress::Report;
use crate::sink::Sink;

/// The device that networks run on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceChoice {
    /// A GPU when the build and the machine have one, else the CPU, said aloud.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// A GPU, or an error.
    Cuda,
    /// The same, with products rounded to TF32: faster, and less exact.
    CudaTf32,
}

/// The folder within the output folder for what tells of the work and not of its result, such as how long it took. It is
/// kept and checked with the result and is no part of the result's digest: work that is done once more takes another time,
/// and whoever reads the result reads the same.
pub const ABOUT: &str = "about";

/// What a runner knows of the work that it has planned; nothing where a stage runs alone.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The key of the work.
    pub key: Option<String>,
    /// Digests of inputs, by role.
    pub digests: BTreeMap<String, String>,
}

/// The inputs, the output folder and the surroundings of one run of a stage.
#[derive(Clone, Debug)]
pub struct StageIo {
    /// The name of the node in the pipeline (`M_c`), or of the stage when it runs alone.
    pub node: String,
    /// Role (`dataset`, `predictions.M_1`) → file or folder.
    pub inputs: BTreeMap<String, PathBuf>,
    /// The folder to fill. What an interrupted attempt has finished is still there.
    pub output: PathBuf,
    /// A folder for checkpoints, which outlives interruptions and is dropped after success.
    pub work: PathBuf,
    /// The root of the run's random streams.
    pub seed: u64,
    /// The device for networks.
    pub device: DeviceChoice,
    /// How progress and notes reach the user.
    pub report: Report,
    /// Whether a runner has planned this: its folders belong to this work alone, because their name holds the digests of
    /// parameters and inputs.
    pub planned: bool,
    /// What that runner knows of it.
    pub known: Known,
    /// Where finished cases go, for a stage that works case by case under a runner.
    pub sink: Option<Sink>,
    /// This process among those that do the work together.
    pub ranks: Ranks,
}

impl StageIo {
    /// A run that no runner has planned, by one process, on the device that is there. What differs is set by the fields.
    pub fn new(
        node: impl Into<String>,
        inputs: impl IntoIterator<Item = (impl Into<String>, impl Into<PathBuf>)>,
        output: impl Into<PathBuf>,
        work: impl Into<PathBuf>,
        seed: u64,
    ) -> Self {
        Self {
            node: node.into(),
            inputs: inputs.into_iter().map(|(role, path)| (role.into(), path.into())).collect(),
            output: output.into(),
            work: work.into(),
            seed,
            device: DeviceChoice::default(),
            report: Report::default(),
            planned: false,
            known: Known::default(),
            sink: None,
            ranks: Ranks::default(),
        }
    }

    /// The path behind a role.
    ///
    /// # Errors
    /// When the role was not given, or nothing is there.
    pub fn input(&self, role: &str) -> Result<&Path> {
        self.input_opt(role)?.with_context(|| {
            format!(
                "{}: no input given for role `{role}`; add `--input {role}=PATH`, or `{role}:` under `inputs:` in the pipeline file",
                self.node
            )
        })
    }

    /// The path behind a role that may be left out.
    ///
    /// # Errors
    /// When the role was given but nothing is there.
    pub fn input_opt(&self, role: &str) -> Result<Option<&Path>> {
        let Some(path) = self.inputs.get(role) else { return Ok(None) };
        anyhow::ensure!(
            path.exists(),
            "{}: input `{role}` is {}, and there is nothing at that place; check the path",
            self.node,
            path.display()
        );
        Ok(Some(path))
    }

    /// The digests of all inputs, by role: those that the runner knows, others read now.
    ///
    /// # Errors
    /// Names what cannot be read.
    pub fn digests(&self) -> Result<BTreeMap<String, String>> {
        let digest = |(role, path): (&String, &PathBuf)| match self.known.digests.get(role) {
            Some(digest) => Ok((role.clone(), digest.clone())),
            None => Ok((role.clone(), Digested::of(path)?.digest)),
        };
        self.inputs.iter().map(digest).collect()
    }

    /// The inputs of a role of many, by name: `predictions.M_1` gives `("M_1", path)`.
    #[must_use]
    pub fn inputs_under(&self, role: &str) -> Vec<(&str, &Path)> {
        self.inputs.iter().filter_map(|(key, path)| Some((key.strip_prefix(role)?.strip_prefix('.')?, path.as_path()))).collect()
    }

    /// A folder inside the output folder, made if need be.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn output_folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.output.join(name);
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("cannot make the folder {}; check that the disk has room", folder.display()))?;
        Ok(folder)
    }
}
