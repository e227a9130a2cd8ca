//! Which files belong to which case.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use dataset::{FolderError, ImageFile, image_files, label_files};

use crate::Config;
use crate::check::{BadCase, Facts};

/// A case with its files, not yet looked into. Paths are relative to the dataset, which is at `root`.
pub struct Candidate {
    pub(crate) id: String,
    pub(crate) root: PathBuf,
    pub(crate) image: PathBuf,
    pub(crate) label: Option<PathBuf>,
}

impl Candidate {
    /// Where the facts or the findings are kept until all cases are checked, in the folder `work`.
    pub(crate) fn findings(&self) -> String {
        format!("checked/{}.json", self.id)
    }

    /// What the check found.
    pub(crate) fn read_findings(&self, work: &Path) -> Result<Result<Facts, Vec<BadCase>>> {
        let path = work.join(self.findings());
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} holds no findings; remove it and run again", path.display()))
    }
}

/// All cases that have one image, sorted by id, and those that have none or several.
pub(crate) fn gather(root: &Path, config: &Config) -> Result<(Vec<Candidate>, Vec<BadCase>)> {
    let mut images = BTreeMap::<String, Vec<PathBuf>>::new();
    for folder in &config.images {
        for file in image_files(&root.join(folder)).context("images")? {
            images.entry(file.id).or_default().push(inside(root, &file.path));
        }
    }
    let (mut labels, mut bad) = label_maps(root, config)?;
    let mut candidates = Vec::new();
    for (id, files) in images {
        let label = labels.remove(&id);
        match <[PathBuf; 1]>::try_from(files) {
            Ok([image]) => candidates.push(Candidate { id, root: root.to_owned(), image, label }),
            Err(files) => bad.push(several(id, &files, "image")),
        }
    }
    bad.extend(labels.into_iter().map(|(id, label)| BadCase {
        found: "a label map without an image".into(),
        expected: format!("{id}_0000.nii.gz in one of the image folders"),
        remedy: "add the image or remove the label map".into(),
        case: id,
        file: label,
    }));
    // Which of two label maps counts is not ours to guess, so the case is out even though it has both files.
    candidates.retain(|candidate| !bad.iter().any(|finding| finding.case == candidate.id));
    Ok((candidates, bad))
}

/// The label map of each case, and the cases that have several in one folder.
fn label_maps(root: &Path, config: &Config) -> Result<(BTreeMap<String, PathBuf>, Vec<BadCase>)> {
    let mut maps = BTreeMap::new();
    let mut bad = Vec::new();
    if let Some(folder) = &config.labels {
        add(root, label_files(&root.join(folder)).context("labels")?, &mut maps, &mut bad);
    }
    if let Some(folder) = &config.corrected_labels {
        let corrected = match label_files(&root.join(folder)) {
            Err(FolderError::Empty { .. }) => Vec::new(),
            files => files.context("corrected_labels")?,
        };
        let mut corrections = BTreeMap::new();
        add(root, corrected, &mut corrections, &mut bad);
        maps.extend(corrections);
    }
    Ok((maps, bad))
}

/// `CASE.nii` beside `CASE.nii.gz` leaves open which one counts.
fn add(root: &Path, files: Vec<ImageFile>, maps: &mut BTreeMap<String, PathBuf>, bad: &mut Vec<BadCase>) {
    for file in files {
        let path = inside(root, &file.path);
        if let Some(other) = maps.insert(file.id.clone(), path.clone()) {
            bad.push(several(file.id, &[other, path], "label map"));
        }
    }
}

fn several(case: String, files: &[PathBuf], what: &str) -> BadCase {
    let list = files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", ");
    BadCase {
        case,
        file: files.first().cloned().unwrap_or_default(),
        found: format!("{} files: {list}", files.len()),
        expected: format!("one {what}"),
        remedy: "keep one and remove the others".into(),
    }
}

fn inside(root: &Path, path: &Path) -> PathBuf {
    path.strip_prefix(root).unwrap_or(path).to_owned()
}
