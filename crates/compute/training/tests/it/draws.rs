//! What is drawn, of which parameters: ranges, chances, presets, and the bits of the paper's changes.

use prepared::Layout;
use random::Streams;
use serde_json::{Value, json};
use training::{Augment, AugmentConfig, Augmentation, Noise, Normalisation, Sampling};

const PATCH: Sampling = Sampling::Patches { per_case: 1, shape: [64, 64, 32] };

fn augment(config: Value, sampling: Sampling, normalisation: Normalisation) -> Result<Augment, String> {
    let config: AugmentConfig = serde_json::from_value(config).map_err(|error| error.to_string())?;
    config.for_boxes(sampling, normalisation)
}

fn draws(config: Value, sampling: Sampling, normalisation: Normalisation) -> Vec<Augmentation> {
    let augment = augment(config, sampling, normalisation).unwrap();
    (0..4000).map(|sample| augment.draw(&Streams::new(3), &[sample])).collect()
}

fn share(draws: &[Augmentation], what: impl Fn(&Augmentation) -> bool) -> f64 {
    draws.iter().filter(|drawn| what(drawn)).count() as f64 / draws.len() as f64
}

fn paper() -> Value {
    json!({"noise": {"probability": 0.5, "std": 0.05}, "scale": {"probability": 0.5, "range": 0.1}, "shift": {"probability": 0.5, "range": 0.1}})
}

#[test]
fn each_of_the_papers_changes_happens_to_half_of_the_samples_and_keeps_to_its_range() {
    let draws = draws(paper(), PATCH, Normalisation::Unit);
    let whats: [fn(&Augmentation) -> bool; 3] = [|a| a.noise.is_some(), |a| a.scale != 0.0, |a| a.shift != 0.0];
    assert!(whats.iter().all(|what| (share(&draws, what) - 0.5).abs() < 0.04));
    assert!(draws.iter().all(|a| a.scale.abs() <= 0.1 && a.shift.abs() <= 0.1 && a.noise.is_none_or(|n| n.std <= 0.05)));
    // Both ends of the ranges are reached, and the changes do not go together.
    assert!(draws.iter().any(|a| a.scale < -0.095) && draws.iter().any(|a| a.scale > 0.095));
    assert!((share(&draws, |a| a.scale != 0.0 && a.shift != 0.0) - 0.25).abs() < 0.04);
    let others = |a: &Augmentation| Augmentation { noise: None, scale: 0.0, shift: 0.0, ..*a };
    assert!(draws.iter().all(|a| others(a) == Augmentation::default()), "and nothing else happens");
}

#[test]
fn the_deviation_of_the_noise_is_drawn_as_in_monai_or_fixed_on_request() {
    let stds =
        |config| draws(config, PATCH, Normalisation::Unit).iter().filter_map(|a| a.noise).map(|n| f64::from(n.std)).collect::<Vec<_>>();
    let drawn = stds(paper());
    assert!((drawn.iter().sum::<f64>() / drawn.len() as f64 - 0.025).abs() < 0.002);
    let fixed = stds(json!({"noise": {"probability": 0.5, "std": 0.05, "fixed_std": true}}));
    assert!(fixed.iter().all(|&std| std == f64::from(0.05_f32)));
}

#[test]
fn noise_has_mean_zero_the_asked_deviation_and_no_echo() {
    let mut image = vec![0.0_f32; 300_000];
    Augmentation { noise: Some(Noise { std: 0.05, seed: 9 }), ..Augmentation::default() }.apply(&mut image, [300, 1000, 1], Layout::Volume);
    let mean = image.iter().map(|&v| f64::from(v)).sum::<f64>() / image.len() as f64;
    let var = image.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / image.len() as f64;
    assert!(mean.abs() < 5e-4 && (var.sqrt() - 0.05).abs() < 5e-4, "mean {mean}, deviation {}", var.sqrt());
    assert_ne!(image[0], image[1 << 16], "each part has a stream of its own");
}

#[test]
fn scaling_comes_before_shifting() {
    let mut image = vec![0.5, 1.0];
    Augmentation { scale: 0.1, shift: -0.05, ..Augmentation::default() }.apply(&mut image, [2, 1, 1], Layout::Volume);
    assert_eq!(image, [0.5 * 1.1 - 0.05, 1.1 - 0.05]);
}

/// Trainings of the paper's pipeline give the same weights only as long as this holds.
#[test]
fn the_papers_changes_keep_their_bits() {
    let augment = augment(paper(), Sampling::Slices { shape: [300, 300] }, Normalisation::Unit).unwrap();
    let mut sum = 0;
    for place in [[0, 0], [0, 1], [0, 2], [1, 0], [3, 7], [3, 8], [3, 9], [9, 100]] {
        let mut image: Vec<f32> = (0..90_000).map(|at| (at * 37 % 1001) as f32 / 1000.0).collect();
        augment.draw(&Streams::new(2023), &place).apply(&mut image, [1, 300, 300], Layout::Slices);
        sum = image.iter().fold(sum, |sum, value| crc32c::crc32c_append(sum, &value.to_bits().to_le_bytes()));
    }
    assert_eq!(sum, 0xd020_90ce);
}

#[test]
fn nnu_nets_changes_happen_as_often_and_as_far_as_there() {
    let draws = draws(json!({"preset": "nnunet"}), PATCH, Normalisation::Foreground);
    type Happens = fn(&Augmentation) -> bool;
    let chances: [(f64, Happens); 12] = [
        (0.2, |a| a.geometry.degrees != [0.0; 3]),
        (0.2, |a| a.geometry.zoom != [1.0; 3]),
        (0.5, |a| a.geometry.mirror[0]),
        (0.5, |a| a.geometry.mirror[2]),
        (0.125, |a| a.geometry.mirror == [true; 3]),
        (0.1, |a| a.noise.is_some()),
        (0.1, |a| a.blur.is_some()),
        (0.15, |a| a.brightness.is_some()),
        (0.15, |a| a.contrast.is_some()),
        (0.125, |a| a.low_resolution.is_some()),
        (0.1, |a| a.gamma_inverted.is_some()),
        (0.3, |a| a.gamma.is_some()),
    ];
    for (place, (chance, what)) in chances.into_iter().enumerate() {
        let found = share(&draws, what);
        // Four standard deviations.
        assert!((found - chance).abs() < 4.0 * (chance * (1.0 - chance) / 4000.0).sqrt(), "{place}: {found} instead of {chance}");
    }
    assert!((share(&draws, |a| a.gamma.is_some() && a.contrast.is_some()) - 0.045).abs() < 0.015, "changes do not go together");
    let reaches = |least: f64, most: f64, values: Vec<f64>| {
        let edge = (most - least) / 20.0;
        assert!(values.iter().all(|value| (least..=most).contains(value)), "{least}..{most}");
        assert!(values.iter().any(|value| *value < least + edge) && values.iter().any(|value| *value > most - edge), "{least}..{most}");
    };
    let all = |of: &dyn Fn(&Augmentation) -> Option<f64>| draws.iter().filter_map(of).collect::<Vec<f64>>();
    for axis in 0..3 {
        reaches(-30.0, 30.0, all(&|a| Some(a.geometry.degrees[axis]).filter(|degrees| *degrees != 0.0)));
        reaches(0.5, 1.0, all(&|a| a.blur.map(|sigma| f64::from(sigma[axis]))));
    }
    reaches(0.7, 1.4, all(&|a| Some(a.geometry.zoom[1]).filter(|zoom| *zoom != 1.0)));
    assert!(draws.iter().all(|a| a.geometry.zoom == [a.geometry.zoom[0]; 3]), "all axes are zoomed alike");
    reaches(0.0, 0.1, all(&|a| a.noise.map(|noise| f64::from(noise.std))));
    reaches(0.75, 1.25, all(&|a| a.brightness.map(|brightness| f64::from(brightness.factor))));
    reaches(0.75, 1.25, all(&|a| a.contrast.map(f64::from)));
    reaches(0.5, 1.0, all(&|a| a.low_resolution.map(|kept| f64::from(kept[2]))));
    let gamma = all(&|a| a.gamma.map(f64::from));
    reaches(0.7, 1.5, gamma.clone());
    let below = gamma.iter().filter(|gamma| **gamma < 1.0).count() as f64 / gamma.len() as f64;
    assert!((below - 0.5).abs() < 0.06, "as often below 1 as above, for all that the range is not: {below}");
    assert!(draws.iter().all(|a| a.brightness.is_none_or(|brightness| brightness.about == 0.0) && a.offset == 0.0));
}

#[test]
fn what_is_thin_is_changed_slice_by_slice() {
    let sharpest = |draws: &[Augmentation]| [0, 1, 2].map(|axis| draws.iter().map(|a| a.geometry.degrees[axis].abs()).fold(0.0, f64::max));
    let thin = draws(json!({"preset": "nnunet"}), Sampling::Patches { per_case: 1, shape: [96, 96, 24] }, Normalisation::Unit);
    let slices = draws(json!({"preset": "nnunet"}), Sampling::Slices { shape: [224, 224] }, Normalisation::Unit);
    for draws in [&thin, &slices] {
        assert!(sharpest(draws)[..2] == [0.0, 0.0] && sharpest(draws)[2] > 170.0);
        assert!(draws.iter().all(|a| a.geometry.zoom[2] == 1.0 && a.low_resolution.is_none_or(|kept| kept[2] == 1.0 && kept[0] < 1.0)));
        assert!(draws.iter().all(|a| a.blur.is_none_or(|sigma| sigma[2] == 0.0 && sigma[0] > 0.0)));
    }
    assert!(thin.iter().any(|a| a.geometry.mirror[2]) && !slices.iter().any(|a| a.geometry.mirror[2]));
    let long = draws(json!({"preset": "nnunet"}), Sampling::Slices { shape: [224, 128] }, Normalisation::Unit);
    assert!((14.0..=15.0).contains(&sharpest(&long)[2]));
}

#[test]
fn the_axes_that_are_told_are_those_that_samples_are_mirrored_along() {
    let slices = Sampling::Slices { shape: [224, 224] };
    for (config, sampling, expected) in [
        (json!({}), PATCH, [false; 3]),
        (json!({"preset": "nnunet"}), PATCH, [true; 3]),
        (json!({"preset": "nnunet"}), slices, [true, true, false]),
        (json!({"preset": "dodnet", "mirror": {"probability": 0}}), PATCH, [false; 3]),
        (json!({"mirror": {"axes": ["y", "z"]}}), PATCH, [false, true, true]),
    ] {
        let told = augment(config.clone(), sampling, Normalisation::Unit).unwrap().mirrored();
        let drawn = draws(config, sampling, Normalisation::Unit);
        let mirrored = [0, 1, 2].map(|axis| drawn.iter().any(|a| a.geometry.mirror[axis]));
        assert_eq!((told, mirrored), (expected, expected));
    }
}

#[test]
fn presets_follow_the_normalisation_and_every_number_can_be_changed() {
    let most = |config: Value, normalisation| {
        let draws = draws(config, PATCH, normalisation);
        draws.iter().filter_map(|a| a.noise).map(|noise| noise.std).fold(0.0, f32::max)
    };
    for (normalisation, deviation, half, middle) in [
        (Normalisation::Unit, 0.288_675, 0.5, 0.5),
        (Normalisation::Signed, 0.577_35, 1.0, 0.0),
        (Normalisation::Foreground, 1.0, 1.0, 0.0),
    ] {
        let nnunet = most(json!({"preset": "nnunet"}), normalisation);
        assert!((0.095 * deviation..=0.1001 * deviation).contains(&nnunet), "{normalisation:?}: {nnunet}");
        let dodnet = most(json!({"preset": "dodnet"}), normalisation);
        assert!((0.095 * half..=0.1001 * half).contains(&dodnet), "{normalisation:?}: {dodnet}");
        let draws = draws(json!({"preset": "nnunet"}), PATCH, normalisation);
        assert!(draws.iter().filter_map(|a| a.brightness).all(|brightness| brightness.about == middle));
    }
    let changed = draws(
        json!({"preset": "nnunet", "gamma": {"probability": 0}, "zoom": {"probability": 1, "range": [0.8, 1.2], "each_axis": true},
            "rotation": {"probability": 1, "degrees": 90, "axes": ["x"]}, "mirror": {"axes": ["y"]}, "noise": {"probability": 1, "std": 0.3, "fixed_std": true}}),
        PATCH,
        Normalisation::Unit,
    );
    assert!(changed.iter().all(|a| a.gamma.is_none() && a.noise.is_some_and(|noise| noise.std == 0.3)));
    assert!(
        changed.iter().all(|a| a.geometry.zoom.iter().all(|zoom| (0.8..=1.2).contains(zoom)) && a.geometry.zoom[0] != a.geometry.zoom[1])
    );
    assert!(changed.iter().all(|a| a.geometry.degrees[1..] == [0.0; 2] && !a.geometry.mirror[0] && !a.geometry.mirror[2]));
    assert!(changed.iter().any(|a| a.geometry.degrees[0] > 85.0) && share(&changed, |a| a.geometry.mirror[1]) > 0.45);
    // What is changed leaves the other draws as they were.
    let plain = draws(json!({"preset": "nnunet"}), PATCH, Normalisation::Unit);
    assert!(plain.iter().zip(&changed).all(|(a, b)| (a.blur, a.contrast, a.low_resolution) == (b.blur, b.contrast, b.low_resolution)));
    let dodnet = draws(json!({"preset": "dodnet"}), PATCH, Normalisation::Signed);
    assert!(dodnet.iter().all(|a| a.geometry.degrees == [0.0; 3] && a.gamma_inverted.is_none()));
    assert!((share(&dodnet, |a| a.offset != 0.0) - 0.075).abs() < 0.02);
}

#[test]
fn a_drawn_change_can_be_printed_and_depends_on_seed_and_place_alone() {
    let augment = augment(json!({"preset": "nnunet"}), PATCH, Normalisation::Unit).unwrap();
    let draw = |seed, place: &[u64]| augment.draw(&Streams::new(seed), place);
    assert_eq!(draw(1, &[2, 3]), draw(1, &[2, 3]));
    assert!((0..30).any(|n| draw(1, &[n, 3]) != draw(2, &[n, 3])) && (0..30).any(|n| draw(1, &[2, n]) != draw(1, &[3, n])));
    let printed = serde_json::to_value(Augmentation { gamma: Some(1.5), ..Augmentation::default() }).unwrap();
    assert_eq!((&printed["gamma"], &printed["geometry"]["zoom"]), (&json!(1.5), &json!([1.0, 1.0, 1.0])));
}

#[test]
fn parameters_that_make_no_sense_are_refused_by_name() {
    let slices = Sampling::Slices { shape: [64, 64] };
    let refused = |config: Value, sampling: Sampling| augment(config, sampling, Normalisation::Unit).unwrap_err();
    for (config, reason) in [
        (json!({"shift": {"probability": 50, "range": 0.1}}), "augment.shift.probability is 50; it must be in 0..1"),
        (json!({"noise": {"probability": 1, "std": -1}}), "augment.noise: the size -1 must be 0 or more"),
        (json!({"zoom": {"probability": 1, "range": [1.2, 0.8]}}), "augment.zoom.range is [1.2, 0.8]"),
        (json!({"low_resolution": {"probability": 1, "range": [0.5, 1.5]}}), "augment.low_resolution.range is [0.5, 1.5]"),
        (json!({"gamma": {"probability": 1, "range": [0, 1]}}), "it must be two numbers from 0.1 to 10"),
        (json!({"rotation": {"probability": 1, "degrees": 200}}), "augment.rotation.degrees is 200; it must be in 0..180"),
        (json!({"rotate": {}}), "unknown field `rotate`"),
        (json!({"preset": "swin"}), "unknown variant `swin`"),
    ] {
        let error = refused(config, PATCH);
        assert!(error.contains(reason), "{error}");
    }
    assert!(refused(json!({"mirror": {"axes": ["x", "z"]}}), slices).contains("augment.mirror.axes has z; of slices it may have x and y"));
    assert!(
        refused(json!({"rotation": {"probability": 1, "axes": ["x"]}}), slices)
            .contains("augment.rotation.axes has x; of slices it may have z")
    );
    assert!(augment(json!({}), slices, Normalisation::Unit).is_ok());
}
