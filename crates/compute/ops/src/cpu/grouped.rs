//! Convolutions in groups of channels that do not see each other. Each group of a batch entry lies in one piece, and is
//! a convolution of its own.

use rayon::prelude::*;

use super::isa::Isa;
use super::{ConvShape, Unwritten, conv, conv_data, conv_filter, depthwise, filled_in_tasks};

/// One group of one batch entry, and how many floats of input, output and weights belong to it.
struct Group {
    shape: ConvShape,
    input: usize,
    output: usize,
    weights: usize,
}

impl Group {
    fn of(shape: &ConvShape) -> Self {
        let in_channels = shape.in_channels / shape.groups;
        let out_channels = shape.out_channels / shape.groups;
        Self {
            shape: ConvShape { batch: 1, in_channels, out_channels, groups: 1, ..*shape },
            input: in_channels * shape.input.iter().product::<usize>(),
            output: out_channels * shape.output().iter().product::<usize>(),
            weights: out_channels * in_channels * shape.taps(),
        }
    }
}

/// See [`conv::forward`].
pub(crate) fn forward<'y>(isa: Isa, shape: &ConvShape, x: &[f32], w: &[f32], bias: Option<&[f32]>, y: &'y mut Unwritten) -> &'y mut [f32] {
    if shape.groups == 1 {
        return conv::forward(isa, shape, x, w, bias, y);
    }
    let group = Group::of(shape);
    filled_in_tasks(y, group.output.max(1), |i, y| {
        let g = i % shape.groups;
        let bias = bias.map(|bias| &bias[g * group.shape.out_channels..]);
        conv::forward(isa, &group.shape, &x[i * group.input..], &w[g * group.weights..][..group.weights], bias, y)
    })
}

/// See [`conv_data::backward_data`].
pub(crate) fn backward_data<'y>(
    isa: Isa,
    shape: &ConvShape,
    dy: &[f32],
    w: &[f32],
    bias: Option<&[f32]>,
    dx: &'y mut Unwritten,
) -> &'y mut [f32] {
    if shape.groups == 1 {
        return conv_data::backward_data(isa, shape, dy, w, bias, dx);
    }
    let group = Group::of(shape);
    filled_in_tasks(dx, group.input.max(1), |i, dx| {
        let g = i % shape.groups;
        let bias = bias.map(|bias| &bias[g * group.shape.in_channels..]);
        conv_data::backward_data(isa, &group.shape, &dy[i * group.output..], &w[g * group.weights..][..group.weights], bias, dx)
    })
}

/// See [`conv_filter::backward_filter`]. The batch entries' parts are added in their order.
pub(crate) fn backward_filter(isa: Isa, shape: &ConvShape, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    if shape.groups == 1 {
        return conv_filter::backward_filter(isa, shape, x, dy, dw);
    }
    if shape.in_channels == shape.groups {
        return depthwise::backward_filter(isa, shape, x, dy, dw);
    }
    let group = Group::of(shape);
    dw.par_chunks_mut(group.weights).enumerate().for_each(|(g, dw)| {
        dw.fill(0.0);
        let mut part = vec![0.0; group.weights];
        for n in 0..shape.batch {
            let i = n * shape.groups + g;
            conv_filter::backward_filter(isa, &group.shape, &x[i * group.input..], &dy[i * group.output..], &mut part);
            for (total, value) in dw.iter_mut().zip(&part) {
                *total += value;
            }
        }
    });
}
