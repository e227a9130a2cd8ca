//! Smooth random fields: the displacement that makes every body different, and the texture of tissue.

use std::f32::consts::TAU;

use crate::draw::Draw;
use crate::geometry::{Point, add, dot, length, scaled, sub};
use crate::shape::Bounds;

/// Where fields are defined; beyond, they go on with their value at the border.
pub(crate) const FIELD: Bounds = Bounds { low: [-240.0, -180.0, -220.0], high: [240.0, 180.0, 220.0] };

/// Values on a regular lattice, interpolated linearly between its nodes.
pub(crate) struct Field<const N: usize> {
    spacing_mm: f32,
    shape: [usize; 3],
    values: Vec<[f32; N]>,
}

impl<const N: usize> Field<N> {
    fn filled(spacing_mm: f32, mut value: impl FnMut(Point) -> [f32; N]) -> Self {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some tens of nodes")]
        let shape = [0, 1, 2].map(|i| ((FIELD.high[i] - FIELD.low[i]) / spacing_mm).ceil() as usize + 2);
        let mut values = Vec::with_capacity(shape.iter().product());
        for z in 0..shape[2] {
            for y in 0..shape[1] {
                for x in 0..shape[0] {
                    #[expect(clippy::cast_precision_loss, reason = "some tens of nodes")]
                    values.push(value(add(FIELD.low, scaled([x as f32, y as f32, z as f32], spacing_mm))));
                }
            }
        }
        Self { spacing_mm, shape, values }
    }

    /// The field at `p`.
    pub(crate) fn at(&self, p: Point) -> [f32; N] {
        let offset = sub(p, FIELD.low);
        let mut node = [0usize; 3];
        let mut part = [0.0f32; 3];
        for i in 0..3 {
            #[expect(clippy::cast_precision_loss, reason = "some tens of nodes")]
            let v = (offset[i] / self.spacing_mm).clamp(0.0, (self.shape[i] - 2) as f32);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the lattice")]
            let whole = v as usize;
            node[i] = whole;
            part[i] = v - v.floor();
        }
        let [nx, ny] = [self.shape[0], self.shape[1]];
        let first = (node[2] * ny + node[1]) * nx + node[0];
        let mut sum = [0.0; N];
        for corner in 0..8usize {
            let up = [corner & 1, corner >> 1 & 1, corner >> 2];
            let weight: f32 = (0..3).map(|i| if up[i] == 1 { part[i] } else { 1.0 - part[i] }).product();
            let value = &self.values[first + (up[2] * ny + up[1]) * nx + up[0]];
            for (total, v) in sum.iter_mut().zip(value) {
                *total += weight * v;
            }
        }
        sum
    }
}

/// A displacement in mm: a few waves in random directions, long ones strong and short ones weak, so that it never folds.
pub(crate) fn displacement(draw: &mut Draw, amplitude_mm: f32) -> Field<3> {
    struct Wave {
        number: Point,
        phase: f32,
        push: Point,
    }
    let waves: Vec<Wave> = [260.0, 220.0, 180.0, 150.0, 120.0, 90.0, 75.0, 60.0]
        .into_iter()
        .map(|wavelength_mm: f32| {
            let direction = draw.normal_point(1.0);
            let number = scaled(direction, TAU / wavelength_mm / length(direction).max(0.1));
            let push = draw.normal_point(amplitude_mm * 0.5 * wavelength_mm / 260.0);
            Wave { number, phase: draw.between([0.0, TAU]), push }
        })
        .collect();
    Field::filled(12.0, |p| waves.iter().fold([0.0; 3], |sum, wave| add(sum, scaled(wave.push, (dot(wave.number, p) + wave.phase).sin()))))
}

/// A texture of unit deviation and about 10 mm grain, for tissue that is not uniform.
pub(crate) fn texture(draw: &mut Draw) -> Field<1> {
    // Interpolation averages neighbours, which lowers the deviation of the nodes to about half.
    Field::filled(8.0, |_| [2.0 * draw.normal()])
}

#[cfg(test)]
mod tests {
    use random::Streams;

    use super::*;

    fn places() -> impl Iterator<Item = Point> {
        (0..12u8 * 12).flat_map(|i| (0..12u8).map(move |k| [i % 12, i / 12, k].map(|v| f32::from(v) * 25.0 - 140.0)))
    }

    #[test]
    fn a_displacement_moves_by_millimetres_and_never_folds() {
        const STEP_MM: f32 = 1.0;
        for seed in 0..20 {
            let field = displacement(&mut Draw::new(Streams::new(seed).stream("test", &[])), 6.0);
            let mut largest = 0.0f32;
            for p in places() {
                let here = field.at(p);
                largest = largest.max(length(here));
                for axis in 0..3 {
                    let mut next = p;
                    next[axis] += STEP_MM;
                    // Where the displaced coordinate falls along its own axis, the map turns tissue inside out.
                    let grown = STEP_MM + field.at(next)[axis] - here[axis];
                    assert!(grown > 0.25 * STEP_MM, "seed {seed} folds at {p:?}");
                }
            }
            assert!((2.0..40.0).contains(&largest), "seed {seed} moves by {largest} mm at most");
        }
    }

    #[test]
    fn beyond_its_box_a_field_goes_on_with_its_border() {
        let field = texture(&mut Draw::new(Streams::new(1).stream("test", &[])));
        let far = field.at([1e4, 0.0, 0.0])[0];
        assert!(far.is_finite() && far == field.at([2e4, 0.0, 0.0])[0]);
    }

    #[test]
    fn texture_has_unit_deviation() {
        let field = texture(&mut Draw::new(Streams::new(1).stream("test", &[])));
        let values: Vec<f32> = places().map(|p| field.at([p[0] * 1.07, p[1] * 0.93, p[2] * 1.01])[0]).collect();
        #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
        let deviation = (values.iter().map(|v| v * v).sum::<f32>() / values.len() as f32).sqrt();
        assert!((0.6..1.4).contains(&deviation), "deviation {deviation}");
    }
}
