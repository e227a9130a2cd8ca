//! The scans of a folder in every format, and what is said of all else. Series of DICOM files are looked for with the feature `dicom`.

use std::path::{Path, PathBuf};

use dataset::{Scans, scans_at};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A folder of copies of fixtures.
fn folder(copies: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (from, to) in copies {
        let to = folder.path().join(to);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(fixtures().join(from), to).unwrap();
    }
    folder
}

fn ids(scans: &Scans) -> Vec<&str> {
    scans.cases.iter().map(|case| case.id.as_str()).collect()
}

/// File names of what is left out, with what was found.
fn left_out(scans: &Scans) -> Vec<(String, &str)> {
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    scans.aside.left_out.iter().map(|one| (name(&one.file), one.found.as_str())).collect()
}

const CT: &str = "formats/tests/fixtures/ct.nii.gz";

#[test]
fn scans_have_any_name_and_any_format() {
    let scans = folder(&[
        (CT, "a_0000.nii.gz"),
        (CT, "a.nii.gz"),
        (CT, "a_0001.nii.gz"),
        (CT, "b.NII.GZ"),
        ("formats/tests/fixtures/ct.nrrd", "c.nrrd"),
        ("formats/tests/fixtures/detached.mhd", "d.mhd"),
        ("formats/tests/fixtures/detached.zraw", "detached.zraw"),
        ("formats/tests/fixtures/raw.mha", "E_without_ending"),
        ("formats/tests/fixtures/ct.nrrd", "c.seg.nrrd"),
        (CT, "twice.nii.gz"),
        ("formats/tests/fixtures/ct.mha", "twice.mha"),
    ]);
    std::fs::write(scans.path().join("f.mgz"), "no scan").unwrap();
    let found = scans_at(scans.path(), Path::new("elsewhere")).unwrap();
    assert_eq!(ids(&found), ["E_without_ending", "a", "b", "c", "d"]);
    assert!(found.cases.iter().all(|case| case.scan.open().is_ok()));
    assert_eq!(
        left_out(&found),
        [
            ("a_0001.nii.gz".into(), "another channel of a"),
            ("f.mgz".into(), "an MGH file"),
            ("twice.mha".into(), "2 files for one case: twice.mha, twice.nii.gz"),
            ("twice.nii.gz".into(), "2 files for one case: twice.mha, twice.nii.gz"),
        ]
    );
    let passed: Vec<_> = found.aside.passed_over.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(passed, ["a.nii.gz", "c.seg.nrrd", "detached.zraw"]);
}

#[test]
fn one_file_is_a_scan_whatever_its_name_and_others_are_refused() {
    let scans = folder(&[(CT, "any thing.nii.gz")]);
    let found = scans_at(&scans.path().join("any thing.nii.gz"), Path::new("elsewhere")).unwrap();
    assert_eq!(ids(&found), ["any thing"]);
    assert_eq!(left_out(&found), []);
    std::fs::write(scans.path().join("text"), "no scan").unwrap();
    let refused = scans_at(&scans.path().join("text"), Path::new("elsewhere")).unwrap_err().to_string();
    assert!(refused.contains("is no scan by its name or its first bytes"), "{refused}");
    let none = scans_at(&scans.path().join("text"), Path::new("elsewhere")).unwrap_err().to_string();
    assert!(none.contains("expected a NIfTI, NRRD, MetaImage or DICOM file"), "{none}");
}

#[cfg(feature = "dicom")]
#[test]
fn series_are_named_by_their_folders_and_every_file_of_the_tree_is_seen() {
    let scans = tempfile::tempdir().unwrap();
    let put = |series: &str, to: &str| {
        let to = scans.path().join(to);
        std::fs::create_dir_all(&to).unwrap();
        for entry in std::fs::read_dir(fixtures().join("dicom-series/tests/fixtures").join(series)).unwrap().map(Result::unwrap) {
            std::fs::copy(entry.path(), to.join(format!("{series}{}", entry.file_name().display()))).unwrap();
        }
    };
    put("explicit", "patient/ct");
    put("rle", "two");
    put("oblique", "two");
    put("gap", "bad");
    put("jpeg_2000", "out/of/an earlier run");
    std::fs::copy(fixtures().join(CT), scans.path().join("two/deep.nii.gz")).unwrap();
    std::fs::copy(fixtures().join(CT), scans.path().join("flat.nii.gz")).unwrap();
    std::fs::write(scans.path().join("broken.dcm"), "no scan").unwrap();
    let found = scans_at(scans.path(), &scans.path().join("patient/../out")).unwrap();
    let ids = ids(&found);
    assert_eq!(ids[..2], ["flat", "patient_ct"]);
    assert!(ids.len() == 4 && ids[2].starts_with("two_4_") && ids[3].starts_with("two_4_"), "{ids:?}");
    assert!(found.cases.iter().all(|case| case.scan.open().is_ok()));
    assert_eq!(found.cases[1].scan.files().len(), 7);
    let left_out = left_out(&found);
    assert_eq!(left_out.len(), 3, "{left_out:?}");
    for (file, found) in [
        ("bad", "1 slice is missing"),
        ("broken.dcm", "no DICOM file, though its name says so"),
        ("two", "a folder with 1 files such as deep.nii.gz"),
    ] {
        assert!(left_out.iter().any(|(name, reason)| name == file && reason.contains(found)), "{file}: {left_out:?}");
    }
    let alone = scans_at(&fixtures().join("dicom-series/tests/fixtures/enhanced/enhanced.dcm"), Path::new("elsewhere")).unwrap();
    assert_eq!(alone.cases[0].id, "enhanced");
    let folder = scans_at(&fixtures().join("dicom-series/tests/fixtures/explicit"), Path::new("elsewhere")).unwrap();
    assert_eq!(folder.cases[0].id, "explicit");
}
