//! The scan: which part of the patient, on which grid, with which noise, and how the numbers are stored.

use anyhow::{Context, Result};
use labels::BACKGROUND;
use volume::{Affine, Grid, LabelVolume, Orientation, ScalarVolume, Volume};

use crate::Config;
use crate::draw::Draw;
use crate::geometry::{Matrix, Point, rotation};
use crate::scene::{AIR_HU, Scene, Seen};

/// Heights of the standard trunk that an ordinary abdominal scan covers, in mm.
const FULL_MM: [f32; 2] = [-120.0, 128.0];

/// Weights of a voxel's neighbour, itself and the other neighbour: the partial volume effect and the grain of noise.
const BLUR: [f32; 3] = [0.2, 0.6, 0.2];

/// Which heights of the standard trunk are scanned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Coverage {
    pub(crate) z_mm: [f32; 2],
    pub(crate) cropped: Option<&'static str>,
}

impl Coverage {
    /// A crop ends in the middle of the kidneys' height, so that whole organs are missing above or below.
    pub(crate) fn draw(draw: &mut Draw, cropped_fraction: f32) -> Self {
        let [low, high] = FULL_MM.map(|z| z + 6.0 * draw.normal());
        if !draw.chance(cropped_fraction) {
            return Self { z_mm: [low, high], cropped: None };
        }
        if draw.chance(0.5) {
            Self { z_mm: [low, draw.between([12.0, 28.0])], cropped: Some("top") }
        } else {
            Self { z_mm: [draw.between([8.0, 20.0]), high], cropped: Some("bottom") }
        }
    }
}

/// The settings of one scan.
pub(crate) struct Acquisition {
    pub(crate) grid: Grid,
    /// Where the scanner's origin lies in the world of the file, in mm.
    shift_mm: [f64; 3],
    centre: Point,
    half_size_mm: Point,
    /// The middle of the table's surface, in scanner coordinates.
    table_y_mm: Option<f32>,
    /// The value outside the round field that scanners reconstruct.
    pub(crate) padding_hu: Option<f32>,
    pub(crate) noise_hu: f32,
    /// Slope and intercept from stored to meant values.
    pub(crate) scaling: Option<[f32; 2]>,
    pub(crate) tilt_deg: f32,
}

impl Acquisition {
    pub(crate) fn draw(draw: &mut Draw, config: &Config, scene: &Scene, coverage: &Coverage) -> Result<Self> {
        let in_plane = draw.between(config.spacing_in_plane_mm);
        let spacing = [in_plane, in_plane, draw.between(config.spacing_through_plane_mm)];
        let margin = draw.between(config.margin_mm);
        let table = draw.chance(config.table_fraction);
        let [low, high] = coverage.z_mm.map(|z| scene.pose.place([0.0, 0.0, z]));
        let depth = scene.half_size_mm[1] * scene.pose.size[1];
        // The table needs room below the patient.
        let below = if table { 24.0 } else { 0.0 };
        let half_size_mm = [scene.half_size_mm[0] * scene.pose.size[0] + margin, depth + margin + below / 2.0, (high[2] - low[2]) / 2.0];
        let middle = scene.pose.place([0.0; 3]);
        let centre = [middle[0], middle[1] - below / 2.0, (high[2] + low[2]) / 2.0];
        let oblique = draw.chance(config.oblique_fraction);
        let tilt_deg = if oblique { draw.between([3.0, 8.0]) * if draw.chance(0.5) { 1.0 } else { -1.0 } } else { 0.0 };
        // A tilted gantry turns about the left-right axis.
        let turn = rotation([tilt_deg, 0.0, tilt_deg / 3.0]);
        let shift_mm = [draw.between([-40.0, 40.0]), draw.between([-220.0, 60.0]), draw.between([-900.0, 300.0])].map(f64::from);
        let letters = config.orientations.get(draw.below(config.orientations.len())).map_or("RAS", String::as_str);
        let orientation: Orientation = letters.parse().with_context(|| format!("orientation `{letters}`"))?;
        Ok(Self {
            grid: grid(centre, half_size_mm, spacing, &turn, shift_mm).reoriented(orientation),
            shift_mm,
            centre,
            half_size_mm,
            table_y_mm: table.then(|| middle[1] - depth - 5.0),
            padding_hu: draw.chance(config.padded_fraction).then(|| if draw.chance(0.5) { -3024.0 } else { -1024.0 }),
            noise_hu: draw.between(config.noise_hu),
            scaling: draw.chance(config.scaled_storage_fraction).then_some([0.5, -1024.0]),
            tilt_deg,
        })
    }

    /// Scans the patient: image in HU, the full truth, and the truth as if there were no tumors.
    pub(crate) fn scan(&self, scene: &Scene, noise: &mut Draw) -> Result<(ScalarVolume, LabelVolume, LabelVolume)> {
        let Grid { shape: [nx, ny, nz], affine } = self.grid;
        let mut hu = Vec::with_capacity(self.grid.voxels());
        let mut truth = Vec::with_capacity(self.grid.voxels());
        let mut organs = Vec::with_capacity(self.grid.voxels());
        let voxel = |x: usize, y: usize, z: usize| self.scanner_point(affine.apply(&[x, y, z].map(index_f64)));
        for z in 0..nz {
            for y in 0..ny {
                for x in 0..nx {
                    let p = voxel(x, y, z);
                    let nothing = || Seen { label: BACKGROUND, organ: BACKGROUND, hu: self.surroundings_hu(p) };
                    let seen = scene.at(p).unwrap_or_else(nothing);
                    truth.push(seen.label);
                    organs.push(seen.organ);
                    hu.push(seen.hu);
                }
            }
        }
        self.blur_with_noise(&mut hu, noise);
        if let Some(padding_hu) = self.padding_hu {
            let mut values = hu.iter_mut();
            for z in 0..nz {
                for y in 0..ny {
                    for (x, value) in (0..nx).zip(&mut values) {
                        if self.is_outside_field(voxel(x, y, z)) {
                            *value = padding_hu;
                        }
                    }
                }
            }
        }
        let map = |labels| Volume::from_x_fastest(&self.grid, labels);
        Ok((Volume::from_x_fastest(&self.grid, hu)?, map(truth)?, map(organs)?))
    }

    fn scanner_point(&self, world: [f64; 3]) -> Point {
        #[expect(clippy::cast_possible_truncation, reason = "a few hundred mm")]
        [0, 1, 2].map(|i| (world[i] - self.shift_mm[i]) as f32)
    }

    /// Air, or the table: a curved shell filled with foam.
    fn surroundings_hu(&self, p: Point) -> f32 {
        const TABLE_MM: f32 = 12.0;
        let Some(middle) = self.table_y_mm else { return AIR_HU };
        let depth = middle + 0.0006 * p[0] * p[0] - p[1];
        match depth {
            d if !(0.0..=TABLE_MM).contains(&d) || p[0].abs() > 190.0 => AIR_HU,
            d if d.min(TABLE_MM - d) < 3.0 => 60.0,
            _ => -900.0,
        }
    }

    fn is_outside_field(&self, p: Point) -> bool {
        let [x, y] = [0, 1].map(|i| (p[i] - self.centre[i]) / self.half_size_mm[i]);
        x * x + y * y > 1.0
    }

    /// One blur serves both: it mixes tissues at borders, and gives the noise a grain. The noise is drawn stronger, so
    /// that `noise_hu` is what remains.
    fn blur_with_noise(&self, hu: &mut [f32], noise: &mut Draw) {
        let kept_per_axis = BLUR.iter().map(|w| w * w).sum::<f32>().sqrt();
        let sigma = self.noise_hu / kept_per_axis.powi(3);
        for value in hu.iter_mut() {
            *value += sigma * noise.noise();
        }
        for axis in 0..3 {
            blur_axis(hu, self.grid.shape, axis);
        }
        for value in hu.iter_mut() {
            // Scanners clip to 12 bits.
            *value = value.clamp(-1024.0, 3071.0);
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "voxel indices")]
fn index_f64(index: usize) -> f64 {
    index as f64
}

/// A grid in RAS order around `centre` (scanner coordinates), turned by `turn`.
fn grid(centre: Point, half_size_mm: Point, spacing_mm: Point, turn: &Matrix, shift_mm: [f64; 3]) -> Grid {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a positive number of voxels")]
    let shape = [0, 1, 2].map(|i| ((2.0 * half_size_mm[i] / spacing_mm[i]).round() as usize).max(2));
    let columns = [0, 1, 2].map(|axis| [0, 1, 2].map(|row| f64::from(turn[row][axis]) * f64::from(spacing_mm[axis])));
    let origin = [0, 1, 2].map(|row| {
        let to_corner: f64 = (0..3).map(|axis| columns[axis][row] * index_f64(shape[axis] - 1) / 2.0).sum();
        f64::from(centre[row]) + shift_mm[row] - to_corner
    });
    Grid { shape, affine: Affine::from_columns(columns, origin) }
}

/// Blurs along one axis; border voxels repeat.
fn blur_axis(values: &mut [f32], shape: [usize; 3], axis: usize) {
    let stride: usize = shape[..axis].iter().product();
    let n = shape[axis];
    let block = stride * n;
    let mut line = vec![0.0; n];
    for first in (0..values.len()).filter(|i| i % block < stride) {
        for (i, v) in line.iter_mut().enumerate() {
            *v = values[first + i * stride];
        }
        for i in 0..n {
            let (before, after) = (line[i.saturating_sub(1)], line[(i + 1).min(n - 1)]);
            values[first + i * stride] = BLUR[0] * before + BLUR[1] * line[i] + BLUR[2] * after;
        }
    }
}
