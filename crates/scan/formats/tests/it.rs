//! The same CT in the formats of viewers, as ITK writes them.

use std::path::{Path, PathBuf};

use formats::{Format, LabelFile, ScanFiles};
use labels::flare23;
use proptest::prelude::*;
use volume::{Grid, Source, nifti};

const FILES: [&str; 8] = ["big_endian.nrrd", "ct.nrrd", "raw.nrrd", "detached.nhdr", "ct.mha", "raw.mha", "detached.mhd", "raw.mhd"];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn scan(path: &Path) -> ScanFiles {
    ScanFiles::at(path, Format::of_file(path).unwrap())
}

fn values(source: &dyn Source) -> Result<Vec<f32>, volume::SourceError> {
    let (mut slices, mut slice, mut all) = (source.slices()?, Vec::new(), Vec::new());
    while slices.next_slice(&mut slice)? {
        all.extend_from_slice(&slice);
    }
    Ok(all)
}

fn expected() -> (Vec<f32>, Grid) {
    let (expected, header) = nifti::read_scalar(fixture("ct.nii.gz")).unwrap();
    (expected.x_fastest().to_vec(), header.grid())
}

#[test]
fn every_format_gives_the_same_voxels_at_the_same_places() {
    let (voxels, grid) = expected();
    for name in FILES {
        let source = scan(&fixture(name)).open().unwrap();
        assert_eq!(values(&*source).unwrap(), voxels, "{name}");
        assert_eq!(source.grid(), grid, "{name}");
    }
}

#[test]
fn names_do_not_matter_and_headers_name_the_files_of_their_voxels() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["ct.nrrd", "ct.mha"] {
        let path = folder.path().join("IM0001");
        std::fs::copy(fixture(name), &path).unwrap();
        assert_eq!(values(&*scan(&path).open().unwrap()).unwrap(), expected().0, "{name}");
    }
    assert_eq!(scan(&fixture("detached.nhdr")).files(), [fixture("detached.nhdr"), fixture("detached.raw.gz")]);
    assert_eq!(scan(&fixture("ct.mha")).files(), [fixture("ct.mha")]);
}

#[test]
fn what_reads_nifti_reads_the_others_if_they_are_one_file() {
    let (voxels, grid) = expected();
    for name in ["big_endian.nrrd", "ct.nrrd", "raw.nrrd", "ct.mha", "raw.mha"] {
        let (read, header) = nifti::read_scalar(fixture(name)).unwrap();
        assert_eq!((&*read.x_fastest(), header.grid()), (&voxels[..], grid), "{name}");
    }
    for name in ["detached.nhdr", "detached.mhd", "raw.mhd"] {
        let error = nifti::read_header(fixture(name)).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("the voxels: in another file; expected header and voxels in one file"), "{error}");
    }
}

#[test]
fn what_is_wrong_with_a_file_is_said_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let said = |name: &str, change: &dyn Fn(Vec<u8>) -> Vec<u8>| {
        let path = folder.path().join(name);
        std::fs::write(&path, change(std::fs::read(fixture(name)).unwrap())).unwrap();
        let error = scan(&path).open().and_then(|source| values(&*source)).unwrap_err().to_string();
        assert!(error.starts_with(path.to_str().unwrap()), "{error}");
        error
    };
    let replaced = |from: &'static str, to: &'static str| {
        move |bytes: Vec<u8>| {
            let at = bytes.windows(from.len()).position(|window| window == from.as_bytes()).unwrap_or_else(|| panic!("{from}"));
            [&bytes[..at], to.as_bytes(), &bytes[at + from.len()..]].concat()
        }
    };
    for (name, from, to, expected) in [
        ("ct.nrrd", "type: short", "type: block", "type: block; expected an integer or a float of 8 to 64 bits; write the image anew"),
        ("ct.nrrd", "encoding: gzip", "encoding: bzip2", "encoding: bzip2; expected raw or gzip"),
        ("ct.nrrd", "sizes: 16 12 7", "sizes: 16 12 700", "truncated"),
        ("ct.nrrd", "sizes: 16 12 7", "sizes: 16 12", "sizes: 16 12; expected three sides or more"),
        ("ct.nrrd", "space: left-posterior-superior", "space: scanner-xyz", "space: scanner-xyz; expected left-posterior-superior"),
        ("big_endian.nrrd", "sizes: 1 16 12 7", "sizes: 2 16 12 7", "expected one image of three dimensions"),
        ("raw.nrrd", "NRRD0004", "NRRD1234", "magic: \"NRRD1234\"; expected NRRD0001 to NRRD0005"),
        ("detached.nhdr", "detached.raw.gz", "nowhere.raw.gz", "cannot find the file of the voxels"),
        ("ct.mha", "NDims = 3", "NDims = 4", "NDims: 4; expected 3; split the sequence first"),
        ("ct.mha", "MET_SHORT", "MET_OTHER", "ElementType: MET_OTHER; expected an integer or a float"),
        ("ct.mha", "DimSize = 16 12 7", "DimSize = 16 12 9999", "truncated"),
        ("raw.mha", "ElementDataFile", "ElementDataList", "ElementDataFile at the end of the header"),
        ("raw.mha", "TransformMatrix = ", "TransformMatrix = x ", "expected nine numbers"),
    ] {
        let error = said(name, &replaced(from, to));
        assert!(error.contains(expected), "{name}, {to}: {error}");
    }
    for name in ["ct.nrrd", "ct.mha", "raw.nrrd", "raw.mha"] {
        let error = said(name, &|bytes| bytes[..bytes.len() - 40].to_vec());
        assert!(error.contains("truncated"), "{name}: {error}");
    }
}

#[test]
fn label_maps_that_are_written_lie_on_their_scan() {
    let folder = tempfile::tempdir().unwrap();
    let classes = flare23::classes();
    let classes = classes.all();
    let labels: Vec<u8> = (0..16 * 12 * 7).map(|voxel| (voxel / 5 % 15) as u8).collect();
    for (name, format) in [("ct.nii.gz", Format::Nifti), ("ct.nrrd", Format::Nrrd), ("ct.mha", Format::MetaImage)] {
        for names in [false, true] {
            let scan = scan(&fixture(name));
            let source = scan.open().unwrap();
            let path = folder.path().join(format!("a{}", format.label_ending()));
            let mut sink = LabelFile { format, scan: &scan, source: &*source, classes: &classes, names }.create(&path).unwrap();
            labels.chunks_exact(16 * 12).for_each(|slice| sink.add(slice).unwrap());
            assert!(!path.exists() || names, "the file appears whole");
            sink.finish().unwrap();
            let written = ScanFiles::at(&path, format).open().unwrap();
            assert_eq!(values(&*written).unwrap(), labels.iter().map(|&label| f32::from(label)).collect::<Vec<_>>(), "{name}");
            assert!(written.grid().approx_eq(&source.grid()), "{name}");
        }
    }
    let text = String::from_utf8_lossy(&std::fs::read(folder.path().join("a.seg.nrrd")).unwrap()).into_owned();
    assert!(text.contains("Segment1_Name:=Right kidney\n") && text.contains("~SCT^64033007^Kidney~SCT^24028007^Right~"), "{text}");
    let refused = LabelFile {
        format: Format::Dicom,
        scan: &scan(&fixture("ct.mha")),
        source: &*scan(&fixture("ct.mha")).open().unwrap(),
        classes: &classes,
        names: false,
    };
    assert!(refused.create(&folder.path().join("a.dcm")).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    /// Changed headers, voxels and ends: a scan or an error, and no number that is none.
    #[test]
    fn no_changed_file_is_more_than_an_error(
        file in 0..FILES.len(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), prop_oneof![any::<u8>(), prop::sample::select(b"0123456789-. (),\n=:".to_vec())]), 0..6),
        end in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILES[file]);
        let mut bytes = std::fs::read(fixture(FILES[file])).unwrap();
        // Mostly the header, where words have a meaning.
        changes.iter().for_each(|(at, to)| { let at = at.index(bytes.len().min(700)); bytes[at] = *to; });
        if let Some(end) = end {
            bytes.truncate(end.index(bytes.len()));
        }
        std::fs::write(&path, bytes).unwrap();
        for part in ["detached.raw.gz", "detached.zraw", "raw.raw"] {
            std::fs::copy(fixture(part), folder.path().join(part)).unwrap();
        }
        let read = ScanFiles::at(&path, Format::of_name(FILES[file]).unwrap()).open().and_then(|source| values(&*source));
        match read {
            Ok(values) => prop_assert!(values.iter().all(|value| value.is_finite())),
            Err(error) => prop_assert!(error.to_string().starts_with(folder.path().to_str().unwrap()), "{}", error),
        }
    }
}
