//! Laws of label patterns, subsets and the rules that combine label maps.

use std::collections::BTreeSet;

use labels::{
    CLASS_COLORS, CLASS_KEYS, CLASS_NAMES, FIVE_ORGANS, LabelError, LabelPattern, NUM_CLASSES, Subset, SubsetName, TUMOR, histogram,
    merge_annotated_organs, merge_pseudo_organs, organ_target, overlay, overlay_in_place, truth_decides,
};
use proptest::prelude::*;

fn pattern(labels: &[u8]) -> LabelPattern {
    LabelPattern::from_labels(labels.iter().copied()).expect("labels from 0 to 14")
}

fn all_patterns() -> impl Iterator<Item = LabelPattern> {
    (0u16..1 << 14)
        .map(|bits| LabelPattern::from_labels((1..=TUMOR).filter(|label| bits >> (label - 1) & 1 == 1)).expect("labels from 1 to 14"))
}

#[test]
fn names_and_colours_of_different_labels_differ() {
    assert_eq!(BTreeSet::from(CLASS_NAMES).len(), NUM_CLASSES);
    assert_eq!(BTreeSet::from(CLASS_KEYS).len(), NUM_CLASSES);
    for a in 0..NUM_CLASSES {
        for b in 0..a {
            let squared: i32 = (0..3).map(|i| (i32::from(CLASS_COLORS[a][i]) - i32::from(CLASS_COLORS[b][i])).pow(2)).sum();
            assert!(squared > 60 * 60, "{} and {} look alike: {squared}", CLASS_KEYS[a], CLASS_KEYS[b]);
        }
    }
}

#[test]
fn the_papers_patterns_fall_into_the_papers_subsets() {
    let organs: Vec<u8> = (1..=13).collect();
    for (labels, subset) in [
        (&[][..], Subset::Du),
        (&[0], Subset::Du),
        (&organs, Subset::Dl1),
        (&[5], Subset::Dl1),
        (&[1, 12], Subset::Dl1),
        (&FIVE_ORGANS, Subset::Dl2),
        (&[13], Subset::Dl2),
        (&[1, 2, 3, 4, 13, 14], Subset::Dl3),
        (&[3, 14], Subset::Dl3),
        (&[14], Subset::Dl4),
        (&[5, 14], Subset::Other),
        (&[1, 9, 14], Subset::Other),
    ] {
        assert_eq!(pattern(labels).subset(), subset, "{labels:?}");
    }
}

#[test]
fn the_subsets_part_all_patterns_without_overlap_or_gap() {
    let mut sizes = [0usize; 6];
    for pattern in all_patterns() {
        let beyond_five = (5..=12).any(|label| pattern.contains(label));
        let any_of_five = FIVE_ORGANS.iter().any(|&label| pattern.contains(label));
        let tumor = pattern.contains(TUMOR);
        let conditions = [
            pattern.is_empty(),
            beyond_five && !tumor,
            !beyond_five && any_of_five && !tumor,
            !beyond_five && any_of_five && tumor,
            !beyond_five && !any_of_five && tumor,
            beyond_five && tumor,
        ];
        assert_eq!(conditions.iter().filter(|&&holds| holds).count(), 1);
        let place = conditions.iter().position(|&holds| holds).expect("one");
        assert_eq!(pattern.subset(), Subset::ALL[place], "{pattern}");
        sizes[place] += 1;
    }
    assert_eq!(sizes, [1, 255 * 32, 31, 31, 1, 255 * 32]);
}

#[test]
fn unions_hold_the_subsets_that_the_paper_says() {
    let members = |name: &str| name.parse::<SubsetName>().expect(name).members();
    use Subset::{Dl1, Dl2, Dl3, Dl4};
    assert_eq!(members("D_o13"), [Dl1]);
    assert_eq!(members("D_o5"), [Dl1, Dl2, Dl3]);
    assert_eq!(members("D_c"), [Dl3, Dl4]);
    assert_eq!(members("D"), Subset::ALL);
    for subset in Subset::ALL {
        assert_eq!(subset.name().members(), [subset]);
        assert!(SubsetName::All.contains(subset));
    }
}

#[test]
fn subset_names_survive_text_and_json() {
    for name in SubsetName::ALL {
        assert_eq!(name.to_string().parse(), Ok(name));
        let json = serde_json::to_string(&name).expect("a string");
        assert_eq!(json, format!("\"{name}\""));
        assert_eq!(serde_json::from_str::<SubsetName>(&json).expect("it"), name);
    }
    for subset in Subset::ALL {
        let json = serde_json::to_string(&subset).expect("a string");
        assert_eq!(serde_json::from_str::<Subset>(&json).expect("it"), subset);
    }
    let error = "D_l5".parse::<SubsetName>().expect_err("no such subset");
    assert!(error.to_string().starts_with("`D_l5` is not a subset"));
    assert!("D_o5".parse::<Subset>().is_err(), "a union is no subset");
}

#[test]
fn patterns_survive_text_and_json() {
    for pattern in all_patterns() {
        assert_eq!(pattern.to_string().parse(), Ok(pattern));
        assert_eq!(pattern.iter().count(), pattern.len());
    }
    let json = serde_json::to_string(&pattern(&[14, 1, 13])).expect("a string");
    assert_eq!(json, "\"{1,13,14}\"");
    assert!(serde_json::from_str::<LabelPattern>("\"{0}\"").is_err());
    assert_eq!(" { 1, 13 } ".parse(), Ok(pattern(&[1, 13])));
    for bad in ["", "{", "1,2", "{15}", "{0}", "{1,}", "{1,1}", "{-1}", "{256}"] {
        let error = bad.parse::<LabelPattern>().expect_err(bad);
        assert!(matches!(error, LabelError::NotAPattern { .. }), "{bad}");
    }
}

#[test]
fn values_outside_the_labels_are_named_with_their_voxels() {
    let error = LabelPattern::from_labels([1, 17, 255, 17]).expect_err("17 and 255");
    assert_eq!(error.to_string(), "values outside 0..=14: 17 (2 voxels), 255 (1 voxels); map them to FLARE23's labels or set them to 0");
}

#[test]
fn bad_maps_are_refused_and_the_output_is_untouched() {
    let mut out = [7u8; 2];
    for result in [
        overlay(&[1, 2], &[0, 2], &mut out),
        overlay(&[1, 15], &[0, 1], &mut out),
        overlay(&[1, 2], &[1], &mut out),
        overlay(&[1], &[1], &mut out),
        merge_pseudo_organs(&[1, 0], &[1, 14], &mut out),
        merge_pseudo_organs(&[1, 15], &[1, 1], &mut out),
        merge_pseudo_organs(&[1, 0], &[1], &mut out),
        merge_pseudo_organs(&[1], &[1], &mut out),
    ] {
        assert!(result.is_err());
    }
    assert_eq!(out, [7, 7]);
}

#[test]
fn cancer_lies_over_organs() {
    let mut out = [9u8; 4];
    overlay(&[0, 1, 4, 14], &[1, 0, 1, 0], &mut out).expect("good maps");
    assert_eq!(out, [14, 1, 14, 14]);
}

#[test]
fn truth_of_the_five_wins_and_the_teacher_gives_the_other_eight() {
    // truth:      liver over aorta, background over aorta, background over liver, tumor over liver, tumor over aorta
    let truth = [1, 0, 0, 14, 14];
    let pseudo = [5, 5, 1, 1, 5];
    let mut out = [0; 5];
    merge_pseudo_organs(&truth, &pseudo, &mut out).expect("good maps");
    assert_eq!(out, [1, 5, 0, 1, 5]);
}

fn maps(highest: [u8; 2]) -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    (0usize..300).prop_flat_map(move |n| {
        let map = |highest| prop::collection::vec(0..=highest, n);
        (map(highest[0]), map(highest[1]))
    })
}

proptest! {
    #[test]
    fn overlaying_twice_is_overlaying_once((organs, cancer) in maps([14, 1])) {
        let mut once = vec![0; organs.len()];
        let mut twice = vec![0; organs.len()];
        overlay(&organs, &cancer, &mut once).expect("good maps");
        overlay(&once, &cancer, &mut twice).expect("good maps");
        prop_assert_eq!(&once, &twice);
        for ((&before, &is_cancer), &after) in organs.iter().zip(&cancer).zip(&once) {
            prop_assert_eq!(after, if is_cancer == 1 { TUMOR } else { before });
        }
        let mut in_place = organs;
        overlay_in_place(&mut in_place, &cancer).expect("good maps");
        prop_assert_eq!(once, in_place);
    }

    #[test]
    fn merging_keeps_true_organs_and_adds_only_missing_ones(
        (truth, pseudo) in maps([14, 13]),
        annotated in prop::collection::btree_set(1u8..=13, 0..13),
    ) {
        let annotated = LabelPattern::from_labels(annotated).expect("organs");
        let mut out = vec![0; truth.len()];
        merge_annotated_organs(annotated, &truth, &pseudo, &mut out).expect("good maps");
        for ((&t, &p), &o) in truth.iter().zip(&pseudo).zip(&out) {
            prop_assert!(o <= 13);
            if (1..=13).contains(&t) {
                prop_assert_eq!(o, t);
            }
            if t == 0 {
                prop_assert!(!annotated.contains(o));
            }
            if o != t && t != TUMOR {
                prop_assert_eq!(o, p);
            }
            if t == TUMOR {
                prop_assert_eq!(o, p);
            }
        }
        // The merged map has no tumor left, so completing it again with the same teacher changes it no more.
        let mut again = vec![0; out.len()];
        let complete = LabelPattern::ORGANS;
        merge_annotated_organs(complete, &out, &pseudo, &mut again).expect("good maps");
        prop_assert_eq!(out, again);
    }

    #[test]
    fn merging_with_no_organ_annotated_is_the_teacher((truth, pseudo) in maps([0, 13])) {
        let mut out = vec![0; truth.len()];
        merge_annotated_organs(LabelPattern::EMPTY, &truth, &pseudo, &mut out).expect("good maps");
        prop_assert_eq!(out, pseudo);
    }

    #[test]
    fn the_histogram_counts_every_voxel(labels in prop::collection::vec(any::<u8>(), 0..500)) {
        let counts = histogram(&labels);
        prop_assert_eq!(counts.iter().sum::<u64>(), labels.len() as u64);
        for value in 0..=255u8 {
            let expected = labels.iter().filter(|&&label| label == value).count() as u64;
            prop_assert_eq!(counts[usize::from(value)], expected);
        }
    }

    #[test]
    fn set_operations_agree_with_membership(a in 0u16..1 << 14, b in 0u16..1 << 14, label in 0u8..=20) {
        let of = |bits: u16| pattern(&(1..=TUMOR).filter(|l| bits >> (l - 1) & 1 == 1).collect::<Vec<_>>());
        let (a, b) = (of(a), of(b));
        prop_assert_eq!(a.union(b).contains(label), a.contains(label) || b.contains(label));
        prop_assert_eq!(a.intersection(b).contains(label), a.contains(label) && b.contains(label));
        prop_assert_eq!(a.minus(b).contains(label), a.contains(label) && !b.contains(label));
    }
}

#[test]
fn where_the_truth_decides_the_teacher_s_organ_never_shows() {
    for annotated in [LabelPattern::EMPTY, LabelPattern::FIVE_ORGANS, LabelPattern::ORGANS] {
        for true_label in 0..=TUMOR {
            for teacher in 0..=13 {
                let target = organ_target(annotated, true_label, teacher);
                match truth_decides(annotated, true_label, teacher) {
                    true => assert_eq!(target, true_label),
                    false => assert_eq!(target, teacher, "{annotated} {true_label}"),
                }
            }
        }
    }
    assert!(!truth_decides(LabelPattern::FIVE_ORGANS, 0, 0), "nobody looked for the other eight");
    assert!(truth_decides(LabelPattern::ORGANS, 0, 0));
}
