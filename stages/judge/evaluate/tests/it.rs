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
        self.labels_of(folder, id, grid, [1, 14], rows);
    }

    /// The same with other values.
    fn labels_of(&self, folder: &str, id: &str, grid: &Grid, [liver, tumor]: [u8; 2], rows: usize) {
        let label = |(x, y, z)| match (x, y, z) {
            (6..8, 4, 3) => tumor,
            (4..12, y, 2..6) if (2..2 + rows).contains(&y) => liver,
            _ => 0,
        };
        let [nx, ny, nz] = grid.shape;
        let labels = LabelVolume { data: Array3::from_shape_fn((nx, ny, nz), label), affine: grid.affine };
        nifti::write_labels_on(self.path(&format!("{folder}/{id}.nii.gz")), &labels).unwrap();
    }

    /// Of FLARE23's classes, unless `params` declare others.
    fn evaluate(&self, mut params: Value, with_images: bool) -> Result<(), String> {
        let given = params.as_object_mut().unwrap();
        given.entry("classes").or_insert_with(|| serde_json::to_value(labels::flare23::classes()).unwrap());
        let roles = [("truth", "truth"), ("predictions.M_1", "M_1"), ("predictions.M_2", "M_2"), ("images", "images")];
        let given = if with_images { &roles[..] } else { &roles[..3] };
        let inputs = given.iter().map(|(role, folder)| (*role, self.path(folder)));
        let io = StageIo::new("scores", inputs, self.path("out"), self.path("work"), 1);
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
fn label_maps_count_alike_whether_a_stage_or_predict_has_written_them() {
    let cases = Cases::with(&["a", "b"]);
    cases.evaluate(json!({}), false).unwrap();
    let scores = cases.text("out/plain.csv");
    // As `predict` leaves a folder.
    std::fs::rename(cases.path("M_2/labels"), cases.path("flat")).unwrap();
    std::fs::remove_dir(cases.path("M_2")).unwrap();
    std::fs::rename(cases.path("flat"), cases.path("M_2")).unwrap();
    for name in ["a.png", "a.json", "journal.jsonl"] {
        std::fs::write(cases.path("M_2").join(name), "").unwrap();
    }
    std::fs::remove_dir_all(cases.path("out")).unwrap();
    std::fs::create_dir(cases.path("out")).unwrap();
    cases.evaluate(json!({}), false).unwrap();
    assert_eq!(cases.text("out/plain.csv"), scores);
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
    assert!(
        cases.text("out/short.md").starts_with("| Model | 13 organs DSC(%) | 13 organs NSD(%) | tumor DSC(%) |"),
        "{}",
        cases.text("out/short.md")
    );
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

/// Three groups with values above 14.
fn three_groups() -> Value {
    json!([
        {"group": "organ", "classes": {"liver_left": 90, "liver_right": 200}},
        {"group": "vessel", "classes": {"vein": 17}},
        {"group": "cancer", "classes": {"tumor": 31, "cyst": 32}}
    ])
}

#[test]
fn label_maps_of_another_dataset_are_scored_by_what_their_values_mean() {
    let cases = Cases::new();
    cases.image("a");
    cases.labels_of("truth", "a", &GRID, [6, 7], 8);
    cases.labels_of("M_1/labels", "a", &GRID, [200, 31], 8);
    cases.labels_of("M_2/labels", "a", &GRID, [90, 32], 7);
    let params = json!({
        "classes": three_groups(), "truth": {"liver": [6, 7], "lesion": [7]}, "nsd_tolerance_mm": {"liver": 0.5},
        "unions": {"liver": ["organ", "cancer"], "lesion": ["tumor", "cyst"]},
    });
    cases.evaluate(params, true).unwrap();
    let lines = |model: &str| -> Vec<String> { cases.text(&format!("out/cases/{model}.plain.csv")).lines().map(str::to_owned).collect() };
    // 256 voxels of liver with its lesion, of which M_2 finds 224: 2*224/480.
    assert_eq!(
        lines("M_1"),
        ["case,class,dsc,nsd,hd_mm,hd95_mm,note", "a,liver,1.000000,1.000000,0.0000,0.0000,", "a,lesion,1.000000,1.000000,0.0000,0.0000,"]
    );
    assert!(lines("M_2")[1].starts_with("a,liver,0.933333,0.") && lines("M_2")[2].starts_with("a,lesion,1.0"), "{:?}", lines("M_2"));
    let rows: Vec<String> = cases.text("out/official.csv").lines().map(|line| line.split(',').next().unwrap().to_owned()).collect();
    assert_eq!(rows, ["target", "Liver", "Lesion", "Average"]);
    let summaries: Value = serde_json::from_str(&cases.text("out/plain.json")).unwrap();
    assert_eq!(summaries[0]["classes"][1]["group"], "cancer");
    assert_eq!(summaries[0]["groups"][1]["heading"], "lesion");
    assert_eq!(cases.pictures(), ["a.png"]);
    // Without the union the liver is what no lesion hides.
    let params = json!({"classes": three_groups(), "truth": {"liver_right": [6]}, "ignore": [7]});
    cases.evaluate(params, true).unwrap();
    assert_eq!(lines("M_1").len(), 2);
    assert!(lines("M_1")[1].starts_with("a,liver_right,1.0"), "{:?}", lines("M_1"));
}

#[test]
fn values_that_are_not_declared_are_told_with_case_file_and_remedy() {
    let cases = Cases::new();
    for id in ["a", "b"] {
        ["truth", "M_1/labels", "M_2/labels"].iter().for_each(|folder| cases.labels_of(folder, id, &GRID, [0, 1], 8));
    }
    let pan_cancer = || json!({"classes": [{"group": "cancer", "classes": {"tumor": 1}}]});
    cases.evaluate(pan_cancer(), false).unwrap();
    assert!(cases.text("out/official.md").contains("\n| Tumor | 100.00 ± 0.00 |"), "{}", cases.text("out/official.md"));
    cases.labels_of("truth", "b", &GRID, [1, 2], 8);
    let error = cases.evaluate(pan_cancer(), false).unwrap_err();
    let expected = "truth/b.nii.gz: values that are not declared: 2 (2 voxels); declared are 0 and {1}; say in `truth` which class";
    assert!(error.contains("2 of 4 cases failed") && error.contains("case b of M_1") && error.contains(expected), "{error}");
    cases.evaluate(json!({"classes": pan_cancer()["classes"], "ignore": [2]}), false).unwrap();
    let error = cases.evaluate(json!({"classes": three_groups(), "truth": {"tumor": [1, 2]}}), false).unwrap_err();
    assert!(error.contains("M_1/labels/a.nii.gz: values that are not declared: 1 (") && error.contains("declare their classes"), "{error}");
}

#[test]
fn declarations_that_make_no_sense_are_refused_before_any_case() {
    let error = Cases::with(&["a"]).evaluate(json!({"truth": {"colon": [1]}}), false).unwrap_err();
    assert!(error.contains("truth: there is no class `colon`"), "{error}");
    let error = Cases::with(&["a"]).evaluate(json!({"truth": {"liver": [1]}, "unions": {"kidneys": ["left_kidney"]}}), false).unwrap_err();
    assert!(error.contains("`truth` has neither `kidneys` nor its member `left_kidney`"), "{error}");
}

#[test]
fn colours_are_no_part_of_what_scores_are_made_from() {
    let cases = Cases::with(&["a"]);
    let mut params = json!({"classes": [{"group": "organ", "classes": {"liver": 1}}, {"group": "cancer", "classes": {"tumor": 14}}]});
    cases.evaluate(params.clone(), false).unwrap();
    let kept = || std::fs::metadata(cases.path("work/M_2/a.json")).unwrap().ino();
    let file = kept();
    params["classes"][0]["classes"]["liver"] = json!({"value": 1, "color": "#123456"});
    cases.evaluate(params.clone(), false).unwrap();
    assert_eq!(kept(), file);
    params["nsd_tolerance_mm"] = json!({"liver": 1.0});
    cases.evaluate(params, false).unwrap();
    assert_ne!(kept(), file);
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
