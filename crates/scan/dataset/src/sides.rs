//! Labels that stand for structures on both sides of the body, and the classes of each side.

use std::collections::{BTreeMap, BTreeSet};

use labels::LabelPattern;

use crate::declaration::{DatasetConfig, Side};
use crate::nnunet::DatasetList;
use crate::problem::Problem;

/// The structures that are cut in two: their values, each with the one that its left part gets, the largest that nothing else has.
/// Puts these into `values`, which has the values of each class as the label maps hold them.
pub(crate) fn of(
    config: &DatasetConfig,
    values: &mut BTreeMap<String, Vec<u8>>,
    ignored: &[u8],
    list: Option<&DatasetList>,
) -> Result<Vec<BTreeMap<u8, u8>>, Problem> {
    let side_of = |key: &String| config.values.get(key).and_then(|marks| marks.side);
    if config.ignore.side.is_some() {
        return Err(Problem::IgnoredSide);
    }
    let on = |side: Side| {
        let of_side = values.iter().filter(|(key, _)| side_of(key) == Some(side));
        of_side.flat_map(|(_, values)| values.iter().copied()).collect::<BTreeSet<u8>>()
    };
    let (left, right) = (on(Side::Left), on(Side::Right));
    if let Some(&value) = left.symmetric_difference(&right).next() {
        let (given, missing) = if left.contains(&value) { ("left", "right") } else { ("right", "left") };
        return Err(Problem::OneSide { value, given, missing });
    }
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
