//! A dataset of the challenge's make, a thousandth of its size in voxels, with everything that can be wrong in it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dataset::{Manifest, Split};
use labels::{Subset, SubsetName};
use partition::{Config, Partition};
use stage_kit::{Entry, LeftOut, StageIo};
use volume::{Affine, Grid, LabelVolume, ScalarVolume, Volume, nifti};

const FIVE: [u8; 5] = [1, 2, 3, 4, 13];
const GRID: Grid =
    Grid { shape: [4, 2, 2], affine: Affine([[-0.8, 0.0, 0.0, 1.0], [0.0, 0.8, 0.0, 2.0], [0.0, 0.0, 2.5, 3.0], [0.0, 0.0, 0.0, 1.0]]) };

/// A dataset folder. Files of the same contents are links to one.
struct Dataset {
    root: tempfile::TempDir,
    made: BTreeMap<Vec<u8>, PathBuf>,
}

impl Dataset {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        for folder in ["images", "unlabeled", "labels/fix", "made"] {
            std::fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        Self { root, made: BTreeMap::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn image(&self, name: &str) {
        self.image_on(name, &GRID, 40.0);
    }

    fn image_on(&self, name: &str, grid: &Grid, hu: f32) {
        let kept = self.path(&format!("made/{:?} {hu}.nii", grid.spacing_mm()));
        if !kept.exists() {
            nifti::write_scalar_i16(&kept, &body(grid, hu)).unwrap();
        }
        std::fs::hard_link(kept, self.path(name)).unwrap();
    }

    fn label(&mut self, name: &str, labels: &[u8]) {
        let next = self.path(&format!("made/labels {}.nii", self.made.len()));
        let kept = self.made.entry(labels.to_vec()).or_insert(next);
        if !kept.exists() {
            let mut values = labels.to_vec();
            values.resize(GRID.voxels(), 0);
            nifti::write_labels_on(&*kept, &Volume::from_x_fastest(&GRID, values).unwrap()).unwrap();
        }
        std::fs::hard_link(kept, self.root.path().join(name)).unwrap();
    }

    fn labelled(&mut self, id: &str, labels: &[u8]) {
        self.image(&format!("images/{id}_0000.nii"));
        self.label(&format!("labels/{id}.nii"), labels);
    }

    fn partition(&self, output: &Path) -> anyhow::Result<Manifest> {
        self.partition_with(output, 2023, &serde_json::json!({}))
    }

    fn partition_with(&self, output: &Path, seed: u64, more: &serde_json::Value) -> anyhow::Result<Manifest> {
        // A folder without images is an error, and most tests need only one.
        let filled = ["images", "unlabeled"].into_iter().filter(|folder| self.path(folder).read_dir().unwrap().next().is_some());
        let mut params = serde_json::json!({
            "images": filled.collect::<Vec<_>>(), "labels": "labels", "corrected_labels": "labels/fix",
            "validation_fraction": 0.2, "spacing_mm_range": [0.1, 20.0],
        });
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let io = StageIo {
            node: "partition".into(),
            inputs: [("dataset".to_owned(), self.root.path().to_owned())].into(),
            output: output.into(),
            work: output.with_extension("work"),
            seed,
            device: Default::default(),
            report: Default::default(),
            planned: false,
            sink: None,
        };
        let run = Entry::of::<Partition>().run(params, &io);
        // A stage that runs alone ends with an error if cases were left out, after it has done everything else.
        run.or_else(|error| if format!("{error:#}").contains("everything else is done") { Ok(()) } else { Err(error) })?;
        Ok(Manifest::load(output)?)
    }
}

/// A body of about `hu`, with air around it.
fn body(grid: &Grid, hu: f32) -> ScalarVolume {
    let values = (0..grid.voxels()).map(|i| if i == 0 { -1000.0 } else { hu + (i % 5) as f32 });
    Volume::from_x_fastest(grid, values.collect()).unwrap()
}

fn bad_cases(output: &Path) -> Vec<LeftOut> {
    stage_kit::read_left_out(output)
}

fn lines(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).lines().map(str::to_owned).collect()
}

#[test]
fn a_dataset_of_the_papers_make_gives_the_papers_counts() {
    let (mut data, out) = (Dataset::new(), tempfile::tempdir().unwrap());
    let all: Vec<u8> = (1..=13).collect();
    let five_and_tumor = [&FIVE[..], &[14]].concat();
    let without_gallbladder: Vec<u8> = (1..=13).filter(|&label| label != 9).collect();
    let recipes: [(usize, &[u8]); 5] = [(240, &all), (10, &without_gallbladder), (458, &FIVE), (604, &five_and_tumor), (888, &[14])];
    let mut number = 0;
    for (cases, labels) in recipes {
        for _ in 0..cases {
            number += 1;
            data.labelled(&format!("FLARE23_{number:04}"), labels);
        }
    }
    for number in 2201..=4000 {
        data.image(&format!("unlabeled/FLARE23_{number:04}_0000.nii"));
    }

    let manifest = data.partition(out.path()).unwrap();

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
    ];
    for (name, cases) in paper {
        let list = lines(&out.path().join(format!("{name}.txt")));
        let mut sides = lines(&out.path().join(format!("training/{name}.txt")));
        let validation = lines(&out.path().join(format!("validation/{name}.txt")));
        assert_eq!(list.len(), cases, "{name}");
        assert!((validation.len() as f64 - 0.2 * cases as f64).abs() <= 1.5, "{name}: {} for validation", validation.len());
        sides.extend(validation);
        sides.sort();
        assert_eq!(sides, list, "the sides of {name} are disjoint and complete");
    }
    assert_eq!(manifest.cases.len(), 4000);
    assert!(bad_cases(out.path()).is_empty());
    let table = std::fs::read_to_string(out.path().join("patterns.md")).unwrap();
    assert!(table.contains("| D_l3 | 604 | 483 | 121 | 604 |"), "{table}");
    assert!(table.contains("| {1,2,3,4,5,6,7,8,10,11,12,13} | D_l1 | 10 |"), "{table}");
    assert_eq!(lines(&out.path().join("patterns.csv")).len(), 1 + 6);
}

#[test]
fn corrected_labels_take_precedence() {
    let (mut data, out) = (Dataset::new(), tempfile::tempdir().unwrap());
    data.labelled("a", &[14]);
    data.labelled("b", &[14]);
    data.label("labels/fix/a.nii", &FIVE);
    let manifest = data.partition(out.path()).unwrap();
    assert_eq!(manifest.cases[0].subset, Subset::Dl2);
    assert_eq!(manifest.cases[0].label.as_deref(), Some(Path::new("labels/fix/a.nii")));
    assert_eq!(manifest.cases[1].subset, Subset::Dl4);
}

#[test]
fn a_pattern_that_the_paper_does_not_have_is_kept_and_reported() {
    let (mut data, out) = (Dataset::new(), tempfile::tempdir().unwrap());
    data.labelled("a", &(1..=14).collect::<Vec<u8>>());
    data.labelled("b", &[]);
    let manifest = data.partition(out.path()).unwrap();
    assert_eq!(lines(&out.path().join("D_other.txt")), ["a"]);
    assert_eq!(lines(&out.path().join("D_u.txt")), ["b"], "an empty label map labels nothing");
    assert!(manifest.select(SubsetName::Dc, None).is_err(), "no union of the paper's holds it");
    let table = std::fs::read_to_string(out.path().join("patterns.md")).unwrap();
    assert!(table.contains("1 cases have organs beyond the five together with tumor"), "{table}");
    let case = &manifest.cases[0];
    assert_eq!((case.shape, case.image.as_path()), ([4, 2, 2], Path::new("images/a_0000.nii")));
    assert!(case.spacing_mm.iter().zip([0.8, 0.8, 2.5]).all(|(found, expected)| (found - expected).abs() < 1e-6));
}

#[test]
fn all_bad_cases_are_named_at_once_and_the_good_ones_go_on() {
    let (mut data, out) = (Dataset::new(), tempfile::tempdir().unwrap());
    data.labelled("good", &FIVE);
    data.label("labels/no_image.nii", &FIVE);
    data.labelled("values", &[1, 15, 15, 200]);
    data.labelled("twice", &FIVE);
    data.image("unlabeled/twice_0000.nii");
    data.labelled("two_maps", &FIVE);
    data.label("labels/two_maps.nii.gz", &[14]);

    let mut thin = GRID;
    thin.affine.0[2][2] = 0.05;
    data.image_on("unlabeled/spacing_0000.nii", &thin, 40.0);
    let mut moved = GRID;
    moved.affine.0[0][3] += 5.0;
    data.image_on("images/affine_0000.nii", &moved, 40.0);
    std::fs::remove_file(data.path("images/affine_0000.nii")).unwrap();
    nifti::write_scalar_i16(data.path("images/affine_0000.nii"), &body(&moved, 40.0)).unwrap();
    data.label("labels/affine.nii", &FIVE);
    data.image("images/shape_0000.nii");
    let short = Grid { shape: [4, 2, 1], ..GRID };
    nifti::write_labels_on(data.path("labels/shape.nii"), &LabelVolume::filled(&short, 1)).unwrap();
    std::fs::write(data.path("images/text_0000.nii"), "not an image").unwrap();
    data.image("images/cut_0000.nii");
    let whole = std::fs::read(data.path("labels/good.nii")).unwrap();
    std::fs::write(data.path("labels/cut.nii"), &whole[..whole.len() - 3]).unwrap();

    let manifest = data.partition(out.path()).unwrap();

    assert_eq!(manifest.cases.iter().map(|case| case.id.as_str()).collect::<Vec<_>>(), ["good"]);
    let bad = bad_cases(out.path());
    let found: Vec<(&str, &str)> = bad.iter().map(|finding| (finding.case.as_str(), finding.found.as_str())).collect();
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
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for ((case, text), (expected_case, part)) in found.into_iter().zip(expected) {
        assert!(case == expected_case && text.contains(part), "case {case}: {text}; expected {expected_case}: {part}");
    }
    assert!(bad.iter().all(|finding| !finding.remedy.is_empty() && !finding.expected.is_empty()));
    let table = std::fs::read_to_string(out.path().join("about/left_out.md")).unwrap();
    assert!(table.contains("| shape | labels/shape.nii | shape [4, 2, 1] | the image's shape [4, 2, 2] |"), "{table}");
}

#[test]
fn a_label_map_that_nobody_sees_does_not_make_its_case_an_unlabelled_one() {
    let (mut data, out) = (Dataset::new(), tempfile::tempdir().unwrap());
    for case in ["letters", "Capital", "image_name", "dead", "part", "sub", "whole"] {
        data.image(&format!("images/{case}_0000.nii"));
    }
    data.image("unlabeled/free_0000.nii");
    for label in ["letters.NII.GZ", "capital.nii", "image_name_0000.nii", "part.nii.gz.part", "whole.nii", "whole.nii.part"] {
        data.label(&format!("labels/{label}"), &FIVE);
    }
    std::os::unix::fs::symlink("/nowhere/dead.nii", data.path("labels/dead.nii")).unwrap();
    std::fs::create_dir(data.path("labels/more")).unwrap();
    data.label("labels/more/sub.nii", &FIVE);
    std::fs::create_dir(data.path("images/more")).unwrap();
    data.image("images/more/deep_0000.nii");
    for junk in [".DS_Store", "._whole.nii", "dataset.json"] {
        std::fs::write(data.path(&format!("labels/{junk}")), "").unwrap();
    }

    let manifest = data.partition(out.path()).unwrap();

    let used: Vec<(&str, Subset)> = manifest.cases.iter().map(|case| (case.id.as_str(), case.subset)).collect();
    assert_eq!(used, [("free", Subset::Du), ("whole", Subset::Dl2)]);
    let found: Vec<(String, String)> = bad_cases(out.path()).into_iter().map(|one| (one.case, one.file.display().to_string())).collect();
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
}

#[test]
fn damage_beyond_the_header_and_scans_without_a_body_are_found_unless_headers_alone_are_read() {
    let (data, out) = (Dataset::new(), tempfile::tempdir().unwrap());
    data.image("images/good_0000.nii");
    data.image_on("images/air_0000.nii", &GRID, -1000.0);
    nifti::write_scalar_i16(data.path("images/cut_0000.nii.gz"), &body(&GRID, 40.0)).unwrap();
    let whole = std::fs::read(data.path("images/cut_0000.nii.gz")).unwrap();
    std::fs::write(data.path("images/cut_0000.nii.gz"), &whole[..whole.len() - 3]).unwrap();
    nifti::write_scalar_i16(data.path("images/zero_0000.nii"), &ScalarVolume::filled(&GRID, 0.0)).unwrap();
    let mut params = serde_json::json!({ "images": ["images"], "labels": null });
    let checked = data.partition_with(out.path(), 1, &params).unwrap();
    assert_eq!(checked.cases.len(), 1);
    assert_eq!(bad_cases(out.path()).iter().map(|finding| finding.case.as_str()).collect::<Vec<_>>(), ["air", "cut", "zero"]);
    params["exclude"] = serde_json::json!(["air", "cut", "zero"]);
    data.partition_with(out.path(), 1, &params).unwrap();
    assert!(bad_cases(out.path()).is_empty(), "what is known to be bad is named no more");
    params["exclude"] = serde_json::json!(["ari"]);
    let error = format!("{:#}", data.partition_with(out.path(), 1, &params).unwrap_err());
    assert!(error.contains("exclude: there is no case ari in the dataset; did you mean air?"), "{error}");
    let quick = serde_json::json!({ "images": ["images"], "labels": null, "check_images": false });
    assert_eq!(data.partition_with(out.path(), 1, &quick).unwrap().cases.len(), 4, "headers alone are sound");
}

#[test]
fn without_any_good_case_the_stage_fails_and_says_why() {
    let (data, out) = (Dataset::new(), tempfile::tempdir().unwrap());
    std::fs::write(data.path("images/a_0000.nii"), "not an image").unwrap();
    let without_labels = serde_json::json!({ "images": ["images"], "labels": null });
    let error = format!("{:#}", data.partition_with(out.path(), 1, &without_labels).unwrap_err());
    assert!(error.contains("no case can be used: each of the 1 cases is bad"), "{error}");
    let error = format!("{:#}", data.partition_with(out.path(), 1, &serde_json::json!({ "images": ["nowhere"] })).unwrap_err());
    assert!(error.contains("nowhere"), "{error}");
}

#[test]
fn the_split_keeps_to_the_seed() {
    let (data, out) = (Dataset::new(), tempfile::tempdir().unwrap());
    for number in 0..40 {
        data.image(&format!("images/{number}_0000.nii"));
    }
    let validation = |seed| -> Vec<String> {
        let manifest = data.partition_with(out.path(), seed, &serde_json::json!({ "images": ["images"], "labels": null })).unwrap();
        manifest.cases.into_iter().filter(|case| case.split == Split::Validation).map(|case| case.id).collect()
    };
    assert_eq!(validation(1).len(), 8);
    assert_eq!(validation(1), validation(1));
    assert_ne!(validation(1), validation(2));
}

#[test]
fn parameters_that_make_no_sense_are_refused_by_name() {
    let check = |params: serde_json::Value| format!("{:#}", Entry::of::<Partition>().resolve(params).unwrap_err());
    let config = Config {
        images: vec!["images".into()],
        labels: None,
        corrected_labels: None,
        validation_fraction: 0.2,
        spacing_mm_range: [0.1, 20.0],
        check_images: false,
        exclude: Vec::new(),
    };
    let with = |field: &str, value: serde_json::Value| {
        let mut params = serde_json::to_value(&config).unwrap();
        params[field] = value;
        params
    };
    assert!(check(with("validation_fraction", 1.0.into())).contains("validation_fraction: 1"));
    assert!(check(with("spacing_mm_range", serde_json::json!([2.0, 1.0]))).contains("spacing_mm_range: [2, 1]"));
    assert!(check(with("images", serde_json::json!([]))).contains("images: no folder given"));
    assert!(check(with("imgaes", serde_json::json!([]))).contains("imgaes"));
}
