//! From a scan to its labels, plane by plane: one thread reads, one computes, one takes what is labelled.

use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use volume::{Box3, Keep, Plane, Planes, RunMap, Scan, ScanError};

use crate::model::StudentError;
use crate::slices::{PlaneLabels, Slices};
use crate::student::Student;

/// More pixels of a slice than this are not segmented: 1.4 m by 1.4 m at 1 mm.
const MOST_PIXELS: usize = 1 << 21;

/// A plane of the model grid with its labels inside the region that was shown to the network.
pub struct LabelledPlane {
    /// Which one.
    pub z: usize,
    /// Labels inside the region, x fastest.
    pub labels: PlaneLabels,
}

impl Student {
    /// The part of a scan that the student is shown, the foreground or all of it, as its training was.
    ///
    /// # Errors
    /// When the scan cannot be read, or shows no body.
    pub fn region(&self, scan: &Scan) -> Result<Box3, StudentError> {
        Ok(if self.config.crop_foreground { scan.foreground()? } else { scan.whole() })
    }

    /// Segments the planes of a scan inside `region` and gives them to `sink`, in the order in which the file holds them.
    /// With `skip_air`, slices and windows without anything above the window's lower end are background.
    ///
    /// Holds two batches of planes; the next ones are read, and those before are taken, while the network computes.
    ///
    /// # Errors
    /// When the scan cannot be read, those of the network, and those of `sink`.
    pub fn label<E: From<StudentError> + Send>(
        &self,
        scan: &Scan,
        region: &Box3,
        skip_air: bool,
        sink: impl FnMut(LabelledPlane) -> Result<(), E> + Send,
    ) -> Result<(), E> {
        let shape = [region.shape[0], region.shape[1]];
        if shape[0] * shape[1] > MOST_PIXELS {
            return Err(StudentError::TooWide { path: scan.path().to_owned(), shape, most: MOST_PIXELS }.into());
        }
        let planes = scan.planes(region).map_err(StudentError::from)?;
        let batch = self.config.window.batch;
        thread::scope(|scope| {
            let (to_network, read) = sync_channel(batch);
            let (to_sink, labelled) = sync_channel(batch);
            let reader = scope.spawn(move || send_planes(planes, &to_network));
            let taker = scope.spawn(move || labelled.into_iter().try_for_each(sink));
            let computed = self.label_batches(&read, &to_sink, shape, skip_air);
            drop((read, to_sink));
            let (read, taken) = (reader.join(), taker.join());
            read.unwrap_or_else(|panic| resume_unwind(panic)).map_err(StudentError::from)?;
            taken.unwrap_or_else(|panic| resume_unwind(panic))?;
            Ok(computed?)
        })
    }

    fn label_batches(
        &self,
        read: &Receiver<Plane>,
        to_sink: &SyncSender<LabelledPlane>,
        shape: [usize; 2],
        skip_air: bool,
    ) -> Result<(), StudentError> {
        loop {
            let (zs, planes): (Vec<usize>, Vec<Vec<f32>>) =
                read.iter().take(self.config.window.batch).map(|plane| (plane.z, plane.values)).unzip();
            if planes.is_empty() {
                return Ok(());
            }
            let slices = Slices { planes: &planes, shape, skip_air, device: &self.device };
            let labels = slices.label(&self.config.window, |slices| self.scores(slices))?;
            for (z, labels) in zs.into_iter().zip(labels) {
                if to_sink.send(LabelledPlane { z, labels }).is_err() {
                    // The sink has failed, and says why when it is joined.
                    return Ok(());
                }
            }
        }
    }

    /// All labels of a scan, as [`Student::label`] gives them, with the small parts of cancer removed that the config
    /// says.
    ///
    /// # Errors
    /// As [`Student::label`].
    pub fn label_maps(&self, scan: &Scan, region: &Box3, skip_air: bool) -> Result<LabelMaps, StudentError> {
        let mut maps = LabelMaps { region: *region, organs: RunMap::new(region.shape), cancer: RunMap::new(region.shape) };
        self.label(scan, region, skip_air, |plane| -> Result<(), StudentError> {
            maps.organs.set_plane(plane.z - region.start[2], &plane.labels.organs);
            maps.cancer.set_plane(plane.z - region.start[2], &plane.labels.cancer);
            Ok(())
        })?;
        if let Some(ml) = self.config.smallest_tumor_ml {
            let voxel_ml = scan.grid().voxel_mm3() / 1000.0;
            maps.cancer.keep_parts(|_| Keep::Voxels((ml / voxel_ml).ceil() as usize));
        }
        Ok(maps)
    }

    /// Whether labels of a plane depend on those of others, by the removal of small parts.
    #[must_use]
    pub fn needs_all_planes(&self) -> bool {
        self.config.smallest_tumor_ml.is_some()
    }
}

fn send_planes(mut planes: Planes, to_network: &SyncSender<Plane>) -> Result<(), ScanError> {
    while let Some(plane) = planes.next_plane()? {
        if to_network.send(plane).is_err() {
            // The network has failed, and says why.
            break;
        }
    }
    Ok(())
}

/// Both label maps of a scan inside a region of its model grid.
pub struct LabelMaps {
    /// The region.
    pub region: Box3,
    /// 0 background, 1 to 13 organs.
    pub organs: RunMap,
    /// 0 background, 1 cancer.
    pub cancer: RunMap,
}

impl LabelMaps {
    /// Both maps of the plane at `z` of the model grid, inside the region, x fastest.
    #[must_use]
    pub fn plane(&self, z: usize) -> LabelledPlane {
        let mut labels = [(); 2].map(|()| vec![0; self.region.shape[0] * self.region.shape[1]]);
        self.organs.plane(z - self.region.start[2], &mut labels[0]);
        self.cancer.plane(z - self.region.start[2], &mut labels[1]);
        let [organs, cancer] = labels;
        LabelledPlane { z, labels: PlaneLabels { organs, cancer } }
    }

    /// Gives every plane to `sink`, upwards, or downwards as [`Scan::runs_down`] says.
    ///
    /// # Errors
    /// Those of `sink`.
    pub fn each_plane<E>(&self, downwards: bool, mut sink: impl FnMut(LabelledPlane) -> Result<(), E>) -> Result<(), E> {
        let zs = self.region.start[2]..self.region.start[2] + self.region.shape[2];
        let mut visit = |z| sink(self.plane(z));
        if downwards { zs.rev().try_for_each(&mut visit) } else { zs.into_iter().try_for_each(&mut visit) }
    }
}
