//! Times the evaluation of one case of FLARE23's median size: 512x512x134 voxels of 0.82x0.82x2.5 mm with 14
//! ellipsoids of organ size, the prediction a little off.
//!
//! ```text
//! cargo run --release -p metrics --example time_case
//! ```

use std::time::Instant;

use labels::flare23;
use metrics::{MetricsError, Protocol, Scoring, evaluate_case};
use ndarray::{Array3, ShapeBuilder};

const SPACING_MM: [f64; 3] = [0.82, 0.82, 2.5];

/// Centre and half axes in mm of labels 1 to 14: a liver, kidneys, vessels, glands and smaller ones.
const ELLIPSOIDS_MM: [[f64; 6]; 14] = [
    [140.0, 190.0, 200.0, 90.0, 70.0, 80.0],
    [140.0, 290.0, 120.0, 28.0, 28.0, 55.0],
    [310.0, 250.0, 210.0, 35.0, 45.0, 55.0],
    [220.0, 200.0, 150.0, 70.0, 15.0, 18.0],
    [215.0, 265.0, 167.0, 11.0, 11.0, 165.0],
    [190.0, 260.0, 167.0, 12.0, 10.0, 165.0],
    [170.0, 270.0, 190.0, 4.0, 12.0, 15.0],
    [250.0, 270.0, 190.0, 4.0, 12.0, 15.0],
    [150.0, 130.0, 150.0, 18.0, 18.0, 35.0],
    [225.0, 250.0, 290.0, 9.0, 9.0, 45.0],
    [260.0, 150.0, 220.0, 60.0, 45.0, 60.0],
    [190.0, 180.0, 120.0, 30.0, 20.0, 40.0],
    [290.0, 290.0, 120.0, 28.0, 28.0, 55.0],
    [120.0, 160.0, 220.0, 20.0, 20.0, 20.0],
];

fn label_map(shift_mm: f64) -> Array3<u8> {
    Array3::from_shape_fn((512, 512, 134).f(), |(x, y, z)| {
        let place_mm = [x as f64 * SPACING_MM[0] - shift_mm, y as f64 * SPACING_MM[1], z as f64 * SPACING_MM[2]];
        let inside = |ellipsoid: &[f64; 6]| {
            let squares = (0..3).map(|i| ((place_mm[i] - ellipsoid[i]) / ellipsoid[i + 3]).powi(2));
            squares.sum::<f64>() <= 1.0
        };
        (1u8..).zip(&ELLIPSOIDS_MM).filter(|(_, ellipsoid)| inside(ellipsoid)).last().map_or(0, |(label, _)| label)
    })
}

fn main() -> Result<(), MetricsError> {
    let scoring = Scoring::of(&flare23::classes());
    let (truth, prediction) = (label_map(0.0), label_map(2.0));
    for protocol in [Protocol::Plain, Protocol::Official] {
        let start = Instant::now();
        let scores = evaluate_case(prediction.view(), truth.view(), SPACING_MM, &scoring, protocol)?;
        println!("{protocol}: {:.2} s, liver {:?}", start.elapsed().as_secs_f64(), scores.class("liver"));
    }
    Ok(())
}
