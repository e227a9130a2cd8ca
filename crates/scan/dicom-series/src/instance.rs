//! One file of a series: what its elements say of its frames.

use std::path::{Path, PathBuf};

use dicom_core::Tag;
use dicom_dictionary_std::{tags, uids};

use crate::elements::{Layout, Place, Value, each_value};
use crate::error::{DicomError, EXPORT, Problem, element};

/// More frames than this are in no CT.
pub(crate) const MOST_FRAMES: usize = 1 << 16;

/// More pixels than this are in no slice of CT.
const MOST_PIXELS: usize = 1 << 23;

/// Slopes and intercepts beyond these make no Hounsfield units, and no number that can be computed with.
const MOST_SCALING: f64 = 1e5;

/// Where a frame lies and what its numbers mean, as far as the file says so.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Frame {
    pub(crate) position: Option<[f64; 3]>,
    /// Where rows run to, and where columns run to.
    pub(crate) directions: Option<[f64; 6]>,
    /// From row to row, and from column to column.
    pub(crate) spacing: Option<[f64; 2]>,
    pub(crate) slope: Option<f64>,
    pub(crate) intercept: Option<f64>,
}

/// How the pixels of a file are stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pixels {
    pub(crate) rows: u16,
    pub(crate) columns: u16,
    pub(crate) samples: u16,
    pub(crate) allocated: u16,
    pub(crate) stored: u16,
    pub(crate) high_bit: u16,
    pub(crate) signed: bool,
}

/// One file.
#[derive(Clone, Debug)]
pub(crate) struct Instance {
    pub(crate) path: PathBuf,
    pub(crate) class: String,
    pub(crate) uid: String,
    pub(crate) series: String,
    pub(crate) frame_of_reference: String,
    pub(crate) modality: String,
    pub(crate) image_type: String,
    pub(crate) number: Option<i64>,
    pub(crate) acquisition: Option<i64>,
    pub(crate) thickness: Option<f64>,
    pub(crate) layout: Layout,
    pub(crate) pixels: Pixels,
    pub(crate) frames: Vec<Frame>,
}

impl Instance {
    /// Reads everything up to the pixels.
    pub(crate) fn read(path: &Path) -> Result<Self, DicomError> {
        Self::read_with(path, |_, _, _| {})
    }

    /// The same, and gives each value to `also`.
    pub(crate) fn read_with(path: &Path, also: impl FnMut(Place<'_>, Tag, &Value)) -> Result<Self, DicomError> {
        Self::elements(path, also).map_err(DicomError::at(path))
    }

    fn elements(path: &Path, mut also: impl FnMut(Place<'_>, Tag, &Value)) -> Result<Self, Problem> {
        let layout = Layout { syntax: String::new(), big_endian: false, pixels: None };
        let mut found = Self {
            path: path.to_owned(),
            class: String::new(),
            uid: String::new(),
            series: String::new(),
            frame_of_reference: String::new(),
            modality: String::new(),
            image_type: String::new(),
            number: None,
            acquisition: None,
            thickness: None,
            layout,
            pixels: Pixels { samples: 1, ..Pixels::default() },
            frames: Vec::new(),
        };
        let (mut own, mut shared, mut count) = (Frame::default(), Frame::default(), 1);
        found.layout = each_value(path, |place, tag, value| {
            also(place, tag, value);
            match place {
                [] => {
                    if tag == tags::NUMBER_OF_FRAMES {
                        count = value.integer().unwrap_or(0);
                    }
                    own.take(tag, value);
                    found.take(tag, value);
                }
                [(tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE, 0), group] if describes(group.0, tag) => shared.take(tag, value),
                [(tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE, frame), group] if *frame < MOST_FRAMES && describes(group.0, tag) => {
                    if found.frames.len() <= *frame {
                        found.frames.resize(frame + 1, Frame::default());
                    }
                    found.frames[*frame].take(tag, value);
                }
                _ => {}
            }
        })?;
        let count = usize::try_from(count).ok().filter(|count| (1..=MOST_FRAMES).contains(count));
        let count = count.ok_or_else(|| element("Number of Frames", "a number that cannot be", "from 1 to 65536", EXPORT))?;
        found.frames.resize(count, Frame::default());
        for frame in &mut found.frames {
            *frame = frame.or(&shared).or(&own);
        }
        Ok(found)
    }

    fn take(&mut self, tag: Tag, value: &Value) {
        let pixels = &mut self.pixels;
        match tag {
            tags::SOP_CLASS_UID => self.class = value.text(),
            tags::SOP_INSTANCE_UID => self.uid = value.text(),
            tags::SERIES_INSTANCE_UID => self.series = value.text(),
            tags::FRAME_OF_REFERENCE_UID => self.frame_of_reference = value.text(),
            tags::MODALITY => self.modality = value.text(),
            tags::IMAGE_TYPE => self.image_type = value.text(),
            tags::SERIES_NUMBER => self.number = value.integer(),
            tags::ACQUISITION_NUMBER => self.acquisition = value.integer(),
            tags::SLICE_THICKNESS => self.thickness = value.numbers().map(|[thickness]| thickness),
            tags::ROWS => pixels.rows = value.short().unwrap_or(0),
            tags::COLUMNS => pixels.columns = value.short().unwrap_or(0),
            tags::SAMPLES_PER_PIXEL => pixels.samples = value.short().unwrap_or(0),
            tags::BITS_ALLOCATED => pixels.allocated = value.short().unwrap_or(0),
            tags::BITS_STORED => pixels.stored = value.short().unwrap_or(0),
            tags::HIGH_BIT => pixels.high_bit = value.short().unwrap_or(0),
            tags::PIXEL_REPRESENTATION => pixels.signed = value.short() == Some(1),
            _ => {}
        }
    }

    /// Whether the file is meant to be an image.
    pub(crate) fn is_image(&self) -> bool {
        self.layout.pixels.is_some() && !NO_IMAGES.contains(&self.class.as_str())
    }

    /// Whether the file holds labels of other images.
    pub(crate) fn is_annotation(&self) -> bool {
        [uids::SEGMENTATION_STORAGE, uids::RT_STRUCTURE_SET_STORAGE].contains(&self.class.as_str())
    }

    /// What keeps the file from being a part of a CT.
    pub(crate) fn trouble(&self) -> Option<Problem> {
        const CT: &str = "CT";
        let Pixels { rows, columns, samples, allocated, stored, high_bit, .. } = self.pixels;
        if self.modality != CT {
            return Some(element("Modality", &*self.modality, CT, "leave the series out"));
        }
        if samples != 1 {
            return Some(element(
                "Samples per Pixel",
                samples.to_string(),
                "1, as in CT",
                "leave the series out: it is a picture in colour",
            ));
        }
        if rows == 0 || columns == 0 || usize::from(rows) * usize::from(columns) > MOST_PIXELS {
            return Some(element("Rows and Columns", format!("{rows} x {columns}"), "the sides of a slice of CT", EXPORT));
        }
        let fits = matches!(allocated, 8 | 16 | 32) && (1..=allocated).contains(&stored) && high_bit < allocated && high_bit + 1 >= stored;
        if !fits {
            let found = format!("{allocated} allocated, {stored} stored, the highest {high_bit}");
            return Some(element("bits", found, "8, 16 or 32 allocated, and stored ones within them", EXPORT));
        }
        let scaled =
            |frame: &Frame| frame.slope.is_none_or(possible_slope) && frame.intercept.is_none_or(|value| value.abs() <= MOST_SCALING);
        if let Some(frame) = self.frames.iter().find(|frame| !scaled(frame)) {
            let found = format!("{:?} and {:?}", frame.slope.unwrap_or(1.0), frame.intercept.unwrap_or(0.0));
            return Some(element("Rescale Slope and Intercept", found, "numbers that make Hounsfield units", EXPORT));
        }
        None
    }
}

fn possible_slope(slope: f64) -> bool {
    (1.0 / MOST_SCALING..=MOST_SCALING).contains(&slope.abs())
}

/// Classes with pixels or without that are never scans.
const NO_IMAGES: [&str; 3] = [uids::SEGMENTATION_STORAGE, uids::RT_DOSE_STORAGE, uids::GRAYSCALE_SOFTCOPY_PRESENTATION_STATE_STORAGE];

/// Whether a functional group is the one that an element describes a frame in. Others may hold the same of other images.
fn describes(group: Tag, tag: Tag) -> bool {
    match tag {
        tags::IMAGE_POSITION_PATIENT => group == tags::PLANE_POSITION_SEQUENCE,
        tags::IMAGE_ORIENTATION_PATIENT => group == tags::PLANE_ORIENTATION_SEQUENCE,
        tags::PIXEL_SPACING => group == tags::PIXEL_MEASURES_SEQUENCE,
        tags::RESCALE_SLOPE | tags::RESCALE_INTERCEPT => group == tags::PIXEL_VALUE_TRANSFORMATION_SEQUENCE,
        _ => false,
    }
}

impl Frame {
    fn take(&mut self, tag: Tag, value: &Value) {
        match tag {
            tags::IMAGE_POSITION_PATIENT => self.position = value.numbers(),
            tags::IMAGE_ORIENTATION_PATIENT => self.directions = value.numbers(),
            tags::PIXEL_SPACING => self.spacing = value.numbers(),
            // A slope that is no number is one that cannot be.
            tags::RESCALE_SLOPE => self.slope = Some(value.numbers().map_or(f64::NAN, |[slope]| slope)),
            tags::RESCALE_INTERCEPT => self.intercept = Some(value.numbers().map_or(f64::NAN, |[intercept]| intercept)),
            _ => {}
        }
    }

    /// What the frame says, and otherwise what holds for all.
    fn or(&self, all: &Self) -> Self {
        Self {
            position: self.position.or(all.position),
            directions: self.directions.or(all.directions),
            spacing: self.spacing.or(all.spacing),
            slope: self.slope.or(all.slope),
            intercept: self.intercept.or(all.intercept),
        }
    }
}

/// The short values outside sequences that `wanted` names, as they are stored.
pub(crate) fn copied(path: &Path, wanted: &[Tag]) -> Result<Vec<(Tag, Value)>, DicomError> {
    let mut found = Vec::new();
    let mut take = |place: Place<'_>, tag: Tag, value: &Value| {
        if place.is_empty() && wanted.contains(&tag) {
            found.push((tag, Value { vr: value.vr, bytes: value.bytes.clone(), big_endian: value.big_endian }));
        }
    };
    each_value(path, &mut take).map_err(DicomError::at(path))?;
    Ok(found)
}
