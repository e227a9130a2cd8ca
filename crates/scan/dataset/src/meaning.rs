//! What the values of a dataset's label maps mean: from its declaration, from its `dataset.json`, or from both.

use std::collections::BTreeMap;

use labels::{Classes, LabelPattern, Regions};

use crate::declaration::{DatasetConfig, Mark, Marks};
use crate::nnunet::{DatasetList, Label};
use crate::problem::Problem;
use crate::sides;

/// The regions of a dataset with label maps. `list` is there with the layout `nnunet`.
pub(crate) fn regions(classes: &Classes, config: &DatasetConfig, list: Option<&DatasetList>) -> Result<Regions, Problem> {
    check_keys(classes, config)?;
    let mut values = of_values(config, list)?;
    let (mut ignored, ignored_labels) = of_ignore(config, list)?;
    if let Some(list) = list {
        // What is said by names speaks of these names, and of no other label that shares a value with one of them.
        let declared: LabelPattern =
            marks(config).filter_map(|mark| if let Mark::Value(value) = mark { Some(*value) } else { None }).collect();
        values.extend(of_names(classes, config, list, declared)?);
        check_claimed(classes, config, list, declared)?;
    } else if values.is_empty() {
        values = classes.all().into_iter().map(|class| (class.key.clone(), vec![class.value])).collect();
    }
    let shown: LabelPattern = values.values().flatten().copied().collect();
    // What a region shares with a class is the class's.
    ignored.extend(ignored_labels.iter().flat_map(|label| &label.values).filter(|value| !shown.contains(**value)));
    let sides = sides::of(config, &mut values, &ignored, list)?;
    Ok(Regions::declared(classes, &values, &ignored).map_err(Problem::Values)?.with_sides(sides))
}

/// Whether the regions follow from the declaration alone, without the dataset.
pub(crate) fn is_static(config: &DatasetConfig) -> bool {
    !config.values.is_empty() && marks(config).all(|mark| matches!(mark, Mark::Value(_)))
}

/// Refuses keys that are no class.
pub(crate) fn check_keys(classes: &Classes, config: &DatasetConfig) -> Result<(), Problem> {
    let Some(key) = config.values.keys().find(|key| classes.class(key).is_err()) else { return Ok(()) };
    let known = classes.keys_of(classes.pattern());
    Err(Problem::NoClass { key: key.clone(), near: like(key, classes), known })
}

/// Everything under `values` and `ignore`.
pub(crate) fn marks(config: &DatasetConfig) -> impl Iterator<Item = &Mark> {
    config.values.values().chain([&config.ignore]).flat_map(|marks| &marks.marks)
}

fn find<'a>(field: &str, name: &str, list: Option<&'a DatasetList>) -> Result<&'a Label, Problem> {
    let Some(list) = list else { return Err(Problem::NoNames { field: field.to_owned(), name: name.to_owned() }) };
    list.label(name).ok_or_else(|| Problem::NotListed {
        field: field.to_owned(),
        name: name.to_owned(),
        near: stage_kit::nearest(name, list.labels.iter().map(|label| label.name.as_str())).map(str::to_owned),
        listed: list.listed(),
    })
}

/// The values of each class by `values`.
fn of_values(config: &DatasetConfig, list: Option<&DatasetList>) -> Result<BTreeMap<String, Vec<u8>>, Problem> {
    let of_class = |(key, marks): (&String, &Marks)| {
        let mut values = Vec::new();
        for mark in &marks.marks {
            match mark {
                Mark::Value(value) => {
                    if let Some(list) = list.filter(|list| !list.has(*value)) {
                        return Err(Problem::ContradictsList { class: key.clone(), value: *value, listed: list.listed() });
                    }
                    values.push(*value);
                }
                Mark::Name(name) => values.extend(&find(&format!("values: {key}"), name, list)?.values),
            }
        }
        Ok((key.clone(), values))
    };
    config.values.iter().map(of_class).collect()
}

/// The values and the labels under `ignore`.
fn of_ignore<'a>(config: &DatasetConfig, list: Option<&'a DatasetList>) -> Result<(Vec<u8>, Vec<&'a Label>), Problem> {
    let (mut values, mut labels) = (Vec::new(), Vec::new());
    for mark in &config.ignore.marks {
        match mark {
            Mark::Value(value) => values.push(*value),
            Mark::Name(name) => labels.push(find("ignore", name, list)?),
        }
    }
    Ok((values, labels))
}

/// The values of each class whose name the list has, where the declaration says nothing of the class or of the values.
fn of_names(
    classes: &Classes,
    config: &DatasetConfig,
    list: &DatasetList,
    declared: LabelPattern,
) -> Result<BTreeMap<String, Vec<u8>>, Problem> {
    let mut of_class = BTreeMap::<String, &Label>::new();
    for label in list.labels.iter().filter(|label| !is_declared(config, label, declared)) {
        let Some(class) = class_of(classes, label).filter(|class| !config.values.contains_key(class)) else { continue };
        if let Some(first) = of_class.insert(class.clone(), label) {
            let [first, second] = [first, label].map(|label| label.name.clone());
            return Err(Problem::TwoLabels { class, first, second });
        }
    }
    Ok(of_class.into_iter().map(|(class, label)| (class, label.values.iter().copied().collect())).collect())
}

/// Whether `values` or `ignore` says what a label is: by its name, or by all of its values.
fn is_declared(config: &DatasetConfig, label: &Label, declared: LabelPattern) -> bool {
    let by_name = |mark: &Mark| matches!(mark, Mark::Name(name) if *name == label.name);
    marks(config).any(by_name) || label.values.iter().all(|value| declared.contains(*value))
}

/// The key of the class that a label names, whatever its capitals, spaces and hyphens.
fn class_of(classes: &Classes, label: &Label) -> Option<String> {
    let same = |key: &str| plain(key) == plain(&label.name);
    classes.all().into_iter().find(|class| same(&class.key)).map(|class| class.key.clone())
}

fn plain(name: &str) -> String {
    name.trim().to_lowercase().replace([' ', '-'], "_")
}

/// The class that is most like a name: of the same words in another order, or almost of the same letters.
fn like(name: &str, classes: &Classes) -> Option<String> {
    let words = |name: &str| {
        let mut words: Vec<String> = plain(name).split('_').map(str::to_owned).collect();
        words.sort();
        words
    };
    let keys = classes.keys_of(classes.pattern());
    let same_words = keys.iter().find(|key| words(key) == words(name)).cloned();
    same_words.or_else(|| stage_kit::nearest(&plain(name), keys.iter().map(String::as_str)).map(str::to_owned))
}

/// Refuses labels of the list that nobody says anything of.
fn check_claimed(classes: &Classes, config: &DatasetConfig, list: &DatasetList, declared: LabelPattern) -> Result<(), Problem> {
    let has_name = |label: &Label| class_of(classes, label).is_some_and(|class| !config.values.contains_key(&class));
    let unclaimed: Vec<&Label> = list.labels.iter().filter(|label| !is_declared(config, label, declared) && !has_name(label)).collect();
    if unclaimed.is_empty() {
        return Ok(());
    }
    let describe = |label: &&Label| match like(&label.name, classes) {
        Some(near) => format!("{label} (did you mean {near}?)"),
        None => label.to_string(),
    };
    let ignored = unclaimed.iter().any(|label| label.name.eq_ignore_ascii_case("ignore"));
    Err(Problem::Unclaimed { labels: unclaimed.iter().map(describe).collect(), ignored })
}
