//! Images made coarser: Gaussian blur, and low resolution as a scanner might have had it.

use rayon::prelude::*;

/// Smooths an image of `shape` voxels, in C order, by a Gaussian of `sigma` voxels along each axis; 0 for none. The Gaussian ends at
/// three deviations, and the image goes on as its mirror image.
pub(super) fn blur(image: &mut [f32], shape: [usize; 3], sigma: [f32; 3]) {
    let source = image.to_vec();
    let [across, along, within] = [0, 1, 2].map(|axis| Kernel::new(sigma[axis], shape[axis]));
    let [_, rows, row] = shape;
    image.par_chunks_mut(rows * row).enumerate().for_each(|(i, plane)| {
        let planes = |at: usize| &source[at * rows * row..][..rows * row];
        across.sum(plane, i, planes);
        if along.weights.len() > 1 {
            let before = plane.to_vec();
            for (j, to) in plane.chunks_exact_mut(row).enumerate() {
                along.sum(to, j, |at| &before[at * row..][..row]);
            }
        }
        within.rows(plane, row);
    });
}

/// The weights of one axis.
struct Kernel {
    weights: Vec<f32>,
    size: usize,
}

impl Kernel {
    #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "a few voxels")]
    fn new(sigma: f32, size: usize) -> Self {
        if sigma <= 0.0 || size == 1 {
            return Self { weights: vec![1.0], size };
        }
        // The odd number of voxels that is nearest to six deviations and a half: batchgenerators' width.
        let radius = (3.0 * sigma - 0.25).round() as i32;
        let weights: Vec<f32> = (-radius..=radius).map(|at| (-0.5 * (at as f32 / sigma).powi(2)).exp()).collect();
        let sum: f32 = weights.iter().sum();
        Self { weights: weights.iter().map(|weight| weight / sum).collect(), size }
    }

    /// The place that the neighbour number `tap` of a place shows: beyond the border as in a mirror that stands on the last voxel.
    fn at(&self, place: usize, tap: usize) -> usize {
        let (place, last) = ((place + tap) as isize - (self.weights.len() / 2) as isize, self.size as isize - 1);
        let turned = place.rem_euclid(2 * last.max(1));
        turned.min(2 * last - turned).max(0) as usize
    }

    /// The weighted sum of lines around a place.
    fn sum<'a>(&self, to: &mut [f32], place: usize, line: impl Fn(usize) -> &'a [f32]) {
        for (tap, &weight) in self.weights.iter().enumerate() {
            let from = line(self.at(place, tap));
            match tap {
                0 => to.iter_mut().zip(from).for_each(|(to, from)| *to = weight * from),
                _ => to.iter_mut().zip(from).for_each(|(to, from)| *to += weight * from),
            }
        }
    }

    /// The same within rows.
    fn rows(&self, plane: &mut [f32], row: usize) {
        let taps = self.weights.len();
        if taps == 1 {
            return;
        }
        let mut padded = vec![0.0; row + taps - 1];
        for to in plane.chunks_exact_mut(row) {
            padded[taps / 2..][..row].copy_from_slice(to);
            for edge in (0..taps / 2).chain(row + taps / 2..row + taps - 1) {
                padded[edge] = to[self.at(edge, 0)];
            }
            for (tap, &weight) in self.weights.iter().enumerate() {
                match tap {
                    0 => to.iter_mut().zip(&padded).for_each(|(to, from)| *to = weight * from),
                    _ => to.iter_mut().zip(&padded[tap..]).for_each(|(to, from)| *to += weight * from),
                }
            }
        }
    }
}

/// Shows an image of `shape` voxels as if it had only a part of the voxels along each axis: those nearest to the voxels of a smaller
/// grid over the same space, and linear between them.
pub(super) fn coarsen(image: &mut [f32], shape: [usize; 3], kept: [f32; 3]) {
    let source = image.to_vec();
    let [across, along, within] = [0, 1, 2].map(|axis| between(shape[axis], kept[axis]));
    let [_, rows, row] = shape;
    image.par_chunks_mut(rows * row).zip(&across).for_each_init(
        || vec![0.0; row],
        |mixed, (plane, &(above, below, down))| {
            for (to, &(left, right, part)) in plane.chunks_exact_mut(row).zip(&along) {
                let line = |plane: usize, line: usize| &source[(plane * rows + line) * row..][..row];
                let weights = [(1.0 - down) * (1.0 - part), (1.0 - down) * part, down * (1.0 - part), down * part];
                let lines = [line(above, left), line(above, right), line(below, left), line(below, right)];
                let [a, b, c, d] = lines;
                for ((((to, a), b), c), d) in mixed.iter_mut().zip(a).zip(b).zip(c).zip(d) {
                    *to = weights[0] * a + weights[1] * b + weights[2] * c + weights[3] * d;
                }
                for (to, &(first, second, part)) in to.iter_mut().zip(&within) {
                    *to = (1.0 - part) * mixed[first] + part * mixed[second];
                }
            }
        },
    );
}

/// For each voxel of an axis the two that it is made from, and the part of the second.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "axes are short")]
fn between(size: usize, kept: f32) -> Vec<(usize, usize, f32)> {
    let coarse = ((size as f64 * f64::from(kept)).round_ties_even() as usize).clamp(1, size);
    let step = size as f64 / coarse as f64;
    // The voxel in which the middle of a coarse one lies.
    let nearest = |place: usize| (((place as f64 + 0.5) * step) as usize).min(size - 1);
    let of_voxel = |voxel: usize| {
        let at = ((voxel as f64 + 0.5) / step - 0.5).clamp(0.0, coarse as f64 - 1.0);
        let first = at as usize;
        (nearest(first), nearest((first + 1).min(coarse - 1)), (at - first as f64) as f32)
    };
    (0..size).map(of_voxel).collect()
}
