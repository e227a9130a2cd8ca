//! Replication of the last plane along some axes.

use rayon::prelude::*;

use super::Size3;

/// Which axes grow by one.
#[derive(Clone, Copy)]
pub(crate) struct Padding {
    pub(crate) input: Size3,
    pub(crate) grow: Size3,
}

impl Padding {
    pub(crate) fn output(&self) -> Size3 {
        std::array::from_fn(|a| self.input[a] + self.grow[a])
    }

    /// The row of the input that output row `row` repeats.
    fn source(&self, row: usize) -> usize {
        let height = self.output()[1];
        let d = (row / height).min(self.input[0] - 1);
        let h = (row % height).min(self.input[1] - 1);
        d * self.input[1] + h
    }
}

/// Each volume with its last planes doubled.
pub(crate) fn forward(padding: Padding, x: &[f32], y: &mut [f32]) {
    let (from, to) = (padding.input, padding.output());
    x.par_chunks(from.iter().product()).zip(y.par_chunks_mut(to.iter().product())).for_each(|(x, y)| {
        for (row, y) in y.chunks_mut(to[2]).enumerate() {
            let x = &x[padding.source(row) * from[2]..][..from[2]];
            y[..from[2]].copy_from_slice(x);
            y[from[2]..].fill(x[from[2] - 1]);
        }
    });
}

/// Each volume with the gradients of the doubled planes added to the planes they came from.
pub(crate) fn backward(padding: Padding, dy: &[f32], dx: &mut [f32]) {
    let (from, to) = (padding.input, padding.output());
    dx.par_chunks_mut(from.iter().product()).zip(dy.par_chunks(to.iter().product())).for_each(|(dx, dy)| {
        dx.fill(0.0);
        for (row, dy) in dy.chunks(to[2]).enumerate() {
            let dx = &mut dx[padding.source(row) * from[2]..][..from[2]];
            for (dx, dy) in dx.iter_mut().zip(dy) {
                *dx += dy;
            }
            for dy in &dy[from[2]..] {
                dx[from[2] - 1] += dy;
            }
        }
    });
}
