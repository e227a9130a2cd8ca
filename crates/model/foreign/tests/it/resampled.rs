//! Networks of nnU-Net that have learned something (`make_resampled.py`), and scans of other spacings than theirs.

use ndarray::Array3;
use volume::{LabelVolume, Orientation, nifti, resample_nearest};

use crate::fixture;
use crate::nnunet::{imported, labelled, opened, scan_of};

/// The folder, the orientation of its training, and a scan.
const SCANS: [(&str, &str, &str); 4] =
    [("even", "LPS", "turned"), ("even", "LPS", "thick"), ("flat", "LPS", "thick"), ("across", "PIR", "fine")];

/// The least Dice score with what the other program finds, how much larger or smaller a class may be than there, and how many voxels of the
/// scan it may lie off.
struct Close {
    dice: f64,
    larger: f64,
    further: f64,
}

/// The body is large and sure: a grid that lay half a voxel off would show.
const BODY: Close = Close { dice: 0.955, larger: 0.02, further: 0.1 };

/// The balls in it are 7 to 14 mm in radius, on grids of 1.5 to 5 mm, and the network is unsure of their borders. The other program brings
/// logits back to the scan, and this program labels, so that what is found of a ball moves by up to a voxel.
const BALL: Close = Close { dice: 0.8, larger: 0.15, further: 1.1 };

/// How many voxels have a label, and where their middle is.
fn middle(labels: &Array3<u8>, value: u8) -> (f64, [f64; 3]) {
    let inside: Vec<_> = labels.indexed_iter().filter(|(_, label)| **label == value).map(|((x, y, z), _)| [x, y, z]).collect();
    let mean = |axis: usize| inside.iter().map(|place| place[axis] as f64).sum::<f64>() / inside.len() as f64;
    (inside.len() as f64, [mean(0), mean(1), mean(2)])
}

#[test]
fn a_scan_that_is_resampled_is_labelled_as_by_the_other_program_but_for_borders() {
    for (name, trained_on, kind) in SCANS {
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
            let Close { dice: least, larger, further: most } = if class.key == "body" { BODY } else { BALL };
            assert!(dice >= least && (size / size_there - 1.0).abs() <= larger && further <= most, "{what}");
        }
    }
}
