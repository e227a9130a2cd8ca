//! How large scans are in the mean, by their headers, and a stand-in of that size: what a stage measures its work on as long as there is
//! no scan.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use random::Streams;
use random::rand::RngExt as _;
use rayon::prelude::*;
use stage_kit::Lot;
use volume::nifti;
use volume::{Affine, Grid, LabelVolume, Orientation, ScalarVolume};

/// So many headers tell the mean.
const MOST_HEADERS: usize = 64;

/// As many cases as there are images, of their mean size in RAS; nothing if none of those that are looked at can be read. Of many images
/// every so manieth is looked at.
#[must_use]
pub fn lot(images: &[PathBuf]) -> Option<Lot> {
    let step = images.len().div_ceil(MOST_HEADERS).max(1);
    let looked_at: Vec<&PathBuf> = images.iter().step_by(step).collect();
    let one = |path: &&PathBuf| {
        let grid = nifti::read_header(path).ok()?.grid().reoriented(ras()?);
        #[expect(clippy::cast_precision_loss, reason = "sides are far below 2^53")]
        let shape = grid.shape.map(|side| side as f64);
        Some(Lot::of(1.0, shape, grid.spacing_mm()))
    };
    let sizes: Vec<Lot> = looked_at.par_iter().filter_map(one).collect();
    let mean = sizes.iter().skip(1).fold(*sizes.first()?, |sum, size| sum.and(size));
    #[expect(clippy::cast_precision_loss, reason = "cases are few")]
    Some(Lot { training: images.len() as f64, ..mean })
}

fn ras() -> Option<Orientation> {
    "RAS".parse().ok()
}

/// A body with organs and noise, which compresses about as a scan does, and its label map.
#[derive(Debug)]
pub struct StandIn {
    /// The image.
    pub image: PathBuf,
    /// The label map.
    pub label: PathBuf,
}

/// The half width of the noise in HU: its spread is 14 HU, as in a routine abdominal scan.
const NOISE_HU: f32 = 25.0;

impl StandIn {
    /// Writes a stand-in of a lot's size into a folder, with an organ for each of `values`.
    ///
    /// # Errors
    /// When the size is none, or a file cannot be written.
    pub fn write(folder: &Path, lot: &Lot, values: &[u8]) -> Result<Self> {
        let grid = grid(lot);
        let labels = organs(grid.shape, values);
        let image = noisy(grid.shape, &labels);
        let standing = Self { image: folder.join("stand-in_0000.nii.gz"), label: folder.join("stand-in.nii.gz") };
        let image = ScalarVolume::from_x_fastest(&grid, image).context("a stand-in for a scan")?;
        nifti::write_scalar_i16(&standing.image, &image)?;
        drop(image);
        write_map(&standing.label, &grid, labels)?;
        Ok(standing)
    }

    /// Writes its label map alone.
    ///
    /// # Errors
    /// As [`StandIn::write`].
    pub fn write_labels(label: &Path, lot: &Lot, values: &[u8]) -> Result<()> {
        let grid = grid(lot);
        write_map(label, &grid, organs(grid.shape, values))
    }
}

fn grid(lot: &Lot) -> Grid {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "sides are small and above 0")]
    let shape = lot.shape.map(|side| side.round().max(1.0) as usize);
    Grid { shape, affine: Affine::from_spacing_mm(lot.spacing_mm, [0.0; 3]) }
}

fn write_map(label: &Path, grid: &Grid, labels: Vec<u8>) -> Result<()> {
    let organs: Vec<u8> = labels.into_iter().map(|label| if label == BODY { 0 } else { label }).collect();
    Ok(nifti::write_labels_on(label, &LabelVolume::from_x_fastest(grid, organs).context("a stand-in for a label map")?)?)
}

/// What of the body is no organ; no class has this value.
const BODY: u8 = 255;

/// The label of every voxel, x fastest: an elliptic body, and in it a ball for each value, as large as fits in rows of four.
fn organs(shape: [usize; 3], values: &[u8]) -> Vec<u8> {
    #[expect(clippy::cast_precision_loss, reason = "sides are small")]
    let place = |index: usize, axis: usize| (index as f64 + 0.5) / shape[axis] as f64 * 2.0 - 1.0;
    let center = |k: usize| {
        let column = |n: usize| -0.45 + 0.3 * (n % 4) as f64;
        [column(k), column(k / 4), column(k / 16 + k)]
    };
    let balls: Vec<(u8, [f64; 3])> = values.iter().enumerate().map(|(k, value)| (*value, center(k))).collect();
    // What of the unit ball is left to an axis, if a place is within it along the others.
    let left = |at: f64, center: f64, half: f64, left: f64| Some(left - ((at - center) / half).powi(2)).filter(|left| *left >= 0.0);
    let plane = |z: usize| {
        let at = place(z, 2);
        let in_plane: Vec<_> = balls.iter().filter_map(|(value, center)| Some((*value, center, left(at, center[2], 0.2, 1.0)?))).collect();
        let mut labels = Vec::with_capacity(shape[0] * shape[1]);
        for y in 0..shape[1] {
            let at = place(y, 1);
            let body = left(at, 0.0, 0.65, 1.0);
            let in_row: Vec<_> =
                in_plane.iter().filter_map(|(value, center, rest)| Some((*value, center[0], left(at, center[1], 0.13, *rest)?))).collect();
            for x in 0..shape[0] {
                let at = place(x, 0);
                let organ = in_row.iter().find(|(_, center, rest)| left(at, *center, 0.13, *rest).is_some()).map(|(value, ..)| *value);
                let inside = body.and_then(|body| left(at, 0.0, 0.85, body)).is_some();
                labels.push(organ.unwrap_or(if inside { BODY } else { 0 }));
            }
        }
        labels
    };
    (0..shape[2]).into_par_iter().flat_map_iter(plane).collect()
}

/// Intensities in HU, x fastest: air, and in the body soft tissue with noise.
fn noisy(shape: [usize; 3], labels: &[u8]) -> Vec<f32> {
    let area = (shape[0] * shape[1]).max(1);
    let plane = |(z, labels): (usize, &[u8])| {
        let mut stream = Streams::new(0).stream("stand-in", &[z as u64]);
        let value = |label: &u8| match *label {
            0 => -1000.0,
            label => 20.0 + f32::from(label % 8) * 15.0 + (stream.random::<f32>() * 2.0 - 1.0) * NOISE_HU,
        };
        labels.iter().map(value).collect::<Vec<f32>>()
    };
    labels.par_chunks(area).enumerate().flat_map_iter(plane).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stand_in_has_the_size_that_was_asked_for_and_shows_every_value() {
        let folder = tempfile::tempdir().unwrap();
        let asked = Lot::of(1.0, [40.0, 30.0, 20.0], [2.0, 2.0, 5.0]);
        let standing = StandIn::write(folder.path(), &asked, &[1, 2, 14]).unwrap();
        let found = lot(&[standing.image.clone(), standing.image.clone()]).unwrap();
        assert_eq!((found.cases(), found.shape), (2.0, asked.shape));
        assert!(found.spacing_mm.iter().zip(asked.spacing_mm).all(|(found, asked)| (found - asked).abs() < 1e-6));
        let (counts, _) = nifti::count_labels(&standing.label, &[]).unwrap();
        let shown: Vec<usize> = (0..256).filter(|&value| counts[value] > 0).collect();
        assert_eq!(shown, [0, 1, 2, 14]);
    }

    #[test]
    fn of_images_that_cannot_be_read_nothing_is_known() {
        assert_eq!(lot(&[]), None);
        assert_eq!(lot(&["no such file".into()]), None);
    }
}
