//! What drawn changes do to boxes. `tests/data/augment.py` has written what other programs make of the same numbers.

use std::collections::BTreeMap;

use prepared::{Layout, Patch};
use safetensors::SafeTensors;
use training::{Augmentation, Brightness, Geometry, Noise};

struct Golden(Vec<u8>);

impl Golden {
    fn open() -> Self {
        Self(std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/augment.safetensors")).unwrap())
    }

    fn bytes(&self, name: &str) -> (Vec<u8>, Vec<usize>) {
        let all = SafeTensors::deserialize(&self.0).unwrap();
        let tensor = all.tensor(name).unwrap();
        (tensor.data().to_vec(), tensor.shape().to_vec())
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        self.bytes(name).0.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    }

    /// Image and labels, with trust that tells every voxel from its neighbours.
    fn case(&self) -> Patch {
        let (labels, shape) = self.bytes("labels");
        let trust = (0..labels.len()).map(|voxel| (voxel * 7 % 256) as u8).collect();
        let shape = [shape[0], shape[1], shape[2]];
        Patch { shape, image: self.floats("image"), labels: Some(labels), trust: BTreeMap::from([("organ".to_owned(), trust)]) }
    }
}

fn far(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// A box of a case as a file of prepared cases gives it: nothing beyond the case, with full trust.
fn cut(case: &Patch, start: [isize; 3], shape: [usize; 3]) -> Patch {
    let at = |voxel: usize| {
        let place = [voxel / (shape[1] * shape[2]), voxel / shape[2] % shape[1], voxel % shape[2]];
        let inside = |axis: usize| usize::try_from(start[axis] + place[axis] as isize).ok().filter(|&at| at < case.shape[axis]);
        Some((inside(0)? * case.shape[1] + inside(1)?) * case.shape[2] + inside(2)?)
    };
    let voxels = 0..shape.iter().product();
    let bytes = |map: &Vec<u8>, outside: u8| voxels.clone().map(|voxel| at(voxel).map_or(outside, |at| map[at])).collect::<Vec<u8>>();
    Patch {
        shape,
        image: voxels.clone().map(|voxel| at(voxel).map_or(0.0, |at| case.image[at])).collect(),
        labels: case.labels.as_ref().map(|labels| bytes(labels, 0)),
        trust: case.trust.iter().map(|(group, trust)| (group.clone(), bytes(trust, 255))).collect(),
    }
}

/// What a sample shows of a case stored along x, y, z.
fn shown(case: &Patch, geometry: Geometry, spacing_mm: [f64; 3], start: [isize; 3], shape: [usize; 3]) -> Patch {
    let Some(resampling) = geometry.resampling(Layout::Volume, spacing_mm) else { return cut(case, start, shape) };
    let (from, size) = resampling.source(start, shape, case.shape);
    resampling.apply(&cut(case, from, size), from, start, shape)
}

fn three<T>(numbers: &[f32], at: usize, of: impl Fn(f32) -> T) -> [T; 3] {
    [0, 1, 2].map(|axis| of(numbers[at + axis]))
}

#[test]
fn boxes_are_those_of_torch_whatever_the_geometry() {
    let golden = Golden::open();
    let case = golden.case();
    for name in ["turned", "zoomed", "all", "in_plane", "beyond", "sagittal"] {
        let numbers = golden.floats(&format!("{name}.numbers"));
        // What was written in single precision was a short decimal number.
        let decimal = |number: f32| f64::from((f64::from(number) * 1e4).round() as i32) / 1e4;
        let (degrees, zoom, mirror) = (three(&numbers, 0, decimal), three(&numbers, 3, decimal), three(&numbers, 6, |flag| flag == 1.0));
        let geometry = Geometry { degrees, zoom, mirror };
        let (start, shape) = (three(&numbers, 12, |voxel| voxel as isize), three(&numbers, 15, |voxels| voxels as usize));
        let made = shown(&case, geometry, three(&numbers, 9, decimal), start, shape);
        let error = far(&made.image, &golden.floats(&format!("{name}.image")));
        assert!(error < 2e-6, "{name}: {error}");
        let ((labels, _), (clear, _)) = (golden.bytes(&format!("{name}.labels")), golden.bytes(&format!("{name}.clear")));
        let made = made.labels.unwrap();
        let wrong = (0..labels.len()).filter(|&voxel| clear[voxel] == 1 && made[voxel] != labels[voxel]).count();
        assert_eq!(wrong, 0, "{name}: of {} labels", labels.len());
        assert!(clear.iter().filter(|clear| **clear == 1).count() > labels.len() * 95 / 100, "{name}");
    }
}

#[test]
fn slices_are_resampled_as_patches_of_one_slice() {
    let golden = Golden::open();
    let case = golden.case();
    let [x, y, z] = case.shape;
    let transposed = |from: &[u8]| (0..z).flat_map(|k| (0..x * y).map(move |at| from[at * z + k])).collect::<Vec<u8>>();
    let image = (0..z).flat_map(|k| (0..x * y).map(move |at| (at, k))).map(|(at, k)| case.image[at * z + k]).collect();
    let trust = case.trust.iter().map(|(group, map)| (group.clone(), transposed(map))).collect();
    let slices = Patch { shape: [z, x, y], image, labels: case.labels.as_deref().map(transposed), trust };
    let geometry = Geometry { degrees: [0.0, 0.0, -73.0], zoom: [1.3, 0.9, 1.0], mirror: [true, false, false] };
    let spacing_mm = [0.7, 0.9, 5.0];
    let resampling = geometry.resampling(Layout::Slices, spacing_mm).unwrap();
    let (start, shape) = ([9, 4, 3], [1, 12, 11]);
    let (from, size) = resampling.source(start, shape, slices.shape);
    assert_eq!((from[0], size[0]), (9, 1), "of other slices nothing is read");
    let slice = resampling.apply(&cut(&slices, from, size), from, start, shape);
    let patch = shown(&case, geometry, spacing_mm, [4, 3, 9], [12, 11, 1]);
    assert!(far(&slice.image, &patch.image) < 1e-6);
    assert_eq!((slice.labels, slice.trust), (patch.labels, patch.trust));
}

#[test]
fn image_labels_and_trust_move_together() {
    let mut case = Golden::open().case();
    // One label, and an image and trust that say where it is.
    let labels: Vec<u8> = case.labels.iter().flatten().map(|&label| u8::from(label > 2)).collect();
    case.image = labels.iter().map(|&label| f32::from(label)).collect();
    case.trust.insert("cancer".into(), labels.iter().map(|label| label * 255).collect());
    case.labels = Some(labels);
    for geometry in [
        Geometry { degrees: [10.0, 20.0, 30.0], zoom: [1.1, 0.9, 1.0], mirror: [false, true, false] },
        Geometry { degrees: [0.0, 0.0, 30.0], ..Geometry::default() },
        Geometry { mirror: [true, false, true], ..Geometry::default() },
    ] {
        let made = shown(&case, geometry, [1.0; 3], [4, 4, 3], [12, 10, 9]);
        let (mut inside, mut trusted) = (0, 0);
        for ((value, label), trust) in made.image.iter().zip(made.labels.unwrap()).zip(&made.trust["cancer"]) {
            // More than half of the neighbourhood.
            assert!((value - 0.5).abs() < 1e-5 || label == u8::from(*value > 0.5), "{value}: {label}");
            // All of it.
            assert!((1e-6..1.0 - 1e-6).contains(value) || *trust == 255 * label, "{value}: {trust}");
            inside += u32::from(label);
            trusted += u32::from(*trust == 255);
        }
        assert!((300..800).contains(&inside) && inside.abs_diff(trusted) < 80, "{inside}, {trusted}");
    }
}

#[test]
fn a_mirror_image_of_a_mirror_image_is_the_box_itself() {
    let case = Golden::open().case();
    for mirror in (1..8).map(|flags| [0, 1, 2].map(|axis| flags >> axis & 1 == 1)) {
        let geometry = Geometry { mirror, ..Geometry::default() };
        let (start, shape) = ([0; 3], case.shape);
        let once = shown(&case, geometry, [1.0, 2.0, 3.0], start, shape);
        assert_ne!(once, case);
        assert_eq!(shown(&once, geometry, [1.0, 2.0, 3.0], start, shape), case, "{mirror:?}");
        let place = |at: usize| if mirror[0] { shape[0] - 1 - at } else { at };
        let mirrored_back = |axis: usize, at: usize| if mirror[axis] { shape[axis] - 1 - at } else { at };
        let voxel = |[i, j, k]: [usize; 3]| (i * shape[1] + j) * shape[2] + k;
        assert_eq!(once.image[voxel([2, 3, 4])], case.image[voxel([place(2), mirrored_back(1, 3), mirrored_back(2, 4)])]);
    }
}

#[test]
fn four_quarter_turns_are_none_to_rounding_and_full_zoom_reaches_no_empty_corner() {
    let mut case = Golden::open().case();
    let whole = shown(&case, Geometry { degrees: [0.0, 0.0, 360.0], ..Geometry::default() }, [1.0; 3], [3, 3, 3], [9, 9, 9]);
    assert!(far(&whole.image, &cut(&case, [3, 3, 3], [9, 9, 9]).image) < 1e-5);
    // Everything in the case is bright; so is everything that a box in the middle shows of it.
    case.image.fill(1.0);
    for degrees in [[45.0, 0.0, 0.0], [0.0, 45.0, 45.0], [30.0, 30.0, 30.0], [0.0, 0.0, 45.0]] {
        let made = shown(&case, Geometry { degrees, zoom: [1.2; 3], ..Geometry::default() }, [1.0; 3], [8, 6, 5], [6, 6, 6]);
        assert!(made.image.iter().all(|value| (value - 1.0).abs() < 1e-5), "{degrees:?}");
    }
}

#[test]
fn no_box_is_too_far_out_too_thin_or_too_large() {
    let case = Golden::open().case();
    let oblique = Geometry { degrees: [17.0, -9.0, 33.0], zoom: [1.4; 3], mirror: [true; 3] };
    let one_axis = |degrees| Geometry { degrees, ..Geometry::default() };
    let along_z = Geometry { zoom: [1.0, 1.0, 1.3], ..Geometry::default() };
    for geometry in [oblique, one_axis([33.0, 0.0, 0.0]), one_axis([0.0, 33.0, 0.0]), one_axis([0.0, 0.0, 33.0]), along_z] {
        for (start, shape) in [([90, 0, 0], [4, 5, 6]), ([-50, -50, -50], [4, 5, 6]), ([3, 3, 3], [1, 1, 1]), ([-20; 3], [60, 60, 60])] {
            let (from, size) = geometry.resampling(Layout::Volume, [1.0; 3]).unwrap().source(start, shape, case.shape);
            let kept = |axis: usize| (from[axis], size[axis]) == (start[axis], shape[axis]);
            assert!(
                (0..3).all(|axis| kept(axis) || (from[axis] >= -1 && from[axis] + size[axis] as isize <= case.shape[axis] as isize + 1))
            );
            let made = shown(&case, geometry, [1.0; 3], start, shape);
            assert!(made.image.iter().all(|value| (0.0..=1.0).contains(value)));
            let outside = start[0].abs() > 40;
            assert!(!outside || (made.image.iter().all(|value| *value == 0.0) && made.trust["organ"].iter().all(|trust| *trust == 255)));
        }
    }
}

#[test]
fn intensities_are_those_of_batchgenerators() {
    let golden = Golden::open();
    let case = golden.case();
    let made = |change: Augmentation| {
        let mut image = case.image.clone();
        change.apply(&mut image, case.shape, Layout::Volume);
        image
    };
    let none = Augmentation::default();
    let mut held = vec![
        ("gamma.0.7.False", Augmentation { gamma: Some(0.7), ..none }),
        ("gamma.1.5.False", Augmentation { gamma: Some(1.5), ..none }),
        ("gamma.0.7.True", Augmentation { gamma_inverted: Some(0.7), ..none }),
        ("gamma.1.4.True", Augmentation { gamma_inverted: Some(1.4), ..none }),
        ("contrast.0.75", Augmentation { contrast: Some(0.75), ..none }),
        ("contrast.1.25", Augmentation { contrast: Some(1.25), ..none }),
        ("blur", Augmentation { blur: Some([0.5, 0.8, 1.0]), ..none }),
    ];
    held.extend([("low.0.5", 0.5), ("low.0.63", 0.63), ("low.0.97", 0.97)].map(|(name, kept)| {
        let low_resolution = Some([kept; 3]);
        (name, Augmentation { low_resolution, ..none })
    }));
    for (name, change) in held {
        let found = made(change);
        assert!(far(&found, &case.image) > 0.01, "{name} does something");
        let error = far(&found, &golden.floats(name));
        assert!(error < 2e-6, "{name}: {error}");
    }
    let brightness = Some(Brightness { factor: 1.2, about: 0.5 });
    let expected: Vec<f32> = case.image.iter().map(|value| (value - 0.5) * 1.2 + 0.5 + 0.07).collect();
    assert!(far(&made(Augmentation { brightness, offset: 0.07, ..none }), &expected) < 1e-6);
    // Both in one pass are one after the other.
    let mut expected = expected;
    Augmentation { contrast: Some(0.8), ..none }.apply(&mut expected, case.shape, Layout::Volume);
    assert!(far(&made(Augmentation { brightness, offset: 0.07, contrast: Some(0.8), ..none }), &expected) < 1e-6);
}

#[test]
fn no_change_changes_no_bit_and_no_change_depends_on_the_number_of_threads() {
    let none = Augmentation::default();
    assert_eq!(none.geometry.resampling(Layout::Slices, [0.7, 0.7, 5.0]), None);
    let shape = [40, 70, 60];
    let image: Vec<f32> = (0..shape.iter().product()).map(|voxel: usize| (voxel * 7919 % 1000) as f32 / 999.0 - 0.1).collect();
    let bits = |image: &[f32]| image.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    let mut same = image.clone();
    none.apply(&mut same, shape, Layout::Volume);
    assert_eq!(bits(&same), bits(&image));
    let everything = Augmentation {
        noise: Some(Noise { std: 0.05, seed: 9 }),
        scale: 0.1,
        shift: -0.1,
        blur: Some([0.6, 0.9, 0.7]),
        brightness: Some(Brightness { factor: 0.8, about: 0.5 }),
        offset: 0.03,
        contrast: Some(1.2),
        low_resolution: Some([0.7; 3]),
        gamma_inverted: Some(0.8),
        gamma: Some(1.3),
        geometry: Geometry { degrees: [5.0, 8.0, 30.0], zoom: [1.2; 3], mirror: [false, true, false] },
    };
    let changed = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let case = Patch { shape, image: image.clone(), labels: None, trust: BTreeMap::new() };
        pool.install(|| {
            let mut image = shown(&case, everything.geometry, [1.0; 3], [5, 5, 5], [33, 50, 47]).image;
            everything.apply(&mut image, [33, 50, 47], Layout::Volume);
            bits(&image)
        })
    };
    assert_eq!(changed(1), changed(3));
    // A box without any difference has no range to speak of.
    let mut flat = vec![0.25; 5 * 6 * 7];
    Augmentation { noise: None, ..everything }.apply(&mut flat, [5, 6, 7], Layout::Volume);
    assert!(flat.iter().all(|value| value.is_finite()));
}
