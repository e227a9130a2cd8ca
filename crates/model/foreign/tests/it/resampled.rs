//! Networks of nnU-Net that have learned something (`make_resampled.py`), and scans of other spacings than theirs.

use ndarray::Array3;
use volume::{LabelVolume, Orientation, nifti, resample_nearest};

use crate::fixture;
use crate::nnunet::{imported, labelled, opened, scan_of};

/// The folder, the orientation of its training, a scan, and the least Dice score of a class with what the other program finds.
///
/// It resamples logits back, and this program labels, so that a border lies up to half a voxel of the model grid off, either way: the balls
/// are 8 to 16 mm in radius, and the voxels 2 to 6 mm. Sizes and places of what is found do not change by that.
const SCANS: [(&str, &str, &str, f64); 4] =
    [("even", "LPS", "turned", 0.87), ("even", "LPS", "thick", 0.87), ("flat", "LPS", "thick", 0.93), ("across", "PIR", "fine", 0.81)];

/// How much larger or smaller a class may be than there, and how far from there it may lie, in voxels of the scan.
const LARGER: f64 = 0.06;
const FURTHER: f64 = 0.5;

/// How many voxels have a label, and where their middle is.
fn middle(labels: &Array3<u8>, value: u8) -> (f64, [f64; 3]) {
    let inside: Vec<_> = labels.indexed_iter().filter(|(_, label)| **label == value).map(|((x, y, z), _)| [x, y, z]).collect();
    let mean = |axis: usize| inside.iter().map(|place| place[axis] as f64).sum::<f64>() / inside.len() as f64;
    (inside.len() as f64, [mean(0), mean(1), mean(2)])
}

#[test]
fn a_scan_that_is_resampled_is_labelled_as_by_the_other_program_but_for_borders() {
    for (name, trained_on, kind, least) in SCANS {
        let (folder, path) = imported(name, Some(trained_on));
        let model = opened(path);
        let scan = scan_of(&model, &format!("{name}/{kind}.nii.gz"));
        let found = LabelVolume { data: labelled(&model, &scan, folder.path()), affine: scan.grid().affine };
        let (expected, _) = nifti::read_labels(fixture(&format!("{name}/{kind}_labels.nii.gz"))).unwrap();
        let expected = volume::reorient(&expected, Orientation::RAS);
        let found = resample_nearest(&found, &expected.grid());
        for class in model.classes().all() {
            let [(size, place), (size_there, place_there)] = [&found, &expected].map(|labels| middle(&labels.data, class.value));
            let both = found.data.iter().zip(&expected.data).filter(|(a, b)| a == b && **a == class.value).count();
            let dice = 2.0 * both as f64 / (size + size_there);
            let further = (0..3).map(|axis| (place[axis] - place_there[axis]).abs()).fold(0.0, f64::max);
            let what = format!("{name}/{kind}, {}: Dice {dice}, {size} voxels for {size_there}, {further} off", class.key);
            println!("{what}");
            assert!(dice >= least && (size / size_there - 1.0).abs() <= LARGER && further <= FURTHER, "{what}");
        }
    }
}
