//! In which ways intensities come onto a model grid.

use serde::{Deserialize, Serialize};

use crate::{Grid, Orientation};

/// A grid of which an edge is so many times as long as another one has thick slices.
const THICK: f64 = 3.0;

/// How intensities come onto a model grid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resampling {
    /// Linearly, and then clipped to the window. The first voxels of both grids share their centres, as MONAI lays them.
    #[default]
    Linear,
    /// Clipped to the window, and then linearly, so that air beside a body counts no more than the window's lower end. Across thick
    /// slices, of the scan or else of the model grid, the nearest one is taken. Both grids share their outer edges. All as nnU-Net does.
    Clipped,
}

impl Resampling {
    /// The model grid of about this spacing for a scan in RAS order.
    pub(crate) fn grid(self, scan: &Grid, spacing_mm: [f64; 3]) -> Grid {
        match self {
            Self::Linear => scan.with_spacing_mm(spacing_mm),
            Self::Clipped => scan.divided_by_spacing_mm(spacing_mm),
        }
    }

    /// The axis of a scan in RAS order along which the nearest voxel is taken.
    pub(crate) fn stepped(self, scan: &Grid, model: &Grid) -> Option<usize> {
        let sides = [scan.reoriented(Orientation::RAS), *model].map(|grid| grid.spacing_mm());
        let thick = sides.into_iter().find(|sides| longest(sides) > THICK * sides.iter().copied().fold(f64::INFINITY, f64::min))?;
        let mut axes = (0..3).filter(|axis| thick[*axis] == longest(&thick));
        axes.next().filter(|_| self == Self::Clipped && axes.next().is_none())
    }
}

fn longest(sides: &[f64; 3]) -> f64 {
    sides.iter().copied().fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ndarray::{Array3, ShapeBuilder as _};

    use super::*;
    use crate::{Affine, ModelGrid, ScalarVolume, Scan, ScanFile, nifti};

    fn grid(shape: [usize; 3], spacing_mm: [f64; 3]) -> Grid {
        Grid { shape, affine: Affine::from_spacing_mm(spacing_mm, [3.0; 3]) }
    }

    /// The values of a scan on a model grid of this spacing, 0 to 1 for 0 to 100 HU, x fastest.
    fn shown(image: &ScalarVolume, spacing_mm: [f64; 3]) -> Vec<Vec<f32>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.nii.gz");
        nifti::write_scalar_i16(&path, image).unwrap();
        let model = ModelGrid { spacing_mm: spacing_mm.map(Some), window_hu: [0.0, 100.0] };
        let scan = Scan::resampled(Arc::new(ScanFile::open(&path).unwrap()), &model, Resampling::Clipped).unwrap();
        let mut planes = scan.planes(&scan.whole()).unwrap();
        std::iter::from_fn(|| planes.next_plane().unwrap()).map(|plane| plane.values).collect()
    }

    #[test]
    fn air_beside_a_body_counts_no_more_than_the_windows_lower_end() {
        let hu = [-1000.0, 80.0, 80.0, 3000.0];
        let own = grid([4, 1, 1], [2.0, 1.0, 1.0]);
        let image = ScalarVolume { data: Array3::from_shape_fn(own.shape.f(), |(x, ..)| hu[x]), affine: own.affine };
        let [values] = &shown(&image, [1.0; 3])[..] else { panic!("one plane") };
        let expected = [0.0, 0.2, 0.6, 0.8, 0.8, 0.85, 0.95, 1.0];
        assert!(values.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6) && values.len() == 8, "{values:?}");
    }

    #[test]
    fn across_thick_slices_the_nearest_one_is_taken_whichever_axis_they_lie_along() {
        for axis in 0..3 {
            let (mut shape, mut spacing) = ([1; 3], [1.0; 3]);
            (shape[axis], spacing[axis]) = (3, 4.0);
            let own = grid(shape, spacing);
            let image =
                ScalarVolume { data: Array3::from_shape_fn(own.shape.f(), |(x, y, z)| [0.0, 40.0, 100.0][x + y + z]), affine: own.affine };
            spacing[axis] = 2.0;
            assert_eq!(shown(&image, spacing).concat(), [0.0, 0.0, 0.4, 0.4, 1.0, 1.0], "axis {axis}");
        }
    }

    #[test]
    fn slices_are_thick_by_the_scan_or_else_by_the_model_grid() {
        let stepped = |scan, model| Resampling::Clipped.stepped(&grid([4; 3], scan), &grid([4; 3], model));
        assert_eq!(stepped([0.8, 0.8, 5.0], [1.5; 3]), Some(2));
        assert_eq!(stepped([1.0, 1.0, 3.0], [1.5, 5.0, 1.5]), Some(1), "three times is not thick yet");
        assert_eq!(stepped([1.0; 3], [1.5; 3]), None);
        assert_eq!(stepped([0.5, 2.0, 2.0], [1.0; 3]), None, "two long edges are no slices");
        assert_eq!(Resampling::Linear.stepped(&grid([4; 3], [0.8, 0.8, 5.0]), &grid([4; 3], [1.5; 3])), None);
    }

    #[test]
    fn both_grids_share_their_outer_edges() {
        let own = grid([10, 7, 5], [1.0, 1.5, 4.0]);
        let found = own.divided_by_spacing_mm([1.5, 1.5, f64::NAN]);
        // 10 mm are 6.67 voxels of 1.5 mm, and so 7; 10.5 mm are 7 as they were.
        assert_eq!(found.shape, [7, 7, 5]);
        let edges = |grid: &Grid| [[-0.5; 3], grid.shape.map(|side| side as f64 - 0.5)].map(|corner| grid.affine.apply(&corner));
        for (a, b) in edges(&own).into_iter().flatten().zip(edges(&found).into_iter().flatten()) {
            assert!((a - b).abs() < 1e-9, "{a} and {b} mm");
        }
        assert_eq!(own.divided_by_spacing_mm(own.spacing_mm()), own, "to the bit");
    }
}
