//! Every digit of the reference values: FLARE23's evaluator and the surface-distance package.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use labels::flare23;
use metrics::{CaseScores, ClassScore, Note, Protocol, Scoring, evaluate_case};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    tolerance_mm: BTreeMap<String, f64>,
    pairs: BTreeMap<String, Pair>,
}

#[derive(Deserialize)]
struct Pair {
    ground_truth: String,
    prediction: String,
    scores: BTreeMap<String, Expected>,
}

#[derive(Deserialize)]
struct Expected {
    plain: Plain,
    official: Official,
}

#[derive(Deserialize)]
struct Plain {
    dsc: Option<f64>,
    nsd: Option<f64>,
    hd_mm: Option<f64>,
    hd95_mm: Option<f64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Official {
    Scores { dsc: f64, nsd: f64 },
    Raised(String),
}

/// The file in the folders that hold reference data, if the environment names them, or among the fixtures.
fn reference(file: &str) -> PathBuf {
    let named = ["GOLDEN_DIR", "CT_DIR"]
        .into_iter()
        .filter_map(std::env::var_os)
        .map(|folder| Path::new(&folder).join(file))
        .find(|path| path.exists());
    named.unwrap_or_else(|| Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures")).join(file))
}

fn golden() -> Golden {
    let path = reference("metrics.json");
    let text = std::fs::read_to_string(&path).expect("metrics.json");
    serde_json::from_str(&text).expect("the layout above")
}

fn scores(pair: &Pair, protocol: Protocol) -> CaseScores {
    let read = |file: &str| volume::nifti::read_labels(reference(file)).expect("a label map");
    let (truth, header) = read(&pair.ground_truth);
    let (prediction, _) = read(&pair.prediction);
    let spacing_mm = header.grid().spacing_mm();
    evaluate_case(prediction.data.view(), truth.data.view(), spacing_mm, &Scoring::of(&flare23::classes()), protocol)
        .expect("labels on one grid")
}

fn rounded(value: Option<f64>, digits: i32) -> Option<f64> {
    let scale = 10f64.powi(digits);
    value.map(|value| (value * scale).round_ties_even() / scale)
}

fn check_pairs(protocol: Protocol, check: impl Fn(&str, &ClassScore, &Expected)) {
    let golden = golden();
    assert_eq!(golden.pairs.len(), 4);
    for (name, pair) in &golden.pairs {
        let scores = scores(pair, protocol);
        assert_eq!(pair.scores.len(), scores.classes.len());
        for class in &scores.classes {
            let place = format!("{name}, {}", class.class.key);
            check(&place, class, &pair.scores[&class.class.key]);
        }
    }
}

#[test]
fn tolerances_are_the_challenges() {
    let golden = golden().tolerance_mm;
    assert_eq!(golden.len(), flare23::classes().all().len());
    for class in flare23::classes().all() {
        for protocol in [Protocol::Official, Protocol::Plain] {
            assert_eq!(protocol.nsd_tolerance_mm(&class.key, None), golden[&class.key], "{}", class.key);
        }
    }
}

#[test]
fn plain_scores_agree_in_every_digit() {
    check_pairs(Protocol::Plain, |place, class, Expected { plain, .. }| {
        assert_eq!(rounded(class.dsc, 6), plain.dsc, "{place}: DSC");
        assert_eq!(rounded(class.nsd, 6), plain.nsd, "{place}: NSD");
        assert_eq!(rounded(class.hd_mm, 4), plain.hd_mm, "{place}: HD");
        assert_eq!(rounded(class.hd95_mm, 4), plain.hd95_mm, "{place}: HD95");
    });
}

#[test]
fn official_scores_agree_in_every_digit() {
    check_pairs(Protocol::Official, |place, class, expected| match &expected.official {
        Official::Scores { dsc, nsd } => {
            assert_eq!(class.dsc, Some(*dsc), "{place}: DSC");
            assert_eq!(class.nsd, Some(*nsd), "{place}: NSD");
        }
        Official::Raised(why) => {
            assert_eq!(why, "error: ground truth on a single slice");
            assert_eq!((class.dsc, class.nsd), (None, None), "{place}");
            assert_eq!(class.note, Some(Note::TruthOnOneSlice), "{place}");
        }
    });
}

#[derive(Deserialize)]
struct SurfelAreas {
    spacing_mm: [f64; 3],
    areas_mm2: Vec<f64>,
}

#[test]
fn surfels_of_all_codes_have_the_areas_of_the_surface_distance_package() {
    let text = include_str!("../fixtures/surfel_areas.json");
    let tables: Vec<SurfelAreas> = serde_json::from_str(text).expect("surfel_areas.json");
    assert_eq!(tables.len(), 3);
    for table in tables {
        let areas = metrics::surfel_areas_mm2(table.spacing_mm);
        assert_eq!(table.areas_mm2.len(), areas.len());
        for (code, area) in (0u8..=255).zip(areas) {
            // The package numbers the corners from the other end.
            let expected = table.areas_mm2[usize::from(code.reverse_bits())];
            assert!((area - expected).abs() < 1e-11, "code {code:08b} at {:?} mm: {area} instead of {expected}", table.spacing_mm);
        }
    }
}
