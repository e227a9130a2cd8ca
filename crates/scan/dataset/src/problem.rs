//! What can be wrong with a dataset, or with its declaration.

use std::path::PathBuf;

use labels::LabelError;

use crate::FolderError;

/// A dataset that cannot be used as it is declared.
#[derive(Debug, thiserror::Error)]
#[error("dataset {dataset}: {problem}")]
pub struct DatasetError {
    /// The name that it is declared under.
    pub dataset: String,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong with a dataset.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// A name that cannot be a dataset's.
    #[error("a dataset cannot be called so; names hold letters, digits, `_` and `-` alone, no `__`, and do not end with `_`")]
    Name,
    /// A layout without a folder of images.
    #[error("layout: folders: images: no folder given, expected at least one")]
    NoImages,
    /// A path that is no template.
    #[error("{field}: `{template}` {reason}")]
    Template {
        /// Where it stands.
        field: &'static str,
        /// The template.
        template: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A split that makes no sense.
    #[error(transparent)]
    Split(SplitError),
    /// Values where there are no label maps.
    #[error("`values` and `ignore` say what label maps mean, and the layout has none; name the label maps, or leave the two out")]
    NothingToMean,
    /// A name where there is no list of names.
    #[error("{field}: `{name}` is no value from 1 to 255, and names of labels are known with the layout `nnunet` alone; give the value")]
    NoNames {
        /// Where it stands.
        field: String,
        /// The name.
        name: String,
    },
    /// A key that is no class.
    #[error("values: there is no class `{key}`{}; the classes are {}", meant(.near.as_deref()), .known.join(", "))]
    NoClass {
        /// The key.
        key: String,
        /// The class that is most like it.
        near: Option<String>,
        /// Those that there are.
        known: Vec<String>,
    },
    /// Values that contradict each other.
    #[error("values: {0}")]
    Values(LabelError),
    /// A name that the dataset's list does not have.
    #[error("{field}: dataset.json has no label `{name}`{}; its labels are {listed}", meant(.near.as_deref()))]
    NotListed {
        /// Where it stands.
        field: String,
        /// The name.
        name: String,
        /// The label that is most like it.
        near: Option<String>,
        /// Those that there are.
        listed: String,
    },
    /// A value that the dataset's list does not have.
    #[error(
        "values: {class}: the value {value} is declared here, and dataset.json has no label of that value; its labels are {listed}; correct one of the two"
    )]
    ContradictsList {
        /// The class.
        class: String,
        /// The value.
        value: u8,
        /// The labels that there are.
        listed: String,
    },
    /// A label that is cut in two, and only one part has a class.
    #[error("values: the {given} part of {mark} is given to a class, and the {missing} part to none; give both")]
    OneSide {
        /// The value or name.
        mark: String,
        /// The side that has a class.
        given: &'static str,
        /// The side that has none.
        missing: &'static str,
    },
    /// A part of a label is ignored.
    #[error("ignore: `left` and `right` cannot stand here; name the whole label")]
    IgnoredSide,
    /// A label that is to be cut in two where all 255 values have a meaning.
    #[error("values: the left part of the value {value} needs a value of its own, and all from 1 to 255 are taken; declare fewer values")]
    NoValueLeft {
        /// The value.
        value: u8,
    },
    /// Labels of the dataset's list that nobody says anything of.
    #[error("dataset.json has labels that are no class of the pipeline: {}; say under `values` which class each shows, name it under `ignore` to count it as background, or declare the class{}", .labels.join(", "), ignore_mark(*.ignored))]
    Unclaimed {
        /// The labels with their values, and the class that is most like each.
        labels: Vec<String>,
        /// Whether nnU-Net's mark `ignore` is among them.
        ignored: bool,
    },
    /// Two labels for one class.
    #[error(
        "dataset.json has the labels `{first}` and `{second}`, which are both the class `{class}`; say under `values` which values show it"
    )]
    TwoLabels {
        /// The class.
        class: String,
        /// A label.
        first: String,
        /// The other.
        second: String,
    },
    /// The list of the layout `nnunet` is missing, or is not what it is to be.
    #[error("{}: {found}; {remedy}", .path.display())]
    List {
        /// The file.
        path: PathBuf,
        /// What was found.
        found: String,
        /// What to do.
        remedy: &'static str,
    },
    /// Labels are declared, and there are no label maps.
    #[error("dataset.json declares labels, and there is no folder {}; put the label maps there, or say `layout: {{nnunet: {{unlabeled: true}}}}` if nothing is labelled", .0.display())]
    NoLabelMaps(PathBuf),
    /// A folder that cannot be listed, or has nothing.
    #[error("{what}: {reason}")]
    Folder {
        /// What was to be in it.
        what: &'static str,
        /// The reason.
        reason: FolderError,
    },
}

/// Numbers of a split that make no sense.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum SplitError {
    /// More than all, or less than nothing.
    #[error("split: fraction: {0}, expected a number from 0 to below 1")]
    Fraction(f64),
    /// All of them, or none.
    #[error("split: every: {0}, expected at least 2")]
    Every(u32),
    /// No parts.
    #[error("split: folds: {0}, expected at least 2")]
    Folds(u32),
    /// A part that is not there.
    #[error("split: fold: {fold}, expected one from 0 to {last}")]
    Fold {
        /// The part.
        fold: u32,
        /// The last that there is.
        last: u32,
    },
}

impl Problem {
    pub(crate) fn of(self, dataset: &str) -> DatasetError {
        DatasetError { dataset: dataset.to_owned(), problem: self }
    }
}

fn meant(near: Option<&str>) -> String {
    near.map_or_else(String::new, |near| format!(", did you mean `{near}`?"))
}

fn ignore_mark(ignored: bool) -> &'static str {
    if ignored { ". nnU-Net's `ignore` marks voxels that nobody annotated; under `ignore` they count as background" } else { "" }
}
