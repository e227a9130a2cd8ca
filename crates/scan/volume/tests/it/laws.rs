//! Laws that hold for every grid and volume.

use std::array::from_fn;

use ndarray::{Array3, ShapeBuilder as _};
use proptest::prelude::*;
use volume::{Affine, Box3, Grid, KEEP_SPACING, LabelVolume, Orientation, ScalarVolume, Volume};
use volume::{foreground_box, reorient, resample_linear, resample_nearest, window};

fn rotation(angles: [f64; 3]) -> Affine {
    let mut product = Affine::IDENTITY;
    for (axis, angle) in angles.into_iter().enumerate() {
        let (i, j) = ((axis + 1) % 3, (axis + 2) % 3);
        let mut turn = Affine::IDENTITY.0;
        turn[i][i] = angle.cos();
        turn[j][j] = angle.cos();
        turn[i][j] = -angle.sin();
        turn[j][i] = angle.sin();
        product = product * Affine(turn);
    }
    product
}

prop_compose! {
    /// Rotated, flipped, anisotropic grids.
    fn grids()(
        shape in prop::array::uniform3(1usize..9),
        angles in prop::array::uniform3(-3.0..3.0f64),
        spacing_mm in prop::array::uniform3(0.3..6.0f64),
        flip in any::<bool>(),
        origin in prop::array::uniform3(-300.0..300.0f64),
    ) -> Grid {
        let zoom = Affine::from_spacing_mm([if flip { -spacing_mm[0] } else { spacing_mm[0] }, spacing_mm[1], spacing_mm[2]], [0.0; 3]);
        let turned = rotation(angles) * zoom;
        Grid { shape, affine: Affine::from_columns(from_fn(|axis| turned.column(axis)), origin) }
    }
}

/// Each voxel's value is its own number, modulo 251.
fn numbered(grid: &Grid) -> LabelVolume {
    let [nx, ny, nz] = grid.shape;
    let data = Array3::from_shape_fn((nx, ny, nz).f(), |(x, y, z)| ((x + nx * (y + ny * z)) % 251) as u8);
    Volume { data, affine: grid.affine }
}

fn scalar(labels: &LabelVolume) -> ScalarVolume {
    Volume { data: labels.data.mapv(|v| f32::from(v) * 7.3 - 900.0), affine: labels.affine }
}

fn close(a: [f64; 3], b: [f64; 3], tolerance: f64) -> bool {
    (0..3).all(|i| (a[i] - b[i]).abs() <= tolerance)
}

fn index(place: [f64; 3]) -> [usize; 3] {
    place.map(|p| p.round() as usize)
}

proptest! {
    #[test]
    fn an_affine_and_its_inverse_undo_each_other(grid in grids(), voxel in prop::array::uniform3(-50.0..50.0f64)) {
        let there = grid.affine.apply(&voxel);
        prop_assert!(close(grid.affine.inverse().apply(&there), voxel, 1e-8));
        prop_assert!(close((grid.affine.inverse() * grid.affine).apply(&voxel), voxel, 1e-8));
        prop_assert!(grid.affine.check().is_ok());
    }

    #[test]
    fn rotation_never_changes_the_voxel_size(grid in grids(), angles in prop::array::uniform3(-3.0..3.0f64)) {
        let turned = rotation(angles) * grid.affine;
        prop_assert!((turned.voxel_mm3() / grid.voxel_mm3() - 1.0).abs() < 1e-9);
        prop_assert!(close(turned.spacing_mm(), grid.spacing_mm(), 1e-9));
    }

    #[test]
    fn reorienting_gives_the_target_moves_no_voxel_and_can_be_undone(grid in grids(), turn in 0usize..48) {
        let target = Orientation::all().nth(turn).unwrap();
        let volume = numbered(&grid);
        let turned = reorient(&volume, target);
        prop_assert_eq!(turned.grid().orientation(), target);
        prop_assert_eq!(turned.grid(), grid.reoriented(target));
        prop_assert!(turned.data.t().is_standard_layout());
        let to_source = grid.affine.inverse() * turned.affine;
        for ((x, y, z), &value) in turned.data.indexed_iter() {
            let place = to_source.apply(&[x as f64, y as f64, z as f64]);
            prop_assert_eq!(value, volume.data[index(place)]);
        }
        let back = reorient(&turned, grid.orientation());
        prop_assert_eq!(&back.data, &volume.data);
        prop_assert!(back.grid().approx_eq(&grid));
    }

    #[test]
    fn the_layout_in_memory_does_not_matter(grid in grids()) {
        let volume = numbered(&grid);
        let mut other = volume.clone();
        other.data = Array3::from_shape_vec(volume.data.dim(), volume.data.iter().copied().collect()).unwrap();
        prop_assert_eq!(reorient(&other, Orientation::LPS), reorient(&volume, Orientation::LPS));
        let target = grid.with_spacing_mm([1.0; 3]);
        prop_assert_eq!(resample_nearest(&other, &target), resample_nearest(&volume, &target));
        prop_assert_eq!(resample_linear(&scalar(&other), &target), resample_linear(&scalar(&volume), &target));
    }

    #[test]
    fn resampling_onto_the_same_grid_changes_nothing(grid in grids()) {
        let labels = numbered(&grid);
        prop_assert_eq!(resample_nearest(&labels, &grid), labels.clone());
        prop_assert_eq!(resample_linear(&scalar(&labels), &grid), scalar(&labels));
    }

    #[test]
    fn resampling_makes_no_new_values(grid in grids(), onto in grids()) {
        let labels = numbered(&grid);
        let known: std::collections::HashSet<u8> = labels.data.iter().copied().collect();
        prop_assert!(resample_nearest(&labels, &onto).data.iter().all(|v| known.contains(v)));
        let values = scalar(&labels);
        let (least, most) = values.data.iter().fold((f32::MAX, f32::MIN), |(a, b), &v| (a.min(v), b.max(v)));
        let found = resample_linear(&values, &onto);
        prop_assert!(found.data.iter().all(|&v| v >= least - 1e-2 && v <= most + 1e-2));
    }

    #[test]
    fn a_constant_volume_stays_constant_on_any_grid(grid in grids(), onto in grids(), value in -1000.0..1000.0f32) {
        let found = resample_linear(&ScalarVolume::filled(&grid, value), &onto);
        prop_assert_eq!(found, ScalarVolume::filled(&onto, value));
    }

    #[test]
    fn a_linear_ramp_is_resampled_exactly_inside_the_source(grid in grids(), angles in prop::array::uniform3(-1.0..1.0f64)) {
        // The value is a plane in patient space, so that interpolation has nothing to lose.
        let plane = |p: [f64; 3]| 0.5 * p[0] - 0.25 * p[1] + 2.0 * p[2];
        let (nx, ny, nz) = (grid.shape[0], grid.shape[1], grid.shape[2]);
        let value = |(x, y, z): (usize, usize, usize)| plane(grid.affine.apply(&[x as f64, y as f64, z as f64])) as f32;
        let ramp = ScalarVolume { data: Array3::from_shape_fn((nx, ny, nz), value), affine: grid.affine };
        let onto = Grid { shape: [5, 6, 7], affine: rotation(angles) * grid.affine };
        let found = resample_linear(&ramp, &onto);
        let to_source = onto.voxels_in(&grid);
        for ((x, y, z), &value) in found.data.indexed_iter() {
            let voxel = [x as f64, y as f64, z as f64];
            let place = to_source.apply(&voxel);
            if (0..3).all(|axis| place[axis] >= 0.0 && place[axis] <= (grid.shape[axis] - 1) as f64) {
                prop_assert!((f64::from(value) - plane(onto.affine.apply(&voxel))).abs() < 2e-3);
            }
        }
    }

    #[test]
    fn a_new_spacing_keeps_direction_and_extent(grid in grids(), spacing_mm in prop::array::uniform3(0.4..5.0f64)) {
        let target = grid.with_spacing_mm(spacing_mm);
        prop_assert_eq!(target.orientation(), grid.orientation());
        for axis in 0..3 {
            let own = grid.spacing_mm()[axis];
            let wanted = if (own - spacing_mm[axis]).abs() < 1e-3 { own } else { spacing_mm[axis] };
            prop_assert!((target.spacing_mm()[axis] - wanted).abs() < 1e-9);
            let extent = |g: &Grid| (g.shape[axis] - 1) as f64 * g.spacing_mm()[axis];
            prop_assert!((extent(&target) - extent(&grid)).abs() <= wanted / 2.0 + 1e-6);
        }
        prop_assert_eq!(grid.with_spacing_mm([KEEP_SPACING; 3]), grid);
        prop_assert_eq!(grid.with_spacing_mm([f64::NAN, -1.0, f64::INFINITY]), grid);
    }

    #[test]
    fn a_cropped_voxel_stays_where_it_was(grid in grids(), start in prop::array::uniform3(0usize..9), shape in prop::array::uniform3(0usize..9)) {
        let volume = numbered(&grid);
        let region = Box3 { start, shape };
        let cropped = volume.crop(&region);
        prop_assert_eq!(cropped.grid(), grid.cropped(&region));
        for ((x, y, z), &value) in cropped.data.indexed_iter() {
            let place = cropped.affine.apply(&[x as f64, y as f64, z as f64]);
            prop_assert_eq!(value, volume.data[index(grid.affine.inverse().apply(&place))]);
        }
        let whole = Box3 { start: [0; 3], shape: [usize::MAX; 3] };
        prop_assert_eq!(volume.crop(&whole), volume);
    }

    #[test]
    fn the_foreground_box_is_the_smallest_with_every_bright_voxel(
        grid in grids(), bright in prop::collection::vec(prop::array::uniform3(0usize..9), 0..4),
    ) {
        let mut volume = ScalarVolume::filled(&grid, -3024.0);
        let inside: Vec<[usize; 3]> =
            bright.into_iter().filter(|v| (0..3).all(|axis| v[axis] < grid.shape[axis])).collect();
        for &voxel in &inside {
            volume.data[voxel] = 1.0;
        }
        let found = foreground_box(&volume, -500.0);
        prop_assert_eq!(found.is_none(), inside.is_empty());
        if let Some(found) = found {
            for axis in 0..3 {
                prop_assert_eq!(Some(found.start[axis]), inside.iter().map(|v| v[axis]).min());
                prop_assert_eq!(Some(found.start[axis] + found.shape[axis] - 1), inside.iter().map(|v| v[axis]).max());
            }
            prop_assert_eq!(found.grown([0; 3], grid.shape), found);
            prop_assert_eq!(found.grown([9; 3], grid.shape), Box3 { start: [0; 3], shape: grid.shape });
        }
    }
}

#[test]
fn every_orientation_is_named_by_three_letters_and_read_back() {
    let names: std::collections::HashSet<String> = Orientation::all().map(|o| o.to_string()).collect();
    assert_eq!(names.len(), 48);
    for orientation in Orientation::all() {
        assert_eq!(orientation.to_string().parse(), Ok(orientation));
        assert_eq!(orientation.to_string().to_lowercase().parse(), Ok(orientation));
    }
    assert_eq!("LPS".parse(), Ok(Orientation::LPS));
    for wrong in ["", "RA", "RASS", "RRS", "RLS", "XYZ", "R\u{e4}S"] {
        let error = wrong.parse::<Orientation>().unwrap_err().to_string();
        assert!(error.contains("RAS or LPS"), "{error}");
    }
}

#[test]
fn the_clearest_axis_takes_its_letter_first() {
    // The first column leans a little more to x than to y, but the second runs along x: so the first gets y.
    let affine = Affine::from_columns([[0.72, 0.69, 0.0], [1.0, 0.05, 0.0], [0.0, 0.0, 1.0]], [0.0; 3]);
    assert_eq!(affine.orientation().to_string(), "ARS");
}

#[test]
fn a_window_clips_and_scales_to_the_unit_interval() {
    let grid = Grid { shape: [5, 1, 1], affine: Affine::IDENTITY };
    let mut volume = ScalarVolume::from_x_fastest(&grid, vec![-3024.0, -200.0, 50.0, 300.0, 1e9]).unwrap();
    let mut flat = volume.clone();
    window(&mut volume, [-200.0, 300.0]);
    assert_eq!(volume.data.into_raw_vec_and_offset().0, [0.0, 0.0, 0.5, 1.0, 1.0]);
    window(&mut flat, [40.0, 40.0]);
    assert!(flat.data.iter().all(|&v| v == 0.0));
}

#[test]
fn impossible_affines_are_named() {
    let broken = |row: usize, column: usize, value: f64| {
        let mut rows = Affine::IDENTITY.0;
        rows[row][column] = value;
        Affine(rows).check().unwrap_err().to_string()
    };
    assert!(broken(1, 2, f64::NAN).contains("NaN in row 1, column 2"));
    assert!(broken(0, 3, f64::INFINITY).contains("inf"));
    assert!(broken(2, 2, 0.0).contains("0.01..=100 mm"));
    assert!(broken(2, 2, 1000.0).contains("1000"));
    let flat = Affine::from_columns([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], [0.0; 3]);
    assert!(flat.check().unwrap_err().to_string().contains("parallel"));
}

#[test]
fn nothing_panics_without_an_inverse_or_without_voxels() {
    let grid = Grid { shape: [3, 4, 5], affine: Affine([[0.0; 4]; 4]) };
    let good = Grid { shape: [3, 4, 5], affine: Affine::IDENTITY };
    let empty = Grid { shape: [0, 4, 5], affine: Affine::IDENTITY };
    for (source, target) in [(&grid, &good), (&good, &grid), (&empty, &good), (&good, &empty), (&grid, &grid)] {
        assert_eq!(resample_nearest(&numbered(source), target).grid().shape, target.shape);
        assert_eq!(resample_linear(&scalar(&numbered(source)), target).grid().shape, target.shape);
        assert_eq!(reorient(&numbered(source), Orientation::LPS).data.len(), source.voxels());
    }
    assert_eq!(foreground_box(&scalar(&numbered(&empty)), -1e9), None);
}

#[test]
fn grids_that_differ_by_rounding_alone_are_equal_enough() {
    let affine = rotation([0.2, -0.1, 0.4]) * Affine::from_spacing_mm([0.8, 0.8, 2.5], [-210.3, 155.7, 1200.4]);
    let grid = Grid { shape: [512, 512, 300], affine };
    let rounded = Grid { affine: Affine(affine.0.map(|row| row.map(|v| f64::from(v as f32)))), ..grid };
    assert!(grid.approx_eq(&rounded));
    assert!(!grid.approx_eq(&Grid { shape: [512, 512, 299], ..grid }));
    let mut shifted = grid;
    shifted.affine.0[2][3] += 0.02;
    assert!(!grid.approx_eq(&shifted));
}
