//! One line for each case: what was made of what, how long it took, or why it failed.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Error, Result};
use dataset::ScanCase;
use serde_json::json;
use stage_kit::StageIo;

use crate::Config;
use crate::files::label_name;

/// The file in the output folder. Every run adds to it: first a line about itself, then one for each case as it ends.
pub const JOURNAL_FILE: &str = "journal.jsonl";

/// The open file; a line is in it whole, or not at all.
pub(crate) struct Journal {
    file: Mutex<File>,
    path: PathBuf,
}

impl Journal {
    pub(crate) fn open(config: &Config, io: &StageIo, models: &[PathBuf]) -> Result<Self> {
        let path = io.output.join(JOURNAL_FILE);
        let file = OpenOptions::new().append(true).create(true).open(&path);
        let file = file.with_context(|| format!("cannot open {}", path.display()))?;
        let models: Vec<_> = models
            .iter()
            .map(|model| Ok(json!({"path": model, "blake3": stage_kit::hash_of(&File::open(model)?)?, "metadata": nets::metadata(model)?})))
            .collect::<Result<_>>()?;
        let journal = Self { file: Mutex::new(file), path };
        journal.line(&json!({
            "run": {
                "program": format!("predict {}", version::VERSION),
                "config": config,
                "models": models,
                "device": format!("{:?}", io.device),
                "threads": std::thread::available_parallelism().map_or(0, usize::from),
                "bf16": ops::frozen::bf16_is_fast(),
            }
        }))?;
        Ok(journal)
    }

    pub(crate) fn add(&self, config: &Config, case: &ScanCase, took: Duration, error: Option<&Error>) -> Result<()> {
        let bytes = case.scan.files().iter().map(|file| Some(std::fs::metadata(file).ok()?.len())).sum::<Option<u64>>();
        self.line(&json!({
            "case": case.id,
            "image": case.scan.path(),
            "image_bytes": bytes,
            "labels": label_name(config, case),
            "seconds": took.as_secs_f64(),
            "error": error.map(|error| format!("{error:#}")),
        }))
    }

    fn line(&self, line: &serde_json::Value) -> Result<()> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(format!("{line}\n").as_bytes()).with_context(|| format!("cannot write {}", self.path.display()))
    }
}
