//! From the patch to the graph's input, and from the graph's output to the scores of each group.

use std::collections::HashMap;

use graph::{Function, Op, Operand, Step};
use labels::BACKGROUND_KEY;
use model_card::Output;

use super::declared::{Declared, Scores};
use super::proto::{Graph, Input};
use super::tensor::element;
use super::translate::{Known, Translator, values};

/// What keeps logarithms of probabilities in bounds.
const LEAST: f32 = 1e-7;

/// The graph's input.
pub(super) struct Image<'g> {
    pub(super) name: &'g str,
    /// For each of its spatial axes that of x, y and z.
    order: Vec<usize>,
    patch: [usize; 3],
}

/// The input of a graph and the patch along x, y, z, as the declaration and the graph say together.
pub(super) fn begin<'g>(graph: &'g Graph<'_>, declared: &Declared) -> Result<(Image<'g>, [usize; 3]), String> {
    let stored = |name: &str| graph.weights.iter().any(|weight| weight.name == name);
    let inputs: Vec<&Input<'_>> = graph.inputs.iter().filter(|input| !stored(input.name)).collect();
    let [input] = inputs[..] else {
        let names: Vec<&str> = inputs.iter().map(|input| input.name).collect();
        return Err(format!("it has {} inputs ({}); expected one, the image", names.len(), names.join(", ")));
    };
    let order = declared.order()?;
    let sides = sides_of(input, order.len(), &declared.axes)?;
    let mut patch = [1; 3];
    for (side, &axis) in sides.iter().zip(&order) {
        patch[axis] = match (side, declared.patch.map(|patch| patch[axis])) {
            (Some(side), Some(patch)) if *side != patch => {
                return Err(format!("its input `{}` has {side} voxels along {}, and `patch` {patch}", input.name, axis_name(axis)));
            }
            (Some(side), _) => *side,
            (None, Some(patch)) => patch,
            (None, None) => {
                return Err(format!("its input `{}` leaves its sides open; give `patch`, voxels along x, y, z", input.name));
            }
        };
    }
    let across = (0..3).find(|axis| !order.contains(axis));
    if let (Some(axis), Some(given)) = (across, declared.patch)
        && given[axis] != 1
    {
        return Err(format!("patch {given:?} has {} voxels along {}; expected 1, as the graph is of slices", given[axis], axis_name(axis)));
    }
    Ok((Image { name: input.name, order, patch }, patch))
}

fn axis_name(axis: usize) -> &'static str {
    ["x", "y", "z"][axis]
}

/// The sides that the input says; none where they are open.
fn sides_of(input: &Input<'_>, axes: usize, named: &str) -> Result<Vec<Option<usize>>, String> {
    let name = input.name;
    if !element(input.kind).is_some_and(super::tensor::Element::is_float) {
        return Err(format!("its input `{name}` is of type {}; expected values", input.kind));
    }
    let Some(shape) = &input.shape else { return Ok(vec![None; axes]) };
    if shape.len() != axes + 2 {
        return Err(format!("its input `{name}` has {} axes; expected batch, channel and `axes` {named}", shape.len()));
    }
    // 0 and −1 stand for open sides, to some programs.
    let side = |side: &Option<i64>| side.and_then(|side| usize::try_from(side).ok()).filter(|side| *side > 0);
    let sides: Vec<Option<usize>> = shape.iter().map(side).collect();
    match sides[..] {
        [batch, channels, ..] if batch.unwrap_or(1) != 1 || channels.unwrap_or(1) != 1 => {
            let [batch, channels] = [batch, channels].map(|side| side.unwrap_or(1));
            Err(format!("its input `{name}` is of {batch} images with {channels} channels; expected one image with one channel"))
        }
        _ => Ok(sides[2..].to_vec()),
    }
}

impl Image<'_> {
    fn sides(&self) -> Vec<usize> {
        self.order.iter().map(|axis| self.patch[*axis]).collect()
    }

    /// All three axes, those of the graph first.
    fn whole_order(&self) -> Vec<usize> {
        self.order.iter().copied().chain((0..3).filter(|axis| !self.order.contains(axis))).collect()
    }

    /// The patch as the graph is shown it.
    pub(super) fn shown(&self, to: &mut Translator) -> Result<Known, String> {
        let order = [0, 1].into_iter().chain(self.whole_order().iter().map(|axis| axis + 2)).collect();
        let turned = to.emit(Op::Permute { order }, &[Known::Value(0)], "image")?;
        to.emit(Op::Reshape { shape: [&[1, 1], &self.sides()[..]].concat() }, &[turned], "image")
    }

    /// Channels along x, y, z again.
    fn back(&self, to: &mut Translator, found: Known, channels: usize) -> Result<Known, String> {
        let whole = self.whole_order();
        let sides: Vec<usize> = whole.iter().map(|axis| self.patch[*axis]).collect();
        let solid = to.emit(Op::Reshape { shape: [&[1, channels], &sides[..]].concat() }, &[found], "scores")?;
        let place = |axis: usize| whole.iter().position(|own| *own == axis).unwrap_or(axis) + 2;
        to.emit(Op::Permute { order: vec![0, 1, place(0), place(1), place(2)] }, &[solid], "scores")
    }
}

/// The outputs with their values: logits of each group, of which the first channel is background.
pub(super) fn finish(
    to: &mut Translator,
    graph: &Graph<'_>,
    known: &HashMap<&str, Known>,
    image: &Image<'_>,
    declared: &Declared,
) -> Result<Vec<(Output, usize)>, String> {
    let (name, value) = chosen(graph, known, declared)?;
    let channels = declared.channel_values()?;
    let (found, expected) = (to.shapes[value].clone(), [&[1, channels.len()], &image.sides()[..]].concat());
    if found != expected {
        let keys: Vec<_> = channels.iter().map(|value| declared.classes.key_of(*value)).collect();
        let of = if found.get(2..) == Some(&expected[2..]) { "correct `classes` or `channels`" } else { "it must be of the image's size" };
        return Err(format!(
            "its output `{name}` has the shape {found:?}; expected {expected:?}, with the channels {}: {of}",
            keys.join(", ")
        ));
    }
    let logits = logits(to, value, declared)?;
    let logits = image.back(to, logits, channels.len())?;
    let mut outputs = Vec::new();
    for (output, places) in declared.outputs()? {
        let mut taken = logits.clone();
        if !places.iter().copied().eq(0..channels.len()) {
            taken = to.emit(Op::Take { axis: 1, places }, &[taken], &output.group)?;
        }
        if declared.overlapping {
            taken = beside_nothing(to, taken, image.patch, &output.group)?;
        }
        let Known::Value(value) = taken else { return Err(format!("its output `{name}` does not depend on the image")) };
        outputs.push((output, value));
    }
    Ok(outputs)
}

/// The output that is meant.
fn chosen<'g>(graph: &'g Graph<'_>, known: &HashMap<&str, Known>, declared: &Declared) -> Result<(&'g str, usize), String> {
    let names: Vec<&str> = graph.outputs.iter().map(|output| output.name).collect();
    let name = match (&declared.output, &names[..]) {
        (None, [name]) => *name,
        (Some(wanted), _) => names
            .iter()
            .copied()
            .find(|name| name == wanted)
            .ok_or_else(|| format!("it has no output `{wanted}`; its outputs are {}", names.join(", ")))?,
        (None, _) => return Err(format!("it has {} outputs ({}); say which in `output`", names.len(), names.join(", "))),
    };
    match known.get(name) {
        Some(Known::Value(value)) => Ok((name, *value)),
        Some(Known::Constant { .. }) => Err(format!("its output `{name}` does not depend on the image")),
        None => Err(format!("its output `{name}` is given by no node")),
    }
}

/// The logits behind an output.
fn logits(to: &mut Translator, value: usize, declared: &Declared) -> Result<Known, String> {
    let last = value.checked_sub(1).map(|k| &to.steps[k]);
    match last {
        Some(Step { op: Op::Softmax { axis: 1 }, of }) => match (&of[..], declared.overlapping) {
            (_, true) => return Err("it ends in a softmax, and `overlapping` is said of its classes".into()),
            ([Operand::Value(before)], false) => return Ok(Known::Value(*before)),
            _ => {}
        },
        Some(Step { op: Op::Each(Function::Sigmoid), of }) => {
            if let [Operand::Value(before)] = of[..] {
                return Ok(Known::Value(before));
            }
        }
        _ => {}
    }
    let found = Known::Value(value);
    if declared.scores == Scores::Logits {
        return Ok(found);
    }
    let clip = Op::Each(Function::Clip { low: LEAST, high: 1.0 - LEAST });
    let likely = to.emit(clip, &[found], "likely")?;
    let log = to.emit(Op::Each(Function::Log), std::slice::from_ref(&likely), "log")?;
    if !declared.overlapping {
        return Ok(log);
    }
    let unlikely = to.emit(Op::Subtract, &[values("one", &[1.0], &[1])?, likely], "unlikely")?;
    let unlikely = to.emit(Op::Each(Function::Log), &[unlikely], "log")?;
    to.emit(Op::Subtract, &[log, unlikely], "logits")
}

/// Logits of classes beside that of background, which is as likely as not.
fn beside_nothing(to: &mut Translator, logits: Known, [x, y, z]: [usize; 3], name: &str) -> Result<Known, String> {
    let nothing = values(BACKGROUND_KEY, &[0.0], &[1, 1, 1, 1, 1])?;
    // Not ahead of time: the model's file would hold a patch of zeros.
    let none = to.step(Op::Expand { shape: vec![1, 1, x, y, z] }, &[nothing])?;
    to.emit(Op::Join { axis: 1 }, &[none, logits], name)
}
