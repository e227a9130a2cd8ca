//! Resampling: which places of an axis a place of the result is made of.

use graph::Op;

use super::node::{Ask, axis};
use super::translate::{Known, Translator};

/// The longest side that something is resampled to.
const LONGEST: usize = 1 << 16;

/// An axis that is resampled.
struct Along {
    axis: usize,
    from: usize,
    to: usize,
    /// Places of the result for each place.
    scale: f32,
}

pub(super) fn translate(to: &mut Translator, ask: &Ask<'_>) -> Result<Known, String> {
    let mut x = ask.input(0)?;
    let shape = to.shape(&x).to_vec();
    let along = lines(ask, &shape)?;
    let changed: Vec<&Along> = along.iter().filter(|along| along.from != along.to || (along.scale - 1.0).abs() > f32::EPSILON).collect();
    let size: Vec<usize> =
        (0..shape.len()).map(|at| along.iter().find(|along| along.axis == at).map_or(shape[at], |along| along.to)).collect();
    let of_kernels = matches!(shape.len(), 4 | 5) && changed.iter().all(|along| along.axis > 1);
    for along in &changed {
        to.count(&[along.to])?;
    }
    let upsampled = ask.op() == "Upsample";
    let coordinate = |along: &Along, at: usize| {
        let mode = if upsampled { "asymmetric" } else { ask.text("coordinate_transformation_mode", "half_pixel") };
        along.coordinate(mode, at)
    };
    if ask.text("mode", "nearest") == "nearest" {
        let mode = if upsampled { "floor" } else { ask.text("nearest_mode", "round_prefer_floor") };
        let places = |along: &Along| (0..along.to).map(|at| along.nearest(coordinate(along, at), mode)).collect::<Vec<_>>();
        if of_kernels
            && changed.iter().all(|along| places(along).iter().enumerate().all(|(at, place)| *place == at * along.from / along.to))
        {
            return to.emit(Op::Nearest { size: size[2..].to_vec() }, &[x], ask.name());
        }
        for along in changed {
            x = to.emit(Op::Take { axis: along.axis, places: places(along) }, &[x], ask.name())?;
        }
        return Ok(x);
    }
    let middle = |along: &Along, at: usize| (at as f32 + 0.5) * (along.from as f32 / along.to as f32) - 0.5;
    let last = |along: &Along| (along.from - 1) as f32;
    let as_kernels = |along: &&Along| {
        (0..along.to).all(|at| (coordinate(along, at).clamp(0.0, last(along)) - middle(along, at).clamp(0.0, last(along))).abs() < 1e-4)
    };
    if of_kernels && changed.iter().all(as_kernels) {
        return to.emit(Op::Linear { size: size[2..].to_vec() }, &[x], ask.name());
    }
    for along in changed {
        let places: Vec<f32> = (0..along.to).map(|at| coordinate(along, at).clamp(0.0, last(along))).collect();
        let low: Vec<usize> = places.iter().map(|place| place.floor() as usize).collect();
        let high = low.iter().map(|low| (low + 1).min(along.from - 1)).collect();
        let part = places.iter().map(|place| place.fract()).collect();
        x = to.emit(Op::Blend { axis: along.axis, low, high, part }, &[x], ask.name())?;
    }
    Ok(x)
}

/// The axes that are said to be resampled.
fn lines(ask: &Ask<'_>, shape: &[usize]) -> Result<Vec<Along>, String> {
    let axes = match ask.ints("axes")? {
        None => (0..shape.len()).collect(),
        Some(axes) => axes.iter().map(|at| axis(*at, shape.len())).collect::<Result<Vec<_>, _>>()?,
    };
    // The first versions have no input for a region of interest.
    let at =
        if ask.op() == "Upsample" || ask.optional(1).is_some() && ask.optional(2).is_none() && ask.optional(3).is_none() { 1 } else { 2 };
    let scales = match ask.tensor("scales")? {
        Some(tensor) => Some(super::node::floats(&tensor)?),
        None => ask.floats(at)?,
    };
    let sizes = if at == 2 { ask.numbers(3)? } else { None };
    let of_scale = |from: usize, scale: f32| ((from as f32 * scale).floor() as usize, scale);
    let of_size = |from: usize, size: i64| {
        let to = usize::try_from(size).unwrap_or_default();
        (to, to as f32 / from as f32)
    };
    let (listed, both) = match (&scales, &sizes) {
        (_, Some(sizes)) => (sizes.len(), axes.iter().zip(sizes).map(|(at, size)| of_size(shape[*at], *size)).collect::<Vec<_>>()),
        (Some(scales), None) => (scales.len(), axes.iter().zip(scales).map(|(at, scale)| of_scale(shape[*at], *scale)).collect()),
        (None, None) => return Err("it has neither scales nor sizes".into()),
    };
    let along = axes.iter().zip(both).map(|(at, (to, scale))| Along { axis: *at, from: shape[*at], to, scale });
    let along: Vec<Along> = along.collect();
    let sound = |along: &Along| along.from > 0 && (1..=LONGEST).contains(&along.to) && along.scale.is_finite() && along.scale > 0.0;
    if listed != axes.len() || !along.iter().all(sound) {
        return Err(format!("from {shape:?} by {scales:?} or to {sizes:?}"));
    }
    Ok(along)
}

impl Along {
    /// Where a place of the result lies.
    fn coordinate(&self, mode: &str, at: usize) -> f32 {
        let middle = (at as f32 + 0.5) / self.scale - 0.5;
        match mode {
            "align_corners" if self.to == 1 => 0.0,
            "align_corners" => at as f32 * (self.from - 1) as f32 / (self.to - 1) as f32,
            "asymmetric" => at as f32 / self.scale,
            "pytorch_half_pixel" if self.to == 1 => 0.0,
            _ => middle,
        }
    }

    fn nearest(&self, coordinate: f32, mode: &str) -> usize {
        let place = match mode {
            "floor" => coordinate.floor(),
            "ceil" => coordinate.ceil(),
            "round_prefer_ceil" => (coordinate + 0.5).floor(),
            _ => (coordinate - 0.5).ceil(),
        };
        place.clamp(0.0, (self.from - 1) as f32) as usize
    }
}
