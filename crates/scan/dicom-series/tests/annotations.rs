//! Segmentations by highdicom and structure sets by pydicom on the pixels of their series; segmentations as this crate writes them; and
//! what is refused.

use std::path::{Path, PathBuf};

use dicom_series::{Annotation, SegmentationWriter, Series, find};
use labels::flare23;
use volume::{LabelSink, Source as _, nifti};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn annotation(name: &str) -> PathBuf {
    fixtures().join("annotations").join(name)
}

fn series(name: &str) -> Series {
    let folder = if name == "odd" { annotation(name) } else { fixtures().join(name) };
    let mut found = find(&folder, |_| false);
    assert_eq!((found.series.len(), found.annotations.len()), (1, 0), "{found:?}");
    found.series.remove(0)
}

/// The labels of a file on all slices of a series.
fn painted(annotation: &Annotation, series: &Series, values: &[Option<u8>]) -> Result<Vec<u8>, String> {
    let mut painter = annotation.on(series, values).map_err(|error| error.to_string())?;
    let [columns, rows, slices] = series.grid().shape;
    let mut labels = vec![0; columns * rows * slices];
    for (slice, labels) in labels.chunks_mut(columns * rows).enumerate() {
        painter.paint(slice, labels).map_err(|error| error.to_string())?;
    }
    Ok(labels)
}

fn expected(name: &str) -> Vec<u8> {
    nifti::read_labels(annotation(name)).unwrap().0.x_fastest().to_vec()
}

#[test]
fn segmentations_and_contours_of_others_are_read_to_the_voxel() {
    for name in ["explicit", "oblique", "sagittal", "tilted", "odd"] {
        let series = series(name);
        let seg = Annotation::read(&annotation(&format!("{name}.seg.dcm"))).unwrap();
        assert_eq!(seg.names().collect::<Vec<_>>(), ["Liver", "Überlappung"]);
        assert!(seg.is_of(&series), "{name}");
        let (values, labels) = ([Some(1), Some(2)], expected(&format!("{name}.seg.nii.gz")));
        assert_eq!(painted(&seg, &series, &values).unwrap(), labels, "{name}");
        // A segment without a value is not read, and the higher value wins wherever it stands.
        let liver = painted(&seg, &series, &[Some(1)]).unwrap();
        let swapped = painted(&seg, &series, &[Some(2), Some(1)]).unwrap();
        let both = liver.iter().zip(&labels).filter(|(liver, label)| (**liver, **label) == (1, 2)).count();
        assert!(both > 0 && swapped.iter().zip(&liver).all(|(swapped, liver)| (*swapped == 2) == (*liver == 1)), "{name}");
        if name == "odd" {
            continue;
        }
        let contours = Annotation::read(&annotation(&format!("{name}.rt.dcm"))).unwrap();
        assert_eq!(contours.names().collect::<Vec<_>>(), ["BODY", "Kidney_L", "Isocentre"]);
        assert!(contours.is_of(&series), "{name}");
        assert_eq!(painted(&contours, &series, &[Some(3), Some(1), None]).unwrap(), expected(&format!("{name}.rt.nii.gz")), "{name}");
    }
    let other = Annotation::read(&annotation("oblique.rt.dcm")).unwrap();
    assert!(!other.is_of(&series("explicit")));
}

#[test]
fn contours_on_the_images_of_another_series_are_left_to_it() {
    let of_both = Annotation::read(&annotation("explicit_and_rle.rt.dcm")).unwrap();
    let of_one = Annotation::read(&annotation("explicit.rt.dcm")).unwrap();
    let (explicit, rle) = (series("explicit"), series("rle"));
    assert!(of_both.is_of(&explicit) && of_both.is_of(&rle) && !of_one.is_of(&rle));
    let all = [Some(3), Some(1), None];
    assert_eq!(painted(&of_both, &explicit, &all), painted(&of_one, &explicit, &[Some(3)]));
    assert_eq!(painted(&of_both, &rle, &all), painted(&of_one, &explicit, &[None, Some(1)]));
}

#[test]
fn what_is_written_is_read_back_to_the_voxel() {
    let folder = tempfile::tempdir().unwrap();
    let classes = flare23::classes();
    let classes = classes.all();
    for name in ["explicit", "enhanced", "oblique", "sagittal", "tilted", "rle", "odd"] {
        let (series, path) = (series(name), folder.path().join(format!("{name}.dcm")));
        let [columns, rows, slices] = series.grid().shape;
        let labels: Vec<u8> = (0..columns * rows * slices).map(|voxel| (voxel / 5 * 7 % 15) as u8).collect();
        let mut writer = Box::new(SegmentationWriter::create(&path, &series, &classes).unwrap());
        labels.chunks_exact(columns * rows).for_each(|slice| writer.add(slice).unwrap());
        writer.finish().unwrap();
        let annotation = Annotation::read(&path).unwrap();
        assert!(annotation.is_of(&series) && annotation.names().eq(classes.iter().map(|class| class.name.as_str())), "{name}");
        let values: Vec<Option<u8>> = classes.iter().map(|class| Some(class.value)).collect();
        assert_eq!(painted(&annotation, &series, &values).unwrap(), labels, "{name}");
    }
}

/// A copy of a file with a text in place of another one of the same length.
fn changed(name: &str, from: &[u8], to: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let (path, mut bytes) = (folder.path().join("changed.dcm"), std::fs::read(annotation(name)).unwrap());
    let at = bytes.windows(from.len()).position(|window| window == from).unwrap_or_else(|| panic!("{}", from.escape_ascii()));
    bytes[at..at + from.len()].copy_from_slice(to);
    std::fs::write(&path, bytes).unwrap();
    (folder, path)
}

#[test]
fn what_does_not_lie_on_the_images_is_refused_with_what_to_do() {
    let said = |name: &str, from: &[u8], to: &[u8], on: &str| {
        let (_folder, path) = changed(name, from, to);
        let error = Annotation::read(&path).map_err(|error| error.to_string());
        let error = error.and_then(|annotation| painted(&annotation, &series(on), &[Some(1); 2])).unwrap_err();
        assert!(error.contains("changed.dcm: "), "{error}");
        error
    };
    let elsewhere = said("explicit.seg.dcm", b"BINARY", b"BINARY", "oblique");
    assert!(elsewhere.contains("frame 1 runs along") && elsewhere.contains("onto the images first"), "{elsewhere}");
    let smaller = said("explicit.seg.dcm", b"BINARY", b"BINARY", "odd");
    assert!(smaller.contains("16 x 12, and the images have 5 x 7"), "{smaller}");
    let fractional = said("explicit.seg.dcm", b"BINARY", b"FRACT ", "explicit");
    assert!(fractional.contains("Segmentation Type: FRACT; expected BINARY"), "{fractional}");
    let number = said("explicit.seg.dcm", b"\x62\0\x0b\0US\x02\0\x01\0", b"\x62\0\x0b\0US\x02\0\x09\0", "explicit");
    assert!(number.contains("frame 1: 9; expected one of the segments of the file"), "{number}");
    let open = said("explicit.rt.dcm", b"CLOSED_PLANAR ", b"OPEN_PLANAR   ", "explicit");
    assert!(open.contains("OPEN_PLANAR; expected CLOSED_PLANAR; draw the region as closed contours"), "{open}");
    let off = said("oblique.rt.dcm", b"CLOSED_PLANAR ", b"CLOSED_PLANAR ", "explicit");
    assert!(off.contains("mm off the plane of the nearest image") || off.contains("planes of two images"), "{off}");
    let shift = said("explicit.seg.dcm", b"-5\\-60\\", b"-5\\-65\\", "explicit");
    assert!(shift.contains("is shifted by 0.00 and -5.56 pixels"), "{shift}");
    let no = Annotation::read(&fixtures().join("explicit/IM0000")).unwrap_err().to_string();
    assert!(no.contains("expected a segmentation or an RT structure set"), "{no}");
}

#[test]
fn a_truncated_file_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("short.dcm");
    let bytes = std::fs::read(annotation("explicit.seg.dcm")).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 30]).unwrap();
    let error = Annotation::read(&path).unwrap_err().to_string();
    assert!(error.contains("truncated"), "{error}");
}
