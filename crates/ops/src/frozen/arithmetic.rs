//! Elements of activations, and the vectors that multiply them.
#![allow(unsafe_code)]

use crate::cpu::isa::{Array4, Isa, Simd};

/// A number of 16 bits: the upper half of an `f32`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Bf16(u16);

/// What activations and weights are made of: `f32` or [`Bf16`].
pub trait Element: Kernels {
    /// The name that users give it.
    const NAME: &'static str;

    /// The nearest element, ties to even.
    fn narrow(value: f32) -> Self;

    /// The same number.
    fn widen(self) -> f32;
}

impl Element for f32 {
    const NAME: &'static str = "f32";

    fn narrow(value: f32) -> Self {
        value
    }

    fn widen(self) -> f32 {
        self
    }
}

impl Element for Bf16 {
    const NAME: &'static str = "bf16";

    fn narrow(value: f32) -> Self {
        let bits = value.to_bits();
        if value.is_nan() {
            return Self((bits >> 16) as u16 | 0x40);
        }
        Self(((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16)
    }

    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self.0) << 16)
    }
}

/// The kernels' side of an element.
pub trait Kernels: Copy + Default + Send + Sync + 'static {
    /// How to compute with it: the sets of instructions there are.
    type Path: Copy + Send + Sync + std::fmt::Debug;

    /// Elements that one multiplication sums up.
    const GROUP: usize;

    /// The way in force on this thread.
    fn path() -> Self::Path;

    /// Output channels per register tile.
    fn block(path: Self::Path) -> usize;

    /// Runs `work` with the vectors of `path`, which this machine has.
    ///
    /// # Safety
    /// The conditions of `work` are met.
    unsafe fn dispatch(path: Self::Path, work: impl Work<Self>);
}

/// Something to be done with vectors of some instruction set.
pub trait Work<E> {
    /// # Safety
    /// Called only where the instructions of `L` exist; further conditions are the work's.
    unsafe fn run<L: Lane<Element = E>>(self);
}

/// Vectors of one instruction set for one kind of element.
///
/// # Safety
/// As of [`Simd`]: called only where the instructions exist, with pointers to as many elements as are said.
pub trait Lane {
    /// What is multiplied.
    type Element: Element;
    /// A group of elements per lane.
    type Groups: Copy;
    /// A sum per lane.
    type Sums: Simd;
    /// Whether there are 32 registers rather than 16.
    const MANY_REGISTERS: bool;

    /// Reads a group for every lane.
    unsafe fn groups(from: *const Self::Element) -> Self::Groups;
    /// Reads one group for all lanes.
    unsafe fn spread(from: *const Self::Element) -> Self::Groups;
    /// `sums` plus the products of `a` and `b`, summed within each group.
    unsafe fn dot(sums: Self::Sums, a: Self::Groups, b: Self::Groups) -> Self::Sums;
    /// Reads an element per lane.
    unsafe fn widen(from: *const Self::Element) -> Self::Sums;
    /// Writes an element per lane, rounded.
    unsafe fn narrow(sums: Self::Sums, to: *mut Self::Element);
}

/// `f32`: a group is one element, and a vector of elements a vector of sums.
struct Floats<S>(std::marker::PhantomData<S>);

// SAFETY of every block: the conditions of the trait, handed down to the same ones of `Simd`.
impl<S: Simd> Lane for Floats<S> {
    type Element = f32;
    type Groups = S;
    type Sums = S;
    const MANY_REGISTERS: bool = S::LANES == 16;

    #[inline(always)]
    unsafe fn groups(from: *const f32) -> S {
        unsafe { S::load(from) }
    }
    #[inline(always)]
    unsafe fn spread(from: *const f32) -> S {
        unsafe { S::splat(*from) }
    }
    #[inline(always)]
    unsafe fn dot(sums: S, a: S, b: S) -> S {
        unsafe { a.mul_add(b, sums) }
    }
    #[inline(always)]
    unsafe fn widen(from: *const f32) -> S {
        unsafe { S::load(from) }
    }
    #[inline(always)]
    unsafe fn narrow(sums: S, to: *mut f32) {
        unsafe { sums.store(to) }
    }
}

impl Kernels for f32 {
    type Path = Isa;
    const GROUP: usize = 1;

    fn path() -> Isa {
        Isa::current()
    }

    fn block(path: Isa) -> usize {
        2 * path.lanes()
    }

    unsafe fn dispatch(path: Isa, work: impl Work<f32>) {
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma")]
        unsafe fn avx2(work: impl Work<f32>) {
            // SAFETY: the conditions of the outer function.
            unsafe { work.run::<Floats<crate::cpu::isa::Avx2>>() }
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx512f,avx512dq,avx2,fma")]
        unsafe fn avx512(work: impl Work<f32>) {
            // SAFETY: the conditions of the outer function.
            unsafe { work.run::<Floats<crate::cpu::isa::Avx512>>() }
        }
        match path {
            // SAFETY: the instructions were detected; the rest are the caller's conditions.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => unsafe { avx512(work) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => unsafe { avx2(work) },
            // SAFETY: as above; this one needs no instructions.
            _ => unsafe { work.run::<Floats<Array4>>() },
        }
    }
}

/// The ways to multiply in `bf16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bf16Path {
    /// Plain arithmetic on `f32`: what the other ways mean, and slow.
    Emulated,
    /// AVX-512 BF16: two multiplications where `f32` has one.
    Avx512,
}

impl Bf16Path {
    /// The ways that this machine has, slowest first.
    #[must_use]
    pub fn available() -> Vec<Self> {
        let mut paths = vec![Self::Emulated];
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512bf16")
        {
            paths.push(Self::Avx512);
        }
        paths
    }

    /// The way in force on this thread: the best available, as far as [`crate::with_isa`] allows.
    #[must_use]
    pub fn current() -> Self {
        static BEST: std::sync::OnceLock<Bf16Path> = std::sync::OnceLock::new();
        match Isa::current() {
            Isa::Avx512 => *BEST.get_or_init(|| Self::available().into_iter().max().unwrap_or(Self::Emulated)),
            _ => Self::Emulated,
        }
    }
}

/// Whether this machine multiplies faster in `bf16` than in `f32`.
#[must_use]
pub fn bf16_is_fast() -> bool {
    Bf16Path::current() != Bf16Path::Emulated
}

/// `bf16` in plain arithmetic.
struct Emulated;

// SAFETY of every block: the pointers reach as far as the trait says; there are no special instructions.
impl Lane for Emulated {
    type Element = Bf16;
    type Groups = [Array4; 2];
    type Sums = Array4;
    const MANY_REGISTERS: bool = false;

    #[inline(always)]
    unsafe fn groups(from: *const Bf16) -> [Array4; 2] {
        let at = |half: usize| std::array::from_fn(|lane| unsafe { *from.add(2 * lane + half) }.widen());
        [Array4(at(0)), Array4(at(1))]
    }
    #[inline(always)]
    unsafe fn spread(from: *const Bf16) -> [Array4; 2] {
        unsafe { [Array4::splat((*from).widen()), Array4::splat((*from.add(1)).widen())] }
    }
    #[inline(always)]
    unsafe fn dot(sums: Array4, a: [Array4; 2], b: [Array4; 2]) -> Array4 {
        unsafe { a[1].mul_add(b[1], a[0].mul_add(b[0], sums)) }
    }
    #[inline(always)]
    unsafe fn widen(from: *const Bf16) -> Array4 {
        Array4(std::array::from_fn(|lane| unsafe { *from.add(lane) }.widen()))
    }
    #[inline(always)]
    unsafe fn narrow(sums: Array4, to: *mut Bf16) {
        for (lane, value) in sums.0.into_iter().enumerate() {
            unsafe { *to.add(lane) = Bf16::narrow(value) };
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Bf16, Lane};
    use crate::cpu::isa::Avx512;
    use std::arch::x86_64::*;

    /// `bf16` with AVX-512 BF16.
    pub(super) struct Pairs;

    // SAFETY of every block: the pointers reach as far as the trait says, and the caller runs where the instructions exist.
    // The transmutations are between types of the same 512 or 256 bits.
    impl Lane for Pairs {
        type Element = Bf16;
        type Groups = __m512bh;
        type Sums = Avx512;
        const MANY_REGISTERS: bool = true;

        #[inline(always)]
        unsafe fn groups(from: *const Bf16) -> __m512bh {
            unsafe { std::mem::transmute(_mm512_loadu_si512(from.cast())) }
        }
        #[inline(always)]
        unsafe fn spread(from: *const Bf16) -> __m512bh {
            unsafe { std::mem::transmute(_mm512_set1_epi32(from.cast::<i32>().read_unaligned())) }
        }
        #[inline(always)]
        unsafe fn dot(sums: Avx512, a: __m512bh, b: __m512bh) -> Avx512 {
            unsafe { Avx512(_mm512_dpbf16_ps(sums.0, a, b)) }
        }
        #[inline(always)]
        unsafe fn widen(from: *const Bf16) -> Avx512 {
            unsafe { Avx512(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()))))) }
        }
        #[inline(always)]
        unsafe fn narrow(sums: Avx512, to: *mut Bf16) {
            unsafe { _mm256_storeu_si256(to.cast(), std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(sums.0))) }
        }
    }
}

impl Kernels for Bf16 {
    type Path = Bf16Path;
    const GROUP: usize = 2;

    fn path() -> Bf16Path {
        Bf16Path::current()
    }

    fn block(path: Bf16Path) -> usize {
        match path {
            Bf16Path::Emulated => 2 * Array4::LANES,
            Bf16Path::Avx512 => 32,
        }
    }

    unsafe fn dispatch(path: Bf16Path, work: impl Work<Bf16>) {
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
        unsafe fn avx512(work: impl Work<Bf16>) {
            // SAFETY: the conditions of the outer function.
            unsafe { work.run::<x86::Pairs>() }
        }
        match path {
            // SAFETY: the instructions were detected; the rest are the caller's conditions.
            #[cfg(target_arch = "x86_64")]
            Bf16Path::Avx512 => unsafe { avx512(work) },
            // SAFETY: as above; this one needs no instructions.
            _ => unsafe { work.run::<Emulated>() },
        }
    }
}
