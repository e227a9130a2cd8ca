//! Series as pydicom and GDCM write them, beside what ITK and nibabel read of them; and folders in which they lie in disorder.

use std::path::{Path, PathBuf};

use dicom_series::{Found, Series, find};
use volume::{Source, nifti};

const SERIES: [&str; 14] = [
    "big_endian",
    "enhanced",
    "enhanced_rle",
    "explicit",
    "implicit",
    "jpeg_2000",
    "jpeg_2000_unsigned",
    "jpeg_lossless",
    "jpeg_lossless_unsigned",
    "oblique",
    "rle",
    "sagittal",
    "scaled_by_slice",
    "tilted",
];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn look(path: &Path) -> Found {
    find(path, |_| false)
}

fn values(series: &Series) -> Vec<f32> {
    let (mut slices, mut slice, mut all) = (series.slices().unwrap(), Vec::new(), Vec::new());
    while slices.next_slice(&mut slice).unwrap() {
        all.extend_from_slice(&slice);
    }
    all
}

/// A folder with copies of fixtures in folders of its own.
fn folder(copies: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, to) in copies {
        std::fs::create_dir_all(folder.path().join(to)).unwrap();
        for entry in std::fs::read_dir(fixture(name)).unwrap().map(Result::unwrap) {
            std::fs::copy(entry.path(), folder.path().join(to).join(format!("{name}-{}", entry.file_name().display()))).unwrap();
        }
    }
    folder
}

#[test]
fn series_are_what_itk_and_nibabel_find_in_them_to_the_voxel_and_the_place() {
    for name in SERIES {
        let found = look(&fixture(name));
        let [series] = &found.series[..] else { panic!("{name}: {found:?}") };
        assert!(found.bad.is_empty() && found.passed_over.is_empty(), "{name}: {found:?}");
        let (expected, header) = nifti::read_scalar(fixture(&format!("{name}.nii.gz"))).unwrap();
        assert_eq!(values(series), expected.x_fastest().to_vec(), "{name}");
        assert_eq!(series.grid(), header.grid(), "{name}");
    }
}

#[test]
fn a_tree_of_series_is_told_apart_and_what_is_no_scan_is_named() {
    let tree = folder(&[("explicit", "a/b"), ("rle", "a/b"), ("oblique", "c"), ("gap", "d"), ("jpeg_2000", "."), ("explicit", "copies")]);
    std::fs::write(tree.path().join("a/notes.txt"), "no scan").unwrap();
    let (found, root) = (look(tree.path()), tree.path());
    let folders: Vec<_> = found.series.iter().map(|series| series.folder().strip_prefix(root).unwrap().to_str().unwrap()).collect();
    // Copies of the images of one series, in two folders, are one.
    assert_eq!(folders, ["", "", "a/b", "c"]);
    assert!(found.series.iter().all(|series| series.grid().shape == [16, 12, 7]));
    assert_eq!(found.others, [root.join("a/notes.txt")]);
    let [gap] = &found.bad[..] else { panic!("{:?}", found.bad) };
    assert!(gap.found.contains("1 slice is missing, the first between [-5.0, -60.0, 106.0] and [-5.0, -60.0, 112.0] mm"), "{gap}");
}

/// The place and the length of the value of an element in explicit little endian.
fn value_of(bytes: &[u8], tag: [u16; 2], vr: &[u8; 2]) -> (usize, usize) {
    let mark = [tag.map(u16::to_le_bytes).as_flattened(), vr].concat();
    let at = bytes.windows(6).position(|window| window == mark).unwrap();
    (at + 8, usize::from(u16::from_le_bytes([bytes[at + 6], bytes[at + 7]])))
}

/// Changes a text of some images of a series, to one of the same length or a shorter one.
fn change(folder: &Path, tag: [u16; 2], vr: &[u8; 2], to: impl Fn(usize) -> Option<String>) {
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for (k, file) in files.iter().enumerate() {
        let Some(to) = to(k) else { continue };
        let mut bytes = std::fs::read(file).unwrap();
        let (at, length) = value_of(&bytes, tag, vr);
        assert!(to.len() <= length, "{to:?} in {length}");
        bytes[at..at + length].copy_from_slice(format!("{to:length$}").as_bytes());
        std::fs::write(file, bytes).unwrap();
    }
}

#[test]
fn images_that_make_no_scan_are_told_with_what_to_do() {
    const MODALITY: [u16; 2] = [0x0008, 0x0060];
    let words = |change_it: &dyn Fn(&Path)| {
        let folder = folder(&[("explicit", ".")]);
        change_it(folder.path());
        let found = look(folder.path());
        assert!(found.series.is_empty(), "{found:?}");
        found.bad.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    let magnetic = words(&|folder| change(folder, MODALITY, b"CS", |_| Some("MR".into())));
    assert!(magnetic.contains("series 4: 7 images, of which one says: Modality: MR; expected CT; leave the series out"), "{magnetic}");
    let slope = words(&|folder| change(folder, [0x0028, 0x1053], b"DS", |k| (k == 2).then(|| "0".into())));
    assert!(slope.contains("Rescale Slope and Intercept: 0.0 and 0.0"), "{slope}");
    let place = words(&|folder| change(folder, [0x0020, 0x0032], b"DS", |k| (k == 3).then(|| "1\\2".into())));
    assert!(place.contains("images without Image Position (Patient)"), "{place}");
    let syntax = words(&|folder| change(folder, [0x0002, 0x0010], b"UI", |_| Some("1.2.840.10008.1.2.9\0".into())));
    assert!(syntax.contains("1.2.840.10008.1.2.9"), "{syntax}");
    let same = words(&|folder| change(folder, [0x0020, 0x0032], b"DS", |_| Some("-5\\-60\\100".into())));
    assert!(same.contains("two images at the place [-5.0, -60.0, 100.0] mm") && same.contains("folder of its own"), "{same}");
}

#[test]
fn localisers_are_passed_over_and_stacks_of_other_directions_are_scans_of_their_own() {
    const DIRECTIONS: [u16; 2] = [0x0020, 0x0037];
    let coronal = || Some("1\\0\\0\\0\\0\\1".to_owned());
    let localiser = folder(&[("explicit", ".")]);
    // One image of another direction in a series.
    let mut files: Vec<_> = std::fs::read_dir(localiser.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let ends: Vec<usize> = (0..files.len()).filter(|&k| [0.0, 18.0].contains(&(place(&files[k])[2] - 100.0))).collect();
    change(localiser.path(), DIRECTIONS, b"DS", |k| if k == ends[0] { coronal() } else { None });
    let found = look(localiser.path());
    assert_eq!((found.series.len(), found.passed_over.len(), found.bad.len()), (1, 1, 0), "{found:?}");
    assert_eq!(found.series[0].grid().shape, [16, 12, 6]);
}

fn place(file: &Path) -> [f64; 3] {
    let bytes = std::fs::read(file).unwrap();
    let (at, length) = value_of(&bytes, [0x0020, 0x0032], b"DS");
    let numbers = std::str::from_utf8(&bytes[at..at + length]).unwrap().split('\\').map(|number| number.trim().parse().unwrap());
    numbers.collect::<Vec<f64>>().try_into().unwrap()
}

#[test]
fn items_that_end_where_none_has_begun_are_damage() {
    const SEQUENCE: &[u8] = b"\x08\0\x40\x11SQ\0\0\xff\xff\xff\xff";
    const ITEM: &[u8] = b"\xfe\xff\x00\xe0\xff\xff\xff\xff";
    const ITEM_END: &[u8] = b"\xfe\xff\x0d\xe0\0\0\0\0";
    const SEQUENCE_END: &[u8] = b"\xfe\xff\xdd\xe0\0\0\0\0";
    let folder = folder(&[("explicit", ".")]);
    let file = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    let whole = std::fs::read(&file).unwrap();
    let begin = whole.windows(4).position(|window| window == b"\x08\0\x05\0").unwrap();
    for (inside, is_sound) in [
        (&[SEQUENCE, ITEM, ITEM_END, SEQUENCE_END][..], true),
        (&[SEQUENCE, SEQUENCE_END], true),
        (&[SEQUENCE, ITEM_END, ITEM], false),
        (&[SEQUENCE, ITEM, SEQUENCE_END, ITEM], false),
        (&[ITEM_END, ITEM], false),
        (&[SEQUENCE_END, ITEM], false),
    ] {
        std::fs::write(&file, [&whole[..begin], &inside.concat(), &whole[begin..]].concat()).unwrap();
        let found = look(folder.path());
        let damaged = found.bad.iter().filter(|bad| bad.found.contains("the DICOM elements are damaged")).count();
        assert_eq!(damaged, usize::from(!is_sound), "{inside:?}: {:?}", found.bad);
    }
}
