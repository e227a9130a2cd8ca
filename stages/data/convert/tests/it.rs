//! Trees of DICOM files as cases: what is taken, what is left out, and the voxels of both images and labels.

use std::path::{Path, PathBuf};

use convert::Convert;
use serde_json::{Value, json};
use stage_kit::{Entry, LeftOut, StageIo, read_left_out};
use volume::nifti;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../crates/scan/dicom-series/tests/fixtures")
}

fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
            copy(&entry.path(), &to.join(entry.file_name()));
        }
    } else {
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(from, to).unwrap();
    }
}

/// Folders `scans` and `labels` with copies of fixtures, and the output of the stage.
struct Lab(tempfile::TempDir);

impl Lab {
    fn of(files: &[(&str, &str)]) -> Self {
        let lab = Self(tempfile::tempdir().unwrap());
        files.iter().for_each(|(from, to)| copy(&fixtures().join(from), &lab.0.path().join(to)));
        lab
    }

    fn out(&self, place: &str) -> PathBuf {
        self.0.path().join("out").join(place)
    }

    fn run(&self, params: &Value) -> Result<Vec<LeftOut>, String> {
        let inputs = ["scans", "labels"].map(|name| (name, self.0.path().join(name)));
        let given = inputs.into_iter().filter(|(_, path)| path.is_dir());
        let io = StageIo::new("convert", given, self.out(""), self.0.path().join("work"), 1);
        match Entry::of::<Convert>().run(params.clone(), &io).map_err(|error| format!("{error:#}")) {
            Err(error) if !error.contains("everything else is done") => Err(error),
            _ => Ok(read_left_out(&io.output)),
        }
    }

    fn cases(&self, folder: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.out(folder)).into_iter().flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// The rows of the table of series: case and folder.
    fn table(&self) -> Vec<(String, String)> {
        let mut table = tables::Table::open(&self.out("about/series.csv")).unwrap();
        let [case, folder] = ["case", "folder"].map(|name| table.column(name).unwrap());
        table.rows().map(Result::unwrap).map(|row| (row.text(case).to_owned(), row.text(folder).to_owned())).collect()
    }

    fn is_image(&self, case: &str, fixture: &str) {
        let (found, header) = nifti::read_scalar(self.out(&format!("imagesTr/{case}_0000.nii.gz"))).unwrap();
        let (expected, like) = nifti::read_scalar(fixtures().join(fixture)).unwrap();
        assert_eq!((found.x_fastest(), header.grid()), (expected.x_fastest(), like.grid()), "{case}");
    }

    fn is_label(&self, case: &str, fixture: &str) {
        let (found, header) = nifti::read_labels(self.out(&format!("labelsTr/{case}.nii.gz"))).unwrap();
        let (expected, _) = nifti::read_labels(fixtures().join("annotations").join(fixture)).unwrap();
        assert_eq!(found.x_fastest(), expected.x_fastest(), "{case}");
        let image = nifti::read_header(self.out(&format!("imagesTr/{case}_0000.nii.gz"))).unwrap();
        assert_eq!(header.grid(), image.grid(), "{case}");
    }
}

fn params() -> Value {
    json!({
        "segments": {"liver": 1, "overlap": {"value": 2, "names": ["überlappung"]}, "body": 3, "kidney": {"value": 4, "names": ["kidney_l"]}},
        "ignore": ["Isocentre"],
    })
}

#[test]
fn a_tree_in_disorder_becomes_a_dataset() {
    let lab = Lab::of(&[
        ("explicit", "scans/a/b"),
        ("annotations/explicit.seg.dcm", "scans/a/notes/1"),
        ("oblique", "scans/2024"),
        ("annotations/oblique.seg.dcm", "labels/x/oblique"),
        ("annotations/oblique.seg.dcm", "labels/x/copy"),
        ("scaled_by_slice", "scans/c"),
        ("annotations/odd", "scans/odd"),
        ("annotations/odd.seg.dcm", "scans/odd/seg.dcm"),
        ("gap", "scans/gap"),
        ("annotations/tilted.rt.dcm", "labels/of nothing"),
    ]);
    std::fs::write(lab.0.path().join("scans/broken.dcm"), "no DICOM").unwrap();
    std::fs::write(lab.0.path().join("scans/notes.txt"), "of no use").unwrap();
    let left_out = lab.run(&params()).unwrap();
    let table = lab.table();
    let case = |folder: &str| table.iter().find(|(_, own)| own == folder).map(|(case, _)| case.as_str()).unwrap();
    // One patient with three series of one number, and one with a single series.
    assert_eq!(table.len(), 4);
    assert!(["a/b", "2024", "c"].iter().all(|folder| case(folder).starts_with("P1_4_") && case(folder).len() == 13), "{table:?}");
    assert_eq!(case("odd"), "O-2");
    lab.is_image(case("a/b"), "explicit.nii.gz");
    lab.is_image(case("2024"), "oblique.nii.gz");
    lab.is_image(case("c"), "scaled_by_slice.nii.gz");
    for (folder, fixture) in [("a/b", "explicit.seg.nii.gz"), ("2024", "oblique.seg.nii.gz"), ("odd", "odd.seg.nii.gz")] {
        lab.is_label(case(folder), fixture);
    }
    assert_eq!((lab.cases("imagesTr").len(), lab.cases("labelsTr").len()), (4, 3));
    let found: Vec<_> = left_out.iter().map(|one| one.found.as_str()).collect();
    assert_eq!(found.len(), 3, "{left_out:#?}");
    for expected in ["1 slice is missing", "no DICOM file, though its name says so", "labels of images that are in no series here"] {
        assert!(found.iter().any(|found| found.contains(expected)), "{expected}: {found:?}");
    }
    let dataset: Value = serde_json::from_slice(&std::fs::read(lab.out("dataset.json")).unwrap()).unwrap();
    assert_eq!(dataset["labels"], json!({"background": 0, "liver": 1, "overlap": 2, "body": 3, "kidney": 4}));
    // Again, nothing is made anew.
    let time = |path: PathBuf| path.metadata().unwrap().modified().unwrap();
    let image = || time(lab.out(&format!("imagesTr/{}_0000.nii.gz", case("c"))));
    let before = image();
    lab.run(&params()).unwrap();
    assert_eq!(image(), before);
}

#[test]
fn contours_become_label_maps() {
    let lab = Lab::of(&[("sagittal", "scans"), ("annotations/sagittal.rt.dcm", "scans/rt.dcm")]);
    let of_fixture = json!({"segments": {"Body": 3, "kidney": {"value": 1, "names": ["KIDNEY_L"]}}, "ignore": ["isocentre"]});
    assert_eq!(lab.run(&of_fixture).unwrap(), []);
    lab.is_image("P1", "sagittal.nii.gz");
    lab.is_label("P1", "sagittal.rt.nii.gz");
    // Other values make the case anew.
    lab.run(&json!({"segments": {"Body": 7}, "ignore": ["isocentre", "kidney_l"]})).unwrap();
    let (labels, _) = nifti::read_labels(lab.out("labelsTr/P1.nii.gz")).unwrap();
    let mut found = labels.x_fastest().to_vec();
    found.sort_unstable();
    found.dedup();
    assert_eq!(found, [0, 7]);
}

#[test]
fn names_that_nobody_declares_are_named_all_at_once() {
    let lab = Lab::of(&[
        ("explicit", "scans/a"),
        ("annotations/explicit.seg.dcm", "scans/seg"),
        ("tilted", "scans/b"),
        ("annotations/tilted.rt.dcm", "scans/rt"),
    ]);
    let error = lab.run(&json!({"segments": {"liver": 1}, "ignore": ["BODY"]})).unwrap_err();
    for expected in ["scans/seg: Überlappung", "scans/rt: Kidney_L, Isocentre", "`segments` does not declare", "case P1_4_"] {
        assert!(error.contains(expected), "{expected}: {error}");
    }
    assert!(lab.run(&json!({})).unwrap_err().contains("Liver, Überlappung"));
}

#[test]
fn of_two_files_for_one_label_nobody_knows_which_one_counts() {
    let files = [("explicit", "scans"), ("annotations/explicit.seg.dcm", "scans/seg"), ("annotations/explicit.rt.dcm", "scans/rt")];
    let lab = Lab::of(&[&files[..], &[("oblique", "scans/b")]].concat());
    let both = json!({"segments": {"liver": {"value": 1, "names": ["body"]}}, "ignore": ["Überlappung", "Kidney_L", "Isocentre"]});
    let [left_out] = &lab.run(&both).unwrap()[..] else { panic!("one case") };
    assert!(left_out.found.contains("liver, which") && left_out.remedy.contains("keep the file that counts"), "{left_out:?}");
    assert_eq!((lab.cases("imagesTr").len(), lab.cases("labelsTr").len()), (1, 0));
    let dataset: Value = serde_json::from_slice(&std::fs::read(lab.out("dataset.json")).unwrap()).unwrap();
    assert_eq!(dataset["labels"], json!({"background": 0}));
}

#[test]
fn bad_labels_cost_their_case_alone() {
    let lab = Lab::of(&[("explicit", "scans/a"), ("annotations/explicit.rt.dcm", "scans/rt"), ("oblique", "scans/b")]);
    let error = lab.run(&json!({"segments": {"body": 1, "kidney_l": 2, "isocentre": 3}})).unwrap_err();
    assert!(error.contains("1 of 2 cases failed") && error.contains("Isocentre, contour 1: POINT; expected CLOSED_PLANAR"), "{error}");
    assert_eq!((lab.cases("imagesTr").len(), lab.cases("labelsTr").len()), (1, 0));
}

#[test]
fn a_folder_without_series_is_refused() {
    let lab = Lab::of(&[("gap", "scans")]);
    assert!(lab.run(&json!({})).unwrap_err().contains("holds no series of CT that can be read, among its 1 other entries"));
}
