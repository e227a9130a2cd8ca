//! The methods as networks: their outputs, which samples train what, and their rule.

use std::collections::BTreeSet;

use candle_core::{Device, Tensor};
use labels::flare23;
use nets::{DynamicHeadConfig, Network as _, Params, ResidualConfig, TrunkConfig, UNetConfig};
use partial::{Combine, Datasets, Dice, Loss, MethodConfig, Model, ModelConfig, Objective, Rule, Task, Told, Truth};
use random::Streams;

use crate::{FIVE, dataset, names};

const PATCH: usize = 16;

fn residual() -> ResidualConfig {
    ResidualConfig { features: [4, 4, 4, 8], blocks: [1; 5], groups: 2 }
}

fn unet(blocks: Option<Vec<usize>>) -> TrunkConfig {
    TrunkConfig::UNet(UNetConfig {
        features: vec![4, 6, 8],
        strides: vec![[2, 2, 2], [2, 2, 1]],
        blocks,
        first_kernel: [3, 3, 1],
        layers: None,
    })
}

fn linear(by: Objective) -> Loss {
    Loss { by, dice: Dice::Linear }
}

fn methods() -> Vec<(MethodConfig, Objective)> {
    let head = DynamicHeadConfig { depth: 3, width: 4, image_feature: true, task_encoding: true };
    vec![
        (MethodConfig::Dodnet { network: residual(), head }, Objective::Mean),
        (MethodConfig::Multitalent { network: unet(None), deep_supervision: true }, Objective::Sum),
        (MethodConfig::Multitalent { network: unet(Some(vec![1, 2, 1])), deep_supervision: false }, Objective::Sum),
        (MethodConfig::MultiHead { network: TrunkConfig::Residual(residual()) }, Objective::Mean),
        (MethodConfig::Conditional { network: unet(None), told: Told::Input }, Objective::Mean),
        (MethodConfig::Conditional { network: unet(None), told: Told::Decoder }, Objective::Mean),
        (MethodConfig::Conditional { network: TrunkConfig::Residual(residual()), told: Told::Decoder }, Objective::Mean),
        (MethodConfig::Conditional { network: unet(None), told: Told::Nowhere }, Objective::Mean),
        (MethodConfig::TargetAdaptive { network: TrunkConfig::Residual(residual()) }, Objective::Merged),
        (MethodConfig::PerDataset { network: unet(None) }, Objective::Mean),
    ]
}

struct Lab {
    datasets: Datasets,
    model: Model,
    params: Params,
}

fn lab(method: MethodConfig) -> Lab {
    let task = |name: &str, classes: &[&str]| Task { name: name.into(), classes: names(classes) };
    let declared = vec![dataset("both", &[&FIVE[..], &["tumor"]].concat()), dataset("cancer", &["tumor"])];
    let tasks = vec![task("abdomen", &["liver", "spleen"]), task("lesion", &["tumor"])];
    let (datasets, classes) = (crate::datasets(&declared, &flare23::classes()), flare23::classes());
    let model = Model::new(&ModelConfig { method, datasets: declared, tasks }, &datasets, &classes).unwrap();
    let params = Params::init(&model.parameters(), Streams::new(1), &Device::Cpu).unwrap();
    Lab { datasets, model, params }
}

fn images(samples: usize) -> Tensor {
    let values = (0..samples * PATCH.pow(3)).map(|i| (i as f32 * 0.013).sin());
    Tensor::from_iter(values, &Device::Cpu).unwrap().reshape((samples, 1, PATCH, PATCH, PATCH)).unwrap()
}

/// Organs and cancer.
fn maps(samples: usize) -> [Tensor; 2] {
    let map = |value: fn(usize) -> u8| {
        Tensor::from_iter((0..samples * PATCH.pow(3)).map(value), &Device::Cpu).unwrap().reshape((samples, PATCH, PATCH, PATCH)).unwrap()
    };
    [map(|i| [0, 1, 1, 3][i / 40 % 4]), map(|i| u8::from(i % 90 < 9))]
}

impl Lab {
    /// The names of the parameters that a batch of samples of these datasets moves.
    fn moved_by(&self, by: Objective, samples: &[usize]) -> BTreeSet<String> {
        let wanted: Vec<Vec<usize>> = samples.iter().map(|&d| self.model.trained_by(&self.datasets, d)).collect();
        let outputs = self.model.forward(&self.params, &images(samples.len()), &wanted, true).unwrap();
        let groups = maps(samples.len());
        let truth = Truth { groups: &groups, datasets: samples, weights: &[] };
        let loss = linear(by).of(&self.model, &outputs, &truth, &self.datasets).unwrap();
        assert!(loss.to_scalar::<f32>().unwrap().is_finite());
        let gradients = loss.backward().unwrap();
        let moves = |var: &candle_core::Var| {
            let gradient = gradients.get(var)?;
            let largest = gradient.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap();
            (largest > 0.0).then_some(())
        };
        self.params.all().filter(|(_, var)| moves(var).is_some()).map(|(name, _)| name.to_owned()).collect()
    }
}

#[test]
fn both_datasets_together_move_every_parameter() {
    for (method, loss) in methods() {
        let lab = lab(method.clone());
        let moved = lab.moved_by(loss, &[0, 1]);
        let still: Vec<&str> = lab.params.names().filter(|name| !moved.contains(*name)).collect();
        // A residual block starts as its skip, so that only the scale of its last norm moves at first.
        let starts_as_skip = |name: &str| name.starts_with("encoder.") && (name.contains(".conv1.") || name.contains(".conv2."));
        assert!(still.iter().all(|name| starts_as_skip(name)), "{method:?}: {still:?}");
    }
}

#[test]
fn a_dataset_leaves_the_parts_of_others_alone() {
    let separate = |method: &MethodConfig| matches!(method, MethodConfig::MultiHead { .. } | MethodConfig::PerDataset { .. });
    for (method, loss) in methods().into_iter().filter(|(method, _)| separate(method)) {
        let lab = lab(method.clone());
        assert!(lab.model.has_separate_parts());
        let moved = lab.moved_by(loss, &[1]);
        let other = |name: &&String| name.starts_with("abdomen.") || name.starts_with("both.");
        assert!(!moved.is_empty() && moved.iter().find(other).is_none(), "{method:?}: {moved:?}");
    }
}

#[test]
fn what_is_not_annotated_leaves_its_output_alone() {
    // In the shared network the liver of `both` is an output of its own: a batch of `cancer` must not touch it.
    let lab = lab(MethodConfig::Multitalent { network: unet(None), deep_supervision: false });
    let wanted = vec![lab.model.trained_by(&lab.datasets, 1)];
    let outputs = lab.model.forward(&lab.params, &images(1), &wanted, true).unwrap();
    let groups = maps(1);
    let truth = Truth { groups: &groups, datasets: &[1], weights: &[] };
    let gradients = linear(Objective::Sum).of(&lab.model, &outputs, &truth, &lab.datasets).unwrap().backward().unwrap();
    let (_, head) = lab.params.all().find(|(name, _)| *name == "head.0.weight").unwrap();
    let gradient = gradients.get(&head).unwrap().flatten_from(1).unwrap().to_vec2::<f32>().unwrap();
    let touched: Vec<bool> = gradient.iter().map(|row| row.iter().any(|&g| g != 0.0)).collect();
    assert_eq!(touched, [false, false, false, false, false, false, true], "five organs and tumor of `both`, tumor of `cancer`");
}

#[test]
fn a_prior_shifts_the_logits_of_every_class_and_of_nothing_else() {
    for (method, _) in methods() {
        let lab = lab(method.clone());
        let wanted = vec![lab.model.trained_by(&lab.datasets, 0)];
        let logits = || -> Vec<Tensor> {
            let outputs = lab.model.forward(&lab.params, &images(1), &wanted, true).unwrap();
            outputs.into_iter().map(|output| output.logits.detach()).collect()
        };
        let before = logits();
        lab.model.start_near(&lab.params, 0.5).unwrap();
        for (a, b) in before.iter().zip(logits()) {
            assert_eq!(a.flatten_all().unwrap().to_vec1::<f32>().unwrap(), b.flatten_all().unwrap().to_vec1::<f32>().unwrap());
        }
        lab.model.start_near(&lab.params, 0.01).unwrap();
        for (before, after) in before.iter().zip(logits()) {
            let moved = (after - before).unwrap().transpose(0, 1).unwrap().flatten_from(1).unwrap().to_vec2::<f32>().unwrap();
            for (channel, moved) in moved.iter().enumerate() {
                let background = lab.model.is_exclusive() && channel == 0;
                let expected = if background { 0.0 } else { (0.01_f32 / 0.99).ln() };
                assert!(moved.iter().all(|m| (m - expected).abs() < 1e-4), "{method:?}: channel {channel}: {}", moved[0]);
            }
        }
    }
}

#[test]
fn every_method_gives_scores_for_all_that_it_knows() {
    for (method, _) in methods() {
        let lab = lab(method.clone());
        let rule = Rule::default();
        rule.check(&lab.model).unwrap();
        let all = vec![(0..lab.model.heads().len()).collect()];
        let outputs = lab.model.forward(&lab.params, &images(1), &all, false).unwrap();
        let scores = rule.scores(&lab.model, &outputs).unwrap();
        let known: &[u8] = if method.has_tasks() { &[1, 3] } else { &flare23::FIVE_ORGANS };
        assert_eq!(lab.model.outputs().iter().map(|output| &output.values[..]).collect::<Vec<_>>(), [known, &[14]], "{method:?}");
        let channels = [known.len() + 1, 2];
        assert_eq!([0, 1].map(|k| scores[k].dims().to_vec()), channels.map(|channels| vec![channels, PATCH, PATCH, PATCH]), "{method:?}");
        let range = |t: &Tensor| {
            (
                t.flatten_all().unwrap().min(0).unwrap().to_scalar::<f32>().unwrap(),
                t.flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap(),
            )
        };
        assert!(scores.iter().all(|scores| range(scores).0 >= 0.0 && range(scores).1 <= 1.0));
    }
}

#[test]
fn the_rule_combines_heads_as_it_says() {
    let lab = lab(MethodConfig::Multitalent { network: unet(None), deep_supervision: false });
    let outputs = lab.model.forward(&lab.params, &images(1), &[vec![0, 1]], false).unwrap();
    let at = |map: &Tensor, channel: usize| map.narrow(0, channel, 1).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()[77];
    let logits = outputs[0].logits.squeeze(0).unwrap();
    let p = |channel: usize| 1.0 / (1.0 + (-at(&logits, channel)).exp());
    let score = |combine: Combine| {
        let scores = Rule { combine, threshold: 0.4, ..Rule::default() }.scores(&lab.model, &outputs).unwrap();
        assert_eq!((at(&scores[0], 0), at(&scores[1], 0)), (0.4, 0.4), "the background has the threshold");
        assert!((at(&scores[0], 1) - p(0)).abs() < 1e-6, "one head alone has the liver");
        at(&scores[1], 1)
    };
    // Channels 5 and 6 are the tumors of the two datasets.
    assert!((score(Combine::Mean) - (p(5) + p(6)) / 2.0).abs() < 1e-6);
    assert!((score(Combine::Maximum) - p(5).max(p(6))).abs() < 1e-6);
    assert!((score(Combine::Prefer(vec!["cancer".into()])) - p(6)).abs() < 1e-6);
    let unknown = Rule { combine: Combine::Prefer(vec!["kits".into()]), ..Rule::default() }.check(&lab.model).unwrap_err();
    assert!(unknown.to_string().contains("names `kits`; the heads of the model are both, cancer"), "{unknown}");
    // Of two heads with a tumor only the one that is asked counts, and what it does not know is nowhere.
    let own = Rule { heads: vec!["cancer".into()], ..Rule::default() };
    assert_eq!(own.asked(&lab.model), [1]);
    let outputs = lab.model.forward(&lab.params, &images(1), &[own.asked(&lab.model)], false).unwrap();
    let scores = own.scores(&lab.model, &outputs).unwrap();
    assert!((at(&scores[1], 1) - p(6)).abs() < 1e-6 && at(&scores[0], 1) == 0.0);
    let unknown = Rule { heads: vec!["kits".into()], ..Rule::default() }.check(&lab.model).unwrap_err();
    assert!(unknown.to_string().contains("rule.heads names `kits`"), "{unknown}");
}

#[test]
fn exclusive_classes_become_the_greatest() {
    let lab = lab(MethodConfig::TargetAdaptive { network: TrunkConfig::Residual(residual()) });
    let outputs = lab.model.forward(&lab.params, &images(1), &[vec![0]], false).unwrap();
    let scores = Rule::default().scores(&lab.model, &outputs).unwrap();
    let values = |map: &Tensor| ops::argmax_channels(&map.unsqueeze(0).unwrap()).unwrap().flatten_all().unwrap().to_vec1::<u8>().unwrap();
    let (below, above) = (values(&scores[0]), values(&scores[1]));
    // Background, five organs and the tumor.
    let expected = values(&outputs[0].logits.squeeze(0).unwrap());
    let together: Vec<u8> = below.iter().zip(&above).map(|(&below, &above)| if above == 1 { 6 } else { below }).collect();
    assert_eq!(together, expected);
}

#[test]
fn declarations_that_lead_nowhere_are_refused() {
    let classes = flare23::classes();
    let declared = vec![dataset("all", &["organ"]), dataset("cancer", &["tumor"])];
    let datasets = crate::datasets(&declared, &classes);
    let mut config = ModelConfig { method: MethodConfig::MultiHead { network: unet(None) }, datasets: declared, tasks: Vec::new() };
    let mut error = |keys: &[&str]| {
        config.tasks = vec![Task { name: "one".into(), classes: names(keys) }];
        Model::new(&config, &datasets, &classes).err().unwrap().to_string()
    };
    let told = error(&["liver"]);
    assert!(told.contains("no task has a class of the dataset `cancer`"), "{told}");
    let told = error(&["liver", "kidney"]);
    assert!(told.starts_with("model.tasks, task `one`, classes: there is no class `kidney`; the classes are liver, "), "{told}");
    assert!(config.method.check([16, 16, 6]).is_ok());
    let error = config.method.check([16, 18, 16]).unwrap_err().to_string();
    assert!(error.contains("multiples of [4, 4, 2]"), "{error}");
}

#[test]
fn a_class_of_a_task_that_no_dataset_teaches_is_refused() {
    let (classes, declared) = (flare23::classes(), vec![dataset("five", &FIVE)]);
    let datasets = crate::datasets(&declared, &classes);
    let tasks = vec![Task { name: "abdomen".into(), classes: names(&["liver", "aorta"]) }];
    let config = ModelConfig { method: MethodConfig::MultiHead { network: unet(None) }, datasets: declared, tasks };
    let error = Model::new(&config, &datasets, &classes).err().unwrap().to_string();
    assert!(
        error.contains("task `abdomen`: no dataset has aorta annotated") && error.contains("annotated are liver, right_kidney"),
        "{error}"
    );
}

/// As DoDNet's authors lay out organ and tumor, of which the colon has the tumor alone.
#[test]
fn tasks_with_one_class_of_each_group_share_a_channel_for_each_group() {
    let groups = r#"[{"group": "organ", "classes": {"liver": 1, "spleen": 2}}, {"group": "tumor", "classes": {"liver_tumor": 3, "colon_tumor": 4}}]"#;
    let classes: labels::Classes = serde_json::from_str(groups).unwrap();
    let declared = vec![dataset("liver", &["liver", "liver_tumor"]), dataset("colon", &["colon_tumor"]), dataset("spleen", &["spleen"])];
    let datasets = crate::datasets(&declared, &classes);
    let head = DynamicHeadConfig { depth: 3, width: 4, image_feature: true, task_encoding: true };
    for method in
        [MethodConfig::Dodnet { network: residual(), head }, MethodConfig::Conditional { network: unet(None), told: Told::Nowhere }]
    {
        let config = ModelConfig { method, datasets: declared.clone(), tasks: Vec::new() };
        let model = Model::new(&config, &datasets, &classes).unwrap();
        let params = Params::init(&model.parameters(), Streams::new(1), &Device::Cpu).unwrap();
        let outputs = model.forward(&params, &images(1), &[vec![0, 1, 2]], false).unwrap();
        let rows = outputs.iter().flat_map(|output| &output.rows);
        let channels: Vec<Vec<Option<u8>>> =
            rows.map(|row| row.channels.iter().map(|about| about.map(|about| about.class.value())).collect()).collect();
        assert_eq!(channels, [[Some(1), Some(3)], [None, Some(4)], [Some(2), None]]);
    }
}

/// What is told in the decoder changes its outputs and leaves the encoder alone; where nothing is told, tasks have the same logits.
#[test]
fn tasks_differ_as_far_as_they_are_told() {
    for (told, differ) in [(Told::Input, true), (Told::Decoder, true), (Told::Nowhere, false)] {
        for network in [unet(None), unet(Some(vec![1, 2, 1])), TrunkConfig::Residual(residual())] {
            let lab = lab(MethodConfig::Conditional { network: network.clone(), told });
            let outputs = lab.model.forward(&lab.params, &images(1), &[vec![0, 1]], false).unwrap();
            let logits = |k: usize| outputs[k].logits.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(logits(0) != logits(1), differ, "{told:?} {network:?}");
            let inputs = |name: &str| lab.params.all().find(|(own, _)| *own == name).map(|(_, var)| var.dims()[1]);
            let first = ["encoder.0.0.conv.weight", "encoder.stem.conv.weight", "conv1.weight"].into_iter().find_map(inputs);
            assert_eq!(first, Some(if told == Told::Input { 3 } else { 1 }), "the image, and a channel for each of two tasks");
            let decoder = ["decoder.0.0.conv.weight", "x1_resb.0.conv1.weight"].into_iter().find_map(inputs);
            let maps = if matches!(network, TrunkConfig::UNet(_)) { 8 } else { 4 };
            assert_eq!(decoder, Some(if told == Told::Decoder { maps + 2 } else { maps }));
        }
    }
    let swin = TrunkConfig::SwinUnetr(nets::SwinUnetrConfig { feature_size: 12, window_size: 4, ..nets::SwinUnetrConfig::default() });
    let check = |told| MethodConfig::Conditional { network: swin.clone(), told }.check([32; 3]);
    assert!(check(Told::Decoder).unwrap_err().to_string().contains("takes no channels that tell the task") && check(Told::Nowhere).is_ok());
}
