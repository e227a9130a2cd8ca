//! The instructions of AVX-VNNI and AVX-512 VNNI.
#![allow(unsafe_code)]

use super::super::rows::{Dot, Run, Sink, by_vectors};
use super::{Int8, Lane, f16};
use crate::cpu::isa::{Avx2, Avx512};
use std::arch::x86_64::*;

/// AVX-512 VNNI.
pub(crate) struct Wide;

/// Vectors of 256 bits, by the instruction of AVX-VNNI or by that of AVX-512 VNNI.
pub(crate) struct Short<const VEX: bool>;

/// What all of these have in common.
macro_rules! lane {
    ($sums:ty, $widen:ident, $narrow:ident, $keep:ident, $recall:ident) => {
        type Element = Int8;
        type Sums = $sums;

        #[inline(always)]
        unsafe fn widen(from: *const Int8) -> $sums {
            // SAFETY: the conditions of the trait; the instructions exist.
            unsafe { $widen(from) }
        }
        #[inline(always)]
        unsafe fn narrow(sums: $sums, to: *mut Int8) {
            // SAFETY: the conditions of the trait; the instructions exist.
            unsafe { $narrow(sums, to) }
        }
        #[inline(always)]
        unsafe fn keep(sums: $sums, to: *mut f16) {
            // SAFETY: the conditions of the trait; the instructions exist.
            unsafe { $keep(sums, to) }
        }
        #[inline(always)]
        unsafe fn recall(from: *const f16) -> $sums {
            // SAFETY: the conditions of the trait; the instructions exist.
            unsafe { $recall(from) }
        }
        #[inline(always)]
        unsafe fn row(runs: &[Run<Int8>], weights: &[Int8], lanes: usize, width: usize, sink: &mut impl Sink<Self>) {
            // SAFETY: the conditions of the trait; the instructions exist.
            unsafe { by_vectors::<Self>(runs, weights, lanes, width, sink) }
        }
    };
}

#[inline(always)]
unsafe fn widen_16(from: *const Int8) -> Avx512 {
    // SAFETY: the caller's conditions: 16 elements, and the instructions.
    unsafe { Avx512(_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(from.cast())))) }
}

#[inline(always)]
unsafe fn narrow_16(sums: Avx512, to: *mut Int8) {
    // SAFETY: the caller's conditions: room for 16 elements, and the instructions.
    unsafe {
        let whole = _mm512_max_epi32(_mm512_cvtps_epi32(sums.0), _mm512_setzero_si512());
        _mm_storeu_si128(to.cast(), _mm512_cvtusepi32_epi8(whole));
    }
}

#[inline(always)]
unsafe fn keep_16(sums: Avx512, to: *mut f16) {
    // SAFETY: the caller's conditions: room for 16 numbers, and the instructions.
    unsafe { _mm256_storeu_si256(to.cast(), _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(sums.0)) }
}

#[inline(always)]
unsafe fn recall_16(from: *const f16) -> Avx512 {
    // SAFETY: the caller's conditions: 16 numbers, and the instructions.
    unsafe { Avx512(_mm512_cvtph_ps(_mm256_loadu_si256(from.cast()))) }
}

#[inline(always)]
unsafe fn widen_8(from: *const Int8) -> Avx2 {
    // SAFETY: the caller's conditions: 8 elements, and the instructions.
    unsafe { Avx2(_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(from.cast())))) }
}

#[inline(always)]
unsafe fn narrow_8(sums: Avx2, to: *mut Int8) {
    // SAFETY: the caller's conditions: room for 8 elements, and the instructions.
    unsafe {
        let whole = _mm256_cvtps_epi32(sums.0);
        let halves = _mm_packus_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256::<1>(whole));
        _mm_storel_epi64(to.cast(), _mm_packus_epi16(halves, halves));
    }
}

#[inline(always)]
unsafe fn keep_8(sums: Avx2, to: *mut f16) {
    // SAFETY: the caller's conditions: room for 8 numbers, and the instructions.
    unsafe { _mm_storeu_si128(to.cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(sums.0)) }
}

#[inline(always)]
unsafe fn recall_8(from: *const f16) -> Avx2 {
    // SAFETY: the caller's conditions: 8 numbers, and the instructions.
    unsafe { Avx2(_mm256_cvtph_ps(_mm_loadu_si128(from.cast()))) }
}

impl Lane for Wide {
    lane!(Avx512, widen_16, narrow_16, keep_16, recall_16);
}

impl Dot for Wide {
    type Groups = __m512i;
    const MANY_REGISTERS: bool = true;

    #[inline(always)]
    unsafe fn groups(from: *const Int8) -> __m512i {
        // SAFETY: the conditions of the trait; the instructions exist.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }
    #[inline(always)]
    unsafe fn spread(from: *const Int8) -> __m512i {
        // SAFETY: the conditions of the trait; the instructions exist.
        unsafe { _mm512_set1_epi32(from.cast::<i32>().read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn dot(sums: Avx512, a: __m512i, b: __m512i) -> Avx512 {
        // SAFETY: the conditions of the trait; the instructions exist.
        unsafe { Avx512(_mm512_castsi512_ps(_mm512_dpbusd_epi32(_mm512_castps_si512(sums.0), a, b))) }
    }
    #[inline(always)]
    unsafe fn finish(sums: Avx512) -> Avx512 {
        // SAFETY: the conditions of the trait; the instructions exist.
        unsafe { Avx512(_mm512_cvtepi32_ps(_mm512_castps_si512(sums.0))) }
    }
}

impl<const VEX: bool> Lane for Short<VEX> {
    lane!(Avx2, widen_8, narrow_8, keep_8, recall_8);
}

impl<const VEX: bool> Dot for Short<VEX> {
    type Groups = __m256i;
    const MANY_REGISTERS: bool = false;

    #[inline(always)]
    unsafe fn groups(from: *const Int8) -> __m256i {
        // SAFETY: the conditions of the trait; the instructions exist.
        unsafe { _mm256_loadu_si256(from.cast()) }
    }
    #[inline(always)]
    unsafe fn spread(from: *const Int8) -> __m256i {
        // SAFETY: the conditions of the trait; the instructions exist.
        unsafe { _mm256_set1_epi32(from.cast::<i32>().read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn dot(sums: Avx2, a: __m256i, b: __m256i) -> Avx2 {
        // SAFETY: the conditions of the trait; the instruction exists that VEX names.
        unsafe {
            let sums = _mm256_castps_si256(sums.0);
            Avx2(_mm256_castsi256_ps(match VEX {
                true => _mm256_dpbusd_avx_epi32(sums, a, b),
                false => _mm256_dpbusd_epi32(sums, a, b),
            }))
        }
    }
    #[inline(always)]
    unsafe fn finish(sums: Avx2) -> Avx2 {
        // SAFETY: the conditions of the trait; the instructions exist.
        unsafe { Avx2(_mm256_cvtepi32_ps(_mm256_castps_si256(sums.0))) }
    }
}
