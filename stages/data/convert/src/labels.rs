//! Whose labels a file holds, and what its segments become.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Result, ensure};
use dicom_series::Annotation;
use stage_kit::{Aside, LeftOut, name_of};

use crate::Config;
use crate::segments::Meanings;
use crate::tree::Job;

/// A file of labels of a series.
pub(crate) struct Labels {
    pub(crate) annotation: Arc<Annotation>,
    /// The values of its segments.
    pub(crate) values: Vec<Option<u8>>,
}

/// Gives each case the labels that refer to its series. A case with two files for one label is left out: nobody knows which one counts.
pub(crate) fn given(config: &Config, mut jobs: Vec<Job>, annotations: &[Arc<Annotation>], aside: &mut Aside) -> Result<Vec<Job>> {
    let meanings = Meanings::of(config)?;
    let mut unknown = Vec::new();
    for annotation in annotations {
        let mut of = jobs.iter_mut().filter(|job| annotation.is_of(&job.series)).peekable();
        let Some(first) = of.peek() else {
            aside.left_out.push(of_nothing(annotation));
            continue;
        };
        let names: Vec<&str> = annotation.names().filter(|name| meanings.get(name).is_none()).collect();
        if !names.is_empty() {
            unknown.push(format!("\n  case {}: {}: {}", first.case, annotation.path().display(), names.join(", ")));
        }
        let values: Vec<Option<u8>> = annotation.names().map(|name| Some(meanings.get(name)??.1)).collect();
        of.for_each(|job| job.labels.push(Labels { annotation: Arc::clone(annotation), values: values.clone() }));
    }
    ensure!(
        unknown.is_empty(),
        "the labels have names that `segments` does not declare; give each a value there, or list it under `ignore`:{}",
        unknown.concat()
    );
    jobs.retain(|job| {
        let twice = twice(job, &meanings);
        let is_sound = twice.is_none();
        aside.left_out.extend(twice);
        is_sound
    });
    ensure!(!jobs.is_empty(), "no case is left: each has several files for one label, as named above");
    Ok(jobs)
}

fn of_nothing(annotation: &Annotation) -> LeftOut {
    LeftOut {
        case: name_of(annotation.path()),
        file: annotation.path().to_owned(),
        found: "labels of images that are in no series here".into(),
        expected: "labels that refer to one of the series".into(),
        remedy: "put the series into the folder of scans, or leave the file out".into(),
    }
}

/// The second of two files of a case with one label.
fn twice(job: &Job, meanings: &Meanings<'_>) -> Option<LeftOut> {
    let mut files = HashMap::<&str, PathBuf>::new();
    for Labels { annotation, .. } in &job.labels {
        let path = annotation.path();
        for (label, _) in annotation.names().filter_map(|name| meanings.get(name)?) {
            let first = files.entry(label).or_insert_with(|| path.to_owned());
            if first != path {
                return Some(LeftOut {
                    case: job.case.clone(),
                    file: path.to_owned(),
                    found: format!("{label}, which {} has too", first.display()),
                    expected: "one file for each label of a case".into(),
                    remedy: "keep the file that counts, and move the other one out of the folder".into(),
                });
            }
        }
    }
    None
}
