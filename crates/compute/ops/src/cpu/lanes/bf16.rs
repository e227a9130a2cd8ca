//! Numbers of 16 bits, and the instructions that multiply them.

use candle_core::Result;

use super::arithmetic::{Element, Kernels, Lane, Number, Work};
use super::rows::{Run, Sink};
use super::tiles::{SIDE, Software, by_tiles};
use crate::cpu::isa::{Array, Isa, per_isa};
use crate::frozen::{Line, Map};

/// A number of 16 bits: the upper half of an `f32`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Bf16(u16);

impl Number for Bf16 {
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self.0) << 16)
    }
}

impl Element for Bf16 {
    #[inline(always)]
    fn narrow(value: f32) -> Self {
        let bits = value.to_bits();
        if value.is_nan() {
            return Self((bits >> 16) as u16 | 0x40);
        }
        Self(((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16)
    }

    fn settle(raw: Map<Self>, line: Option<&Line>) -> Result<Map<Self>> {
        Ok(Line::in_place(line, raw))
    }
}

per_isa! {
    /// Rounds rows of `lanes`, and weaves each with the one behind it: `[pair of rows][lane][row of the pair]`.
    pub(crate) unsafe fn narrow_pairs<S>(from: &[f32], lanes: usize, to: &mut [Bf16]) {
        for (pair, to) in from.chunks_exact(2 * lanes).zip(to.chunks_exact_mut(2 * lanes)) {
            let (first, second) = pair.split_at(lanes);
            for ((to, first), second) in to.as_chunks_mut::<2>().0.iter_mut().zip(first).zip(second) {
                *to = [Bf16::narrow(*first), Bf16::narrow(*second)];
            }
        }
    }
}

/// Output channels that are computed together, by all ways.
pub(crate) const LANES: usize = 2 * SIDE;

/// The ways to multiply in `bf16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bf16Path {
    /// The tiles of AMX in plain arithmetic: what the other ways mean, and slow.
    Software,
    /// AVX-512 BF16: two multiplications where `f32` has one.
    Avx512,
    /// AMX: tiles of 16 positions by 16 channels, 16 multiplications where `f32` has one.
    Amx,
}

impl Bf16Path {
    /// The way in force on this thread: the best available, as far as [`crate::with_isa`] allows.
    #[must_use]
    pub fn current() -> Self {
        static BEST: std::sync::OnceLock<Bf16Path> = std::sync::OnceLock::new();
        match Isa::current() {
            Isa::Avx512 => *BEST.get_or_init(best),
            _ => Self::Software,
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn best() -> Bf16Path {
    let avx512 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512bf16");
    match avx512 {
        true if super::amx::available() => Bf16Path::Amx,
        true => Bf16Path::Avx512,
        false => Bf16Path::Software,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn best() -> Bf16Path {
    Bf16Path::Software
}

/// Whether this machine multiplies faster in `bf16` than in `f32`.
#[must_use]
pub fn bf16_is_fast() -> bool {
    Bf16Path::current() != Bf16Path::Software
}

/// `bf16` in plain arithmetic.
struct Plain;

#[allow(unsafe_code)]
impl Lane for Plain {
    type Element = Bf16;
    type Sums = Array<16>;

    #[inline(always)]
    unsafe fn widen(from: *const Bf16) -> Array<16> {
        // SAFETY: the pointers reach as far as the trait says; there are no special instructions.
        Array(std::array::from_fn(|lane| unsafe { *from.add(lane) }.widen()))
    }
    #[inline(always)]
    unsafe fn narrow(sums: Array<16>, to: *mut Bf16) {
        for (lane, value) in sums.0.into_iter().enumerate() {
            // SAFETY: the pointers reach as far as the trait says; there are no special instructions.
            unsafe { *to.add(lane) = Bf16::narrow(value) };
        }
    }
    #[inline(always)]
    unsafe fn keep(sums: Array<16>, to: *mut Bf16) {
        // SAFETY: the conditions of this trait.
        unsafe { Self::narrow(sums, to) }
    }
    #[inline(always)]
    unsafe fn recall(from: *const Bf16) -> Array<16> {
        // SAFETY: the conditions of this trait.
        unsafe { Self::widen(from) }
    }
    #[inline(always)]
    unsafe fn row(runs: &[Run<Bf16>], weights: &[Bf16], lanes: usize, width: usize, sink: &mut impl Sink<Self>) {
        // SAFETY: the pointers reach as far as the trait says; there are no special instructions.
        unsafe { by_tiles::<Self, Software>(runs, weights, lanes, width, sink) }
    }
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod x86 {
    use super::super::amx::Hardware;
    use super::super::rows::{Dot, Run, Sink, by_vectors};
    use super::super::tiles::by_tiles;
    use super::{Bf16, Lane};
    use crate::cpu::isa::Avx512;
    use std::arch::x86_64::*;

    /// `bf16` with AVX-512 BF16, and with AMX for products or without.
    pub(crate) struct Wide<const AMX: bool>;

    impl<const AMX: bool> Lane for Wide<AMX> {
        type Element = Bf16;
        type Sums = Avx512;

        #[inline(always)]
        unsafe fn widen(from: *const Bf16) -> Avx512 {
            // SAFETY: the conditions of the trait; the instructions exist.
            unsafe { Avx512(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()))))) }
        }
        #[inline(always)]
        unsafe fn narrow(sums: Avx512, to: *mut Bf16) {
            // SAFETY: the conditions of the trait; the instructions exist. Both types have the same bits.
            unsafe { _mm256_storeu_si256(to.cast(), std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(sums.0))) }
        }
        #[inline(always)]
        unsafe fn keep(sums: Avx512, to: *mut Bf16) {
            // SAFETY: the conditions of this trait.
            unsafe { Self::narrow(sums, to) }
        }
        #[inline(always)]
        unsafe fn recall(from: *const Bf16) -> Avx512 {
            // SAFETY: the conditions of this trait.
            unsafe { Self::widen(from) }
        }
        #[inline(always)]
        unsafe fn row(runs: &[Run<Bf16>], weights: &[Bf16], lanes: usize, width: usize, sink: &mut impl Sink<Self>) {
            // SAFETY: the conditions of the trait; the instructions exist.
            unsafe {
                match AMX {
                    true => by_tiles::<Self, Hardware>(runs, weights, lanes, width, sink),
                    false => by_vectors::<Self>(runs, weights, lanes, width, sink),
                }
            }
        }
    }

    impl<const AMX: bool> Dot for Wide<AMX> {
        type Groups = __m512bh;
        const MANY_REGISTERS: bool = true;

        #[inline(always)]
        unsafe fn groups(from: *const Bf16) -> __m512bh {
            // SAFETY: the conditions of the trait; the instructions exist. Both types have the same bits.
            unsafe { std::mem::transmute(_mm512_loadu_si512(from.cast())) }
        }
        #[inline(always)]
        unsafe fn spread(from: *const Bf16) -> __m512bh {
            // SAFETY: the conditions of the trait; the instructions exist. Both types have the same bits.
            unsafe { std::mem::transmute(_mm512_set1_epi32(from.cast::<i32>().read_unaligned())) }
        }
        #[inline(always)]
        unsafe fn dot(sums: Avx512, a: __m512bh, b: __m512bh) -> Avx512 {
            // SAFETY: the conditions of the trait; the instructions exist.
            unsafe { Avx512(_mm512_dpbf16_ps(sums.0, a, b)) }
        }
    }
}

#[allow(unsafe_code)]
impl Kernels for Bf16 {
    type Path = Bf16Path;
    type Raw = Self;
    const GROUP: usize = 2;

    fn path() -> Bf16Path {
        Bf16Path::current()
    }

    fn block(_: Bf16Path) -> usize {
        LANES
    }

    fn groups_together(path: Bf16Path) -> usize {
        match path {
            Bf16Path::Avx512 => 1,
            Bf16Path::Software | Bf16Path::Amx => SIDE,
        }
    }

    unsafe fn dispatch(path: Bf16Path, work: impl Work<Bf16>) {
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
        unsafe fn avx512(work: impl Work<Bf16>) {
            // SAFETY: the conditions of the outer function.
            unsafe { work.run::<x86::Wide<false>>() }
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
        unsafe fn amx(work: impl Work<Bf16>) {
            // SAFETY: the conditions of the outer function; tiles are configured for as long as the work runs.
            unsafe {
                super::amx::configure();
                work.run::<x86::Wide<true>>();
                super::amx::release();
            }
        }
        match path {
            // SAFETY: the instructions were detected; the rest are the caller's conditions.
            #[cfg(target_arch = "x86_64")]
            Bf16Path::Amx => unsafe { amx(work) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Bf16Path::Avx512 => unsafe { avx512(work) },
            // SAFETY: as above; this one needs no instructions.
            _ => unsafe { work.run::<Plain>() },
        }
    }
}
