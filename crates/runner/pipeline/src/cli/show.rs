//! The verbs that show: `report`, `diff`, `stages`, `schema`, `completions`; and `init`, which writes what the others take.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};
use stage_kit::Entry;

use super::args::{CompletionsArgs, DiffArgs, InitArgs, ReportArgs, StagesArgs};
use super::verbs::{DEFAULT_PIPELINE, Opened, say, unknown_stage};
use super::{DONE, Program};
use crate::Overrides;
use crate::diff::compare;
use crate::draw::{stage_list, stage_table};
use crate::error::Usage;
use crate::graph::Pipeline;
use crate::journal::RunNote;
use crate::plan::Planner;
use crate::schema::schema_text;
use crate::snapshot::{Snapshot, nodes};
use crate::text::{size, utc};

/// `init`.
pub(super) fn init(program: &Program, args: &InitArgs) -> Result<u8> {
    let output = &args.output;
    if output.exists() {
        return Err(Usage(format!("{} is there already; name another file with `-o`, or remove it", output.display())).into());
    }
    let folders: Vec<(String, PathBuf)> = args.folders.iter().map(|(name, path)| (name.clone(), path.into())).collect();
    if let Some((name, path)) = folders.iter().find(|(_, path)| !path.is_dir()) {
        return Err(Usage(format!("{name}={}: there is no such folder; mend the path", path.display())).into());
    }
    let text = (program.init)(&folders, args.spacing).map_err(|error| Usage(format!("{error:#}")))?;
    stage_kit::write_atomic_text(output, &text)?;
    say(&format!("{}: look through it, above all at the lines with `?`; then `{} run -p {0}`\n", output.display(), program.name));
    Ok(DONE)
}

/// `report`.
pub(super) fn report(program: &Program, args: &ReportArgs) -> Result<u8> {
    let opened = Opened::new(program, &args.choice, DEFAULT_PIPELINE)?;
    let file = args.choice.file.pipeline.clone().unwrap_or_else(|| DEFAULT_PIPELINE.into());
    let bytes = write_page(program, &opened, file, &args.output)?;
    say(&format!("{}: {}\n", args.output.display(), size(bytes)));
    Ok(DONE)
}

/// Writes the page about a pipeline file, and says how large it is.
pub(super) fn write_page(program: &Program, opened: &Opened, file: PathBuf, output: &Path) -> Result<u64> {
    let (_, all) = opened.wanted(&[])?;
    let note = |text: String| eprintln!("{text}");
    let planner = Planner::new(&opened.pipeline, &opened.store, &opened.hasher, &note);
    let states = planner.survey(&all)?;
    opened.keep_digests();
    let snapshot = Snapshot {
        pipeline: &opened.pipeline,
        store: &opened.store,
        file,
        nodes: nodes(&planner, &states)?,
        latest_run: RunNote::latest(&opened.pipeline),
        program: (program.name, program.version),
        taken: utc(SystemTime::now()),
    };
    let page = (program.report)(&snapshot)?;
    stage_kit::write_atomic_text(output, &page).with_context(|| format!("cannot write the page {}", output.display()))?;
    Ok(page.len() as u64)
}

/// `diff`.
pub(super) fn diff(program: &Program, args: &DiffArgs) -> Result<u8> {
    let (a, b) = match &args.second {
        Some(second) => (args.first.clone(), second.clone()),
        None => {
            let base = Pipeline::base_of(&args.first)?;
            (base.ok_or_else(|| Usage(format!("{} extends no other file; name two files", args.first.display())))?, args.first.clone())
        }
    };
    let load = |path: &Path| Pipeline::load(path, &Overrides::default(), program.stages);
    let comparison = compare(&load(&a)?, &load(&b)?);
    let same = if comparison.is_empty() { "nothing differs\n" } else { "" };
    say(&format!("{} → {}\n{same}{}", a.display(), b.display(), comparison.text()));
    Ok(DONE)
}

/// `stages`.
pub(super) fn stages(program: &Program, args: &StagesArgs) -> Result<u8> {
    say(&match &args.stage {
        None if args.markdown => stage_table(program.name, program.stages),
        None => stage_list(program.name, program.stages),
        Some(name) => {
            let stage = program.stage(name).ok_or_else(|| Usage(unknown_stage(program, name)))?;
            manual(stage)
        }
    });
    Ok(DONE)
}

/// What a stage does, reads and writes, every parameter, and an example.
pub(super) fn manual(stage: &Entry) -> String {
    format!("{}: {}\n\n{}", stage.name, stage.about, stage.manual())
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
