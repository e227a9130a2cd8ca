//! Replication of the last plane along some axes.

use super::{Size3, Unwritten, filled, filled_in_rows, filled_in_tasks};

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
pub(crate) fn forward<'y>(padding: Padding, x: &[f32], y: &'y mut Unwritten) -> &'y mut [f32] {
    let (from, to) = (padding.input, padding.output());
    let volume: usize = from.iter().product();
    filled_in_tasks(y, to.iter().product(), |at, y| {
        filled_in_rows(y, to[2], |row, y| {
            let x = &x[at * volume + padding.source(row) * from[2]..][..from[2]];
            let y = filled(y, x[from[2] - 1]);
            y[..from[2]].copy_from_slice(x);
            y
        })
    })
}

/// Each volume with the gradients of the doubled planes added to the planes they came from.
pub(crate) fn backward<'y>(padding: Padding, dy: &[f32], dx: &'y mut Unwritten) -> &'y mut [f32] {
    let (from, to) = (padding.input, padding.output());
    let volume: usize = to.iter().product();
    filled_in_tasks(dx, from.iter().product(), |at, dx| {
        let whole = filled(dx, 0.0);
        for (row, dy) in dy[at * volume..][..volume].chunks(to[2]).enumerate() {
            let dx = &mut whole[padding.source(row) * from[2]..][..from[2]];
            for (dx, dy) in dx.iter_mut().zip(dy) {
                *dx += dy;
            }
            for dy in &dy[from[2]..] {
                dx[from[2] - 1] += dy;
            }
        }
        whole
    })
}
