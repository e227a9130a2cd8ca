//! The cases of a stage that runs without a runner.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use rayon::prelude::*;

use crate::by_case::{CaseSpec, CaseStage, folders, make_folders};
use crate::cases::{Case, over_cases};
use crate::io::StageIo;
use crate::made::{Origins, Standing};
use crate::shown::some_of;

/// So many cases are named in a line.
const MOST_NAMES: usize = 5;

/// Does the cases whose outputs are not there, or were made from something else than this run makes them from.
pub(crate) fn do_cases<S: CaseStage>(config: &S::Config, io: &StageIo, jobs: &[(S::Job, CaseSpec)]) -> Result<()> {
    crate::stop::tidy_on_signals()?;
    let folders = folders(jobs, io);
    folders.iter().for_each(|folder| whole_files::sweep(folder));
    let specs: Vec<&CaseSpec> = jobs.iter().map(|(_, spec)| spec).collect();
    let clashes = clashes(&specs, io);
    let origins = Origins::of::<S>(config, io)?;
    let standing = |spec: &&CaseSpec| if clashes.contains_key(&spec.id) { Standing::Nothing } else { origins.standing(spec, io) };
    let standing: Vec<Standing> = specs.par_iter().map(standing).collect();
    tell(&specs, &standing, io);
    if standing.iter().all(|standing| *standing == Standing::Same) {
        return Ok(());
    }
    make_folders(&folders)?;
    let tools = S::tools(config, io)?;
    let cases: Vec<Case<'_, (S::Job, CaseSpec)>> =
        jobs.iter().zip(standing).map(|(job, standing)| Case { id: &job.1.id, done: standing == Standing::Same, what: job }).collect();
    over_cases(io, &cases, |(job, spec)| {
        if let Some(clash) = clashes.get(&spec.id) {
            bail!("{clash}");
        }
        for path in paths(spec, io) {
            ensure!(
                !path.symlink_metadata().is_ok_and(|meta| meta.is_dir()),
                "{} is a folder, and a file is to have that name; move the folder away",
                path.display()
            );
        }
        let origin = origins.origin(spec)?;
        let (worked, files) = whole_files::gathered(|| S::work(config, io, &tools, job));
        worked?;
        origins.record(&origin, files, io)
    })
}

fn paths(spec: &CaseSpec, io: &StageIo) -> impl Iterator<Item = PathBuf> {
    spec.paths(io).map(|(_, path)| path)
}

/// Reports what was there.
fn tell(specs: &[&CaseSpec], standing: &[Standing], io: &StageIo) {
    let of =
        |wanted: Standing| specs.iter().zip(standing).filter(move |(_, standing)| **standing == wanted).map(|(spec, _)| spec.id.as_str());
    let same = of(Standing::Same).count();
    if same > 0 {
        io.report.note(&format!(
            "{}: {same} of {} cases were there already, made from the same inputs and parameters",
            io.node,
            specs.len()
        ));
    }
    let other: Vec<&str> = of(Standing::Other).collect();
    if !other.is_empty() {
        io.report.note(&format!(
            "{}: {} of {} cases are made anew, because what was there was made from something else, is not all there, or has changed since: {}",
            io.node,
            other.len(),
            specs.len(),
            some_of(&other, MOST_NAMES)
        ));
    }
}

/// Why cases cannot be done, by their names: what they write is what one of them reads, or what another one writes.
fn clashes(specs: &[&CaseSpec], io: &StageIo) -> HashMap<String, String> {
    let mut folders = HashMap::new();
    let mut real = |path: &Path| {
        // The folder of a mere name has no name of its own.
        let folder = path.parent().filter(|folder| *folder != "").unwrap_or(Path::new(".")).to_owned();
        let known: &PathBuf = folders.entry(folder).or_insert_with_key(|folder| folder.canonicalize().unwrap_or_else(|_| folder.clone()));
        known.join(path.file_name().unwrap_or_default())
    };
    let mut readers = HashMap::new();
    for spec in specs {
        readers.extend(spec.reads.iter().map(|(_, path)| (real(path), spec.id.as_str())));
    }
    let mut writers: HashMap<PathBuf, &CaseSpec> = HashMap::new();
    let mut clashes = HashMap::new();
    for spec in specs {
        for path in paths(spec, io) {
            let place = real(&path);
            if let Some(reader) = readers.get(&place) {
                let clash = format!("its output {} is an input of case {reader}; give another folder for the output", path.display());
                clashes.insert(spec.id.clone(), clash);
            }
            if let Some(other) = writers.insert(place, spec) {
                let (one, two) = (source(other), source(spec));
                let clash = format!("{one} and {two} have the same output, {}; rename one of them", path.display());
                clashes.insert(other.id.clone(), clash.clone());
                clashes.insert(spec.id.clone(), clash);
            }
        }
    }
    clashes
}

/// What a case is made from, for people.
fn source(spec: &CaseSpec) -> String {
    spec.reads.first().map_or_else(|| format!("case {}", spec.id), |(_, path)| path.display().to_string())
}
