//! A scan on its way onto the model grid and its labels on their way back, plane by plane.
//!
//! CT is stored in axial slices, one after another. Such a file is unpacked slice by slice: two neighbouring slices make
//! the planes of the model grid that lie between them, and a plane of labels makes the slices that are nearest to it, so
//! that memory does not depend on how many slices there are. A sheared scan (a tilted gantry) is no other: its slices lie
//! along the planes of its model grid, and are shifted within them. A file in sagittal or coronal slices is unpacked several
//! times, as many axial slices as are held being gathered each time. The values are in any case those of
//! [`ModelGrid::prepare`], and the labels those of [`resample_nearest`](crate::resample_nearest), to the bit.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use ndarray::{Array3, ShapeBuilder};

use crate::back::Onto;
use crate::intensity::windowed;
use crate::levels::{self, Levels};
use crate::nifti::{Header, LabelWriter, NiftiError};
use crate::placement::Placement;
use crate::resample::LinearPlanes;
use crate::resampling::Resampling;
use crate::source::{LabelSink, ScanFile, Source, SourceError, SourceSlices};
use crate::{Box3, Doubt, Grid, Intensities, ModelGrid, ModelGridError, ScalarVolume, body, foreground_box};

/// More pixels than this in a plane are none of a patient: 4 m by 4 m at 1 mm.
const MOST_PIXELS: usize = 1 << 24;

/// A file that cannot be brought onto the model grid.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// The file cannot be read, or its labels not be written.
    #[error(transparent)]
    Nifti(#[from] NiftiError),
    /// The same of another format.
    #[error(transparent)]
    Other(SourceError),
    /// Its content cannot be brought onto the grid.
    #[error("{}: {error}", path.display())]
    Grid {
        /// The file.
        path: PathBuf,
        /// Why.
        error: ModelGridError,
    },
}

impl From<SourceError> for ScanError {
    fn from(error: SourceError) -> Self {
        error.downcast::<NiftiError>().map_or_else(Self::Other, |error| Self::Nifti(*error))
    }
}

/// A scan, seen on a model grid.
pub struct Scan {
    source: Arc<dyn Source>,
    header: Header,
    model: ModelGrid,
    resampling: Resampling,
    grid: Grid,
    placement: Arc<Placement>,
    /// The values of the file, once all of them have been read.
    seen: Arc<OnceLock<Intensities>>,
}

/// A plane of the model grid across the patient's long axis.
pub struct Plane {
    /// Which one.
    pub z: usize,
    /// Values in 0..1 inside the region that was asked for, x fastest.
    pub values: Vec<f32>,
}

impl Scan {
    /// The scan in a NIfTI, NRRD or MetaImage file.
    ///
    /// # Errors
    /// When its header cannot be read, and as [`Scan::of`].
    pub fn open(path: &Path, model: &ModelGrid) -> Result<Self, ScanError> {
        Self::of(Arc::new(ScanFile::open(path)?), model)
    }

    /// The scan behind a source of slices.
    ///
    /// # Errors
    /// When it has no place on the model grid.
    pub fn of(source: Arc<dyn Source>, model: &ModelGrid) -> Result<Self, ScanError> {
        Self::resampled(source, model, Resampling::Linear)
    }

    /// The same, brought onto the model grid in this way.
    ///
    /// # Errors
    /// As [`Scan::of`].
    pub fn resampled(source: Arc<dyn Source>, model: &ModelGrid, resampling: Resampling) -> Result<Self, ScanError> {
        let refused = |error| ScanError::Grid { path: source.path().to_owned(), error };
        let (header, original) = (source.header()?, source.grid());
        let grid = model.resampled(&original, resampling).map_err(refused)?;
        let (from, spacing_mm, shape) = (original.shape, original.spacing_mm(), grid.shape);
        if shape[0] * shape[1] > MOST_PIXELS {
            return Err(refused(ModelGridError::TooLarge { from, spacing_mm, shape }));
        }
        let placement = Placement::between(&original, &grid).ok_or_else(|| refused(ModelGridError::Slanted { from, spacing_mm }))?;
        if 2 * placement.level_voxels() > levels::MOST_HELD {
            return Err(refused(ModelGridError::TooLarge { from, spacing_mm, shape }));
        }
        Ok(Self { source, header, model: *model, resampling, grid, placement: Arc::new(placement), seen: Arc::default() })
    }

    /// The file or folder that it is in.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.source.path()
    }

    /// Where its slices come from.
    #[must_use]
    pub fn source(&self) -> &dyn Source {
        &*self.source
    }

    /// The header of its label maps: that of the file, if it is NIfTI.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The model grid of this scan.
    #[must_use]
    pub fn grid(&self) -> Grid {
        self.grid
    }

    /// Whether the planes come downwards, because the file is stored so.
    #[must_use]
    pub fn runs_down(&self) -> bool {
        self.placement.runs_down()
    }

    /// All of the model grid.
    #[must_use]
    pub fn whole(&self) -> Box3 {
        self.grid.whole()
    }

    /// Why the values of the file can hardly be Hounsfield units, if something speaks against it. Known after a pass over all
    /// of the file: by [`Scan::body`], [`Scan::foreground`], or all planes.
    #[must_use]
    pub fn doubt(&self) -> Option<Doubt> {
        self.seen.get()?.doubt()
    }

    /// The wanted levels of the file, whose values are looked at as long as not all of them have been.
    fn levels(&self, wanted: impl Iterator<Item = usize>) -> Result<Levels<Box<dyn SourceSlices>>, ScanError> {
        let levels = Levels::open(Arc::clone(&self.source), &self.placement, wanted)?;
        if self.seen.get().is_some() {
            return Ok(levels);
        }
        let (seen, mut so_far) = (Arc::clone(&self.seen), Intensities::default());
        Ok(levels.shown_to(move |slice| match slice {
            Some(values) => so_far.add(values),
            // Another pass that ends first has seen the same.
            None => _ = seen.set(std::mem::take(&mut so_far)),
        }))
    }

    /// The planes that lie in `region` of the model grid, from one end to the other.
    ///
    /// # Errors
    /// When the file cannot be opened any more.
    pub fn planes(&self, region: &Box3) -> Result<Planes, ScanError> {
        let region = region.within(self.grid.shape);
        let zs = region.start[2]..region.start[2] + region.shape[2];
        let linear = self.placement.linear(&region, self.resampling.stepped(&self.source.grid(), &self.grid));
        let wanted = zs.clone().map(|z| linear.tap(z)).flat_map(|tap| [tap.low, tap.high]);
        Ok(Planes {
            levels: self.levels(wanted)?,
            placement: Arc::clone(&self.placement),
            linear,
            clipped: self.resampling == Resampling::Clipped,
            window_hu: self.model.window_hu,
            last: [(usize::MAX, Vec::new()), (usize::MAX, Vec::new())],
            all: zs.len() == self.grid.shape[2],
            region,
            zs,
        })
    }

    /// The foreground: the smallest box around what is above the window's lower end, as [`ModelGrid::shown`] finds it.
    /// Reads the whole scan, and so finds out what is wrong with it.
    ///
    /// # Errors
    /// When the scan cannot be read, or shows nothing but air.
    pub fn foreground(&self) -> Result<Box3, ScanError> {
        let mut planes = self.planes(&self.whole())?;
        let mut found: Option<Box3> = None;
        while let Some(plane) = planes.next_plane()? {
            let Ok(data) = Array3::from_shape_vec([self.grid.shape[0], self.grid.shape[1], 1].f(), plane.values) else { continue };
            if let Some(mut here) = foreground_box(&ScalarVolume { data, affine: self.grid.affine }, 0.0) {
                here.start[2] = plane.z;
                found = Some(found.map_or(here, |found| found.and(&here)));
            }
        }
        found.ok_or_else(|| self.no_body())
    }

    /// A box around the patient, found at low resolution: without the table, blankets and the air around. Reads the
    /// whole scan, and so finds out what is wrong with it.
    ///
    /// # Errors
    /// As [`Scan::foreground`].
    pub fn body(&self) -> Result<Box3, ScanError> {
        let mut seen = body::Sampled::new(&self.grid);
        let mut levels = self.levels(seen.levels(&self.placement))?;
        let mut values = Vec::new();
        while let Some(level) = levels.next(&mut values)? {
            seen.look_at(&self.placement, level, &values, self.model.window_hu[0]);
        }
        seen.body().ok_or_else(|| self.no_body())
    }

    fn no_body(&self) -> ScanError {
        ScanError::Grid { path: self.path().to_owned(), error: ModelGridError::NoBody(self.model.window_hu[0]) }
    }

    /// A writer of the scan's label map in a NIfTI file, from labels in `region` of the model grid; everything else becomes
    /// background.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn labels_to(&self, path: &Path, region: &Box3) -> Result<LabelsBack, ScanError> {
        Ok(self.labels_into(Box::new(LabelWriter::create(path, &self.header)?), region))
    }

    /// The same into a file of any format, whose slices are those of the scan.
    #[must_use]
    pub fn labels_into(&self, file: Box<dyn LabelSink>, region: &Box3) -> LabelsBack {
        LabelsBack(Onto::placed(file, &self.placement, region.within(self.grid.shape)))
    }
}

/// The planes of a scan; see [`Scan::planes`]. The file is read as planes are asked for.
pub struct Planes {
    levels: Levels<Box<dyn SourceSlices>>,
    placement: Arc<Placement>,
    linear: LinearPlanes,
    /// Whether levels are clipped to the window before planes are made of them.
    clipped: bool,
    window_hu: [f32; 2],
    /// The two levels that were read last.
    last: [(usize, Vec<f32>); 2],
    region: Box3,
    zs: std::ops::Range<usize>,
    /// Whether these are all planes of the scan.
    all: bool,
}

impl Planes {
    /// The next plane, if there is one: upwards, or downwards when the file is stored so.
    ///
    /// # Errors
    /// When the file is truncated or damaged, at the end at the latest if all planes of the scan were asked for.
    pub fn next_plane(&mut self) -> Result<Option<Plane>, ScanError> {
        let down = self.placement.runs_down();
        let Some(z) = (if down { self.zs.next_back() } else { self.zs.next() }) else {
            if self.all {
                // The rest of the file.
                let last = self.levels.next(&mut Vec::new())?;
                debug_assert!(last.is_none(), "every wanted level belongs to a plane");
            }
            return Ok(None);
        };
        let tap = self.linear.tap(z);
        for level in if down { [tap.high, tap.low] } else { [tap.low, tap.high] } {
            while !self.last.iter().any(|(held, _)| *held == level) {
                self.last.swap(0, 1);
                let (held, values) = &mut self.last[1];
                let Some(next) = self.levels.next(values)? else { unreachable!("the levels of all planes are wanted") };
                *held = next;
                if self.clipped {
                    let [low, high] = self.window_hu;
                    values.iter_mut().for_each(|value| *value = value.clamp(low, high));
                }
            }
        }
        let level = |level: usize| self.last.iter().find(|(held, _)| *held == level).map_or(&[][..], |(_, values)| values);
        let mut values = vec![0.0; self.region.shape[0] * self.region.shape[1]];
        self.linear.write(z, level, &mut values);
        values.iter_mut().for_each(|value| *value = windowed(*value, self.window_hu));
        Ok(Some(Plane { z, values }))
    }
}

/// Labels on their way from the model grid to a file on the grid of its scan; see [`Scan::labels_to`].
pub struct LabelsBack(Onto);

impl LabelsBack {
    /// Adds the labels of a plane inside the region, x fastest. Planes come in the order of [`Planes`]; those that do not
    /// come are background.
    ///
    /// # Errors
    /// When the system does not let us write.
    pub fn add(&mut self, z: usize, plane: &[u8]) -> Result<(), ScanError> {
        Ok(self.0.add(z, plane)?)
    }

    /// Ends the file and gives it its name.
    ///
    /// # Errors
    /// When the system does not let us write.
    pub fn finish(self) -> Result<(), ScanError> {
        Ok(self.0.finish()?)
    }
}
