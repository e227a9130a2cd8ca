//! Two models on tiny cases whose scores follow from counting voxels.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use evaluate::Evaluate;
use ndarray::Array3;
use serde_json::{Value, json};
use stage_kit::{Entry, StageIo};
use volume::{Affine, Grid, LabelVolume, ScalarVolume, nifti};

const GRID: Grid = Grid {
    shape: [16, 12, 8],
    affine: Affine([[-3.0, 0.0, 0.0, 20.0], [0.0, -3.0, 0.0, 30.0], [0.0, 0.0, 5.0, 0.0], [0.0, 0.0, 0.0, 1.0]]),
};

/// A folder with `truth`, `images` and the label maps of the models.
struct Cases {
    root: tempfile::TempDir,
}

impl Cases {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        for folder in ["truth", "images", "M_1/labels", "M_2/labels", "out", "work"] {
            std::fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        Self { root }
    }

    /// Cases of which M_1 is right in all and M_2 finds the fewer of the liver's eight rows the later the case comes.
    fn with(ids: &[&str]) -> Self {
        let cases = Self::new();
        for (index, id) in ids.iter().enumerate() {
            cases.image(id);
            cases.labels("truth", id, &GRID, 8);
            cases.labels("M_1/labels", id, &GRID, 8);
            cases.labels("M_2/labels", id, &GRID, 7 - index);
        }
        cases
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn image(&self, id: &str) {
        nifti::write_scalar_i16(self.path(&format!("images/{id}_0000.nii.gz")), &ScalarVolume::filled(&GRID, 60.0)).unwrap();
    }

    /// A liver of 8 x `rows` x 4 voxels with a tumor of two.
    fn labels(&self, folder: &str, id: &str, grid: &Grid, rows: usize) {
        let label = |(x, y, z)| match (x, y, z) {
            (6..8, 4, 3) => 14,
            (4..12, y, 2..6) if (2..2 + rows).contains(&y) => 1,
            _ => 0,
        };
        let [nx, ny, nz] = grid.shape;
        let labels = LabelVolume { data: Array3::from_shape_fn((nx, ny, nz), label), affine: grid.affine };
        nifti::write_labels_on(self.path(&format!("{folder}/{id}.nii.gz")), &labels).unwrap();
    }

    fn evaluate(&self, params: Value, with_images: bool) -> Result<(), String> {
        let roles = [("truth", "truth"), ("predictions.M_1", "M_1"), ("predictions.M_2", "M_2"), ("images", "images")];
        let given = if with_images { &roles[..] } else { &roles[..3] };
        let io = StageIo {
            node: "scores".into(),
            inputs: given.iter().map(|(role, folder)| ((*role).to_owned(), self.path(folder))).collect(),
            output: self.path("out"),
            work: self.path("work"),
            seed: 1,
            device: Default::default(),
            report: Default::default(),
            planned: false,
            sink: None,
        };
        Entry::of::<Evaluate>().run(params, &io).map_err(|error| format!("{error:#}"))
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    fn pictures(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.path("out/pictures")) else { return Vec::new() };
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

#[test]
fn tables_hold_both_models_side_by_side_by_both_protocols() {
    let cases = Cases::with(&["a", "b"]);
    cases.evaluate(json!({}), false).unwrap();
    let plain = cases.text("out/plain.md");
    assert!(plain.starts_with("| Target | M_1 DSC(%) | M_1 NSD(%) | M_2 DSC(%) | M_2 NSD(%) |"), "{plain}");
    // The liver has 254 voxels; M_2 finds 222 of them in a, 190 in b: 2*222/476 and 2*190/444.
    let liver = plain.lines().find(|line| line.starts_with("| Liver ")).unwrap();
    assert!(liver.starts_with("| Liver | 100.00 ± 0.00 | 100.00 ± 0.00 | 89.43 ± "), "{liver}");
    assert!(plain.contains("| Spleen | – | – | – | – |"), "nobody has a spleen, which plainly is no score: {plain}");
    assert!(cases.text("out/official.md").contains("| Spleen | 100.00 ± 0.00 |"), "and officially is a full one");
    assert!(cases.text("out/cases/M_2.plain.csv").contains("\na,liver,0.93"), "{}", cases.text("out/cases/M_2.plain.csv"));
    let summaries: Value = serde_json::from_str(&cases.text("out/plain.json")).unwrap();
    assert_eq!(summaries.as_array().unwrap().len(), 2);
    assert!(cases.pictures().is_empty(), "without the scans there is nothing to draw on");
}

#[test]
fn scores_of_an_interrupted_attempt_are_kept() {
    let cases = Cases::with(&["a", "b"]);
    cases.evaluate(json!({}), false).unwrap();
    let before = cases.text("out/plain.csv");
    std::fs::remove_file(cases.path("work/M_2/b.json")).unwrap();
    std::fs::remove_file(cases.path("out/plain.csv")).unwrap();
    let kept = || std::fs::metadata(cases.path("work/M_2/a.json")).unwrap().ino();
    let file = kept();
    cases.evaluate(json!({}), false).unwrap();
    assert_eq!((cases.text("out/plain.csv"), kept()), (before, file), "the file of case a is still the same one");
    // Scores are those of the labels that are there now.
    std::fs::write(cases.path("M_2/labels/a.nii.gz"), "damaged").unwrap();
    let error = cases.evaluate(json!({}), false).unwrap_err();
    assert!(error.contains("1 of 4 cases failed") && error.contains("case a of M_2"), "{error}");
}

#[test]
fn a_missing_prediction_is_named_and_the_other_cases_are_scored() {
    let cases = Cases::with(&["a", "b"]);
    std::fs::remove_file(cases.path("M_2/labels/a.nii.gz")).unwrap();
    let error = cases.evaluate(json!({}), false).unwrap_err();
    assert!(error.contains("1 of 4 cases failed") && error.contains("case a of M_2") && error.contains("M_2/labels/a.nii.gz"), "{error}");
    assert!(cases.path("work/M_2/b.json").exists());
    assert!(!cases.path("out/plain.md").exists(), "a table of half the cases would mislead");
}

#[test]
fn a_prediction_on_another_grid_is_an_error_that_names_both_files() {
    let cases = Cases::with(&["a"]);
    let shifted = Grid { affine: Affine::from_spacing_mm([3.0, 3.0, 5.0], [0.0; 3]), ..GRID };
    cases.labels("M_1/labels", "a", &shifted, 8);
    let error = cases.evaluate(json!({}), false).unwrap_err();
    assert!(error.contains("M_1/labels/a.nii.gz") && error.contains("truth/a.nii.gz") && error.contains("affines differ"), "{error}");
}

#[test]
fn only_segmented_cases_are_scored_and_images_without_truth_left_out() {
    let cases = Cases::with(&["a", "b"]);
    std::fs::remove_file(cases.path("images/b_0000.nii.gz")).unwrap();
    cases.image("c");
    cases.evaluate(json!({}), true).unwrap();
    let scored = cases.text("out/cases/M_1.plain.csv");
    assert!(scored.contains("\na,") && !scored.contains("\nb,") && !scored.contains("\nc,"), "{scored}");
    assert_eq!(cases.pictures(), ["a.png"]);
}

#[test]
fn the_best_and_the_worst_cases_are_drawn() {
    let cases = Cases::with(&["a", "b", "c", "d", "e"]);
    cases.evaluate(json!({"pictures": 0}), true).unwrap();
    assert!(cases.pictures().is_empty());
    cases.evaluate(json!({"pictures": 3}), true).unwrap();
    assert_eq!(cases.pictures(), ["a.png", "b.png", "e.png"]);
    let bytes = std::fs::read(cases.path("out/pictures/e.png")).unwrap();
    assert!(bytes.starts_with(b"\x89PNG\r\n\x1a\n"));
    cases.evaluate(json!({"pictures": 9}), true).unwrap();
    assert_eq!(cases.pictures().len(), 5);
}

#[test]
fn a_scan_on_another_grid_than_its_truth_is_named() {
    let cases = Cases::with(&["a"]);
    let small = Grid { shape: [4, 4, 4], ..GRID };
    nifti::write_scalar_i16(cases.path("images/a_0000.nii.gz"), &ScalarVolume::filled(&small, 0.0)).unwrap();
    let error = cases.evaluate(json!({}), true).unwrap_err();
    assert!(
        error.contains("case a") && error.contains("a_0000.nii.gz") && error.contains("the ground truth has [16, 12, 8] voxels"),
        "{error}"
    );
    assert!(cases.path("out/plain.md").exists(), "the tables do not wait for the pictures");
}

#[test]
fn unknown_parameters_are_refused() {
    let error = Cases::with(&["a"]).evaluate(json!({"picture": 3}), false).unwrap_err();
    assert!(error.contains("unknown field `picture`"), "{error}");
}
