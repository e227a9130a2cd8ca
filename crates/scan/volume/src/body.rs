//! Where the patient is, seen at low resolution.

use crate::placement::Placement;
use crate::{Box3, Grid, Keep, RunMap};

/// The distance of the points that are looked at, in mm. A table's shell and a blanket are thinner than two of them.
const STEP_MM: f64 = 4.0;

/// Points of air that are left around the body on each side: one for what opening has taken, one for what lies between
/// two points.
const MARGIN: usize = 2;

/// Points of a model grid, those of the body marked as they are seen.
pub(crate) struct Sampled {
    /// Voxels of the model grid from point to point.
    steps: [usize; 3],
    model: [usize; 3],
    /// Points along each axis.
    points: [usize; 3],
    /// One bit a point would do; a byte keeps it simple: a scan of 2,471 mm has 10 million.
    dense: Vec<u8>,
}

impl Sampled {
    pub(crate) fn new(grid: &Grid) -> Self {
        let spacing_mm = grid.spacing_mm();
        let steps: [usize; 3] = std::array::from_fn(|axis| ((STEP_MM / spacing_mm[axis]).round() as usize).max(1));
        let points = std::array::from_fn(|axis| grid.shape[axis].div_ceil(steps[axis]));
        Self { steps, model: grid.shape, points, dense: vec![0; points.iter().product()] }
    }

    /// The levels of a file that have points.
    pub(crate) fn levels(&self, placement: &Placement) -> impl Iterator<Item = usize> {
        (0..self.points[2]).map(|z| placement.level(z * self.steps[2]))
    }

    /// Looks at a level of a file, in RAS order, for points denser than `above`.
    pub(crate) fn look_at(&mut self, placement: &Placement, level: usize, values: &[f32], above: f32) {
        let ([px, py, pz], [step_x, step_y, step_z]) = (self.points, self.steps);
        for z in (0..pz).filter(|z| placement.level(z * step_z) == level) {
            for (i, dense) in self.dense[z * px * py..][..px * py].iter_mut().enumerate() {
                let [x, y, _] = placement.nearest([i % px * step_x, i / px * step_y, z * step_z]);
                *dense = u8::from(values[x + y * placement.width()] > above);
            }
        }
    }

    /// The box of the model grid around the largest thing that is thicker than two points across; around everything
    /// dense when nothing is.
    pub(crate) fn body(&self) -> Option<Box3> {
        let mut things = RunMap::new(self.points);
        let plane = self.points[0] * self.points[1];
        for (z, dense) in self.dense.chunks_exact(plane.max(1)).enumerate() {
            things.set_plane(z, &eroded(dense, self.points[0]));
        }
        things.keep_parts(|_| Keep::Largest);
        let found = things.bounds().or_else(|| {
            (0..).zip(self.dense.chunks_exact(plane.max(1))).for_each(|(z, dense)| things.set_plane(z, dense));
            things.bounds()
        })?;
        let found = found.grown([MARGIN; 3], self.points);
        let start: [usize; 3] = std::array::from_fn(|axis| found.start[axis] * self.steps[axis]);
        // The last point stands for the voxels up to the next one.
        let end: [usize; 3] =
            std::array::from_fn(|axis| ((found.start[axis] + found.shape[axis]) * self.steps[axis]).min(self.model[axis]));
        Some(Box3 { start, shape: std::array::from_fn(|axis| end[axis] - start[axis]) })
    }
}

/// Points whose eight neighbours in the plane are dense as well; beyond the border is what is on it.
fn eroded(dense: &[u8], width: usize) -> Vec<u8> {
    let height = dense.len() / width.max(1);
    let all = |x: usize, y: usize| {
        let (xs, ys) = (x.saturating_sub(1)..(x + 2).min(width), y.saturating_sub(1)..(y + 2).min(height));
        ys.into_iter().all(|y| dense[y * width..][xs.clone()].iter().all(|&dense| dense != 0))
    };
    (0..dense.len()).map(|i| u8::from(all(i % width, i / width))).collect()
}
