//! What a data set of phantoms promises to those who train, test and score on it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use labels::flare23::{self, FIVE_ORGANS, TUMOR};
use labels::{BACKGROUND, LabelPattern};
use phantom::Phantom;
use serde_json::{Value, json};
use stage_kit::{Entry, StageIo};
use volume::{LabelVolume, ScalarVolume, nifti};

const STAGE: Entry = Entry::of::<Phantom>();

/// A data set in a folder of its own.
struct DataSet {
    folder: tempfile::TempDir,
}

impl DataSet {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn make(changes: &Value, seed: u64) -> Self {
        let data = Self::new();
        data.run(changes, seed).unwrap();
        data
    }

    fn run(&self, changes: &Value, seed: u64) -> anyhow::Result<()> {
        let [output, work] = ["out", "work"].map(|name| self.folder.path().join(name));
        fs::create_dir_all(&output).unwrap();
        fs::create_dir_all(&work).unwrap();
        let io = StageIo::new("phantom", BTreeMap::<String, PathBuf>::new(), output, work, seed);
        STAGE.run(params(changes), &io)
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.folder.path().join("out").join(relative)
    }

    fn labels(&self, relative: &str) -> LabelVolume {
        nifti::read_labels(self.path(relative)).unwrap().0
    }

    fn image(&self, relative: &str) -> ScalarVolume {
        nifti::read_scalar(self.path(relative)).unwrap().0
    }

    fn cases(&self) -> Vec<Value> {
        serde_json::from_str(&fs::read_to_string(self.path("cases.json")).unwrap()).unwrap()
    }

    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        fn visit(root: &Path, folder: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    visit(root, &path, found);
                } else {
                    found.insert(path.strip_prefix(root).unwrap().to_owned(), fs::read(&path).unwrap());
                }
            }
        }
        let mut found = BTreeMap::new();
        visit(&self.path(""), &self.path(""), &mut found);
        found
    }
}

/// Small and quick, without any of the options; `changes` replaces fields.
fn params(changes: &Value) -> Value {
    let mut params = json!({
        "cases": {}, "validation": 0, "body_width_mm": [310, 370], "variation": 1,
        "spacing_in_plane_mm": [6, 7], "spacing_through_plane_mm": [7, 8], "margin_mm": [12, 25],
        "noise_hu": [10, 20], "orientations": ["RAS"], "tumor_fraction": 0,
    });
    for (name, value) in changes.as_object().unwrap() {
        params[name] = value.clone();
    }
    params
}

/// The values of a label map.
fn pattern(labels: &LabelVolume) -> LabelPattern {
    labels.data.iter().copied().collect()
}

fn has_tumor(truth: &LabelVolume) -> bool {
    pattern(truth).contains(TUMOR)
}

/// What the label maps of a subset show of the truth.
fn annotated(subset: &str) -> LabelPattern {
    let (five, tumor) = (LabelPattern::from_iter(FIVE_ORGANS), LabelPattern::of(TUMOR));
    match subset {
        "D_l1" => flare23::classes().pattern().minus(tumor),
        "D_l2" => five,
        "D_l3" => five.union(tumor),
        "D_l4" => tumor,
        _ => panic!("{subset} has no labels"),
    }
}

fn text<'a>(case: &'a Value, field: &str) -> &'a str {
    case[field].as_str().unwrap_or_else(|| panic!("{field} of {case}"))
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_seed_another_patient() {
    let all = || json!({"cases": {"D_u": 1, "D_l1": 1, "D_l3": 1}, "validation": 1, "corrected": 1, "oblique_fraction": 0.5});
    let (first, again, other) = (DataSet::make(&all(), 1).files(), DataSet::make(&all(), 1).files(), DataSet::make(&all(), 2).files());
    assert_eq!(first.len(), 4 + 4 + 2 + 1 + 1, "images, truths, labels, a correction and cases.json");
    assert!(first == again);
    for (path, bytes) in first.iter().filter(|(path, _)| path.to_string_lossy().contains("_0000")) {
        assert!(other.get(path) != Some(bytes), "{} does not depend on the seed", path.display());
    }
}

#[test]
fn a_patient_does_not_depend_on_how_many_others_there_are() {
    let alone = DataSet::make(&json!({"cases": {"D_l4": 1}}), 1);
    let among = DataSet::make(&json!({"cases": {"D_l1": 2, "D_l4": 2}, "validation": 1}), 1);
    let read = |data: &DataSet, id: &str| fs::read(data.path(&format!("FLARE/imagesTr2200/{id}_0000.nii.gz"))).unwrap();
    assert!(read(&alone, "FLARE23_0001") == read(&among, "FLARE23_0003"));
}

#[test]
fn labels_are_the_part_of_the_truth_that_the_subset_annotates() {
    let data = DataSet::make(
        &json!({"cases": {"D_u": 2, "D_l1": 2, "D_l2": 2, "D_l3": 4, "D_l4": 4}, "validation": 2, "tumor_fraction": 1, "cropped_fraction": 0.5}),
        3,
    );
    let mut counts = BTreeMap::new();
    for case in data.cases() {
        *counts.entry(text(&case, "subset").to_owned()).or_insert(0) += 1;
        let truth = data.labels(text(&case, "truth"));
        assert!(truth.grid().approx_eq(&data.image(text(&case, "image")).grid()), "{case}");
        let subset = text(&case, "subset");
        if ["D_u", "validation"].contains(&subset) {
            assert!(has_tumor(&truth) && case.get("label").is_none(), "{case}");
            continue;
        }
        let (labels, annotated) = (data.labels(text(&case, "label")), annotated(subset));
        assert_eq!(has_tumor(&truth), annotated.contains(TUMOR), "{case}");
        for (&found, &full) in labels.data.iter().zip(&truth.data) {
            assert_eq!(found, if annotated.contains(full) { full } else { BACKGROUND }, "{case}");
        }
    }
    let expected = [("D_l1", 2), ("D_l2", 2), ("D_l3", 4), ("D_l4", 4), ("D_u", 2), ("validation", 2)];
    assert_eq!(counts, expected.map(|(name, n)| (name.to_owned(), n)).into());
}

#[test]
fn files_have_the_names_of_the_challenge() {
    let data = DataSet::make(&json!({"cases": {"D_u": 1, "D_l2": 1}, "validation": 1}), 4);
    let names: Vec<String> = data.files().keys().map(|path| path.to_string_lossy().into_owned()).collect();
    let expected = [
        "FLARE/imagesTr2200/FLARE23_0001_0000.nii.gz",
        "FLARE/labelsTr2200/FLARE23_0001.nii.gz",
        "FLARE/unlabeledTr1800/FLARE23_2201_0000.nii.gz",
        "FLARE/validation/FLARE23Ts_0001_0000.nii.gz",
        "cases.json",
        "truth/FLARE23Ts_0001.nii.gz",
        "truth/FLARE23_0001.nii.gz",
        "truth/FLARE23_2201.nii.gz",
    ];
    assert_eq!(names, expected);
}

#[test]
fn a_wrong_label_file_has_its_correction_in_the_fix_folder() {
    let data = DataSet::make(&json!({"cases": {"D_l1": 2, "D_l3": 2}, "corrected": 2, "orientations": ["LPS", "PIR"]}), 5);
    let corrected: Vec<Value> = data.cases().into_iter().filter(|case| case.get("correction").is_some()).collect();
    assert_eq!(corrected.len(), 2);
    assert_eq!(fs::read_dir(data.path("FLARE/labelsTr2200/20230507-fix")).unwrap().count(), 2);
    for case in corrected {
        let (wrong, right) = (data.labels(text(&case, "label")), data.labels(text(&case, "correction")));
        let truth = data.labels(text(&case, "truth"));
        assert!(wrong.data != right.data, "{case}");
        assert_eq!(pattern(&wrong), pattern(&right), "a mirrored file keeps its pattern");
        assert!(centroid(&wrong, 1)[0] < centroid(&wrong, 3)[0], "the liver of a mirrored file lies left of the spleen");
        assert!(right.data.iter().zip(&truth.data).all(|(&found, &full)| found == full || found == 0), "{case}");
    }
}

/// Least and greatest volume of each organ in mL, over adults of all sizes.
const PLAUSIBLE_ML: [(&str, [f64; 2]); 13] = [
    ("liver", [700.0, 2600.0]),
    ("right_kidney", [70.0, 320.0]),
    ("spleen", [100.0, 500.0]),
    ("pancreas", [40.0, 190.0]),
    ("aorta", [50.0, 250.0]),
    ("inferior_vena_cava", [50.0, 230.0]),
    ("right_adrenal", [1.5, 12.0]),
    ("left_adrenal", [1.5, 12.0]),
    ("gallbladder", [10.0, 80.0]),
    ("esophagus", [10.0, 75.0]),
    ("stomach", [150.0, 750.0]),
    ("duodenum", [30.0, 150.0]),
    ("left_kidney", [70.0, 320.0]),
];

#[test]
fn an_uncropped_patient_has_all_organs_in_plausible_sizes() {
    let data = DataSet::make(&json!({"cases": {"D_l1": 8}, "spacing_in_plane_mm": [3.5, 4], "spacing_through_plane_mm": [4, 5]}), 6);
    for case in data.cases() {
        for (organ, [least, most]) in PLAUSIBLE_ML {
            let volume = case["volumes_ml"][organ].as_f64().unwrap_or(0.0);
            assert!((least..=most).contains(&volume), "{organ} of {volume} mL in {}", text(&case, "id"));
        }
    }
}

/// The mean place of a label in RAS+ mm.
fn centroid(labels: &LabelVolume, label: u8) -> [f64; 3] {
    let mut sum = [0.0; 3];
    let mut count = 0.0;
    for ((x, y, z), _) in labels.data.indexed_iter().filter(|(_, found)| **found == label) {
        let place = labels.affine.apply(&[x as f64, y as f64, z as f64]);
        sum = [0, 1, 2].map(|i| sum[i] + place[i]);
        count += 1.0;
    }
    assert!(count > 0.0, "no voxel of {}", flare23::classes().key_of(label));
    sum.map(|v| v / count)
}

#[test]
fn organs_lie_on_their_side_however_the_voxels_are_stored() {
    let data = DataSet::make(
        &json!({"cases": {"D_l1": 8}, "orientations": ["RAS", "LPS", "LAS", "PIR", "ASL"], "oblique_fraction": 0.5, "table_fraction": 0.5}),
        7,
    );
    // x grows to the patient's right, y to the front, z to the head.
    let (liver, spleen, aorta, cava, gallbladder, stomach) = (1, 3, 5, 6, 9, 11);
    let (right_kidney, left_kidney, right_adrenal, left_adrenal, duodenum) = (2, 13, 7, 8, 12);
    let mut orders = Vec::new();
    for case in data.cases() {
        let truth = data.labels(text(&case, "truth"));
        let at = |label: u8| centroid(&truth, label);
        for (right, left) in
            [(liver, spleen), (right_kidney, left_kidney), (right_adrenal, left_adrenal), (cava, aorta), (gallbladder, stomach)]
        {
            assert!(at(right)[0] > at(left)[0] + 15.0, "{right} is not right of {left} in {case}");
        }
        for (front, back) in [(gallbladder, right_kidney), (stomach, spleen), (duodenum, cava)] {
            assert!(at(front)[1] > at(back)[1] + 10.0, "{front} is not in front of {back} in {case}");
        }
        for (upper, lower) in
            [(right_adrenal, right_kidney), (left_adrenal, left_kidney), (liver, right_kidney), (left_kidney, right_kidney)]
        {
            assert!(at(upper)[2] > at(lower)[2], "{upper} is not above {lower} in {case}");
        }
        orders.push(text(&case, "orientation").to_owned());
    }
    orders.sort();
    orders.dedup();
    assert!(orders.len() > 2, "only {orders:?}");
}

#[test]
fn organs_show_in_the_image_with_the_contrast_of_a_portal_scan() {
    let cases = json!({"D_l1": 2, "D_l3": 2});
    let data = DataSet::make(&json!({"cases": cases, "spacing_in_plane_mm": [3.5, 4], "spacing_through_plane_mm": [4, 5]}), 8);
    for case in data.cases() {
        let (image, truth) = (data.image(text(&case, "image")), data.labels(text(&case, "truth")));
        let mut sums = [[0.0f64; 3]; 15];
        for (&label, &hu) in truth.data.iter().zip(&image.data) {
            let [sum, squares, count] = &mut sums[usize::from(label)];
            *sum += f64::from(hu);
            *squares += f64::from(hu).powi(2);
            *count += 1.0;
        }
        let mean = |label: u8| sums[usize::from(label)][0] / sums[usize::from(label)][2];
        let deviation = |label: u8| (sums[usize::from(label)][1] / sums[usize::from(label)][2] - mean(label).powi(2)).sqrt();
        // The bright rim of a tumor shines into the organs around it, so that these are compared in patients without.
        let pairs = match text(&case, "subset") {
            "D_l1" => [(5, 6), (5, 2), (2, 6), (3, 1), (1, 12), (2, 3)].as_slice(),
            _ => [(1, 9), (14, 9)].as_slice(),
        };
        if text(&case, "subset") != "D_l1" {
            let noise = case["noise_hu"].as_f64().unwrap();
            assert!(deviation(14) > 2.0 * noise, "rim and core differ by more than noise does: {} in {case}", deviation(14));
        }
        for &(brighter, darker) in pairs {
            assert!(mean(brighter) > mean(darker) + 3.0, "{brighter}: {} and {darker}: {} in {case}", mean(brighter), mean(darker));
        }
        assert!(image.data.iter().any(|&hu| hu < -950.0) && image.data.iter().any(|&hu| hu > 300.0), "air and bone in {case}");
    }
}

#[test]
fn a_scan_that_ends_amid_the_organs_misses_some_and_keeps_its_tumor() {
    let data = DataSet::make(&json!({"cases": {"D_l3": 10}, "cropped_fraction": 1}), 9);
    let mut ends = Vec::new();
    for case in data.cases() {
        let truth = data.labels(text(&case, "truth"));
        let (shown, with_tumor) = (pattern(&truth), has_tumor(&truth));
        let missing = match text(&case, "cropped") {
            "top" => 10,
            _ => 12,
        };
        assert!(!shown.contains(missing) && with_tumor && shown.contains(1), "{shown} in {case}");
        ends.push(text(&case, "cropped").to_owned());
    }
    assert!(ends.contains(&"top".to_owned()) && ends.contains(&"bottom".to_owned()));
}

#[test]
fn every_tumor_is_large_enough_to_be_learnt() {
    let data = DataSet::make(&json!({"cases": {"D_l4": 12}, "cropped_fraction": 0.3}), 10);
    for case in data.cases() {
        let tumors = case["tumors"].as_array().unwrap();
        assert!((1..=4).contains(&tumors.len()), "{case}");
        for tumor in tumors {
            assert!((23.9..=50.1).contains(&tumor["diameter_mm"].as_f64().unwrap()), "{case}");
        }
        assert!(case["volumes_ml"]["tumor"].as_f64().unwrap() > 1.0, "{case}");
    }
}

#[test]
fn scaled_storage_means_the_same_intensities() {
    let cases = |fraction: f64| json!({"cases": {"D_u": 2}, "scaled_storage_fraction": fraction, "padded_fraction": 1});
    let (plain, scaled) = (DataSet::make(&cases(0.0), 11), DataSet::make(&cases(1.0), 11));
    for case in plain.cases() {
        let image = text(&case, "image");
        let header = nifti::read_header(scaled.path(image)).unwrap();
        assert_eq!(header.scaling(), Some([0.5, -1024.0]));
        let (a, b) = (plain.image(image), scaled.image(image));
        assert!(a.data.iter().zip(&b.data).all(|(a, b)| (a - b).abs() <= 0.75), "{image}");
        let padding = case["padding_hu"].as_f64().unwrap() as f32;
        assert_eq!(a.data[[0, 0, 0]], padding);
        assert_eq!(b.data[[0, 0, 0]], padding);
    }
}

/// A collection whose patients all have tumors, with the truth of each of its cases.
fn collection(cases: &Value, seed: u64) -> (DataSet, Vec<(Value, LabelVolume, LabelVolume)>) {
    let data = DataSet::make(&json!({"collection": cases, "tumor_fraction": 1, "cropped_fraction": 0.5}), seed);
    let maps = |case: Value| {
        let (labels, truth) = (data.labels(text(&case, "label")), data.labels(text(&case, "truth")));
        (case, labels, truth)
    };
    let cases = data.cases().into_iter().map(maps).collect();
    (data, cases)
}

#[test]
fn the_collection_lies_in_folders_as_nnu_net_wants_them() {
    let (data, _) = collection(&json!({"organs": 1, "kidneys": 2}), 13);
    let names: Vec<String> = data.files().keys().map(|path| path.to_string_lossy().into_owned()).collect();
    let expected = [
        "cases.json",
        "collection/kidneys/dataset.json",
        "collection/kidneys/imagesTr/kidneys_0001_0000.nii.gz",
        "collection/kidneys/imagesTr/kidneys_0002_0000.nii.gz",
        "collection/kidneys/labelsTr/kidneys_0001.nii.gz",
        "collection/kidneys/labelsTr/kidneys_0002.nii.gz",
        "collection/organs/dataset.json",
        "collection/organs/imagesTr/organs_0001_0000.nii.gz",
        "collection/organs/labelsTr/organs_0001.nii.gz",
        "truth/kidneys_0001.nii.gz",
        "truth/kidneys_0002.nii.gz",
        "truth/organs_0001.nii.gz",
    ];
    assert_eq!(names, expected);
    let description: Value = serde_json::from_str(&fs::read_to_string(data.path("collection/kidneys/dataset.json")).unwrap()).unwrap();
    let expected = json!({
        "name": "kidneys", "channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1, "kidneys": 2},
        "numTraining": 2, "file_ending": ".nii.gz",
    });
    assert_eq!(description, expected);
}

#[test]
fn each_dataset_of_the_collection_means_something_else_by_its_values() {
    let (data, cases) = collection(&json!({"organs": 2, "kidneys": 2, "kidney_tumors": 4, "spleen": 2}), 14);
    let classes = flare23::classes();
    let mut by_alphabet: Vec<&str> = classes.groups()[0].classes().iter().map(|class| class.key.as_str()).collect();
    by_alphabet.sort_unstable();
    let described = |dataset: &str| -> Value {
        let text = fs::read_to_string(data.path(&format!("collection/{dataset}/dataset.json"))).unwrap();
        serde_json::from_str::<Value>(&text).unwrap()["labels"].clone()
    };
    for (place, organ) in by_alphabet.iter().enumerate() {
        assert_eq!(described("organs")[organ], json!(place + 1));
    }
    assert_eq!(described("kidney_tumors"), json!({"background": 0, "kidney": [1, 2], "tumor": 2}));
    for (case, labels, truth) in &cases {
        assert!(has_tumor(truth), "{case}");
        for (&found, &full) in labels.data.iter().zip(&truth.data) {
            let expected = match (text(case, "subset"), full) {
                // What lies under the tumor stands in no other map.
                ("organs", TUMOR) => continue,
                ("organs", organ) => by_alphabet.iter().position(|key| *key == classes.key_of(organ)).map_or(0, |place| place as u8 + 1),
                ("kidneys", 1) | ("kidney_tumors", 2 | 13) | ("spleen", 3) => 1,
                ("kidneys", 2 | 13) | ("kidney_tumors", TUMOR) => 2,
                _ => BACKGROUND,
            };
            assert_eq!(found, expected, "{full} in {case}");
        }
    }
}

#[test]
fn datasets_of_the_collection_contradict_each_other_about_tumors() {
    let (_, cases) = collection(&json!({"organs": 4, "kidneys": 4, "kidney_tumors": 8}), 15);
    let mut organs_under_tumors = 0;
    for (case, labels, truth) in &cases {
        let under = || labels.data.iter().zip(&truth.data).filter(|(_, full)| **full == TUMOR).map(|(&found, _)| found);
        match text(case, "subset") {
            "organs" => organs_under_tumors += under().filter(|&found| found != BACKGROUND).count(),
            "kidneys" => assert!(under().all(|found| found == BACKGROUND), "{case}"),
            _ => {
                let hosts = case["tumors"].as_array().unwrap().iter().map(|tumor| text(tumor, "host"));
                assert!(hosts.clone().count() > 0 && hosts.clone().all(|host| host.ends_with("kidney")), "{case}");
            }
        }
    }
    assert!(organs_under_tumors > 0, "organs hold their tumors in the first dataset");
}

#[test]
fn the_collection_changes_nothing_else() {
    let (alone, _) = collection(&json!({"spleen": 1}), 16);
    let among = DataSet::make(
        &json!({"cases": {"D_l4": 1}, "collection": {"organs": 1, "spleen": 2}, "tumor_fraction": 1, "cropped_fraction": 0.5}),
        16,
    );
    let without = DataSet::make(&json!({"cases": {"D_l4": 1}, "tumor_fraction": 1, "cropped_fraction": 0.5}), 16);
    let read = |data: &DataSet, path: &str| fs::read(data.path(path)).unwrap();
    let spleen = "collection/spleen/imagesTr/spleen_0001_0000.nii.gz";
    assert!(read(&alone, spleen) == read(&among, spleen));
    let tumor = "FLARE/imagesTr2200/FLARE23_0001_0000.nii.gz";
    assert!(read(&without, tumor) == read(&among, tumor));
    let unasked = STAGE.resolve(params(&json!({"cases": {"D_l4": 1}}))).unwrap();
    assert!(unasked.get("collection").is_none(), "results without one are those of before");
}

#[test]
fn an_interrupted_run_keeps_what_it_finished() {
    let data = DataSet::make(&json!({"cases": {"D_u": 2}}), 12);
    let before = data.files();
    let [kept, lost] = ["2201", "2202"].map(|n| data.path(&format!("FLARE/unlabeledTr1800/FLARE23_{n}_0000.nii.gz")));
    let file = || fs::metadata(&kept).unwrap().ino();
    let first = file();
    fs::remove_file(&lost).unwrap();
    fs::remove_file(data.path("truth/FLARE23_2202.nii.gz")).unwrap();
    fs::remove_file(data.path("cases.json")).unwrap();
    data.run(&json!({"cases": {"D_u": 2}}), 12).unwrap();
    assert_eq!(file(), first, "a finished case is left as it is");
    assert_eq!(data.files(), before);
    fs::write(&kept, b"from somewhere else").unwrap();
    data.run(&json!({"cases": {"D_u": 2}}), 12).unwrap();
    assert_eq!(data.files(), before, "what this run would not have written counts for nothing");
}

#[test]
fn parameters_that_make_no_sense_are_refused_by_name() {
    for (changes, expected) in [
        (json!({"bodywidth": 1}), "unknown field `bodywidth`"),
        (json!({"cases": {"D_l9": 1}}), "unknown field `D_l9`"),
        (json!({"collection": {"livers": 1}}), "unknown field `livers`"),
        (json!({"body_width_mm": [370, 310]}), "body_width_mm: [370, 310] is not a range"),
        (json!({"spacing_in_plane_mm": [0, 3]}), "spacing_in_plane_mm: [0, 3] is not a range within 0.4 to 20"),
        (json!({"cropped_fraction": 1.5}), "cropped_fraction: 1.5 is not a fraction"),
        (json!({"variation": -1}), "variation: -1"),
        (json!({"orientations": []}), "orientations: the list is empty"),
        (json!({"orientations": ["RAX"]}), "orientations: "),
        (json!({"cases": {"D_u": 3}, "corrected": 1}), "corrected: 1 of 0 labelled cases"),
    ] {
        let error = format!("{:#}", STAGE.resolve(params(&changes)).unwrap_err());
        assert!(error.contains(expected), "{error}");
    }
}
