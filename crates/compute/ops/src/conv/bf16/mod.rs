//! Convolutions with factors rounded to `bf16` and sums in `f32`, from and to tensors of `f32`, whose weights change with every step.
//!
//! They follow the definition, by the kernels of [`crate::frozen`]: a tile of AMX multiplies so much faster than it is filled that
//! Winograd's transformations would cost more than they save.

mod by_weight;

pub(super) use by_weight::backward_filter;

use crate::cpu::lanes::bf16::Bf16;
use crate::cpu::lanes::rows::bias_of_lanes;
use crate::cpu::{ConvShape, Unwritten, filled_in_rows};
use crate::frozen::direct::Direct;
use crate::frozen::{Channels, Map};

/// y `(n, co, size)` of x `(n, ci, size)` and w `(co, ci, kernel)`, the size being kept.
pub(super) fn forward<'y>(shape: &ConvShape, x: &[f32], w: &[f32], bias: Option<&[f32]>, y: &'y mut Unwritten) -> &'y mut [f32] {
    let &ConvShape { in_channels, out_channels, .. } = shape;
    let taps = shape.taps();
    run(shape, [in_channels, out_channels], |out, channel, tap| w[(out * in_channels + channel) * taps + tap], x, bias, y)
}

/// dx `(n, ci, size)` of dy `(n, co, size)`: the convolution with mirrored filters, from output to input channels.
pub(super) fn backward_data<'y>(shape: &ConvShape, dy: &[f32], w: &[f32], dx: &'y mut Unwritten) -> &'y mut [f32] {
    let &ConvShape { in_channels, out_channels, .. } = shape;
    let taps = shape.taps();
    run(shape, [out_channels, in_channels], |out, channel, tap| w[(channel * in_channels + out + 1) * taps - 1 - tap], dy, None, dx)
}

/// From some channels to others.
fn run<'y>(
    shape: &ConvShape,
    [from, to]: [usize; 2],
    weight: impl Fn(usize, usize, usize) -> f32 + Sync,
    x: &[f32],
    bias: Option<&[f32]>,
    y: &'y mut Unwritten,
) -> &'y mut [f32] {
    let (size, border) = (shape.input, shape.padding);
    let volume = size.iter().product::<usize>();
    let channels = Channels::whole(from);
    let weights = Direct::<Bf16>::pack(to, shape.kernel, &[channels], weight);
    let bias = bias_of_lanes(bias, to);
    filled_in_rows(y, to * volume, |at, y| {
        let x = &x[at * from * volume..][..from * volume];
        weights.run_to_planes(&Map::of_planes(x, from, size, border), &bias, y)
    })
}
