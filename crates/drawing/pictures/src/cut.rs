//! Where a picture cuts through the patient, and what is seen there.

use std::array::from_fn;
use std::cmp::Reverse;

use volume::nifti::NiftiError;
use volume::{Box3, Grid, Orientation, ScalarVolume, Slices, foreground_box, pick_linear, pick_nearest, window};

use crate::palette::Palette;

/// The longer side of an axial panel, and the greatest height of a coronal one, in pixels.
pub(crate) const PANEL_PX: usize = 320;

/// A coronal view lower than this many pixels tells nothing and is left out.
const LEAST_CORONAL_PX: f64 = 32.0;

/// The patient begins where more than this is seen; clothes and the foam on the table are less dense.
const BODY_ABOVE_HU: f32 = -300.0;

/// How much air is left around the patient.
const AIR_MM: f64 = 8.0;

/// The patient's axes, which are also the axes of a grid in RAS order.
const SAGITTAL: usize = 0;
const CORONAL: usize = 1;
const AXIAL: usize = 2;

/// One slice through the patient with square pixels, the patient's right on the left.
pub(crate) struct Cut {
    /// Pixels from left to right, from top to bottom, and one across; the affine places them in the patient.
    grid: Grid,
    /// The windowed CT, rows from the top.
    pub(crate) gray: Vec<u8>,
    /// The row of pixels where the axial cut of the same picture crosses this one.
    pub(crate) crossing: Option<usize>,
}

impl Cut {
    pub(crate) fn width(&self) -> usize {
        self.grid.shape[0]
    }

    pub(crate) fn height(&self) -> usize {
        self.grid.shape[1]
    }

    /// The grid of the cut through the voxels of `slab`, whose rows run against axis `down` of `ras`.
    fn through(ras: &Grid, slab: &Box3, down: usize, pixel_mm: f64) -> Grid {
        let across = AXIAL + CORONAL - down;
        let spacing_mm = ras.spacing_mm();
        let pixels = |axis: usize| ((slab.shape[axis] as f64 * spacing_mm[axis] / pixel_mm).round() as usize).max(1);
        let shape = [pixels(SAGITTAL), pixels(down), 1];
        // Voxels per pixel, so that the pixels cover the slab from edge to edge.
        let steps = [slab.shape[SAGITTAL] as f64 / shape[0] as f64, slab.shape[down] as f64 / shape[1] as f64];
        let far_edge = |axis: usize| (slab.start[axis] + slab.shape[axis]) as f64 - 0.5;
        let mut first = slab.start.map(|voxel| voxel as f64);
        first[SAGITTAL] = far_edge(SAGITTAL) - 0.5 * steps[0];
        first[down] = far_edge(down) - 0.5 * steps[1];
        let columns = [
            ras.affine.column(SAGITTAL).map(|mm| -mm * steps[0]),
            ras.affine.column(down).map(|mm| -mm * steps[1]),
            ras.affine.column(across),
        ];
        Grid { shape, affine: volume::Affine::from_columns(columns, ras.affine.apply(&first)) }
    }
}

/// The labels at the pixels of each cut, rows from the top.
pub(crate) fn labels_of(cuts: &[Cut], labels: &impl Slices<u8>) -> Result<Vec<Vec<u8>>, NiftiError> {
    let grids: Vec<Grid> = cuts.iter().map(|cut| cut.grid).collect();
    Ok(pick_nearest(labels, &grids)?.iter().map(|labels| labels.x_fastest().into_owned()).collect())
}

/// The axial cut with the most to see and, where the scan is high enough, the coronal one with the most to see.
pub(crate) fn cuts(
    image: &impl Slices<f32>,
    truth: &impl Slices<u8>,
    palette: &Palette,
    window_hu: [f32; 2],
) -> Result<Vec<Cut>, NiftiError> {
    let ras = image.grid().reoriented(Orientation::RAS);
    let spacing_mm = ras.spacing_mm();
    let [fullest_axial, fullest_coronal] = fullest_slices(truth, palette, [AXIAL, CORONAL])?;
    let frame = body(image, &ras, fullest_axial)?;
    let side_mm = |axis: usize| frame.shape[axis] as f64 * spacing_mm[axis];
    let pixel_mm = side_mm(SAGITTAL).max(side_mm(CORONAL)) / PANEL_PX as f64;
    let mut grids = vec![Cut::through(&ras, &frame, CORONAL, pixel_mm)];
    let mut crossings = vec![None];
    if ras.shape[AXIAL] as f64 * spacing_mm[AXIAL] >= LEAST_CORONAL_PX * pixel_mm {
        let highest = ((PANEL_PX as f64 * pixel_mm / spacing_mm[AXIAL]) as usize).clamp(1, ras.shape[AXIAL]);
        let level = frame.start[AXIAL];
        let mut slab = frame;
        slab.start[CORONAL] = fullest_coronal;
        slab.shape[CORONAL] = 1;
        // A long scan is shown around the level of the axial cut.
        slab.start[AXIAL] = level.saturating_sub(highest / 2).min(ras.shape[AXIAL] - highest);
        slab.shape[AXIAL] = highest;
        let coronal = Cut::through(&ras, &slab, AXIAL, pixel_mm);
        let from_top = (slab.start[AXIAL] + highest - level) as f64 - 0.5;
        crossings.push(Some((from_top / highest as f64 * coronal.shape[1] as f64) as usize));
        grids.push(coronal);
    }
    let seen = pick_linear(image, &grids)?;
    let cut = |((grid, mut ct), crossing): ((Grid, ScalarVolume), Option<usize>)| {
        window(&mut ct, window_hu);
        let gray = ct.x_fastest().iter().map(|share| (share * 255.0).round() as u8).collect();
        Cut { grid, gray, crossing }
    };
    Ok(grids.into_iter().zip(seen).zip(crossings).map(cut).collect())
}

/// The voxels of one axial slice (in RAS order) that show the patient, or all of it when there is nothing but air.
fn body(image: &impl Slices<f32>, ras: &Grid, level: usize) -> Result<Box3, NiftiError> {
    let slice = Box3 { start: [0, 0, level], shape: [ras.shape[SAGITTAL], ras.shape[CORONAL], 1] };
    let seen = pick_linear(image, &[ras.cropped(&slice)])?;
    let found = seen.first().and_then(|seen| foreground_box(seen, BODY_ABOVE_HU));
    let spacing_mm = ras.spacing_mm();
    Ok(found.map_or(slice, |found| {
        let margin = from_fn(|axis| if axis == AXIAL { 0 } else { (AIR_MM / spacing_mm[axis]).ceil() as usize });
        let frame = found.grown(margin, slice.shape);
        Box3 { start: [frame.start[SAGITTAL], frame.start[CORONAL], level], shape: frame.shape }
    }))
}

/// The slices across two of the patient's axes, counted in RAS order, with the most of what stands out; without any, those with
/// the most labels, then the most labelled voxels, then the most central.
fn fullest_slices(truth: &impl Slices<u8>, palette: &Palette, world_axes: [usize; 2]) -> Result<[usize; 2], NiftiError> {
    let grid = truth.grid();
    let orientation = grid.orientation();
    let axes = world_axes.map(|wanted| (0..3).find(|&axis| orientation.world_axis(axis) == wanted).unwrap_or(wanted));
    // Voxels of each label in each slice across either axis.
    let mut counts = axes.map(|axis| vec![[0u64; 256]; grid.shape[axis]]);
    truth.each_slice(&mut |k, labels| {
        for (y, row) in labels.chunks_exact(grid.shape[0]).enumerate() {
            for (x, &label) in row.iter().enumerate().filter(|(_, label)| **label != 0) {
                for (counts, axis) in counts.iter_mut().zip(axes) {
                    counts[[x, y, k][axis]][usize::from(label)] += 1;
                }
            }
        }
    })?;
    Ok(from_fn(|n| {
        let (axis, slices) = (axes[n], counts[n].len());
        let place = |index: usize| if orientation.is_positive(axis) { index } else { slices - 1 - index };
        let fullness = counts[n].iter().enumerate().map(|(index, voxels)| {
            let labels = voxels[1..].iter().filter(|&&voxels| voxels > 0).count();
            let marked: u64 = (0u8..=255).zip(voxels).filter(|(label, _)| palette.marks(*label)).map(|(_, voxels)| voxels).sum();
            let off_center = (2 * place(index) + 1).abs_diff(slices);
            (marked, labels, voxels[1..].iter().sum::<u64>(), Reverse(off_center), place(index))
        });
        fullness.max().map_or(0, |(.., place)| place)
    }))
}

#[cfg(test)]
mod tests {
    use labels::flare23::{TUMOR, classes};
    use ndarray::Array3;
    use volume::{Affine, LabelVolume};

    use super::*;

    fn labelled(shape: [usize; 3], label: impl Fn([usize; 3]) -> u8) -> LabelVolume {
        let data = Array3::from_shape_fn(shape, |(x, y, z)| label([x, y, z]));
        LabelVolume { data, affine: Affine::from_spacing_mm([2.0, 2.0, 5.0], [0.0; 3]) }
    }

    #[test]
    fn tumor_counts_before_labels_labels_before_voxels_and_the_middle_decides() {
        let shape = [6, 6, 7];
        let fullest_slices = |truth: &LabelVolume| fullest_slices(truth, &Palette::of(&classes()), [AXIAL, CORONAL]).unwrap();
        assert_eq!(fullest_slices(&labelled(shape, |_| 0))[0], 3, "nothing anywhere");
        let one = labelled(shape, |[x, _, z]| if z == 1 { 1 } else { u8::from(z == 5 && x == 0) * 2 });
        assert_eq!(fullest_slices(&one)[0], 1, "one label each, but more of it");
        let two = labelled(shape, |[x, y, z]| if z == 1 { 1 } else { u8::from(z == 5 && x == 0) * (2 + u8::from(y == 0)) });
        assert_eq!(fullest_slices(&two)[0], 5, "two labels are more than one");
        let tumor = labelled(shape, |[x, y, z]| if [x, y, z] == [2, 4, 6] { 14 } else { z as u8 });
        assert_eq!(fullest_slices(&tumor), [6, 4]);
    }

    #[test]
    fn a_long_scan_is_shown_around_the_level_of_the_axial_cut() {
        // 100 mm across and 1000 mm long: the coronal view has room for a tenth.
        let truth = labelled([50, 50, 200], |[x, y, z]| u8::from([x, y, z] == [10, 20, 150]) * TUMOR);
        let image = ScalarVolume::filled(&truth.grid(), 40.0);
        let cuts = cuts(&image, &truth, &Palette::of(&classes()), [-160.0, 240.0]).unwrap();
        assert_eq!([cuts[1].width(), cuts[1].height()], [PANEL_PX, PANEL_PX]);
        let labels = &labels_of(&cuts, &truth).unwrap()[1];
        let rows: Vec<usize> = (0..PANEL_PX).filter(|row| labels[row * PANEL_PX..][..PANEL_PX].contains(&TUMOR)).collect();
        assert_eq!(rows.len(), 16, "5 mm of 320 pixels to 100 mm");
        assert!(rows.contains(&cuts[1].crossing.unwrap()) && (144..=176).contains(&rows[8]));
    }
}
