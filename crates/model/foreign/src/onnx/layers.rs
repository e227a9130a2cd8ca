//! Operations with weights, and those over windows.

use graph::{Op, Walk};

use super::node::{Ask, axis};
use super::translate::{Known, Translator, values};

pub(super) fn translate(to: &mut Translator, ask: &Ask<'_>) -> Result<Known, String> {
    match ask.op() {
        "Conv" => conv(to, ask),
        "ConvTranspose" => conv_transpose(to, ask),
        "MaxPool" | "AveragePool" => pool(to, ask),
        "GlobalAveragePool" => {
            let x = ask.input(0)?;
            let axes = (2..to.shape(&x).len()).collect();
            to.emit(Op::Mean { axes }, &[x], ask.name())
        }
        "ReduceMean" => mean(to, ask),
        "InstanceNormalization" => {
            let op = Op::Norm { groups: None, eps: ask.float("epsilon", 1e-5)?, slope: 1.0 };
            to.emit(op, &[ask.input(0)?, ask.input(1)?, ask.input(2)?], ask.name())
        }
        "GroupNormalization" => group_norm(to, ask),
        "BatchNormalization" => batch_norm(to, ask),
        "Gemm" => gemm(to, ask),
        _ => softmax(to, ask),
    }
}

/// Zeros, or other values, at the two ends of each spatial axis.
struct Ends {
    before: Vec<usize>,
    after: Vec<usize>,
}

impl Ends {
    /// What the attributes say of windows of `kernel` over `sides`.
    fn of(ask: &Ask<'_>, kernel: &[usize], sides: &[usize], stride: &[usize]) -> Result<Self, String> {
        let axes = kernel.len();
        let auto = ask.text("auto_pad", "NOTSET");
        if !auto.starts_with("SAME") {
            let pads = if auto == "VALID" { vec![0; 2 * axes] } else { ask.sizes("pads", 2 * axes, 0)? };
            return Ok(Self { before: pads[..axes].to_vec(), after: pads[axes..].to_vec() });
        }
        let all = |axis: usize| {
            let reach = (sides[axis].div_ceil(stride[axis].max(1)).max(1) - 1).saturating_mul(stride[axis]).saturating_add(kernel[axis]);
            reach.saturating_sub(sides[axis])
        };
        let less: Vec<usize> = (0..axes).map(|axis| all(axis) / 2).collect();
        let more: Vec<usize> = (0..axes).map(|axis| all(axis) - less[axis]).collect();
        Ok(if auto == "SAME_UPPER" { Self { before: less, after: more } } else { Self { before: more, after: less } })
    }

    /// x with what lies around it.
    fn around(&self, to: &mut Translator, x: Known, with: f32, name: &str) -> Result<Known, String> {
        let both = |ends: &[usize]| [&[0, 0], ends].concat();
        to.emit(Op::Pad { before: both(&self.before), after: both(&self.after), with }, &[x], name)
    }

    fn are_alike(&self) -> bool {
        self.before == self.after
    }
}

/// The sides of an image, and of a kernel that goes along them.
fn sides(x: &[usize], kernel: &[usize]) -> Result<Vec<usize>, String> {
    if x.len() != kernel.len() + 2 || !(3..=5).contains(&x.len()) {
        return Err(format!("a kernel {kernel:?} over shape {x:?}; expected one, two or three spatial axes"));
    }
    Ok(x[2..].to_vec())
}

fn conv(to: &mut Translator, ask: &Ask<'_>) -> Result<Known, String> {
    let mut of = ask.all();
    let kernel = to.shape(&ask.input(1)?).get(2..).unwrap_or_default().to_vec();
    let sides = sides(to.shape(&of[0]), &kernel)?;
    let stride = ask.sizes("strides", kernel.len(), 1)?;
    let ends = Ends::of(ask, &kernel, &sides, &stride)?;
    let padding = if ends.are_alike() {
        ends.before
    } else {
        of[0] = ends.around(to, of[0].clone(), 0.0, ask.name())?;
        vec![0; kernel.len()]
    };
    to.emit(Op::Conv { walk: Walk { stride, padding }, groups: ask.size("group", 1)? }, &of, ask.name())
}

fn conv_transpose(to: &mut Translator, ask: &Ask<'_>) -> Result<Known, String> {
    let kernel = to.shape(&ask.input(1)?).get(2..).unwrap_or_default().to_vec();
    let sides = sides(to.shape(&ask.input(0)?), &kernel)?;
    let stride = ask.sizes("strides", kernel.len(), 1)?;
    let ends = Ends::of(ask, &kernel, &sides, &stride)?;
    if !ends.are_alike() {
        return Err(format!("pads {:?} before and {:?} after; expected the same at both ends", ends.before, ends.after));
    }
    let more = ask.sizes("output_padding", kernel.len(), 0)?;
    let op = Op::ConvTranspose { walk: Walk { stride, padding: ends.before }, groups: ask.size("group", 1)?, more };
    to.emit(op, &ask.all(), ask.name())
}

fn pool(to: &mut Translator, ask: &Ask<'_>) -> Result<Known, String> {
    let (mut x, greatest) = (ask.input(0)?, ask.op() == "MaxPool");
    if ask.outputs() > 1 {
        return Err("its second output, the places of the maxima, is asked for".into());
    }
    let axes = to.shape(&x).len().saturating_sub(2);
    let kernel = ask.sizes("kernel_shape", axes, 0)?;
    let sides = sides(to.shape(&x), &kernel)?;
    let stride = ask.sizes("strides", axes, 1)?;
    let ends = Ends::of(ask, &kernel, &sides, &stride)?;
    let outside = ask.int("count_include_pad", 0)? != 0;
    let beyond = greatest && ends.before.iter().zip(&kernel).any(|(end, kernel)| end.saturating_mul(2) > *kernel);
    let padding = if ends.are_alike() && !beyond {
        ends.before
    } else if greatest || outside {
        x = ends.around(to, x, if greatest { f32::MIN } else { 0.0 }, ask.name())?;
        vec![0; axes]
    } else {
        return Err(format!(
            "pads {:?} before and {:?} after, which do not count; expected the same at both ends",
            ends.before, ends.after
        ));
    };
    let walk = Walk { stride, padding };
    let op = if greatest { Op::MaxPool { kernel, walk } } else { Op::AveragePool { kernel, walk, outside } };
    to.emit(op, &[x], ask.name())
}

fn mean(to: &mut Translator, ask: &Ask<'_>) -> Result<Known, String> {
    let x = ask.input(0)?;
    let shape = to.shape(&x).to_vec();
    let axes = match ask.either("axes", 1)? {
        Some(axes) if !axes.is_empty() => axes.iter().map(|at| axis(*at, shape.len())).collect::<Result<Vec<_>, _>>()?,
        _ if ask.int("noop_with_empty_axes", 0)? != 0 => return Ok(x),
        _ => (0..shape.len()).collect(),
    };
    let left = (0..shape.len()).filter(|at| !axes.contains(at)).map(|at| shape[at]).collect();
    let found = to.emit(Op::Mean { axes }, &[x], ask.name())?;
    if ask.int("keepdims", 1)? != 0 { Ok(found) } else { to.emit(Op::Reshape { shape: left }, &[found], ask.name()) }
}

/// The first version has a scale for each group, the next one for each channel.
fn group_norm(to: &mut Translator, ask: &Ask<'_>) -> Result<Known, String> {
    let (x, groups) = (ask.input(0)?, ask.size("num_groups", 0)?);
    let channels = to.shape(&x).get(1).copied().unwrap_or_default();
    let mut of = vec![x];
    for k in 1..3 {
        let known = ask.input(k)?;
        let by_group = to.shape(&known) == [groups] && groups > 0 && groups < channels;
        of.push(if by_group {
            let places = (0..channels).map(|channel| channel * groups / channels).collect();
            to.emit(Op::Take { axis: 0, places }, &[known], &format!("{}/{k}", ask.name()))?
        } else {
            known
        });
    }
    to.emit(Op::Norm { groups: Some(groups), eps: ask.float("epsilon", 1e-5)?, slope: 1.0 }, &of, ask.name())
}

/// A scale and a shift of each channel; or, in training, a norm over the batch, which is one image.
fn batch_norm(to: &mut Translator, ask: &Ask<'_>) -> Result<Known, String> {
    let (x, eps) = (ask.input(0)?, ask.float("epsilon", 1e-5)?);
    let shape = to.shape(&x).to_vec();
    if ask.int("training_mode", 0)? != 0 {
        if shape.first() != Some(&1) {
            return Err("it takes the statistics of a batch of several".into());
        }
        return to.emit(Op::Norm { groups: None, eps, slope: 1.0 }, &[x, ask.input(1)?, ask.input(2)?], ask.name());
    }
    let part = |k: usize| ask.floats(k)?.ok_or_else(|| format!("its input {k} is missing"));
    let (gamma, beta, mean, variance) = (part(1)?, part(2)?, part(3)?, part(4)?);
    let channels = shape.get(1).copied().unwrap_or_default();
    if [gamma.len(), beta.len(), mean.len(), variance.len()] != [channels; 4] {
        return Err(format!("its weights are not of the {channels} channels of shape {shape:?}"));
    }
    let scale: Vec<f64> = (0..channels).map(|k| f64::from(gamma[k]) / (f64::from(variance[k]) + eps).sqrt()).collect();
    let shift = (0..channels).map(|k| (f64::from(beta[k]) - f64::from(mean[k]) * scale[k]) as f32);
    let mut along = vec![1; shape.len()];
    along[1] = channels;
    let shift = values(&format!("{}/shift", ask.name()), &shift.collect::<Vec<_>>(), &along)?;
    let scale = values(&format!("{}/scale", ask.name()), &scale.iter().map(|scale| *scale as f32).collect::<Vec<_>>(), &along)?;
    let scaled = to.emit(Op::Multiply, &[x, scale], ask.name())?;
    to.emit(Op::Add, &[scaled, shift], ask.name())
}

fn gemm(to: &mut Translator, ask: &Ask<'_>) -> Result<Known, String> {
    let mut matrix = |k: usize, turned: &str| {
        let known = ask.input(k)?;
        let name = format!("{}/{k}", ask.name());
        if ask.int(turned, 0)? == 0 { Ok(known) } else { to.emit(Op::Permute { order: vec![1, 0] }, &[known], &name) }
    };
    let both = [matrix(0, "transA")?, matrix(1, "transB")?];
    let mut found = to.emit(Op::Product, &both, ask.name())?;
    let mut times = |known: Known, attribute: &str| {
        let factor = ask.float(attribute, 1.0)?;
        let name = format!("{}/{attribute}", ask.name());
        if factor == 1.0 { Ok::<_, String>(known) } else { to.emit(Op::Multiply, &[known, values(&name, &[factor as f32], &[1])?], &name) }
    };
    found = times(found, "alpha")?;
    let Some(more) = ask.optional(2) else { return Ok(found) };
    let more = times(more, "beta")?;
    to.emit(Op::Add, &[found, more], ask.name())
}

/// Before version 13, over all axes from one on together.
fn softmax(to: &mut Translator, ask: &Ask<'_>) -> Result<Known, String> {
    let x = ask.input(0)?;
    let shape = to.shape(&x).to_vec();
    let at = axis(ask.int("axis", if to.version < 13 { 1 } else { -1 })?, shape.len())?;
    let mut found = if to.version < 13 {
        let rows = [shape[..at].iter().product(), shape[at..].iter().product()].to_vec();
        let flat = to.emit(Op::Reshape { shape: rows }, &[x], ask.name())?;
        let found = to.emit(Op::Softmax { axis: 1 }, &[flat], ask.name())?;
        to.emit(Op::Reshape { shape }, &[found], ask.name())?
    } else {
        to.emit(Op::Softmax { axis: at }, &[x], ask.name())?
    };
    if ask.op() == "LogSoftmax" {
        found = to.emit(Op::Each(graph::Function::Log), &[found], ask.name())?;
    }
    Ok(found)
}
