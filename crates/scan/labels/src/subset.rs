//! Subsets of the cases, by rules on what their label maps show (paper, section 2.1).

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Classes, LabelError, LabelPattern};

/// The name that stands for every case.
pub const ALL_CASES: &str = "D";

/// The rule of a subset as pipeline files write it. Names are those of classes, or of groups for all of their classes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Rule {
    /// The datasets that its cases come from; all datasets if none is named.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub datasets: Vec<String>,
    /// A case must show at least one of these classes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub any: Vec<String>,
    /// A case must show all of these classes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub all: Vec<String>,
    /// A case must not show any of these classes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub none: Vec<String>,
    /// The classes that the annotators of its cases looked for, so that where they are not shown they are not there. All that the
    /// dataset of a case declares, if this is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotated: Option<Vec<String>>,
}

/// A subset: the cases that fulfil its rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subset {
    /// Its name, such as `D_l1`.
    pub name: String,
    /// What its annotators looked for; all that is declared if this is absent.
    pub annotated: Option<LabelPattern>,
    /// The datasets of its cases; all if there is none.
    datasets: BTreeSet<String>,
    any: Option<LabelPattern>,
    all: LabelPattern,
    none: LabelPattern,
}

impl Subset {
    fn takes(&self, dataset: &str, pattern: LabelPattern) -> bool {
        self.takes_from(dataset) && self.takes_pattern(pattern)
    }

    fn takes_from(&self, dataset: &str) -> bool {
        self.datasets.is_empty() || self.datasets.contains(dataset)
    }

    fn takes_pattern(&self, pattern: LabelPattern) -> bool {
        self.any.is_none_or(|any| any.meets(pattern)) && self.all.is_within(pattern) && !self.none.meets(pattern)
    }
}

/// The subsets that part the data, and the unions of them that have a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subsets {
    rules: Vec<Subset>,
    unions: BTreeMap<String, Vec<String>>,
}

impl Subsets {
    /// The subsets of a declaration. Without any rule each dataset is a subset of its name.
    ///
    /// # Errors
    /// Names what is not known, or stands for two things; a pattern of classes that two rules take, or none of them does.
    pub fn declared(
        rules: &BTreeMap<String, Rule>,
        unions: &BTreeMap<String, Vec<String>>,
        classes: &Classes,
        datasets: &[&str],
    ) -> Result<Self, LabelError> {
        let of_dataset = |name: &&str| ((*name).to_owned(), Rule { datasets: vec![(*name).to_owned()], ..Rule::default() });
        let by_dataset: BTreeMap<String, Rule> = datasets.iter().map(of_dataset).collect();
        let rules = if rules.is_empty() { &by_dataset } else { rules };
        let rules: Vec<Subset> = rules.iter().map(|(name, rule)| subset(name, rule, classes, datasets)).collect::<Result<_, _>>()?;
        check_unions(&rules, unions)?;
        for dataset in datasets {
            check_parts(&rules, dataset, classes)?;
        }
        Ok(Self { rules, unions: unions.clone() })
    }

    /// The subsets, by name.
    #[must_use]
    pub fn rules(&self) -> &[Subset] {
        &self.rules
    }

    /// For each subset and union, and for all cases as [`ALL_CASES`], the subsets that it holds.
    #[must_use]
    pub fn members(&self) -> BTreeMap<String, Vec<String>> {
        let mut members = self.unions.clone();
        members.insert(ALL_CASES.to_owned(), self.rules.iter().map(|rule| rule.name.clone()).collect());
        members.extend(self.rules.iter().map(|rule| (rule.name.clone(), vec![rule.name.clone()])));
        members
    }

    /// The subset of a case, by its dataset and what it shows. There always is one, because declarations leave no gap.
    #[must_use]
    pub fn of(&self, dataset: &str, pattern: LabelPattern) -> Option<&Subset> {
        self.rules.iter().find(|rule| rule.takes(dataset, pattern))
    }
}

fn subset(name: &str, rule: &Rule, classes: &Classes, datasets: &[&str]) -> Result<Subset, LabelError> {
    check_name(name)?;
    if let Some(unknown) = rule.datasets.iter().find(|dataset| !datasets.contains(&dataset.as_str())) {
        let known = datasets.iter().map(|&dataset| dataset.to_owned()).collect();
        return Err(LabelError::NoDataset { subset: name.to_owned(), dataset: unknown.clone(), known });
    }
    let pattern =
        |keys: &[String]| classes.pattern_of(keys).map_err(|reason| LabelError::Rule { subset: name.to_owned(), reason: Box::new(reason) });
    let [any, all, none] = [pattern(&rule.any)?, pattern(&rule.all)?, pattern(&rule.none)?];
    let (any, excluded) = (Some(any).filter(|any| !any.is_empty()), none);
    if all.meets(excluded) || any.is_some_and(|any| any.is_within(excluded)) {
        return Err(LabelError::EmptyRule { subset: name.to_owned() });
    }
    let annotated = rule.annotated.as_deref().map(pattern).transpose()?;
    Ok(Subset { name: name.to_owned(), annotated, datasets: rule.datasets.iter().cloned().collect(), any, all, none })
}

fn check_name(name: &str) -> Result<(), LabelError> {
    let plain = !name.is_empty() && name != ALL_CASES && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
    if plain { Ok(()) } else { Err(LabelError::BadSubsetName { name: name.to_owned() }) }
}

fn check_unions(rules: &[Subset], unions: &BTreeMap<String, Vec<String>>) -> Result<(), LabelError> {
    let is_rule = |name: &String| rules.iter().any(|rule| rule.name == *name);
    for (name, members) in unions {
        check_name(name)?;
        if is_rule(name) || members.is_empty() {
            return Err(LabelError::BadSubsetName { name: name.clone() });
        }
        if let Some(unknown) = members.iter().find(|member| !is_rule(member)) {
            let known = rules.iter().map(|rule| rule.name.clone()).collect();
            return Err(LabelError::NoSubset { name: unknown.clone(), known });
        }
    }
    Ok(())
}

/// Beyond so many kinds of classes, declarations are checked by the data alone.
const MOST_KINDS: usize = 16;

/// Refuses rules that take a pattern of a dataset twice, or not at all. Classes that all rules treat alike are of one kind, and one
/// of a kind that is asked for one by one (`all`) is a kind of its own.
fn check_parts(rules: &[Subset], dataset: &str, classes: &Classes) -> Result<(), LabelError> {
    let rules: Vec<&Subset> = rules.iter().filter(|rule| rule.takes_from(dataset)).collect();
    let place = |class: u8| -> Vec<[bool; 3]> {
        rules
            .iter()
            .map(|rule| [rule.any.is_some_and(|any| any.contains(class)), rule.all.contains(class), rule.none.contains(class)])
            .collect()
    };
    let mut kinds = BTreeMap::<(Vec<[bool; 3]>, u8), u8>::new();
    for class in classes.pattern().iter() {
        let place = place(class);
        let alone = if place.iter().any(|[_, all, _]| *all) { class } else { 0 };
        kinds.entry((place, alone)).or_insert(class);
    }
    let kinds: Vec<u8> = kinds.into_values().collect();
    if kinds.len() > MOST_KINDS {
        return Ok(());
    }
    for bits in 0..1u32 << kinds.len() {
        let pattern: LabelPattern = kinds.iter().enumerate().filter(|(k, _)| bits >> k & 1 == 1).map(|(_, &class)| class).collect();
        let taken: Vec<&str> = rules.iter().filter(|rule| rule.takes_pattern(pattern)).map(|rule| rule.name.as_str()).collect();
        if taken.len() != 1 {
            let shown = classes.keys_of(pattern);
            return Err(match taken[..] {
                [] => LabelError::Gap { dataset: dataset.to_owned(), shown },
                _ => LabelError::Overlap { subsets: taken.iter().map(|&name| name.to_owned()).collect(), shown },
            });
        }
    }
    Ok(())
}
