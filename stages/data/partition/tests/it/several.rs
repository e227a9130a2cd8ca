//! Several datasets in one partition: values that contradict each other, kidneys that contain their tumors, subsets across datasets.

use serde_json::{Value, json};
use volume::{Affine, Grid};

use crate::data::{Data, with};

/// Six datasets in nnU-Net's layout, as they come in practice: each numbers and names classes its own way.
fn six(data: &mut Data) -> Value {
    data.dataset_json("organs", &json!({"background": 0, "kidney_left": 1, "kidney_right": 2, "liver": 3, "spleen": 4}));
    data.nnunet("organs", "ts_1", &[1, 2, 3, 4]);
    data.nnunet("organs", "ts_2", &[2, 3, 4]);
    data.dataset_json("spleen", &json!({"background": 0, "Spleen": 1}));
    data.nnunet("spleen", "spleen_2", &[1]);
    data.dataset_json("sarcoma", &json!({"background": 0, "mass": 1}));
    data.nnunet("sarcoma", "STS_001", &[1]);
    data.nnunet("sarcoma", "STS_002", &[]);
    data.dataset_json("abdomen", &json!({"background": 0, "liver": 1, "kidneys": 2, "spleen": 3, "artefact": 9}));
    data.nnunet("abdomen", "ts_1", &[1, 2, 3, 9]);
    data.dataset_json("kits", &json!({"background": 0, "kidney": [1, 2, 3], "masses": [2, 3], "tumor": 2}));
    data.nnunet("kits", "case_1", &[1, 2, 3]);
    data.nnunet("kits", "case_2", &[1, 3]);
    data.dataset_json("unlabelled", &json!({"background": 0}));
    data.image("unlabelled/imagesTr/x_0000.nii");
    json!({
        "classes": [
            {"group": "organ", "classes": {"liver": 1, "kidney": 200, "spleen": 30}},
            {"group": "cancer", "classes": {"tumor": 14, "sarcoma": 255}},
        ],
        "datasets": {
            "organs": {"layout": "nnunet", "values": {"kidney": ["kidney_left", "kidney_right"]}},
            "spleen": {"layout": "nnunet"},
            "sarcoma": {"layout": "nnunet", "values": {"sarcoma": "mass"}},
            "abdomen": {"layout": "nnunet", "values": {"kidney": 2}, "ignore": "artefact"},
            "kits": {"layout": "nnunet", "ignore": ["masses"]},
            "unlabelled": {"layout": "nnunet"},
        },
        "split": {"fraction": 0.5},
    })
}

#[test]
fn each_dataset_keeps_its_values_and_all_mean_the_same_classes() {
    let mut data = Data::new();
    let params = six(&mut data);
    let done = data.partition(&params).unwrap();
    assert!(done.left_out().is_empty(), "{:#?}", done.findings());
    let shown = |id: &str| done.shown(id);
    assert_eq!(shown("organs__ts_1"), "liver spleen kidney");
    assert_eq!(shown("abdomen__ts_1"), "liver spleen kidney", "cases of one name in two datasets are two cases");
    assert_eq!(shown("spleen__spleen_2"), "spleen", "capitals play no part");
    assert_eq!(shown("sarcoma__STS_001"), "sarcoma");
    assert_eq!(shown("sarcoma__STS_002"), "");
    assert_eq!(shown("kits__case_1"), "tumor kidney", "a kidney contains its tumor");
    assert_eq!(shown("kits__case_2"), "kidney", "a cyst is one of the kidney's values and no class of its own");
    assert_eq!(shown("unlabelled__x"), "");
    assert_eq!(done.annotated("sarcoma__STS_002"), "sarcoma", "its annotators looked and found none");
    assert_eq!(done.annotated("kits__case_2"), "tumor kidney");
    assert_eq!(done.annotated("spleen__spleen_2"), "spleen");
    assert_eq!(done.annotated("unlabelled__x"), "");
    let kits = &done.manifest.regions["kits"];
    assert_eq!([200, 14].map(|class| kits.of_class(class).to_string()), ["{1,2,3}", "{2}"]);
    assert_eq!(done.manifest.regions["abdomen"].of_class(200).to_string(), "{2}");
    assert!(done.manifest.regions["unlabelled"].classes().is_empty());
}

#[test]
fn without_rules_each_dataset_is_a_subset_of_its_name() {
    let mut data = Data::new();
    let params = six(&mut data);
    let done = data.partition(&params).unwrap();
    assert_eq!(done.lines("sarcoma.txt"), ["sarcoma__STS_001", "sarcoma__STS_002"]);
    assert_eq!(done.lines("D.txt").len(), 9);
    let table = done.text("patterns.md");
    for line in [
        "| subset | cases | training | validation | abdomen | kits | organs | sarcoma | spleen | unlabelled |",
        "| kits | 2 | 1 | 1 | 0 | 2 | 0 | 0 | 0 | 0 |",
        "| D | 9 | 6 | 3 | 1 | 2 | 2 | 2 | 1 | 1 |",
        "| tumor, kidney | {14,200} | kits | kits | 1 |",
        "| none | {} | unlabelled | unlabelled | 1 | 1 | 0 |",
    ] {
        assert!(table.contains(line), "{line}\n{table}");
    }
    assert!(!table.contains("expected"), "{table}");
    assert!(done.lines("patterns.csv").contains(&"\"{14,200}\",tumor kidney,kits,kits,1,0,1".to_owned()), "{}", done.text("patterns.csv"));
    let json: Value = serde_json::from_str(&done.text("patterns.json")).unwrap();
    assert_eq!(json["subsets"][1]["datasets"]["kits"], 2);
    assert_eq!(json["patterns"][1]["classes"], json!(["kidney"]));
}

#[test]
fn a_class_that_a_dataset_has_nowhere_is_annotated_there() {
    let mut data = Data::new();
    let mut params = six(&mut data);
    params["datasets"]["spleen"]["values"] = json!({"sarcoma": []});
    params["datasets"]["kits"]["values"] = json!({"sarcoma": []});
    let done = data.partition(&params).unwrap();
    assert_eq!(done.annotated("spleen__spleen_2"), "spleen sarcoma");
    assert_eq!(done.annotated("kits__case_1"), "tumor kidney sarcoma");
    assert_eq!(done.annotated("abdomen__ts_1"), "liver spleen kidney");
}

#[test]
fn subsets_gather_cases_of_several_datasets_and_unions_of_subsets() {
    let mut data = Data::new();
    let params = with(
        &six(&mut data),
        &json!({
            "subsets": {
                "sick": {"any": ["cancer"]},
                "well": {"any": ["organ"], "none": ["cancer"]},
                "rest": {"none": ["organ", "cancer"], "datasets": []},
            },
            "unions": {"shown": ["sick", "well"]},
            "expected": {"shown": 8, "rest": 2},
        }),
    );
    let done = data.partition(&params).unwrap();
    assert_eq!(done.lines("sick.txt"), ["kits__case_1", "sarcoma__STS_001"]);
    assert_eq!(done.lines("rest.txt"), ["sarcoma__STS_002", "unlabelled__x"]);
    assert_eq!(done.lines("shown.txt").len(), 7);
    assert_eq!(done.manifest.select("shown", None).unwrap().len(), 7);
    let table = done.text("patterns.md");
    assert!(table.contains("| shown | 7 |") && table.contains("| 8 |\n"), "{table}");
    // Which classes were looked for is still said by the dataset of each case.
    assert_eq!(done.annotated("kits__case_1"), "tumor kidney");
    assert_eq!(done.annotated("sarcoma__STS_001"), "sarcoma");
}

#[test]
fn a_value_that_is_not_declared_leaves_its_case_out_and_a_changed_declaration_reads_no_scan_again() {
    let mut data = Data::new();
    let params = six(&mut data);
    data.nnunet("abdomen", "odd", &[1, 77, 77]);
    let done = data.partition(&params).unwrap();
    let finding = &done.left_out()[0];
    assert_eq!((finding.case.as_str(), finding.file.to_str()), ("abdomen__odd", Some("labelsTr/odd.nii")));
    assert!(finding.found.contains("77 (2 voxels)") && finding.found.contains("{1,2,3,9}"), "{finding:?}");
    assert!(finding.remedy.contains("`ignore`"), "{finding:?}");
    let keys = |params: &Value| {
        let inputs = params["datasets"].as_object().unwrap().keys().map(|name| (format!("datasets.{name}"), data.path(name)));
        let io = stage_kit::StageIo::new("partition", inputs, data.path("out"), data.path("work"), 1);
        let entry = stage_kit::Entry::of::<partition::Partition>();
        let plan = entry.cases(entry.resolve(params.clone()).unwrap(), &io).unwrap().unwrap();
        (format!("{:?} {:?}", plan.params, plan.cases), plan.rest)
    };
    let mut ignoring = params.clone();
    ignoring["datasets"]["abdomen"]["ignore"] = json!(["artefact", 77]);
    let ((cases, rest), (same_cases, other_rest)) = (keys(&params), keys(&ignoring));
    assert_eq!(cases, same_cases);
    assert_ne!(rest, other_rest);
    assert_eq!(data.partition(&ignoring).unwrap().shown("abdomen__odd"), "liver");
}

#[test]
fn three_groups_and_values_above_fourteen_are_no_different() {
    let mut data = Data::new();
    data.image("set/ct/a.nii.gz.nii");
    data.image("set/ct/b.nii");
    data.label("set/seg/b.nii", &[40, 41, 250]);
    let params = json!({
        "classes": [
            {"group": "organ", "classes": {"lung": 40}},
            {"group": "vessel", "classes": {"vein": 41, "artery": 250}},
            {"group": "lesion", "classes": {"nodule": 99}},
        ],
        "datasets": {"set": {"layout": {"pattern": {"images": "ct/{case}.nii", "labels": "seg/{case}.nii", "unlabeled": true}}}},
        "subsets": {"none": {"none": ["organ", "vessel", "lesion"]}, "some": {"any": ["organ", "vessel", "lesion"]}},
        "split": {"fraction": 0},
    });
    let done = data.partition(&params).unwrap();
    assert_eq!(done.subsets(), [("a.nii.gz", "none"), ("b", "some")]);
    assert_eq!(done.shown("b"), "lung vein artery");
    assert_eq!(done.annotated("b"), "lung vein nodule artery");
}

/// A scan of 20 x 3 x 2 voxels of a centimetre along x, which runs to the left: two kidneys with a gap, a tumor in the left one.
#[test]
fn a_label_of_both_sides_is_cut_between_its_parts() {
    let data = Data::new();
    let affine = Affine([[-10.0, 0.0, 0.0, 95.0], [0.0, 1.0, 0.0, 2.0], [0.0, 0.0, 2.5, 3.0], [0.0, 0.0, 0.0, 1.0]]);
    let grid = Grid { shape: [20, 3, 2], affine };
    let row = |kidneys: &[usize], tumor: &[usize]| {
        let value = |x: usize| if tumor.contains(&x) { 3 } else { u8::from(kidneys.contains(&x)) };
        (0..grid.voxels()).map(|at| value(at % 20)).collect::<Vec<u8>>()
    };
    data.dataset_json("abdomen", &json!({"background": 0, "kidneys": [1, 3], "tumor": 3}));
    for (case, values) in [("both", row(&[4, 5, 6, 13, 14, 15], &[14])), ("left", row(&[13, 14, 15], &[])), ("none", row(&[], &[]))] {
        data.image_on(&format!("abdomen/imagesTr/{case}_0000.nii"), &grid, 40.0);
        data.label_on(&format!("abdomen/labelsTr/{case}.nii"), &grid, values);
    }
    let params = json!({
        "classes": [{"group": "organ", "classes": {"left": 1, "right": 2}}, {"group": "cancer", "classes": {"tumor": 14}}],
        "datasets": {"abdomen": {"layout": "nnunet", "values": {"left": {"left": "kidneys"}, "right": {"right": "kidneys"}}}},
        "split": {"fraction": 0.5},
    });
    let done = data.partition(&params).unwrap();
    assert!(done.left_out().is_empty(), "{:#?}", done.findings());
    assert_eq!(["both", "left", "none"].map(|case| done.shown(case)), ["left right tumor", "left", ""]);
    // Voxel 6 has its middle at 35 mm, voxel 13 at -35 mm.
    let cuts = |case: &str| done.case(case).cuts.iter().map(|cut| (cut.value, cut.left, cut.x_mm)).collect::<Vec<_>>();
    assert_eq!(cuts("left"), [(1, 255, -34), (3, 254, -34)], "its one part lies left of the scan's middle");
    assert_eq!(cuts("none"), []);
    let [(1, 255, x_mm), (3, 254, same)] = cuts("both")[..] else { panic!("{:?}", cuts("both")) };
    assert!((-34..35).contains(&x_mm) && same == x_mm, "{x_mm}: a tumor goes with its kidney");
    let regions = &done.manifest.regions["abdomen"];
    assert_eq!([1, 2, 14].map(|class| regions.of_class(class).to_string()), ["{254,255}", "{1,3}", "{3,254}"]);
}
