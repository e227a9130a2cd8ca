//! The planes of a series, and what lies on them.

use std::array::from_fn;

use crate::instance::Frame;
use crate::series::Series;
use crate::stack::SAME_DIRECTION;

/// What lies off a plane by less than this share of the distance between planes is on it: treatment planning rounds places.
const LEAST_OFF: f64 = 0.2;

/// A frame whose pixels are off those of a slice by less than this share of one is on them.
const LEAST_SHIFT: f64 = 0.1;

/// The planes of the slices of a series.
pub(crate) struct Planes {
    /// The place of the first pixel of each, by distances along the normal.
    positions: Vec<[f64; 3]>,
    along_row: [f64; 3],
    along_column: [f64; 3],
    normal: [f64; 3],
    /// Millimetres from column to column and from row to row.
    steps: [f64; 2],
    between: f64,
}

impl Planes {
    pub(crate) fn of(series: &Series) -> Self {
        let positions: Vec<[f64; 3]> = series.slices.iter().map(|slice| slice.position).collect();
        let [a, b]: [[f64; 3]; 2] = [from_fn(|i| series.directions[i]), from_fn(|i| series.directions[3 + i])];
        let normal = [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
        let ends = [positions.first(), positions.last()].map(|end| end.map_or(0.0, |position| dot(*position, normal)));
        let between = (ends[1] - ends[0]) / (positions.len().max(2) - 1) as f64;
        Self { positions, along_row: a, along_column: b, normal, steps: [series.spacing[1], series.spacing[0]], between }
    }

    /// The slice whose plane a point in LPS mm lies on, or how many mm it is off the nearest.
    pub(crate) fn slice(&self, point: [f64; 3]) -> Result<usize, f64> {
        let at = dot(point, self.normal);
        let off = |slice: usize| self.positions.get(slice).map_or(f64::INFINITY, |position| (dot(*position, self.normal) - at).abs());
        let after = self.positions.partition_point(|position| dot(*position, self.normal) < at);
        let nearest = if after > 0 && off(after - 1) <= off(after) { after - 1 } else { after };
        if off(nearest) <= LEAST_OFF * self.between { Ok(nearest) } else { Err(off(nearest)) }
    }

    /// The column and the row of a point, in pixels of a slice, whose centres are at whole numbers.
    pub(crate) fn pixel(&self, slice: usize, point: [f64; 3]) -> [f64; 2] {
        let from: [f64; 3] = from_fn(|i| point[i] - self.positions[slice][i]);
        [dot(from, self.along_row) / self.steps[0], dot(from, self.along_column) / self.steps[1]]
    }

    /// The slice whose pixels are those of a frame, or what is otherwise.
    pub(crate) fn slice_of(&self, frame: &Frame) -> Result<usize, String> {
        let (Some(position), Some(directions), Some(spacing)) = (frame.position, frame.directions, frame.spacing) else {
            return Err("without a position, directions or spacing".into());
        };
        let own: [f64; 6] = from_fn(|i| if i < 3 { self.along_row[i] } else { self.along_column[i - 3] });
        if own.iter().zip(directions).any(|(own, other)| (own - other).abs() > SAME_DIRECTION) {
            return Err(format!("runs along {directions:?}, and the images along {own:?}"));
        }
        let steps = [spacing[1], spacing[0]];
        if self.steps.iter().zip(steps).any(|(own, other)| (own - other).abs() > SAME_DIRECTION * own) {
            return Err(format!("has pixels of {steps:?} mm, and the images of {:?} mm", self.steps));
        }
        let slice = self.slice(position).map_err(|off| format!("at {position:?} mm is {off:.3} mm off the nearest image"))?;
        let shift = self.pixel(slice, position);
        if shift.iter().any(|shift| shift.abs() > LEAST_SHIFT) {
            return Err(format!("at {position:?} mm is shifted by {:.2} and {:.2} pixels", shift[0], shift[1]));
        }
        Ok(slice)
    }
}

fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}
