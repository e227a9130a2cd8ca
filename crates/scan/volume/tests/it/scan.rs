//! What is read and written slice by slice is to the bit what whole volumes give.

use std::io::{Read as _, Write as _};

use ndarray::{Array3, ShapeBuilder as _};
use proptest::prelude::*;
use volume::{
    Affine, Box3, DoubtKind, Grid, Intensities, LabelScan, LabelVolume, ModelGrid, NearestSlices, Orientation, ScalarVolume, Scan,
    SlicedFile, nifti, pick_linear, pick_nearest, reorient, resample_linear, resample_nearest,
};

const MODEL: ModelGrid = ModelGrid { spacing_mm: [Some(1.0), Some(1.5), Some(2.5)], window_hu: [-200.0, 300.0] };

/// A scan of noise around 50 HU in one of the 48 orientations.
fn scan_in(orientation: Orientation, shape: [usize; 3], spacing_mm: [f64; 3], shear: f64) -> ScalarVolume {
    let axes: Vec<usize> = (0..3).map(|axis| orientation.world_axis(axis)).collect();
    let columns = std::array::from_fn(|axis| {
        let mut column = [0.0; 3];
        column[axes[axis]] = if orientation.is_positive(axis) { spacing_mm[axis] } else { -spacing_mm[axis] };
        // A tilted gantry, and slices that are sheared themselves.
        column[(axes[axis] + 1) % 3] = shear * spacing_mm[axis] * [0.0, -0.3, 1.0][axis];
        column
    });
    let grid = Grid { shape, affine: Affine::from_columns(columns, [-31.0, 17.0, 5.5]) };
    let value = |(x, y, z): (usize, usize, usize)| ((x * 37 + y * 101 + z * 59) % 400) as f32 - 150.0;
    ScalarVolume { data: Array3::from_shape_fn(shape.f(), value), affine: grid.affine }
}

fn file(scan: &ScalarVolume) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a_0000.nii.gz");
    nifti::write_scalar_i16(&path, scan).unwrap();
    (folder, path)
}

/// All planes of a region, put together in the region's shape.
fn planes_of(scan: &Scan, region: &Box3) -> Array3<f32> {
    let mut out = Array3::from_elem(region.shape.f(), f32::NAN);
    let mut planes = scan.planes(region).unwrap();
    while let Some(plane) = planes.next_plane().unwrap() {
        for (i, &value) in plane.values.iter().enumerate() {
            out[[i % region.shape[0], i / region.shape[0], plane.z - region.start[2]]] = value;
        }
    }
    out
}

/// A volume with `inside` in a region and `outside` around it.
fn embedded_in(inside: &Array3<u8>, region: &Box3, shape: [usize; 3], outside: u8) -> Array3<u8> {
    let [x, y, z] = region.start;
    Array3::from_shape_fn(shape.f(), |(i, j, k)| {
        let at = [i.wrapping_sub(x), j.wrapping_sub(y), k.wrapping_sub(z)];
        inside.get(at).copied().unwrap_or(outside)
    })
}

/// A part of the model grid that begins and ends somewhere inside.
fn part_of(shape: [usize; 3], part: [f64; 3]) -> Box3 {
    let start = std::array::from_fn(|axis| (part[axis] * shape[axis] as f64 * 0.5) as usize);
    Box3 { start, shape: std::array::from_fn(|axis| (shape[axis] - start[axis]).div_ceil(1 + axis % 2)) }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn planes_of_a_label_map_are_those_of_the_whole_volume(
        orientation in prop::sample::select(Orientation::all().collect::<Vec<_>>()),
        shape in prop::array::uniform3(1usize..12),
        spacing_mm in prop::array::uniform3(0.4..5.0f64),
        shear in prop::sample::select(vec![0.0, 0.0, 0.2, 0.9]),
        part in prop::array::uniform3(0.0..1.0f64),
    ) {
        let scan = scan_in(orientation, shape, spacing_mm, shear);
        let (_folder, path) = file(&ScalarVolume { data: scan.data.mapv(|value| (value + 150.0) % 251.0), affine: scan.affine });
        let (labels, header) = nifti::read_labels(&path).unwrap();
        let grid = MODEL.of(&header.grid()).unwrap();
        let whole = resample_nearest(&reorient(&labels, Orientation::RAS), &grid);
        let map = LabelScan::open(&path, &header.grid(), &grid).unwrap();
        for region in [Box3 { start: [0; 3], shape: grid.shape }, part_of(grid.shape, part)] {
            let mut found = Array3::from_elem(region.shape.f(), 255);
            let (mut planes, mut plane) = (map.planes(&region).unwrap(), Vec::new());
            while let Some(z) = planes.next_plane(&mut plane).unwrap() {
                for (i, &label) in plane.iter().enumerate() {
                    found[[i % region.shape[0], i / region.shape[0], z - region.start[2]]] = label;
                }
            }
            prop_assert_eq!(found, region.of(&whole.data).to_owned());
        }
        let mut counts = [0; 256];
        labels.data.iter().for_each(|&label| counts[usize::from(label)] += 1);
        prop_assert_eq!(nifti::count_labels(&path, &[]).unwrap().0, counts);
    }

    #[test]
    fn voxels_that_are_picked_from_slices_are_those_of_the_whole_volume(
        orientation in prop::sample::select(Orientation::all().collect::<Vec<_>>()),
        shape in prop::array::uniform3(1usize..12),
        spacing_mm in prop::array::uniform3(0.4..5.0f64),
        shear in prop::sample::select(vec![0.0, 0.0, 0.2]),
        level in 0.0..1.0f64,
        turned in prop::sample::select(Orientation::all().collect::<Vec<_>>()),
    ) {
        let scan = scan_in(orientation, shape, spacing_mm, shear);
        let (_folder, path) = file(&ScalarVolume { data: scan.data.mapv(|value| (value + 150.0) % 251.0), affine: scan.affine });
        let (values, header) = nifti::read_scalar(&path).unwrap();
        let labels = nifti::read_labels(&path).unwrap().0;
        let mut whole = MODEL.of(&header.grid()).unwrap();
        let slice = (level * whole.shape[2] as f64) as usize;
        whole = whole.cropped(&Box3 { start: [0, 0, slice], shape: [usize::MAX, usize::MAX, 1] });
        let targets = [whole, header.grid().reoriented(turned)];
        let linear = pick_linear(&SlicedFile::<f32>::open(&path).unwrap(), &targets).unwrap();
        let nearest = pick_nearest(&SlicedFile::<u8>::open(&path).unwrap(), &targets).unwrap();
        for (n, target) in targets.iter().enumerate() {
            prop_assert_eq!(&linear[n], &resample_linear(&values, target));
            prop_assert_eq!(&nearest[n], &resample_nearest(&labels, target));
        }
    }

    #[test]
    fn slices_of_labels_in_a_part_of_a_grid_are_those_of_the_whole_map(
        orientation in prop::sample::select(Orientation::all().collect::<Vec<_>>()),
        shape in prop::array::uniform3(1usize..12),
        spacing_mm in prop::array::uniform3(0.4..5.0f64),
        shear in prop::sample::select(vec![0.0, 0.0, 0.2, 0.9]),
        part in prop::array::uniform3(0.0..1.0f64),
        outside in prop::sample::select(vec![0u8, 255]),
    ) {
        let target = scan_in(orientation, shape, spacing_mm, shear).grid();
        let grid = MODEL.of(&target).unwrap();
        let region = part_of(grid.shape, part);
        let labels = Array3::from_shape_fn(region.shape.f(), |(x, y, z)| 1 + ((x + 5 * y + 29 * z) % 250) as u8);
        let embedded = LabelVolume { data: embedded_in(&labels, &region, grid.shape, outside), affine: grid.affine };
        let whole = resample_nearest(&embedded, &target);
        let values: Vec<u8> = labels.t().iter().copied().collect();
        let slices = NearestSlices::inside(&values, &region, outside, &grid, &target);
        let mut slice = vec![0; shape[0] * shape[1]];
        for z in 0..shape[2] {
            slices.write(z, &mut slice);
            let expected: Vec<u8> = whole.data.index_axis(ndarray::Axis(2), z).t().iter().copied().collect();
            prop_assert_eq!(&slice, &expected, "slice {}", z);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn planes_are_those_of_the_whole_volume_and_labels_find_back(
        orientation in prop::sample::select(Orientation::all().collect::<Vec<_>>()),
        shape in prop::array::uniform3(1usize..12),
        spacing_mm in prop::array::uniform3(0.4..5.0f64),
        shear in prop::sample::select(vec![0.0, 0.0, 0.2, 0.9]),
        part in prop::array::uniform3(0.0..1.0f64),
    ) {
        let (_folder, path) = file(&scan_in(orientation, shape, spacing_mm, shear));
        let (image, header) = nifti::read_scalar(&path).unwrap();
        let whole = MODEL.prepare(image).unwrap();
        let scan = Scan::open(&path, &MODEL).unwrap();
        prop_assert_eq!(scan.grid(), whole.grid());

        let region = part_of(whole.grid().shape, part);
        for region in [scan.whole(), region] {
            prop_assert_eq!(planes_of(&scan, &region), region.of(&whole.data).to_owned());
        }

        // Every voxel of the region another label than its neighbours, and back.
        let labels = Array3::from_shape_fn(region.shape.f(), |(x, y, z)| 1 + ((x + 5 * y + 29 * z) % 250) as u8);
        let on_model = LabelVolume { data: embedded_in(&labels, &region, whole.grid().shape, 0), affine: whole.affine };
        let out = path.with_file_name("a.nii.gz");
        let mut back = scan.labels_to(&out, &region).unwrap();
        let mut zs: Vec<usize> = (0..region.shape[2]).collect();
        if scan.runs_down() {
            zs.reverse();
        }
        for z in zs {
            let plane: Vec<u8> = labels.index_axis(ndarray::Axis(2), z).t().iter().copied().collect();
            back.add(region.start[2] + z, &plane).unwrap();
        }
        prop_assert!(!out.exists(), "a label map appears when it is whole");
        back.finish().unwrap();
        let (found, _) = nifti::read_labels(&out).unwrap();
        prop_assert_eq!(found, resample_nearest(&on_model, &header.grid()));
    }

    #[test]
    fn the_foreground_is_that_of_the_whole_volume(
        orientation in prop::sample::select(Orientation::all().collect::<Vec<_>>()),
        at in prop::array::uniform3(0usize..9),
    ) {
        let mut image = scan_in(orientation, [9, 9, 9], [1.3, 1.0, 2.0], 0.0);
        image.data.fill(-1000.0);
        let (_air_folder, air) = file(&image);
        prop_assert!(Scan::open(&air, &MODEL).unwrap().foreground().is_err());
        image.data[at] = 40.0;
        let (_folder, path) = file(&image);
        let whole = MODEL.prepare(nifti::read_scalar(&path).unwrap().0).unwrap();
        match volume::foreground_box(&whole, 0.0) {
            Some(expected) => prop_assert_eq!(Scan::open(&path, &MODEL).unwrap().foreground().unwrap(), expected),
            None => prop_assert!(Scan::open(&path, &MODEL).unwrap().foreground().is_err()),
        }
    }
}

/// A patient, round and 200 mm wide, on a table: a shell of 6 mm that is wider than he is, with air between.
fn patient_on_a_table(orientation: Orientation) -> ScalarVolume {
    let mut image = scan_in(orientation, [110, 110, 110], [3.0; 3], 0.0);
    let affine = image.affine;
    let middle = image.grid().affine.apply(&[54.5; 3]);
    for (at, value) in image.data.indexed_iter_mut() {
        let place = affine.apply(&[at.0 as f64, at.1 as f64, at.2 as f64]);
        let [x, y, z] = std::array::from_fn(|axis| place[axis] - middle[axis]);
        *value = match () {
            () if x.hypot(y) < 100.0 && z.abs() < 120.0 => 40.0,
            () if (-112.0..-106.0).contains(&y) => 100.0,
            () => -1000.0,
        };
    }
    image
}

#[test]
fn the_body_is_found_without_the_table() {
    for orientation in ["RAS", "LPI", "ASR"].map(|text| text.parse().unwrap()) {
        let image = patient_on_a_table(orientation);
        let (_folder, path) = file(&image);
        let scan = Scan::open(&path, &MODEL).unwrap();
        let (body, foreground) = (scan.body().unwrap(), scan.foreground().unwrap());
        let spacing_mm = scan.grid().spacing_mm();
        let sides = |found: &Box3| -> [f64; 3] { std::array::from_fn(|axis| found.shape[axis] as f64 * spacing_mm[axis]) };
        for (side, thickness) in sides(&body).into_iter().zip([200.0, 200.0, 240.0]) {
            assert!((thickness..thickness + 36.0).contains(&side), "{orientation}: {side} mm of {thickness}");
        }
        assert!(sides(&foreground)[0] > 300.0, "the table is in the foreground");
        let inside = |plane: f32| plane == 0.0;
        let whole = planes_of(&scan, &scan.whole());
        let missed = whole.indexed_iter().filter(|((x, y, z), value)| {
            let at = [*x, *y, *z];
            let place = scan.grid().affine.apply(&at.map(|v| v as f64));
            let in_patient = (place[1] - image.grid().affine.apply(&[54.5; 3])[1]) > -100.0;
            in_patient
                && !inside(**value)
                && (0..3).any(|axis| at[axis] < body.start[axis] || at[axis] >= body.start[axis] + body.shape[axis])
        });
        assert_eq!(missed.count(), 0, "{orientation}: nothing of the patient is cut off");
    }
}

#[test]
fn a_scan_of_air_shows_no_body() {
    let mut image = scan_in(Orientation::LPS, [20, 20, 9], [2.0; 3], 0.0);
    image.data.fill(-3024.0);
    let (_folder, path) = file(&image);
    let error = Scan::open(&path, &MODEL).unwrap().body().unwrap_err().to_string();
    assert!(error.contains("a_0000.nii.gz") && error.contains("expected a body"), "{error}");
}

/// Writes the scan once more, as floats, of which one is not a number.
fn put_nan(path: &std::path::Path, voxel: usize, scan: &ScalarVolume) {
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(std::fs::File::open(path).unwrap()).read_to_end(&mut bytes).unwrap();
    bytes.truncate(352);
    bytes[70..74].copy_from_slice(&[16, 0, 32, 0]);
    bytes.extend(scan.data.t().iter().enumerate().flat_map(|(i, v)| if i == voxel { f32::NAN } else { *v }.to_le_bytes()));
    let mut packed = flate2::write::GzEncoder::new(std::fs::File::create(path).unwrap(), flate2::Compression::fast());
    packed.write_all(&bytes).unwrap();
    packed.finish().unwrap();
}

#[test]
fn what_is_wrong_with_a_scan_is_found_by_a_pass_over_all_of_it() {
    for (orientation, bad) in [("RAS", [0, 0, 19]), ("LPI", [3, 2, 0]), ("ASR", [1, 19, 1])] {
        let image = scan_in(orientation.parse().unwrap(), [20, 20, 20], [2.0; 3], 0.0);
        let (_folder, path) = file(&image);
        put_nan(&path, bad[0] + 20 * (bad[1] + 20 * bad[2]), &image);
        let scan = Scan::open(&path, &MODEL).unwrap();
        let mut planes = scan.planes(&scan.whole()).unwrap();
        let all = (0..=scan.grid().shape[2]).try_for_each(|_| planes.next_plane().map(|_| ()));
        for error in [all.unwrap_err(), scan.foreground().unwrap_err(), scan.body().unwrap_err()] {
            let error = error.to_string();
            assert!(error.contains("a_0000.nii.gz") && error.contains("NaN"), "{orientation}: {error}");
        }
    }
}

#[test]
fn labels_of_another_place_are_refused_with_both_boxes() {
    let (_folder, path) = file(&scan_in(Orientation::LPS, [40, 40, 20], [2.0; 3], 0.3));
    let header = nifti::read_header(&path).unwrap();
    let grid = MODEL.of(&header.grid()).unwrap();
    let out = path.with_file_name("a.nii.gz");
    let moved = |mm: [f64; 3]| {
        let origin = grid.affine.origin_mm();
        let columns = std::array::from_fn(|axis| grid.affine.column(axis));
        let affine = Affine::from_columns(columns, std::array::from_fn(|axis| origin[axis] + mm[axis]));
        nifti::write_nearest(&out, &LabelVolume::filled(&Grid { affine, ..grid }, 3), &header)
    };
    for near in [[0.0; 3], [1.0, -1.0, 0.5], [0.0, 0.0, 15.0]] {
        moved(near).unwrap();
    }
    for far in [[0.0, 0.0, 1700.0], [-1700.0, 0.0, 0.0], [0.0, 0.0, -25.0], [45.0, 45.0, 0.0]] {
        let error = moved(far).unwrap_err().to_string();
        assert!(error.contains("the label map lies at x ") && error.contains("the image at x "), "{far:?}: {error}");
    }
}

#[test]
fn what_speaks_against_hounsfield_units_is_known_after_a_pass_over_all_of_a_scan() {
    for orientation in ["RAS", "LPI", "ASR"].map(|text| text.parse().unwrap()) {
        let mut image = patient_on_a_table(orientation);
        let (_folder, path) = file(&image);
        image.data.mapv_inplace(|hu| hu + 1024.0);
        let (_stored_folder, stored) = file(&image);
        for (path, expected) in [(path, None), (stored, Some(DoubtKind::Offset))] {
            let scan = Scan::open(&path, &MODEL).unwrap();
            assert_eq!(scan.doubt(), None, "nothing has been read");
            scan.body().unwrap();
            assert_eq!(scan.doubt().map(|doubt| doubt.kind), expected, "{orientation}");
            assert_eq!(scan.doubt(), Intensities::of(&nifti::read_scalar(&path).unwrap().0).doubt());
            let scan = Scan::open(&path, &MODEL).unwrap();
            let mut planes = scan.planes(&scan.whole()).unwrap();
            while planes.next_plane().unwrap().is_some() {}
            assert_eq!(scan.doubt().map(|doubt| doubt.kind), expected, "{orientation}");
        }
    }
}
