//! Which vector instructions the kernels use, decided at run time, and the vectors they are written over.

use std::cell::Cell;

use candle_core::{Result, bail};

use super::transpose::SIDE;

/// A set of vector instructions. The kernels are written once, over `Simd`, and compiled for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// Whatever the compiler makes of plain arithmetic on arrays: runs everywhere, fuses no multiply and add.
    Portable,
    /// 256-bit vectors and fused multiply-add (x86-64 since about 2013).
    Avx2,
    /// 512-bit vectors and 32 of them.
    Avx512,
}

thread_local! {
    static CHOSEN: Cell<Option<Isa>> = const { Cell::new(None) };
}

impl Isa {
    /// The sets this machine can run, slowest first.
    #[must_use]
    pub fn available() -> Vec<Isa> {
        let mut sets = vec![Isa::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                sets.push(Isa::Avx2);
                if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512dq") {
                    sets.push(Isa::Avx512);
                }
            }
        }
        sets
    }

    /// The set in force on this thread: the best available, unless inside [`with_isa`].
    #[must_use]
    pub fn current() -> Isa {
        CHOSEN.get().unwrap_or_else(best)
    }

    /// Floats in a vector.
    pub(crate) fn lanes(self) -> usize {
        match self {
            Isa::Portable => Array::<4>::LANES,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => Avx2::LANES,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => Avx512::LANES,
            #[cfg(not(target_arch = "x86_64"))]
            _ => Array::<4>::LANES,
        }
    }

    /// Output channels per register tile.
    pub(crate) fn channels(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => Avx512::CHANNELS,
            _ => Array::<4>::CHANNELS,
        }
    }
}

fn best() -> Isa {
    static BEST: std::sync::OnceLock<Isa> = std::sync::OnceLock::new();
    *BEST.get_or_init(|| Isa::available().into_iter().max().unwrap_or(Isa::Portable))
}

/// Runs `f` with the kernels started from this thread confined to `isa`: for tests and comparisons.
///
/// # Errors
/// When this machine cannot run `isa`; `f` is then not called.
pub fn with_isa<R>(isa: Isa, f: impl FnOnce() -> R) -> Result<R> {
    if !Isa::available().contains(&isa) {
        bail!("this processor has no {isa:?}; it has {:?}", Isa::available());
    }
    // Restores the former choice also when `f` panics, since the test harness reuses threads.
    struct Restore(Option<Isa>);
    impl Drop for Restore {
        fn drop(&mut self) {
            CHOSEN.set(self.0);
        }
    }
    let _restore = Restore(CHOSEN.replace(Some(isa)));
    Ok(f())
}

/// A vector of `LANES` floats.
///
/// # Safety
/// The methods may use instructions that only exist where the matching [`Isa`] is available: call them only from
/// a function entered through [`per_isa!`]. `load` and `store` touch `LANES` floats from the pointer on, in any
/// alignment.
#[allow(unsafe_code)]
pub trait Simd: Copy {
    const LANES: usize;
    /// Output channels per register tile: what the number of registers allows beside three vectors of positions.
    const CHANNELS: usize;
    /// Whether there is an instruction that multiplies and adds at once.
    const FUSED: bool;
    unsafe fn zero() -> Self;
    unsafe fn splat(value: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    /// self * b + c
    unsafe fn mul_add(self, b: Self, c: Self) -> Self;
    unsafe fn add(self, b: Self) -> Self;
    /// The greater one, `b` where they cannot be compared.
    unsafe fn max(self, b: Self) -> Self;
    /// Says that this place, which need not exist, will be read soon.
    unsafe fn prefetch(_from: *const f32) {}
    /// Transposes a square of values: `to[j * to_step + i] = from[i * from_step + j]`.
    unsafe fn transpose(from: *const f32, from_step: usize, to: *mut f32, to_step: usize) {
        for i in 0..SIDE {
            for j in 0..SIDE {
                // SAFETY: the caller vouches for the rows of both squares, which do not overlap.
                unsafe { *to.add(j * to_step + i) = *from.add(i * from_step + j) };
            }
        }
    }
}

/// Some floats and no intrinsics.
#[derive(Clone, Copy)]
pub(crate) struct Array<const N: usize>(pub(crate) [f32; N]);

#[allow(unsafe_code)]
impl<const N: usize> Simd for Array<N> {
    const LANES: usize = N;
    const CHANNELS: usize = 4;
    const FUSED: bool = false;
    #[inline(always)]
    unsafe fn zero() -> Self {
        Self([0.0; N])
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; N])
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller vouches for LANES floats at `from`.
        unsafe { Self(from.cast::<[f32; N]>().read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller vouches for room for LANES floats at `to`.
        unsafe { to.cast::<[f32; N]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    unsafe fn mul_add(self, b: Self, c: Self) -> Self {
        // Not `f32::mul_add`: without the instruction that is a library call.
        Self(std::array::from_fn(|l| self.0[l] * b.0[l] + c.0[l]))
    }
    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        Self(std::array::from_fn(|l| self.0[l] + b.0[l]))
    }
    #[inline(always)]
    unsafe fn max(self, b: Self) -> Self {
        Self(std::array::from_fn(|l| if self.0[l] > b.0[l] { self.0[l] } else { b.0[l] }))
    }
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod x86 {
    use super::{SIDE, Simd};
    use std::arch::x86_64::*;

    macro_rules! vector {
        ($name:ident, $register:ty, $lanes:literal, $channels:literal,
         $zero:ident, $splat:ident, $load:ident, $store:ident, $fma:ident, $add:ident, $max:ident) => {
            #[derive(Clone, Copy)]
            pub(crate) struct $name(pub(crate) $register);

            impl Simd for $name {
                const LANES: usize = $lanes;
                const CHANNELS: usize = $channels;
                const FUSED: bool = true;
                #[inline(always)]
                unsafe fn zero() -> Self {
                    // SAFETY: the conditions of the trait; the caller runs where these instructions exist.
                    unsafe { Self($zero()) }
                }
                #[inline(always)]
                unsafe fn splat(value: f32) -> Self {
                    // SAFETY: the conditions of the trait; the caller runs where these instructions exist.
                    unsafe { Self($splat(value)) }
                }
                #[inline(always)]
                unsafe fn load(from: *const f32) -> Self {
                    // SAFETY: the conditions of the trait; the caller runs where these instructions exist.
                    unsafe { Self($load(from)) }
                }
                #[inline(always)]
                unsafe fn store(self, to: *mut f32) {
                    // SAFETY: the conditions of the trait; the caller runs where these instructions exist.
                    unsafe { $store(to, self.0) }
                }
                #[inline(always)]
                unsafe fn mul_add(self, b: Self, c: Self) -> Self {
                    // SAFETY: the conditions of the trait; the caller runs where these instructions exist.
                    unsafe { Self($fma(self.0, b.0, c.0)) }
                }
                #[inline(always)]
                unsafe fn add(self, b: Self) -> Self {
                    // SAFETY: the conditions of the trait; the caller runs where these instructions exist.
                    unsafe { Self($add(self.0, b.0)) }
                }
                #[inline(always)]
                unsafe fn max(self, b: Self) -> Self {
                    // SAFETY: the conditions of the trait; the caller runs where these instructions exist.
                    unsafe { Self($max(self.0, b.0)) }
                }
                #[inline(always)]
                unsafe fn prefetch(from: *const f32) {
                    // SAFETY: the conditions of the trait; the caller runs where these instructions exist.
                    unsafe { _mm_prefetch::<_MM_HINT_T0>(from.cast()) };
                }
                #[inline(always)]
                unsafe fn transpose(from: *const f32, from_step: usize, to: *mut f32, to_step: usize) {
                    // SAFETY: the conditions of the trait; the caller runs where these instructions exist.
                    unsafe { transpose_square(from, from_step, to, to_step) };
                }
            }
        };
    }

    /// By halves of 4 columns, each of which holds rows 0 to 3 beside rows 4 to 7: squares of 4×4 in the two parts of a register.
    #[inline(always)]
    unsafe fn transpose_square(from: *const f32, from_step: usize, to: *mut f32, to_step: usize) {
        // SAFETY: the caller vouches for the instructions, and for the rows of both squares.
        unsafe {
            for half in [0, SIDE / 2] {
                let mut rows = [_mm256_setzero_ps(); SIDE / 2];
                for i in 0..SIDE / 2 {
                    let upper = _mm256_castps128_ps256(_mm_loadu_ps(from.add(i * from_step + half)));
                    rows[i] = _mm256_insertf128_ps::<1>(upper, _mm_loadu_ps(from.add((i + SIDE / 2) * from_step + half)));
                }
                let (low, high) = (_mm256_unpacklo_ps(rows[0], rows[1]), _mm256_unpackhi_ps(rows[0], rows[1]));
                let (low_2, high_2) = (_mm256_unpacklo_ps(rows[2], rows[3]), _mm256_unpackhi_ps(rows[2], rows[3]));
                _mm256_storeu_ps(to.add(half * to_step), _mm256_shuffle_ps::<0x44>(low, low_2));
                _mm256_storeu_ps(to.add((half + 1) * to_step), _mm256_shuffle_ps::<0xEE>(low, low_2));
                _mm256_storeu_ps(to.add((half + 2) * to_step), _mm256_shuffle_ps::<0x44>(high, high_2));
                _mm256_storeu_ps(to.add((half + 3) * to_step), _mm256_shuffle_ps::<0xEE>(high, high_2));
            }
        }
    }

    vector!(
        Avx2,
        __m256,
        8,
        4,
        _mm256_setzero_ps,
        _mm256_set1_ps,
        _mm256_loadu_ps,
        _mm256_storeu_ps,
        _mm256_fmadd_ps,
        _mm256_add_ps,
        _mm256_max_ps
    );
    vector!(
        Avx512,
        __m512,
        16,
        8,
        _mm512_setzero_ps,
        _mm512_set1_ps,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_fmadd_ps,
        _mm512_add_ps,
        _mm512_max_ps
    );
}
#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512};

/// Defines `unsafe fn name(isa, arguments..)` whose body is compiled once per instruction set, with the type
/// parameter bound to that set's vector. What the body calls must be `#[inline(always)]` to share the set.
///
/// The body's own safety conditions pass to the caller; that the instructions exist follows from `isa`, which
/// comes from [`Isa::current`].
#[allow(unsafe_code)]
macro_rules! per_isa {
    ($(#[$meta:meta])* $vis:vis unsafe fn $name:ident<$simd:ident>($($arg:ident: $type:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        #[allow(unsafe_code)]
        $vis unsafe fn $name(isa: $crate::cpu::isa::Isa, $($arg: $type),*) $(-> $ret)? {
            #[allow(clippy::extra_unused_type_parameters)]
            #[inline(always)]
            unsafe fn body<$simd: $crate::cpu::isa::Simd>($($arg: $type),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            unsafe fn avx2($($arg: $type),*) $(-> $ret)? {
                // SAFETY: the conditions of the outer function.
                unsafe { body::<$crate::cpu::isa::Avx2>($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512dq,avx2,fma")]
            unsafe fn avx512($($arg: $type),*) $(-> $ret)? {
                // SAFETY: the conditions of the outer function.
                unsafe { body::<$crate::cpu::isa::Avx512>($($arg),*) }
            }
            match isa {
                // SAFETY: the instructions exist, for `isa` was detected; the rest are the caller's conditions.
                #[cfg(target_arch = "x86_64")]
                $crate::cpu::isa::Isa::Avx512 => unsafe { avx512($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::cpu::isa::Isa::Avx2 => unsafe { avx2($($arg),*) },
                // SAFETY: as above; this one needs no instructions.
                _ => unsafe { body::<$crate::cpu::isa::Array<4>>($($arg),*) },
            }
        }
    };
}
pub(crate) use per_isa;
