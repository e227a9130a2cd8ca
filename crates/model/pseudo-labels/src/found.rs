//! Labels as models find them, on their way to a scan.

use ndarray::Array3;
use volume::{Box3, Grid, LabelVolume, NearestSlices};

/// Labels on some grid, which are brought to the nearest voxels of another one slice by slice.
pub struct Found {
    /// Those inside `region` of `grid`, x fastest.
    labels: Vec<u8>,
    region: Box3,
    grid: Grid,
    /// What all else is.
    outside: u8,
}

impl Found {
    /// Labels inside a part of a grid; `outside` elsewhere.
    #[must_use]
    pub fn inside(labels: Array3<u8>, region: Box3, grid: Grid, outside: u8) -> Self {
        let turned = labels.reversed_axes();
        let labels = if turned.is_standard_layout() { turned.into_raw_vec_and_offset().0 } else { turned.iter().copied().collect() };
        Self { labels, region, grid, outside }
    }

    /// Labels of all of a grid.
    #[must_use]
    pub fn of(volume: LabelVolume) -> Self {
        let grid = volume.grid();
        Self::inside(volume.data, Box3 { start: [0; 3], shape: grid.shape }, grid, 0)
    }

    /// Their slices on another grid.
    #[must_use]
    pub fn on(&self, grid: &Grid) -> NearestSlices<'_> {
        NearestSlices::inside(&self.labels, &self.region, self.outside, &self.grid, grid)
    }
}

/// A map of labels, and on the grid of the scan how far each of them can be trusted, from 0 to 255.
pub struct Weighed {
    /// The labels.
    pub labels: Found,
    /// The trust in them.
    pub trust: Found,
    /// Labels of somebody else, and the most trust where they disagree.
    pub opinion: Option<(Found, u8)>,
}

impl Weighed {
    /// What writes the labels and the trust of each slice of a scan.
    pub(crate) fn on(&self, grid: &Grid) -> impl FnMut(usize, &mut [u8], &mut [u8]) {
        let (found, trusted) = (self.labels.on(grid), self.trust.on(grid));
        let opinion = self.opinion.as_ref().map(|(opinion, most)| (opinion.on(grid), *most));
        let mut others = vec![0; grid.shape[0] * grid.shape[1]];
        move |z, labels, trust| {
            found.write(z, labels);
            trusted.write(z, trust);
            if let Some((opinion, most)) = &opinion {
                opinion.write(z, &mut others);
                for ((trust, label), other) in trust.iter_mut().zip(labels).zip(&others) {
                    *trust = if label == other { *trust } else { (*trust).min(*most) };
                }
            }
        }
    }
}
