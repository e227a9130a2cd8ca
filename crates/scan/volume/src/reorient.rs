//! Reading the same voxels along other axes.

use rayon::prelude::*;

use crate::{Orientation, Volume};

/// Edges of the tiles that are copied at a time: x and y or z of a tile stay in the first-level cache both where they
/// are read and where they are written, whichever axes are exchanged.
const TILE: [usize; 3] = [32, 16, 16];

/// The volume with its axes exchanged and turned round so that they point as `target` says. No value and no voxel's
/// place in the patient changes. Takes the memory of the output.
#[must_use]
pub fn reorient<T: Copy + Default + Send + Sync>(volume: &Volume<T>, target: Orientation) -> Volume<T> {
    let grid = volume.grid();
    let axes = grid.orientation().axes_to(target);
    let out_grid = grid.reoriented(target);
    let [nx, ny, nz] = out_grid.shape;
    let source = volume.x_fastest();
    let source_steps = [1, grid.shape[0] as isize, (grid.shape[0] * grid.shape[1]) as isize];

    // A step along an axis of the output is `steps[axis]` values of the source, from `start`.
    let mut start = 0;
    let mut steps = [0; 3];
    for (axis, &(from, flipped)) in axes.iter().enumerate() {
        steps[axis] = source_steps[from];
        if flipped {
            start += source_steps[from] * (grid.shape[from] as isize - 1);
            steps[axis] = -source_steps[from];
        }
    }

    let mut values = vec![T::default(); out_grid.voxels()];
    let plane = nx * ny;
    if plane > 0 {
        values.par_chunks_mut(plane * TILE[2]).enumerate().for_each(|(slab, out)| {
            let slab_start = start + steps[2] * (slab * TILE[2]) as isize;
            copy_slab(&source, slab_start, steps, out, [nx, ny, out.len() / plane]);
        });
    }
    debug_assert_eq!(values.len(), plane * nz);
    match Volume::from_x_fastest(&out_grid, values) {
        Ok(volume) => volume,
        Err(_) => unreachable!("the values were made for this grid"),
    }
}

/// Fills `out` (x fastest, of `shape`) from `source`, reading voxel (x, y, z) at `start + x * steps[0] + ...`.
fn copy_slab<T: Copy>(source: &[T], start: isize, steps: [isize; 3], out: &mut [T], shape: [usize; 3]) {
    let [nx, ny, nz] = shape;
    for y0 in (0..ny).step_by(TILE[1]) {
        for x0 in (0..nx).step_by(TILE[0]) {
            let width = TILE[0].min(nx - x0);
            for z in 0..nz {
                for y in y0..(y0 + TILE[1]).min(ny) {
                    let to = x0 + nx * (y + ny * z);
                    let mut from = start + x0 as isize * steps[0] + y as isize * steps[1] + z as isize * steps[2];
                    for value in &mut out[to..to + width] {
                        *value = source[from as usize];
                        from += steps[0];
                    }
                }
            }
        }
    }
}
