//! Which of the CPU's kernels compute a convolution.

use super::bf16;
use super::winograd::SameSize;
use crate::cpu::isa::Isa;
use crate::cpu::lanes::bf16::Bf16Path;
use crate::cpu::{ConvShape, Unwritten, grouped};

/// What the products of a convolution are made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Factors {
    /// Single precision.
    #[default]
    F32,
    /// Inputs, weights and gradients rounded to 16 bits with the range of single precision, where a convolution keeps the size and
    /// is large enough for that to matter; sums stay single, and on a CPU results. It is faster where [`bf16_trains_faster`] says so.
    Bf16,
}

/// Whether [`Factors::Bf16`] is the faster way on this machine's CPU: with AMX. AVX-512 BF16 multiplies twice as fast as AVX-512, and
/// Winograd's method, which takes a quarter of the multiplications and which 8 bits are too few for, is faster than that.
#[must_use]
pub fn bf16_trains_faster() -> bool {
    Bf16Path::current() == Bf16Path::Amx
}

/// A way to compute a convolution and its gradients.
enum Way {
    Definition,
    Winograd(SameSize),
    Bf16,
}

impl Way {
    fn of(shape: &ConvShape, factors: Factors) -> Self {
        match (SameSize::of(shape), factors) {
            (None, _) => Self::Definition,
            (Some(conv), Factors::F32) => Self::Winograd(conv),
            (Some(_), Factors::Bf16) => Self::Bf16,
        }
    }
}

/// Whether factors are rounded for a convolution of that shape.
pub(super) fn rounds(shape: &ConvShape, factors: Factors) -> bool {
    matches!(Way::of(shape, factors), Way::Bf16)
}

/// y of x and w.
pub(super) fn forward<'y>(
    shape: &ConvShape,
    factors: Factors,
    x: &[f32],
    w: &[f32],
    bias: Option<&[f32]>,
    y: &'y mut Unwritten,
) -> &'y mut [f32] {
    let isa = Isa::current();
    match Way::of(shape, factors) {
        Way::Definition => grouped::forward(isa, shape, x, w, bias, y),
        Way::Winograd(conv) => conv.forward(isa, x, w, bias, y),
        Way::Bf16 => bf16::forward(shape, x, w, bias, y),
    }
}

/// dx of dy and w.
pub(super) fn backward_data<'y>(shape: &ConvShape, factors: Factors, dy: &[f32], w: &[f32], dx: &'y mut Unwritten) -> &'y mut [f32] {
    let isa = Isa::current();
    match Way::of(shape, factors) {
        Way::Definition => grouped::backward_data(isa, shape, dy, w, None, dx),
        Way::Winograd(conv) => conv.backward_data(isa, dy, w, dx),
        Way::Bf16 => bf16::backward_data(shape, dy, w, dx),
    }
}

/// dw of x and dy, all of it.
pub(super) fn backward_filter(shape: &ConvShape, factors: Factors, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    let isa = Isa::current();
    match Way::of(shape, factors) {
        Way::Definition => grouped::backward_filter(isa, shape, x, dy, dw),
        Way::Winograd(conv) => conv.backward_filter(isa, x, dy, dw),
        Way::Bf16 => bf16::backward_filter(isa, shape, x, dy, dw),
    }
}
