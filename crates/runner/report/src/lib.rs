//! The page of `flare report`: what was asked, what came of it, and where it comes from.
//!
//! One HTML file without scripts that needs no other file and no network. Its size is bounded: scores of many cases are
//! summarised, pictures are few, and of logs only the end is shown. It is written as XML, so that any reader can check it.

mod cases;
mod curves;
mod efficiency;
mod failures;
mod graph;
mod html;
mod left_out;
mod methods;
mod models;
mod pictures;
mod provenance;
mod scores;
mod summary;
mod timeline;

use anyhow::Result;
use pipeline::Snapshot;

use html::Section;

/// The page about a pipeline as it stands.
///
/// # Errors
/// When a result that a record speaks of cannot be read.
pub fn page(seen: &Snapshot<'_>) -> Result<String> {
    let models = models::scored(seen)?;
    let sections: Vec<Section> = [
        Some(summary::section(seen, &models)),
        failures::section(seen),
        left_out::section(seen),
        Some(scores::section(seen, &models)?),
        methods::section(seen)?,
        pictures::section(seen, &models)?,
        curves::section(seen)?,
        Some(graph::section(seen)),
        timeline::section(seen),
        Some(provenance::section(seen)),
    ]
    .into_iter()
    .flatten()
    .collect();
    let (program, version) = seen.program;
    let lead = format!("{} · seed {} · {program} {version} on {}", seen.file.display(), seen.pipeline.seed, date(&seen.taken));
    Ok(html::page(&seen.pipeline.name, &lead, &sections))
}

/// `2026-11-21T09:15:11Z` as people write it.
fn date(utc: &str) -> String {
    utc.replacen('T', " ", 1).replacen('Z', " UTC", 1)
}

/// Seconds as the rest of the program tells them.
fn seconds(seconds: f64) -> String {
    pipeline::duration(std::time::Duration::try_from_secs_f64(seconds).unwrap_or_default())
}
