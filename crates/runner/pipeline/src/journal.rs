//! What the latest run of a pipeline that did something was asked for and came to, kept beside its results for those who look later.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::graph::Pipeline;
use crate::run::Summary;

/// One call of `run` that did something.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunNote {
    /// The nodes that were named; none for all.
    pub asked: Vec<String>,
    /// When it began, in UTC.
    pub started: String,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// How many nodes had their result already.
    pub fresh: usize,
    /// The nodes that were run.
    pub done: Vec<String>,
    /// The nodes that failed.
    pub failed: Vec<String>,
    /// How many nodes were left because of others.
    pub left: usize,
    /// Whether it was asked to stop.
    pub interrupted: bool,
}

impl RunNote {
    /// The note of a run that has ended; none of one that found nothing to do, which changes no file.
    pub(crate) fn of(asked: &[String], started: String, seconds: f64, summary: &Summary) -> Option<Self> {
        let Summary { fresh, done, failed, left, interrupted, .. } = summary.clone();
        let failed: Vec<String> = failed.into_iter().map(|(name, _)| name).collect();
        let idle = done.is_empty() && failed.is_empty() && !interrupted;
        (!idle).then(|| Self { asked: asked.to_vec(), started, seconds, fresh, done, failed, left, interrupted })
    }

    /// Keeps it as the pipeline's latest. It is not synced: a note that a power failure tears is no note.
    pub(crate) fn keep(&self, pipeline: &Pipeline) -> Result<()> {
        let path = path(pipeline);
        let temporary = path.with_extension(format!("json.{}", std::process::id()));
        let write = || -> Result<()> {
            std::fs::create_dir_all(pipeline.store.join(FOLDER))?;
            std::fs::write(&temporary, serde_json::to_string_pretty(self)?)?;
            Ok(std::fs::rename(&temporary, &path)?)
        };
        write().with_context(|| format!("cannot note this run in {}", path.display()))
    }

    /// The pipeline's latest; `None` when there is none that this version can read.
    #[must_use]
    pub fn latest(pipeline: &Pipeline) -> Option<Self> {
        serde_json::from_str(&std::fs::read_to_string(path(pipeline)).ok()?).ok()
    }
}

/// Below the store.
const FOLDER: &str = "runs";

fn path(pipeline: &Pipeline) -> PathBuf {
    pipeline.store.join(FOLDER).join(format!("{}.json", pipeline.name))
}
