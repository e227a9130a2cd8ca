//! Why a declaration of partial labels makes no sense.

use dataset::ManifestError;
use labels::LabelError;

/// What can be wrong with datasets, tasks, and the model that is to learn from them.
#[derive(Debug, thiserror::Error)]
pub enum PartialError {
    /// A name that no class and no group has.
    #[error("{field}: {reason}")]
    Class {
        /// Where the name stands.
        field: String,
        /// What is known.
        reason: LabelError,
    },
    /// A name that no subset has.
    #[error("{field}: {reason}")]
    Subset {
        /// Where the name stands.
        field: String,
        /// What is known.
        reason: Box<ManifestError>,
    },
    /// Nothing to train on.
    #[error("model.datasets: none given, and no subset has cases of which something is annotated; cases per subset: {0}")]
    NoDataset(String),
    /// A name that cannot be part of a parameter's name, or stands twice.
    #[error("{what} `{name}`: names must differ and hold letters, digits, `_` and `-` alone")]
    Name {
        /// What is named.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A dataset or a task without classes.
    #[error("{what} `{name}` has no classes{why}; list some under `classes`, or leave it out")]
    Empty {
        /// What is empty.
        what: &'static str,
        /// Its name.
        name: String,
        /// Why, where it is not plain.
        why: &'static str,
    },
    /// A case would belong to two datasets.
    #[error("the cases of {subset} belong to the datasets `{first}` and `{second}`; give each subset to one dataset")]
    Shared {
        /// The subset.
        subset: String,
        /// A dataset.
        first: String,
        /// Another.
        second: String,
    },
    /// A dataset that no task is about.
    #[error("no task has a class of the dataset `{0}`, so nothing can be learnt from it; add a task, or leave the dataset out")]
    NoTask(String),
    /// A class that no dataset has annotated.
    #[error("task `{task}`: no dataset has {class} annotated, so nothing teaches it; annotated are {}", .annotated.join(", "))]
    Untaught {
        /// The task.
        task: String,
        /// The class.
        class: String,
        /// What is annotated.
        annotated: Vec<String>,
    },
    /// A network or a rule that cannot be.
    #[error("{0}")]
    Network(String),
}
