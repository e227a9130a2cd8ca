//! Several models together: what they agree in, and the mean of what they find.

use std::fmt::Debug;
use std::path::Path;

use candle_core::{Result, Tensor};
use labels::Classes;
use model_card::{CardError, Output};
use volume::{ModelGrid, Scaling};

use crate::error::ModelError;

/// In what two models differ, with both values.
pub(crate) struct Differences(pub(crate) Vec<String>);

impl Differences {
    /// Those of grids.
    pub(crate) fn of_grids(a: &ModelGrid, b: &ModelGrid) -> Self {
        let mut found = Self(Vec::new());
        let spacing = |grid: &ModelGrid| grid.spacing_mm.map(|mm| mm.map_or_else(|| "null".into(), |mm| mm.to_string())).join(", ");
        found.add("grid.spacing_mm", &format_args!("[{}]", spacing(a)), &format_args!("[{}]", spacing(b)));
        found.add("grid.window_hu", &a.window_hu, &b.window_hu);
        found
    }

    /// One more, if there is one.
    pub(crate) fn add(&mut self, name: &str, a: &dyn Debug, b: &dyn Debug) {
        let [a, b] = [a, b].map(|value| format!("{value:?}"));
        if a != b {
            self.0.push(format!("{name} {a} and {b}"));
        }
    }
}

/// What a model finds, in words that two models share when they find the same.
pub(crate) fn found_by(outputs: &[Output], classes: &Classes) -> String {
    let output = |output: &Output| {
        let classes: Vec<String> = output.values.iter().map(|&value| format!("{}: {value}", classes.key_of(value))).collect();
        format!("{} {{{}}}", output.group, classes.join(", "))
    };
    outputs.iter().map(output).collect::<Vec<_>>().join(", ")
}

/// The place among the `outputs` of a model of the one that tells all classes of a group apart. `own` are the model's classes, and `path`
/// names it in messages.
pub(crate) fn output_of(
    outputs: &[Output],
    own: &Classes,
    group: usize,
    classes: &Classes,
    path: &Path,
) -> std::result::Result<usize, ModelError> {
    let group = &classes.groups()[group];
    model_card::must_find(own, group.pattern(), classes, path)?;
    let has_all = |output: &Output| output.group == group.key() && group.pattern().is_within(output.pattern());
    outputs.iter().position(has_all).ok_or_else(|| {
        let keys = |classes: &Classes| classes.keys_of(classes.pattern());
        CardError::Classes { path: path.into(), found: keys(own), expected: keys(&classes.only(group.pattern())) }.into()
    })
}

/// Windowed intensities as a network is shown them, as [`Scaling::apply`] makes them; the tensor itself where that is plain.
pub(crate) fn scaled(values: &Tensor, scaling: &Scaling) -> Result<Tensor> {
    if scaling.is_plain() {
        return Ok(values.clone());
    }
    let [low, high] = scaling.clip;
    let number = |value: f32| Tensor::new(value, values.device());
    values.clamp(low, high)?.broadcast_sub(&number(scaling.shift)?)?.broadcast_div(&number(scaling.scale)?)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn a_scaled_tensor_has_the_bits_of_scaled_values() {
        let values: Vec<f32> = (0..1000).map(|n| n as f32 / 900.0 - 0.05).collect();
        let tensor = Tensor::from_vec(values.clone(), (1, 1, 10, 100), &Device::Cpu).unwrap();
        for scaling in [Scaling::default(), Scaling::signed(), Scaling { clip: [0.1, 0.7], shift: 0.37, scale: 0.113 }] {
            let mut expected = values.clone();
            scaling.apply(&mut expected);
            let found: Vec<f32> = scaled(&tensor, &scaling).unwrap().flatten_all().unwrap().to_vec1().unwrap();
            assert!(found == expected, "{scaling:?}");
        }
    }
}
