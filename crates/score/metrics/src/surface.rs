use std::cell::RefCell;

use labels::LabelPattern;
use ndarray::{ArrayView3, Axis};

use crate::MetricsError;
use crate::case::check_spacing;
use crate::edt::squared_distances_mm2;
use crate::mask::{Mask, Region};
use crate::surfel::surfel_areas_mm2;

/// Surfels of two surfaces together; each takes 16 bytes. A patient's skin at 0.8 mm has 3 million.
const MOST_SURFELS: usize = 1 << 25;

/// Corners whose distances are computed at a time, in 8 bytes each.
const MOST_POINTS: usize = 1 << 24;

/// How far the surfels of one surface are from another surface.
#[derive(Debug, Clone, PartialEq)]
pub struct DirectedDistances {
    /// Distance in mm and area in mm² of every surfel, ascending by distance. A distance is infinite where
    /// the other surface does not exist.
    pub surfels: Vec<(f64, f64)>,
}

/// Distances between the surfaces of a prediction and of the ground truth, in both directions.
#[derive(Debug, Clone, PartialEq)]
pub struct SurfaceDistances {
    /// From each surfel of the ground truth to the predicted surface.
    pub truth_to_prediction: DirectedDistances,
    /// From each predicted surfel to the surface of the ground truth.
    pub prediction_to_truth: DirectedDistances,
}

/// Distances between the surfaces of two masks on one grid, where `true` is inside.
///
/// # Errors
/// [`MetricsError::ShapeMismatch`] or [`MetricsError::BadSpacing`].
#[allow(clippy::needless_pass_by_value, reason = "views go by value, as in ndarray")]
pub fn surface_distances(
    prediction: ArrayView3<'_, bool>,
    truth: ArrayView3<'_, bool>,
    spacing_mm: [f64; 3],
) -> Result<SurfaceDistances, MetricsError> {
    if prediction.shape() != truth.shape() {
        return Err(MetricsError::ShapeMismatch { prediction: prediction.shape().to_vec(), truth: truth.shape().to_vec() });
    }
    check_spacing(spacing_mm)?;
    let (nx, ny, nz) = truth.dim();
    let whole = Region { start: [0; 3], end: [nx, ny, nz] };
    let mask = |map: &ArrayView3<'_, bool>| {
        let mut mask = Mask::empty(whole.shape());
        for (z, slice) in map.axis_iter(Axis(2)).enumerate() {
            let slice: Vec<u8> = slice.t().iter().map(|&inside| u8::from(inside)).collect();
            mask.add_slice(z, &slice, nx.max(1), LabelPattern::of(1), &whole);
        }
        mask
    };
    SurfaceDistances::between(&mask(&prediction), &mask(&truth), spacing_mm)
}

impl SurfaceDistances {
    pub(crate) fn between(prediction: &Mask, truth: &Mask, spacing_mm: [f64; 3]) -> Result<Self, MetricsError> {
        let areas_mm2 = surfel_areas_mm2(spacing_mm);
        let prediction = Surface::of(prediction);
        let truth = Surface::of(truth);
        let found = prediction.surfels() + truth.surfels();
        if found > MOST_SURFELS {
            return Err(MetricsError::TooManySurfels { found, most: MOST_SURFELS });
        }
        let directed = |from: &Surface<'_>, to: &Surface<'_>| from.distances_to(to, spacing_mm, &areas_mm2);
        // One direction after the other: each computes a distance for every corner, and classes run in parallel anyway.
        Ok(Self { truth_to_prediction: directed(&truth, &prediction), prediction_to_truth: directed(&prediction, &truth) })
    }

    /// Normalised surface Dice: the share of both surfaces' area that lies within `tolerance_mm` of the other
    /// surface. None if both surfaces are empty.
    pub fn nsd(&self, tolerance_mm: f64) -> Option<f64> {
        let directions = [&self.truth_to_prediction, &self.prediction_to_truth];
        let total: f64 = directions.map(DirectedDistances::area_mm2).iter().sum();
        let within = directions.map(|direction| direction.area_within_mm2(tolerance_mm));
        (total > 0.0).then(|| within.iter().sum::<f64>() / total)
    }

    /// Hausdorff distance in mm: the largest distance in either direction. None if a surface is empty.
    pub fn hausdorff_mm(&self) -> Option<f64> {
        self.percentile_mm(1.0)
    }

    /// The distance in mm that holds for 95 % of the area, in the worse direction. None if a surface is empty.
    pub fn hausdorff95_mm(&self) -> Option<f64> {
        self.percentile_mm(0.95)
    }

    fn percentile_mm(&self, share: f64) -> Option<f64> {
        let there = self.truth_to_prediction.percentile_mm(share)?;
        let back = self.prediction_to_truth.percentile_mm(share)?;
        Some(there.max(back))
    }
}

impl DirectedDistances {
    fn area_mm2(&self) -> f64 {
        self.surfels.iter().map(|(_, area)| area).sum()
    }

    fn area_within_mm2(&self, tolerance_mm: f64) -> f64 {
        let near = self.surfels.iter().take_while(|(distance, _)| *distance <= tolerance_mm);
        // From +0, because a sum of nothing is −0, which tables would print.
        near.fold(0.0, |sum, (_, area)| sum + area)
    }

    /// The least distance up to which surfels hold `share` of the area.
    fn percentile_mm(&self, share: f64) -> Option<f64> {
        let total = self.area_mm2();
        let (farthest, _) = *self.surfels.last()?;
        if share >= 1.0 {
            return Some(farthest);
        }
        let mut sum = 0.0;
        let reached = self.surfels.iter().find(|(_, area)| {
            sum += area;
            sum / total >= share
        });
        Some(reached.map_or(farthest, |(distance, _)| *distance))
    }
}

/// The codes of all voxel corners of a mask (see [`crate::surfel`]), one more along each axis than voxels. They are computed
/// row by row when they are asked for.
struct Surface<'a> {
    mask: &'a Mask,
    shape: [usize; 3],
    /// Of each row along x how many surfels come before it, and at the end how many there are.
    before: Vec<usize>,
}

impl<'a> Surface<'a> {
    fn of(mask: &'a Mask) -> Self {
        let shape = mask.shape.map(|side| side + 1);
        let mut surface = Self { mask, shape, before: Vec::with_capacity(shape[1] * shape[2] + 1) };
        let (mut codes, mut surfels) = (vec![0; shape[0]], 0);
        for row in 0..shape[1] * shape[2] {
            surface.before.push(surfels);
            surface.codes_of_row(row, &mut codes);
            surfels += codes.iter().filter(|&&code| is_surfel(code)).count();
        }
        surface.before.push(surfels);
        surface
    }

    fn surfels(&self) -> usize {
        self.before[self.before.len() - 1]
    }

    fn codes_of_row(&self, row: usize, codes: &mut [u8]) {
        codes.fill(0);
        let ([nx, ny, nz], [y, z]) = (self.mask.shape, [row % self.shape[1], row / self.shape[1]]);
        // Voxels y - 1 and y, z - 1 and z meet at corner (y, z); those outside the grid are empty.
        for (dy, dz) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let (vy, vz) = ((y + dy).wrapping_sub(1), (z + dz).wrapping_sub(1));
            if vy < ny && vz < nz {
                for (codes, &bits) in codes[..nx].chunks_mut(64).zip(self.mask.row(vy, vz)).filter(|(_, bits)| **bits != 0) {
                    let shift = 2 * dy + dz;
                    codes.iter_mut().enumerate().for_each(|(i, code)| *code |= ((bits >> i & 1) as u8) << shift);
                }
            }
        }
        // So far a code holds the four voxels on its far side along x.
        let mut before = 0;
        for code in codes {
            let here = *code;
            (*code, before) = (before | here << 4, here);
        }
    }

    fn distances_to(&self, other: &Self, spacing_mm: [f64; 3], areas_mm2: &[f64; 256]) -> DirectedDistances {
        let codes = RefCell::new(vec![0; self.shape[0]]);
        let sites = |row: usize, is_site: &mut [bool]| {
            let codes = &mut *codes.borrow_mut();
            other.codes_of_row(row, codes);
            is_site.iter_mut().zip(codes).for_each(|(is_site, code)| *is_site = is_surfel(*code));
        };
        let mut surfels = vec![(0.0, 0.0); self.surfels()];
        // Of each row where its next surfel is put: they lie in the order of corners, whatever the blocks.
        let mut next = self.before.clone();
        squared_distances_mm2(other.shape, spacing_mm, MOST_POINTS, sites, |columns, squared| {
            let codes = &mut *codes.borrow_mut();
            for (row, squared) in
                squared.chunks_exact(columns.len()).enumerate().filter(|(row, _)| self.before[*row] < self.before[row + 1])
            {
                self.codes_of_row(row, codes);
                for (code, squared) in codes[columns.clone()].iter().zip(squared).filter(|(code, _)| is_surfel(**code)) {
                    surfels[next[row]] = (squared.sqrt(), areas_mm2[usize::from(*code)]);
                    next[row] += 1;
                }
            }
        });
        surfels.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        DirectedDistances { surfels }
    }
}

fn is_surfel(code: u8) -> bool {
    !matches!(code, 0 | 255)
}
