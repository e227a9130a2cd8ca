use ndarray::ArrayView3;

use crate::MetricsError;
use crate::case::check_spacing;
use crate::edt::squared_distances_mm2;
use crate::mask::{Mask, Region};
use crate::surfel::surfel_areas_mm2;

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
    let mask = |map: &ArrayView3<'_, bool>| Mask::of_label(&map.mapv(u8::from).view(), 1, &whole);
    Ok(SurfaceDistances::between(&mask(&prediction), &mask(&truth), spacing_mm))
}

impl SurfaceDistances {
    pub(crate) fn between(prediction: &Mask, truth: &Mask, spacing_mm: [f64; 3]) -> Self {
        let areas_mm2 = surfel_areas_mm2(spacing_mm);
        let prediction = Surface::of(prediction);
        let truth = Surface::of(truth);
        let directed = |from: &Surface, to: &Surface| from.distances_to(to, spacing_mm, &areas_mm2);
        // One direction after the other: each holds a distance for every corner, and classes run in parallel anyway.
        Self { truth_to_prediction: directed(&truth, &prediction), prediction_to_truth: directed(&prediction, &truth) }
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

/// The codes of all voxel corners of a mask (see [`crate::surfel`]), one more along each axis than voxels.
struct Surface {
    shape: [usize; 3],
    codes: Vec<u8>,
}

impl Surface {
    fn of(mask: &Mask) -> Self {
        let [nx, ny, nz] = mask.shape;
        let shape = [nx + 1, ny + 1, nz + 1];
        let mut codes = Vec::with_capacity(shape.iter().product());
        let mut quads = vec![0u8; nx];
        for z in 0..=nz {
            for y in 0..=ny {
                quads.fill(0);
                // Voxels y - 1 and y, z - 1 and z meet at corner (y, z); those outside the grid are empty.
                for (dy, dz) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                    let (vy, vz) = ((y + dy).wrapping_sub(1), (z + dz).wrapping_sub(1));
                    if vy < ny && vz < nz {
                        let row = &mask.voxels[(vz * ny + vy) * nx..][..nx];
                        for (quad, &inside) in quads.iter_mut().zip(row) {
                            *quad |= inside << (2 * dy + dz);
                        }
                    }
                }
                let mut before = 0;
                for &quad in &quads {
                    codes.push(before | quad << 4);
                    before = quad;
                }
                codes.push(before);
            }
        }
        Self { shape, codes }
    }

    fn has_surfel(&self, corner: usize) -> bool {
        !matches!(self.codes[corner], 0 | 255)
    }

    fn distances_to(&self, other: &Self, spacing_mm: [f64; 3], areas_mm2: &[f64; 256]) -> DirectedDistances {
        let squared = squared_distances_mm2(other.shape, spacing_mm, |corner| other.has_surfel(corner));
        let mut surfels: Vec<(f64, f64)> = (0..self.codes.len())
            .filter(|&corner| self.has_surfel(corner))
            .map(|corner| {
                let area = areas_mm2[usize::from(self.codes[corner])];
                (squared[corner].sqrt(), area)
            })
            .collect();
        surfels.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        DirectedDistances { surfels }
    }
}
