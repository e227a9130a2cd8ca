//! A scan on its way onto the model grid and its labels on their way back, plane by plane.
//!
//! CT is stored in axial slices, one after another. Such a file is unpacked slice by slice: two neighbouring slices make
//! the planes of the model grid that lie between them, and a plane of labels makes the slices that are nearest to it, so
//! that memory does not depend on how many slices there are. A scan that is stored otherwise, or sheared (a tilted
//! gantry), is held whole. The values are in any case those of [`ModelGrid::prepare`], and the labels those of
//! [`resample_nearest`], to the bit.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ndarray::{Array3, ShapeBuilder};

use crate::axial::Axial;
use crate::intensity::windowed;
use crate::nifti::{self, Header, LabelWriter, NiftiError, SliceReader};
use crate::resample::{Tap, blend_planes};
use crate::{Box3, Grid, LabelVolume, ModelGrid, ModelGridError, ScalarVolume, body, foreground_box, resample_nearest};

/// More pixels than this in a plane are none of a patient: 4 m by 4 m at 1 mm.
const MOST_PIXELS: usize = 1 << 24;

/// More voxels than this are not held at a time, in 4 bytes each.
const MOST_HELD: usize = 1 << 29;

/// A file that cannot be brought onto the model grid.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// The file cannot be read, or its labels not be written.
    #[error(transparent)]
    Nifti(#[from] NiftiError),
    /// Its content cannot be brought onto the grid.
    #[error("{}: {error}", path.display())]
    Grid {
        /// The file.
        path: PathBuf,
        /// Why.
        error: ModelGridError,
    },
}

/// A scan in a file, seen on a model grid.
pub struct Scan {
    path: PathBuf,
    header: Header,
    model: ModelGrid,
    grid: Grid,
    way: Way,
}

/// How a scan gets onto the model grid.
enum Way {
    /// Read again for every pass.
    Streamed(Arc<Axial>),
    /// On the model grid already.
    Held(Arc<ScalarVolume>),
}

/// A plane of the model grid across the patient's long axis.
pub struct Plane {
    /// Which one.
    pub z: usize,
    /// Values in 0..1 inside the region that was asked for, x fastest.
    pub values: Vec<f32>,
}

impl Scan {
    /// Reads the header of a file, and all of it when it is not stored in axial slices.
    ///
    /// # Errors
    /// When it cannot be read, or has no place on the model grid.
    pub fn open(path: &Path, model: &ModelGrid) -> Result<Self, ScanError> {
        let refused = |error| ScanError::Grid { path: path.to_owned(), error };
        let header = nifti::read_header(path)?;
        let grid = model.of(&header.grid()).map_err(refused)?;
        let (from, spacing_mm, shape) = (header.grid().shape, header.grid().spacing_mm(), grid.shape);
        if shape[0] * shape[1] > MOST_PIXELS {
            return Err(refused(ModelGridError::TooLarge { from, spacing_mm, shape }));
        }
        let way = match Axial::between(&header.grid(), &grid) {
            Some(axial) => Way::Streamed(Arc::new(axial)),
            None if header.grid().voxels().max(grid.voxels()) > MOST_HELD => {
                return Err(refused(ModelGridError::HeldTooLarge { from, shape, most: MOST_HELD }));
            }
            None => Way::Held(Arc::new(model.prepare(nifti::read_scalar(path)?.0).map_err(refused)?)),
        };
        Ok(Self { path: path.to_owned(), header, model: *model, grid, way })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The header of the file.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The model grid of this scan.
    #[must_use]
    pub fn grid(&self) -> Grid {
        self.grid
    }

    /// Whether the scan is held whole.
    #[must_use]
    pub fn is_held(&self) -> bool {
        matches!(self.way, Way::Held(_))
    }

    /// Whether the planes come downwards, because the file is stored so.
    #[must_use]
    pub fn runs_down(&self) -> bool {
        matches!(&self.way, Way::Streamed(axial) if axial.runs_down())
    }

    /// All of the model grid.
    #[must_use]
    pub fn whole(&self) -> Box3 {
        Box3 { start: [0; 3], shape: self.grid.shape }
    }

    /// The planes that lie in `region` of the model grid, from one end to the other.
    ///
    /// # Errors
    /// When the file cannot be opened any more.
    pub fn planes(&self, region: &Box3) -> Result<Planes, ScanError> {
        let region = region.within(self.grid.shape);
        let zs = region.start[2]..region.start[2] + region.shape[2];
        let source = match &self.way {
            Way::Held(volume) => Source::Held(Arc::clone(volume)),
            Way::Streamed(axial) => Source::Streamed(Box::new(Streamed::open(&self.path, axial, &region, self.model.window_hu)?)),
        };
        Ok(Planes { source, region, zs, backwards: self.runs_down() })
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
        match &self.way {
            Way::Streamed(axial) => {
                let (mut reader, mut values) = (SliceReader::open(&self.path)?, Vec::new());
                let mut k = 0;
                while reader.next_slice(&mut values)? {
                    seen.look_at(axial, k, &values, self.model.window_hu[0]);
                    k += 1;
                }
            }
            Way::Held(volume) => seen.look_at_volume(volume),
        }
        seen.body().ok_or_else(|| self.no_body())
    }

    fn no_body(&self) -> ScanError {
        ScanError::Grid { path: self.path.clone(), error: ModelGridError::NoBody(self.model.window_hu[0]) }
    }

    /// A writer of the scan's label map from labels in `region` of the model grid; everything else becomes background.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn labels_to(&self, path: &Path, region: &Box3) -> Result<LabelsBack, ScanError> {
        let region = region.within(self.grid.shape);
        let onto = match &self.way {
            Way::Streamed(axial) => {
                let slice = vec![0; axial.slice_voxels()];
                let writer = LabelWriter::create(path, &self.header)?;
                Onto::Slices { axial: Arc::clone(axial), writer, slice, next: 0 }
            }
            Way::Held(_) => {
                let labels = LabelVolume::filled(&self.grid, 0);
                Onto::Volume { labels, path: path.to_owned(), header: Box::new(self.header.clone()) }
            }
        };
        Ok(LabelsBack { onto, region })
    }
}

/// The planes of a scan; see [`Scan::planes`].
pub struct Planes {
    source: Source,
    region: Box3,
    zs: std::ops::Range<usize>,
    backwards: bool,
}

enum Source {
    Streamed(Box<Streamed>),
    Held(Arc<ScalarVolume>),
}

impl Planes {
    /// The next plane, if there is one: upwards, or downwards when the file is stored so.
    ///
    /// # Errors
    /// When the file is truncated or damaged; before the first plane of a later pass, that has been found out.
    pub fn next_plane(&mut self) -> Result<Option<Plane>, ScanError> {
        let Some(z) = (if self.backwards { self.zs.next_back() } else { self.zs.next() }) else { return Ok(None) };
        let values = match &mut self.source {
            Source::Streamed(streamed) => streamed.plane(z)?,
            Source::Held(volume) => {
                let region =
                    Box3 { start: [self.region.start[0], self.region.start[1], z], shape: [self.region.shape[0], self.region.shape[1], 1] };
                volume.crop(&region).x_fastest().into_owned()
            }
        };
        Ok(Some(Plane { z, values }))
    }
}

/// A file that is read as planes are asked for, and the two slices that were read last, turned to RAS.
struct Streamed {
    reader: SliceReader,
    axial: Arc<Axial>,
    taps: [Vec<Tap>; 2],
    window_hu: [f32; 2],
    read: usize,
    values: Vec<f32>,
    slices: [(usize, Vec<f32>); 2],
}

impl Streamed {
    fn open(path: &Path, axial: &Arc<Axial>, region: &Box3, window_hu: [f32; 2]) -> Result<Self, ScanError> {
        let reader = SliceReader::open(path)?;
        let taps = axial.taps(region);
        let none = (usize::MAX, Vec::new());
        Ok(Self { reader, axial: Arc::clone(axial), taps, window_hu, read: 0, values: Vec::new(), slices: [none.clone(), none] })
    }

    fn plane(&mut self, z: usize) -> Result<Vec<f32>, ScanError> {
        let tap = self.axial.tap(z);
        for level in if self.axial.runs_down() { [tap.high, tap.low] } else { [tap.low, tap.high] } {
            while !self.slices.iter().any(|(held, _)| *held == level) {
                self.read_slice()?;
            }
        }
        let slice = |level: usize| self.slices.iter().find(|(held, _)| *held == level).map_or(&[][..], |(_, values)| values);
        let mut plane = vec![0.0; self.taps[0].len() * self.taps[1].len()];
        blend_planes([slice(tap.low), slice(tap.high)], self.axial.width(), &self.taps, tap.weight, &mut plane);
        plane.iter_mut().for_each(|value| *value = windowed(*value, self.window_hu));
        Ok(plane)
    }

    /// Reads the next slice in place of the one before last.
    fn read_slice(&mut self) -> Result<(), ScanError> {
        self.slices.swap(0, 1);
        let there = self.reader.next_slice(&mut self.values)?;
        debug_assert!(there, "the levels of the slices are those of the header");
        let (level, turned) = &mut self.slices[1];
        *level = self.axial.level(self.read);
        self.axial.turn(&self.values, turned);
        self.read += 1;
        Ok(())
    }
}

/// Labels on their way from the model grid to a file on the grid of its scan; see [`Scan::labels_to`].
pub struct LabelsBack {
    onto: Onto,
    region: Box3,
}

enum Onto {
    Slices { axial: Arc<Axial>, writer: LabelWriter, slice: Vec<u8>, next: usize },
    Volume { labels: LabelVolume, path: PathBuf, header: Box<Header> },
}

impl LabelsBack {
    /// Adds the labels of a plane inside the region, x fastest. Planes come in the order of [`Planes`]; those that do not
    /// come are background.
    ///
    /// # Errors
    /// When the system does not let us write.
    pub fn add(&mut self, z: usize, plane: &[u8]) -> Result<(), ScanError> {
        match &mut self.onto {
            Onto::Slices { axial, writer, slice, next } => {
                while *next < axial.slices() {
                    let nearest = axial.nearest_plane(*next);
                    match if axial.runs_down() { z.cmp(&nearest) } else { nearest.cmp(&z) } {
                        std::cmp::Ordering::Less => slice.fill(0),
                        std::cmp::Ordering::Equal => axial.slice_of(plane, &self.region, slice),
                        std::cmp::Ordering::Greater => break,
                    }
                    writer.add(slice)?;
                    *next += 1;
                }
            }
            Onto::Volume { labels, .. } => {
                let Box3 { start: [x, y, _], shape: [width, height, _] } = self.region;
                for (j, row) in plane.chunks_exact(width.max(1)).enumerate().take(height) {
                    row.iter().enumerate().for_each(|(i, &label)| labels.data[[x + i, y + j, z]] = label);
                }
            }
        }
        Ok(())
    }

    /// Ends the file and gives it its name.
    ///
    /// # Errors
    /// When the system does not let us write.
    pub fn finish(self) -> Result<(), ScanError> {
        match self.onto {
            Onto::Slices { axial, mut writer, mut slice, next } => {
                slice.fill(0);
                (next..axial.slices()).try_for_each(|_| writer.add(&slice))?;
                Ok(writer.finish()?)
            }
            Onto::Volume { labels, path, header } => Ok(nifti::write_labels(path, &resample_nearest(&labels, &header.grid()), &header)?),
        }
    }
}
