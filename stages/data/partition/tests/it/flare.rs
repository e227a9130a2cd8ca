//! The challenge's dataset: its subsets, its counts, and everything that can be wrong with its files.

use std::path::Path;

use serde_json::{Value, json};
use volume::{Grid, LabelVolume, ScalarVolume, nifti};

use crate::data::{Data, Done, FIVE, GRID, body, read, with};

const EIGHT: [&str; 8] =
    ["aorta", "inferior_vena_cava", "right_adrenal", "left_adrenal", "gallbladder", "esophagus", "stomach", "duodenum"];
const FIVE_NAMES: [&str; 5] = ["liver", "right_kidney", "spleen", "pancreas", "left_kidney"];

/// The parameters for FLARE23 with the paper's subsets; `folders` of images.
fn params(images: &[&str], labels: bool) -> Value {
    let mut folders = json!({"images": images});
    if labels {
        folders["labels"] = "labels".into();
        folders["corrected_labels"] = "labels/fix".into();
    }
    json!({
        "classes": labels::flare23::classes(),
        "datasets": {"FLARE23": {"layout": {"folders": folders}}},
        "subsets": {
            "D_u": {"none": ["organ", "cancer"], "annotated": []},
            "D_l1": {"any": EIGHT, "none": ["cancer"], "annotated": ["organ"]},
            "D_l2": {"any": FIVE_NAMES, "none": plus(&EIGHT, "cancer"), "annotated": FIVE_NAMES},
            "D_l3": {"any": FIVE_NAMES, "all": ["tumor"], "none": EIGHT, "annotated": plus(&FIVE_NAMES, "tumor")},
            "D_l4": {"all": ["tumor"], "none": ["organ"], "annotated": ["tumor"]},
            "D_other": {"any": EIGHT, "all": ["tumor"], "annotated": ["organ", "cancer"]},
        },
        "unions": {"D_o13": ["D_l1", "D_other"], "D_o5": ["D_l1", "D_l2", "D_l3", "D_other"], "D_c": ["D_l3", "D_l4", "D_other"]},
        "expected": {"D_u": 1800, "D_l1": 250, "D_l2": 458, "D_l3": 604, "D_l4": 888},
        "split": {"fraction": 0.2},
    })
}

fn plus<'a>(names: &[&'a str], name: &'a str) -> Vec<&'a str> {
    [names, &[name]].concat()
}

/// The dataset with its folders of label maps.
fn new() -> Data {
    let data = Data::new();
    std::fs::create_dir_all(data.path("FLARE23/labels/fix")).unwrap();
    data
}

fn labelled(data: &mut Data, id: &str, labels: &[u8]) {
    data.image(&format!("FLARE23/images/{id}_0000.nii"));
    data.label(&format!("FLARE23/labels/{id}.nii"), labels);
}

fn partition(data: &Data) -> Done {
    // A folder without images is an error, and most tests need only one.
    let filled: Vec<&str> = ["images", "unlabeled"].into_iter().filter(|folder| data.path("FLARE23").join(folder).exists()).collect();
    data.partition(&params(&filled, true)).unwrap()
}

#[test]
fn a_dataset_of_the_papers_make_gives_the_papers_counts() {
    let mut data = new();
    let all: Vec<u8> = (1..=13).collect();
    let five_and_tumor = [&FIVE[..], &[14]].concat();
    let without_gallbladder: Vec<u8> = (1..=13).filter(|&label| label != 9).collect();
    let recipes: [(usize, &[u8]); 5] = [(240, &all), (10, &without_gallbladder), (458, &FIVE), (604, &five_and_tumor), (888, &[14])];
    let mut number = 0;
    for (cases, labels) in recipes {
        for _ in 0..cases {
            number += 1;
            labelled(&mut data, &format!("FLARE23_{number:04}"), labels);
        }
    }
    for number in 2201..=4000 {
        data.image(&format!("FLARE23/unlabeled/FLARE23_{number:04}_0000.nii"));
    }

    let done = partition(&data);

    let paper = [
        ("D_u", 1800),
        ("D_l1", 250),
        ("D_l2", 458),
        ("D_l3", 604),
        ("D_l4", 888),
        ("D_other", 0),
        ("D_o13", 250),
        ("D_o5", 1312),
        ("D_c", 1492),
        ("D", 4000),
    ];
    for (name, cases) in paper {
        let list = done.lines(&format!("{name}.txt"));
        let mut sides = done.lines(&format!("training/{name}.txt"));
        let validation = done.lines(&format!("validation/{name}.txt"));
        assert_eq!(list.len(), cases, "{name}");
        assert!((validation.len() as f64 - 0.2 * cases as f64).abs() <= 2.5, "{name}: {} for validation", validation.len());
        sides.extend(validation);
        sides.sort();
        assert_eq!(sides, list, "the sides of {name} are disjoint and complete");
    }
    assert_eq!(done.manifest.cases.len(), 4000);
    assert!(done.left_out().is_empty());
    let table = done.text("patterns.md");
    assert!(table.contains("| subset | cases | training | validation | expected |"), "{table}");
    assert!(table.contains("| D_l3 | 604 | 483 | 121 | 604 |"), "{table}");
    assert!(table.contains("| D_o5 | 1312 |"), "{table}");
    let organs = "liver, right_kidney, spleen, pancreas, aorta, inferior_vena_cava, right_adrenal, left_adrenal, esophagus, stomach, duodenum, left_kidney";
    assert!(table.contains(&format!("| {organs} | {{1,2,3,4,5,6,7,8,10,11,12,13}} | D_l1 | 10 |")), "{table}");
    assert!(table.contains("| tumor | {14} | D_l4 | 888 |"), "{table}");
    assert_eq!(done.lines("patterns.csv").len(), 1 + 6);
    assert_eq!(done.annotated("FLARE23_0001").split(' ').count(), 13);
    assert_eq!(done.annotated("FLARE23_0900"), "liver right_kidney spleen pancreas left_kidney tumor");
    assert_eq!(done.annotated("FLARE23_2000"), "tumor");
    assert_eq!(done.annotated("FLARE23_4000"), "");
}

/// Seeds and names decide the sides; these are the ones of earlier versions.
#[test]
fn the_split_of_the_challenge_is_what_it_always_was() {
    let data = new();
    (0..20).for_each(|number| data.image(&format!("FLARE23/images/FLARE23_{number:04}_0000.nii")));
    let done = data.partition(&params(&["images"], false)).unwrap();
    assert_eq!(done.validation(), EARLIER);
}

const EARLIER: [&str; 4] = ["FLARE23_0003", "FLARE23_0009", "FLARE23_0010", "FLARE23_0018"];

#[test]
fn corrected_labels_take_precedence() {
    let mut data = new();
    labelled(&mut data, "a", &[14]);
    labelled(&mut data, "b", &[14]);
    data.label("FLARE23/labels/fix/a.nii", &FIVE);
    let done = partition(&data);
    assert_eq!(done.subsets(), [("a", "D_l2"), ("b", "D_l4")]);
    assert_eq!(done.case("a").label.as_deref(), Some(Path::new("labels/fix/a.nii")));
}

#[test]
fn a_pattern_that_the_paper_does_not_have_is_kept_and_an_empty_label_map_labels_nothing() {
    let mut data = new();
    labelled(&mut data, "a", &(1..=14).collect::<Vec<u8>>());
    labelled(&mut data, "b", &[]);
    let done = partition(&data);
    assert_eq!(done.lines("D_other.txt"), ["a"]);
    assert_eq!(done.lines("D_u.txt"), ["b"]);
    assert_eq!(done.annotated("b"), "", "nobody looked for anything");
    assert_eq!(done.manifest.select("D_c", None).unwrap()[0].id, "a", "its tumors are as true as others");
    let case = &done.manifest.cases[0];
    assert_eq!((case.shape, case.image.as_path()), ([4, 2, 2], Path::new("images/a_0000.nii")));
    assert_eq!(case.dataset, "FLARE23");
    assert!(case.spacing_mm.iter().zip([0.8, 0.8, 2.5]).all(|(found, expected)| (found - expected).abs() < 1e-6));
}

#[test]
fn all_bad_cases_are_named_at_once_and_the_good_ones_go_on() {
    let mut data = new();
    labelled(&mut data, "good", &FIVE);
    data.label("FLARE23/labels/no_image.nii", &FIVE);
    labelled(&mut data, "values", &[1, 15, 15, 200]);
    labelled(&mut data, "twice", &FIVE);
    data.image("FLARE23/unlabeled/twice_0000.nii");
    labelled(&mut data, "two_maps", &FIVE);
    data.label("FLARE23/labels/two_maps.nii.gz", &[14]);

    let mut thin = GRID;
    thin.affine.0[2][2] = 0.05;
    data.image_on("FLARE23/unlabeled/spacing_0000.nii", &thin, 40.0);
    let mut moved = GRID;
    moved.affine.0[0][3] += 5.0;
    data.image_on("FLARE23/images/affine_0000.nii", &moved, 40.0);
    data.label("FLARE23/labels/affine.nii", &FIVE);
    data.image("FLARE23/images/shape_0000.nii");
    let short = Grid { shape: [4, 2, 1], ..GRID };
    nifti::write_labels_on(data.path("FLARE23/labels/shape.nii"), &LabelVolume::filled(&short, 1)).unwrap();
    data.text("FLARE23/images/text_0000.nii", "not an image");
    data.image("FLARE23/images/cut_0000.nii");
    let whole = read(&data.path("FLARE23/labels/good.nii"));
    std::fs::write(data.path("FLARE23/labels/cut.nii"), &whole[..whole.len() - 3]).unwrap();

    let done = partition(&data);

    assert_eq!(done.ids(), ["good"]);
    let expected = [
        ("affine", "affine [-0.800"),
        ("cut", "truncated"),
        ("no_image", "a label map without an image"),
        ("shape", "shape [4, 2, 1]"),
        ("spacing", "spacing 0.8 × 0.8 × 0.05 mm"),
        ("text", "few"),
        ("twice", "2 files: images/twice_0000.nii, unlabeled/twice_0000.nii"),
        ("two_maps", "2 files for one case: two_maps.nii, two_maps.nii.gz"),
        ("two_maps", "2 files for one case: two_maps.nii, two_maps.nii.gz"),
        ("values", "15 (2 voxels), 200 (1 voxels)"),
    ];
    let found = done.findings();
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for ((case, text), (expected_case, part)) in found.into_iter().zip(expected) {
        assert!(case == expected_case && text.contains(part), "case {case}: {text}; expected {expected_case}: {part}");
    }
    assert!(done.left_out().iter().all(|finding| !finding.remedy.is_empty() && !finding.expected.is_empty()));
    let table = done.text("about/left_out.md");
    assert!(table.contains("| shape | labels/shape.nii | shape [4, 2, 1] | the image's shape [4, 2, 2] |"), "{table}");
}

#[test]
fn a_label_map_that_nobody_sees_does_not_make_its_case_an_unlabelled_one() {
    let mut data = new();
    for case in ["letters", "Capital", "image_name", "dead", "part", "sub", "whole"] {
        data.image(&format!("FLARE23/images/{case}_0000.nii"));
    }
    data.image("FLARE23/unlabeled/free_0000.nii");
    for label in ["letters.NII.GZ", "capital.nii", "image_name_0000.nii", "part.nii.gz.part", "whole.nii", "whole.nii.part"] {
        data.label(&format!("FLARE23/labels/{label}"), &FIVE);
    }
    std::os::unix::fs::symlink("/nowhere/dead.nii", data.path("FLARE23/labels/dead.nii")).unwrap();
    data.label("FLARE23/labels/more/sub.nii", &FIVE);
    data.image("FLARE23/images/more/deep_0000.nii");
    for junk in [".DS_Store", "._whole.nii", "dataset.json"] {
        data.text(&format!("FLARE23/labels/{junk}"), "");
    }

    let done = partition(&data);

    assert_eq!(done.subsets(), [("free", "D_u"), ("whole", "D_l2")]);
    let found: Vec<(String, String)> = done.left_out().into_iter().map(|one| (one.case, one.file.display().to_string())).collect();
    let expected = [
        ("Capital", "labels/capital.nii"),
        ("dead", "labels/dead.nii"),
        ("deep", "images/more"),
        ("image_name", "labels/image_name_0000.nii"),
        ("letters", "labels/letters.NII.GZ"),
        ("part", "labels/part.nii.gz.part"),
        ("sub", "labels/more"),
        ("whole", "labels/whole.nii.part"),
    ];
    assert_eq!(found, expected.map(|(case, file)| (case.to_owned(), file.to_owned())));
    let capital = done.left_out().into_iter().find(|one| one.case == "Capital").unwrap();
    assert_eq!(capital.remedy, "rename it to Capital.nii.gz if it is the label map of Capital");
}

#[test]
fn damage_beyond_the_header_and_scans_without_a_body_are_found_unless_headers_alone_are_read() {
    let data = new();
    data.image("FLARE23/images/good_0000.nii");
    data.image_on("FLARE23/images/air_0000.nii", &GRID, -1000.0);
    nifti::write_scalar_i16(data.path("FLARE23/images/cut_0000.nii.gz"), &body(&GRID, 40.0)).unwrap();
    let whole = read(&data.path("FLARE23/images/cut_0000.nii.gz"));
    std::fs::write(data.path("FLARE23/images/cut_0000.nii.gz"), &whole[..whole.len() - 3]).unwrap();
    nifti::write_scalar_i16(data.path("FLARE23/images/zero_0000.nii"), &ScalarVolume::filled(&GRID, 0.0)).unwrap();
    let params = params(&["images"], false);
    let checked = data.partition(&params).unwrap();
    assert_eq!(checked.ids(), ["good"]);
    assert_eq!(checked.findings().iter().map(|(case, _)| case.as_str()).collect::<Vec<_>>(), ["air", "cut", "zero"]);
    let without = data.partition(&with(&params, &json!({"exclude": ["air", "cut", "zero"]}))).unwrap();
    assert!(without.left_out().is_empty(), "what is known to be bad is named no more");
    let error = data.error(&with(&params, &json!({"exclude": ["ari"]})));
    assert!(error.contains("exclude: there is no case ari in the dataset; did you mean air?"), "{error}");
    let quick = data.partition(&with(&params, &json!({"check_images": false}))).unwrap();
    assert_eq!(quick.ids().len(), 4, "headers alone are sound");
}

#[test]
fn without_any_good_case_the_stage_fails_and_says_why() {
    let data = new();
    data.text("FLARE23/images/a_0000.nii", "not an image");
    let error = data.error(&params(&["images"], false));
    assert!(error.contains("no case can be used: each of the 1 cases is bad"), "{error}");
    let error = data.error(&params(&["nowhere"], false));
    assert!(error.contains("dataset FLARE23: images: cannot list") && error.contains("nowhere"), "{error}");
}
