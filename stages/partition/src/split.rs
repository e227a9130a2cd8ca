//! The split into training and validation, by case.
//!
//! Each case draws a number from the seed and its own name, and the cases of a subset with the lowest numbers form
//! its validation side. So the sides do not depend on the order of files, a case that is added or removed moves at
//! most one other case of its subset to the other side, and none of another subset.

use std::collections::BTreeMap;

use dataset::{Case, Split};
use labels::Subset;
use rand::RngExt as _;
use streams::Streams;

use crate::check::Facts;

/// All cases with their sides, sorted by id.
pub(crate) fn split(good: Vec<Facts>, validation_fraction: f64, seed: u64) -> Vec<Case> {
    let streams = Streams::new(seed);
    let mut subsets = BTreeMap::<Subset, Vec<(u64, Facts)>>::new();
    for facts in good {
        subsets.entry(facts.pattern.subset()).or_default().push((draw(&streams, &facts.id), facts));
    }
    let mut cases = Vec::new();
    for (subset, mut members) in subsets {
        members.sort_by(|(a, a_facts), (b, b_facts)| (a, &a_facts.id).cmp(&(b, &b_facts.id)));
        let validation = validation_count(members.len(), validation_fraction);
        cases.extend(members.into_iter().enumerate().map(|(rank, (_, facts))| {
            let split = if rank < validation { Split::Validation } else { Split::Training };
            case(facts, subset, split)
        }));
    }
    cases.sort_by(|a, b| a.id.cmp(&b.id));
    cases
}

fn draw(streams: &Streams, id: &str) -> u64 {
    let place: Vec<u64> = id.bytes().map(u64::from).collect();
    streams.stream("split by case", &place).random()
}

/// A lone case is trained on. Of two or more, at least one stands on each side: models cannot be chosen by nothing.
fn validation_count(cases: usize, fraction: f64) -> usize {
    if cases < 2 || fraction == 0.0 {
        return 0;
    }
    ((cases as f64 * fraction).round() as usize).clamp(1, cases - 1)
}

fn case(facts: Facts, subset: Subset, split: Split) -> Case {
    Case {
        id: facts.id,
        image: facts.image,
        label: facts.label,
        pattern: facts.pattern,
        subset,
        split,
        shape: facts.shape,
        spacing_mm: facts.spacing_mm,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use labels::LabelPattern;
    use proptest::prelude::*;

    fn facts(id: usize, pattern: LabelPattern) -> Facts {
        Facts { id: format!("case_{id}"), image: "image".into(), label: None, pattern, shape: [1; 3], spacing_mm: [1.0; 3], doubt: None }
    }

    fn validation_ids(good: Vec<Facts>, seed: u64) -> Vec<String> {
        let cases = split(good, 0.2, seed);
        cases.into_iter().filter(|case| case.split == Split::Validation).map(|case| case.id).collect()
    }

    #[test]
    fn the_seed_decides_and_the_order_of_files_does_not() {
        let cases = || (0..50).map(|id| facts(id, LabelPattern::EMPTY)).collect::<Vec<_>>();
        let mut reversed = cases();
        reversed.reverse();
        assert_eq!(validation_ids(cases(), 1).len(), 10);
        assert_eq!(validation_ids(cases(), 1), validation_ids(reversed, 1));
        assert_ne!(validation_ids(cases(), 1), validation_ids(cases(), 2));
    }

    #[test]
    fn a_new_case_moves_at_most_one_other_of_its_subset_and_none_elsewhere() {
        let before: Vec<Facts> = (0..60).map(|id| facts(id, if id % 2 == 0 { LabelPattern::TUMOR } else { LabelPattern::EMPTY })).collect();
        for new in 100..140 {
            let mut after = before.clone();
            after.push(facts(new, LabelPattern::TUMOR));
            let (old_ids, new_ids) = (validation_ids(before.clone(), 7), validation_ids(after, 7));
            let is_old = |id: &&String| !old_ids.contains(id) && **id != format!("case_{new}");
            let moved: Vec<_> = new_ids.iter().filter(is_old).chain(old_ids.iter().filter(|id| !new_ids.contains(id))).collect();
            assert!(moved.len() <= 1, "{moved:?}");
        }
    }

    proptest! {
        #[test]
        fn both_sides_have_cases_where_there_are_two(cases in 0usize..3000, fraction in 0.0f64..1.0) {
            let validation = validation_count(cases, fraction);
            if cases >= 2 && fraction > 0.0 {
                prop_assert!((1..cases).contains(&validation));
                prop_assert!((validation as f64 - cases as f64 * fraction).abs() <= 1.0);
            } else {
                prop_assert_eq!(validation, 0);
            }
        }
    }
}
