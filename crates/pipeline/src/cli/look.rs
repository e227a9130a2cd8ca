//! The verbs for those who look and compare, and run nothing.

use std::time::SystemTime;

use anyhow::{Context, Result};

use super::args::{Choice, ReportArgs};
use super::verbs::{DEFAULT_PIPELINE, Opened, reasons, say};
use super::{DONE, Program};
use crate::journal::RunNote;
use crate::plan::Planner;
use crate::schema::schema_text;
use crate::snapshot::{Snapshot, nodes};
use crate::text::{size, utc};

/// `report`.
pub(super) fn report(program: &Program, choice: &Choice, args: &ReportArgs) -> Result<u8> {
    let opened = Opened::new(program, choice, DEFAULT_PIPELINE)?;
    let (_, all) = opened.wanted(&[])?;
    let note = |text: String| eprintln!("{text}");
    let planner = Planner::new(&opened.pipeline, &opened.store, &opened.hasher, &note);
    let states = planner.survey(&all)?;
    opened.hasher.save()?;
    let snapshot = Snapshot {
        pipeline: &opened.pipeline,
        store: &opened.store,
        file: choice.pipeline.clone().unwrap_or_else(|| DEFAULT_PIPELINE.into()),
        nodes: nodes(&opened.pipeline, &opened.store, &states, |index| reasons(&planner, index, &states))?,
        latest_run: RunNote::latest(&opened.pipeline),
        program: (program.name, program.version),
        taken: utc(SystemTime::now()),
    };
    let page = (program.report)(&snapshot)?;
    stage_kit::write_atomic_text(&args.output, &page).with_context(|| format!("cannot write the page {}", args.output.display()))?;
    say(&format!("{}: {}\n", args.output.display(), size(page.len() as u64)));
    Ok(DONE)
}

/// `schema`.
pub(super) fn schema(program: &Program) -> Result<u8> {
    say(&schema_text(program.name, program.stages));
    Ok(DONE)
}
