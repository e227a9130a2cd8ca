//! The verbs that look after a store: `gc`, `verify`, `unlock`.

use std::collections::BTreeSet;

use anyhow::Result;

use super::args::{File, GcArgs, UnlockArgs};
use super::look::NOTE;
use super::verbs::{DEFAULT_PIPELINE, Opened, say};
use super::{DONE, FAILED, LOCKED, Program};
use crate::gc::{Swept, collect};
use crate::lock::Life;
use crate::plan::Planner;
use crate::text::{counted, size};

/// The store, for this process alone; otherwise the exit code: there is none yet, or a runner is at work.
fn alone(opened: &Opened) -> Result<Result<std::fs::File, u8>> {
    if !opened.store.exists()? {
        say("there is no store yet\n");
        return Ok(Err(DONE));
    }
    Ok(match opened.store.enter_alone()? {
        Some(alone) => Ok(alone),
        None => {
            eprintln!("a runner is at work in {}; wait until it has ended", opened.store.root().display());
            Err(LOCKED)
        }
    })
}

/// `gc`.
pub(super) fn gc(program: &Program, args: &GcArgs) -> Result<u8> {
    let opened = Opened::new(program, &args.choice, DEFAULT_PIPELINE)?;
    let _alone = match alone(&opened)? {
        Ok(alone) => alone,
        Err(code) => return Ok(code),
    };
    let all: BTreeSet<usize> = (0..opened.pipeline.nodes.len()).collect();
    // What nodes are made of now can be told only from their data; without these they are left as they were last run.
    let there = opened.pipeline.check_data(&all).is_ok();
    let states =
        if there { Planner::new(&opened.pipeline, &opened.store, &opened.hasher, &NOTE).survey(&all)? } else { Default::default() };
    let Swept { results, cases, attempts, links, jobs, bytes } = collect(&opened.pipeline, &opened.store, &states, args.dry_run)?;
    opened.hasher.save()?;
    for link in links {
        say(&format!("{link} is no node of {} any more\n", opened.pipeline.name));
    }
    if !jobs.is_empty() {
        say(&format!("jobs for attempts that go may be in the queue still: scancel {}\n", jobs.join(" ")));
    }
    let would = if args.dry_run { "would be removed" } else { "removed" };
    say(&format!(
        "{would}: {}, {}, {}; {}\n",
        counted(results, "result"),
        counted(cases, "case"),
        counted(attempts, "attempt"),
        size(bytes)
    ));
    Ok(DONE)
}

/// `verify`.
pub(super) fn verify(program: &Program, file: &File) -> Result<u8> {
    let opened = Opened::of(program, file)?;
    // What a runner is just writing would look damaged.
    let _alone = match alone(&opened)? {
        Ok(alone) => alone,
        Err(code) => return Ok(code),
    };
    let (damage, read) = crate::verify::verify(&opened.store)?;
    for found in &damage {
        say(&format!("{}: {}\n", found.path.display(), found.what));
    }
    if damage.is_empty() {
        say(&format!("{read} files are what they were when they were published\n"));
        return Ok(DONE);
    }
    say(&format!("{} of {read} files or records are damaged; `{} run` makes anew what is missing\n", damage.len(), program.name));
    Ok(FAILED)
}

/// `unlock`.
pub(super) fn unlock(program: &Program, args: &UnlockArgs) -> Result<u8> {
    let opened = Opened::of(program, &args.file)?;
    if !opened.store.exists()? {
        say("there is no store yet\n");
        return Ok(DONE);
    }
    let mut left = false;
    let locks = opened.store.locks();
    if locks.is_empty() {
        say("nothing is locked\n");
    }
    for (name, found) in locks {
        let (holder, life) = match &found.holder {
            Some(holder) => (holder.to_string(), holder.life()),
            None => ("a process that has not said who it is".to_owned(), Life::Alive),
        };
        // What the kernel says holds: a dead runner's stage may live on for a moment.
        let life = if found.held && life == Life::Dead { Life::Alive } else { life };
        let gone = life != Life::Alive && opened.store.free_lock(&name, args.force)?;
        let state = match life {
            Life::Alive => "alive",
            Life::Dead => "dead",
            Life::Elsewhere => "on another machine, which cannot be asked from here",
        };
        let node = found.holder.as_ref().map_or_else(|| name.clone(), |holder| holder.node.clone());
        say(&format!("{node}: {holder}, {state}{}\n", if gone { ": removed" } else { "" }));
        left |= !gone;
    }
    Ok(if left { LOCKED } else { DONE })
}
