//! The verbs that show: `report`, `diff`, `schema`, `completions`; and `init`, which writes what the others take.

use std::path::PathBuf;
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};

use super::args::{Choice, CompletionsArgs, DiffArgs, InitArgs, ReportArgs};
use super::verbs::{DEFAULT_PIPELINE, Opened, overrides, say};
use super::{DONE, Program};
use crate::diff::compare;
use crate::graph::Pipeline;
use crate::journal::RunNote;
use crate::plan::Planner;
use crate::schema::schema_text;
use crate::snapshot::{Snapshot, nodes};
use crate::text::{size, utc};

/// `init`.
pub(super) fn init(program: &Program, args: &InitArgs) -> Result<u8> {
    let output = &args.output;
    ensure!(!output.exists(), "{} is there already; name another file with `-o`, or remove it", output.display());
    let folders: Vec<(String, PathBuf)> = args.folders.iter().map(|(name, path)| (name.clone(), path.into())).collect();
    stage_kit::write_atomic_text(output, &(program.init)(&folders)?)?;
    say(&format!("{}: look through it, above all at the lines with `?`; then `{} run -p {0}`\n", output.display(), program.name));
    Ok(DONE)
}

/// `report`.
pub(super) fn report(program: &Program, choice: &Choice, args: &ReportArgs) -> Result<u8> {
    let opened = Opened::new(program, choice, DEFAULT_PIPELINE)?;
    let (_, all) = opened.wanted(&[])?;
    let note = |text: String| eprintln!("{text}");
    let planner = Planner::new(&opened.pipeline, &opened.store, &opened.hasher, &note);
    let states = planner.survey(&all)?;
    opened.keep_digests();
    let snapshot = Snapshot {
        pipeline: &opened.pipeline,
        store: &opened.store,
        file: choice.pipeline.clone().unwrap_or_else(|| DEFAULT_PIPELINE.into()),
        nodes: nodes(&planner, &states)?,
        latest_run: RunNote::latest(&opened.pipeline),
        program: (program.name, program.version),
        taken: utc(SystemTime::now()),
    };
    let page = (program.report)(&snapshot)?;
    stage_kit::write_atomic_text(&args.output, &page).with_context(|| format!("cannot write the page {}", args.output.display()))?;
    say(&format!("{}: {}\n", args.output.display(), size(page.len() as u64)));
    Ok(DONE)
}

/// `diff`.
pub(super) fn diff(program: &Program, choice: &Choice, args: &DiffArgs) -> Result<u8> {
    let overrides = overrides(choice);
    let (a, b) = match &args.second {
        Some(second) => (args.first.clone(), second.clone()),
        None => {
            let base = Pipeline::base_of(&args.first)?;
            (base.with_context(|| format!("{} extends no other file; name two files", args.first.display()))?, args.first.clone())
        }
    };
    let comparison = compare(&Pipeline::load(&a, &overrides, program.stages)?, &Pipeline::load(&b, &overrides, program.stages)?);
    let same = if comparison.is_empty() { "nothing differs\n" } else { "" };
    say(&format!("{} → {}\n{same}{}", a.display(), b.display(), comparison.text()));
    Ok(DONE)
}

/// `completions`.
pub(super) fn completions(mut command: clap::Command, args: &CompletionsArgs) -> Result<u8> {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, name, &mut script);
    say(&String::from_utf8(script)?);
    Ok(DONE)
}

/// `schema`.
pub(super) fn schema(program: &Program) -> Result<u8> {
    say(&schema_text(program.name, program.stages));
    Ok(DONE)
}
