//! What lies in a folder.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use dataset::{DatasetList, Folders, Layout, Naming, Nnunet, Pattern};
use volume::nifti;

/// A folder, in a layout that is known.
#[derive(Clone, Debug)]
pub struct Folder {
    /// The name that its dataset shall have.
    pub name: String,
    /// The folder.
    pub path: PathBuf,
    /// How its files lie.
    pub form: Form,
    /// Its labels without background.
    pub labels: Vec<NamedLabel>,
}

/// How the files of a folder lie.
#[derive(Clone, Debug)]
pub enum Form {
    /// By `dataset.json`, which names the labels.
    Listed,
    /// In folders or by a pattern; the labels have no names.
    Unlisted(Layout),
}

/// A label of a dataset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedLabel {
    /// As the dataset has it, or made up from its value.
    pub name: String,
    /// The values that show it.
    pub values: Vec<u8>,
}

/// So many label maps are read to find the values of labels without names.
const MOST_READ: usize = 20;

impl Folder {
    /// Finds out how the files of a folder lie, and which labels there are. Reads label maps only if nothing names the labels.
    ///
    /// # Errors
    /// When it cannot be read, or has no layout that is known.
    pub fn look_at(name: &str, path: &Path) -> Result<Self> {
        let path = std::path::absolute(path).with_context(|| path.display().to_string())?;
        let found = if path.join("dataset.json").is_file() { listed(name, path) } else { unlisted(name, path) };
        found.with_context(|| format!("looking at {name}"))
    }

    /// The layout, as a dataset declares it.
    #[must_use]
    pub fn layout(&self) -> Layout {
        match &self.form {
            Form::Listed => Layout::Nnunet(Nnunet::default()),
            Form::Unlisted(layout) => layout.clone(),
        }
    }
}

fn listed(name: &str, path: PathBuf) -> Result<Folder> {
    let list = DatasetList::read(&path)?;
    let label = |label: &dataset::Label| NamedLabel { name: label.name.clone(), values: label.values.iter().copied().collect() };
    let labels = list.labels().iter().map(label).collect();
    Ok(Folder { name: name.to_owned(), path, form: Form::Listed, labels })
}

fn unlisted(name: &str, path: PathBuf) -> Result<Folder> {
    let layout = layout_of(&path)?;
    let maps = match &layout {
        Layout::Folders(Folders { labels: Some(labels), .. }) => labels.clone(),
        Layout::Pattern(Pattern { labels: Some(_), .. }) => PathBuf::from("labels"),
        _ => PathBuf::new(),
    };
    let mut values = BTreeSet::new();
    if maps != Path::new("") {
        for map in dataset::list(&path.join(maps), Naming::Labels)?.files.iter().take(MOST_READ) {
            let (voxels, _) = nifti::count_labels(&map.path, &[])?;
            values.extend((1..=255u8).filter(|&value| voxels[usize::from(value)] > 0));
        }
    }
    let labels =
        values.into_iter().map(|value| NamedLabel { name: format!("{name}_{value}").to_lowercase(), values: vec![value] }).collect();
    Ok(Folder { name: name.to_owned(), path, form: Form::Unlisted(layout), labels })
}

/// FLARE's folders, or `images` and `labels`, or scans alone.
fn layout_of(path: &Path) -> Result<Layout> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(path).with_context(|| format!("cannot list {}", path.display()))? {
        let entry = entry.with_context(|| path.display().to_string())?;
        if entry.path().is_dir() {
            folders.push(PathBuf::from(entry.file_name()));
        }
    }
    folders.sort();
    let has = |folder: &Path, naming| dataset::list(&path.join(folder), naming).is_ok_and(|listing| !listing.files.is_empty());
    let begins = |folder: &&PathBuf, begin: &str| folder.to_string_lossy().to_lowercase().starts_with(begin);
    let images: Vec<PathBuf> = folders.iter().filter(|folder| has(folder, Naming::Images)).cloned().collect();
    let labels = folders.iter().find(|folder| begins(folder, "label") && has(folder, Naming::Labels)).cloned();
    if !images.is_empty() {
        let corrected = labels.iter().flat_map(|labels| fs::read_dir(path.join(labels)).into_iter().flatten().flatten());
        let corrected = corrected.filter(|entry| entry.path().is_dir()).find_map(|entry| {
            let name = entry.file_name();
            name.to_string_lossy().ends_with("fix").then(|| labels.clone().unwrap_or_default().join(name))
        });
        return Ok(Layout::Folders(Folders { images, labels, corrected_labels: corrected }));
    }
    if has(Path::new(""), Naming::Images) {
        return Ok(Layout::Folders(Folders { images: vec![PathBuf::from(".")], labels: None, corrected_labels: None }));
    }
    let plain = folders.iter().find(|folder| begins(folder, "image") && has(folder, Naming::Labels));
    match (plain, labels) {
        (Some(images), labels) => {
            let pattern = |folder: &Path| format!("{}/{{case}}.nii.gz", folder.display());
            let unlabeled = labels.is_some();
            let labels = labels.as_deref().map(pattern);
            Ok(Layout::Pattern(Pattern { images: pattern(images), labels, others: Vec::new(), unlabeled }))
        }
        (None, _) => {
            let names: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
            bail!(
                "{} has neither dataset.json, nor folders of CASE_0000.nii.gz, nor `images` and `labels` with CASE.nii.gz; its folders are {}. Declare it \
                 by hand as a `pattern`, or let the stage `merge-masks` make label maps if each class has a file of its own: docs/datasets.md",
                path.display(),
                if names.is_empty() { "none".to_owned() } else { stage_kit::some_of(&names, 6) }
            )
        }
    }
}
