//! What is scored: the classes, and which values of the two label maps show each of them.

use std::collections::BTreeMap;

use labels::{BACKGROUND, BACKGROUND_KEY, Classes, LabelError, LabelPattern, Regions};
use serde::Serialize;

use crate::{MetricsError, ScoredClass};
use labels::name_of;

/// A class, and the values that show it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scored {
    /// The class.
    #[serde(flatten)]
    pub class: ScoredClass,
    /// The values of the prediction that show it.
    pub prediction: LabelPattern,
    /// The values of the ground truth that show it.
    pub truth: LabelPattern,
    /// The tolerance of its NSD in mm, if one is declared.
    pub nsd_tolerance_mm: Option<f64>,
}

/// The classes that are scored, group by group, and ascending by value in each; after the classes of a group come the unions that
/// count in it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scoring {
    classes: Vec<Scored>,
    /// The values that the maps may hold besides background.
    pub(crate) prediction: LabelPattern,
    pub(crate) truth: LabelPattern,
}

/// What is said of a scoring beside the classes of the prediction.
#[derive(Clone, Copy, Debug)]
pub struct Declared<'a> {
    /// The values of each class in the ground truth. Classes that it leaves out are not scored. If it is empty, the ground truth
    /// has the values of the prediction.
    pub truth: &'a BTreeMap<String, Vec<u8>>,
    /// Classes that are scored as the union of others, which are named by their keys or those of groups. In the ground truth a
    /// union is what `truth` says of it, else the union of the same classes.
    pub unions: &'a BTreeMap<String, Vec<String>>,
    /// Values of the ground truth that count as background.
    pub ignored: &'a [u8],
    /// The tolerances of the NSD in mm that are not the protocol's.
    pub nsd_tolerance_mm: &'a BTreeMap<String, f64>,
}

impl Scoring {
    /// Scores every class, with both maps in output values.
    #[must_use]
    pub fn of(classes: &Classes) -> Self {
        let all = classes.pattern();
        let scored = in_groups(classes).map(|class| {
            let shown = LabelPattern::of(class.value);
            Scored { class: named(classes, class), prediction: shown, truth: shown, nsd_tolerance_mm: None }
        });
        Self { classes: scored.collect(), prediction: all, truth: all }
    }

    /// Scores what is declared.
    ///
    /// # Errors
    /// When a key is no class, or values or tolerances make no sense.
    pub fn declared(classes: &Classes, declared: Declared<'_>) -> Result<Self, MetricsError> {
        let truth = true_regions(classes, declared)?;
        let mut scored = Vec::new();
        for (at, group) in classes.groups().iter().enumerate() {
            for class in group.classes().iter().filter(|class| !declared.unions.contains_key(&class.key)) {
                let (prediction, truth) = (LabelPattern::of(class.value), truth.of_class(class.value));
                scored.push((at, Scored { class: named(classes, class), prediction, truth, nsd_tolerance_mm: None }));
            }
        }
        scored.retain(|(_, class)| !class.truth.is_empty());
        for (key, members) in declared.unions {
            scored.push(union(classes, key, members, &truth, declared)?);
        }
        // A union that bears the name of a class stands in its place.
        scored.sort_by_key(|(group, scored)| (*group, scored.class.label.unwrap_or(u8::MAX)));
        let mut scored: Vec<Scored> = scored.into_iter().map(|(_, scored)| scored).collect();
        for (key, &mm) in declared.nsd_tolerance_mm {
            if !(mm.is_finite() && mm >= 0.0) {
                return Err(MetricsError::BadTolerance { key: key.clone(), mm });
            }
            let Some(class) = scored.iter_mut().find(|scored| scored.class.key == *key) else {
                let scored = scored.iter().map(|scored| scored.class.key.clone()).collect();
                return Err(MetricsError::NotScored { key: key.clone(), scored });
            };
            class.nsd_tolerance_mm = Some(mm);
        }
        let ignored: LabelPattern = declared.ignored.iter().copied().collect();
        let in_truth = scored.iter().fold(ignored, |all, scored| all.union(scored.truth));
        let in_truth = truth.classes().iter().fold(in_truth, |all, class| all.union(truth.of_class(class)));
        Ok(Self { classes: scored, prediction: classes.pattern(), truth: in_truth })
    }

    /// The classes that are scored.
    #[must_use]
    pub fn classes(&self) -> &[Scored] {
        &self.classes
    }
}

fn in_groups(classes: &Classes) -> impl Iterator<Item = &labels::Class> {
    classes.groups().iter().flat_map(labels::Group::classes)
}

fn named(classes: &Classes, class: &labels::Class) -> ScoredClass {
    let group = classes.group_of(class.value).map_or("", |group| classes.groups()[group].key());
    ScoredClass { key: class.key.clone(), name: class.name.clone(), label: Some(class.value), group: group.to_owned() }
}

/// What the ground truth says of single classes.
fn true_regions(classes: &Classes, declared: Declared<'_>) -> Result<Regions, MetricsError> {
    let told: BTreeMap<String, Vec<u8>> = if declared.truth.is_empty() {
        in_groups(classes).map(|class| (class.key.clone(), vec![class.value])).collect()
    } else {
        let is_of_class = |key: &String| classes.class(key).is_ok() || !declared.unions.contains_key(key);
        declared.truth.iter().filter(|(key, _)| is_of_class(key)).map(|(key, values)| (key.clone(), values.clone())).collect()
    };
    // A dataset may say that it has a class nowhere; nothing can be scored against that.
    let sound = told.iter().try_for_each(|(key, values)| true_values(key, values, declared.ignored).map(drop));
    sound.and_then(|()| Regions::declared(classes, &told, declared.ignored)).map_err(|reason| MetricsError::Truth { reason })
}

/// The place of a union's group, and the union.
fn union(
    classes: &Classes,
    key: &str,
    members: &[String],
    truth: &Regions,
    declared: Declared<'_>,
) -> Result<(usize, Scored), MetricsError> {
    let bad = |reason| MetricsError::Union { key: key.to_owned(), reason };
    if classes.group(key).is_ok() || key == BACKGROUND_KEY || key.is_empty() {
        return Err(MetricsError::UnionName { key: key.to_owned() });
    }
    let prediction = classes.pattern_of(members).map_err(bad)?;
    // A union counts in the lowest group that it has a class of.
    let Some(group) = prediction.iter().filter_map(|value| classes.group_of(value)).min() else {
        return Err(MetricsError::EmptyUnion { key: key.to_owned() });
    };
    let shown = match declared.truth.get(key) {
        Some(values) => true_values(key, values, declared.ignored).map_err(bad)?,
        None => prediction.iter().try_fold(LabelPattern::EMPTY, |shown, class| {
            let member = truth.of_class(class);
            let nothing = || MetricsError::NoTruth { key: key.to_owned(), member: classes.key_of(class).into_owned() };
            if member.is_empty() { Err(nothing()) } else { Ok(shown.union(member)) }
        })?,
    };
    let class = match classes.class(key) {
        Ok(class) => named(classes, class),
        Err(_) => ScoredClass { key: key.to_owned(), name: name_of(key), label: None, group: classes.groups()[group].key().to_owned() },
    };
    let group = class.label.and_then(|value| classes.group_of(value)).unwrap_or(group);
    Ok((group, Scored { class, prediction, truth: shown, nsd_tolerance_mm: None }))
}

/// The values that `truth` gives to a class or a union.
fn true_values(key: &str, values: &[u8], ignored: &[u8]) -> Result<LabelPattern, LabelError> {
    if values.is_empty() || values.contains(&BACKGROUND) {
        return Err(LabelError::BadRegion { key: key.to_owned(), values: values.to_vec() });
    }
    match values.iter().find(|value| ignored.contains(value)) {
        Some(&value) => Err(LabelError::IgnoredRegion { key: key.to_owned(), value }),
        None => Ok(values.iter().copied().collect()),
    }
}
