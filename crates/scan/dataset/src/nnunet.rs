//! `dataset.json`, in which nnU-Net and the Medical Segmentation Decathlon say what a dataset is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::entry::is_scan;
use crate::folder::Naming;
use crate::problem::Problem;

pub(crate) const LIST_FILE: &str = "dataset.json";
pub(crate) const IMAGES: &str = "imagesTr";
pub(crate) const LABELS: &str = "labelsTr";
pub(crate) const TEST_IMAGES: &str = "imagesTs";

/// A label with its name. One of nnU-Net's regions has several values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// The name.
    pub name: String,
    /// The values that show it.
    pub values: BTreeSet<u8>,
}

/// Writes `dataset.json` of a dataset of CT in the layout of nnU-Net's second version: its labels by their values, and so many cases.
///
/// # Errors
/// When it cannot be written.
pub fn write_list<'a>(root: &Path, labels: impl IntoIterator<Item = (&'a str, u8)>, cases: usize) -> Result<(), Problem> {
    let mut named = Map::from_iter([("background".to_owned(), Value::from(0))]);
    named.extend(labels.into_iter().map(|(name, value)| (name.to_owned(), Value::from(value))));
    let list = json!({"channel_names": {"0": "CT"}, "labels": named, "numTraining": cases, "file_ending": ".nii.gz"});
    let path = root.join(LIST_FILE);
    stage_kit::write_atomic_text(&path, &format!("{list:#}\n")).map_err(|error| {
        let found = format!("cannot write it: {error:#}");
        Problem::List { path, found, remedy: "make room, or mend the folder's permissions" }
    })
}

/// What `dataset.json` says.
#[derive(Clone, Debug, Default)]
pub struct DatasetList {
    /// The labels without background, as they stand there.
    pub(crate) labels: Vec<Label>,
    /// How many channels an image has.
    pub(crate) channels: usize,
    /// The cases of the list `training`, if there is one.
    pub(crate) training: Option<BTreeSet<String>>,
    /// The files of each case, where the second version of nnU-Net lists them one by one.
    pub(crate) files: Option<BTreeMap<String, ListedFiles>>,
}

/// The files of a case as `dataset.json` lists them, relative to the dataset; they may lie outside of it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ListedFiles {
    /// One for each channel.
    pub(crate) images: Vec<PathBuf>,
    pub(crate) label: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Fields {
    labels: Option<Map<String, Value>>,
    channel_names: Option<Map<String, Value>>,
    modality: Option<Value>,
    file_ending: Option<String>,
    training: Option<Vec<Value>>,
    dataset: Option<BTreeMap<String, ListedFiles>>,
}

impl DatasetList {
    /// Reads the list in the root of a dataset.
    ///
    /// # Errors
    /// Names the file, what was found in it and what to do.
    pub fn read(root: &Path) -> Result<Self, Problem> {
        let path = root.join(LIST_FILE);
        let failed = |found: String, remedy| Problem::List { path: path.clone(), found, remedy };
        let text = std::fs::read_to_string(&path).map_err(|error| {
            failed(format!("cannot read it: {error}"), "put it there, or give the layout as `folders` or `pattern`, which need none")
        })?;
        let fields: Fields = serde_json::from_str(&text).map_err(|error| {
            failed(error.to_string(), "write it as nnU-Net's documentation says: labels: {\"background\": 0, \"liver\": 1}")
        })?;
        if let Some(ending) = fields.file_ending.filter(|ending| !is_scan(ending)) {
            return Err(failed(
                format!("file_ending is {ending}"),
                "files .nii.gz, .nii, .nrrd and .mha are read; convert others to .nii.gz",
            ));
        }
        let labels = labels(fields.labels.unwrap_or_default()).map_err(|found| {
            failed(found, "write labels as {\"background\": 0, \"liver\": 1}, or as {\"0\": \"background\", \"1\": \"liver\"}")
        })?;
        let training = fields.training.map(|entries| training(&entries)).transpose().map_err(|found| {
            let remedy = "write {\"image\": \"./imagesTr/CASE.nii.gz\", \"label\": \"./labelsTr/CASE.nii.gz\"}, leave `training` out, or give the layout as a `pattern`";
            failed(found, remedy)
        })?;
        let channels = fields.channel_names.map(|names| names.len());
        let modalities = || fields.modality.as_ref().and_then(Value::as_object).map(Map::len);
        Ok(Self { labels, channels: channels.or_else(modalities).unwrap_or(1).max(1), training, files: fields.dataset })
    }

    /// The labels without background, as they stand there.
    #[must_use]
    pub fn labels(&self) -> &[Label] {
        &self.labels
    }

    /// The label of a name.
    pub(crate) fn label(&self, name: &str) -> Option<&Label> {
        self.labels.iter().find(|label| label.name == name)
    }

    /// Whether a label has a value.
    pub(crate) fn has(&self, value: u8) -> bool {
        self.labels.iter().any(|label| label.values.contains(&value))
    }

    /// All labels for messages: `liver 1, kidney 2`.
    pub(crate) fn listed(&self) -> String {
        self.labels.iter().map(Label::to_string).collect::<Vec<_>>().join(", ")
    }
}

impl std::fmt::Display for Label {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let values: Vec<String> = self.values.iter().map(u8::to_string).collect();
        match &values[..] {
            [value] => write!(f, "{} {value}", self.name),
            _ => write!(f, "{} [{}]", self.name, values.join(", ")),
        }
    }
}

/// The labels of either form, without background. The error says what was found.
fn labels(declared: Map<String, Value>) -> Result<Vec<Label>, String> {
    let mut labels: Vec<Label> = Vec::with_capacity(declared.len());
    for (key, entry) in declared {
        let (name, values) = match &entry {
            // The first version of the format: the value leads to the name.
            Value::String(name) => {
                let value: Value = key
                    .parse::<u64>()
                    .map_err(|_| format!("labels: `{key}` leads to `{name}`, and one of the two must be a number"))?
                    .into();
                (name.clone(), BTreeSet::from([byte(&key, &value)?]))
            }
            Value::Array(list) => (key.clone(), list.iter().map(|value| byte(&key, value)).collect::<Result<_, _>>()?),
            value => (key.clone(), BTreeSet::from([byte(&key, value)?])),
        };
        if labels.iter().any(|label| label.name == name) {
            return Err(format!("labels: `{name}` stands there twice"));
        }
        if values.iter().eq([&0]) {
            continue;
        }
        if values.is_empty() || values.contains(&0) {
            return Err(format!("labels: `{name}` is {entry}, and a label has at least one value and not that of background"));
        }
        labels.push(Label { name, values });
    }
    Ok(labels)
}

fn byte(key: &str, value: &Value) -> Result<u8, String> {
    value
        .as_u64()
        .and_then(|value| u8::try_from(value).ok())
        .ok_or_else(|| format!("labels: `{key}` has the value {value}, expected a number from 0 to 255"))
}

/// The cases of the list `training`, whose files must lie in the usual folders.
fn training(entries: &[Value]) -> Result<BTreeSet<String>, String> {
    entries
        .iter()
        .map(|entry| {
            let file = |key: &str, folder: &str| -> Result<PathBuf, String> {
                let path = entry.get(key).and_then(Value::as_str).ok_or_else(|| format!("training: {entry} has no `{key}`"))?;
                let path = Path::new(path.strip_prefix("./").unwrap_or(path));
                if path.parent() == Some(Path::new(folder)) {
                    Ok(path.to_owned())
                } else {
                    Err(format!("training: {} does not lie in {folder}", path.display()))
                }
            };
            let (image, label) = (file("image", IMAGES)?, file("label", LABELS)?);
            let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let case = Naming::Labels.case(&name(&label)).map(str::to_owned);
            // The first version of nnU-Net lists images without the number of their channel.
            let of_image = name(&image);
            let is_its = |case: &String| Naming::Labels.case(&of_image) == Some(case) || Naming::Images.case(&of_image) == Some(case);
            case.filter(is_its).ok_or_else(|| format!("training: {} and {} are not of one case", image.display(), label.display()))
        })
        .collect()
}
