//! Graphs against onnxruntime: `compute.py` has computed the graphs in `expected`, and these are the ones that are written today, to
//! the byte. What a network computes here is what onnxruntime computed there. Weights and images follow from formulas.

mod networks;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::{Device, Tensor};
use nets::Params;
use onnx::Recorder;

use crate::networks::{partial_models, student, teacher};

/// Every so many values of an output are kept in `expected`.
const STEP: usize = 13;

/// What onnxruntime's sums differ by, in f32.
const TOLERANCE: f32 = 1e-4;

/// Values that follow from the place of a parameter, and show where one is taken for another.
fn fill(params: &Params) {
    for (k, (name, var)) in params.all().enumerate() {
        let dims = var.dims();
        let (shift, scale) = match dims.len() {
            1 if name.ends_with("weight") => (1.0, 0.1),
            1 => (0.0, 0.05),
            _ => (0.0, (2.0 * dims[0] as f64 / var.elem_count() as f64).sqrt()),
        };
        let value = |i: usize| (shift + scale * (0.7 * i as f64 + 1.3 * k as f64).sin()) as f32;
        params.set(name, &Tensor::from_iter((0..var.elem_count()).map(value), &Device::Cpu).unwrap().reshape(dims).unwrap()).unwrap();
    }
}

fn image(shape: &[usize]) -> Tensor {
    let count: usize = shape.iter().product();
    Tensor::from_iter((0..count).map(|i| (0.37 * i as f64).sin() as f32), &Device::Cpu).unwrap().reshape(shape).unwrap()
}

fn flat(x: &Tensor) -> Vec<f32> {
    x.flatten_all().unwrap().to_vec1().unwrap()
}

/// The graph of that name, and what onnxruntime made of it for each image.
struct Expected {
    name: &'static str,
    values: HashMap<String, Tensor>,
}

impl Expected {
    /// Refuses graphs that onnxruntime has not computed, and leaves them where `compute.py` takes them from.
    fn of<const N: usize>(graphs: [(&'static str, Vec<u8>); N]) -> [Self; N] {
        let (folder, new) = (Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/graphs/expected"), Path::new(env!("CARGO_TARGET_TMPDIR")));
        let file = |name: &str| format!("{name}.onnx");
        let others: Vec<_> =
            graphs.iter().filter(|(name, graph)| std::fs::read(folder.join(file(name))).ok().as_ref() != Some(graph)).collect();
        others.iter().for_each(|(name, graph)| std::fs::write(new.join(file(name)), graph).unwrap());
        let names: Vec<_> = others.iter().map(|(name, _)| name).collect();
        assert!(names.is_empty(), "onnxruntime has not computed {names:?}: run compute.py {} expected in tests/graphs", new.display());
        let values = |name: &str| candle_core::safetensors::load(folder.join(format!("{name}.safetensors")), &Device::Cpu).unwrap();
        graphs.map(|(name, _)| Self { name, values: values(name) })
    }

    /// The shapes of the images.
    fn shapes(&self) -> Vec<Vec<usize>> {
        let shape = |k: usize| self.values.get(&format!("shape.{k}")).map(|shape| flat(shape).iter().map(|&n| n as usize).collect());
        (0..).map_while(shape).collect()
    }

    /// Compares an output for the image `k`.
    fn compare(&self, output: &str, k: usize, found: &Tensor) {
        let expected = flat(&self.values[&format!("{output}.{k}")]);
        let found: Vec<f32> = flat(found).into_iter().step_by(STEP).collect();
        assert_eq!(found.len(), expected.len(), "{}: {output}", self.name);
        let spread = expected.iter().fold(0f32, |most, value| most.max(value.abs()));
        assert!(spread > 0.1, "{}: {output} of image {k} says nothing: {spread}", self.name);
        for (at, (found, expected)) in found.iter().zip(&expected).enumerate() {
            assert!((found - expected).abs() < TOLERANCE, "{}: {output} of image {k} at {at}: {found}, onnxruntime {expected}", self.name);
        }
    }
}

#[test]
fn onnxruntime_computes_the_student_as_we_do() {
    let (network, outputs, params) = student();
    fill(&params);
    let recorder = Recorder::of_slices(&params);
    let places: Vec<usize> = (0..outputs.len()).collect();
    for (logits, (name, channels)) in network.logits(&recorder, &recorder.image(), &places).unwrap().iter().zip(&outputs) {
        recorder.output(name, logits, *channels);
    }
    let [expected] = Expected::of([("student", recorder.into_bytes("A student.", &BTreeMap::new()))]);
    for (k, shape) in expected.shapes().iter().enumerate() {
        for (logits, (name, _)) in network.logits(&params, &image(shape), &places).unwrap().iter().zip(&outputs) {
            expected.compare(name, k, logits);
        }
    }
    assert!(expected.shapes().len() > 1, "sizes are left open");
}

#[test]
fn onnxruntime_computes_the_teacher_as_we_do() {
    let (network, classes, params) = teacher();
    fill(&params);
    let recorder = Recorder::of_volumes(&params);
    recorder.output("organ", &network.forward(&recorder, &recorder.image()).unwrap(), classes);
    let [expected] = Expected::of([("teacher", recorder.into_bytes("A teacher.", &BTreeMap::new()))]);
    for (k, shape) in expected.shapes().iter().enumerate() {
        expected.compare("organ", k, &network.forward(&params, &image(shape)).unwrap());
    }
    assert!(expected.shapes().len() > 1, "sizes are left open");
}

#[test]
fn onnxruntime_computes_models_for_partial_labels_as_we_do() {
    let models = partial_models();
    let graphs = models.each_ref().map(|(name, model, params)| {
        fill(params);
        let recorder = Recorder::of_volumes(params);
        let wanted = [(0..model.heads().len()).collect()];
        for (k, output) in model.forward(&recorder, &recorder.image(), &wanted, false).unwrap().iter().enumerate() {
            let channels = output.rows.iter().map(|row| row.channels.len()).sum();
            recorder.output(&format!("logits_{k}"), &output.logits, channels);
        }
        (*name, recorder.into_bytes("A model for partial labels.", &BTreeMap::new()))
    });
    for ((_, model, params), expected) in models.iter().zip(Expected::of(graphs)) {
        for (k, shape) in expected.shapes().iter().enumerate() {
            let wanted = vec![(0..model.heads().len()).collect(); shape[0]];
            for (place, output) in model.forward(params, &image(shape), &wanted, false).unwrap().iter().enumerate() {
                expected.compare(&format!("logits_{place}"), k, &output.logits);
            }
        }
        assert!(expected.shapes().len() > 1, "{}: sizes are left open", expected.name);
    }
}

#[test]
fn what_has_no_form_in_onnx_is_named() {
    let config = nets::SwinUnetrConfig { feature_size: 12, window_size: 2, ..Default::default() };
    let trunk = nets::Trunk::new(&nets::TrunkConfig::SwinUnetr(config), 1);
    let params = Params::init(&trunk.encoder_parameters(""), random::Streams::new(0), &Device::Cpu).unwrap();
    let recorder = Recorder::of_volumes(&params);
    let error = trunk.encode(&recorder, "", &recorder.image()).unwrap_err().to_string();
    assert_eq!(error, "attention in shifted windows cannot be written as ONNX");
}
