//! Elements of activations, and the vectors that multiply them.

use candle_core::Result;

use super::rows::{Dot, Run, Sink, by_vectors};
use crate::cpu::isa::{Array, Isa, Simd};
use crate::frozen::{Levels, Line, Map};

/// What maps are made of.
pub trait Number: Copy + Default + Send + Sync + 'static {
    /// The same number.
    fn widen(self) -> f32;
}

impl Number for f32 {
    fn widen(self) -> f32 {
        self
    }
}

/// What activations and weights are made of: `f32`, [`Bf16`](super::bf16::Bf16) or [`Int8`](super::int8::Int8).
pub trait Element: Kernels {
    /// The nearest element, ties to even.
    fn narrow(value: f32) -> Self;

    /// The nearest element of weights.
    fn weight(value: f32) -> Self {
        Self::narrow(value)
    }

    /// What stands for zero in a map of these levels.
    fn zero(_: Levels) -> Self {
        Self::default()
    }

    /// What a layer gave, as the next one takes it: scaled, shifted and activated if there is a line.
    ///
    /// # Errors
    /// When the values of the map have no place among its elements.
    fn settle(raw: Map<Self::Raw>, line: Option<&Line>) -> Result<Map<Self>>;
}

impl Element for f32 {
    fn narrow(value: f32) -> Self {
        value
    }

    fn settle(raw: Map<Self>, line: Option<&Line>) -> Result<Map<Self>> {
        Ok(Line::in_place(line, raw))
    }
}

/// The kernels' side of an element.
#[allow(unsafe_code)]
pub trait Kernels: Number {
    /// How to compute with it: the sets of instructions there are.
    type Path: Copy + Send + Sync + std::fmt::Debug;
    /// What the sums of a layer are kept in until it is known how large they are.
    type Raw: Number;

    /// Whether elements are [`Levels`] and no numbers by themselves.
    const LEVELS: bool = false;

    /// Elements that one multiplication sums up.
    const GROUP: usize;

    /// The way in force on this thread.
    fn path() -> Self::Path;

    /// Output channels that are computed together.
    fn block(path: Self::Path) -> usize;

    /// The groups of a run are filled up with zeros to a multiple of this.
    fn groups_together(path: Self::Path) -> usize;

    /// Runs `work` with the vectors of `path`, which this machine has.
    ///
    /// # Safety
    /// The conditions of `work` are met.
    unsafe fn dispatch(path: Self::Path, work: impl Work<Self>);
}

/// Something to be done with vectors of some instruction set.
#[allow(unsafe_code)]
pub trait Work<E> {
    /// # Safety
    /// Called only where the instructions of `L` exist; further conditions are the work's.
    unsafe fn run<L: Lane<Element = E>>(self);
}

/// Vectors of one instruction set for one kind of element.
///
/// # Safety
/// As of [`Simd`]: called only where the instructions exist, with pointers to as many elements as are said.
#[allow(unsafe_code)]
pub trait Lane: Sized {
    /// What is multiplied.
    type Element: Element;
    /// A sum per lane.
    type Sums: Simd;

    /// Reads an element per lane.
    unsafe fn widen(from: *const Self::Element) -> Self::Sums;
    /// Writes an element per lane, rounded.
    unsafe fn narrow(sums: Self::Sums, to: *mut Self::Element);
    /// Writes a sum per lane as it is kept.
    unsafe fn keep(sums: Self::Sums, to: *mut <Self::Element as Kernels>::Raw);
    /// Reads a sum per lane that was kept.
    unsafe fn recall(from: *const <Self::Element as Kernels>::Raw) -> Self::Sums;
    /// Computes a row of `width` positions for a block of `lanes` and hands it over.
    ///
    /// Every run holds its groups for all positions and for [`BEYOND`](super::rows::BEYOND) more; `weights` are those of
    /// the block.
    unsafe fn row(runs: &[Run<Self::Element>], weights: &[Self::Element], lanes: usize, width: usize, sink: &mut impl Sink<Self>);
}

/// Rounds a row, by a path that this machine has.
#[allow(unsafe_code)]
pub(crate) fn narrow_row<E: Element>(path: E::Path, from: &[f32], to: &mut [E]) {
    assert_eq!(from.len(), to.len(), "rows of one length");
    // SAFETY: this machine has the path.
    unsafe { E::dispatch(path, Narrow { from, to }) };
}

struct Narrow<'a, E> {
    from: &'a [f32],
    to: &'a mut [E],
}

#[allow(unsafe_code)]
impl<E: Element> Work<E> for Narrow<'_, E> {
    #[inline(always)]
    unsafe fn run<L: Lane<Element = E>>(self) {
        let vectors = self.from.len() / L::Sums::LANES * L::Sums::LANES;
        for at in (0..vectors).step_by(L::Sums::LANES) {
            // SAFETY: the rows are of one length, and hold this vector.
            unsafe { L::narrow(L::Sums::load(self.from[at..].as_ptr()), self.to[at..].as_mut_ptr()) };
        }
        for (to, from) in self.to[vectors..].iter_mut().zip(&self.from[vectors..]) {
            *to = E::narrow(*from);
        }
    }
}

/// `f32`: a group is one element, and a vector of elements a vector of sums.
struct Floats<S>(std::marker::PhantomData<S>);

#[allow(unsafe_code)]
impl<S: Simd> Lane for Floats<S> {
    type Element = f32;
    type Sums = S;

    #[inline(always)]
    unsafe fn widen(from: *const f32) -> S {
        // SAFETY: the conditions of this trait, which are those of `Simd` too.
        unsafe { S::load(from) }
    }
    #[inline(always)]
    unsafe fn narrow(sums: S, to: *mut f32) {
        // SAFETY: the conditions of this trait, which are those of `Simd` too.
        unsafe { sums.store(to) }
    }
    #[inline(always)]
    unsafe fn keep(sums: S, to: *mut f32) {
        // SAFETY: the conditions of this trait, which are those of `Simd` too.
        unsafe { sums.store(to) }
    }
    #[inline(always)]
    unsafe fn recall(from: *const f32) -> S {
        // SAFETY: the conditions of this trait, which are those of `Simd` too.
        unsafe { S::load(from) }
    }
    #[inline(always)]
    unsafe fn row(runs: &[Run<f32>], weights: &[f32], lanes: usize, width: usize, sink: &mut impl Sink<Self>) {
        // SAFETY: the conditions of this trait, which are those of `Simd` too.
        unsafe { by_vectors::<Self>(runs, weights, lanes, width, sink) }
    }
}

#[allow(unsafe_code)]
impl<S: Simd> Dot for Floats<S> {
    type Groups = S;
    const MANY_REGISTERS: bool = S::LANES == 16;

    #[inline(always)]
    unsafe fn groups(from: *const f32) -> S {
        // SAFETY: the conditions of this trait, which are those of `Simd` too.
        unsafe { S::load(from) }
    }
    #[inline(always)]
    unsafe fn spread(from: *const f32) -> S {
        // SAFETY: the conditions of this trait, which are those of `Simd` too.
        unsafe { S::splat(*from) }
    }
    #[inline(always)]
    unsafe fn dot(sums: S, a: S, b: S) -> S {
        // SAFETY: the conditions of this trait, which are those of `Simd` too.
        unsafe { a.mul_add(b, sums) }
    }
}

#[allow(unsafe_code)]
impl Kernels for f32 {
    type Path = Isa;
    type Raw = Self;
    const GROUP: usize = 1;

    fn path() -> Isa {
        Isa::current()
    }

    fn block(path: Isa) -> usize {
        2 * path.lanes()
    }

    fn groups_together(_: Isa) -> usize {
        1
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
            _ => unsafe { work.run::<Floats<Array<4>>>() },
        }
    }
}
