//! Labels that stand for structures on both sides of the body, and the classes of each side.

use std::collections::{BTreeMap, BTreeSet};

use labels::LabelPattern;

use crate::declaration::{DatasetConfig, Mark, Side};
use crate::nnunet::DatasetList;
use crate::problem::Problem;

/// Refuses a part of a label without the other part, whatever the dataset.
pub(crate) fn check(config: &DatasetConfig) -> Result<(), Problem> {
    if config.ignore.side.is_some() {
        return Err(Problem::IgnoredSide);
    }
    let on = |side: Side| -> Vec<&Mark> {
        config.values.values().filter(|marks| marks.side == Some(side)).flat_map(|marks| &marks.marks).collect()
    };
    let (left, right) = (on(Side::Left), on(Side::Right));
    for (here, there, given, missing) in [(&left, &right, "left", "right"), (&right, &left, "right", "left")] {
        if let Some(mark) = here.iter().find(|mark| !there.contains(mark)) {
            return Err(Problem::OneSide { mark: mark.to_string(), given, missing });
        }
    }
    Ok(())
}

/// The structures that are cut in two: their values, each with the one that its left part gets, the largest that nothing else has.
/// Puts these into `values`, which has the values of each class as the label maps hold them.
pub(crate) fn of(
    config: &DatasetConfig,
    values: &mut BTreeMap<String, Vec<u8>>,
    ignored: &[u8],
    list: Option<&DatasetList>,
) -> Result<Vec<BTreeMap<u8, u8>>, Problem> {
    let side_of = |key: &String| config.values.get(key).and_then(|marks| marks.side);
    let of_left = values.iter().filter(|(key, _)| side_of(key) == Some(Side::Left));
    let left: BTreeSet<u8> = of_left.flat_map(|(_, values)| values.iter().copied()).collect();
    let listed = list.into_iter().flat_map(|list| list.labels.iter().flat_map(|label| label.values.iter().copied()));
    let taken: LabelPattern = values.values().flatten().copied().chain(ignored.iter().copied()).chain(listed).collect();
    let mut free = (1..=u8::MAX).rev().filter(|value| !taken.contains(*value));
    let mut sides = BTreeMap::new();
    for &value in &left {
        sides.insert(value, free.next().ok_or(Problem::NoValueLeft { value })?);
    }
    let mut open = sides.clone();
    let mut structures = Vec::new();
    for (key, values) in values {
        let lefts: Vec<u8> = values.iter().filter_map(|value| sides.get(value).copied()).collect();
        match side_of(key) {
            Some(Side::Right) => {}
            Some(Side::Left) => {
                let structure: BTreeMap<u8, u8> = values.iter().filter_map(|value| open.remove_entry(value)).collect();
                structures.extend((!structure.is_empty()).then_some(structure));
                *values = lefts;
            }
            None => values.extend(lefts),
        }
    }
    Ok(structures)
}
