//! The verb `demo`: runs a pipeline file on synthetic patients, and shows what came out.

use std::path::Path;

use anyhow::{Context as _, Result};

use super::args::{DemoArgs, RunArgs};
use super::show::write_page;
use super::verbs::{DEMO_PIPELINE, Opened, run_opened, say};
use super::{DONE, Program, WRONG};

/// `demo`.
pub(super) fn demo(program: &Program, args: &DemoArgs) -> Result<u8> {
    if args.choice.file.pipeline.is_none() && !Path::new(DEMO_PIPELINE).is_file() {
        eprintln!(
            "error: there is no {DEMO_PIPELINE} here; run the demonstration in the project's folder, or name the file with --pipeline"
        );
        return Ok(WRONG);
    }
    let opened = Opened::to_run(program, &args.choice, &args.how, DEMO_PIPELINE)?;
    let (choice, how) = (args.choice.clone(), args.how.clone());
    let run = RunArgs { choice, how, ..RunArgs::default() };
    let (code, summary) = run_opened(program, &opened, &run)?;
    if code != DONE {
        return Ok(code);
    }
    if let Some(last) = opened.pipeline.nodes.iter().rfind(|node| node.stage.name == "evaluate") {
        say_scores(&opened.store.result(&last.name))?;
    }
    if let Some(model) = opened.pipeline.nodes.iter().find(|node| node.stage.name == "export") {
        let file = opened.store.result(&model.name).join("model.safetensors");
        say(&format!("A model for your own scans: predict SCANS LABELS --model {}\n", file.display()));
    }
    let file = args.choice.file.pipeline.clone().unwrap_or_else(|| DEMO_PIPELINE.into());
    let page = std::env::current_dir().context("cannot find the current folder")?.join("report.html");
    write_page(program, &opened, file, &page)?;
    say(&format!("All of it on one page: {}\n", page.display()));
    if summary.done.is_empty() {
        say("Nothing had changed, so nothing was run.\n");
    } else {
        say(&format!("Run `{} demo` once more: nothing has changed, and nothing will be run.\n", program.name));
    }
    Ok(DONE)
}

/// Prints the short table of scores, where the long ones are, and a picture.
fn say_scores(folder: &Path) -> Result<()> {
    let table = folder.join("short.md");
    let text = std::fs::read_to_string(&table).with_context(|| format!("cannot read {}", table.display()))?;
    say(&format!("\nBy the protocol `plain` (docs/measurements.md):\n{text}\nEvery class: {}\n", folder.join("plain.md").display()));
    let list = std::fs::read_dir(folder.join("pictures")).into_iter().flatten();
    let first = list.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.extension().is_some_and(|e| e == "png")).min();
    first.iter().for_each(|picture| say(&format!("A patient with the labels of each model: {}\n", picture.display())));
    Ok(())
}
