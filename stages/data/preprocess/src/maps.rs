//! Label maps on the model grid.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use labels::LabelError;
use volume::{Box3, Cut, LabelPlanes, LabelScan, Scan, nifti};

/// A label map that goes the scan's way onto the model grid.
pub(crate) struct MapFile {
    labels: LabelScan,
    /// What each of its values adds to that of the voxel.
    table: [u8; 256],
}

/// Values that stay what they are.
pub(crate) const AS_IT_IS: [u8; 256] = {
    let mut table = [0; 256];
    let mut value = 0;
    while value < 256 {
        table[value] = value as u8;
        value += 1;
    }
    table
};

impl MapFile {
    /// A map on the grid of the scan, its labels cut in two by `cuts`; reads all of it to let `check` see the number of voxels of each value.
    pub(crate) fn open(
        path: &Path,
        scan: &Scan,
        cuts: &[Cut],
        table: [u8; 256],
        check: impl FnOnce(&[u64; 256]) -> Result<(), LabelError>,
    ) -> Result<Self> {
        let (counts, header) = nifti::count_labels(path, cuts)?;
        let (found, original) = (header.grid(), scan.header().grid());
        ensure!(
            found.shape == original.shape,
            "{}: shape {:?}, expected the image's {:?}; run `partition` again, which leaves out such cases",
            path.display(),
            found.shape,
            original.shape
        );
        ensure!(
            found.approx_eq(&original),
            "{}: affine {:?}, expected the image's {:?}; run `partition` again, which leaves out such cases",
            path.display(),
            found.affine.0,
            original.affine.0
        );
        check(&counts).with_context(|| format!("{}: correct the label map", path.display()))?;
        Ok(Self { labels: LabelScan::open(path, &original, &scan.grid())?.cut(cuts), table })
    }
}

/// Gives the planes of a region to `sink`, with what all maps add to each voxel. The maps lie on one grid, so that their planes
/// come in the same order.
pub(crate) fn sum_planes(maps: &[MapFile], region: &Box3, mut sink: impl FnMut(usize, &[u8])) -> Result<()> {
    let open = |map: &MapFile| map.labels.planes(region);
    let mut all = maps.iter().map(open).collect::<Result<Vec<LabelPlanes>, _>>()?;
    let (mut sum, mut plane) = (Vec::new(), Vec::new());
    loop {
        let mut at = None;
        for (k, (planes, map)) in all.iter_mut().zip(maps).enumerate() {
            let Some(z) = planes.next_plane(&mut plane)? else { return Ok(()) };
            let values = plane.iter().map(|&value| map.table[usize::from(value)]);
            if k == 0 {
                sum.clear();
                sum.extend(values);
            } else {
                ensure!(at == Some(z), "the label maps of a case come in different orders of planes");
                sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
            }
            at = Some(z);
        }
        let Some(z) = at else { return Ok(()) };
        sink(z, &sum);
    }
}
