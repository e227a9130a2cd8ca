//! Operations that move values and leave them as they are.

use graph::{Op, broadcast};

use super::node::{Ask, axis, whole_numbers};
use super::translate::{Known, Translator, numbers};

pub(super) fn translate(to: &mut Translator, ask: &Ask<'_>) -> Result<Known, String> {
    match ask.op() {
        "Reshape" => {
            let asked = ask.numbers(1)?.ok_or("its shape is missing")?;
            let shape = reshaped(to.shape(&ask.input(0)?), &asked, ask.int("allowzero", 0)? != 0)?;
            to.emit(Op::Reshape { shape }, &[ask.input(0)?], ask.name())
        }
        "Flatten" => {
            let x = ask.input(0)?;
            let shape = to.shape(&x);
            let at = ask.int("axis", 1)?;
            let at = if at == shape.len() as i64 { shape.len() } else { axis(at, shape.len())? };
            let sides = [&shape[..at], &shape[at..]].map(|part| part.iter().product());
            to.emit(Op::Reshape { shape: sides.to_vec() }, &[x], ask.name())
        }
        "Unsqueeze" => unsqueeze(to, ask),
        "Squeeze" => squeeze(to, ask),
        "Transpose" => {
            let x = ask.input(0)?;
            let rank = to.shape(&x).len();
            let order = match ask.ints("perm")? {
                None => (0..rank).rev().collect(),
                Some(perm) => perm.iter().map(|place| axis(*place, rank)).collect::<Result<_, _>>()?,
            };
            to.emit(Op::Permute { order }, &[x], ask.name())
        }
        "Expand" => {
            let x = ask.input(0)?;
            let asked = ask.numbers(1)?.ok_or("its shape is missing")?;
            let asked: Vec<usize> =
                asked.iter().map(|side| usize::try_from(*side).map_err(|_| format!("the side {side}"))).collect::<Result<_, _>>()?;
            let shape = broadcast(to.shape(&x), &asked)?;
            to.emit(Op::Expand { shape }, &[x], ask.name())
        }
        "Concat" => {
            let all = ask.all();
            let rank = all.first().map_or(0, |x| to.shape(x).len());
            to.emit(Op::Join { axis: axis(ask.int("axis", 1)?, rank)? }, &all, ask.name())
        }
        "Shape" => {
            let shape: Vec<i64> = to.shape(&ask.input(0)?).iter().map(|side| *side as i64).collect();
            let rank = shape.len() as i64;
            let end = |at: i64| (if at < 0 { at + rank } else { at }).clamp(0, rank) as usize;
            let (from, until) = (end(ask.int("start", 0)?), end(ask.int("end", rank)?));
            let part = &shape[from..until.max(from)];
            numbers(ask.name(), part, &[part.len()])
        }
        "Gather" => gather(to, ask),
        "Slice" => slice(to, ask),
        _ => pad(to, ask),
    }
}

/// A shape in which −1 stands for what is left, and 0 keeps a side unless it is `zero` itself.
fn reshaped(x: &[usize], asked: &[i64], zero: bool) -> Result<Vec<usize>, String> {
    let wrong = || format!("shape {x:?} as {asked:?}");
    let side = |(at, side): (usize, &i64)| match side {
        0 if !zero => x.get(at).copied().ok_or_else(wrong),
        -1 => Ok(1),
        side => usize::try_from(*side).map_err(|_| wrong()),
    };
    let mut shape = asked.iter().enumerate().map(side).collect::<Result<Vec<_>, _>>()?;
    let open: Vec<usize> = (0..asked.len()).filter(|at| asked[*at] == -1).collect();
    match open[..] {
        [] => {}
        [at] => {
            let rest = graph::count(&shape).filter(|rest| *rest > 0).ok_or_else(wrong)?;
            shape[at] = x.iter().product::<usize>() / rest;
        }
        _ => return Err(wrong()),
    }
    Ok(shape)
}

fn unsqueeze(to: &mut Translator, ask: &Ask<'_>) -> Result<Known, String> {
    let x = ask.input(0)?;
    let axes = ask.either("axes", 1)?.ok_or("its axes are missing")?;
    let mut shape = to.shape(&x).to_vec();
    let rank = shape.len() + axes.len();
    let mut axes = axes.iter().map(|at| axis(*at, rank)).collect::<Result<Vec<_>, _>>()?;
    axes.sort_unstable();
    for at in axes {
        if at > shape.len() {
            return Err(format!("axis {at} of {rank} stands twice"));
        }
        shape.insert(at, 1);
    }
    to.emit(Op::Reshape { shape }, &[x], ask.name())
}

fn squeeze(to: &mut Translator, ask: &Ask<'_>) -> Result<Known, String> {
    let x = ask.input(0)?;
    let shape = to.shape(&x).to_vec();
    let axes =
        ask.either("axes", 1)?.map(|axes| axes.iter().map(|at| axis(*at, shape.len())).collect::<Result<Vec<_>, _>>()).transpose()?;
    let goes = |at: usize| axes.as_ref().map_or(shape[at] == 1, |axes| axes.contains(&at));
    let left = (0..shape.len()).filter(|at| !goes(*at)).map(|at| shape[at]).collect();
    to.emit(Op::Reshape { shape: left }, &[x], ask.name())
}

fn gather(to: &mut Translator, ask: &Ask<'_>) -> Result<Known, String> {
    let (x, places) = (ask.input(0)?, ask.constant(1)?.ok_or("its places are missing")?);
    let shape = to.shape(&x).to_vec();
    let at = axis(ask.int("axis", 0)?, shape.len())?;
    let found = whole_numbers(&places)?.iter().map(|place| axis(*place, shape[at])).collect::<Result<Vec<_>, _>>()?;
    let whole = [&shape[..at], places.dims(), &shape[at + 1..]].concat();
    let taken = to.emit(Op::Take { axis: at, places: found }, &[x], ask.name())?;
    to.emit(Op::Reshape { shape: whole }, &[taken], ask.name())
}

fn slice(to: &mut Translator, ask: &Ask<'_>) -> Result<Known, String> {
    let mut x = ask.input(0)?;
    let rank = to.shape(&x).len();
    let (starts, ends) = (ask.either("starts", 1)?, ask.either("ends", 2)?);
    let (starts, ends) = starts.zip(ends).ok_or("its starts or ends are missing")?;
    let axes = ask.either("axes", 3)?.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = ask.numbers(4)?.unwrap_or_else(|| vec![1; starts.len()]);
    if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
        return Err("its lists differ in length".into());
    }
    for (k, at) in axes.iter().enumerate() {
        let at = axis(*at, rank)?;
        x = cut(to, x, at, [starts[k], ends[k], steps[k]], ask.name())?;
    }
    Ok(x)
}

/// Places of an axis from a start to an end, which is not one of them.
fn cut(to: &mut Translator, x: Known, at: usize, [start, end, step]: [i64; 3], name: &str) -> Result<Known, String> {
    let side = to.shape(&x)[at];
    let long = side as i64;
    let (low, high) = if step > 0 { (0, long) } else { (-1, long - 1) };
    let place = |place: i64| (if place < 0 { place.saturating_add(long) } else { place }).clamp(low, high);
    let (start, end) = (place(start), place(end));
    match step {
        0 => Err("a step of 0".into()),
        1 => to.emit(Op::Cut { axis: at, start: start as usize, length: (end - start).max(0) as usize }, &[x], name),
        step => {
            let next = |place: &i64| place.checked_add(step);
            let inside = |place: &i64| if step > 0 { *place < end } else { *place > end };
            to.count(&[usize::try_from((end - start) / step).unwrap_or_default()])?;
            let places = std::iter::successors(Some(start), next).take_while(inside).map(|place| place as usize).collect();
            to.emit(Op::Take { axis: at, places }, &[x], name)
        }
    }
}

pub(super) fn split(to: &mut Translator, ask: &Ask<'_>) -> Result<Vec<Known>, String> {
    let x = ask.input(0)?;
    let shape = to.shape(&x);
    let at = axis(ask.int("axis", 0)?, shape.len())?;
    let even = shape[at].div_ceil(ask.outputs().max(1)).max(1) as i64;
    let lengths = ask.either("split", 1)?.unwrap_or_else(|| {
        let whole = shape[at] as i64;
        (0..ask.outputs() as i64).map(|k| even.min((whole - k * even).max(0))).collect()
    });
    let mut start = 0;
    let mut part = |length: &i64| {
        let length = usize::try_from(*length).map_err(|_| format!("a part of {length}"))?;
        let cut = to.emit(Op::Cut { axis: at, start, length }, std::slice::from_ref(&x), ask.name());
        start += length;
        cut
    };
    lengths.iter().map(&mut part).collect()
}

fn pad(to: &mut Translator, ask: &Ask<'_>) -> Result<Known, String> {
    let mut x = ask.input(0)?;
    let rank = to.shape(&x).len();
    let pads = ask.either("pads", 1)?.ok_or("its pads are missing")?;
    let axes = match ask.numbers(3)? {
        None => (0..rank).collect(),
        Some(axes) => axes.iter().map(|at| axis(*at, rank)).collect::<Result<Vec<_>, _>>()?,
    };
    if pads.len() != 2 * axes.len() {
        return Err(format!("pads {pads:?} of {} axes", axes.len()));
    }
    let with = match ask.floats(2)? {
        Some(values) => values[0],
        None => ask.float("value", 0.0)? as f32,
    };
    let (mut before, mut after) = (vec![0; rank], vec![0; rank]);
    for (k, at) in axes.iter().enumerate() {
        let ends = [pads[k], pads[axes.len() + k]];
        let side = to.shape(&x)[*at] as i64;
        // What is less than nothing is cut off.
        let [from, until] = ends.map(|end| end.saturating_neg().max(0));
        if from > 0 || until > 0 {
            x = cut(to, x, *at, [from, side.saturating_sub(until).max(0), 1], ask.name())?;
        }
        [before[*at], after[*at]] = ends.map(|end| end.max(0) as usize);
    }
    match ask.text("mode", "constant") {
        "constant" => to.emit(Op::Pad { before, after, with }, &[x], ask.name()),
        mode => {
            for at in (0..rank).filter(|at| before[*at] + after[*at] > 0) {
                let side = to.shape(&x)[at];
                to.count(&[side])?;
                let places = outside(side, before[at], after[at], mode == "edge")?;
                x = to.emit(Op::Take { axis: at, places }, &[x], ask.name())?;
            }
            Ok(x)
        }
    }
}

/// The places of an axis that its ends are repeated of, or mirrored at.
fn outside(side: usize, before: usize, after: usize, edge: bool) -> Result<Vec<usize>, String> {
    let last = side as i64 - 1;
    if last < 0 || before.max(after) > (1 << 16) || !(edge || before.max(after) < side) {
        return Err(format!("{before} and {after} places around {side}"));
    }
    let inside = |place: i64| match (edge, place < 0) {
        (true, _) => place.clamp(0, last),
        (false, true) => -place,
        (false, false) => last - (last - place).abs(),
    };
    Ok((-(before as i64)..side as i64 + after as i64).map(|place| inside(place) as usize).collect())
}
