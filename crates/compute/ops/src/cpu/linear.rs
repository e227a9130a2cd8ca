//! Rows times a matrix, plus a bias.

use rayon::prelude::*;

use super::isa::Isa;
use super::multiply::{COLUMNS, Product, multiply};
use super::transpose::transpose_row;
use super::{Unwritten, assume_written, filled_in_tasks, with_scratch};

/// Columns that are computed together: three vectors of the widest instruction set.
const PANEL: usize = 3 * COLUMNS;
/// Rows of a task.
const ROWS: usize = 64;

/// y `(rows, outputs)` = x `(rows, inputs)` times the transpose of `weight` `(outputs, inputs)`, plus a bias if there is one.
#[allow(unsafe_code)]
pub(crate) fn forward<'y>(isa: Isa, x: &[f32], weight: &[f32], bias: Option<&[f32]>, inputs: usize, y: &'y mut Unwritten) -> &'y mut [f32] {
    let outputs = weight.len() / inputs;
    assert!(x.len() / inputs * outputs == y.len() && bias.is_none_or(|bias| bias.len() == outputs), "a row for each row of x");
    let panels = packed(isa, weight, inputs);
    filled_in_tasks(y, ROWS * outputs, |at, y| {
        let rows = y.len() / outputs;
        let x = &x[at * ROWS * inputs..][..rows * inputs];
        with_scratch(ROWS * PANEL, |tile| {
            for (first, panel) in (0..outputs).step_by(PANEL).zip(panels.chunks_exact(inputs * PANEL)) {
                let width = PANEL.min(outputs - first);
                let columns = width.next_multiple_of(COLUMNS);
                let product = Product { rows, columns, inner: inputs, a_row: inputs, a_inner: 1, b_row: PANEL, c_row: PANEL };
                // SAFETY: safe code but for the instruction set.
                unsafe { multiply(isa, product, x, panel, tile, false) };
                for (y, tile) in y.chunks_exact_mut(outputs).zip(tile.chunks_exact(PANEL)) {
                    let y = &mut y[first..first + width];
                    match bias {
                        Some(bias) => y.iter_mut().zip(tile).zip(&bias[first..]).for_each(|((y, sum), bias)| _ = y.write(sum + bias)),
                        None => y.iter_mut().zip(tile).for_each(|(y, sum)| _ = y.write(*sum)),
                    }
                }
            }
        });
        // SAFETY: the panels together are all columns of the rows.
        unsafe { assume_written(y) }
    })
}

/// The columns of the transposed matrix in panels, `[panel][input][column]`; those beyond the last are zero.
#[allow(unsafe_code)]
fn packed(isa: Isa, weight: &[f32], inputs: usize) -> Vec<f32> {
    let outputs = weight.len() / inputs;
    let mut panels = vec![0.0; outputs.div_ceil(PANEL) * PANEL * inputs];
    panels.par_chunks_exact_mut(PANEL * inputs).enumerate().for_each(|(panel, to)| {
        let first = panel * PANEL;
        // SAFETY: safe code but for the instruction set.
        unsafe { transpose_row(isa, &weight[first * inputs..], inputs, PANEL.min(outputs - first), to, PANEL) };
    });
    panels
}
