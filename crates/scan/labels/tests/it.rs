//! Laws of classes, label patterns, regions, subsets and the rules that combine label maps.

use std::collections::BTreeMap;

use labels::{Classes, Completion, LabelError, LabelPattern, Regions, Rule, Subsets, flare23, histogram, overlay};
use proptest::prelude::*;

fn set(values: &[u8]) -> LabelPattern {
    values.iter().copied().collect()
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn declared(json: &str) -> Result<Classes, String> {
    serde_json::from_str(json).map_err(|error| error.to_string())
}

/// Kidneys that contain their tumors and cysts, and bones numbered above FLARE23's.
fn kits() -> Classes {
    declared(
        r##"[{"group": "organ", "classes": {"kidney": 1, "sacrum": {"value": 200, "color": "#010203"}}},
             {"group": "lesion", "classes": {"tumor": 40, "cyst": 41}},
             {"group": "vessel", "classes": {"artery": 90}}]"##,
    )
    .expect("good classes")
}

#[test]
fn colours_of_neighbouring_values_differ() {
    let all: Vec<String> = (1..=60).map(|value| format!("\"c{value}\": {value}")).collect();
    let classes = declared(&format!(r#"[{{"group": "g", "classes": {{{}}}}}]"#, all.join(","))).expect("good classes");
    let colors = classes.colors();
    assert_eq!(colors[0], [0; 3]);
    for a in 1..=60usize {
        for b in a.saturating_sub(3)..a {
            let squared: i32 = (0..3).map(|i| (i32::from(colors[a][i]) - i32::from(colors[b][i])).pow(2)).sum();
            assert!(squared > 40 * 40, "{a} and {b} look alike: {:?} {:?}", colors[a], colors[b]);
        }
    }
}

#[test]
fn a_declaration_says_names_values_and_colours() {
    let classes = flare23::classes();
    assert_eq!(classes.pattern(), (1..=14).collect());
    let names: Vec<&str> = classes.all().iter().map(|class| class.name.as_str()).collect();
    assert_eq!(names[..3], ["Liver", "Right kidney", "Spleen"]);
    assert_eq!((names[6], names[13]), ("Right adrenal gland", "Tumor"));
    assert_eq!(classes.class("tumor").unwrap().value, flare23::TUMOR);
    assert_eq!(classes.groups().iter().map(|group| group.values().len()).collect::<Vec<_>>(), [13, 1]);
    assert_eq!((classes.group_of(14), classes.group_of(3), classes.group_of(15)), (Some(1), Some(0), None));
    assert_eq!((classes.above(0), classes.above(1)), (set(&[14]), LabelPattern::EMPTY));
    assert_eq!(classes.keys_of(set(&[1, 14])), ["liver", "tumor"]);
    assert_eq!(classes.pattern_of(&["cancer", "liver"]).unwrap(), set(&[1, 14]));
    assert_eq!(kits().class("sacrum").unwrap().color, [1, 2, 3]);
    assert_eq!(kits().only(set(&[41, 90])).pattern(), set(&[41, 90]));
    assert_eq!(kits().only(set(&[41])).groups().len(), 1);
    let [lower, upper] = [&[1, 200], &[40, 41, 90][..]].map(|values| kits().only(set(values)));
    assert_eq!(lower.and(&upper), Ok(kits()));
    assert!(upper.and(&upper).unwrap_err().to_string().contains("`lesion` cannot be the name"));
}

#[test]
fn declarations_come_back_from_json() {
    for classes in [flare23::classes(), kits()] {
        let json = serde_json::to_string(&classes).unwrap();
        assert_eq!(declared(&json).unwrap(), classes, "{json}");
    }
}

#[test]
fn a_class_lies_in_those_of_earlier_groups_or_in_those_that_it_names() {
    let groups = r#"[{"group": "organ", "classes": {"liver": 1, "spleen": 2}}, {"group": "vessel", "classes": {"artery": 3}},
        {"group": "cancer", "classes": {"tumor": 14, "liver_tumor": {"value": 15, "within": ["liver"]}, "cyst": {"value": 16, "within": []}}}]"#;
    let classes: Classes = serde_json::from_str(groups).unwrap();
    let lies_in = |inner: u8| [1, 2, 3, 14, 15].map(|outer| classes.may_lie_in(inner, outer));
    assert_eq!(lies_in(14), [true, true, true, false, false], "classes of a group exclude each other");
    assert_eq!(lies_in(15), [true, false, false, false, false]);
    assert_eq!(lies_in(16), [false; 5]);
    assert_eq!([lies_in(1), lies_in(200)], [[false; 5]; 2]);
    let again: Classes = serde_json::from_str(&serde_json::to_string(&classes).unwrap()).unwrap();
    assert_eq!(again, classes);
    let without = classes.only(set(&[2, 3, 15]));
    assert!(!without.may_lie_in(15, 2), "without the liver there is nothing that it lies in");
    assert_eq!(declared(&serde_json::to_string(&without).unwrap()).unwrap(), without);
    for within in ["tumor", "kidney", "cancer"] {
        let error = declared(&groups.replace(r#""within": ["liver"]"#, &format!(r#""within": ["{within}"]"#))).unwrap_err();
        assert!(
            error.contains(&format!("`liver_tumor`, within: `{within}`")) && error.contains("those are liver, spleen, artery"),
            "{error}"
        );
    }
}

#[test]
fn bad_declarations_are_refused_by_name() {
    for (json, part) in [
        ("[]", "none is declared"),
        (r#"[{"group": "a", "classes": {}}]"#, "the group `a` has no class"),
        (r#"[{"group": "a", "classes": {"b": 1, "c": 1}}]"#, "`b` and `c` both have the value 1"),
        (r#"[{"group": "a", "classes": {"b": 1}}, {"group": "c", "classes": {"b": 2}}]"#, "`b` cannot be the name"),
        (r#"[{"group": "a", "classes": {"a": 1}}]"#, "`a` cannot be the name"),
        (r#"[{"group": "a", "classes": {"b": 0}}]"#, "the value 0"),
        (r#"[{"group": "a", "classes": {"background": 1}}]"#, "`background` cannot be the name"),
        (r#"[{"group": "a", "classes": {"b/c": 1}}]"#, "`b/c` cannot be the name"),
    ] {
        let error = declared(json).unwrap_err();
        assert!(error.contains(part), "{json}: {error}");
    }
    let error = kits().class("kidneys").unwrap_err().to_string();
    assert_eq!(error, "there is no class `kidneys`; the classes are kidney, tumor, cyst, artery, sacrum");
}

#[test]
fn patterns_survive_text_and_json() {
    let json = serde_json::to_string(&set(&[14, 1, 200, 0])).unwrap();
    assert_eq!(json, "\"{1,14,200}\"");
    assert_eq!(serde_json::from_str::<LabelPattern>(&json).unwrap(), set(&[1, 14, 200]));
    assert_eq!(" { 1, 13 } ".parse(), Ok(set(&[1, 13])));
    for bad in ["", "{", "1,2", "{0}", "{1,}", "{1,1}", "{-1}", "{256}"] {
        let error = bad.parse::<LabelPattern>().expect_err(bad);
        assert!(matches!(error, LabelError::NotAPattern { .. }), "{bad}");
    }
}

/// Kidney 1 and 2 with its tumor as 2; 7 is a cyst; 9 is ignored.
fn regions() -> Regions {
    let values = [("kidney", vec![1, 2]), ("tumor", vec![2]), ("cyst", vec![7])].map(|(key, values)| (key.to_owned(), values));
    Regions::declared(&kits(), &values.into(), &[9]).expect("good regions")
}

#[test]
fn a_kidney_may_contain_its_tumor() {
    let (classes, regions) = (kits(), regions());
    assert_eq!(regions.shown_by(2), set(&[1, 40]));
    assert_eq!(regions.classes(), set(&[1, 40, 41]));
    let table = |group: usize| regions.table(&classes.groups()[group].values(), &classes).unwrap();
    assert_eq!(table(0)[..10], [0, 1, 1, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(table(1)[..10], [0, 0, 1, 0, 0, 0, 0, 2, 0, 0]);
    let mut voxels = [0; 256];
    (voxels[0], voxels[2], voxels[9]) = (5, 1, 3);
    assert_eq!(regions.shown(&voxels), Ok(set(&[1, 40])), "what is ignored shows nothing");
    (voxels[3], voxels[255]) = (2, 1);
    let error = regions.shown(&voxels).unwrap_err().to_string();
    assert_eq!(error, "values that are not declared: 3 (2 voxels), 255 (1 voxels); declared are 0 and {1,2,7,9}");
    let json = serde_json::to_string(&regions).unwrap();
    assert_eq!(serde_json::from_str::<Regions>(&json).unwrap(), regions, "{json}");
}

#[test]
fn a_class_without_values_is_annotated_and_nowhere() {
    let values = BTreeMap::from([("kidney".to_owned(), vec![1]), ("tumor".to_owned(), Vec::new())]);
    let regions = Regions::declared(&kits(), &values, &[]).unwrap();
    assert_eq!((regions.classes(), regions.of_class(40)), (set(&[1, 40]), LabelPattern::EMPTY));
    assert_eq!((regions.shown_by(1), regions.table(&[40], &kits()).unwrap()), (set(&[1]), [0; 256]));
    // A model's tumor counts as wrong there, and is not added to the label map.
    let lesions = Completion::of(&kits(), 1, &regions, regions.classes()).unwrap();
    assert_eq!((lesions.target(0, 40), lesions.target(1, 40)), (0, 0));
}

#[test]
fn regions_that_contradict_themselves_are_refused() {
    let refused = |values: &[(&str, &[u8])], ignored: &[u8]| {
        let values: BTreeMap<String, Vec<u8>> = values.iter().map(|(key, values)| ((*key).to_owned(), values.to_vec())).collect();
        Regions::declared(&kits(), &values, ignored).unwrap_err().to_string()
    };
    assert!(refused(&[("tumor", &[2]), ("cyst", &[1, 2])], &[]).contains("the value 2 is one of `tumor` and of `cyst`"));
    assert!(refused(&[("tumor", &[0])], &[]).contains("`tumor`: [0] cannot be the values"));
    assert!(refused(&[("tumor", &[3])], &[3]).contains("the value 3 is one of `tumor` and is ignored"));
    assert!(refused(&[("mass", &[3])], &[]).contains("no class `mass`"));
}

#[test]
fn maps_of_all_groups_fit_into_one_and_come_back() {
    let classes = kits();
    let (regions, factors) = Regions::product(&classes).unwrap();
    assert_eq!(factors, [1, 3, 9]);
    for (k, &organ) in [0, 1, 200].iter().enumerate() {
        for (l, &lesion) in [0, 40, 41].iter().enumerate() {
            for (m, &vessel) in [0, 90].iter().enumerate() {
                let value = (k + 3 * l + 9 * m) as u8;
                assert_eq!(regions.shown_by(value), set(&[organ, lesion, vessel]), "{value}");
            }
        }
    }
    let many: Vec<String> = (1..=100).map(|value| format!("\"c{value}\": {value}")).collect();
    let json = format!(r#"[{{"group": "g", "classes": {{{}}}}}, {{"group": "h", "classes": {{"x": 201, "y": 202}}}}]"#, many.join(","));
    assert!(Regions::product(&declared(&json).unwrap()).unwrap_err().to_string().contains("303 combinations"));
}

const FIVE: [&str; 5] = ["liver", "right_kidney", "spleen", "pancreas", "left_kidney"];
const EIGHT: [&str; 8] =
    ["aorta", "inferior_vena_cava", "right_adrenal", "left_adrenal", "gallbladder", "esophagus", "stomach", "duodenum"];

fn rule(any: &[&str], all: &[&str], none: &[&[&str]], annotated: &[&str]) -> Rule {
    let none = none.iter().flat_map(|keys| names(keys)).collect();
    Rule { datasets: Vec::new(), any: names(any), all: names(all), none, annotated: Some(names(annotated)) }
}

/// The paper's subsets (section 2.1).
fn flare_rules() -> BTreeMap<String, Rule> {
    [
        ("D_u", rule(&[], &[], &[&["organ", "cancer"]], &[])),
        ("D_l1", rule(&EIGHT, &[], &[&["cancer"]], &["organ"])),
        ("D_l2", rule(&FIVE, &[], &[&EIGHT, &["cancer"]], &FIVE)),
        ("D_l3", rule(&FIVE, &["cancer"], &[&EIGHT], &[&FIVE[..], &["cancer"]].concat())),
        ("D_l4", rule(&[], &["cancer"], &[&["organ"]], &["cancer"])),
        ("D_other", rule(&EIGHT, &["cancer"], &[], &["organ", "cancer"])),
    ]
    .map(|(name, rule)| (name.to_owned(), rule))
    .into()
}

fn flare_subsets() -> Subsets {
    let unions = [("D_o13", &["D_l1"][..]), ("D_o5", &["D_l1", "D_l2", "D_l3"]), ("D_c", &["D_l3", "D_l4"])];
    let unions = unions.map(|(name, members)| (name.to_owned(), names(members))).into();
    Subsets::declared(&flare_rules(), &unions, &flare23::classes(), &["FLARE23"]).expect("good rules")
}

#[test]
fn the_papers_patterns_fall_into_the_papers_subsets() {
    let subsets = flare_subsets();
    let organs: Vec<u8> = (1..=13).collect();
    for (shown, name) in [
        (&[][..], "D_u"),
        (&organs, "D_l1"),
        (&[5], "D_l1"),
        (&[1, 12], "D_l1"),
        (&flare23::FIVE_ORGANS, "D_l2"),
        (&[13], "D_l2"),
        (&[1, 2, 3, 4, 13, 14], "D_l3"),
        (&[3, 14], "D_l3"),
        (&[14], "D_l4"),
        (&[5, 14], "D_other"),
        (&[1, 9, 14], "D_other"),
    ] {
        let subset = subsets.of("FLARE23", set(shown)).expect("one");
        assert_eq!(subset.name, name, "{shown:?}");
    }
    assert_eq!(subsets.of("FLARE23", set(&[3, 14])).unwrap().annotated, Some(set(&[1, 2, 3, 4, 13, 14])));
    assert_eq!(subsets.members()["D_c"], ["D_l3", "D_l4"]);
    assert_eq!(subsets.members()["D"].len(), 6);
    assert_eq!(subsets.members()["D_u"], ["D_u"]);
}

#[test]
fn the_subsets_part_all_patterns_without_overlap_or_gap() {
    let subsets = flare_subsets();
    let mut sizes = BTreeMap::<&str, usize>::new();
    for bits in 0u32..1 << 14 {
        let pattern: LabelPattern = (1..=14u8).filter(|value| bits >> (value - 1) & 1 == 1).collect();
        let takes = subsets.rules().iter().filter(|rule| subsets.of("FLARE23", pattern).is_some_and(|of| of.name == rule.name));
        assert_eq!(takes.count(), 1, "{pattern}");
        *sizes.entry(&subsets.of("FLARE23", pattern).unwrap().name).or_default() += 1;
    }
    assert_eq!(
        sizes.into_iter().collect::<Vec<_>>(),
        [("D_l1", 255 * 32), ("D_l2", 31), ("D_l3", 31), ("D_l4", 1), ("D_other", 255 * 32), ("D_u", 1)]
    );
}

#[test]
fn rules_with_a_gap_an_overlap_or_an_unknown_name_are_refused() {
    let refused = |change: &dyn Fn(&mut BTreeMap<String, Rule>)| {
        let mut rules = flare_rules();
        change(&mut rules);
        Subsets::declared(&rules, &BTreeMap::new(), &flare23::classes(), &["FLARE23"]).unwrap_err().to_string()
    };
    let gap = refused(&|rules| drop(rules.remove("D_l4")));
    assert_eq!(gap, "cases of FLARE23 that show tumor and no other kind of class belong to no subset; add a rule that takes them");
    let overlap = refused(&|rules| rules.get_mut("D_l2").unwrap().none = names(&["cancer"]));
    assert!(overlap.contains("belong to D_l1 and to D_l2"), "{overlap}");
    let unknown = refused(&|rules| rules.get_mut("D_l2").unwrap().any = names(&["lung"]));
    assert!(unknown.contains("subset D_l2: there is no class `lung`"), "{unknown}");
    let nobody = refused(&|rules| rules.get_mut("D_l4").unwrap().none = names(&["cancer"]));
    assert!(nobody.contains("subset D_l4: no case can fulfil its rule"), "{nobody}");
    let dataset = refused(&|rules| rules.get_mut("D_l4").unwrap().datasets = names(&["LiTS"]));
    assert!(dataset.contains("there is no dataset `LiTS`; the datasets are FLARE23"), "{dataset}");
    let name = refused(&|rules| drop(rules.insert("D".to_owned(), Rule::default())));
    assert!(name.contains("`D` cannot be the name"), "{name}");
    let unions = [("D_c".to_owned(), names(&["D_l9"]))].into();
    let error = Subsets::declared(&flare_rules(), &unions, &flare23::classes(), &["FLARE23"]).unwrap_err();
    assert!(error.to_string().contains("there is no subset `D_l9`"));
}

#[test]
fn without_rules_each_dataset_is_a_subset() {
    let subsets = Subsets::declared(&BTreeMap::new(), &BTreeMap::new(), &kits(), &["KiTS", "LiTS"]).unwrap();
    assert_eq!(subsets.of("KiTS", set(&[1])).unwrap().name, "KiTS");
    assert_eq!(subsets.of("LiTS", set(&[])).unwrap().name, "LiTS");
    assert_eq!(subsets.members()["D"], ["KiTS", "LiTS"]);
}

#[test]
fn a_group_lies_over_those_below_it() {
    let mut labels = [0, 1, 4, 14];
    overlay(&mut labels, &[14, 0, 14, 0]).unwrap();
    assert_eq!(labels, [14, 1, 14, 14]);
    assert!(overlay(&mut labels, &[14]).is_err());
    assert_eq!(labels, [14, 1, 14, 14]);
}

fn completion(group: usize, annotated: &[u8]) -> Completion {
    let classes = flare23::classes();
    Completion::of(&classes, group, &Regions::plain(classes.pattern()), set(annotated)).unwrap()
}

#[test]
fn truth_of_the_five_wins_and_the_teacher_gives_the_other_eight() {
    // truth:      liver over aorta, background over aorta, background over liver, tumor over liver, tumor over aorta
    let truth = [1, 0, 0, 14, 14];
    let mut labels = [5, 5, 1, 1, 5];
    completion(0, &[1, 2, 3, 4, 13, 14]).complete(&truth, &mut labels).unwrap();
    assert_eq!(labels, [1, 5, 0, 1, 5]);
    // Of the tumor, which lies over organs, the truth says everything.
    let mut tumor = [14, 14, 0, 0, 14];
    let cancer = completion(1, &[1, 2, 3, 4, 13, 14]);
    cancer.complete(&truth, &mut tumor).unwrap();
    assert_eq!(tumor, [0, 0, 0, 14, 14]);
    assert!(cancer.needs_no_model() && !completion(1, &[1]).needs_no_model());
}

#[test]
fn below_a_tumor_that_its_organ_contains_the_truth_knows_the_organ() {
    let organ = Completion::of(&kits(), 0, &regions(), set(&[1, 40, 41])).unwrap();
    assert_eq!([0, 1, 2, 7].map(|truth| organ.target(truth, 1)), [0, 1, 1, 1], "a cyst hides what lies below it");
    assert_eq!([0, 1, 2, 7].map(|truth| organ.target(truth, 200)), [200, 1, 1, 200], "nobody looked for the sacrum");
}

#[test]
fn where_the_truth_decides_the_model_s_class_never_shows() {
    for annotated in [&[][..], &[1, 2, 3, 4, 13], &[1, 2, 3, 4, 13, 14], &(1..=14).collect::<Vec<u8>>()] {
        for (group, of_group) in [(0, (0..=13).collect::<Vec<u8>>()), (1, vec![0, 14])] {
            let completion = completion(group, annotated);
            for truth in 0..=14 {
                let targets: Vec<u8> = of_group.iter().map(|&model| completion.target(truth, model)).collect();
                let decided: Vec<bool> = of_group.iter().map(|&model| completion.is_decided(truth, model)).collect();
                for (k, &model) in of_group.iter().enumerate() {
                    if decided[k] {
                        assert!(targets[k] == truth || targets[k] == 0, "{annotated:?} {group} {truth} {model}");
                    } else {
                        assert_eq!(targets[k], model, "{annotated:?} {group} {truth} {model}");
                    }
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn overlaying_twice_is_overlaying_once(maps in prop::collection::vec((0u8..=14, prop::sample::select(vec![0u8, 14])), 0..300)) {
        let (below, above): (Vec<u8>, Vec<u8>) = maps.into_iter().unzip();
        let mut once = below.clone();
        overlay(&mut once, &above).unwrap();
        let mut twice = once.clone();
        overlay(&mut twice, &above).unwrap();
        prop_assert_eq!(&once, &twice);
        for ((&below, &above), &after) in below.iter().zip(&above).zip(&once) {
            prop_assert_eq!(after, if above == 0 { below } else { above });
        }
    }

    #[test]
    fn completing_keeps_true_classes_and_adds_only_those_nobody_looked_for(
        maps in prop::collection::vec((0u8..=14, 0u8..=13), 0..300),
        annotated in prop::collection::btree_set(1u8..=13, 0..13),
    ) {
        let annotated: Vec<u8> = annotated.into_iter().collect();
        let completion = completion(0, &annotated);
        for (truth, model) in maps {
            let target = completion.target(truth, model);
            match truth {
                1..=13 => prop_assert_eq!(target, truth),
                14 => prop_assert_eq!(target, model),
                _ => prop_assert!(target == 0 && annotated.contains(&model) || target == model && !annotated.contains(&model)),
            }
        }
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
    fn set_operations_agree_with_membership(a in prop::collection::vec(any::<u8>(), 0..40), b in prop::collection::vec(any::<u8>(), 0..40), value: u8) {
        let (a, b) = (set(&a), set(&b));
        prop_assert_eq!(a.union(b).contains(value), a.contains(value) || b.contains(value));
        prop_assert_eq!(a.intersection(b).contains(value), a.contains(value) && b.contains(value));
        prop_assert_eq!(a.minus(b).contains(value), a.contains(value) && !b.contains(value));
        prop_assert_eq!(a.meets(b), a.iter().any(|value| b.contains(value)));
        prop_assert_eq!(a.is_within(b), a.iter().all(|value| b.contains(value)));
        prop_assert_eq!(a.iter().count(), a.len());
        prop_assert_eq!(a.to_string().parse(), Ok(a));
    }
}
