//! Whole numbers of 8 bits, and the instructions that multiply them.
//!
//! A group is four elements of one position: an instruction multiplies four activations, which are not negative, by four
//! weights, which may be, and adds the products to a whole number of 32 bits. Nothing is rounded on the way.

#[cfg(target_arch = "x86_64")]
mod x86;

use candle_core::Result;
use half::f16;

use super::arithmetic::{Element, Kernels, Lane, Number, Work};
use super::rows::{Dot, Run, Sink, by_vectors};
use crate::cpu::isa::{Array, Isa};
use crate::frozen::{Levels, Line, Map};

/// A whole number of 8 bits: an activation as one of 256 [`Levels`], or a weight from −127 to 127.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Int8(u8);

impl Number for Int8 {
    fn widen(self) -> f32 {
        f32::from(self.0)
    }
}

/// The numbers of 16 bits that the sums of a layer are kept in: more exact than [`Bf16`](super::bf16::Bf16), up to 65504.
impl Number for f16 {
    fn widen(self) -> f32 {
        self.to_f32()
    }
}

impl Element for Int8 {
    #[inline(always)]
    fn narrow(value: f32) -> Self {
        Self(value.round_ties_even() as u8)
    }

    fn weight(value: f32) -> Self {
        Self((value.round_ties_even() as i8).cast_unsigned())
    }

    fn zero(levels: Levels) -> Self {
        Self(levels.zero)
    }

    fn settle(raw: Map<f16>, line: Option<&Line>) -> Result<Map<Self>> {
        Levels::settle(&raw, line)
    }
}

/// The ways to multiply whole numbers of 8 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Int8Path {
    /// Plain arithmetic: what the other ways mean, and slow.
    Software,
    /// The same, of which the compiler makes AVX2: a quarter of the speed of `f32`.
    Avx2,
    /// AVX-VNNI: vectors of 256 bits.
    Avx,
    /// The vectors of 256 bits that AVX-512 VNNI has too.
    Avx512Short,
    /// AVX-512 VNNI: four multiplications where `f32` has one.
    Avx512,
}

impl Int8Path {
    /// The way in force on this thread: the best available, as far as [`crate::with_isa`] allows.
    #[must_use]
    pub fn current() -> Self {
        static BEST: std::sync::OnceLock<[Int8Path; 2]> = std::sync::OnceLock::new();
        let [short, wide] = BEST.get_or_init(best);
        match Isa::current() {
            Isa::Avx512 => *wide,
            Isa::Avx2 => *short,
            Isa::Portable => Self::Software,
        }
    }
}

/// The best ways within 256 and within 512 bits.
fn best() -> [Int8Path; 2] {
    #[cfg(target_arch = "x86_64")]
    {
        let wide = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vnni")
            && is_x86_feature_detected!("f16c");
        if wide {
            return [Int8Path::Avx512Short, Int8Path::Avx512];
        }
        if is_x86_feature_detected!("avxvnni") && is_x86_feature_detected!("f16c") {
            return [Int8Path::Avx; 2];
        }
        if is_x86_feature_detected!("avx2") {
            return [Int8Path::Avx2; 2];
        }
    }
    [Int8Path::Software; 2]
}

/// Whether this machine multiplies faster in 8 bits than in `f32`.
#[must_use]
pub fn int8_is_fast() -> bool {
    !matches!(Int8Path::current(), Int8Path::Software | Int8Path::Avx2)
}

/// Whole numbers in plain arithmetic. A sum keeps the bits of a whole number until it is finished.
struct Plain;

#[allow(unsafe_code)]
impl Lane for Plain {
    type Element = Int8;
    type Sums = Array<16>;

    #[inline(always)]
    unsafe fn widen(from: *const Int8) -> Array<16> {
        // SAFETY: the pointers reach as far as the trait says; there are no special instructions.
        Array(std::array::from_fn(|lane| unsafe { *from.add(lane) }.widen()))
    }
    #[inline(always)]
    unsafe fn narrow(sums: Array<16>, to: *mut Int8) {
        for (lane, value) in sums.0.into_iter().enumerate() {
            // SAFETY: the pointers reach as far as the trait says; there are no special instructions.
            unsafe { *to.add(lane) = Int8::narrow(value) };
        }
    }
    #[inline(always)]
    unsafe fn keep(sums: Array<16>, to: *mut f16) {
        for (lane, value) in sums.0.into_iter().enumerate() {
            // SAFETY: the pointers reach as far as the trait says.
            unsafe { *to.add(lane) = f16::from_f32(value) };
        }
    }
    #[inline(always)]
    unsafe fn recall(from: *const f16) -> Array<16> {
        // SAFETY: the pointers reach as far as the trait says.
        Array(std::array::from_fn(|lane| unsafe { *from.add(lane) }.to_f32()))
    }
    #[inline(always)]
    unsafe fn row(runs: &[Run<Int8>], weights: &[Int8], lanes: usize, width: usize, sink: &mut impl Sink<Self>) {
        // SAFETY: the pointers reach as far as the trait says; there are no special instructions.
        unsafe { by_vectors::<Self>(runs, weights, lanes, width, sink) }
    }
}

#[allow(unsafe_code)]
impl Dot for Plain {
    type Groups = [[u8; 4]; 16];
    const MANY_REGISTERS: bool = false;

    #[inline(always)]
    unsafe fn groups(from: *const Int8) -> [[u8; 4]; 16] {
        // SAFETY: the pointers reach as far as the trait says; both types are bytes.
        unsafe { from.cast::<[[u8; 4]; 16]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn spread(from: *const Int8) -> [[u8; 4]; 16] {
        // SAFETY: as above.
        [unsafe { from.cast::<[u8; 4]>().read_unaligned() }; 16]
    }
    #[inline(always)]
    unsafe fn dot(sums: Array<16>, a: [[u8; 4]; 16], b: [[u8; 4]; 16]) -> Array<16> {
        Array(std::array::from_fn(|lane| {
            let product = |i: usize| i32::from(a[lane][i]) * i32::from(b[lane][i].cast_signed());
            f32::from_bits((sums.0[lane].to_bits().cast_signed() + (0..4).map(product).sum::<i32>()).cast_unsigned())
        }))
    }
    #[inline(always)]
    unsafe fn finish(sums: Array<16>) -> Array<16> {
        Array(sums.0.map(|sum| sum.to_bits().cast_signed() as f32))
    }
}

#[allow(unsafe_code)]
impl Kernels for Int8 {
    type Path = Int8Path;
    type Raw = f16;
    const GROUP: usize = 4;
    const LEVELS: bool = true;

    fn path() -> Int8Path {
        Int8Path::current()
    }

    fn block(path: Int8Path) -> usize {
        match path {
            Int8Path::Avx | Int8Path::Avx512Short => 16,
            Int8Path::Avx512 | Int8Path::Software | Int8Path::Avx2 => 32,
        }
    }

    fn groups_together(_: Int8Path) -> usize {
        1
    }

    unsafe fn dispatch(path: Int8Path, work: impl Work<Int8>) {
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma")]
        unsafe fn avx512(work: impl Work<Int8>) {
            // SAFETY: the conditions of the outer function.
            unsafe { work.run::<x86::Wide>() }
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx512f,avx512vl,avx512vnni,avx2,fma,f16c")]
        unsafe fn short(work: impl Work<Int8>) {
            // SAFETY: the conditions of the outer function.
            unsafe { work.run::<x86::Short<false>>() }
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avxvnni,avx2,fma,f16c")]
        unsafe fn avx(work: impl Work<Int8>) {
            // SAFETY: the conditions of the outer function.
            unsafe { work.run::<x86::Short<true>>() }
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2")]
        unsafe fn avx2(work: impl Work<Int8>) {
            // SAFETY: the conditions of the outer function.
            unsafe { work.run::<Plain>() }
        }
        match path {
            // SAFETY: the instructions were detected; the rest are the caller's conditions.
            #[cfg(target_arch = "x86_64")]
            Int8Path::Avx2 => unsafe { avx2(work) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Int8Path::Avx512 => unsafe { avx512(work) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Int8Path::Avx512Short => unsafe { short(work) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Int8Path::Avx => unsafe { avx(work) },
            // SAFETY: as above; this one needs no instructions.
            _ => unsafe { work.run::<Plain>() },
        }
    }
}
