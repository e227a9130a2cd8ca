//! The gradient of a convolution by its input, which is also the transposed convolution.
//!
//! Input positions fall into phases by their residue modulo the stride: each phase sees its own subset of the
//! kernel's taps, mirrored, and is a correlation of stride 1 over the output gradient.

use super::conv::Correlation;
use super::isa::Isa;
use super::pack::PackedWeights;
use super::{ConvShape, Size3, Unwritten, assume_written, filled};

/// What one axis contributes to one phase.
#[derive(Clone, Copy)]
struct AxisPhase {
    first_tap: usize,
    taps: usize,
    padding: isize,
    positions: usize,
}

/// dx = the transposed of `conv` applied to dy, plus bias (a transposed convolution's, one per channel of dx).
/// Shapes: dy `(n, co, output)`, w `(co, ci, kernel)`, dx `(n, ci, input)`.
#[allow(unsafe_code)]
pub(crate) fn backward_data<'y>(
    isa: Isa,
    shape: &ConvShape,
    dy: &[f32],
    w: &[f32],
    bias: Option<&[f32]>,
    dx: &'y mut Unwritten,
) -> &'y mut [f32] {
    let stride = shape.stride;
    let phases: Vec<Size3> =
        (0..stride.iter().product()).map(|i| [i / (stride[1] * stride[2]), i / stride[2] % stride[1], i % stride[2]]).collect();
    let tiled = (0..3).all(|a| shape.kernel[a] == stride[a] && shape.padding[a] == 0 && shape.input[a].is_multiple_of(stride[a]));
    if tiled {
        // Every phase has one tap and the same positions: they are channels of one correlation, in the order of the weights.
        let weights = PackedWeights::of_rows(shape.in_channels * phases.len(), isa.channels(), w);
        run_phases(isa, shape, phases, dy, &weights, bias, dx);
        // SAFETY: the phases have every position.
        return unsafe { assume_written(dx) };
    }
    let untouched = |phase: &Size3| (0..3).any(|a| axis_phase(shape, a, phase[a]).taps == 0);
    if phases.iter().any(untouched) {
        fill_with_bias(shape, bias, dx);
    }
    for phase in phases {
        if !untouched(&phase) {
            let weights = weights_of(isa, shape, phase, w);
            run_phases(isa, shape, vec![phase], dy, &weights, bias, dx);
        }
    }
    // SAFETY: the phases have every position, and if there is one without taps, the bias has filled all of them before.
    unsafe { assume_written(dx) }
}

fn axis_phase(shape: &ConvShape, axis: usize, phase: usize) -> AxisPhase {
    let (stride, kernel) = (shape.stride[axis], shape.kernel[axis]);
    let first_tap = (phase + shape.padding[axis]) % stride;
    let taps = kernel.saturating_sub(first_tap).div_ceil(stride);
    AxisPhase {
        first_tap,
        taps,
        padding: taps as isize - 1 - ((phase + shape.padding[axis]) / stride) as isize,
        positions: shape.input[axis].saturating_sub(phase).div_ceil(stride),
    }
}

fn axes_of(shape: &ConvShape, phase: Size3) -> [AxisPhase; 3] {
    std::array::from_fn(|a| axis_phase(shape, a, phase[a]))
}

/// The weights that a phase sees, for its correlation.
fn weights_of(isa: Isa, shape: &ConvShape, phase: Size3, w: &[f32]) -> PackedWeights {
    let taps = mirrored_taps(shape, axes_of(shape, phase));
    let sizes = [shape.in_channels, shape.out_channels, taps.len()];
    PackedWeights::new(sizes, isa.channels(), w, |out, channel| ((channel * shape.in_channels + out) * shape.taps(), &taps))
}

/// Phases that share taps and positions, as one correlation.
fn run_phases(
    isa: Isa,
    shape: &ConvShape,
    phases: Vec<Size3>,
    dy: &[f32],
    weights: &PackedWeights,
    bias: Option<&[f32]>,
    dx: &mut Unwritten,
) {
    let shared = axes_of(shape, phases[0]);
    let taps = shared.map(|axis| axis.taps);
    let correlation = Correlation {
        batch: shape.batch,
        in_channels: shape.out_channels,
        input: shape.output(),
        positions: shared.map(|axis| axis.positions),
        taps,
        stride: [1; 3],
        padding: shared.map(|axis| axis.padding),
        out_channels: shape.in_channels,
        output: shape.input,
        spread: shape.stride,
        phases,
    };
    correlation.run(isa, dy, weights, bias, dx);
}

/// Where in the kernel each tap of a phase comes from: every stride-th one, backwards.
fn mirrored_taps(shape: &ConvShape, axes: [AxisPhase; 3]) -> Vec<usize> {
    let (kernel, taps) = (shape.kernel, axes.map(|axis| axis.taps));
    let place = |tap: usize| {
        let mirrored = [tap / (taps[1] * taps[2]), tap / taps[2] % taps[1], tap % taps[2]];
        let at: Size3 = std::array::from_fn(|a| axes[a].first_tap + shape.stride[a] * (taps[a] - 1 - mirrored[a]));
        (at[0] * kernel[1] + at[1]) * kernel[2] + at[2]
    };
    (0..taps.iter().product()).map(place).collect()
}

/// Positions that no tap reaches hold the bias alone.
fn fill_with_bias(shape: &ConvShape, bias: Option<&[f32]>, dx: &mut Unwritten) {
    let volume: usize = shape.input.iter().product();
    for (i, channel) in dx.chunks_mut(volume.max(1)).enumerate() {
        filled(channel, bias.map_or(0.0, |b| b[i % shape.in_channels]));
    }
}
