//! Resampling of volumes to any size: nearest neighbour, and linear between neighbours.

use std::mem::MaybeUninit;

use super::isa::{Isa, per_isa};
use super::{Size3, Unwritten, assume_written, filled, filled_in_tasks};

/// How values between the input's are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    Nearest,
    Linear,
}

/// The two places of the input that each place of the output along one axis lies between, and the second's weight.
struct Axis {
    low: Vec<usize>,
    high: Vec<usize>,
    weight: Vec<f32>,
}

impl Axis {
    /// As in PyTorch with `align_corners=False`: voxels have extent, and both volumes the same. What lies beyond the
    /// middle of the outermost voxel has its value.
    fn new(rule: Rule, from: usize, to: usize) -> Self {
        let place = |at: usize| match rule {
            Rule::Nearest => (at * from / to, 0.0),
            Rule::Linear => {
                let place = ((at as f64 + 0.5) * from as f64 / to as f64 - 0.5).max(0.0);
                let low = (place as usize).min(from - 1);
                (low, (place - low as f64) as f32)
            }
        };
        let (low, weight): (Vec<usize>, Vec<f32>) = (0..to).map(place).unzip();
        let high = low.iter().map(|low| (low + 1).min(from - 1)).collect();
        Self { low, high, weight }
    }
}

/// Volumes of one size and of another.
pub(crate) struct Resampling {
    rule: Rule,
    from: Size3,
    to: Size3,
    axes: [Axis; 3],
}

impl Resampling {
    /// No size may be zero.
    pub(crate) fn new(rule: Rule, from: Size3, to: Size3) -> Self {
        Self { rule, from, to, axes: std::array::from_fn(|a| Axis::new(rule, from[a], to[a])) }
    }

    /// Whether a row of the output is the one before it once more.
    fn repeats(&self, row: usize) -> bool {
        let height = self.to[1];
        let same = |axis: &Axis, at: usize| axis.low[at] == axis.low[at - 1] && axis.weight[at] == axis.weight[at - 1];
        !row.is_multiple_of(height) && same(&self.axes[1], row % height)
    }

    /// The rows of the input that make a row of the output, each with its weight; those without weight are left out.
    fn rows(&self, row: usize) -> impl Iterator<Item = (usize, f32)> {
        let [depth, height, _] = &self.axes;
        let (d, h) = (row / self.to[1], row % self.to[1]);
        let along = |axis: &Axis, at: usize| [(axis.low[at], 1.0 - axis.weight[at]), (axis.high[at], axis.weight[at])];
        let (by_depth, by_height) = (along(depth, d), along(height, h));
        let size = self.from;
        by_depth
            .into_iter()
            .flat_map(move |(d, wd)| by_height.map(|(h, wh)| ((d * size[1] + h) * size[2], wd * wh)))
            .filter(|(_, weight)| *weight != 0.0)
    }
}

/// Each volume of `x` at the size of `y`.
#[allow(unsafe_code)]
pub(crate) fn forward<'y>(isa: Isa, resampling: &Resampling, x: &[f32], y: &'y mut Unwritten) -> &'y mut [f32] {
    let Resampling { from, to, .. } = resampling;
    let volume: usize = from.iter().product();
    filled_in_tasks(y, to.iter().product(), |at, whole| {
        let x = &x[at * volume..][..volume];
        let mut blend = vec![0.0; from[2]];
        for row in 0..to[0] * to[1] {
            let (before, y) = whole.split_at_mut(row * to[2]);
            let y = &mut y[..to[2]];
            if resampling.repeats(row) {
                y.copy_from_slice(&before[before.len() - to[2]..]);
                continue;
            }
            blend.fill(0.0);
            for (start, weight) in resampling.rows(row) {
                // SAFETY: safe code but for the instruction set.
                unsafe { add_scaled(isa, &x[start..][..from[2]], weight, &mut blend) };
            }
            spread(resampling, &blend, y);
        }
        // SAFETY: each row is a copy of the one before it, which is none for the first, or is spread, all of it.
        unsafe { assume_written(whole) }
    })
}

/// Each volume with the gradients of what it was resampled to, every share sent back to where it came from.
#[allow(unsafe_code)]
pub(crate) fn backward<'y>(isa: Isa, resampling: &Resampling, dy: &[f32], dx: &'y mut Unwritten) -> &'y mut [f32] {
    let Resampling { from, to, .. } = resampling;
    let volume: usize = to.iter().product();
    filled_in_tasks(dx, from.iter().product(), |at, dx| {
        let dx = filled(dx, 0.0);
        let (mut sum, mut blend) = (vec![0.0; to[2]], vec![0.0; from[2]]);
        for (row, dy) in dy[at * volume..][..volume].chunks(to[2]).enumerate() {
            if resampling.repeats(row) {
                // SAFETY: safe code but for the instruction set.
                unsafe { add_scaled(isa, dy, 1.0, &mut sum) };
            } else {
                sum.copy_from_slice(dy);
            }
            if resampling.repeats(row + 1) {
                continue;
            }
            gather(resampling, &sum, &mut blend);
            for (start, weight) in resampling.rows(row) {
                // SAFETY: as above.
                unsafe { add_scaled(isa, &blend, weight, &mut dx[start..][..from[2]]) };
            }
        }
        dx
    })
}

per_isa! {
    unsafe fn add_scaled<S>(from: &[f32], weight: f32, to: &mut [f32]) {
        for (to, from) in to.iter_mut().zip(from) {
            *to += from * weight;
        }
    }
}

/// A row of the output, all of it, from a row of the input's width.
fn spread(resampling: &Resampling, from: &[f32], to: &mut Unwritten) {
    let Axis { low, high, weight } = &resampling.axes[2];
    match resampling.rule {
        Rule::Nearest if to.len() == 2 * from.len() => {
            for (pair, from) in to.as_chunks_mut::<2>().0.iter_mut().zip(from) {
                *pair = [MaybeUninit::new(*from); 2];
            }
        }
        Rule::Nearest => {
            for (to, low) in to.iter_mut().zip(low) {
                to.write(from[*low]);
            }
        }
        Rule::Linear => {
            for (((to, low), high), weight) in to.iter_mut().zip(low).zip(high).zip(weight) {
                to.write(from[*low] * (1.0 - weight) + from[*high] * weight);
            }
        }
    }
}

/// The adjoint of [`spread`].
fn gather(resampling: &Resampling, from: &[f32], to: &mut [f32]) {
    let Axis { low, high, weight } = &resampling.axes[2];
    to.fill(0.0);
    match resampling.rule {
        Rule::Nearest if from.len() == 2 * to.len() => {
            for (to, [even, odd]) in to.iter_mut().zip(from.as_chunks::<2>().0) {
                *to = even + odd;
            }
        }
        Rule::Nearest => {
            for (from, low) in from.iter().zip(low) {
                to[*low] += from;
            }
        }
        Rule::Linear => {
            for (((from, low), high), weight) in from.iter().zip(low).zip(high).zip(weight) {
                to[*low] += from * (1.0 - weight);
                to[*high] += from * weight;
            }
        }
    }
}
