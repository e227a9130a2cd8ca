//! Reads DICOM segmentations: a frame of bits for each segment and place.

use std::fs::File;
use std::io::{BufReader, Read as _, Seek as _, SeekFrom};

use dicom_core::Tag;
use dicom_dictionary_std::tags;

use crate::annotation::{Annotation, misplaced};
use crate::elements::{Place, Value};
use crate::error::{EXPORT, Problem, element};
use crate::instance::MOST_FRAMES;
use crate::pixels::Packing;
use crate::planes::Planes;
use crate::series::Series;

/// The numbers of the segments that frames show.
#[derive(Clone, Debug, Default)]
pub(crate) struct Numbers {
    shared: Option<u16>,
    frames: Vec<Option<u16>>,
}

impl Numbers {
    pub(crate) fn take(&mut self, place: Place<'_>, tag: Tag, value: &Value) {
        if tag != tags::REFERENCED_SEGMENT_NUMBER {
            return;
        }
        match place {
            [(tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE, 0), (tags::SEGMENT_IDENTIFICATION_SEQUENCE, 0)] => self.shared = value.short(),
            [(tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE, frame), (tags::SEGMENT_IDENTIFICATION_SEQUENCE, 0)] if *frame < MOST_FRAMES => {
                if self.frames.len() <= *frame {
                    self.frames.resize(frame + 1, None);
                }
                self.frames[*frame] = value.short();
            }
            _ => {}
        }
    }

    fn of(&self, frame: usize) -> Option<u16> {
        self.frames.get(frame).copied().flatten().or(self.shared)
    }
}

/// A frame that lies on a slice.
struct Laid {
    part: usize,
    frame: u64,
}

/// The frames of a segmentation, by the slices that they lie on.
pub(crate) struct Segmented {
    file: BufReader<File>,
    pixels_at: u64,
    /// Pixels of a frame.
    pixels: u64,
    slices: Vec<Vec<Laid>>,
    bytes: Vec<u8>,
}

impl Segmented {
    /// Finds the slice of each frame whose segment has a value.
    pub(crate) fn on(annotation: &Annotation, series: &Series, values: &[Option<u8>]) -> Result<Self, Problem> {
        check(annotation, series)?;
        let instance = &annotation.instance;
        let file = File::open(&instance.path).map_err(|error| Problem::Io { doing: "open the file", error })?;
        let size = file.metadata().map_err(|error| Problem::Io { doing: "open the file", error })?.len();
        let Some((pixels_at, Some(length))) = instance.layout.pixels else {
            return Err(element("Pixel Data", "another form", "bits that are not packed", EXPORT));
        };
        let pixels = u64::from(instance.pixels.rows) * u64::from(instance.pixels.columns);
        let (declared, left) = ((instance.frames.len() as u64 * pixels).div_ceil(8), length.min(size.saturating_sub(pixels_at)));
        if declared > left {
            return Err(Problem::Truncated { tag: "of the pixels".into(), declared, left });
        }
        let planes = Planes::of(series);
        let mut slices: Vec<Vec<Laid>> = series.slices.iter().map(|_| Vec::new()).collect();
        for (k, frame) in instance.frames.iter().enumerate() {
            let number = annotation.numbers.of(k);
            let part = number.and_then(|number| annotation.part(number.into())).ok_or_else(|| {
                let found = format!("frame {}: {}", k + 1, number.map_or("nothing".into(), |number| number.to_string()));
                element("Referenced Segment Number", found, "one of the segments of the file", "export the segmentation again")
            })?;
            if values[part].is_none() {
                continue;
            }
            match planes.slice_of(frame) {
                Ok(slice) => slices[slice].push(Laid { part, frame: k as u64 }),
                // It is of others.
                Err(_) if annotation.is_of_others_too(series) => {}
                Err(found) => return Err(misplaced("frames", format!("frame {} {found}", k + 1))),
            }
        }
        Ok(Self { file: BufReader::with_capacity(1 << 16, file), pixels_at, pixels, slices, bytes: Vec::new() })
    }

    /// Gives each pixel the highest of its own label and those of the segments that are there.
    pub(crate) fn paint(&mut self, slice: usize, value: impl Fn(usize) -> Option<u8>, labels: &mut [u8]) -> Result<(), Problem> {
        let io = |error| Problem::Io { doing: "read the pixels", error };
        for laid in self.slices.get(slice).map_or(&[][..], Vec::as_slice) {
            let Some(value) = value(laid.part) else { continue };
            // Frames follow each other without a gap, and so may begin within a byte.
            let (begin, end) = (laid.frame * self.pixels, (laid.frame + 1) * self.pixels);
            self.bytes.resize((end.div_ceil(8) - begin / 8) as usize, 0);
            self.file.seek(SeekFrom::Start(self.pixels_at + begin / 8)).map_err(io)?;
            self.file.read_exact(&mut self.bytes).map_err(io)?;
            let first = (begin % 8) as usize;
            for (bit, label) in (first..).zip(labels.iter_mut()) {
                if self.bytes[bit / 8] >> (bit % 8) & 1 == 1 {
                    *label = (*label).max(value);
                }
            }
        }
        Ok(())
    }
}

/// Refuses what is no segmentation in bits of the size of the images.
fn check(annotation: &Annotation, series: &Series) -> Result<(), Problem> {
    const BINARY: &str = "BINARY";
    let (pixels, layout) = (&annotation.instance.pixels, &annotation.instance.layout);
    if annotation.kind != BINARY {
        return Err(element("Segmentation Type", &*annotation.kind, BINARY, "export the segmentation as a binary one"));
    }
    if [pixels.samples, pixels.allocated, pixels.stored, pixels.high_bit] != [1, 1, 1, 0] {
        let found = format!("{} allocated, {} stored, the highest {}", pixels.allocated, pixels.stored, pixels.high_bit);
        return Err(element("bits", found, "1 allocated and stored", "export the segmentation again"));
    }
    if Packing::of(&layout.syntax)? != Packing::Raw || layout.big_endian {
        return Err(Problem::Syntax { uid: layout.syntax.clone(), name: "frames of bits in another way than one after another" });
    }
    let [columns, rows, _] = series.grid.shape;
    if [usize::from(pixels.columns), usize::from(pixels.rows)] != [columns, rows] {
        return Err(misplaced("Columns and Rows", format!("{} x {}, and the images have {columns} x {rows}", pixels.columns, pixels.rows)));
    }
    Ok(())
}
