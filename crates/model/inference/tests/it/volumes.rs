//! 3-D networks behind one trait.

use candle_core::{Device, Result, Tensor};
use inference::{Image as _, Look, SlidingWindow, View, ViewParams, VolumeNetwork, VolumeParams, Volumetric};
use labels::Classes;
use model_card::{Habits, Output};
use ndarray::Array3;
use nets::Teacher;
use serde_json::json;
use volume::Scaling;

use crate::bench::{Bench, FEATURES, Said, declared, grid, three_groups, values, window};

/// Three groups at once, by the value of a voxel alone.
struct Voxelwise(Vec<Output>);

impl VolumeNetwork for Voxelwise {
    fn outputs(&self) -> &[Output] {
        &self.0
    }

    fn logits(&self, patch: &Tensor) -> Result<Vec<Tensor>> {
        let value = patch.squeeze(0)?;
        let scores = |at: &[f64]| {
            let channels = at.iter().map(|&at| ((&value - at)?.sqr()? * -40.0)?.squeeze(0)).collect::<Result<Vec<_>>>()?;
            Tensor::stack(&channels, 0)
        };
        Ok(vec![scores(&[0.0, 0.5, 1.0])?, scores(&[0.0, 1.0])?, scores(&[0.6, 0.0, 1.0])?])
    }
}

fn model(scaling: Scaling) -> Volumetric {
    let classes = three_groups();
    let outputs = (0..3).map(|group| Output::of_group(&classes, group)).collect();
    let view = View { grid: grid(), crop_foreground: true, window: window(), habits: Default::default() };
    Volumetric::new(Box::new(Voxelwise(outputs)), classes, scaling, view, &Device::Cpu)
}

/// The value of the nearest.
fn nearest(value: f32, at: [(f32, u8); 3]) -> u8 {
    at.into_iter().min_by(|a, b| (a.0 - value).abs().total_cmp(&(b.0 - value).abs())).unwrap().1
}

#[test]
fn several_groups_come_from_one_pass_in_their_output_values() {
    let image = Array3::from_shape_fn((20, 18, 33), |(x, y, z)| ((x * 37 + y * 11 + z * 5) % 97) as f32 / 96.0);
    let found = model(Scaling::default()).segment(&image.view()).unwrap();
    let organ = [(0.0, 0), (0.5, 1), (1.0, 200)];
    assert_eq!(found[0], image.mapv(|value| nearest(value, organ)));
    assert_eq!(found[1], image.mapv(|value| if value > 0.5 { 14 } else { 0 }));
    // Values of a group ascend by channel: 15 is a stone, 255 a cyst.
    assert_eq!(found[2], image.mapv(|value| nearest(value, [(0.6, 0), (0.0, 15), (1.0, 255)])));

    let scaling = Scaling { clip: [0.1, 0.6], shift: 0.1, scale: 0.5 };
    let scaled = model(scaling).segment(&image.view()).unwrap();
    let shown = image.mapv(|value| (value.clamp(0.1, 0.6) - 0.1) / 0.5);
    assert_eq!(scaled[0], shown.mapv(|value| nearest(value, organ)), "the network is shown scaled values");
}

#[test]
fn confidence_and_belief_are_in_output_values_too() {
    let image = Array3::from_shape_fn((20, 18, 17), |(x, y, z)| ((x * 37 + y * 11 + z * 5) % 97) as f32 / 96.0);
    let model = model(Scaling::default());
    let maps = model.segment(&image.view()).unwrap();
    let same = Look { window: window(), scale: 1.0, shift: 0.0 };
    for (k, map) in maps.iter().enumerate() {
        let [labels, confidence] = model.segment_with_confidence(&image.view(), k).unwrap();
        assert_eq!(&labels, map);
        assert_eq!(model.belief_in(&labels, &image.view(), k, &same).unwrap(), confidence);
        assert!(confidence.iter().all(|&share| share >= 85), "of three classes one has a third");
        let others = labels.mapv(|_| 77);
        assert!(
            model.belief_in(&others, &image.view(), k, &same).unwrap().iter().all(|&share| share == 0),
            "a class that it does not know"
        );
    }
    let brighter = Look { window: SlidingWindow { overlap: 0.25, ..window() }, shift: 1.0, ..same };
    let [labels, confidence] = model.segment_with_confidence(&image.view(), 1).unwrap();
    let belief = model.belief_in(&labels, &image.view(), 1, &brighter).unwrap();
    for ((&label, &belief), &before) in labels.iter().zip(&belief).zip(&confidence) {
        assert!(if label == 14 { belief >= before } else { belief < 128 }, "all is brighter, and what is bright is tumor");
    }
}

#[test]
fn a_teacher_is_what_its_card_says() {
    let bench = Bench::new();
    let classes = declared(&json!([{"group": "growth", "classes": {"cyst": 255, "stone": 15}}]));
    let path = bench.teacher("t", 5, &classes, Said::default());
    let teacher = bench.volumetric(&path);
    assert_eq!(*teacher.view(), View { grid: grid(), crop_foreground: true, window: window(), habits: Default::default() });
    let shown = bench.shown();
    let labels = teacher.segment(&shown).unwrap();
    assert_eq!(labels[0].dim(), shown.shape().into());
    assert!(values(&labels[0]).iter().all(|value| [0, 15, 255].contains(value)));
    assert_eq!(teacher.output_of(0, &classes, &path).unwrap(), 0);
    let others = three_groups();
    let error = teacher.output_of(1, &others, &path).unwrap_err().to_string();
    assert!(error.contains("finds stone (15), cyst (255); expected a model that finds tumor (14)"), "{error}");

    // The same weights, of which the parameters say all.
    let config = serde_json::from_value(json!({"features": FEATURES})).unwrap();
    let silent = bench.save("w", 5, &Teacher::new(&config, 3), None);
    let params = |classes: &Classes| VolumeParams {
        network: Some(config.clone()),
        classes: Some(classes.clone()),
        view: ViewParams {
            grid: Some(grid()),
            crop_foreground: Some(true),
            window: serde_json::from_value(json!({"patch": [16, 16, 16]})).unwrap(),
        },
        ..VolumeParams::default()
    };
    let load = |classes: &Classes| Volumetric::load(&params(classes), &silent, &Device::Cpu);
    assert_eq!(load(&classes).unwrap().segment(&shown).unwrap(), labels);
    let several = load(&others).err().unwrap().to_string();
    assert!(several.contains("has the groups organ, cancer, growth; give one group"), "{several}");
}

#[test]
fn what_contradicts_a_teacher_is_refused_with_both_values() {
    let bench = Bench::new();
    let classes = declared(&json!([{"group": "organ", "classes": {"liver": 1}}]));
    let path = bench.teacher("t", 5, &classes, Said::default());
    let refused = |params: VolumeParams, both: [&str; 2]| {
        let error = Volumetric::load(&params, &path, &Device::Cpu).err().unwrap().to_string();
        assert!(error.contains("t.safetensors") && both.iter().all(|part| error.contains(part)), "{error}");
    };
    let view = |view| VolumeParams { view, ..VolumeParams::default() };
    let (mut wider, mut coarser) = (grid(), grid());
    (wider.window_hu, coarser.spacing_mm) = ([-1000.0, 300.0], [Some(3.0); 3]);
    refused(view(ViewParams { grid: Some(wider), ..ViewParams::default() }), ["[-200.0, 300.0]", "[-1000.0, 300.0]"]);
    refused(view(ViewParams { grid: Some(coarser), ..ViewParams::default() }), ["[2, 2, 5]", "[3, 3, 3]"]);
    refused(view(ViewParams { crop_foreground: Some(false), ..ViewParams::default() }), ["crop_foreground true", "say false"]);
    let moved = declared(&json!([{"group": "organ", "classes": {"liver": 6}}]));
    refused(VolumeParams { classes: Some(moved), ..VolumeParams::default() }, ["organ {liver: 1}", "organ {liver: 6}"]);
    let student = bench.student("s", 1, &classes, Said::default());
    let error = Volumetric::load(&VolumeParams::default(), &student, &Device::Cpu).err().unwrap().to_string();
    assert!(error.contains("is a student") && error.contains("expected a teacher"), "{error}");
}

/// Finds the first class in the first half of what it is shown along x, and zeros of air at the far end along z.
struct Sided([Output; 1]);

impl VolumeNetwork for Sided {
    fn outputs(&self) -> &[Output] {
        &self.0
    }

    fn logits(&self, patch: &Tensor) -> Result<Vec<Tensor>> {
        let patch = patch.squeeze(0)?;
        let side = patch.dim(1)?;
        let first = Tensor::arange(0u32, side as u32, patch.device())?.lt(side as u32 / 2)?.to_dtype(patch.dtype())?;
        let first = first.reshape((1, side, 1, 1))?.broadcast_as(patch.shape())?;
        let outside = patch.lt(-5.0)?.to_dtype(patch.dtype())?;
        Ok(vec![Tensor::cat(&[&(patch.zeros_like()? + 0.5)?, &first, &(outside * 2.0)?], 0)?])
    }
}

#[test]
fn a_network_is_shown_scans_the_way_round_that_it_is_used_to() {
    let classes: Classes = serde_json::from_value(json!([{"group": "organ", "classes": {"right": 1, "outside": 2}}])).unwrap();
    let label = |mirrored: [bool; 3]| {
        let outputs = [Output::of_group(&classes, 0)];
        let habits = Habits { mirrored, around: -9.0, ..Habits::default() };
        let view = View { grid: grid(), crop_foreground: true, window: SlidingWindow { patch: [8, 4, 4], overlap: 0.0 }, habits };
        let model = Volumetric::new(Box::new(Sided(outputs)), classes.clone(), Scaling::default(), view, &Device::Cpu);
        model.segment(&Array3::<f32>::zeros((8, 4, 2)).view()).unwrap().remove(0)
    };
    for (mirrored, expected) in [([false; 3], [1, 0]), ([true, false, false], [0, 1]), ([false, true, true], [1, 0])] {
        let labels = label(mirrored);
        assert_eq!([labels[[0, 0, 0]], labels[[7, 3, 1]]], expected, "{mirrored:?}");
        assert!(labels.iter().all(|label| *label < 2), "what lies around the scan is no part of it");
    }
}
