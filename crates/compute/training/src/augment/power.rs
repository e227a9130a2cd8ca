//! Powers of numbers from 0 to 1, in operations that vectorise.

/// `x^exponent` for `x` from 0 to 1 and exponents above 0: to two parts in ten million, and as many again
/// for each halving of 1 that it takes.
#[inline(always)]
pub(super) fn power(x: f32, exponent: f32) -> f32 {
    if x < f32::MIN_POSITIVE { 0.0 } else { exp2(exponent * log2(x)) }
}

/// The binary logarithm of a normal number above 0.
#[inline(always)]
#[expect(clippy::cast_precision_loss, reason = "exponents are small")]
fn log2(x: f32) -> f32 {
    // x = 2^e m with m from 1/√2 to √2, and ln m = 2 artanh((m − 1) / (m + 1)).
    const ROOT: u32 = 0x3f35_04f3;
    let bits = x.to_bits().wrapping_sub(ROOT);
    let exponent = (bits as i32 >> 23) as f32;
    let m = f32::from_bits((bits & 0x007f_ffff).wrapping_add(ROOT));
    let s = (m - 1.0) / (m + 1.0);
    let z = s * s;
    let mut q = 1.0 / 9.0;
    for c in [1.0 / 7.0, 0.2, 1.0 / 3.0] {
        q = q * z + c;
    }
    exponent + (s + s) * (q * z + 1.0) * std::f32::consts::LOG2_E
}

/// 2 to the power of a number from -126 to 0; 2^-126 below.
#[inline(always)]
fn exp2(x: f32) -> f32 {
    // Adding and subtracting 1.5 * 2^23 rounds; the low bits of the sum are the whole number.
    const ROUND: f32 = 12_582_912.0;
    let x = if x < -126.0 { -126.0 } else { x };
    let rounded = x + ROUND;
    let r = (x - (rounded - ROUND)) * std::f32::consts::LN_2;
    let mut q = 1.0 / 720.0;
    for c in [1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        q = q * r + c;
    }
    q * f32::from_bits((rounded.to_bits() << 23).wrapping_add(127 << 23))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_power_is_that_of_double_precision() {
        for exponent in [0.1, 0.7, 1.0, 1.5, 3.0, 10.0_f32] {
            for i in 1..=20_000 {
                let x = (i as f32 / 20_000.0).powi(2);
                let (found, expected) = (f64::from(super::power(x, exponent)), f64::from(x).powf(f64::from(exponent)));
                // The rounding of the logarithm grows with it; below 2^-126 there are no normal numbers.
                let part = 2e-7 * (1.0 - expected.log2());
                assert!((found - expected).abs() <= part * expected + 2e-38, "{x}^{exponent}: {found} instead of {expected}");
            }
            assert_eq!(super::power(0.0, exponent), 0.0);
            assert!((super::power(1.0, exponent) - 1.0).abs() < 1e-6);
        }
    }
}
