//! The split into training and validation, by case or by patient.
//!
//! Each case draws a number from the seed and its own name, or that of its patient, and those of a subset with the lowest numbers
//! form its validation side, unless every so-manieth case by name does. So the sides do not depend on the order of files, a case that is added or removed moves at most one
//! other case of its subset to the other side, and none of another subset. Of several folds each takes the next numbers.

use std::collections::BTreeMap;
use std::ops::Range;

use dataset::{Case, Split, SplitRule};
use rand::RngExt as _;
use random::Streams;

use crate::Config;
use crate::subsets::Good;

/// All cases with their sides, sorted by id.
pub(crate) fn split(good: Vec<Good>, config: &Config, seed: u64) -> Vec<Case> {
    let sides = sides(&good, config, seed);
    let mut cases: Vec<Case> = good
        .into_iter()
        .map(|good| {
            let drawn = || sides.get(&good.unit).copied().unwrap_or(Split::Training);
            let split = good.side.unwrap_or_else(drawn);
            Case { split, ..good.case }
        })
        .collect();
    cases.sort_by(|a, b| a.id.cmp(&b.id));
    cases
}

/// The sides of what is drawn. A patient with cases in several subsets is drawn in the first of them.
fn sides(good: &[Good], config: &Config, seed: u64) -> BTreeMap<String, Split> {
    let mut homes = BTreeMap::<&str, &Good>::new();
    for good in good.iter().filter(|good| good.side.is_none()) {
        let home = homes.entry(&good.unit).or_insert(good);
        if good.case.subset < home.case.subset {
            *home = good;
        }
    }
    let streams = Streams::new(seed);
    // Cases of a dataset with a rule of its own are drawn among themselves.
    let mut groups = BTreeMap::<(&str, Option<&str>), Vec<(u64, &str)>>::new();
    for (unit, Good { case, .. }) in homes {
        let own = config.datasets[&case.dataset].split.as_ref().map(|_| case.dataset.as_str());
        groups.entry((&case.subset, own)).or_default().push((draw(&streams, unit), unit));
    }
    let mut sides = BTreeMap::new();
    for ((_, own), mut units) in groups {
        let rule = own.map_or(&config.split, |dataset| config.split_of(dataset));
        if let SplitRule::Every(step) = rule {
            units.sort_unstable_by_key(|(_, unit)| *unit);
            let side =
                |rank: usize| if rank.is_multiple_of(*step as usize) && units.len() > 1 { Split::Validation } else { Split::Training };
            sides.extend(units.iter().enumerate().map(|(rank, (_, unit))| ((*unit).to_owned(), side(rank))));
            continue;
        }
        units.sort_unstable();
        let validation = validation(units.len(), rule);
        sides.extend(units.into_iter().enumerate().map(|(rank, (_, unit))| {
            let side = if validation.contains(&rank) { Split::Validation } else { Split::Training };
            (unit.to_owned(), side)
        }));
    }
    sides
}

fn draw(streams: &Streams, unit: &str) -> u64 {
    let place: Vec<u64> = unit.bytes().map(u64::from).collect();
    streams.stream("split by case", &place).random()
}

/// The ranks of the validation side. One alone is trained on. Of two or more, at least one stands on the training side, and with a
/// fraction one on each: models cannot be chosen by nothing.
fn validation(units: usize, rule: &SplitRule) -> Range<usize> {
    match rule {
        _ if units < 2 => 0..0,
        SplitRule::Fraction(fraction) if *fraction == 0.0 => 0..0,
        SplitRule::Fraction(fraction) => 0..((units as f64 * fraction).round() as usize).clamp(1, units - 1),
        SplitRule::Folds { folds, fold } => {
            let bound = |fold: u32| units * fold as usize / *folds as usize;
            bound(*fold)..bound(fold + 1)
        }
        // Their cases have their sides from the file, or by name.
        SplitRule::File { .. } | SplitRule::Every(_) => 0..0,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use labels::LabelPattern;
    use proptest::prelude::*;

    fn config() -> Config {
        let params = serde_json::json!({
            "classes": [{"group": "organ", "classes": {"liver": 1}}],
            "datasets": {"set": {"layout": {"folders": {"images": ["images"]}}}},
            "split": {"fraction": 0.2},
        });
        serde_json::from_value(params).unwrap()
    }

    fn good(id: usize, subset: &str, patient: Option<usize>) -> Good {
        let case = Case {
            id: format!("case_{id}"),
            dataset: "set".into(),
            image: "image".into(),
            label: None,
            pattern: LabelPattern::EMPTY,
            subset: subset.into(),
            annotated: LabelPattern::EMPTY,
            split: Split::Training,
            shape: [1; 3],
            spacing_mm: [1.0; 3],
            cuts: Vec::new(),
        };
        let unit = patient.map_or_else(|| case.id.clone(), |patient| format!("patient_{patient}"));
        Good { case, unit, side: None, doubt: None }
    }

    /// As DoDNet's authors drew their test set: of 131 livers 27, the first by name among them.
    #[test]
    fn every_fifth_case_by_name_is_for_validation() {
        let config = Config { split: SplitRule::Every(5), ..config() };
        let cases = split((0..131).map(|id| good(id, "liver", None)).collect(), &config, 7);
        let validation: Vec<&str> = cases.iter().filter(|case| case.split == Split::Validation).map(|case| case.id.as_str()).collect();
        assert_eq!(validation.len(), 27);
        assert_eq!(validation[..5], ["case_0", "case_102", "case_107", "case_111", "case_116"]);
        let one = split(vec![good(0, "liver", None)], &config, 7);
        assert_eq!(one[0].split, Split::Training, "one alone is trained on");
        assert_eq!(SplitRule::Every(1).check(), Err(dataset::SplitError::Every(1)));
    }

    fn validation_ids(good: Vec<Good>, seed: u64) -> Vec<String> {
        let cases = split(good, &config(), seed);
        cases.into_iter().filter(|case| case.split == Split::Validation).map(|case| case.id).collect()
    }

    #[test]
    fn the_seed_decides_and_the_order_of_files_does_not() {
        let cases = || (0..50).map(|id| good(id, "a", None)).collect::<Vec<_>>();
        let mut reversed = cases();
        reversed.reverse();
        assert_eq!(validation_ids(cases(), 1).len(), 10);
        assert_eq!(validation_ids(cases(), 1), validation_ids(reversed, 1));
        assert_ne!(validation_ids(cases(), 1), validation_ids(cases(), 2));
    }

    #[test]
    fn a_new_case_moves_at_most_one_other_of_its_subset_and_none_elsewhere() {
        let before: Vec<Good> = (0..60).map(|id| good(id, if id % 2 == 0 { "a" } else { "b" }, None)).collect();
        for new in 100..140 {
            let mut after = before.clone();
            after.push(good(new, "a", None));
            let (old_ids, new_ids) = (validation_ids(before.clone(), 7), validation_ids(after, 7));
            let is_old = |id: &&String| !old_ids.contains(id) && **id != format!("case_{new}");
            let moved: Vec<_> = new_ids.iter().filter(is_old).chain(old_ids.iter().filter(|id| !new_ids.contains(id))).collect();
            assert!(moved.len() <= 1, "{moved:?}");
        }
    }

    proptest! {
        #[test]
        fn both_sides_have_cases_where_there_are_two(cases in 0usize..3000, fraction in 0.0f64..1.0) {
            let validation = validation(cases, &SplitRule::Fraction(fraction)).len();
            if cases >= 2 && fraction > 0.0 {
                prop_assert!((1..cases).contains(&validation));
                prop_assert!((validation as f64 - cases as f64 * fraction).abs() <= 1.0);
            } else {
                prop_assert_eq!(validation, 0);
            }
        }

        #[test]
        fn folds_are_of_one_size_and_part_the_cases(cases in 2usize..300, folds in 2u32..20) {
            let parts: Vec<Range<usize>> = (0..folds).map(|fold| validation(cases, &SplitRule::Folds { folds, fold })).collect();
            let all: Vec<usize> = parts.iter().cloned().flatten().collect();
            prop_assert_eq!(all, (0..cases).collect::<Vec<_>>());
            let size = cases as f64 / f64::from(folds);
            prop_assert!(parts.iter().all(|part| (part.len() as f64 - size).abs() < 1.0 && part.len() < cases));
        }

        #[test]
        fn a_patient_stands_on_one_side_whatever_the_subsets_of_its_cases(of in prop::collection::vec((0usize..9, 0usize..3), 1..60)) {
            let good: Vec<Good> = of.iter().enumerate().map(|(id, (patient, subset))| good(id, &subset.to_string(), Some(*patient))).collect();
            let units: BTreeMap<String, String> = good.iter().map(|good| (good.case.id.clone(), good.unit.clone())).collect();
            let mut sides = BTreeMap::<&str, BTreeSet<Split>>::new();
            let cases = split(good, &config(), 3);
            for case in &cases {
                sides.entry(&units[&case.id]).or_default().insert(case.split);
            }
            prop_assert!(sides.values().all(|sides| sides.len() == 1));
        }
    }
}
