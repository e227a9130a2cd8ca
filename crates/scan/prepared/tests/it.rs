//! What is written is what is read, box by box.

use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use labels::{Classes, LabelPattern, Regions, flare23};
use ndarray::{Array3, ShapeBuilder as _};
use prepared::{
    CaseArrays, CaseInfo, CropBox, GridRecord, INDEX_FILE, Index, Intensities, LabelSource, Layout, PreparedCase, PreparedError,
    PreparedSet, write_case,
};
use proptest::prelude::*;

struct Example {
    image: Array3<f32>,
    labels: Array3<u8>,
}

/// Stored x-fastest, as volumes from NIfTI are.
fn example(shape: [usize; 3]) -> Example {
    let place = |(x, y, z): (usize, usize, usize)| x * 7 + y * 31 + z * 101;
    Example {
        image: Array3::from_shape_fn(shape.f(), |at| (place(at) % 1001) as f32 / 1000.0),
        labels: Array3::from_shape_fn(shape.f(), |at| (place(at) % 15) as u8),
    }
}

fn info(layout: Layout, shape: [usize; 3]) -> CaseInfo {
    let affine = [[1.0, 0.0, 0.0, -5.5], [0.0, 1.0, 0.0, 2.0], [0.0, 0.0, 2.5, 0.1], [0.0, 0.0, 0.0, 1.0]];
    let annotated = flare23::classes().pattern();
    CaseInfo {
        id: "case_1".into(),
        dataset: "flare23".into(),
        layout,
        subset: "D_l3".into(),
        spacing_mm: [1.0, 1.0, 2.5],
        grid: GridRecord { shape, affine },
        original_grid: GridRecord { shape: [512, 512, 40], affine },
        crop: CropBox { start: [1, 2, 3], shape },
        window_hu: [-200.0, 300.0],
        annotated,
        regions: Regions::plain(annotated),
        source: Some(LabelSource::True),
        trust: None,
    }
}

fn index(layout: Layout, classes: Classes) -> Index {
    let spacing_mm = [Some(1.0), Some(1.0), None];
    Index { layout, spacing_mm, window_hu: [-200.0, 300.0], crop_foreground: true, classes, regions: Vec::new(), cases: Vec::new() }
}

fn arrays(example: &Example) -> CaseArrays<'_> {
    CaseArrays::new(example.image.view(), Some(example.labels.view()))
}

fn bytes(example: &Example, info: &CaseInfo) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_case(&mut bytes, &arrays(example), info).unwrap();
    bytes
}

fn make_file(path: &Path, fill: impl FnOnce(&mut std::fs::File)) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    fill(&mut std::fs::File::create(path).unwrap());
}

fn written(folder: &Path, example: &Example, info: &CaseInfo) -> PathBuf {
    let path = prepared::case_path(folder, &info.id);
    make_file(&path, |file| file.write_all(&bytes(example, info)).unwrap());
    path
}

/// What a box of `array` should hold, voxel by voxel.
fn expected<T: Copy + Default>(array: &Array3<T>, layout: Layout, start: [isize; 3], shape: [usize; 3]) -> Vec<T> {
    let stored = array.view().permuted_axes(layout.axes());
    let mut values = Vec::new();
    for i in 0..shape[0] {
        for j in 0..shape[1] {
            for k in 0..shape[2] {
                let at =
                    [(0, i), (1, j), (2, k)].map(|(axis, offset)| usize::try_from(start[axis] + offset as isize).unwrap_or(usize::MAX));
                values.push(stored.get(at).copied().unwrap_or_default());
            }
        }
    }
    values
}

#[test]
fn a_case_comes_back_with_its_voxels_and_all_that_is_known_of_it() {
    let folder = tempfile::tempdir().unwrap();
    for layout in [Layout::Volume, Layout::Slices] {
        let (example, info) = (example([19, 5, 3]), info(layout, [19, 5, 3]));
        let case = PreparedCase::open(&written(folder.path(), &example, &info)).unwrap();
        assert_eq!(case.info(), &info);
        assert_eq!(case.shape(), layout.stored([19, 5, 3]));
        assert_eq!(case.spacing_mm(), layout.stored([1.0, 1.0, 2.5]));
        let all = case.read_box([0, 0, 0], case.shape()).unwrap();
        assert_eq!(all.image, expected(&example.image, layout, [0; 3], case.shape()), "multiples of 1/1000 are exact");
        assert_eq!(all.labels.unwrap(), expected(&example.labels, layout, [0; 3], case.shape()));
        assert!(all.trust.is_empty());
    }
}

#[test]
fn trust_goes_with_the_labels_of_each_group_and_air_around_a_case_is_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let (example, mut info) = (example([5, 4, 3]), info(Layout::Slices, [5, 4, 3]));
    let groups = ["organ", "cancer", "vessel"].map(str::to_owned);
    info.trust = Some(groups.iter().cloned().zip([0.25, 0.0, 1.0]).collect());
    let maps = [example.labels.mapv(|label| label * 17), example.labels.mapv(|label| label / 14), Array3::from_elem((5, 4, 3), 255)];
    let trust = maps.iter().map(|map| map.view()).collect();
    let arrays = CaseArrays { trust_groups: groups.to_vec(), trust, ..arrays(&example) };
    let path = prepared::case_path(folder.path(), &info.id);
    make_file(&path, |file| write_case(file, &arrays, &info).unwrap());
    let case = PreparedCase::open(&path).unwrap();
    assert_eq!(case.trust_groups().collect::<Vec<_>>(), ["cancer", "organ", "vessel"]);
    let mut index = index(Layout::Slices, flare23::classes());
    index.add(&case, dataset::Split::Training);
    assert_eq!((&case.info().trust, &index.cases[0].trust), (&info.trust, &info.trust));
    let text = serde_json::to_string(&index).unwrap();
    assert_eq!(serde_json::from_str::<Index>(&text).unwrap(), index);

    let patch = case.read_box([-1, 0, 0], [2, 5, 4]).unwrap();
    for (group, map) in groups.iter().zip(&maps) {
        let trust = &patch.trust[group];
        assert!(trust[..20].iter().all(|&trust| trust == labels::FULL_TRUST), "the plane before the first");
        assert_eq!(trust[20..], expected(map, Layout::Slices, [0; 3], [1, 5, 4]), "{group}");
    }
    assert_eq!(patch.labels.unwrap()[..20], [0; 20]);
}

#[test]
fn a_label_map_keeps_the_values_of_its_dataset_above_14_and_those_that_show_two_classes() {
    let classes: Classes =
        serde_json::from_str(r#"[{"group": "organ", "classes": {"kidney": 40}}, {"group": "cancer", "classes": {"tumor": 200}}]"#).unwrap();
    let declared = [("kidney", vec![101, 250]), ("tumor", vec![250])].map(|(key, values)| (key.to_owned(), values));
    let regions = Regions::declared(&classes, &declared.into(), &[7]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let labels = Array3::from_shape_fn((4, 3, 2), |(x, y, _)| if y == 1 { [7, 101, 250, 0][x] } else { 0 });
    let example = Example { labels, ..example([4, 3, 2]) };
    let info = CaseInfo { annotated: classes.pattern(), regions: regions.clone(), ..info(Layout::Volume, [4, 3, 2]) };
    let case = PreparedCase::open(&written(folder.path(), &example, &info)).unwrap();
    assert_eq!(case.read_box([0; 3], [4, 3, 2]).unwrap().labels.unwrap(), expected(&example.labels, Layout::Volume, [0; 3], [4, 3, 2]));
    assert_eq!(case.info().regions, regions);

    let mut index = index(Layout::Volume, classes.clone());
    (0..3).for_each(|_| index.add(&case, dataset::Split::Training));
    assert_eq!((index.regions.len(), index.cases[2].regions), (1, 0), "each meaning stands once");
    std::fs::write(folder.path().join(INDEX_FILE), serde_json::to_string(&index).unwrap()).unwrap();
    let set = PreparedSet::open(folder.path(), &["case_1"]).unwrap();
    let shown = |class: u8| (0..=255).filter(|&value| set.values_of(0, LabelPattern::of(class))[usize::from(value)]).collect::<Vec<u8>>();
    assert_eq!((shown(40), shown(200), set.regions(0)), (vec![101, 250], vec![250], &regions));
    let found = |class: u8| set.label_box(0, &set.values_of(0, LabelPattern::of(class))).unwrap();
    assert_eq!((found(40), found(200)), (Some([1..3, 1..2, 0..2]), Some([2..3, 1..2, 0..2])));
}

#[test]
fn a_case_that_nobody_has_weighed_says_nothing_of_trust() {
    let info = info(Layout::Volume, [4, 3, 2]);
    let bytes = bytes(&example([4, 3, 2]), &info);
    assert!(!String::from_utf8_lossy(&bytes).contains("trust"));
}

/// The values of `zarr_python`, written by `zarr_python.py` beside it.
fn golden(kind: &str) -> (PathBuf, Example) {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let place = |(x, y, z): (usize, usize, usize)| if x < 6 { 0 } else { x * 7 + y * 31 + z * 101 };
    let example = Example {
        image: Array3::from_shape_fn([13, 11, 9], |at| (place(at) % 1001) as f32 / 1000.0),
        labels: Array3::from_shape_fn([13, 11, 9], |at| (place(at) % 15) as u8),
    };
    (data.join(format!("{kind}.zarr.zip")), example)
}

#[test]
fn what_zarr_python_writes_is_read() {
    for (kind, layout) in [("volume", Layout::Volume), ("slices", Layout::Slices)] {
        let (path, example) = golden(kind);
        let case = PreparedCase::open(&path).unwrap();
        assert_eq!((case.info().layout, case.scale(), case.info()), (layout, 1000, &info(layout, [13, 11, 9])));
        for (start, shape) in [([0; 3], case.shape()), ([-2, 3, 1], [9, 20, 5]), ([4, 4, 4], [3, 1, 2])] {
            let patch = case.read_box(start, shape).unwrap();
            assert_eq!(patch.image, expected(&example.image, layout, start, shape));
            assert_eq!(patch.labels.unwrap(), expected(&example.labels, layout, start, shape));
        }
    }
}

#[test]
fn a_file_is_a_zip_of_stored_entries_and_its_metadata_are_those_of_zarr_v3() {
    let bytes = bytes(&example([40, 140, 70]), &info(Layout::Slices, [40, 140, 70]));
    let mut zip = zip::ZipArchive::new(std::io::Cursor::new(&bytes)).unwrap();
    let mut names = Vec::new();
    for index in 0..zip.len() {
        let mut entry = zip.by_index(index).unwrap();
        assert_eq!(entry.compression(), zip::CompressionMethod::Stored);
        // Reading to the end checks the sum.
        std::io::copy(&mut entry, &mut std::io::sink()).unwrap();
        names.push(entry.name().unwrap().into_owned());
    }
    let shards = |array: &str| [0, 1, 2].map(|slab| format!("{array}/c/{slab}/0/0"));
    let metadata = ["image/zarr.json", "labels/zarr.json", "zarr.json"].map(str::to_owned);
    assert_eq!(names, [&shards("image")[..], &shards("labels"), &metadata].concat());
    let image: serde_json::Value = serde_json::from_reader(zip.by_name("image/zarr.json").unwrap()).unwrap();
    assert_eq!(
        image,
        serde_json::json!({
            "zarr_format": 3, "node_type": "array", "shape": [70, 40, 140], "data_type": "uint16",
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [32, 40, 140]}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": 0,
            "codecs": [{"name": "sharding_indexed", "configuration": {
                "chunk_shape": [1, 40, 70],
                "codecs": [
                    {"name": "numcodecs.pcodec", "configuration": {"level": 6, "mode_spec": "auto", "delta_spec": "auto"}},
                    {"name": "crc32c"},
                ],
                "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}],
                "index_location": "end",
            }}],
            "attributes": {}, "dimension_names": ["z", "x", "y"],
        })
    );
    let group: serde_json::Value = serde_json::from_reader(zip.by_name("zarr.json").unwrap()).unwrap();
    assert_eq!(
        (&group["node_type"], &group["attributes"]["scale"], &group["attributes"]["id"]),
        (&"group".into(), &1000.into(), &"case_1".into())
    );
}

#[test]
fn what_is_empty_is_not_stored() {
    let folder = tempfile::tempdir().unwrap();
    let mut example = example([40, 30, 70]);
    example.image.fill(0.0);
    example.labels.fill(0);
    example.labels[[3, 4, 40]] = 14;
    let path = written(folder.path(), &example, &info(Layout::Slices, [40, 30, 70]));
    let zip = zip::ZipArchive::new(std::fs::File::open(&path).unwrap()).unwrap();
    assert_eq!(zip.file_names().map(Result::unwrap).filter(|name| name.contains("/c/")).collect::<Vec<_>>(), ["labels/c/1/0/0"]);
    let case = PreparedCase::open(&path).unwrap();
    let patch = case.read_box([0; 3], case.shape()).unwrap();
    assert_eq!(patch.labels.as_deref().unwrap(), expected(&example.labels, Layout::Slices, [0; 3], case.shape()));
    assert!(patch.image.iter().all(|value| *value == 0.0));
    let image = case.read_image([1, 2, 3], [4, 5, 6]).unwrap();
    assert_eq!((image.shape, image.image.len(), image.labels), ([4, 5, 6], 120, None));
}

#[test]
fn quantisation_errs_by_at_most_half_a_step_and_clamps() {
    let folder = tempfile::tempdir().unwrap();
    let mut image = Array3::from_shape_fn((11, 13, 17), |(x, y, z)| ((x * 221 + y * 17 + z) as f32 / 2431.0).sin().abs());
    image[[0, 0, 0]] = -0.5;
    image[[0, 0, 1]] = 1.5;
    image[[0, 0, 2]] = f32::NAN;
    let info = CaseInfo { annotated: LabelPattern::EMPTY, source: None, ..info(Layout::Volume, [11, 13, 17]) };
    let path = folder.path().join("case.zarr.zip");
    write_case(&mut std::fs::File::create(&path).unwrap(), &CaseArrays::new(image.view(), None), &info).unwrap();
    let case = PreparedCase::open(&path).unwrap();
    assert!(!case.has_labels());
    let patch = case.read_box([0; 3], case.shape()).unwrap();
    assert_eq!(patch.image[..3], [0.0, 1.0, 0.0]);
    assert_eq!((patch.labels, case.label_box(&[true; 256]).unwrap()), (None, None));
    for (read, wrote) in patch.image.iter().zip(&image).skip(3) {
        assert!((read - wrote).abs() <= 0.5 / 1000.0 + f32::EPSILON, "{wrote} came back as {read}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_box_is_the_slice_of_the_volume_padded_with_zeros(
        size in [1usize..150, 1usize..140, 1usize..70],
        slices: bool,
        start in [-60isize..150, -60isize..140, -40isize..70],
        shape in [0usize..100, 0usize..90, 0usize..80],
    ) {
        let folder = tempfile::tempdir().unwrap();
        let layout = if slices { Layout::Slices } else { Layout::Volume };
        let (example, info) = (example(size), info(layout, size));
        let patch = PreparedCase::open(&written(folder.path(), &example, &info)).unwrap().read_box(start, shape).unwrap();
        prop_assert_eq!(patch.shape, shape);
        prop_assert_eq!(patch.image, expected(&example.image, layout, start, shape));
        prop_assert_eq!(patch.labels.unwrap(), expected(&example.labels, layout, start, shape));
    }

    #[test]
    fn boxes_and_intensities_of_labels_are_those_of_the_whole_map(
        size in [1usize..40, 1usize..36, 1usize..34],
        slices: bool,
        wanted in prop::collection::vec(0u8..15, 1..3),
        rare in 1usize..4000,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let layout = if slices { Layout::Slices } else { Layout::Volume };
        let (mut example, info) = (example(size), info(layout, size));
        // Most labels become one that is hardly wanted.
        example.labels.iter_mut().enumerate().filter(|(at, _)| at % rare != 0).for_each(|(_, label)| *label = 0);
        let case = PreparedCase::open(&written(folder.path(), &example, &info)).unwrap();
        let values: [bool; 256] = std::array::from_fn(|value| wanted.contains(&(value as u8)));
        let stored = example.labels.view().permuted_axes(layout.axes());
        let places: Vec<[usize; 3]> = stored.indexed_iter().filter(|(_, label)| values[usize::from(**label)]).map(|((i, j, k), _)| [i, j, k]).collect();
        let range = |axis: usize| places.iter().map(|place| place[axis]).min().zip(places.iter().map(|place| place[axis] + 1).max());
        let expected = range(0).zip(range(1)).zip(range(2)).map(|((x, y), z)| [x, y, z].map(|(from, to)| from..to));
        prop_assert_eq!(case.label_box(&values).unwrap(), expected);

        let mut intensities = Intensities::of_window([-200.0, 300.0]);
        case.add_intensities(&values, &mut intensities).unwrap();
        let image = example.image.view().permuted_axes(layout.axes());
        let mut shown: Vec<f64> = places.iter().map(|&place| f64::from(image[place])).collect();
        shown.sort_by(f64::total_cmp);
        prop_assert_eq!(intensities.voxels(), shown.len() as u64);
        if let (Some([mean, deviation]), [Some(least), Some(greatest)]) = (intensities.mean_and_deviation(), [0.0, 1.0].map(|share| intensities.percentile(share))) {
            let voxels = shown.len() as f64;
            let expected = shown.iter().sum::<f64>() / voxels;
            let spread = (shown.iter().map(|value| (value - expected).powi(2)).sum::<f64>() / voxels).sqrt();
            for (found, expected) in [(mean, expected), (deviation, spread), (least, shown[0]), (greatest, shown[shown.len() - 1])] {
                prop_assert!((found - expected).abs() < 1e-7, "{} instead of {}", found, expected);
            }
        }
    }
}

#[test]
fn a_box_far_outside_is_empty_air() {
    let folder = tempfile::tempdir().unwrap();
    let case = PreparedCase::open(&written(folder.path(), &example([4, 4, 4]), &info(Layout::Volume, [4, 4, 4]))).unwrap();
    for start in [[isize::MIN, 0, 0], [0, isize::MAX, 0], [4, 4, 4]] {
        assert_eq!(case.read_box(start, [2, 2, 2]).unwrap().image, [0.0; 8]);
    }
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("case.zarr.zip");
    let whole = bytes(&example([4, 3, 2]), &info(Layout::Volume, [4, 3, 2]));
    for length in 0..whole.len() {
        std::fs::write(&path, &whole[..length]).unwrap();
        let error = PreparedCase::open(&path).unwrap_err().to_string();
        assert!(error.contains("truncated") && error.contains(&format!("{length} bytes")) && error.contains("case.zarr.zip"), "{error}");
        assert!(error.ends_with("delete it and run `preprocess` again"), "{error}");
    }
    std::fs::write(&path, [&whole[..], b"tail"].concat()).unwrap();
    assert!(matches!(PreparedCase::open(&path), Err(PreparedError::Damaged { .. })));
}

#[test]
fn a_damaged_byte_is_found_or_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("case.zarr.zip");
    for layout in [Layout::Volume, Layout::Slices] {
        let (example, mut info) = (example([40, 9, 35]), info(layout, [40, 9, 35]));
        info.trust = Some([("organ".to_owned(), 1.0)].into());
        let trust = Array3::from_elem([40, 9, 35], 255);
        let arrays = CaseArrays { trust_groups: vec!["organ".into()], trust: vec![trust.view()], ..arrays(&example) };
        let mut whole = Vec::new();
        write_case(&mut whole, &arrays, &info).unwrap();
        std::fs::write(&path, &whole).unwrap();
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        let read = || {
            let case = PreparedCase::open(&path)?;
            let patch = case.read_box([-1, 0, 0], [50, 50, 50])?;
            Ok::<_, PreparedError>((case.info().clone(), case.scale(), patch))
        };
        let (undamaged, mut refused) = (read().unwrap(), 0);
        // All of the end, where names and places stand, and some of the voxels.
        let places = (0..whole.len()).filter(|at| at % 67 == 0 || whole.len() - at < 3000);
        for (at, flip) in places.zip([0x01, 0x80, 0xff, 0x10].into_iter().cycle()) {
            file.write_all_at(&[whole[at] ^ flip], at as u64).unwrap();
            match read() {
                Ok(found) => assert!(found == undamaged, "byte {at} of {}", whole.len()),
                Err(error) => {
                    let error = error.to_string();
                    assert!(error.contains("case.zarr.zip") && error.contains("run `preprocess` again"), "{error}");
                    refused += 1;
                }
            }
            file.write_all_at(&[whole[at]], at as u64).unwrap();
        }
        assert!(refused > 2000, "{refused}");
    }
}

/// An archive of entries of text.
fn archive(path: &Path, entries: &[(&str, &str)]) -> String {
    let mut zip = zip::ZipWriter::new(std::fs::File::create(path).unwrap());
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, text) in entries {
        zip.start_file(*name, stored).unwrap();
        zip.write_all(text.as_bytes()).unwrap();
    }
    zip.finish().unwrap();
    let read = |case: PreparedCase| Ok(case.read_box([0; 3], [4, 3, 2])?.shape);
    PreparedCase::open(path).and_then(read).map_or_else(|error: PreparedError| error.to_string(), |shape| format!("{shape:?}"))
}

#[test]
fn a_foreign_file_is_refused_with_what_it_lacks_and_nothing_is_held_for_what_it_tells() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("case.zarr.zip");
    let whole = bytes(&example([4, 3, 2]), &info(Layout::Volume, [4, 3, 2]));
    let mut zip = zip::ZipArchive::new(std::io::Cursor::new(&whole)).unwrap();
    let mut text = |name: &str| std::io::read_to_string(zip.by_name(name).unwrap()).unwrap();
    let (group, image) = (text("zarr.json"), text("image/zarr.json"));
    let groups = [
        ("not json", "no JSON"),
        (r#"{"zarr_format":2}"#, "zarr_format is 2, expected 3"),
        (r#"{"zarr_format":3,"node_type":"array"}"#, "node_type is \"array\", expected \"group\""),
        (r#"{"zarr_format":3,"node_type":"group"}"#, "`scale` is missing"),
        (r#"{"zarr_format":3,"node_type":"group","attributes":{"scale":70000}}"#, "`scale` is 70000"),
        (r#"{"zarr_format":3,"node_type":"group","attributes":{"scale":9,"id":"a"}}"#, "missing field"),
    ];
    for (group, reason) in groups {
        let error = archive(&path, &[("zarr.json", group)]);
        assert!(error.contains("not a prepared case") && error.contains(reason), "{error}");
    }
    assert!(archive(&path, &[]).contains("no zarr.json"));
    assert!(archive(&path, &[("zarr.json", &group)]).contains("no array `image`"));
    let of_image =
        |image: &str, shard: &str| archive(&path, &[("zarr.json", &group), ("image/zarr.json", image), ("image/c/0/0/0", shard)]);
    for (from, to, reason) in [
        ("[4,3,2]", "[2,3,4]", r#"array `image`: it is "uint16" [2,3,4], expected "uint16" [4, 3, 2]"#),
        ("uint16", "uint8", r#"it is "uint8""#),
        ("numcodecs.pcodec", "bytes", r#"extension is "bytes", expected "numcodecs.pcodec""#),
        ("little", "big", r#"endian is "big""#),
        ("\"fill_value\":0", "\"fill_value\":1", "fill_value is 1"),
        ("\"chunk_shape\":[4,3,2],\"codecs\"", "\"chunk_shape\":[0,3,2],\"codecs\"", "which nobody writes"),
        ("\"chunk_shape\":[4,3,2],\"codecs\"", "\"chunk_shape\":[3,3,2],\"codecs\"", "which nobody writes"),
    ] {
        let error = of_image(&image.replace(from, to), "");
        assert!(error.contains("not a prepared case") && error.contains(reason), "{error}");
    }
    assert!(of_image(&image, "short").contains("shorter than its table"));
    assert!(of_image(&image, &"zeros".repeat(9)).contains("does not have its checksum"));
    // Chunks and tables of more bytes than any memory has.
    let vast = image.replace("\"chunk_shape\":[4,3,2]", &format!("\"chunk_shape\":[{0},{0},{0}]", 1_u64 << 20));
    assert!(of_image(&vast, "").contains("which nobody writes"));
    let vast = image.replacen("\"chunk_shape\":[4,3,2]", &format!("\"chunk_shape\":[{0},{0},{0}]", 3_u64 << 62), 1);
    assert!(of_image(&vast, "").contains("which nobody writes") || of_image(&vast, "").contains("shorter than its table"));
    std::fs::write(&path, b"just some text that is long enough").unwrap();
    assert!(PreparedCase::open(&path).unwrap_err().to_string().contains("do not end as a ZIP archive does"));
}

#[test]
fn arrays_that_do_not_go_with_the_image_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("case.zarr.zip");
    let whole = bytes(&example([4, 3, 2]), &info(Layout::Volume, [4, 3, 2]));
    let mut zip = zip::ZipArchive::new(std::io::Cursor::new(&whole)).unwrap();
    let mut text = |name: &str| std::io::read_to_string(zip.by_name(name).unwrap()).unwrap();
    let (group, image, labels) = (text("zarr.json"), text("image/zarr.json"), text("labels/zarr.json"));
    let with = |labels: &str| archive(&path, &[("zarr.json", &group), ("image/zarr.json", &image), ("labels/zarr.json", labels)]);
    assert_eq!(with(&labels), "[4, 3, 2]");
    assert!(
        with(&labels.replace("\"chunk_shape\":[4,3,2],\"codecs\"", "\"chunk_shape\":[2,3,2],\"codecs\"")).contains("expected the image's")
    );
    assert!(with(&labels.replace("uint8", "uint16")).contains("array `labels`"));
}

#[test]
fn maps_that_do_not_fit_the_image_or_mean_nothing_are_not_written() {
    let (case, info) = (example([4, 3, 2]), info(Layout::Volume, [4, 3, 2]));
    let write = |arrays: &CaseArrays<'_>, info: &CaseInfo| write_case(&mut Vec::new(), arrays, info).unwrap_err().to_string();
    let other = Array3::zeros((4, 3, 3));
    let of_labels = |labels: &Array3<u8>| write(&CaseArrays { labels: Some(labels.view()), ..arrays(&case) }, &info);
    assert_eq!(of_labels(&other), "the label map has the shape [4, 3, 3], expected the image's [4, 3, 2]");
    let error = of_labels(&Array3::from_elem((4, 3, 2), 15));
    assert!(error.starts_with("case case_1: the label map holds values that are not declared: 15 (24 voxels)"), "{error}");
    let weighed = CaseArrays { trust_groups: vec!["organ".into()], trust: vec![other.view()], ..arrays(&case) };
    assert_eq!(write(&weighed, &info), "the map of trust in organ has the shape [4, 3, 3], expected the image's [4, 3, 2]");
    let mut shorter = info.clone();
    shorter.grid.shape = [4, 3, 1];
    assert!(write(&arrays(&case), &shorter).contains("[4, 3, 1]"));
}

#[test]
fn a_set_keeps_the_order_asked_for_and_names_every_case_it_lacks() {
    let folder = tempfile::tempdir().unwrap();
    let mut index = index(Layout::Slices, flare23::classes());
    for (id, depth) in [("a", 2), ("b", 3), ("c", 4)] {
        let info = CaseInfo { id: id.into(), ..info(Layout::Slices, [5, 4, depth]) };
        let path = written(folder.path(), &example([5, 4, depth]), &info);
        index.add(&PreparedCase::open(&path).unwrap(), dataset::Split::Training);
    }
    let write = |index: &Index| std::fs::write(folder.path().join(INDEX_FILE), serde_json::to_string(index).unwrap()).unwrap();
    write(&index);

    let set = PreparedSet::open(folder.path(), &["c", "a"]).unwrap();
    assert_eq!((set.len(), set.slices(), set.layout()), (2, 6, Layout::Slices));
    assert_eq!((set.cases()[0].id.as_str(), set.cases()[0].shape), ("c", [4, 5, 4]));
    let patch = set.read_box(0, [3, 0, 0], [1, 5, 4]).unwrap();
    assert_eq!(patch.labels.unwrap(), expected(&example([5, 4, 4]).labels, Layout::Slices, [3, 0, 0], [1, 5, 4]));

    let error = PreparedSet::open(folder.path(), &["a", "x", "y"]).unwrap_err().to_string();
    assert!(error.starts_with("2 of the cases") && error.contains("x, y"), "{error}");
    let error = PreparedSet::open(&folder.path().join("elsewhere"), &["a"]).unwrap_err().to_string();
    assert!(error.contains("cases.json") && error.contains("preprocess"), "{error}");
    index.cases[1].regions = 5;
    write(&index);
    let error = PreparedSet::open(folder.path(), &["a"]).unwrap_err().to_string();
    assert!(error.contains("case b has the regions 5, and there are 1 of them"), "{error}");
}
