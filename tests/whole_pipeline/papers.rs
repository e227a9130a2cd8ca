//! The pipelines of the other papers, on small patients in the folders, names and values of the datasets' publishers.

use std::fs;
use std::path::{Path, PathBuf};

use ndarray::Array3;
use serde_json::{Map, json};
use volume::{Volume, nifti};

use crate::lab::{Lab, Outcome};
use crate::method::parameters;

/// A dataset as its publisher gives it: folder, paths of images and label maps with a `#` for the number of the case, and for each
/// class of FLARE23 that stands in for one of its own the published value.
struct Published {
    folder: &'static str,
    image: &'static str,
    label: &'static str,
    values: &'static [(u8, u8)],
}

const fn published(folder: &'static str, image: &'static str, label: &'static str, values: &'static [(u8, u8)]) -> Published {
    Published { folder, image, label, values }
}

/// As the Medical Segmentation Decathlon and nnU-Net give them.
const fn decathlon(folder: &'static str, values: &'static [(u8, u8)]) -> Published {
    published(folder, "imagesTr/case_00#.nii.gz", "labelsTr/case_00#.nii.gz", values)
}

/// An organ and its tumor, by FLARE23's values: of the liver, the kidneys, the pancreas.
const LIVER: &[(u8, u8)] = &[(1, 1), (14, 2)];
const KIDNEYS: &[(u8, u8)] = &[(2, 1), (13, 1), (14, 2)];
const PANCREAS: &[(u8, u8)] = &[(4, 1), (14, 2)];
const VESSEL: &[(u8, u8)] = &[(6, 1), (14, 2)];
const TUMOR: &[(u8, u8)] = &[(14, 1)];
const SPLEEN: &[(u8, u8)] = &[(3, 1)];
/// What FLARE23 has of BTCV's organs; its vein is the aorta's neighbour here.
const BTCV: &[(u8, u8)] = &[(3, 1), (2, 2), (13, 3), (9, 4), (10, 5), (1, 6), (11, 7), (5, 8), (6, 9), (12, 10), (4, 11), (7, 12), (8, 13)];
/// A tumor stands in for the bladder, and nothing for prostate or uterus.
const AMOS: &[(u8, u8)] =
    &[(3, 1), (2, 2), (13, 3), (9, 4), (10, 5), (1, 6), (11, 7), (5, 8), (6, 9), (4, 10), (7, 11), (8, 12), (12, 13), (14, 14), (15, 15)];
const THORAX: &[(u8, u8)] = &[(1, 1), (3, 2), (11, 3), (10, 4), (9, 5), (5, 6)];
const SEGTHOR: &[(u8, u8)] = &[(10, 1), (11, 2), (9, 3), (5, 4)];
const PELVIS: &[(u8, u8)] = &[(9, 1), (4, 2), (12, 3), (11, 4)];

const LITS: Published = published("LiTS", "Training Batch 1/volume-#.nii", "Training Batch 1/segmentation-#.nii", LIVER);
const KITS19: Published = published("KiTS19", "case_0000#/imaging.nii.gz", "case_0000#/segmentation.nii.gz", KIDNEYS);
const BTCV_ABDOMEN: Published = published("BTCV", "img/img000#.nii.gz", "label/label000#.nii.gz", BTCV);

/// Phantoms, from which all datasets take their cases.
struct Scans {
    lab: Lab,
    /// Images and full truths of patients with tumors.
    patients: Vec<(PathBuf, PathBuf)>,
}

impl Scans {
    fn new() -> Self {
        let lab = Lab::new("nodes: {phantom: {params: {tumor_fraction: 1, cases: {D_u: 2, D_l1: 0, D_l2: 0, D_l3: 2, D_l4: 2}}}}\n");
        lab.run(&["phantom"]).must_succeed();
        let phantom = lab.result("phantom");
        let image = |name: &str| {
            let places = ["imagesTr2200", "unlabeledTr1800", "validation"].map(|folder| phantom.join("FLARE").join(folder).join(name));
            places.into_iter().find(|path| path.is_file()).unwrap()
        };
        let mut patients: Vec<(PathBuf, PathBuf)> = fs::read_dir(phantom.join("truth"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|truth| (image(&truth.file_name().unwrap().to_str().unwrap().replace(".nii.gz", "_0000.nii.gz")), truth))
            .collect();
        patients.sort();
        assert!(patients.len() >= 3);
        Self { lab, patients }
    }

    /// Writes so many cases of a dataset.
    fn publish(&self, dataset: &Published, cases: usize) {
        let root = self.lab.path(dataset.folder);
        let mut training = Vec::new();
        for (number, (image, truth)) in self.patients.iter().cycle().take(cases).enumerate() {
            let place = |template: &str| {
                let path = root.join(template.replace('#', &number.to_string()));
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                path
            };
            nifti::write_scalar_i16(place(dataset.image), &nifti::read_scalar(image).unwrap().0).unwrap();
            let truth = nifti::read_labels(truth).unwrap().0;
            let value = |label: u8| dataset.values.iter().find(|(own, _)| *own == label).map_or(0, |(_, value)| *value);
            let labels = Volume { data: truth.data.mapv(value), affine: truth.affine };
            nifti::write_labels_on(place(dataset.label), &labels).unwrap();
            let [image, label] = [dataset.image, dataset.label].map(|path| format!("./{}", path.replace('#', &number.to_string())));
            training.push(json!({"image": image, "label": label}));
        }
        if dataset.image.starts_with("imagesTr/") {
            let mut values: Vec<u8> = dataset.values.iter().map(|(_, value)| *value).collect();
            values.push(0);
            let labels: Map<String, serde_json::Value> = values
                .iter()
                .map(|value| (value.to_string(), json!(if *value == 0 { "background".into() } else { format!("class {value}") })))
                .collect();
            let list = json!({"modality": {"0": "CT"}, "labels": labels, "numTraining": cases, "training": training});
            fs::write(root.join("dataset.json"), list.to_string()).unwrap();
        }
    }

    /// Writes `small.yaml` over one of the pipelines, with these folders as its data.
    fn small(&self, pipeline: &str, data: &[(&str, &str)], nodes: &str) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../pipelines");
        let data: Vec<String> = data.iter().map(|(name, folder)| format!("{name}: {folder}")).collect();
        let text = format!("extends: {}\nstore: store\ndata: {{{}}}\nnodes:\n{nodes}", folder.join(pipeline).display(), data.join(", "));
        fs::write(self.lab.path("small.yaml"), text).unwrap();
    }

    /// Asserts that the pipeline file itself plans on these folders.
    fn plan(&self, pipeline: &str, data: &[(&str, &str)]) {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../pipelines").join(pipeline).display().to_string();
        let data: Vec<String> = data.iter().map(|(name, folder)| format!("{name}={}", self.lab.path(folder).display())).collect();
        let mut arguments = vec!["run", "--dry-run", "--pipeline", &file, "--store", "planned"];
        data.iter().for_each(|one| arguments.extend(["--data", one]));
        let outcome = self.lab.call(&arguments);
        assert_eq!(outcome.code, Some(3), "work to do, and no mistake:\n{}\n{}", outcome.stdout, outcome.stderr);
    }

    fn run(&self, nodes: &[&str]) -> Outcome {
        self.lab.call(&[&["run", "--pipeline", "small.yaml", "-j", "2"], nodes].concat()).must_succeed()
    }

    fn result(&self, node: &str) -> PathBuf {
        self.lab.path("store/results/small").join(node)
    }

    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.result(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn labels(&self, path: &str) -> Array3<u8> {
        nifti::read_labels(self.result(path)).unwrap().0.data
    }
}

#[test]
fn dodnet_and_its_comparisons_run_on_the_seven_datasets_as_published() {
    let scans = Scans::new();
    let datasets = [
        LITS,
        KITS19,
        decathlon("Task08_HepaticVessel", VESSEL),
        decathlon("Task07_Pancreas", PANCREAS),
        decathlon("Task10_Colon", TUMOR),
        decathlon("Task06_Lung", TUMOR),
        decathlon("Task09_Spleen", SPLEEN),
        BTCV_ABDOMEN,
    ];
    datasets.iter().for_each(|dataset| scans.publish(dataset, 2));
    // A test scan of KiTS19, whose label map is not published.
    let unlabelled = scans.lab.path("KiTS19/case_00210/imaging.nii.gz");
    fs::create_dir_all(unlabelled.parent().unwrap()).unwrap();
    fs::copy(scans.lab.path("KiTS19/case_00000/imaging.nii.gz"), unlabelled).unwrap();
    let data = ["LiTS", "KiTS19", "MSD_HepaticVessel", "MSD_Pancreas", "MSD_Colon", "MSD_Lung", "MSD_Spleen", "BCV"];
    let data: Vec<(&str, &str)> = data.into_iter().zip(datasets.iter().map(|dataset| dataset.folder)).collect();
    scans.plan("dodnet.yaml", &data);
    scans.small(
        "dodnet.yaml",
        &data,
        "  volumes: {params: {grid: {spacing_mm: [8, 8, 8]}}}
  dodnet:
    params:
      model: {method: {dodnet: {network: &tiny {features: [4, 4, 4, 8], blocks: [1, 1, 1, 1, 1], groups: 2}, head: {width: 4}}}}
      patch: [32, 32, 32]
      foreground: {margin: 4}
      fit: {epochs: 1, max_steps_per_epoch: 2}
      validation_patches: 2
  multi_nets: {params: {model: {method: {per_dataset: {network: {residual: *tiny}}}}}}
  tal: {params: {model: {method: {target_adaptive: {network: {residual: *tiny}}}}}}
  multi_head: {params: {model: {method: {multi_head: {network: {residual: *tiny}}}}}}
  cond_no: {params: {model: {method: {conditional: {network: {residual: *tiny}}}}}}
  cond_input: {params: {model: {method: {conditional: {network: {residual: *tiny}}}}}}
  cond_dec: {params: {model: {method: {conditional: {network: {residual: *tiny}}}}}}
  labels: {params: {flips: false}}
",
    );
    scans.run(&["scores_kidney", "scores_colon", "figure_4", "depth", "without_task", "bcv", "bcv_from_scratch"]);
    assert_eq!(scans.text("partition/validation/D.txt").lines().count(), 7, "one test case of each dataset");
    assert!(!scans.result("partition/about/left_out.md").exists(), "what KiTS19 does not label is passed over");
    let case = "kidney__case_00000.nii.gz";
    let truth = scans.labels(&format!("labels[dodnet,kidney]/truth/{case}"));
    assert!(truth.iter().any(|&value| value == 1) && truth.iter().any(|&value| value == 2), "as published");
    for method in ["dodnet", "multi_nets", "cond_dec"] {
        let found = scans.labels(&format!("shown[{method},kidney]/labels/{case}"));
        assert!(found.iter().all(|value| [0, 2, 7].contains(value)), "{method}: kidney and its tumor alone");
    }
    let table = scans.text("scores_kidney[kidney]/plain.md");
    for model in ["Multi-Nets", "TAL", "Multi-Head", "Cond-NO", "Cond-Input", "Cond-Dec", "DoDNet"] {
        assert!(table.contains(model), "{table}");
    }
    assert!(scans.text("dodnet/curve.csv").contains("dice_hepatic_vessel_hepatic_vessel_tumor"));
    // Encoder and decoder of DoDNet go on in the network of BCV's organs.
    let [transferred, begun] = ["bcv[dodnet]", "bcv_from_scratch"].map(|node| parameters(&scans.result(node)));
    assert_eq!(transferred.keys().collect::<Vec<_>>(), begun.keys().collect::<Vec<_>>());
    assert!(transferred["x1_resb.0.conv1.weight"] != begun["x1_resb.0.conv1.weight"]);
}

#[test]
fn multitalent_runs_on_the_thirteen_datasets_and_goes_on_to_another() {
    let scans = Scans::new();
    let datasets = [
        ("liver", decathlon("Task003_Liver", LIVER)),
        ("lung", decathlon("Task006_Lung", TUMOR)),
        ("pancreas", decathlon("Task007_Pancreas", PANCREAS)),
        ("hepatic_vessel", decathlon("Task008_HepaticVessel", VESSEL)),
        ("spleen", decathlon("Task009_Spleen", SPLEEN)),
        ("colon", decathlon("Task010_Colon", TUMOR)),
        ("btcv", decathlon("Task017_AbdominalOrganSegmentation", BTCV)),
        ("pelvis", decathlon("Task018_PelvicOrganSegmentation", PELVIS)),
        ("btcv2", decathlon("Task046_AbdOrgSegm2", &[(3, 1), (13, 2), (9, 3), (10, 4), (1, 5), (11, 6), (4, 7), (12, 8)])),
        ("structseg", decathlon("Task051_StructSeg2019_Task3_Thoracic_OAR", THORAX)),
        ("segthor", decathlon("Task055_SegTHOR", SEGTHOR)),
        ("nih_pancreas", decathlon("Task062_NIHPancreas", &[(4, 1)])),
        ("kits19", decathlon("Task064_KiTS_labelsFixed", KIDNEYS)),
        ("AMOS", decathlon("Task218_AMOS2022_task1", AMOS)),
    ];
    datasets.iter().for_each(|(_, dataset)| scans.publish(dataset, 2));
    let data: Vec<(&str, &str)> = datasets.iter().map(|(name, dataset)| (*name, dataset.folder)).collect();
    scans.plan("multitalent.yaml", &data);
    scans.small(
        "multitalent.yaml",
        &data,
        "  partition: {params: {split: {folds: null, fold: null, fraction: 0.5}}}
  amos_partition: {params: {split: {folds: null, fold: null, fraction: 0.5}}}
  volumes: {params: {grid: {spacing_mm: [8, 8, 8]}}}
  amos_volumes: {params: {grid: {spacing_mm: [8, 8, 8]}}}
  u_net:
    params:
      model: {method: {multitalent: {network: {u_net: {features: [2, 2, 4, 4, 4, 4]}}}}}
      patch: [32, 32, 32]
      fit: {epochs: 1, max_steps_per_epoch: 2}
      validation_patches: 4
  u_net_btcv_heads: &short {params: {fit: {epochs: 1, schedule: {warmup: {epochs: 1}}}}}
  u_net_btcv_whole: *short
  u_net_btcv: {params: {fit: {epochs: 1}}}
  u_net_amos_whole: *short
  u_net_amos: {params: {fit: {epochs: 1}}}
  labels: {params: {flips: false}}
  scores_kits19: {inputs: {predictions: {u_net: 'shown[u_net,$dataset]'}}}
",
    );
    scans.run(&["scores_kits19", "resenc", "u_net_btcv", "u_net_amos"]);
    let outputs = |node: &str| parameters(&scans.result(node))["head.0.bias"].len() / 4;
    assert_eq!([outputs("u_net"), outputs("resenc"), outputs("u_net_without_btcv")], [47, 47, 34]);
    assert_eq!([outputs("u_net_btcv"), outputs("u_net_amos")], [13, 15]);
    // The heads alone are warmed up, on top of what the other datasets have taught.
    let [before, heads, whole] = ["u_net_without_btcv", "u_net_btcv_heads", "u_net_btcv_whole"].map(|node| parameters(&scans.result(node)));
    let first = "encoder.0.0.conv.weight";
    assert!(before[first] == heads[first] && heads[first] != whole[first]);
    let folder = scans.result("shown[u_net,kits19]/labels");
    for entry in fs::read_dir(folder).unwrap() {
        let found = nifti::read_labels(entry.unwrap().path()).unwrap().0.data;
        assert!(found.iter().all(|value| [0, 1, 32].contains(value)), "both kidneys and their tumor, from the dataset's own heads");
    }
}

#[test]
fn mutual_learning_runs_on_nine_datasets_from_head_to_pelvis() {
    let scans = Scans::new();
    const HEAD: &[(u8, u8)] =
        &[(1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (6, 6), (7, 7), (8, 8), (9, 9), (10, 10), (11, 11), (12, 12), (13, 13)];
    let datasets = [
        published("StructSeg/HaN_OAR", "#/data.nii.gz", "#/label.nii.gz", HEAD),
        published("StructSeg/Thoracic_OAR", "#/data.nii.gz", "#/label.nii.gz", THORAX),
        published("SegTHOR", "Patient_0#/Patient_0#.nii.gz", "Patient_0#/GT.nii.gz", SEGTHOR),
        BTCV_ABDOMEN,
        published("BTCV_Cervix", "img/050#-Image.nii.gz", "label/050#-Mask.nii.gz", PELVIS),
        LITS,
        KITS19,
        decathlon("Task07_Pancreas", PANCREAS),
        decathlon("Task09_Spleen", SPLEEN),
    ];
    datasets.iter().for_each(|dataset| scans.publish(dataset, 2));
    let data = [
        ("StructSeg", "StructSeg"),
        ("SegTHOR", "SegTHOR"),
        ("BTCV", "BTCV"),
        ("BTCV_Cervix", "BTCV_Cervix"),
        ("LiTS", "LiTS"),
        ("KiTS19", "KiTS19"),
        ("MSD_Pancreas", "Task07_Pancreas"),
        ("MSD_Spleen", "Task09_Spleen"),
    ];
    scans.plan("mutual.yaml", &data);
    scans.small(
        "mutual.yaml",
        &data,
        "  volumes: {params: {grid: {spacing_mm: [8, 8, 8]}}}
  first:
    params:
      model: {method: {mutual_partial: {network: &tiny {residual: {features: [4, 4, 4, 8], blocks: [1, 1, 1, 1, 1], groups: 2}}}}}
      patch: [32, 32, 32]
      foreground: {margin: 4}
      fit: {epochs: 1, max_steps_per_epoch: 2}
      validation_patches: 1
  full: {params: {model: {method: {mutual_full: {network: *tiny}}}}}
  scores_kidney: {inputs: {predictions: {full: 'shown[full,$dataset]'}}}
",
    );
    scans.run(&["scores_kidney", "no_prediction_difference", "no_feature_similarity"]);
    assert_eq!(parameters(&scans.result("full")).keys().filter(|name| name.ends_with("head.0.bias")).count(), 9, "a network a dataset");
    assert!(scans.text("completed[first]/trust.csv").contains("liver_tumor"), "what trust the first stage's tumors have");
    assert!(scans.text("scores_kidney[kidney]/plain.md").contains("full"));
}
