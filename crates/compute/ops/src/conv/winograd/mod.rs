//! Winograd's method for training: as [`crate::frozen`]'s, from and to tensors with the channels outermost, whose weights change
//! with every step.
//!
//! A plane is cut into tiles of 4×4 results, and a tile is computed by 6×6 products for every pair of channels where the definition
//! takes 144: matrices of tiles by channels, one for each of the 36 places. The gradient by the weights is the same sum the other way
//! round. The third axis is done by definition.

mod by_weight;
mod filters;
mod lines;
mod run;

use crate::cpu::isa::Isa;
use crate::cpu::lanes::transforms::{Four, Scheme};
use crate::cpu::multiply::COLUMNS;
use crate::cpu::{ConvShape, Size3, Unwritten};
use filters::Filters;
use lines::{Place, Planes};

/// Results along each side of a tile.
const OUT: usize = 4;
/// Products along each side of a tile.
const IN: usize = 6;
/// Products of a tile.
const PLACES: usize = IN * IN;
/// Channels that lie together: whole vectors of any kind.
const TOGETHER: usize = COLUMNS;

/// A convolution of stride 1 with a kernel of 3×3 or 3×3×3 that keeps the size, or its gradient by the input.
#[derive(Clone, Copy)]
pub(super) struct SameSize {
    batch: usize,
    in_channels: usize,
    out_channels: usize,
    size: Size3,
    /// Planes of the kernel.
    depth: usize,
}

impl SameSize {
    /// The convolution of that shape, if it is one for which this is the faster way, in all three passes.
    pub(super) fn of(shape: &ConvShape) -> Option<Self> {
        let &ConvShape { in_channels, out_channels, .. } = shape;
        let &ConvShape { batch, input: size, kernel, .. } = shape;
        let keeps = shape.groups == 1 && shape.stride == [1; 3] && (0..3).all(|a| shape.padding[a] == kernel[a] / 2);
        // Measured (`training/benches/layers.md`): with fewer channels the transformations cost what the multiplications save, and
        // with fewer positions those of the weights.
        let pays = matches!(kernel, [1 | 3, 3, 3]) && in_channels * out_channels >= 256 && in_channels.min(out_channels) >= 8;
        let large = batch * size.iter().product::<usize>() >= 192;
        (keeps && pays && large).then_some(Self { batch, in_channels, out_channels, size, depth: kernel[0] })
    }

    /// Tiles side by side.
    fn columns(&self) -> usize {
        self.size[2].div_ceil(OUT)
    }

    /// Rows of tiles in one plane of all images.
    fn tile_rows(&self) -> usize {
        self.batch * self.size[1].div_ceil(OUT)
    }

    /// y `(n, co, size)` of x `(n, ci, size)` and w `(co, ci, kernel)`.
    pub(super) fn forward<'y>(&self, isa: Isa, x: &[f32], w: &[f32], bias: Option<&[f32]>, y: &'y mut Unwritten) -> &'y mut [f32] {
        let taps = self.taps();
        self.run(isa, x, Filters { values: w, out_step: self.in_channels * taps, in_step: taps, mirrored: false }, bias, y)
    }

    /// dx `(n, ci, size)` of dy `(n, co, size)`: the convolution with mirrored filters, from output to input channels.
    pub(super) fn backward_data<'y>(&self, isa: Isa, dy: &[f32], w: &[f32], dx: &'y mut Unwritten) -> &'y mut [f32] {
        let taps = self.taps();
        let filters = Filters { values: w, out_step: taps, in_step: self.in_channels * taps, mirrored: true };
        Self { in_channels: self.out_channels, out_channels: self.in_channels, ..*self }.run(isa, dy, filters, None, dx)
    }

    /// Weights of a filter.
    fn taps(&self) -> usize {
        self.depth * 9
    }

    /// Where a row of tiles lies in the plane that is `ahead` in a tensor with a border of half a kernel; planes of the border are none.
    fn place(&self, ahead: usize, row: usize) -> Place {
        let rows = self.size[1].div_ceil(OUT);
        let plane = ahead.checked_sub(self.depth / 2).filter(|&d| d < self.size[0]);
        Place { image: row / rows, plane, top: row % rows * OUT }
    }

    fn planes<'a>(&self, values: &'a [f32], channels: usize) -> Planes<'a> {
        Planes::new(values, channels, self.size)
    }
}

/// [`Scheme::WEIGHT`] in single precision.
const WEIGHT: [[f32; 3]; IN] = {
    let mut weight = [[0.0; 3]; IN];
    let mut at = 0;
    while at < IN * 3 {
        weight[at / 3][at % 3] = <Four as Scheme<OUT, IN>>::WEIGHT[at / 3][at % 3] as f32;
        at += 1;
    }
    weight
};
