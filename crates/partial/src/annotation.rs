//! Which dataset has which classes annotated.

use labels::{BACKGROUND, CLASS_KEYS, LabelPattern, Subset, SubsetName, TUMOR};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A class of the challenge, by its key such as `liver` or `tumor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Class(u8);

impl Class {
    /// The class of a label above 0.
    #[must_use]
    pub fn of(label: u8) -> Option<Self> {
        (label != BACKGROUND && usize::from(label) < CLASS_KEYS.len()).then_some(Self(label))
    }

    /// Every class, in the order of labels.
    #[must_use]
    pub fn all() -> Vec<Self> {
        (1..=TUMOR).map(Self).collect()
    }

    /// The label, 1 to 14.
    #[must_use]
    pub fn label(self) -> u8 {
        self.0
    }

    /// The key.
    #[must_use]
    pub fn key(self) -> &'static str {
        CLASS_KEYS[usize::from(self.0)]
    }

    /// Whether this is the tumor, which prepared cases hold in a map of its own.
    #[must_use]
    pub fn is_tumor(self) -> bool {
        self.0 == TUMOR
    }
}

impl TryFrom<String> for Class {
    type Error = PartialError;

    fn try_from(key: String) -> Result<Self, PartialError> {
        let label = CLASS_KEYS.iter().position(|&known| known == key).and_then(|label| u8::try_from(label).ok());
        label.and_then(Self::of).ok_or(PartialError::Class(key))
    }
}

impl From<Class> for String {
    fn from(class: Class) -> Self {
        class.key().to_owned()
    }
}

/// A dataset as the pipeline file declares it: the cases of a label pattern.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Dataset {
    /// A name of letters, digits, `_` and `-`.
    pub name: String,
    /// The cases.
    pub subset: SubsetName,
    /// The classes that are annotated in all of them; by default those that the subset's annotators looked for.
    #[serde(default)]
    pub classes: Option<Vec<Class>>,
}

/// Classes that belong together, such as an organ and its tumor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// A name of letters, digits, `_` and `-`.
    pub name: String,
    /// The classes.
    pub classes: Vec<Class>,
}

/// Why a declaration of partial labels makes no sense.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum PartialError {
    /// No class has this key.
    #[error("there is no class `{0}`; the classes are {known}", known = CLASS_KEYS[1..].join(", "))]
    Class(String),
    /// Nothing to train on.
    #[error("{0}: none given, expected at least one")]
    None(&'static str),
    /// A name that cannot be part of a parameter's name, or stands twice.
    #[error("{what} `{name}`: names must differ and hold letters, digits, `_` and `-` alone")]
    Name {
        /// What is named.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A dataset or a task without classes.
    #[error("{what} `{name}` has no classes; list some, or leave it out")]
    Empty {
        /// What is empty.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// A case would belong to two datasets.
    #[error("the cases of {subset} belong to the datasets `{first}` and `{second}`; give each subset to one dataset")]
    Shared {
        /// The subset.
        subset: Subset,
        /// A dataset.
        first: String,
        /// Another.
        second: String,
    },
    /// A dataset that no task is about.
    #[error("no task has a class of the dataset `{0}`, so nothing can be learnt from it; add a task, or leave the dataset out")]
    NoTask(String),
    /// A network that cannot be.
    #[error("{0}")]
    Network(String),
}

/// Datasets whose annotations are known and of which none shares a case with another.
#[derive(Clone, Debug)]
pub struct Datasets {
    declared: Vec<Dataset>,
    classes: Vec<Vec<Class>>,
}

impl Datasets {
    /// The datasets as declared.
    ///
    /// # Errors
    /// Says what contradicts itself.
    pub fn new(declared: &[Dataset]) -> Result<Self, PartialError> {
        check_names("dataset", declared.iter().map(|dataset| dataset.name.as_str()))?;
        for (k, second) in declared.iter().enumerate() {
            for first in &declared[..k] {
                if let Some(&subset) = second.subset.members().iter().find(|&&subset| first.subset.contains(subset)) {
                    return Err(PartialError::Shared { subset, first: first.name.clone(), second: second.name.clone() });
                }
            }
        }
        let classes: Vec<Vec<Class>> = declared.iter().map(annotated).collect();
        match classes.iter().position(Vec::is_empty) {
            Some(empty) => Err(PartialError::Empty { what: "dataset", name: declared[empty].name.clone() }),
            None => Ok(Self { declared: declared.to_vec(), classes }),
        }
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

    /// The classes annotated in a dataset, in the order of labels.
    #[must_use]
    pub fn classes(&self, dataset: usize) -> &[Class] {
        &self.classes[dataset]
    }

    /// The dataset of a subset's cases.
    #[must_use]
    pub fn of(&self, subset: Subset) -> Option<usize> {
        self.declared.iter().position(|dataset| dataset.subset.contains(subset))
    }
}

/// What a dataset declares, or else what the annotators of all its subsets looked for.
fn annotated(dataset: &Dataset) -> Vec<Class> {
    let mut classes = dataset.classes.clone().unwrap_or_else(|| {
        let looked_for = |subset: &Subset| {
            let tumor = if SubsetName::Dc.contains(*subset) { LabelPattern::TUMOR } else { LabelPattern::EMPTY };
            subset.annotated_organs().union(tumor)
        };
        let in_all = dataset.subset.members().iter().map(looked_for).reduce(LabelPattern::intersection);
        in_all.unwrap_or(LabelPattern::EMPTY).iter().filter_map(Class::of).collect()
    });
    classes.sort_unstable();
    classes.dedup();
    classes
}

pub(crate) fn check_names<'a>(what: &'static str, names: impl Iterator<Item = &'a str>) -> Result<(), PartialError> {
    let mut seen = Vec::new();
    for name in names {
        let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
        if !plain || seen.contains(&name) {
            return Err(PartialError::Name { what, name: name.to_owned() });
        }
        seen.push(name);
    }
    if seen.is_empty() { Err(PartialError::None(what)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dataset(name: &str, subset: SubsetName) -> Dataset {
        Dataset { name: name.into(), subset, classes: None }
    }

    #[test]
    fn a_label_pattern_says_what_is_annotated() {
        let datasets = Datasets::new(&[
            dataset("all", SubsetName::Dl1),
            dataset("five", SubsetName::Dl2),
            dataset("both", SubsetName::Dl3),
            dataset("tumor", SubsetName::Dl4),
        ])
        .unwrap();
        let counts: Vec<usize> = (0..datasets.len()).map(|d| datasets.classes(d).len()).collect();
        assert_eq!(counts, [13, 5, 6, 1]);
        assert_eq!(datasets.classes(3)[0].key(), "tumor");
        assert_eq!((datasets.of(Subset::Dl3), datasets.of(Subset::Du)), (Some(2), None));
        let together = Datasets::new(&[dataset("cancer", SubsetName::Dc)]).unwrap();
        assert_eq!(together.classes(0).len(), 1, "what only some of the cases have annotated does not count");
    }

    #[test]
    fn contradictions_are_told() {
        let error = |declared: &[Dataset]| Datasets::new(declared).unwrap_err().to_string();
        assert!(
            error(&[dataset("a", SubsetName::Dl3), dataset("b", SubsetName::Dc)])
                .contains("cases of D_l3 belong to the datasets `a` and `b`")
        );
        assert!(error(&[dataset("a", SubsetName::Du)]).contains("dataset `a` has no classes"));
        assert!(error(&[dataset("a", SubsetName::Dl1), dataset("a", SubsetName::Dl2)]).contains("names must differ"));
        assert!(error(&[]).contains("none given"));
        assert!(serde_json::from_str::<Class>("\"kidney\"").unwrap_err().to_string().contains("no class `kidney`"));
    }
}
