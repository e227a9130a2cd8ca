//! Rotations as the qform says them: a unit quaternion (a, b, c, d) of which b, c and d are stored.

use std::array::from_fn;

use super::Problem;
use crate::Affine;
use crate::affine::{determinant3, dot, norm};

/// The square of a quaternion's length may differ from 1 by this much: tools write it with four digits or fewer, and ITK takes
/// whatever there is.
const LENGTH_TOLERANCE: f64 = 1e-3;

/// Three steps of 32-bit rounding are nothing, as for nibabel.
const ROUNDING: f64 = 3.0 * f32::EPSILON as f64;

/// (b, c, d) of a length that every reader takes: nibabel refuses what is longer than 1 by more than three steps of rounding, and
/// so the label map of such an image.
pub(super) fn of_length_1(bcd: [f32; 3]) -> [f32; 3] {
    let square: f64 = bcd.iter().map(|&v| f64::from(v) * f64::from(v)).sum();
    let is_long_by_rounding = (1.0 + ROUNDING..=1.0 + LENGTH_TOLERANCE).contains(&square);
    if is_long_by_rounding { bcd.map(|v| (f64::from(v) / square.sqrt()) as f32) } else { bcd }
}

/// The rotation of a unit quaternion given by its last three numbers (b, c, d), in rows. When these alone are as long as 1 or
/// longer, it is half a turn, about an axis along them (as ITK has it).
pub(super) fn rotation_of([b, c, d]: [f64; 3]) -> Result<[[f64; 3]; 3], Problem> {
    let rest = 1.0 - (b * b + c * c + d * d);
    if rest.is_nan() || rest < -LENGTH_TOLERANCE {
        return Err(Problem::Quaternion { found: [b, c, d] });
    }
    let a = if rest < ROUNDING { 0.0 } else { rest.sqrt() };
    let s = 2.0 / (a * a + b * b + c * c + d * d);
    Ok([
        [1.0 - s * (c * c + d * d), s * (b * c - a * d), s * (b * d + a * c)],
        [s * (b * c + a * d), 1.0 - s * (b * b + d * d), s * (c * d - a * b)],
        [s * (b * d - a * c), s * (c * d + a * b), 1.0 - s * (b * b + c * c)],
    ])
}

/// `qfac` and (b, c, d) of the rotation in `affine`; none when its axes are not orthogonal to 1 part in 10,000.
pub(super) fn quaternion_of(affine: &Affine) -> Option<(f32, [f32; 3])> {
    let columns: [[f64; 3]; 3] = from_fn(|axis| {
        let column = affine.column(axis);
        let length = norm(column);
        column.map(|v| v / length)
    });
    let slant = |a: usize, b: usize| dot(columns[a], columns[b]).abs();
    if slant(0, 1).max(slant(0, 2)).max(slant(1, 2)) > 1e-4 {
        return None;
    }
    let mut r: [[f64; 3]; 3] = from_fn(|row| from_fn(|axis| columns[axis][row]));
    let qfac = determinant3(&r).signum();
    for row in &mut r {
        row[2] *= qfac;
    }
    // Of (a, b, c, d), the number with the greatest square is taken from the diagonal, which keeps the others exact.
    let squares = [
        1.0 + r[0][0] + r[1][1] + r[2][2],
        1.0 + r[0][0] - r[1][1] - r[2][2],
        1.0 - r[0][0] + r[1][1] - r[2][2],
        1.0 - r[0][0] - r[1][1] + r[2][2],
    ];
    let greatest = (0..4).max_by(|&i, &j| squares[i].total_cmp(&squares[j]))?;
    let s = 2.0 * squares[greatest].sqrt();
    let (sum, difference) = (|i: usize, j: usize| (r[i][j] + r[j][i]) / s, |i: usize, j: usize| (r[i][j] - r[j][i]) / s);
    let [a, b, c, d] = match greatest {
        0 => [s / 4.0, difference(2, 1), difference(0, 2), difference(1, 0)],
        1 => [difference(2, 1), s / 4.0, sum(0, 1), sum(0, 2)],
        2 => [difference(0, 2), sum(0, 1), s / 4.0, sum(1, 2)],
        _ => [difference(1, 0), sum(0, 2), sum(1, 2), s / 4.0],
    };
    // The first number is left out of the file and taken as positive.
    let sign = if a < 0.0 { -1.0 } else { 1.0 };
    Some((qfac as f32, [b, c, d].map(|v| (v * sign) as f32)))
}
