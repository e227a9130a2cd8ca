//! Classes other than FLARE23's, label maps of other datasets, and classes that are scored as the union of others.

use std::collections::BTreeMap;

use labels::Classes;
use metrics::{CaseScores, Declared, MetricsError, Protocol, ScoredClass, Scoring, evaluate_case};
use ndarray::Array3;
use proptest::prelude::*;
use serde_json::json;

const SPACING_MM: [f64; 3] = [1.5, 1.0, 2.5];

/// Three groups, with values above 14.
fn classes() -> Classes {
    serde_json::from_value(json!([
        {"group": "organ", "classes": {"left_kidney": 200, "right_kidney": 3, "liver": 90}},
        {"group": "vessel", "classes": {"portal_vein": 17}},
        {"group": "cancer", "classes": {"tumor": 31, "cyst": 32}}
    ]))
    .expect("classes")
}

/// What is declared beside the classes; what is not mentioned is left out.
#[derive(Default)]
struct Said {
    truth: BTreeMap<String, Vec<u8>>,
    unions: BTreeMap<String, Vec<String>>,
    ignored: Vec<u8>,
    nsd_tolerance_mm: BTreeMap<String, f64>,
}

impl Said {
    fn truth(mut self, key: &str, values: &[u8]) -> Self {
        self.truth.insert(key.into(), values.into());
        self
    }

    fn union(mut self, key: &str, members: &[&str]) -> Self {
        self.unions.insert(key.into(), members.iter().map(|&member| member.into()).collect());
        self
    }

    fn ignoring(self, ignored: &[u8]) -> Self {
        Self { ignored: ignored.into(), ..self }
    }

    fn tolerance(mut self, key: &str, mm: f64) -> Self {
        self.nsd_tolerance_mm.insert(key.into(), mm);
        self
    }

    fn scoring_of(&self, classes: &Classes) -> Result<Scoring, MetricsError> {
        let Self { truth, unions, ignored, nsd_tolerance_mm } = self;
        Scoring::declared(classes, Declared { truth, unions, ignored, nsd_tolerance_mm })
    }

    fn scoring(&self) -> Scoring {
        self.scoring_of(&classes()).expect("a good declaration")
    }

    fn error(&self) -> String {
        self.scoring_of(&classes()).expect_err("a bad declaration").to_string()
    }
}

fn plain(prediction: &Array3<u8>, truth: &Array3<u8>, scoring: &Scoring) -> CaseScores {
    evaluate_case(prediction.view(), truth.view(), SPACING_MM, scoring, Protocol::Plain).expect("declared values")
}

/// All that is measured of a class, whatever its name.
fn measured(scores: &CaseScores, key: &str) -> impl PartialEq + std::fmt::Debug + use<> {
    let score = scores.class(key).unwrap_or_else(|| panic!("{key} is not scored")).clone();
    (score.dsc, score.nsd, score.hd_mm, score.hd95_mm, score.note)
}

fn keys(scoring: &Scoring) -> Vec<&str> {
    scoring.classes().iter().map(|scored| scored.class.key.as_str()).collect()
}

/// Two maps with values of the classes above.
fn maps() -> impl Strategy<Value = [Array3<u8>; 2]> {
    let value = prop::sample::select(vec![0u8, 0, 200, 3, 3, 90, 17, 31, 32]);
    let map =
        || prop::collection::vec(value.clone(), 5 * 4 * 3).prop_map(|voxels| Array3::from_shape_vec((5, 4, 3), voxels).expect("60 voxels"));
    [map(), map()]
}

#[test]
fn scores_name_their_classes_and_groups_and_stand_group_by_group() {
    let map = Array3::from_elem((2, 2, 2), 200);
    let scores = plain(&map, &map, &Scoring::of(&classes()));
    let keys: Vec<&str> = scores.classes.iter().map(|score| score.class.key.as_str()).collect();
    assert_eq!(keys, ["right_kidney", "liver", "left_kidney", "portal_vein", "tumor", "cyst"]);
    let expected = ScoredClass { key: "left_kidney".into(), name: "Left kidney".into(), label: Some(200), group: "organ".into() };
    assert_eq!(scores.classes[2].class, expected);
    assert_eq!((scores.classes[2].dsc, scores.mean_dsc("organ"), scores.mean_dsc("cancer")), (Some(1.0), Some(1.0), None));
}

#[test]
fn the_true_label_maps_of_another_dataset_are_scored_on_the_classes_that_they_have() {
    // A kidney that contains its tumor: value 2 shows both.
    let said = Said::default().truth("right_kidney", &[1, 2]).truth("tumor", &[2]).ignoring(&[9]);
    let scoring = said.scoring();
    assert_eq!(keys(&scoring), ["right_kidney", "tumor"]);
    let truth = Array3::from_shape_vec((6, 1, 1), vec![0, 1, 1, 2, 9, 0]).unwrap();
    let prediction = Array3::from_shape_vec((6, 1, 1), vec![0, 3, 3, 31, 90, 0]).unwrap();
    let scores = plain(&prediction, &truth, &scoring);
    assert_eq!(scores.class("right_kidney").unwrap().dsc, Some(0.8), "2 of 3 voxels, the third lies below the tumor");
    assert_eq!(scores.class("tumor").unwrap().dsc, Some(1.0));
    // A class can be scored as the union of itself and what lies over it.
    let whole = said.union("right_kidney", &["right_kidney", "tumor"]).scoring();
    assert_eq!(keys(&whole), ["right_kidney", "tumor"]);
    assert_eq!(whole.classes()[0].class, scoring.classes()[0].class);
    assert_eq!(plain(&prediction, &truth, &whole).class("right_kidney").unwrap().dsc, Some(1.0));
}

#[test]
fn a_union_is_scored_where_the_truth_does_not_tell_its_members_apart() {
    let scoring = Said::default().truth("kidneys", &[2]).truth("liver", &[6]).union("kidneys", &["left_kidney", "right_kidney"]).scoring();
    let [liver, kidneys] = scoring.classes() else { panic!("{:?}", keys(&scoring)) };
    assert_eq!((liver.class.key.as_str(), kidneys.class.name.as_str(), kidneys.class.group.as_str()), ("liver", "Kidneys", "organ"));
    assert_eq!(kidneys.class.label, None);
    let truth = Array3::from_shape_vec((4, 1, 1), vec![2, 2, 6, 2]).unwrap();
    let prediction = Array3::from_shape_vec((4, 1, 1), vec![3, 200, 90, 90]).unwrap();
    let scores = plain(&prediction, &truth, &scoring);
    assert_eq!((scores.class("kidneys").unwrap().dsc, scores.class("liver").unwrap().dsc), (Some(0.8), Some(2.0 / 3.0)));
}

#[test]
fn a_union_that_the_truth_does_not_have_is_that_of_its_members_and_may_name_a_group() {
    let scoring = Said::default().union("lesions", &["cancer"]).union("abdomen", &["organ", "tumor"]).scoring();
    assert_eq!(keys(&scoring), ["right_kidney", "liver", "left_kidney", "abdomen", "portal_vein", "tumor", "cyst", "lesions"]);
    let lesions = &scoring.classes()[7];
    assert_eq!((lesions.prediction.to_string(), lesions.truth.to_string()), ("{31,32}".to_owned(), "{31,32}".to_owned()));
    let told = Said::default().truth("tumor", &[1]).truth("cyst", &[2, 5]).union("lesions", &["cancer"]).scoring();
    assert_eq!((keys(&told), told.classes()[2].truth.to_string()), (vec!["tumor", "cyst", "lesions"], "{1,2,5}".to_owned()));
}

#[test]
fn pan_cancer_has_one_class_and_any_other_value_is_an_error_that_counts_its_voxels() {
    let classes: Classes = serde_json::from_value(json!([{"group": "cancer", "classes": {"tumor": 1}}])).unwrap();
    let scoring = Scoring::of(&classes);
    let map = |values: Vec<u8>| Array3::from_shape_vec((values.len(), 1, 1), values).unwrap();
    let evaluate = |prediction: &Array3<u8>, truth: &Array3<u8>| {
        evaluate_case(prediction.view(), truth.view(), SPACING_MM, &scoring, Protocol::Official)
    };
    let good = map(vec![0, 1, 1]);
    assert_eq!(evaluate(&good, &good).unwrap().class("tumor").unwrap().dsc, Some(1.0));
    let error = evaluate(&good, &map(vec![2, 1, 2])).unwrap_err().to_string();
    assert_eq!(error, "the ground truth: values that are not declared: 2 (2 voxels); declared are 0 and {1}");
    let error = evaluate(&map(vec![0, 14, 255]), &good).unwrap_err().to_string();
    assert_eq!(error, "the prediction: values that are not declared: 14 (1 voxels), 255 (1 voxels); declared are 0 and {1}");
}

#[test]
fn tolerances_are_the_challenges_where_it_has_the_class_and_declared_ones_elsewhere() {
    let said = Said::default().tolerance("cyst", 4.0).tolerance("liver", 1.0).scoring();
    let of = |key: &str, protocol: Protocol| {
        let scored = said.classes().iter().find(|scored| scored.class.key == key).unwrap();
        protocol.nsd_tolerance_mm(key, scored.nsd_tolerance_mm)
    };
    assert_eq!([of("cyst", Protocol::Official), of("portal_vein", Protocol::Official)], [4.0, 2.0]);
    assert_eq!([of("liver", Protocol::Official), of("liver", Protocol::Plain)], [5.0, 1.0], "the challenge's rules stay as they are");
    // Two voxels 2.5 mm apart share their surface at 4 mm and half of it at 2 mm.
    let map = |z: usize| Array3::from_shape_fn((3, 3, 4), |at| if at == (1, 1, z) { 32 } else { 0 });
    let nsd = |scoring: &Scoring| plain(&map(2), &map(1), scoring).class("cyst").unwrap().nsd.unwrap();
    assert_eq!(nsd(&said), 1.0);
    assert!(nsd(&Scoring::of(&classes())) < 1.0);
}

#[test]
fn declarations_that_make_no_sense_say_so() {
    let said = Said::default;
    let kidneys = || said().union("kidneys", &["left_kidney", "right_kidney"]);
    for (said, expected) in [
        (said().truth("spleen", &[1]), "truth: there is no class `spleen`; the classes are right_kidney, portal_vein, tumor,"),
        (said().truth("liver", &[]), "truth: `liver`: [] cannot be the values of a class"),
        (said().truth("liver", &[1]).truth("left_kidney", &[1]), "truth: the value 1 is one of `liver` and of `left_kidney`"),
        (said().truth("liver", &[1]).ignoring(&[1]), "truth: the value 1 is one of `liver` and is ignored too"),
        (said().ignoring(&[90]), "truth: the value 90 is one of `liver` and is ignored too"),
        (kidneys().truth("kidneys", &[0]), "unions: kidneys: `kidneys`: [0] cannot be the values of a class"),
        (kidneys().truth("kidneys", &[4]).ignoring(&[4]), "unions: kidneys: the value 4 is one of `kidneys` and is ignored too"),
        (kidneys().truth("left_kidney", &[1]), "unions: `truth` has neither `kidneys` nor its member `right_kidney`"),
        (said().union("x", &["y"]), "unions: x: there is no class `y`"),
        (said().union("x", &[]), "unions: `x` has no members"),
        (said().union("organ", &["liver"]), "unions: `organ` cannot be the name of a union"),
        (said().tolerance("liver", -1.0), "nsd_tolerance_mm: `liver` has -1 mm"),
        (said().truth("liver", &[1]).tolerance("tumor", 1.0), "nsd_tolerance_mm: `tumor` is not scored; scored are liver"),
    ] {
        let error = said.error();
        assert!(error.starts_with(expected), "{error}");
    }
}

proptest! {
    #[test]
    fn other_values_of_the_truth_change_nothing([prediction, truth] in maps()) {
        // Some classes by several values, and a value that is ignored.
        let said = Said::default()
            .truth("left_kidney", &[1]).truth("right_kidney", &[2, 12]).truth("liver", &[3]).truth("portal_vein", &[255])
            .truth("tumor", &[5]).truth("cyst", &[200]).ignoring(&[77]);
        let mut at = 0;
        let other = truth.mapv(|value| {
            at += 1;
            match value { 200 => 1, 3 if at % 2 == 0 => 2, 3 => 12, 90 => 3, 17 => 255, 31 => 5, 32 => 200, _ if at % 3 == 0 => 77, other => other }
        });
        prop_assert_eq!(plain(&prediction, &other, &said.scoring()), plain(&prediction, &truth, &Scoring::of(&classes())));
    }

    #[test]
    fn a_union_scores_as_one_class_in_place_of_its_members([prediction, truth] in maps()) {
        let united = Said::default().union("kidneys", &["left_kidney", "right_kidney"]).tolerance("kidneys", 3.0).scoring();
        let joined = |map: &Array3<u8>| map.mapv(|value| if value == 200 { 3 } else { value });
        let expected = plain(&joined(&prediction), &joined(&truth), &Scoring::of(&classes()));
        prop_assert_eq!(measured(&plain(&prediction, &truth, &united), "kidneys"), measured(&expected, "right_kidney"));
    }

    #[test]
    fn a_union_changes_no_other_score([prediction, truth] in maps()) {
        let united = plain(&prediction, &truth, &Said::default().union("lesions", &["cancer"]).scoring());
        for class in plain(&prediction, &truth, &Scoring::of(&classes())).classes {
            prop_assert_eq!(united.class(&class.class.key), Some(&class));
        }
    }
}
