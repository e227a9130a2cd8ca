//! Checkpoints that a kill at any moment cannot spoil.
//!
//! A folder holds one generation: `weights-N.safetensors`, `optimizer-N.safetensors`, `best-M.safetensors` and
//! `state.json`. A new generation's tensors are written under new names first; then `state.json`, which names them, is
//! replaced in one step; only then the old ones go. Whatever moment a reader finds, `state.json` names whole files.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use crc32c::crc32c;
use serde::{Deserialize, Serialize};

use crate::curves::CurveRow;
use crate::exact;
use crate::loader::Position;

/// The file that names all others.
pub const STATE_FILE: &str = "state.json";

/// Tensors by name.
pub type Tensors = BTreeMap<String, Tensor>;

/// Where a training stands, besides its tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingState {
    /// The next batch. A step beyond the epoch's last means that the epoch's validation is next.
    pub position: Position,
    /// Steps of the optimizer.
    pub optimizer_steps: u64,
    /// Sum over the samples of this epoch of the training loss.
    #[serde(with = "exact")]
    pub loss_sum: f64,
    /// Samples of this epoch so far.
    pub samples: u64,
    /// Wall time of this epoch so far.
    #[serde(with = "exact")]
    pub seconds: f64,
    /// The best epoch so far.
    pub best: Option<Best>,
    /// All epochs so far.
    pub curve: Vec<CurveRow>,
    /// Length of the event file in bytes.
    pub event_bytes: u64,
}

impl TrainingState {
    /// The state before the first step.
    #[must_use]
    pub fn start() -> Self {
        Self {
            position: Position { epoch: 0, step: 0 },
            optimizer_steps: 0,
            loss_sum: 0.0,
            samples: 0,
            seconds: 0.0,
            best: None,
            curve: Vec::new(),
            event_bytes: 0,
        }
    }
}

/// The best epoch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Best {
    /// Counted from 1.
    pub epoch: u64,
    /// Its validation loss or Dice score, whichever is selected by.
    #[serde(with = "exact")]
    pub score: f64,
}

/// A checkpoint that was read.
#[derive(Debug)]
pub struct Checkpoint {
    /// Where training stood.
    pub state: TrainingState,
    /// Every parameter.
    pub weights: Tensors,
    /// The optimizer's moments.
    pub optimizer: Tensors,
}

/// Why a checkpoint cannot be used or written.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// A file is missing, cut or altered.
    #[error("the checkpoint file {path} cannot be used: {reason}; delete the folder {folder} to train from the beginning")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found and expected.
        reason: String,
        /// The folder of the checkpoint.
        folder: PathBuf,
    },
    /// A checkpoint of a training with other parameters or inputs.
    #[error(
        "the checkpoint in {folder} is of another training: it has {found}, and this one {expected}; \
         give another work folder, or delete this one to train from the beginning"
    )]
    OtherRun {
        /// The folder of the checkpoint.
        folder: PathBuf,
        /// Where its identity differs.
        found: String,
        /// What stands there in this run.
        expected: String,
    },
    /// A file cannot be written.
    #[error("cannot write the checkpoint: {0}")]
    Write(String),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StateFile {
    identity: String,
    generation: u64,
    weights: FileRecord,
    optimizer: FileRecord,
    best: Option<FileRecord>,
    state: TrainingState,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileRecord {
    name: String,
    bytes: u64,
    crc32c: u32,
}

/// A checkpoint folder of one training, told by its identity (parameters, seed, inputs).
pub struct CheckpointFolder {
    folder: PathBuf,
    identity: String,
    generation: u64,
    best: Option<FileRecord>,
}

impl CheckpointFolder {
    /// Opens `folder` and reads its checkpoint, if there is one.
    ///
    /// # Errors
    /// When the checkpoint is damaged or of a training with another `identity`.
    pub fn open(folder: &Path, identity: &str) -> Result<(Self, Option<Checkpoint>), CheckpointError> {
        let mut this = Self { folder: folder.into(), identity: identity.into(), generation: 0, best: None };
        let path = folder.join(STATE_FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok((this, None)),
            Err(error) => return Err(this.damaged(&path, error.to_string())),
        };
        let file: StateFile = serde_json::from_str(&text).map_err(|error| this.damaged(&path, error.to_string()))?;
        if file.identity != identity {
            let (found, expected) = difference(&file.identity, identity);
            return Err(CheckpointError::OtherRun { folder: folder.into(), found, expected });
        }
        let weights = this.read(&file.weights)?;
        let optimizer = this.read(&file.optimizer)?;
        this.generation = file.generation;
        this.best = file.best;
        Ok((this, Some(Checkpoint { state: file.state, weights, optimizer })))
    }

    /// Writes the next generation. With `is_best` the weights are also kept as the best ones.
    ///
    /// # Errors
    /// When a file cannot be written; the previous generation stays usable then.
    pub fn save(&mut self, state: &TrainingState, weights: &Tensors, optimizer: &Tensors, is_best: bool) -> Result<(), CheckpointError> {
        let generation = self.generation + 1;
        let weight_bytes = serialized(weights)?;
        let file = StateFile {
            identity: self.identity.clone(),
            generation,
            weights: self.write(format!("weights-{generation}.safetensors"), &weight_bytes)?,
            optimizer: self.write(format!("optimizer-{generation}.safetensors"), &serialized(optimizer)?)?,
            best: if is_best { Some(self.write(format!("best-{generation}.safetensors"), &weight_bytes)?) } else { self.best.clone() },
            state: state.clone(),
        };
        let text = serde_json::to_string_pretty(&file).map_err(|error| CheckpointError::Write(error.to_string()))?;
        self.sync_folder()?;
        stage_kit::write_atomic_text(&self.folder.join(STATE_FILE), &text).map_err(|error| CheckpointError::Write(format!("{error:#}")))?;
        // The new names must be on disk before the old files go.
        self.sync_folder()?;
        self.generation = generation;
        self.remove_others(&file);
        self.best = file.best;
        Ok(())
    }

    /// The best weights so far.
    ///
    /// # Errors
    /// When the file is damaged.
    pub fn best(&self) -> Result<Option<Tensors>, CheckpointError> {
        self.best.as_ref().map(|record| self.read(record)).transpose()
    }

    fn write(&self, name: String, bytes: &[u8]) -> Result<FileRecord, CheckpointError> {
        stage_kit::write_atomic(&self.folder.join(&name), |file| Ok(file.write_all(bytes)?))
            .map_err(|error| CheckpointError::Write(format!("{error:#}")))?;
        Ok(FileRecord { name, bytes: bytes.len() as u64, crc32c: crc32c(bytes) })
    }

    fn read(&self, record: &FileRecord) -> Result<Tensors, CheckpointError> {
        let path = self.folder.join(&record.name);
        let bytes = std::fs::read(&path).map_err(|error| self.damaged(&path, error.to_string()))?;
        if bytes.len() as u64 != record.bytes {
            return Err(self.damaged(&path, format!("it has {} bytes instead of {}", bytes.len(), record.bytes)));
        }
        if crc32c(&bytes) != record.crc32c {
            return Err(self.damaged(&path, "its contents have changed since it was written".into()));
        }
        let tensors =
            candle_core::safetensors::load_buffer(&bytes, &Device::Cpu).map_err(|error| self.damaged(&path, error.to_string()))?;
        Ok(tensors.into_iter().collect())
    }

    fn damaged(&self, path: &Path, reason: String) -> CheckpointError {
        CheckpointError::Damaged { path: path.into(), reason, folder: self.folder.clone() }
    }

    fn sync_folder(&self) -> Result<(), CheckpointError> {
        std::fs::File::open(&self.folder)
            .and_then(|folder| folder.sync_all())
            .map_err(|error| CheckpointError::Write(format!("{}: {error}", self.folder.display())))
    }

    /// Removes older generations and what interrupted writers left. A file that stays costs room and nothing else.
    fn remove_others(&self, keep: &StateFile) {
        let names = [Some(&keep.weights), Some(&keep.optimizer), keep.best.as_ref()];
        let kept = |name: &str| name == STATE_FILE || names.iter().flatten().any(|record| record.name == name);
        for entry in std::fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let ours = name.starts_with(".writing-") || name.ends_with(".safetensors");
            if ours && !kept(&name) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}

fn serialized(tensors: &Tensors) -> Result<Vec<u8>, CheckpointError> {
    safetensors::serialize(tensors, None).map_err(|error| CheckpointError::Write(error.to_string()))
}

/// The parts of two identities around the first place where they differ.
fn difference(found: &str, expected: &str) -> (String, String) {
    let same = found.chars().zip(expected.chars()).take_while(|(a, b)| a == b).count();
    let part = |text: &str| format!("`…{}…`", text.chars().skip(same.saturating_sub(30)).take(70).collect::<String>());
    (part(found), part(expected))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::curves::tests::row;

    fn tensors(value: f32) -> Tensors {
        BTreeMap::from([("layer.weight".into(), Tensor::new(&[value, -value], &Device::Cpu).unwrap())])
    }

    fn state(step: u64) -> TrainingState {
        let best = Some(Best { epoch: 1, score: 1.0 / 3.0 });
        TrainingState { position: Position { epoch: 1, step }, loss_sum: 0.1 + 0.2, best, curve: vec![row(1)], ..TrainingState::start() }
    }

    fn values(tensors: &Tensors) -> Vec<f32> {
        tensors["layer.weight"].to_vec1().unwrap()
    }

    fn copy(from: &Path, to: &Path) {
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }

    #[test]
    fn a_checkpoint_comes_back_to_the_bit_with_its_best_weights() {
        let folder = tempfile::tempdir().unwrap();
        let (mut checkpoints, none) = CheckpointFolder::open(folder.path(), "run").unwrap();
        assert!(none.is_none());
        checkpoints.save(&state(1), &tensors(1.0), &tensors(10.0), true).unwrap();
        checkpoints.save(&state(2), &tensors(2.0), &tensors(20.0), false).unwrap();
        let (checkpoints, found) = CheckpointFolder::open(folder.path(), "run").unwrap();
        let found = found.unwrap();
        assert_eq!(found.state, state(2));
        assert_eq!((values(&found.weights), values(&found.optimizer)), (vec![2.0, -2.0], vec![20.0, -20.0]));
        assert_eq!(values(&checkpoints.best().unwrap().unwrap()), [1.0, -1.0]);
    }

    #[test]
    fn only_one_generation_stays_on_disk() {
        let folder = tempfile::tempdir().unwrap();
        let (mut checkpoints, _) = CheckpointFolder::open(folder.path(), "run").unwrap();
        std::fs::write(folder.path().join(".writing-left"), "half").unwrap();
        for step in 0..4 {
            checkpoints.save(&state(step), &tensors(1.0), &tensors(1.0), step == 1).unwrap();
        }
        let mut names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names, ["best-2.safetensors", "optimizer-4.safetensors", "state.json", "weights-4.safetensors"]);
    }

    /// A kill can leave any prefix of the writes of a generation: some of the new files whole, one of them under its
    /// temporary name, `state.json` still the old one; or everything written and nothing removed.
    #[test]
    fn a_kill_between_any_two_writes_leaves_a_usable_checkpoint() {
        let (before, after) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (mut checkpoints, _) = CheckpointFolder::open(before.path(), "run").unwrap();
        checkpoints.save(&state(1), &tensors(1.0), &tensors(10.0), true).unwrap();
        copy(before.path(), after.path());
        let (mut checkpoints, _) = CheckpointFolder::open(after.path(), "run").unwrap();
        checkpoints.save(&state(2), &tensors(2.0), &tensors(20.0), true).unwrap();

        let order = ["weights-2.safetensors", "optimizer-2.safetensors", "best-2.safetensors", STATE_FILE];
        for written in 0..=order.len() {
            let killed = tempfile::tempdir().unwrap();
            copy(before.path(), killed.path());
            for name in &order[..written] {
                std::fs::copy(after.path().join(name), killed.path().join(name)).unwrap();
            }
            std::fs::write(killed.path().join(".writing-x"), "torn").unwrap();
            let (mut checkpoints, found) = CheckpointFolder::open(killed.path(), "run").unwrap();
            let step = if written == order.len() { 2 } else { 1 };
            assert_eq!(found.unwrap().state, state(step), "{written} files written");
            assert_eq!(values(&checkpoints.best().unwrap().unwrap())[0], step as f32);
            // Training goes on from here, and the leftovers do not stand in the way.
            checkpoints.save(&state(3), &tensors(3.0), &tensors(30.0), false).unwrap();
            assert_eq!(CheckpointFolder::open(killed.path(), "run").unwrap().1.unwrap().state, state(3));
            assert_eq!(std::fs::read_dir(killed.path()).unwrap().count(), 4);
        }
    }

    #[test]
    fn damage_is_named_with_its_file_and_a_remedy() {
        type Spoil = fn(&mut Vec<u8>);
        let damage: [(&str, Spoil); 4] = [
            ("weights-1.safetensors", |bytes| bytes.truncate(bytes.len() - 1)),
            ("optimizer-1.safetensors", |bytes| *bytes.last_mut().unwrap() ^= 1),
            (STATE_FILE, |bytes| bytes.truncate(bytes.len() / 2)),
            ("best-1.safetensors", |bytes| bytes[20] ^= 1),
        ];
        for (name, spoil) in damage {
            let folder = tempfile::tempdir().unwrap();
            let (mut checkpoints, _) = CheckpointFolder::open(folder.path(), "run").unwrap();
            checkpoints.save(&state(1), &tensors(1.0), &tensors(1.0), true).unwrap();
            let path = folder.path().join(name);
            let mut bytes = std::fs::read(&path).unwrap();
            spoil(&mut bytes);
            std::fs::write(&path, bytes).unwrap();
            let error = match CheckpointFolder::open(folder.path(), "run") {
                Err(error) => error,
                Ok((checkpoints, _)) => checkpoints.best().unwrap_err(),
            };
            let error = error.to_string();
            assert!(error.contains(name) && error.contains("delete the folder"), "{error}");
        }
    }

    #[test]
    fn a_checkpoint_of_another_training_is_refused_and_the_difference_shown() {
        let folder = tempfile::tempdir().unwrap();
        let (mut checkpoints, _) = CheckpointFolder::open(folder.path(), r#"{"epochs":20,"seed":1}"#).unwrap();
        checkpoints.save(&state(1), &tensors(1.0), &tensors(1.0), true).unwrap();
        let error = CheckpointFolder::open(folder.path(), r#"{"epochs":30,"seed":1}"#).err().unwrap().to_string();
        assert!(error.contains(r#"{"epochs":20"#) && error.contains(r#"{"epochs":30"#), "{error}");
    }
}
