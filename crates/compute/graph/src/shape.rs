//! The shapes of results, which tell what cannot be computed.

use crate::op::{Op, Walk};

/// The shape that tensors of two shapes have together: sides of 1 are as long as those of the other.
///
/// # Errors
/// When two sides differ and neither is 1.
pub fn broadcast(a: &[usize], b: &[usize]) -> Result<Vec<usize>, String> {
    let rank = a.len().max(b.len());
    let side = |shape: &[usize], axis: usize| (axis + shape.len()).checked_sub(rank).map_or(1, |axis| shape[axis]);
    let both = |axis| match (side(a, axis), side(b, axis)) {
        (x, y) if x == y || y == 1 => Ok(x),
        (1, y) => Ok(y),
        _ => Err(format!("shapes {a:?} and {b:?} do not go together")),
    };
    (0..rank).map(both).collect()
}

impl Op {
    /// The shape of the result of operands of these shapes.
    ///
    /// # Errors
    /// Says what does not fit.
    pub fn shape(&self, of: &[&[usize]]) -> Result<Vec<usize>, String> {
        let number = self.operands();
        if !number.contains(&of.len()) {
            return Err(format!("{} operands, expected {} to {}", of.len(), number.start(), number.end()));
        }
        let x = of[0];
        match self {
            Self::Conv { walk, groups } => conv(x, of[1], of.get(2).copied(), walk, *groups),
            Self::ConvTranspose { walk, groups, more } => conv_transpose(x, of[1], of.get(2).copied(), walk, *groups, more),
            Self::Norm { groups, .. } => norm(x, of[1], of[2], *groups),
            Self::Each(_) => Ok(x.to_vec()),
            Self::Sloped => must(broadcast(x, of[1])? == x, || format!("{x:?} with slopes {:?}", of[1]), x.to_vec()),
            Self::Softmax { axis } => must(*axis < x.len(), || format!("axis {axis} of shape {x:?}"), x.to_vec()),
            Self::Add | Self::Subtract | Self::Multiply | Self::Divide => broadcast(x, of[1]),
            Self::Product => product(x, of[1]),
            Self::Join { axis } => join(of, *axis),
            Self::MaxPool { kernel, walk } => {
                let half = kernel.iter().zip(&walk.padding).all(|(kernel, padding)| padding.saturating_mul(2) <= *kernel);
                must(half, || format!("windows {kernel:?} padded by {:?}", walk.padding), ())?;
                pooled(x, kernel, walk)
            }
            Self::AveragePool { kernel, walk, .. } => pooled(x, kernel, walk),
            Self::Mean { axes } => {
                must(axes.iter().all(|axis| *axis < x.len()), || format!("axes {axes:?} of shape {x:?}"), ())?;
                Ok(x.iter().enumerate().map(|(axis, side)| if axes.contains(&axis) { 1 } else { *side }).collect())
            }
            Self::Nearest { size } | Self::Linear { size } => {
                let spatial = (2..=3).contains(&size.len()) && x.len() == size.len() + 2;
                must(spatial && !size.contains(&0) && !x.contains(&0), || format!("size {size:?} of shape {x:?}"), ())?;
                Ok([&x[..2], size].concat())
            }
            Self::Blend { axis, low, high, part } => {
                must(low.len() == high.len() && low.len() == part.len(), || "a mixture of unlike lengths".to_owned(), ())?;
                placed(x, *axis, high)?;
                placed(x, *axis, low)
            }
            Self::Pad { before, after, .. } => padded(x, before, after),
            Self::Cut { axis, start, length } => {
                let inside = x.get(*axis).is_some_and(|side| start.checked_add(*length).is_some_and(|end| end <= *side));
                must(inside, || format!("{length} places from {start} on of axis {axis} of shape {x:?}"), with(x, *axis, *length))
            }
            Self::Take { axis, places } => placed(x, *axis, places),
            Self::Reshape { shape } => {
                let same = count(x).is_some() && count(x) == count(shape);
                must(same, || format!("shape {x:?} as {shape:?}"), shape.clone())
            }
            Self::Permute { order } => {
                let mut sorted = order.clone();
                sorted.sort_unstable();
                must(sorted.iter().copied().eq(0..x.len()), || format!("order {order:?} of shape {x:?}"), ())?;
                Ok(order.iter().map(|axis| x[*axis]).collect())
            }
            Self::Expand { shape } => {
                let whole = broadcast(x, shape)?;
                must(whole == *shape, || format!("shape {x:?} as {shape:?}"), whole)
            }
        }
    }

    fn operands(&self) -> std::ops::RangeInclusive<usize> {
        match self {
            Self::Conv { .. } | Self::ConvTranspose { .. } => 2..=3,
            Self::Norm { .. } => 3..=3,
            Self::Sloped | Self::Add | Self::Subtract | Self::Multiply | Self::Divide | Self::Product => 2..=2,
            Self::Join { .. } => 1..=1024,
            _ => 1..=1,
        }
    }
}

/// The number of values of a shape; none where it is beyond all numbers.
#[must_use]
pub fn count(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |count, side| count.checked_mul(*side))
}

fn must<T>(holds: bool, what: impl FnOnce() -> String, then: T) -> Result<T, String> {
    if holds { Ok(then) } else { Err(what()) }
}

fn with(shape: &[usize], axis: usize, side: usize) -> Vec<usize> {
    shape.iter().enumerate().map(|(at, own)| if at == axis { side } else { *own }).collect()
}

/// The spatial sides of x, whose lists must go along them.
fn spatial<'x>(x: &'x [usize], kernel: &[usize], walk: &Walk) -> Result<&'x [usize], String> {
    let axes = x.len().saturating_sub(2);
    let listed = [kernel.len(), walk.stride.len(), walk.padding.len()] == [axes; 3];
    let sound = (1..=3).contains(&axes) && listed && !x.contains(&0) && !kernel.contains(&0) && !walk.stride.contains(&0);
    must(sound, || format!("windows {kernel:?} in steps of {:?}, padded by {:?}, over {x:?}", walk.stride, walk.padding), ())?;
    Ok(&x[2..])
}

/// The sides of what windows give.
fn windows(x: &[usize], kernel: &[usize], walk: &Walk) -> Result<Vec<usize>, String> {
    let sides = spatial(x, kernel, walk)?;
    let side = |axis: usize| {
        let room = walk.padding[axis].checked_mul(2)?.checked_add(sides[axis])?;
        Some(room.checked_sub(kernel[axis])? / walk.stride[axis] + 1)
    };
    let fits = || format!("windows {kernel:?} padded by {:?} do not fit into {x:?}", walk.padding);
    (0..sides.len()).map(side).collect::<Option<_>>().ok_or_else(fits)
}

fn pooled(x: &[usize], kernel: &[usize], walk: &Walk) -> Result<Vec<usize>, String> {
    let sides = windows(x, kernel, walk)?;
    Ok([&x[..2], &sides].concat())
}

/// The channels of a convolution, whose filters are of `inputs` each.
fn channels(x: &[usize], filters: [usize; 2], groups: usize, bias: Option<&[usize]>, outputs: usize) -> Result<(), String> {
    let divides = groups > 0 && x[1].is_multiple_of(groups) && outputs.is_multiple_of(groups);
    let sound = divides && filters == [x[1] / groups, outputs / groups] && outputs > 0;
    must(sound, || format!("filters of {filters:?} channels for {x:?} in {groups} groups"), ())?;
    must(bias.is_none_or(|bias| *bias == [outputs]), || format!("a bias {bias:?} for {outputs} channels"), ())
}

fn conv(x: &[usize], weight: &[usize], bias: Option<&[usize]>, walk: &Walk, groups: usize) -> Result<Vec<usize>, String> {
    must(weight.len() == x.len() && x.len() > 2, || format!("filters {weight:?} for {x:?}"), ())?;
    let sides = windows(x, &weight[2..], walk)?;
    let of_group = weight[0].checked_div(groups).unwrap_or_default();
    channels(x, [weight[1], of_group], groups, bias, weight[0])?;
    Ok([&[x[0], weight[0]], &sides[..]].concat())
}

fn conv_transpose(
    x: &[usize],
    weight: &[usize],
    bias: Option<&[usize]>,
    walk: &Walk,
    groups: usize,
    more: &[usize],
) -> Result<Vec<usize>, String> {
    must(weight.len() == x.len() && x.len() == more.len() + 2, || format!("filters {weight:?} for {x:?}"), ())?;
    let (kernel, sides) = (&weight[2..], spatial(x, &weight[2..], walk)?);
    let outputs = weight[1].checked_mul(groups).ok_or("no such number of channels")?;
    let of_group = x[1].checked_div(groups).unwrap_or_default();
    must(weight[0] == x[1], || format!("filters {weight:?} for {x:?}"), ())?;
    channels(x, [of_group, weight[1]], groups, bias, outputs)?;
    let side = |axis: usize| {
        let end = (sides[axis] - 1).checked_mul(walk.stride[axis])?.checked_add(kernel[axis])?.checked_add(more[axis])?;
        end.checked_sub(walk.padding[axis].checked_mul(2)?).filter(|side| *side > 0 && more[axis] < walk.stride[axis])
    };
    let long: Option<Vec<usize>> = (0..sides.len()).map(side).collect();
    let long = long.ok_or_else(|| format!("nothing is left of {x:?} by filters {weight:?} and padding {:?}", walk.padding))?;
    Ok([&[x[0], outputs], &long[..]].concat())
}

fn norm(x: &[usize], gamma: &[usize], beta: &[usize], groups: Option<usize>) -> Result<Vec<usize>, String> {
    let sound = (3..=5).contains(&x.len()) && !x.contains(&0) && *gamma == [x[1]] && *beta == [x[1]];
    let groups = groups.unwrap_or_else(|| x.get(1).copied().unwrap_or(1));
    must(sound && groups > 0 && x[1].is_multiple_of(groups), || format!("{groups} groups of {x:?} with {gamma:?} and {beta:?}"), x.to_vec())
}

fn product(a: &[usize], b: &[usize]) -> Result<Vec<usize>, String> {
    let ([.., n, k], [.., l, m]) = (a, b) else { return Err(format!("shapes {a:?} and {b:?} are no matrices")) };
    must(k == l && *k > 0, || format!("matrices {a:?} and {b:?} do not go together"), ())?;
    let mut shape = broadcast(&a[..a.len() - 2], &b[..b.len() - 2])?;
    shape.extend([*n, *m]);
    Ok(shape)
}

fn join(of: &[&[usize]], axis: usize) -> Result<Vec<usize>, String> {
    let first = of[0];
    let like = |other: &&[usize]| other.len() == first.len() && with(other, axis, 0) == with(first, axis, 0);
    must(axis < first.len() && of.iter().all(like), || format!("shapes {of:?} do not join along axis {axis}"), ())?;
    let side = of.iter().try_fold(0usize, |side, shape| side.checked_add(shape[axis])).ok_or("too long an axis")?;
    Ok(with(first, axis, side))
}

fn placed(x: &[usize], axis: usize, places: &[usize]) -> Result<Vec<usize>, String> {
    let inside = x.get(axis).is_some_and(|side| places.iter().all(|place| place < side));
    must(inside && !places.is_empty(), || format!("places beyond axis {axis} of shape {x:?}"), with(x, axis, places.len()))
}

fn padded(x: &[usize], before: &[usize], after: &[usize]) -> Result<Vec<usize>, String> {
    must([before.len(), after.len()] == [x.len(); 2], || format!("padding {before:?} and {after:?} of {x:?}"), ())?;
    let side = |axis: usize| x[axis].checked_add(before[axis])?.checked_add(after[axis]);
    (0..x.len()).map(side).collect::<Option<_>>().ok_or_else(|| "too long an axis".to_owned())
}
