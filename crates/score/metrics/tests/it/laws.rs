//! What must hold for any masks, and masks whose scores can be told by hand.

use labels::flare23;
use metrics::{CaseScores, MetricsError, Note, Protocol, Scoring, evaluate_case, surface_distances};
use ndarray::{Array3, ShapeBuilder, s};
use proptest::prelude::*;

const UNIT_MM: [f64; 3] = [1.0; 3];

/// FLARE23's classes, with their own values in both maps.
fn evaluate(prediction: &Array3<u8>, truth: &Array3<u8>, spacing_mm: [f64; 3], protocol: Protocol) -> Result<CaseScores, MetricsError> {
    evaluate_case(prediction.view(), truth.view(), spacing_mm, &Scoring::of(&flare23::classes()), protocol)
}

fn voxels(shape: [usize; 3], inside: &[[usize; 3]]) -> Array3<bool> {
    let mut mask = Array3::from_elem(shape.f(), false);
    for &voxel in inside {
        mask[voxel] = true;
    }
    mask
}

fn ball(radius: f64) -> Array3<bool> {
    Array3::from_shape_fn((64, 64, 64).f(), |(x, y, z)| {
        let squared: f64 = [x, y, z].map(|v| (v as f64 - 31.5).powi(2)).iter().sum();
        squared <= radius * radius
    })
}

fn label_maps(shape: impl Strategy<Value = [usize; 3]>) -> impl Strategy<Value = (Array3<u8>, Array3<u8>)> {
    // Few labels and many voxels of each, so that classes meet, miss and surround each other.
    let label = prop::sample::select(vec![0u8, 0, 0, 1, 1, 5, 14]);
    shape.prop_flat_map(move |shape| {
        let n: usize = shape.iter().product();
        let map =
            prop::collection::vec(label.clone(), n).prop_map(move |voxels| Array3::from_shape_vec(shape.f(), voxels).expect("n voxels"));
        (map.clone(), map)
    })
}

fn small_maps() -> impl Strategy<Value = (Array3<u8>, Array3<u8>)> {
    label_maps([1usize..6, 1usize..6, 1usize..5])
}

fn spacings() -> impl Strategy<Value = [f64; 3]> {
    [0.5f64..3.0, 0.5f64..3.0, 0.5f64..6.0]
}

fn plain(prediction: &Array3<u8>, truth: &Array3<u8>, spacing_mm: [f64; 3]) -> CaseScores {
    evaluate(prediction, truth, spacing_mm, Protocol::Plain).expect("good maps")
}

fn close(a: &CaseScores, b: &CaseScores) -> bool {
    let near = |a: Option<f64>, b: Option<f64>| match (a, b) {
        (Some(a), Some(b)) => (a - b).abs() < 1e-9,
        (a, b) => a == b,
    };
    a.classes.iter().zip(&b.classes).all(|(a, b)| {
        // The percentile may fall on either side of a jump when areas are added in another order, so HD95
        // is not compared.
        near(a.dsc, b.dsc) && near(a.nsd, b.nsd) && near(a.hd_mm, b.hd_mm)
    })
}

#[test]
fn two_voxels_2_mm_apart_share_half_of_their_surface_at_1_mm() {
    let truth = voxels([8, 8, 8], &[[3, 3, 3]]);
    let prediction = voxels([8, 8, 8], &[[3, 3, 5]]);
    let spacing_mm = [3.0, 2.0, 1.0];
    let distances = surface_distances(prediction.view(), truth.view(), spacing_mm).expect("one grid");
    assert_eq!(distances.truth_to_prediction.surfels.len(), 8);
    assert_eq!(distances.nsd(0.9), Some(0.0));
    assert_eq!(distances.nsd(1.0), Some(0.5));
    assert_eq!(distances.nsd(2.0), Some(1.0));
    assert_eq!(distances.hausdorff_mm(), Some(2.0));
    assert_eq!(distances.hausdorff95_mm(), Some(2.0));
}

#[test]
fn spacing_stretches_distances_along_its_axis() {
    for (axis, far_mm) in [(0, 0.5), (1, 2.0), (2, 5.0)] {
        let mut there = [2, 2, 2];
        there[axis] = 3;
        let truth = voxels([6, 6, 6], &[[2, 2, 2]]);
        let prediction = voxels([6, 6, 6], &[there]);
        let distances = surface_distances(prediction.view(), truth.view(), [0.5, 2.0, 5.0]).expect("one grid");
        assert_eq!(distances.hausdorff_mm(), Some(far_mm));
    }
}

#[test]
fn concentric_balls_are_as_far_apart_as_their_radii() {
    let (inner, outer) = (ball(20.0), ball(25.0));
    let distances = surface_distances(outer.view(), inner.view(), UNIT_MM).expect("one grid");
    let hd_mm = distances.hausdorff_mm().expect("both there");
    assert!((hd_mm - 5.0).abs() < 1.0, "{hd_mm}");
    assert_eq!(distances.nsd(7.0), Some(1.0));
    assert_eq!(distances.nsd(3.0), Some(0.0));

    // Surfaces grow with the square of the radius; the digital surface is some 10 % rougher than the ball.
    let area = |surfels: &[(f64, f64)]| surfels.iter().map(|(_, area)| area).sum::<f64>();
    for (directed, radius) in [(&distances.truth_to_prediction, 20.0f64), (&distances.prediction_to_truth, 25.0)] {
        let ratio = area(&directed.surfels) / (4.0 * std::f64::consts::PI * radius.powi(2));
        assert!((1.0..1.15).contains(&ratio), "{ratio}");
    }

    let scores = plain(&outer.mapv(u8::from), &inner.mapv(u8::from), UNIT_MM);
    let dsc = scores.classes[0].dsc.expect("there");
    let expected = 2.0 * 20f64.powi(3) / (20f64.powi(3) + 25f64.powi(3));
    assert!((dsc - expected).abs() < 0.01, "{dsc} instead of {expected}");
}

#[test]
fn distances_to_nothing_are_infinite_and_have_no_hausdorff_distance() {
    let (some, none) = (voxels([4, 4, 4], &[[1, 1, 1]]), voxels([4, 4, 4], &[]));
    let distances = surface_distances(none.view(), some.view(), UNIT_MM).expect("one grid");
    let surfels = &distances.truth_to_prediction.surfels;
    assert!(surfels.iter().all(|(distance, _)| distance.is_infinite()));
    assert_eq!(distances.nsd(100.0), Some(0.0));
    assert_eq!(distances.hausdorff_mm(), None);
    let distances = surface_distances(none.view(), none.view(), UNIT_MM).expect("one grid");
    assert_eq!(distances.nsd(100.0), None);
}

/// Ground truth and prediction of one label in a column of slices.
fn columns(label: u8, truth: [bool; 6], prediction: [bool; 6]) -> [Array3<u8>; 2] {
    [truth, prediction].map(|slices| Array3::from_shape_fn((3, 3, 6).f(), |(_, _, z)| u8::from(slices[z]) * label))
}

fn official(label: u8, truth: [bool; 6], prediction: [bool; 6]) -> metrics::ClassScore {
    let [truth, prediction] = columns(label, truth, prediction);
    let scores = evaluate(&prediction, &truth, UNIT_MM, Protocol::Official).expect("good maps");
    scores.class(&flare23::classes().key_of(label)).expect("an organ").clone()
}

#[test]
fn officially_the_tubes_are_compared_up_to_the_slice_before_the_last() {
    let truth = [false, true, true, true, false, false];
    let prediction = [true, true, true, false, true, true];
    for label in [5, 6, 10] {
        let score = official(label, truth, prediction);
        assert_eq!((score.dsc, score.nsd), (Some(1.0), Some(1.0)), "{label}");
    }
    let score = official(11, truth, prediction);
    assert_eq!(score.dsc, Some(0.5), "the stomach is compared whole");
}

#[test]
fn a_tube_on_one_slice_has_no_official_score_and_says_why() {
    let one = [false, false, true, false, false, false];
    let score = official(5, one, one);
    assert_eq!((score.dsc, score.nsd), (None, None));
    assert_eq!(score.note, Some(Note::TruthOnOneSlice));
    let score = official(5, one, [false; 6]);
    assert_eq!((score.dsc, score.nsd), (Some(0.0), Some(0.0)), "missed");
}

#[test]
fn a_prediction_wholly_outside_the_annotated_slices_scores_0_officially() {
    let score = official(6, [false, true, true, true, false, false], [true, false, false, true, true, true]);
    assert_eq!((score.dsc, score.nsd), (Some(0.0), Some(0.0)));
    assert_eq!(score.note, None);
}

#[test]
fn absent_classes_score_by_rule() {
    let here = [true; 6];
    let gone = [false; 6];
    let both = official(9, gone, gone);
    assert_eq!((both.dsc, both.note), (Some(1.0), Some(Note::AbsentFromBoth)));
    let missed = official(9, here, gone);
    assert_eq!(missed.nsd, Some(0.0));
    assert_eq!(missed.note, Some(Note::AbsentFromPrediction));
    let invented = official(9, gone, here);
    assert_eq!(invented.nsd, Some(0.0));
    assert_eq!(invented.note, Some(Note::AbsentFromTruth));
    let [truth, prediction] = columns(9, gone, gone);
    let score = plain(&prediction, &truth, UNIT_MM).classes[8].clone();
    assert_eq!((score.dsc, score.nsd), (None, None));
}

#[test]
fn bad_input_is_refused_with_what_was_found() {
    let map = Array3::<u8>::zeros((2, 3, 4));
    let other = Array3::<u8>::zeros((2, 3, 5));
    let error = |prediction: &Array3<u8>, truth: &Array3<u8>, spacing_mm| {
        evaluate(prediction, truth, spacing_mm, Protocol::Plain).expect_err("bad input")
    };
    assert_eq!(
        error(&map, &other, UNIT_MM).to_string(),
        "the prediction has [2, 3, 4] voxels and the ground truth [2, 3, 5]; resample the prediction onto the ground truth's grid first"
    );
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(matches!(error(&map, &map, [1.0, bad, 1.0]), MetricsError::BadSpacing { .. }), "{bad}");
    }
    let wrong = map.mapv(|_| 17u8);
    let text = error(&wrong, &map, UNIT_MM).to_string();
    assert!(text.starts_with("the prediction: values that are not declared: 17 (24 voxels); declared are 0 and {1,2,"), "{text}");
    assert!(error(&map, &wrong, UNIT_MM).to_string().starts_with("the ground truth: values that are not declared"));
}

#[test]
fn protocols_are_known_by_name() {
    for protocol in [Protocol::Official, Protocol::Plain] {
        assert_eq!(protocol.to_string().parse(), Ok(protocol));
    }
    let error = "offical".parse::<Protocol>().expect_err("misspelt");
    assert_eq!(error.to_string(), "`offical` is not a protocol; expected official or plain");
}

#[test]
fn an_empty_volume_has_only_absent_classes() {
    let map = Array3::<u8>::zeros((0, 4, 4));
    let scores = plain(&map, &map, UNIT_MM);
    let absent = |class: &metrics::ClassScore| class.note == Some(Note::AbsentFromBoth);
    assert!(scores.classes.iter().all(absent));
}

proptest! {
    #[test]
    fn scores_lie_between_0_and_1_and_hd95_below_hd(
        (prediction, truth) in small_maps(),
        spacing_mm in spacings(),
    ) {
        for protocol in [Protocol::Plain, Protocol::Official] {
            let scores = evaluate(&prediction, &truth, spacing_mm, protocol).expect("good maps");
            for class in &scores.classes {
                for share in [class.dsc, class.nsd].into_iter().flatten() {
                    prop_assert!((0.0..=1.0).contains(&share));
                }
                prop_assert!(class.hd95_mm <= class.hd_mm);
                prop_assert!(class.hd_mm.is_none_or(f64::is_finite));
            }
        }
    }

    #[test]
    fn a_map_agrees_with_itself((map, _) in small_maps(), spacing_mm in spacings()) {
        for class in &plain(&map, &map, spacing_mm).classes {
            if class.note.is_none() {
                prop_assert_eq!((class.dsc, class.nsd), (Some(1.0), Some(1.0)));
                prop_assert_eq!((class.hd_mm, class.hd95_mm), (Some(0.0), Some(0.0)));
            }
        }
    }

    #[test]
    fn prediction_and_truth_may_change_places((a, b) in small_maps(), spacing_mm in spacings()) {
        prop_assert!(close(&plain(&a, &b, spacing_mm), &plain(&b, &a, spacing_mm)));
    }

    #[test]
    fn axes_may_change_places_with_their_spacings((a, b) in small_maps(), spacing_mm in spacings()) {
        let turned = |map: &Array3<u8>| map.view().permuted_axes([2, 0, 1]).to_owned();
        let spacing_turned_mm = [spacing_mm[2], spacing_mm[0], spacing_mm[1]];
        let scores = plain(&a, &b, spacing_mm);
        prop_assert!(close(&scores, &plain(&turned(&a), &turned(&b), spacing_turned_mm)));
    }

    #[test]
    fn empty_space_around_changes_nothing((a, b) in small_maps(), spacing_mm in spacings()) {
        let padded = |map: &Array3<u8>| {
            let (x, y, z) = map.dim();
            let mut wide = Array3::zeros((x + 3, y + 4, z + 5).f());
            wide.slice_mut(s![2..2 + x, 1..1 + y, 3..3 + z]).assign(map);
            wide
        };
        prop_assert_eq!(plain(&a, &b, spacing_mm), plain(&padded(&a), &padded(&b), spacing_mm));
    }

    #[test]
    fn the_order_in_memory_changes_nothing((a, b) in small_maps(), spacing_mm in spacings()) {
        let row_major = |map: &Array3<u8>| Array3::from_shape_fn(map.dim(), |place| map[place]);
        prop_assert_eq!(plain(&a, &b, spacing_mm), plain(&row_major(&a), &row_major(&b), spacing_mm));
    }
}
