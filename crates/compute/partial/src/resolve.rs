//! What a declaration of datasets and tasks leaves to the manifest.

use dataset::Manifest;
use labels::{Classes, LabelPattern};

use crate::annotation::{Dataset, Datasets, Task};
use crate::class::Class;
use crate::error::PartialError;
use crate::method::ModelConfig;

impl ModelConfig {
    /// Refuses what makes no sense whatever the cases are.
    ///
    /// # Errors
    /// Names what contradicts itself.
    pub fn check(&self) -> Result<(), PartialError> {
        check_names("dataset", self.datasets.iter().map(|dataset| dataset.name.as_str()))?;
        check_names("task", self.tasks.iter().map(|task| task.name.as_str()))?;
        let empty = |what, name: &String| Err(PartialError::Empty { what, name: name.clone(), why: "" });
        if let Some(dataset) = self.datasets.iter().find(|dataset| dataset.classes.as_ref().is_some_and(Vec::is_empty)) {
            return empty("dataset", &dataset.name);
        }
        self.tasks.iter().find(|task| task.classes.is_empty()).map_or(Ok(()), |task| empty("task", &task.name))
    }

    /// The same with all that follows from the cases: the datasets, their classes by name, and those of the tasks.
    ///
    /// # Errors
    /// Names the field, what was found, and what is known.
    pub fn resolved(&self, manifest: &Manifest) -> Result<Self, PartialError> {
        self.check()?;
        let declared = if self.datasets.is_empty() { of_subsets(manifest)? } else { self.datasets.clone() };
        check_disjoint(&declared, manifest)?;
        let datasets = declared.iter().map(|dataset| resolved(dataset, manifest)).collect::<Result<Vec<_>, _>>()?;
        let task = |task: &Task| Ok(Task { name: task.name.clone(), classes: keys(&manifest.classes, &task.resolved(&manifest.classes)?) });
        let tasks = self.tasks.iter().map(task).collect::<Result<Vec<_>, PartialError>>()?;
        let tasks = if self.method.has_tasks() { tasks } else { Vec::new() };
        Ok(Self { method: self.method.clone(), datasets, tasks })
    }

    /// The same without what datasets have annotated beyond some classes.
    #[must_use]
    pub fn about(&self, classes: &Classes) -> Self {
        let mut about = self.clone();
        about
            .datasets
            .iter_mut()
            .filter_map(|dataset| dataset.classes.as_mut())
            .for_each(|keys| keys.retain(|key| classes.class(key).is_ok()));
        about
    }
}

fn keys(classes: &Classes, of: &[Class]) -> Vec<String> {
    of.iter().map(|class| classes.key_of(class.value()).into_owned()).collect()
}

/// A dataset that says what is annotated in it.
fn resolved(dataset: &Dataset, manifest: &Manifest) -> Result<Dataset, PartialError> {
    let Dataset { name, subset, .. } = dataset;
    let classes = match &dataset.classes {
        Some(_) => Datasets::new(std::slice::from_ref(dataset), &manifest.classes)?.all(),
        None => Class::within(&manifest.classes, annotated(subset, manifest)?.unwrap_or(LabelPattern::EMPTY)),
    };
    if classes.is_empty() {
        return Err(PartialError::Empty { what: "dataset", name: name.clone(), why: " that are annotated in all of its cases" });
    }
    Ok(Dataset { name: name.clone(), subset: subset.clone(), classes: Some(keys(&manifest.classes, &classes)) })
}

/// What is annotated in all cases of a subset of which something is; nothing if there is no such case.
fn annotated(subset: &str, manifest: &Manifest) -> Result<Option<LabelPattern>, PartialError> {
    let members = members(subset, manifest)?;
    let cases = manifest.cases.iter().filter(|case| members.contains(&case.subset) && !case.annotated.is_empty());
    Ok(cases.map(|case| case.annotated).reduce(LabelPattern::intersection))
}

fn members<'a>(subset: &str, manifest: &'a Manifest) -> Result<&'a [String], PartialError> {
    let unknown = |reason| PartialError::Subset { field: "model.datasets, subset".into(), reason: Box::new(reason) };
    manifest.members(subset).map_err(unknown)
}

/// A dataset for each subset of which something is annotated.
fn of_subsets(manifest: &Manifest) -> Result<Vec<Dataset>, PartialError> {
    let mut datasets = Vec::new();
    // A union stands for others than itself.
    for (name, _) in manifest.subsets.iter().filter(|(name, members)| members[..] == [(*name).clone()]) {
        if annotated(name, manifest)?.is_some() {
            datasets.push(Dataset { name: name.clone(), subset: name.clone(), classes: None });
        }
    }
    if datasets.is_empty() { Err(PartialError::NoDataset(manifest.counts())) } else { Ok(datasets) }
}

fn check_disjoint(declared: &[Dataset], manifest: &Manifest) -> Result<(), PartialError> {
    for (k, second) in declared.iter().enumerate() {
        let of_second = members(&second.subset, manifest)?;
        for first in &declared[..k] {
            if let Some(subset) = members(&first.subset, manifest)?.iter().find(|&subset| of_second.contains(subset)) {
                return Err(PartialError::Shared { subset: subset.clone(), first: first.name.clone(), second: second.name.clone() });
            }
        }
    }
    Ok(())
}

/// Names stand in those of parameters.
fn check_names<'a>(what: &'static str, names: impl Iterator<Item = &'a str>) -> Result<(), PartialError> {
    let mut seen = Vec::new();
    for name in names {
        let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
        if !plain || seen.contains(&name) {
            return Err(PartialError::Name { what, name: name.to_owned() });
        }
        seen.push(name);
    }
    Ok(())
}
