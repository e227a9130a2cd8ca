//! What a run leaves behind.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use volume::nifti;

use crate::lab::Lab;

const NODES: [&str; 32] = [
    "phantom",
    "partition",
    "volumes",
    "M_c",
    "M_o2",
    "pseudo_labels[D_u]",
    "pseudo_labels[D_l3]",
    "pseudo_slices[D_u]",
    "pseudo_slices[D_l3]",
    "true_slices[D_l1]",
    "true_slices[D_l4]",
    "M_1",
    "M_2",
    "M_3",
    "M_4",
    "segment[M_1]",
    "segment[M_2]",
    "segment[M_3]",
    "segment[M_4]",
    "overlay[M_1]",
    "overlay[M_2]",
    "overlay[M_3]",
    "overlay[M_4]",
    "resample_back[M_1]",
    "resample_back[M_2]",
    "resample_back[M_3]",
    "resample_back[M_4]",
    "model",
    "teacher_labels",
    "teacher_overlay",
    "scores",
    "steps",
];

#[test]
fn every_node_runs_and_a_second_run_does_nothing() {
    let lab = Lab::new("");
    let first = lab.run(&[]).must_succeed();
    let mut expected = NODES.to_vec();
    expected.sort_unstable();
    assert_eq!(first.ran(), expected);
    for node in NODES {
        assert!(lab.result(node).is_dir(), "{node} has no result");
    }
    label_maps_lie_on_their_images(&lab);
    tables_tell_every_model_and_class(&lab);
    predict_says_what_the_three_stages_say(&lab);

    let before = lab.files("store");
    let second = lab.run(&[]).must_succeed();
    assert_eq!(second.ran(), [""; 0]);
    assert!(second.stderr.contains("32 fresh in "), "{}", second.stderr);
    assert!(lab.files("store") == before, "a run that does nothing changes no file");
    assert_eq!(lab.run(&["--dry-run"]).code, Some(0), "and a dry run finds nothing to do");
}

fn label_maps_lie_on_their_images(lab: &Lab) {
    let images = dataset_images(&lab.result("phantom").join("FLARE/validation"));
    assert_eq!(images.len(), 2);
    for node in ["resample_back[M_1]", "resample_back[M_4]", "teacher_overlay"] {
        for (case, image) in &images {
            let path = lab.result(node).join("labels").join(format!("{case}.nii.gz"));
            let (labels, header) = nifti::read_labels(&path).unwrap();
            let image = nifti::read_header(image).unwrap().grid();
            assert_eq!(labels.grid().shape, image.shape, "{node} {case}");
            assert_eq!(header.grid().affine, image.affine, "{node} {case}: not a bit of the affine differs");
            assert!(labels.data.iter().all(|&label| label <= labels::flare23::TUMOR));
        }
    }
}

/// `predict` with the exported model and no shortcut: byte for byte the label maps of segment, overlay and resample-back.
fn predict_says_what_the_three_stages_say(lab: &Lab) {
    let predict = |images: &str, output: &str| {
        let inputs = [format!("images=store/results/lab/phantom/FLARE/validation{images}"), "model=store/results/lab/model".into()];
        lab.call(&["stage", "predict", "--params", "exact.yaml", "--input", &inputs[0], "--input", &inputs[1], "--output", output])
    };
    fs::write(lab.path("exact.yaml"), "exact: true").unwrap();
    predict("", "predicted").must_succeed();
    let expected = lab.files("store/results/lab/resample_back[M_4]/labels");
    let names = |folder: &str| lab.files(folder).into_iter().map(|(path, bytes)| (path.file_name().unwrap().to_owned(), bytes));
    assert!(expected.len() == 2 && names("predicted").eq(names("store/results/lab/resample_back[M_4]/labels")));

    predict("/FLARE23Ts_0002_0000.nii.gz", "one").must_succeed();
    assert_eq!(lab.files("one").into_keys().collect::<Vec<_>>(), [lab.path("one/FLARE23Ts_0002.nii.gz")]);
    predict("/absent", "none").must_fail(1, &["absent"]);
}

/// Images of a folder by case.
fn dataset_images(folder: &Path) -> BTreeMap<String, std::path::PathBuf> {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths.map(|path| (path.file_name().unwrap().to_str().unwrap().replace("_0000.nii.gz", ""), path)).collect()
}

fn tables_tell_every_model_and_class(lab: &Lab) {
    for (node, models) in [("scores", vec!["M_4"]), ("steps", vec!["3D_teachers", "M_1", "M_2", "M_3", "M_4"])] {
        for protocol in ["official", "plain"] {
            let text = fs::read_to_string(lab.result(node).join(format!("{protocol}.json"))).unwrap();
            let summaries: serde_json::Value = serde_json::from_str(&text).unwrap();
            let found: Vec<&str> = summaries.as_array().unwrap().iter().map(|model| model["model"].as_str().unwrap()).collect();
            assert_eq!(found, models);
            for model in summaries.as_array().unwrap() {
                assert_eq!(model["classes"].as_array().unwrap().len(), 14);
                assert_eq!(model["cases"], 2);
            }
            let csv = fs::read_to_string(lab.result(node).join(format!("{protocol}.csv"))).unwrap();
            let columns: Vec<usize> = csv.lines().map(|line| line.split(',').count()).collect();
            assert!(columns.len() > 14 && columns.iter().all(|&n| n == columns[0] && n > models.len()), "{csv}");
            let page = fs::read_to_string(lab.result(node).join(format!("{protocol}.md"))).unwrap();
            assert!(page.contains("| Tumor |") && !page.contains("NaN") && !page.contains("-0.00"), "{page}");
        }
        assert!(fs::read_dir(lab.result(node).join("pictures")).unwrap().count() > 0);
    }
}

/// The bytes of every parameter, by name.
pub(crate) fn parameters(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let bytes = fs::read(folder.join("weights.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    tensors.iter().map(|(name, tensor)| (name.to_owned(), tensor.data().to_vec())).collect()
}

#[test]
fn steps_three_and_four_move_one_decoder_and_leave_every_other_bit() {
    let lab = Lab::new("");
    lab.run(&["M_4"]).must_succeed();
    for (before, after, decoder) in [("M_2", "M_3", "organ_decoder."), ("M_3", "M_4", "cancer_decoder.")] {
        let (before, moved) = (parameters(&lab.result(before)), parameters(&lab.result(after)));
        assert_eq!(before.keys().collect::<Vec<_>>(), moved.keys().collect::<Vec<_>>());
        for (name, values) in &moved {
            if !name.starts_with(decoder) {
                assert!(*values == before[name], "{after} moved {name}");
            }
        }
        let live = moved.iter().filter(|(name, _)| name.starts_with(decoder));
        let (n_moved, n_live) = live.fold((0, 0), |(moved, n), (name, values)| (moved + usize::from(*values != before[name]), n + 1));
        // The bias before an instance norm has no effect, so that the four of the decoder may stay.
        assert!(n_moved + 4 >= n_live, "{after}: only {n_moved} of {n_live} parameters of {decoder}* moved");
    }
}

#[test]
fn without_unlabelled_scans_nobody_touches_them() {
    let lab = Lab::new("nodes: {M_2: {inputs: {init: null}}}\n");
    let run = lab.run(&["scores"]).must_succeed();
    let ran = run.ran();
    for node in ["M_1", "pseudo_labels[D_u]", "pseudo_slices[D_u]"] {
        assert!(!ran.contains(&node), "{node} was run");
    }
    assert!(ran.contains(&"pseudo_labels[D_l3]") && ran.contains(&"M_2") && ran.contains(&"scores"));
}

/// The organs that annotators of D_l3 looked for, by the challenge's numbers: liver, right kidney, spleen, pancreas and
/// left kidney.
const FIVE_ORGANS: [u8; 5] = [1, 2, 3, 4, 13];

#[test]
fn true_labels_win_over_the_teachers_voxel_by_voxel() {
    // The teachers' own opinion of the same scans, by the same way as of scans without any labels.
    let lab = Lab::new("nodes: {teacher_labels: {inputs: {images: data.FLARE23/imagesTr2200}}}\n");
    lab.run(&["pseudo_labels[D_l3]", "teacher_labels"]).must_succeed();
    let labels = |folder: &Path, case: &str| nifti::read_labels(folder.join(format!("{case}.nii.gz"))).unwrap().0.data;
    let cases = fs::read_to_string(lab.result("partition").join("D_l3.txt")).unwrap();
    let (mut refused, mut added) = (0, 0);
    for case in cases.lines() {
        let truth_folder = lab.result("phantom").join("FLARE/labelsTr2200");
        let corrected = truth_folder.join("20230507-fix");
        let truth = labels(if corrected.join(format!("{case}.nii.gz")).is_file() { &corrected } else { &truth_folder }, case);
        let teacher = labels(&lab.result("teacher_labels").join("organ"), case);
        let organs = labels(&lab.result("pseudo_labels[D_l3]").join("organ"), case);
        let cancer = labels(&lab.result("pseudo_labels[D_l3]").join("cancer"), case);
        for (at, &true_label) in truth.indexed_iter() {
            let expected = match true_label {
                // Below a tumor nobody labelled the organ.
                14 => teacher[at],
                0 if FIVE_ORGANS.contains(&teacher[at]) => 0,
                0 => teacher[at],
                organ => organ,
            };
            assert_eq!(organs[at], expected, "{case} {at:?}: truth {true_label}, teacher {}", teacher[at]);
            assert_eq!(cancer[at], if true_label == 14 { 14 } else { 0 }, "{case} {at:?}");
            refused += usize::from(expected == 0 && teacher[at] != 0);
            added += usize::from(true_label == 0 && expected != 0);
        }
    }
    assert!(cases.lines().count() == 2 && refused > 0 && added > 0, "the teacher is both refused and heard: {refused}, {added}");
}
