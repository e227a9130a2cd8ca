//! Which cases a tree of DICOM files holds, and what else lies in it.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use dicom_series::{About, Annotation, Found, Series, find};
use rayon::prelude::*;
use stage_kit::{Aside, LeftOut, name_of};
use volume::Source as _;

use crate::Config;
use crate::labels::{self, Labels};
use crate::names::{Named, unique};

/// A series, which is a case, and its labels.
pub struct Job {
    pub(crate) case: String,
    pub(crate) series: Series,
    pub(crate) about: About,
    pub(crate) labels: Vec<Labels>,
}

impl Job {
    pub(crate) fn image_place(&self) -> String {
        format!("imagesTr/{}_0000.nii.gz", self.case)
    }

    pub(crate) fn label_place(&self) -> String {
        format!("labelsTr/{}.nii.gz", self.case)
    }

    /// All that it writes.
    pub(crate) fn places(&self) -> Vec<String> {
        let label = (!self.labels.is_empty()).then(|| self.label_place());
        std::iter::once(self.image_place()).chain(label).collect()
    }

    /// What the table of series says of it, but for its folder.
    pub(crate) fn row(&self) -> [String; 7] {
        let About { patient, study, description } = self.about.clone();
        let labels: Vec<String> = self.labels.iter().map(|labels| name_of(labels.annotation.path())).collect();
        let (uid, slices) = (self.series.uid().to_owned(), self.series.grid().shape[2].to_string());
        [self.case.clone(), patient, study, uid, description, slices, labels.join(" ")]
    }
}

/// The cases of a tree, and what is left out or passed over. Labels may lie in a tree of their own.
pub(crate) fn jobs(config: &Config, scans: &Path, labels: Option<&Path>) -> (Result<Vec<Job>>, Aside) {
    let mut aside = Aside::default();
    let Found { series, bad, annotations, passed_over, others } = find(scans, is_hidden);
    let mut files = annotations;
    aside.passed_over.extend(passed_over);
    add_others(&mut aside, others);
    aside.left_out.extend(bad.into_iter().map(left_out));
    if let Some(labels) = labels {
        // Images that lie beside labels are copies, or of other series.
        let Found { series, bad, annotations, passed_over, others } = find(labels, is_hidden);
        files.extend(annotations);
        aside.passed_over.extend(series.iter().flat_map(Series::files).map(Path::to_owned).chain(passed_over));
        add_others(&mut aside, others);
        aside.left_out.extend(bad.into_iter().map(left_out));
    }
    let read: Vec<_> = files.into_par_iter().map(|path| (Annotation::read(&path), path)).collect();
    let (mut annotations, mut seen) = (Vec::new(), HashSet::new());
    for (annotation, path) in read {
        match annotation {
            // The same file twice is a copy.
            Ok(one) if !one.uid().is_empty() && !seen.insert(one.uid().to_owned()) => aside.passed_over.push(path),
            Ok(one) => annotations.push(Arc::new(one)),
            Err(error) => aside.left_out.push(unreadable(path, error.problem.to_string())),
        }
    }
    let entries = aside.left_out.len() + aside.passed_over.len();
    let jobs = named(series, &mut aside);
    let jobs = if jobs.is_empty() {
        Err(anyhow::anyhow!("{} holds no series of CT that can be read, among its {entries} other entries", scans.display()))
    } else {
        labels::given(config, jobs, &annotations, &mut aside)
    };
    (jobs, aside)
}

/// A case for each series, by name.
fn named(series: Vec<Series>, aside: &mut Aside) -> Vec<Job> {
    let about: Vec<_> = series.par_iter().map(Series::about).collect();
    let mut read = Vec::new();
    for (series, about) in series.into_iter().zip(about) {
        match about {
            Ok(about) => read.push((series, about)),
            Err(error) => aside.left_out.push(unreadable(series.folder().to_owned(), error.to_string())),
        }
    }
    let numbers: Vec<String> = read.iter().map(|(series, _)| series.name()).collect();
    let names: Vec<Named<'_>> = (read.iter().zip(&numbers))
        .map(|((series, about), number)| Named { patient: &about.patient, series: number, uid: series.uid() })
        .collect();
    let names = unique(&names);
    let mut jobs: Vec<Job> =
        names.into_iter().zip(read).map(|(case, (series, about))| Job { case, series, about, labels: Vec::new() }).collect();
    jobs.sort_by(|a, b| a.case.cmp(&b.case));
    jobs
}

/// Files that are not DICOM: those whose name says that they are, are damaged.
fn add_others(aside: &mut Aside, others: Vec<PathBuf>) {
    let is_named = |path: &PathBuf| {
        let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
        ending.is_some_and(|ending| ["dcm", "ima", "dicom"].contains(&ending.as_str()))
    };
    let (named, others): (Vec<_>, Vec<_>) = others.into_iter().partition(is_named);
    aside.passed_over.extend(others);
    aside.left_out.extend(named.into_iter().map(|file| LeftOut {
        case: name_of(&file),
        file,
        found: "no DICOM file, though its name says so".into(),
        expected: "DICM after 128 bytes".into(),
        remedy: "export it again, or remove it".into(),
    }));
}

fn left_out(bad: dicom_series::Finding) -> LeftOut {
    LeftOut { case: bad.series, file: bad.path, found: bad.found, expected: bad.expected, remedy: bad.remedy }
}

fn unreadable(file: PathBuf, found: String) -> LeftOut {
    let (expected, remedy) = ("a DICOM file that is whole".into(), "export it again, or remove it".into());
    LeftOut { case: name_of(&file), file, found, expected, remedy }
}

fn is_hidden(path: &Path) -> bool {
    name_of(path).starts_with('.')
}
