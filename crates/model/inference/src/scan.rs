//! From a scan to its labels, plane by plane: one thread reads, one computes, one takes what is labelled.

use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use model_card::Output;
use volume::{Box3, Plane, Planes, Scan, ScanError};

use crate::error::ModelError;
use crate::maps::{LabelMaps, LabelledPlane};
use crate::slices::Slices;
use crate::student::Student;

/// More pixels of a slice than this are not segmented: 1.4 m by 1.4 m at 1 mm.
const MOST_PIXELS: usize = 1 << 21;

impl Student {
    /// The part of a scan that the student is shown, the foreground or all of it, as its training was.
    ///
    /// # Errors
    /// When the scan cannot be read, or shows no body.
    pub fn region(&self, scan: &Scan) -> Result<Box3, ModelError> {
        Ok(if self.config.crop_foreground { scan.foreground()? } else { scan.whole() })
    }

    /// Segments the planes of a scan inside `region` and gives them to `sink`, in the order in which the file holds them.
    /// With `skip_air`, slices and windows without anything above the window's lower end are background.
    ///
    /// Holds two batches of planes; the next ones are read, and those before are taken, while the network computes.
    ///
    /// # Errors
    /// When the scan cannot be read, those of the network, and those of `sink`.
    pub fn label<E: From<ModelError> + Send>(
        &self,
        scan: &Scan,
        region: &Box3,
        skip_air: bool,
        sink: impl FnMut(LabelledPlane) -> Result<(), E> + Send,
    ) -> Result<(), E> {
        let shape = [region.shape[0], region.shape[1]];
        if shape[0] * shape[1] > MOST_PIXELS {
            return Err(ModelError::TooWide { path: scan.path().to_owned(), shape, most: MOST_PIXELS }.into());
        }
        let planes = scan.planes(region).map_err(ModelError::from)?;
        let batch = self.config.window.batch;
        thread::scope(|scope| {
            let (to_network, read) = sync_channel(batch);
            let (to_sink, labelled) = sync_channel(batch);
            let reader = scope.spawn(move || send_planes(planes, &to_network));
            let taker = scope.spawn(move || labelled.into_iter().try_for_each(sink));
            let computed = self.label_batches(&read, &to_sink, shape, skip_air);
            drop((read, to_sink));
            let (read, taken) = (reader.join(), taker.join());
            read.unwrap_or_else(|panic| resume_unwind(panic)).map_err(ModelError::from)?;
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
    ) -> Result<(), ModelError> {
        let outputs: Vec<Vec<u8>> = self.outputs().iter().map(Output::value_of_channel).collect();
        loop {
            let (zs, planes): (Vec<usize>, Vec<Vec<f32>>) =
                read.iter().take(self.config.window.batch).map(|plane| (plane.z, plane.values)).unzip();
            if planes.is_empty() {
                return Ok(());
            }
            let slices = Slices { planes: &planes, shape, outputs: &outputs, skip_air, device: &self.device };
            let labels = slices.label(&self.config.window, |slices| self.scores(slices))?;
            for (z, labels) in zs.into_iter().zip(labels) {
                if to_sink.send(LabelledPlane { z, labels }).is_err() {
                    // The sink has failed, and says why when it is joined.
                    return Ok(());
                }
            }
        }
    }

    /// All labels of a scan, as [`Student::label`] gives them, with the parts removed that are not to be kept.
    ///
    /// # Errors
    /// As [`Student::label`].
    pub fn label_maps(&self, scan: &Scan, region: &Box3, skip_air: bool) -> Result<LabelMaps, ModelError> {
        let mut maps = LabelMaps::new(*region, self.outputs().len());
        self.label(scan, region, skip_air, |plane| -> Result<(), ModelError> {
            maps.set_plane(&plane);
            Ok(())
        })?;
        Ok(maps.keeping(&self.config.kept, scan))
    }

    /// Whether labels of a plane depend on those of others, by the parts that are kept.
    #[must_use]
    pub fn needs_all_planes(&self) -> bool {
        !self.config.kept.is_all()
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
