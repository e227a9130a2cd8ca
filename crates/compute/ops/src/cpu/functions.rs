//! Elementary functions in operations that vectorise, to be inlined into kernels.

use super::isa::Simd;

/// a b + c, in one instruction where there is one; without it, `f32::mul_add` would be a library call.
#[inline(always)]
fn mul_add<S: Simd>(a: f32, b: f32, c: f32) -> f32 {
    if S::FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// The exponential to about one unit in the last place, for arguments up to 0. Below -87, where the result would leave
/// the normal numbers, it is 0.
#[inline(always)]
pub(super) fn exp<S: Simd>(x: f32) -> f32 {
    // exp(x) = 2^k exp(r), where k is the integer nearest to x / ln 2. Adding and subtracting 1.5 * 2^23 rounds.
    const LEAST: f32 = -87.0;
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let z = if x < LEAST { LEAST } else { x };
    let rounded = mul_add::<S>(z, std::f32::consts::LOG2_E, ROUND);
    let k = rounded - ROUND;
    let r = mul_add::<S>(-k, LN_2_LOW, mul_add::<S>(-k, LN_2_HIGH, z));
    // Cephes' minimax polynomial on [-ln 2 / 2, ln 2 / 2].
    let mut q = 1.987_569_1e-4f32;
    for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        q = mul_add::<S>(q, r, c);
    }
    // The low bits of `rounded` are k; in the place of the exponent, and with its bias, they make 2^k.
    let power = f32::from_bits((rounded.to_bits() << 23).wrapping_add(127 << 23));
    if x < LEAST { 0.0 } else { (mul_add::<S>(q * r, r, r) + 1.0) * power }
}

/// ln(1 + x) to about one unit in the last place, for x from 0 to 1.
#[inline(always)]
pub(super) fn ln_1p<S: Simd>(x: f32) -> f32 {
    // 2 artanh(s) with s = x / (2 + x) <= 1/3; the first term left out is below 1e-8 of the sum.
    let s = x / (2.0 + x);
    let z = s * s;
    let mut q = 1.0 / 15.0;
    for c in [1.0 / 13.0, 1.0 / 11.0, 1.0 / 9.0, 1.0 / 7.0, 0.2, 1.0 / 3.0] {
        q = mul_add::<S>(q, z, c);
    }
    let twice = s + s;
    mul_add::<S>(twice * z, q, twice)
}

/// The error function to about two units in the last place.
#[inline(always)]
pub(super) fn erf<S: Simd>(x: f32) -> f32 {
    // Near zero an odd polynomial; from there on 1 - exp(p(|x|)), which single precision cannot tell from 1 beyond 4.
    // The coefficients are minimax fits of Norbert Juffa's.
    const BORDER: f32 = 0.927_734_4;
    let t = x.abs();
    let t = if t > 4.0 { 4.0 } else { t };
    let s = t * t;
    let head = mul_add::<S>(-1.728_534_7e-5, t, 3.831_971_3e-4);
    let mut p = mul_add::<S>(head, s, mul_add::<S>(-3.883_964_4e-3, t, 2.425_462_2e-2));
    for c in [-1.067_778_8e-1, -6.348_467e-1, -1.287_175_1e-1] {
        p = mul_add::<S>(p, t, c);
    }
    let far = (1.0 - exp::<S>(mul_add::<S>(p, t, -t))).copysign(x);
    let mut q = -5.967_617e-4f32;
    for c in [4.991_194_2e-3, -2.676_813_5e-2, 1.128_199_2e-1, -3.761_253_4e-1, 1.283_791_7e-1] {
        q = mul_add::<S>(q, s, c);
    }
    if t > BORDER { far } else { mul_add::<S>(q, x, x) }
}

#[cfg(test)]
mod tests {
    use crate::cpu::isa::Array;

    fn exp(x: f32) -> f32 {
        super::exp::<Array<4>>(x)
    }

    fn erf(x: f32) -> f32 {
        super::erf::<Array<4>>(x)
    }

    /// The series of the error function in double precision, which alternates and converges for every argument used.
    fn series(x: f64) -> f64 {
        let (mut term, mut sum) = (x, x);
        for n in 1..200 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * 2.0 / std::f64::consts::PI.sqrt()
    }

    #[test]
    fn the_error_function_is_that_of_double_precision() {
        for i in -4000..=4000 {
            let x = i as f32 * 1e-3 + 1e-4;
            let expected = series(f64::from(x));
            assert!((f64::from(erf(x)) - expected).abs() <= 2e-7 * expected.abs(), "{x}: {} instead of {expected}", erf(x));
        }
        assert_eq!([erf(f32::INFINITY), erf(f32::NEG_INFINITY), erf(0.0), erf(30.0)], [1.0, -1.0, 0.0, 1.0]);
        assert!(erf(f32::NAN).is_nan());
    }

    #[test]
    fn the_logarithm_is_that_of_double_precision() {
        for i in 0..=100_000 {
            let x = i as f32 * 1e-5;
            let (found, expected) = (super::ln_1p::<Array<4>>(x), f64::from(x).ln_1p());
            assert!((f64::from(found) - expected).abs() <= 2e-7 * expected, "{x}: {found} instead of {expected}");
        }
        assert!(super::ln_1p::<Array<4>>(f32::NAN).is_nan());
    }

    #[test]
    fn the_exponential_is_that_of_double_precision() {
        for i in 0..=86_999 {
            let x = i as f32 * -1e-3;
            let expected = f64::from(x).exp();
            assert!((f64::from(exp(x)) - expected).abs() <= 2e-7 * expected, "{x}: {} instead of {expected}", exp(x));
        }
        assert_eq!([exp(0.0), exp(-100.0), exp(f32::NEG_INFINITY)], [1.0, 0.0, 0.0]);
        assert!(exp(f32::NAN).is_nan());
    }
}
