//! What is written is what is read, box by box.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use labels::{LabelPattern, Subset};
use ndarray::{Array3, ShapeBuilder as _};
use prepared::{
    CaseArrays, CaseInfo, CropBox, GridRecord, IndexEntry, LabelSource, Layout, MeanTrust, PreparedCase, PreparedError, PreparedSet,
    write_case,
};
use proptest::prelude::*;

struct Example {
    image: Array3<f32>,
    organs: Array3<u8>,
    cancer: Array3<u8>,
}

/// Stored x-fastest, as volumes from NIfTI are.
fn example(shape: [usize; 3]) -> Example {
    let place = |(x, y, z): (usize, usize, usize)| x * 7 + y * 31 + z * 101;
    Example {
        image: Array3::from_shape_fn(shape.f(), |at| place(at) as f32 % 65536.0 / 65535.0),
        organs: Array3::from_shape_fn(shape.f(), |at| (place(at) % 14) as u8),
        cancer: Array3::from_shape_fn(shape.f(), |at| (place(at) % 3 == 0).into()),
    }
}

fn info(layout: Layout, shape: [usize; 3]) -> CaseInfo {
    let affine = [[1.0, 0.0, 0.0, -5.5], [0.0, 1.0, 0.0, 2.0], [0.0, 0.0, 2.5, 0.1], [0.0, 0.0, 0.0, 1.0]];
    CaseInfo {
        id: "case_1".into(),
        layout,
        subset: Subset::Dl3,
        spacing_mm: [1.0, 1.0, 2.5],
        grid: GridRecord { shape, affine },
        original_grid: GridRecord { shape: [512, 512, 40], affine },
        crop: CropBox { start: [1, 2, 3], shape },
        window_hu: [-200.0, 300.0],
        annotated_organs: LabelPattern::ORGANS,
        organs_source: Some(LabelSource::Pseudo),
        cancer_source: Some(LabelSource::True),
        trust: None,
    }
}

/// The image with organs alone.
fn with_organs(example: &Example) -> CaseArrays<'_> {
    CaseArrays { image: example.image.view(), organs: Some(example.organs.view()), cancer: None, organs_trust: None, cancer_trust: None }
}

fn bytes(example: &Example, info: &CaseInfo) -> Vec<u8> {
    let arrays = CaseArrays { cancer: Some(example.cancer.view()), ..with_organs(example) };
    let mut bytes = Vec::new();
    write_case(&mut bytes, &arrays, info).unwrap();
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
        assert_eq!(all.image, expected(&example.image, layout, [0; 3], case.shape()), "multiples of 1/65535 are exact");
        assert_eq!(all.organs.unwrap(), expected(&example.organs, layout, [0; 3], case.shape()));
        assert_eq!(all.cancer.unwrap(), expected(&example.cancer, layout, [0; 3], case.shape()));
    }
}

#[test]
fn trust_goes_with_the_labels_and_air_around_a_case_is_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let (example, mut info) = (example([5, 4, 3]), info(Layout::Slices, [5, 4, 3]));
    info.trust = Some(MeanTrust { organs: 0.25, cancer: 0.0 });
    let trust = example.organs.mapv(|label| label * 19);
    let arrays = CaseArrays { organs_trust: Some(trust.view()), cancer_trust: Some(example.cancer.view()), ..with_organs(&example) };
    let path = prepared::case_path(folder.path(), &info.id);
    make_file(&path, |file| write_case(file, &arrays, &info).unwrap());
    let case = PreparedCase::open(&path).unwrap();
    let entry = IndexEntry::of(&case, dataset::Split::Training);
    assert_eq!((case.info().trust, entry.trust), (info.trust, info.trust));
    let text = serde_json::to_string(&entry).unwrap();
    assert_eq!(serde_json::from_str::<IndexEntry>(&text).unwrap(), entry);

    let patch = case.read_box([-1, 0, 0], [2, 5, 4]).unwrap();
    let (organs, cancer) = (patch.organs_trust.unwrap(), patch.cancer_trust.unwrap());
    assert!(organs[..20].iter().chain(&cancer[..20]).all(|&trust| trust == labels::FULL_TRUST), "the plane before the first");
    assert_eq!(organs[20..], expected(&trust, Layout::Slices, [0; 3], [1, 5, 4]));
    assert_eq!(cancer[20..], expected(&example.cancer, Layout::Slices, [0; 3], [1, 5, 4]));
    assert_eq!(patch.organs.unwrap()[..20], [0; 20]);
}

#[test]
fn a_case_that_nobody_has_weighed_says_nothing_of_trust() {
    let info = info(Layout::Volume, [4, 3, 2]);
    let bytes = bytes(&example([4, 3, 2]), &info);
    assert!(!String::from_utf8_lossy(&bytes).contains("trust"), "files are those of before there was trust");
}

#[test]
fn safetensors_itself_reads_the_file() {
    let (example, info) = (example([4, 3, 2]), info(Layout::Slices, [4, 3, 2]));
    let bytes = bytes(&example, &info);
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let image = tensors.tensor("image").unwrap();
    assert_eq!((image.dtype(), image.shape()), (safetensors::Dtype::U16, &[2, 4, 3][..]));
    assert_eq!(tensors.tensor("organs").unwrap().data(), expected(&example.organs, Layout::Slices, [0; 3], [2, 4, 3]));
    assert_eq!(tensors.tensor("cancer").unwrap().data(), expected(&example.cancer, Layout::Slices, [0; 3], [2, 4, 3]));
}

#[test]
fn quantisation_errs_by_at_most_half_a_step_and_clamps() {
    let folder = tempfile::tempdir().unwrap();
    let mut image = Array3::from_shape_fn((11, 13, 17), |(x, y, z)| ((x * 221 + y * 17 + z) as f32 / 2431.0).sin().abs());
    image[[0, 0, 0]] = -0.5;
    image[[0, 0, 1]] = 1.5;
    image[[0, 0, 2]] = f32::NAN;
    let info = CaseInfo { organs_source: None, cancer_source: None, ..info(Layout::Volume, [11, 13, 17]) };
    let path = folder.path().join("case.safetensors");
    let arrays = CaseArrays { image: image.view(), organs: None, cancer: None, organs_trust: None, cancer_trust: None };
    write_case(&mut std::fs::File::create(&path).unwrap(), &arrays, &info).unwrap();
    let case = PreparedCase::open(&path).unwrap();
    assert!(!case.has_organs() && !case.has_cancer());
    let patch = case.read_box([0; 3], case.shape()).unwrap();
    assert_eq!(patch.image[..3], [0.0, 1.0, 0.0]);
    assert_eq!((patch.organs, patch.cancer), (None, None));
    for (read, wrote) in patch.image.iter().zip(&image).skip(3) {
        assert!((read - wrote).abs() <= 0.5 / 65535.0 + f32::EPSILON, "{wrote} came back as {read}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_box_is_the_slice_of_the_volume_padded_with_zeros(
        size in [1usize..20, 1usize..12, 1usize..9],
        slices: bool,
        start in [-25isize..25, -15isize..15, -12isize..12],
        shape in [0usize..30, 0usize..16, 0usize..12],
    ) {
        let folder = tempfile::tempdir().unwrap();
        let layout = if slices { Layout::Slices } else { Layout::Volume };
        let (example, info) = (example(size), info(layout, size));
        let patch = PreparedCase::open(&written(folder.path(), &example, &info)).unwrap().read_box(start, shape).unwrap();
        prop_assert_eq!(patch.shape, shape);
        prop_assert_eq!(patch.image, expected(&example.image, layout, start, shape));
        prop_assert_eq!(patch.organs.unwrap(), expected(&example.organs, layout, start, shape));
        prop_assert_eq!(patch.cancer.unwrap(), expected(&example.cancer, layout, start, shape));
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
    let path = folder.path().join("case.safetensors");
    let whole = bytes(&example([4, 3, 2]), &info(Layout::Volume, [4, 3, 2]));
    for length in [0, 5, 8, 200, whole.len() - 1] {
        std::fs::write(&path, &whole[..length]).unwrap();
        let error = PreparedCase::open(&path).unwrap_err().to_string();
        assert!(error.contains("truncated") && error.contains(&format!("{length} bytes")), "{error}");
    }
    std::fs::write(&path, [&whole[..], b"tail"].concat()).unwrap();
    assert!(matches!(PreparedCase::open(&path), Err(PreparedError::Length { .. })));
}

#[test]
fn a_foreign_file_is_refused_with_what_it_lacks() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("case.safetensors");
    let with_header = |header: &str| {
        std::fs::write(&path, [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat()).unwrap();
        PreparedCase::open(&path).unwrap_err().to_string()
    };
    assert!(with_header("not json").contains("header is damaged"));
    assert!(with_header("{}").contains("no __metadata__"));
    assert!(with_header(r#"{"__metadata__":{"id":"\"a\""}}"#).contains("missing field"));
    std::fs::write(&path, b"just some text that is long enough").unwrap();
    assert!(PreparedCase::open(&path).unwrap_err().to_string().contains("expected at most"));
}

#[test]
fn a_tensor_of_another_shape_than_the_grid_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("case.safetensors");
    let whole = bytes(&example([4, 3, 2]), &info(Layout::Volume, [4, 3, 2]));
    let text: Vec<u8> =
        String::from_utf8_lossy(&whole[8..600]).replace(r#""dtype":"U16","shape":[4,3,2]"#, r#""dtype":"U16","shape":[2,3,4]"#).into();
    std::fs::write(&path, [&whole[..8], &text, &whole[600..]].concat()).unwrap();
    let error = PreparedCase::open(&path).unwrap_err().to_string();
    assert!(error.contains("tensor `image` is U16 [2, 3, 4], expected U16 [4, 3, 2]"), "{error}");
}

#[test]
fn maps_that_do_not_fit_the_image_are_not_written() {
    let (case, info) = (example([4, 3, 2]), info(Layout::Volume, [4, 3, 2]));
    let write = |organs: &Array3<u8>, info: &CaseInfo| {
        let arrays = CaseArrays { organs: Some(organs.view()), ..with_organs(&case) };
        write_case(&mut Vec::new(), &arrays, info).unwrap_err().to_string()
    };
    assert_eq!(write(&Array3::zeros((4, 3, 3)), &info), "the organ map has the shape [4, 3, 3], expected the image's [4, 3, 2]");
    assert_eq!(write(&Array3::from_elem((4, 3, 2), 14), &info), "the organ map holds the value 14, expected at most 13");
    let mut other = info.clone();
    other.grid.shape = [4, 3, 1];
    assert!(write(&case.organs, &other).contains("[4, 3, 1]"));
}

#[test]
fn a_set_keeps_the_order_asked_for_and_names_every_case_it_lacks() {
    let folder = tempfile::tempdir().unwrap();
    let mut entries = Vec::new();
    for (id, depth) in [("a", 2), ("b", 3), ("c", 4)] {
        let info = CaseInfo { id: id.into(), ..info(Layout::Slices, [5, 4, depth]) };
        written(folder.path(), &example([5, 4, depth]), &info);
        entries.push(serde_json::json!({
            "id": id, "shape": [depth, 5, 4], "slices": depth, "has_organs": true, "annotated_organs": LabelPattern::ORGANS,
            "has_cancer": true, "subset": "D_l3", "split": "training",
        }));
    }
    let index = serde_json::json!({ "layout": "slices", "spacing_mm": [1.0, 1.0, null], "window_hu": [-200.0, 300.0], "crop_foreground": true, "cases": entries });
    std::fs::write(folder.path().join(prepared::INDEX_FILE), index.to_string()).unwrap();

    let set = PreparedSet::open(folder.path(), &["c", "a"]).unwrap();
    assert_eq!((set.len(), set.slices(), set.layout()), (2, 6, Layout::Slices));
    assert_eq!(set.cases()[0].id, "c");
    let patch = set.read_box(0, [3, 0, 0], [1, 5, 4]).unwrap();
    assert_eq!(patch.organs.unwrap(), expected(&example([5, 4, 4]).organs, Layout::Slices, [3, 0, 0], [1, 5, 4]));

    let error = PreparedSet::open(folder.path(), &["a", "x", "y"]).unwrap_err().to_string();
    assert!(error.starts_with("2 of the cases") && error.contains("x, y"), "{error}");
    let error = PreparedSet::open(&folder.path().join("elsewhere"), &["a"]).unwrap_err().to_string();
    assert!(error.contains("cases.json") && error.contains("preprocess"), "{error}");
}
