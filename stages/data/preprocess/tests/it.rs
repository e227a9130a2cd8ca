//! From small synthetic scans to prepared cases, through the stage itself.

use std::path::{Path, PathBuf};

use dataset::{Case, MANIFEST_FILE, Manifest, Split};
use labels::{LabelPattern, Regions, flare23};
use ndarray::Array3;
use prepared::{CaseArrays, Index, LabelSource, Layout, Patch, PreparedCase, case_path, write_case};
use preprocess::Preprocess;
use serde_json::{Value, json};
use stage_kit::{Entry, StageIo};
use volume::{Affine, Cut, Grid, LabelVolume, ModelGrid, ScalarVolume, nifti, reorient, resample_nearest};

/// A scan of 1 mm in RAS: air all around a body of 40 HU from (3, 2, 1) on.
const GRID: Grid =
    Grid { shape: [12, 10, 8], affine: Affine([[1.0, 0.0, 0.0, -6.0], [0.0, 1.0, 0.0, 4.0], [0.0, 0.0, 1.0, 30.0], [0.0, 0.0, 0.0, 1.0]]) };
const BODY_START: [usize; 3] = [3, 2, 1];
const BODY_SHAPE: [usize; 3] = [7, 6, 5];

struct Study {
    root: tempfile::TempDir,
    cases: Vec<Case>,
    regions: Regions,
}

/// The subset of a case that shows these classes, and what its annotators looked for.
fn subset_of(pattern: LabelPattern) -> (&'static str, LabelPattern) {
    let (organs, five) = ((1..=13).collect::<LabelPattern>(), flare23::FIVE_ORGANS.into_iter().collect::<LabelPattern>());
    let tumor = pattern.intersection(LabelPattern::of(flare23::TUMOR));
    match (pattern.intersection(organs), tumor.is_empty()) {
        (none, true) if none.is_empty() => ("D_u", LabelPattern::EMPTY),
        (none, false) if none.is_empty() => ("D_l4", tumor),
        (shown, false) if shown.is_within(five) => ("D_l3", five.union(tumor)),
        (shown, true) if shown.is_within(five) => ("D_l1", five),
        _ => ("D_l1", organs.union(tumor)),
    }
}

fn in_body(at: [usize; 3]) -> bool {
    (0..3).all(|axis| (BODY_START[axis]..BODY_START[axis] + BODY_SHAPE[axis]).contains(&at[axis]))
}

/// Each voxel of the body has its own intensity, so that a wrong place shows.
fn hu((x, y, z): (usize, usize, usize)) -> f32 {
    if in_body([x, y, z]) { -150.0 + (x + 5 * y + 11 * z) as f32 } else { -1000.0 }
}

impl Study {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        for folder in ["images", "labels"] {
            std::fs::create_dir(root.path().join(folder)).unwrap();
        }
        Self { root, cases: Vec::new(), regions: Regions::plain(flare23::classes().pattern()) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Adds a case whose body voxels take the labels in turn.
    fn add(&mut self, id: &str, labels: &[u8]) {
        self.add_on(id, labels, &GRID);
    }

    fn add_on(&mut self, id: &str, labels: &[u8], grid: &Grid) {
        let [nx, ny, nz] = grid.shape;
        let image = ScalarVolume { data: Array3::from_shape_fn((nx, ny, nz), hu), affine: grid.affine };
        let image_name = format!("images/{id}_0000.nii.gz");
        nifti::write_scalar_i16(self.path(&image_name), &image).unwrap();
        let label = (!labels.is_empty()).then(|| {
            let name = format!("labels/{id}.nii.gz");
            nifti::write_labels_on(self.path(&name), &label_map(labels, grid)).unwrap();
            name.into()
        });
        let pattern: LabelPattern = labels.iter().copied().collect();
        let (subset, annotated) = subset_of(pattern);
        self.cases.push(Case {
            id: id.into(),
            dataset: "FLARE23".into(),
            image: image_name.into(),
            label,
            pattern,
            subset: subset.into(),
            annotated,
            split: if self.cases.len().is_multiple_of(2) { Split::Training } else { Split::Validation },
            shape: grid.shape,
            spacing_mm: grid.spacing_mm(),
            cuts: Vec::new(),
        });
    }

    fn run(&self, params: Value) -> anyhow::Result<Index> {
        let partition = self.path("partition");
        std::fs::create_dir_all(&partition)?;
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let subsets = [("D", &["D_u", "D_l1", "D_l3", "D_l4"][..]), ("D_c", &["D_l3", "D_l4"]), ("D_o13", &["D_l1"])];
        let alone = ["D_u", "D_l1", "D_l3", "D_l4"].map(|name| (name.to_owned(), names(&[name])));
        let manifest = Manifest {
            classes: flare23::classes(),
            regions: [("FLARE23".into(), self.regions.clone())].into(),
            subsets: subsets.map(|(name, members)| (name.to_owned(), names(members))).into_iter().chain(alone).collect(),
            cases: self.cases.clone(),
        };
        std::fs::write(partition.join(MANIFEST_FILE), serde_json::to_string(&manifest)?)?;
        let mut inputs: std::collections::BTreeMap<String, PathBuf> =
            [("datasets.FLARE23".into(), self.root.path().to_owned()), ("partition".into(), partition)].into();
        if self.path("pseudo").exists() {
            inputs.insert("pseudo".into(), self.path("pseudo"));
        }
        let io = StageIo::new("preprocess", inputs, self.path("out"), self.path("work"), 1);
        Entry::of::<Preprocess>().run(params, &io)?;
        Ok(Index::load(&self.path("out"))?)
    }

    fn prepared(&self, id: &str) -> PreparedCase {
        PreparedCase::open(&case_path(&self.path("out"), id)).unwrap()
    }

    fn patch(&self, id: &str) -> Patch {
        let case = self.prepared(id);
        case.read_box([0; 3], case.shape()).unwrap()
    }
}

fn label_map(labels: &[u8], grid: &Grid) -> LabelVolume {
    let [nx, ny, nz] = grid.shape;
    let label = |(x, y, z)| if in_body([x, y, z]) { labels[(x + y + z) % labels.len()] } else { 0 };
    LabelVolume { data: Array3::from_shape_fn((nx, ny, nz), label), affine: grid.affine }
}

fn params(layout: &str, subsets: &[&str], spacing_mm: &Value) -> Value {
    json!({ "subsets": subsets, "layout": layout, "grid": { "spacing_mm": spacing_mm, "window_hu": [-200, 300] }, "crop_foreground": true })
}

fn one_mm() -> Value {
    json!([1, 1, 1])
}

fn count(map: &[u8], label: u8) -> usize {
    map.iter().filter(|&&found| found == label).count()
}

#[test]
fn on_its_own_grid_a_case_keeps_every_voxel_of_the_body() {
    let mut study = Study::new();
    study.add("a", &[1, 2, 3, 4, 13, 14]);
    let index = study.run(params("volume", &["D_c"], &one_mm())).unwrap();

    let case = study.prepared("a");
    assert_eq!(case.shape(), BODY_SHAPE);
    assert_eq!(case.info().crop.start, BODY_START);
    assert_eq!(case.info().grid.affine[2][3], 31.0, "the affine follows the crop");
    assert_eq!(case.info().original_grid.shape, GRID.shape);
    let patch = study.patch("a");
    let truth = label_map(&[1, 2, 3, 4, 13, 14], &GRID);
    let labels = patch.labels.unwrap();
    for label in 1..=14 {
        assert_eq!(count(&labels, label), truth.data.iter().filter(|&&found| found == label).count(), "label {label}");
    }
    let mut values = patch.image.iter();
    for x in 0..BODY_SHAPE[0] {
        for y in 0..BODY_SHAPE[1] {
            for z in 0..BODY_SHAPE[2] {
                let expected = (hu((x + BODY_START[0], y + BODY_START[1], z + BODY_START[2])) + 200.0) / 500.0;
                let found = values.next().unwrap();
                assert!((found - expected).abs() < 1e-5, "({x}, {y}, {z}): {found}, expected {expected}");
            }
        }
    }

    let entry = &index.cases[0];
    assert_eq!((entry.slices, entry.has_labels, entry.split), (5, true, Split::Training));
    assert_eq!(entry.annotated, [1, 2, 3, 4, 13, 14].into_iter().collect());
    assert_eq!(index.regions[entry.regions], study.regions);
    assert_eq!(index.classes, flare23::classes());
}

/// A file of 3D Slicer's format, with voxels as they are.
fn write_nrrd(path: &Path, grid: &Grid, voxel_type: &str, voxels: &[u8]) {
    let [nx, ny, nz] = grid.shape;
    let [x, y, z] = grid.affine.origin_mm();
    let header = format!(
        "NRRD0004\ntype: {voxel_type}\ndimension: 3\nspace: right-anterior-superior\nsizes: {nx} {ny} {nz}\n\
         space directions: (1,0,0) (0,1,0) (0,0,1)\nendian: little\nencoding: raw\nspace origin: ({x},{y},{z})\n\n"
    );
    std::fs::write(path, [header.as_bytes(), voxels].concat()).unwrap();
}

#[test]
fn a_case_in_another_format_is_prepared_alike() {
    let mut study = Study::new();
    study.add("a", &[1, 2, 3, 4, 13, 14]);
    study.run(params("volume", &["D_c"], &one_mm())).unwrap();
    let expected = study.patch("a");
    let case = &mut study.cases[0];
    let (image, label) = (PathBuf::from("images/a_0000.nrrd"), PathBuf::from("labels/a.seg.nrrd"));
    let root = study.root.path();
    let (scan, _) = nifti::read_scalar(root.join(&case.image)).unwrap();
    let stored: Vec<u8> = scan.x_fastest().iter().flat_map(|&hu| (hu as i16).to_le_bytes()).collect();
    write_nrrd(&root.join(&image), &GRID, "int16", &stored);
    let (labels, _) = nifti::read_labels(root.join(case.label.as_ref().unwrap())).unwrap();
    write_nrrd(&root.join(&label), &GRID, "uint8", &labels.x_fastest());
    (case.image, case.label) = (image, Some(label));
    study.run(params("volume", &["D_c"], &one_mm())).unwrap();
    let found = study.patch("a");
    assert_eq!((found.image, found.labels), (expected.image, expected.labels));
}

#[test]
fn slices_are_the_volume_with_z_first() {
    let mut study = Study::new();
    study.add("a", &[1, 2, 3, 4, 13, 14]);
    study.run(params("volume", &["D_l3"], &one_mm())).unwrap();
    let volume = study.patch("a");
    let index = study.run(params("slices", &["D_l3"], &json!([1, 1, null]))).unwrap();
    let slices = study.patch("a");
    let [nx, ny, nz] = BODY_SHAPE;
    assert_eq!((index.layout, index.cases[0].shape, index.cases[0].slices), (Layout::Slices, [nz, nx, ny], nz));
    for x in 0..nx {
        for y in 0..ny {
            for z in 0..nz {
                let (v, s) = ((x * ny + y) * nz + z, (z * nx + x) * ny + y);
                assert_eq!(volume.image[v], slices.image[s]);
                assert_eq!(volume.labels.as_ref().unwrap()[v], slices.labels.as_ref().unwrap()[s]);
            }
        }
    }
}

#[test]
fn every_orientation_and_spacing_ends_on_the_model_grid() {
    let mut study = Study::new();
    // The same array seen as x to the Left, y to Posterior, 2.5 mm apart along z.
    let turned =
        Grid { affine: Affine([[-0.5, 0.0, 0.0, 3.0], [0.0, -0.5, 0.0, 3.0], [0.0, 0.0, 2.5, 0.0], [0.0, 0.0, 0.0, 1.0]]), ..GRID };
    study.add_on("turned", &(1..=13).collect::<Vec<u8>>(), &turned);
    study.run(json!({ "subsets": ["D"], "layout": "volume", "grid": { "spacing_mm": [0.5, 0.5, null], "window_hu": [-200, 300] }, "crop_foreground": false })).unwrap();
    let case = study.prepared("turned");
    assert_eq!((case.shape(), case.spacing_mm()), (GRID.shape, [0.5, 0.5, 2.5]));
    let affine = case.info().grid.affine;
    assert!((0..3).all(|axis| affine[axis][axis] > 0.0), "{affine:?} is RAS");
    let (patch, truth) = (study.patch("turned"), label_map(&(1..=13).collect::<Vec<u8>>(), &turned));
    let [nx, ny, nz] = GRID.shape;
    let labels = patch.labels.unwrap();
    for ((x, y, z), &label) in truth.data.indexed_iter() {
        let at = ((nx - 1 - x) * ny + ny - 1 - y) * nz + z;
        assert_eq!(labels[at], label);
        assert!((patch.image[at] - ((hu((x, y, z)) + 200.0) / 500.0).clamp(0.0, 1.0)).abs() < 1e-5);
    }

    study.run(json!({ "subsets": ["D"], "layout": "volume", "grid": { "spacing_mm": [1, 1, 1], "window_hu": [-200, 300] }, "crop_foreground": false })).unwrap();
    let case = study.prepared("turned");
    assert_eq!((case.shape(), case.spacing_mm()), ([6, 6, 18], [1.0; 3]), "another spacing is another result, so it is made anew");
}

#[test]
fn a_case_is_to_the_bit_what_its_whole_volumes_give() {
    let spacing = |grid: &Grid, shear: f64| {
        let [x, y, z] = [0.8, 0.7, 2.1];
        let affine = Affine([[x, 0.0, 0.0, -6.0], [0.0, y, shear * z, 4.0], [0.0, 0.0, z, 30.0], [0.0, 0.0, 0.0, 1.0]]);
        Grid { affine, ..*grid }
    };
    let model = ModelGrid { spacing_mm: [Some(1.0), Some(1.0), Some(1.5)], window_hu: [-200.0, 300.0] };
    let codes = ["RAS", "LPS", "LPI", "SAR", "PIR", "IRP", "ALS", "RSA"];
    for (code, shear) in codes.into_iter().map(|code| (code, 0.0)).chain([("RAS", 0.3), ("LPI", 0.3), ("SAR", 0.3)]) {
        let mut study = Study::new();
        let grid = spacing(&GRID, shear).reoriented(code.parse().unwrap());
        study.add_on("a", &[1, 2, 3, 4, 13, 14], &grid);
        let (image, header) = nifti::read_scalar(study.path("images/a_0000.nii.gz")).unwrap();
        let (mut labels, _) = nifti::read_labels(study.path("labels/a.nii.gz")).unwrap();
        labels.affine = header.grid().affine;
        let image = model.prepare(image).unwrap();
        let crop = model.shown(&image, true).unwrap();
        let labels = resample_nearest(&reorient(&labels, "RAS".parse().unwrap()), &image.grid());
        let arrays = CaseArrays::new(crop.of(&image.data), Some(crop.of(&labels.data)));
        for layout in ["volume", "slices"] {
            study.run(params(layout, &["D_l3"], &json!([1, 1, 1.5]))).unwrap();
            let case = study.prepared("a");
            assert_eq!((case.info().crop.start, case.info().grid.affine), (crop.start, image.grid().cropped(&crop).affine.0));
            let mut expected = Vec::new();
            write_case(&mut expected, &arrays, case.info()).unwrap();
            let found = std::fs::read(case_path(&study.path("out"), "a")).unwrap();
            assert!(found == expected, "{code}, shear {shear}, {layout}");
        }
    }
}

#[test]
fn a_case_holds_the_maps_that_its_annotators_made() {
    let mut study = Study::new();
    let all: Vec<u8> = (1..=13).collect();
    study.add("all", &all);
    study.add("five", &[1, 2, 3, 4, 13]);
    study.add("tumor", &[14]);
    study.add("nothing", &[]);
    study.add("everything", &(1..=14).collect::<Vec<u8>>());
    let index = study.run(params("slices", &["D", "D_l1"], &one_mm())).unwrap();
    let known: Vec<_> = index.cases.iter().map(|case| (case.id.as_str(), case.has_labels, case.annotated.len())).collect();
    let expected = [("all", true, 13), ("everything", true, 14), ("five", true, 5), ("nothing", false, 0), ("tumor", true, 1)];
    assert_eq!(known, expected);
    assert_eq!(study.prepared("five").info().source, Some(LabelSource::True));
    assert_eq!(study.prepared("nothing").info().source, None);
}

#[test]
fn labels_keep_the_values_of_their_dataset() {
    let mut study = Study::new();
    study.add("a", &[1, 2, 77]);
    let declared = [("liver", vec![1, 77]), ("tumor", vec![77])].map(|(key, values)| (key.to_owned(), values)).into();
    study.regions = Regions::declared(&flare23::classes(), &declared, &[2]).unwrap();
    let index = study.run(params("volume", &["D"], &one_mm())).unwrap();
    let labels = study.patch("a").labels.unwrap();
    let body = BODY_SHAPE.iter().product::<usize>();
    assert_eq!([1, 2, 77].map(|value| count(&labels, value)).iter().sum::<usize>(), body);
    assert_eq!(index.regions, [study.regions.clone()]);
    assert_eq!(study.prepared("a").info().regions, study.regions);
    // Two datasets whose values mean different things are two prepared cases.
    study.regions = Regions::declared(&flare23::classes(), &[("liver".to_owned(), vec![1])].into(), &[2]).unwrap();
    let error = format!("{:#}", study.run(params("volume", &["D"], &one_mm())).unwrap_err());
    assert!(error.contains("labels/a.nii.gz: correct the label map: values that are not declared: 77"), "{error}");
}

#[test]
fn a_label_of_both_sides_is_cut_however_the_file_is_turned() {
    for code in ["RAS", "LPS", "SAR", "PIR"] {
        let mut study = Study::new();
        study.add_on("a", &[2], &GRID.reoriented(code.parse().unwrap()));
        study.cases[0].cuts = vec![Cut { value: 2, left: 255, x_mm: 0 }];
        let sides = [("left_kidney", vec![255]), ("right_kidney", vec![2])].map(|(key, values)| (key.to_owned(), values)).into();
        study.regions = Regions::declared(&flare23::classes(), &sides, &[]).unwrap();
        study.run(params("volume", &["D"], &one_mm())).unwrap();
        let case = study.prepared("a");
        let ([_, ny, nz], origin) = (case.shape(), case.info().grid.affine[0][3]);
        for (at, label) in study.patch("a").labels.unwrap().into_iter().enumerate().filter(|(_, label)| *label > 0) {
            let x_mm = origin + (at / (ny * nz)) as f64;
            assert_eq!(label, if x_mm < 0.0 { 255 } else { 2 }, "{code} at {x_mm} mm");
        }
    }
}

#[test]
fn a_teachers_labels_take_the_place_of_the_datasets() {
    let mut study = Study::new();
    study.add("a", &[]);
    study.add("b", &[]);
    for (folder, labels) in [("organ", 9), ("cancer", 14)] {
        std::fs::create_dir_all(study.path(&format!("pseudo/{folder}"))).unwrap();
        nifti::write_labels_on(study.path(&format!("pseudo/{folder}/a.nii.gz")), &label_map(&[labels], &GRID)).unwrap();
    }
    let error = format!("{:#}", study.run(params("slices", &["D_u"], &one_mm())).unwrap_err());
    assert!(
        error.contains("1 of 2 cases failed")
            && error.contains("case b: ")
            && error.contains("organ/b.nii.gz is missing; run `pseudo-label`"),
        "{error}"
    );
    study.cases.pop();
    let index = study.run(params("slices", &["D_u"], &one_mm())).unwrap();
    assert_eq!(index.cases[0].annotated, (1..=14).collect());
    let shown = index.regions[index.cases[0].regions].shown_by(9 + 14);
    assert_eq!(shown, [9, 14].into_iter().collect(), "an organ and a tumor in one map");
    let body = BODY_SHAPE.iter().product::<usize>();
    assert_eq!(count(&study.patch("a").labels.unwrap(), 9 + 14), body);
    assert_eq!(study.prepared("a").info().source, Some(LabelSource::Pseudo));
    nifti::write_labels_on(study.path("pseudo/organ/a.nii.gz"), &label_map(&[14], &GRID)).unwrap();
    let error = format!("{:#}", study.run(params("slices", &["D_u"], &one_mm())).unwrap_err());
    assert!(error.contains("organ/a.nii.gz: correct the label map: values that are not declared: 14"), "{error}");
}

#[test]
fn trust_in_pseudo_labels_goes_the_way_of_the_labels() {
    let mut study = Study::new();
    study.add("a", &[]);
    let write = |folder: &str, labels: &[u8]| {
        std::fs::create_dir_all(study.path(&format!("pseudo/{folder}"))).unwrap();
        nifti::write_labels_on(study.path(&format!("pseudo/{folder}/a.nii.gz")), &label_map(labels, &GRID)).unwrap();
    };
    write("organ", &[0, 9]);
    write("cancer", &[14]);
    study.run(params("slices", &["D_u"], &one_mm())).unwrap();
    assert!(study.prepared("a").info().trust.is_none() && study.patch("a").trust.is_empty());

    write("organ_trust", &[51, 255]);
    let error = format!("{:#}", study.run(params("slices", &["D_u"], &one_mm())).unwrap_err());
    assert!(error.contains("cancer_trust/a.nii.gz is missing"), "{error}");
    write("cancer_trust", &[0]);
    let index = study.run(params("slices", &["D_u"], &one_mm())).unwrap();
    let patch = study.patch("a");
    let labels = patch.labels.unwrap();
    assert!(labels.iter().zip(&patch.trust["organ"]).all(|(label, trust)| *trust == if *label == 9 + 14 { 255 } else { 51 }));
    assert!(patch.trust["cancer"].iter().all(|&trust| trust == 0));
    let trust = index.cases[0].trust.as_ref().unwrap();
    let share = count(&labels, 9 + 14) as f64 / labels.len() as f64;
    assert!((trust["organ"] - (share + (1.0 - share) * 0.2)).abs() < 1e-12 && trust["cancer"] == 0.0, "{trust:?}");
}

#[test]
fn what_is_done_is_not_done_again_unless_it_is_damaged() {
    let mut study = Study::new();
    study.add("a", &[14]);
    study.add("b", &[14]);
    study.run(params("volume", &["D_c"], &one_mm())).unwrap();
    let file = |id: &str| case_path(&study.path("out"), id);
    let modified = |path: &Path| path.metadata().unwrap().modified().unwrap();
    let (before_a, whole_b) = (modified(&file("a")), std::fs::read(file("b")).unwrap());
    std::fs::write(file("b"), &whole_b[..whole_b.len() - 1]).unwrap();
    study.run(params("volume", &["D_c"], &one_mm())).unwrap();
    assert_eq!(modified(&file("a")), before_a);
    assert_eq!(std::fs::read(file("b")).unwrap(), whole_b, "the same case gives the same bytes");
}

#[test]
fn a_bad_case_is_named_with_its_file_and_the_others_go_on() {
    let mut study = Study::new();
    study.add("good", &[14]);
    study.add("shape", &[14]);
    study.add("affine", &[14]);
    study.add("air", &[]);
    let other = Grid { shape: [12, 10, 7], ..GRID };
    nifti::write_labels_on(study.path("labels/shape.nii.gz"), &label_map(&[14], &other)).unwrap();
    let mut moved = GRID;
    moved.affine.0[1][3] += 3.0;
    nifti::write_labels_on(study.path("labels/affine.nii.gz"), &label_map(&[14], &moved)).unwrap();
    nifti::write_scalar_i16(study.path("images/air_0000.nii.gz"), &ScalarVolume::filled(&GRID, -1000.0)).unwrap();

    study.add("values", &[14]);
    nifti::write_labels_on(study.path("labels/values.nii.gz"), &label_map(&[14, 17], &GRID)).unwrap();

    let error = format!("{:#}", study.run(params("volume", &["D"], &one_mm())).unwrap_err());
    assert!(error.contains("labels/values.nii.gz: correct the label map: values that are not declared: 17"), "{error}");
    assert!(error.starts_with("4 of 5 cases failed"), "{error}");
    assert!(error.contains("labels/shape.nii.gz: shape [12, 10, 7], expected the image's [12, 10, 8]"), "{error}");
    assert!(error.contains("labels/affine.nii.gz: affine"), "{error}");
    assert!(error.contains("images/air_0000.nii.gz: no voxel above -200 HU"), "{error}");
    assert_eq!(study.prepared("good").shape(), BODY_SHAPE);
    assert!(!study.path("out/cases.json").exists(), "the index comes when all cases are there");
}

#[test]
fn a_subset_without_cases_and_senseless_parameters_are_refused() {
    let mut study = Study::new();
    study.add("a", &[14]);
    let error = |params| format!("{:#}", study.run(params).unwrap_err());
    assert!(error(params("volume", &["D_o13"], &one_mm())).contains("subset D_o13 has no cases"));
    assert!(error(params("volume", &[], &one_mm())).contains("subsets: none given"));
    assert!(error(params("volume", &["D_x"], &one_mm())).contains("D_x"));
    assert!(error(params("planes", &["D_c"], &one_mm())).contains("planes"));
    assert!(error(params("volume", &["D_c"], &json!([1, 1, -1]))).contains("spacing_mm: -1"));
}
