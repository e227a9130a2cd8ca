//! Every entry of a folder is taken, left out by name, or passed over because it cannot be a scan.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use dataset::{ImageFile, Listing, Naming, image_files, images_at, label_files, list};

fn folder(names: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in names {
        std::fs::create_dir_all(folder.path().join(name).parent().unwrap()).unwrap();
        std::fs::write(folder.path().join(name), "").unwrap();
    }
    folder
}

fn ids(files: &[ImageFile]) -> Vec<&str> {
    files.iter().map(|file| file.id.as_str()).collect()
}

/// File names of what is left out, with what was found.
fn left_out(listing: &Listing) -> Vec<(String, String)> {
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    listing.aside.left_out.iter().map(|one| (name(&one.file), one.found.clone())).collect()
}

#[test]
fn images_and_label_maps_are_listed_by_case_whatever_their_names() {
    let names = ["b_0000.nii.gz", "a_0000.nii", "with space_0000.nii.gz", "1.2.840_0000.nii.gz", "a_0000_0000.nii.gz", "-rf_0000.nii.gz"];
    let images = folder(&names);
    assert_eq!(ids(&image_files(images.path()).unwrap()), ["-rf", "1.2.840", "a", "a_0000", "b", "with space"]);
    let labels = folder(&["a.nii", "b.nii.gz", "a_0000.nii.gz", "c.nrrd", "d.seg.nrrd", "e.mha"]);
    assert_eq!(ids(&label_files(labels.path()).unwrap()), ["a", "a_0000", "b", "c", "d", "e"]);
    let other_formats = folder(&["a_0000.nrrd", "b_0000.mha", "c_0000.seg.nrrd"]);
    assert_eq!(ids(&image_files(other_formats.path()).unwrap()), ["a", "b", "c"]);
}

#[test]
fn the_label_map_of_a_case_may_have_any_format_but_not_two() {
    let labels = folder(&["a.nii.gz", "b.seg.nrrd", "c.mha", "c.nii"]);
    let found = |case| dataset::label_in(labels.path(), case).map(|path| path.file_name().unwrap().to_str().unwrap().to_owned());
    assert_eq!(["a", "b", "none"].map(|case| found(case).unwrap()), ["a.nii.gz", "b.seg.nrrd", "none.nii.gz"]);
    assert!(found("c").unwrap_err().to_string().ends_with("several label maps of case c: c.nii, c.mha; keep one"));
}

#[test]
fn what_might_be_a_scan_is_left_out_by_name_with_what_to_do() {
    let scans = folder(&[
        "ok_0000.nii.gz",
        "case7.nii.gz",
        "case8_0001.nii.gz",
        "case9_0000.NII.GZ",
        "caseA_0000.nhdr",
        "caseB_0000.nii.gz.part",
        "_0000.nii.gz",
        "IM0001",
        "deep/x_0000.nii.gz",
    ]);
    std::fs::write(scans.path().join(OsStr::from_bytes(b"m\xfcller_0000.nii.gz")), "").unwrap();
    std::os::unix::fs::symlink("/nowhere", scans.path().join("gone_0000.nii.gz")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, scans.path().join("pipe_0000.nii.gz"), rustix::fs::Mode::RUSR).unwrap();
    let listing = list(scans.path(), Naming::Images).unwrap();
    assert_eq!(ids(&listing.files), ["ok"]);
    let found = left_out(&listing);
    for (name, part) in [
        ("case7.nii.gz", "the name case7.nii.gz"),
        ("case8_0001.nii.gz", "the name"),
        ("case9_0000.NII.GZ", "the name"),
        ("caseA_0000.nhdr", "an NRRD header with its voxels in another file"),
        ("caseB_0000.nii.gz.part", "not whole"),
        ("_0000.nii.gz", "the name _0000.nii.gz"),
        ("IM0001", "unknown kind"),
        ("deep", "a folder with 1 files such as x_0000.nii.gz"),
        ("gone_0000.nii.gz", "a link that leads nowhere"),
        ("pipe_0000.nii.gz", "a named pipe"),
        ("m\u{fffd}ller_0000.nii.gz", "not UTF-8"),
    ] {
        assert!(found.iter().any(|(file, found)| file == name && found.contains(part)), "{name}: {found:#?}");
    }
    assert_eq!(found.len(), 11, "{found:#?}");
    let seven = listing.aside.left_out.iter().find(|one| one.case == "case7").unwrap();
    assert_eq!(seven.remedy, "rename it to case7_0000.nii.gz if it is case case7");
}

#[test]
fn two_files_of_one_case_belong_to_nobody() {
    let scans = folder(&["x_0000.nii", "x_0000.nii.gz", "y_0000.nii.gz"]);
    let listing = list(scans.path(), Naming::Images).unwrap();
    assert_eq!(ids(&listing.files), ["y"]);
    assert_eq!(left_out(&listing).len(), 2);
    assert!(listing.aside.left_out[0].found.contains("2 files for one case: x_0000.nii, x_0000.nii.gz"));
}

#[test]
fn what_systems_leave_is_passed_over_and_so_is_the_label_map_of_a_case() {
    let scans = folder(&[
        "a_0000.nii.gz",
        "a.nii.gz",
        ".DS_Store",
        "._a_0000.nii.gz",
        "Thumbs.db",
        "dataset.json",
        ".writing-a.nii.gz",
        "notes/readme.txt",
    ]);
    std::fs::create_dir(scans.path().join("__MACOSX")).unwrap();
    let listing = list(scans.path(), Naming::Images).unwrap();
    assert_eq!(ids(&listing.files), ["a"]);
    assert_eq!(left_out(&listing), []);
    assert_eq!(listing.aside.passed_over.len(), 7);
}

#[test]
fn a_folder_with_a_part_of_its_own_is_no_finding() {
    let scans = folder(&["a_0000.nii.gz", "out/b_0000.nii.gz", "out/deep/c_0000.nii.gz", "other/d_0000.nii.gz"]);
    let listing = list(scans.path(), Naming::Images).unwrap();
    assert_eq!(listing.aside.left_out.len(), 3);
    let apart = listing.apart_from(&scans.path().join("other/../out"));
    assert_eq!(left_out(&apart), [("other".to_owned(), "a folder with 1 files such as d_0000.nii.gz".to_owned())]);
}

#[test]
fn one_image_is_taken_for_itself_and_an_empty_folder_tells_what_was_expected() {
    let scans = folder(&["a_0000.nii.gz"]);
    let path = |name: &str| scans.path().join(name);
    assert_eq!(images_at(&path("a_0000.nii.gz")).unwrap().files, images_at(scans.path()).unwrap().files);
    std::fs::rename(path("a_0000.nii.gz"), path("a.nii.gz")).unwrap();
    assert!(images_at(&path("a.nii.gz")).unwrap_err().to_string().contains("is not named CASE_0000.nii.gz"));
    let error = image_files(scans.path()).unwrap_err().to_string();
    assert!(error.contains("holds no CASE_0000.nii.gz files among its 1 entries"), "{error}");
}
