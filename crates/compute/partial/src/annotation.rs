//! Which dataset has which classes annotated.

use std::cmp::Ordering;

use labels::{Classes, Regions};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::class::Class;
use crate::error::PartialError;

/// Cases that have the same classes annotated, as the pipeline file declares them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Dataset {
    /// A name of letters, digits, `_` and `-`.
    pub name: String,
    /// The subset of its cases, or a union of subsets.
    pub subset: String,
    /// The classes that are annotated in all of them, by name, or groups of classes; by default those that the annotators of all its
    /// cases looked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<Vec<String>>,
}

/// Classes that belong together, such as an organ and its tumor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// A name of letters, digits, `_` and `-`.
    pub name: String,
    /// The classes, by name, or groups of classes.
    pub classes: Vec<String>,
}

impl Task {
    /// What the names stand for.
    pub(crate) fn resolved(&self, classes: &Classes) -> Result<Vec<Class>, PartialError> {
        named(classes, &self.classes, || format!("model.tasks, task `{}`, classes", self.name))
    }
}

/// The classes behind the names in a field.
pub(crate) fn named(classes: &Classes, keys: &[String], field: impl Fn() -> String) -> Result<Vec<Class>, PartialError> {
    let pattern = classes.pattern_of(keys).map_err(|reason| PartialError::Class { field: field(), reason })?;
    Ok(Class::within(classes, pattern))
}

/// Datasets whose annotations are known.
#[derive(Clone, Debug)]
pub struct Datasets {
    declared: Vec<Dataset>,
    classes: Vec<Vec<Class>>,
    known: Classes,
    /// Pairs of classes that a voxel of some label map shows together.
    together: Vec<[Class; 2]>,
    /// Pairs of classes that some label maps have both, never together.
    apart: Vec<[Class; 2]>,
}

impl Datasets {
    /// Datasets of which each says what is annotated, as those of [`crate::ModelConfig::resolved`] do.
    ///
    /// # Errors
    /// When a name is not known, or a dataset has no classes.
    pub fn new(declared: &[Dataset], known: &Classes) -> Result<Self, PartialError> {
        let of = |dataset: &Dataset| {
            let keys = dataset.classes.as_deref().unwrap_or_default();
            let classes = named(known, keys, || format!("model.datasets, dataset `{}`, classes", dataset.name))?;
            if classes.is_empty() { Err(PartialError::Empty { what: "dataset", name: dataset.name.clone(), why: "" }) } else { Ok(classes) }
        };
        let classes = declared.iter().map(of).collect::<Result<_, _>>()?;
        Ok(Self { declared: declared.to_vec(), classes, known: known.clone(), together: Vec::new(), apart: Vec::new() })
    }

    /// The same, knowing from what the values of their label maps mean which classes a voxel can show together.
    #[must_use]
    pub fn labelled_by<'a>(mut self, regions: impl IntoIterator<Item = &'a Regions>) -> Self {
        let all = self.all();
        for regions in regions {
            let pairs = all.iter().flat_map(|&a| all.iter().map(move |&b| [a, b])).filter(|[a, b]| a != b);
            for pair in pairs {
                let [a, b] = pair.map(|class| regions.of_class(class.value()));
                match a.meets(b) {
                    true => self.together.push(pair),
                    false if a.is_empty() || b.is_empty() => {}
                    false => self.apart.push(pair),
                }
            }
        }
        self
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.declared.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.declared.is_empty()
    }

    /// The declarations.
    #[must_use]
    pub fn declared(&self) -> &[Dataset] {
        &self.declared
    }

    /// The classes annotated in a dataset.
    #[must_use]
    pub fn classes(&self, dataset: usize) -> &[Class] {
        &self.classes[dataset]
    }

    /// The classes annotated in any of them.
    #[must_use]
    pub fn all(&self) -> Vec<Class> {
        let mut all = self.classes.concat();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Whether a voxel that is truly of `other` cannot be of `class`. Classes of a group exclude each other. In an organ there may be a
    /// tumor that nobody looked for, if the classes say that it may lie there. A tumor says that its organ is not there only where
    /// label maps have both and show them apart, as those do that count a tumor as no part of its organ.
    pub(crate) fn excludes(&self, other: Class, class: Class) -> bool {
        let pair = [other, class];
        if other == class || self.together.contains(&pair) {
            return false;
        }
        match other.group().cmp(&class.group()) {
            Ordering::Equal => true,
            Ordering::Less => !self.known.may_lie_in(class.value(), other.value()),
            Ordering::Greater => self.apart.contains(&pair) || !self.known.may_lie_in(other.value(), class.value()),
        }
    }
}
