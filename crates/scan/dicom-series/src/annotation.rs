//! Labels of series in files of their own: DICOM segmentations (PS3.3, A.51) and structure sets of radiotherapy (PS3.3, A.19).

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use dicom_core::Tag;
use dicom_dictionary_std::{tags, uids};
use dicom_encoding::text::{SpecificCharacterSet, TextCodec as _};

use crate::contours::Contours;
use crate::elements::{Place, Value};
use crate::error::{DicomError, Problem, element};
use crate::instance::{Instance, MOST_FRAMES};
use crate::segmented::{Numbers, Segmented};
use crate::series::Series;

/// What a file says of the labels in it, and of which images they are. The labels themselves are read when they are
/// [laid on](Annotation::on) a series.
#[derive(Clone, Debug)]
pub struct Annotation {
    pub(crate) instance: Instance,
    pub(crate) parts: Vec<Part>,
    /// Which segment each frame shows; of a segmentation.
    pub(crate) numbers: Numbers,
    /// `BINARY` or another kind; of a segmentation.
    pub(crate) kind: String,
    series: HashSet<String>,
    instances: HashSet<String>,
    frames_of_reference: HashSet<String>,
}

/// A segment, or a region of interest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) number: Option<i64>,
    pub(crate) name: String,
}

impl Annotation {
    /// Reads what a file says of its labels.
    ///
    /// # Errors
    /// When it cannot be read, or is neither a segmentation nor a structure set.
    pub fn read(path: &Path) -> Result<Self, DicomError> {
        let mut heading = Heading::default();
        let instance = Instance::read_with(path, |place, tag, value| heading.take(place, tag, value))?;
        if !instance.is_annotation() {
            let expected = "a segmentation or an RT structure set";
            return Err(DicomError::at(path)(element("SOP Class UID", &*instance.class, expected, "leave the file out")));
        }
        let Heading { parts, numbers, kind, series, instances, mut frames_of_reference, .. } = heading;
        frames_of_reference.insert(instance.frame_of_reference.clone());
        frames_of_reference.remove("");
        Ok(Self { instance, parts, numbers, kind, series, instances, frames_of_reference })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.instance.path
    }

    /// The UID by which copies of the file are known; empty if it has none.
    #[must_use]
    pub fn uid(&self) -> &str {
        &self.instance.uid
    }

    /// The names of its segments or regions of interest, in the order of the file. One without a name goes by its number.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().map(|part| part.name.as_str())
    }

    /// Whether its labels are of this series: it refers to it; where it names no series, to images of it; where it names none of these
    /// either, to its frame of reference.
    #[must_use]
    pub fn is_of(&self, series: &Series) -> bool {
        let has_image = || series.instances.iter().any(|image| self.instances.contains(&image.uid));
        if !self.series.is_empty() {
            // Several stacks of a series are told apart by their images.
            return self.series.contains(&series.uid) && (series.part == 0 || self.instances.is_empty() || has_image());
        }
        if !self.instances.is_empty() {
            return has_image();
        }
        series.instances.first().is_some_and(|image| self.frames_of_reference.contains(&image.frame_of_reference))
    }

    /// Its labels on the images of a series. `values` are those that its [names](Self::names) get; one without a value is not read.
    ///
    /// # Errors
    /// When the labels do not lie on the pixels or the planes of the images, or the file is damaged.
    pub fn on(&self, series: &Series, values: &[Option<u8>]) -> Result<Painter, DicomError> {
        let values: Vec<Option<u8>> = (0..self.parts.len()).map(|part| values.get(part).copied().flatten()).collect();
        let of = if self.instance.class == uids::SEGMENTATION_STORAGE {
            Segmented::on(self, series, &values).map(Labels::Segmented)
        } else {
            Contours::on(self, series, &values).map(Labels::Contours)
        };
        Ok(Painter { path: self.path().to_owned(), values, of: of.map_err(DicomError::at(self.path()))? })
    }

    /// Whether some of its labels may be of other images: those of another series, or of another stack of this one.
    pub(crate) fn is_of_others_too(&self, series: &Series) -> bool {
        series.part > 0 || self.series.len() > 1
    }

    /// The place of the segment or region of a number.
    pub(crate) fn part(&self, number: i64) -> Option<usize> {
        self.parts.iter().position(|part| part.number == Some(number))
    }
}

/// Paints the labels of a file on the slices of a series.
pub struct Painter {
    path: PathBuf,
    values: Vec<Option<u8>>,
    of: Labels,
}

enum Labels {
    Segmented(Segmented),
    Contours(Contours),
}

impl Painter {
    /// Paints a slice, x fastest. Where labels overlap, the higher value wins.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn paint(&mut self, slice: usize, labels: &mut [u8]) -> Result<(), DicomError> {
        let value = |part: usize| self.values.get(part).copied().flatten();
        match &mut self.of {
            Labels::Segmented(segmented) => segmented.paint(slice, value, labels).map_err(DicomError::at(&self.path)),
            Labels::Contours(contours) => {
                contours.paint(slice, value, labels);
                Ok(())
            }
        }
    }
}

/// What is gathered from the elements of a file of either kind.
#[derive(Default)]
struct Heading {
    characters: SpecificCharacterSet,
    parts: Vec<Part>,
    numbers: Numbers,
    kind: String,
    series: HashSet<String>,
    instances: HashSet<String>,
    frames_of_reference: HashSet<String>,
}

impl Heading {
    fn take(&mut self, place: Place<'_>, tag: Tag, value: &Value) {
        match (place, tag) {
            ([], tags::SPECIFIC_CHARACTER_SET) => {
                // Of several, the last one is that of the names.
                let text = value.text();
                let code = text.rsplit('\\').next().unwrap_or_default().trim();
                self.characters = SpecificCharacterSet::from_code(code).unwrap_or_default();
            }
            ([], tags::SEGMENTATION_TYPE) => self.kind = value.text(),
            ([(tags::SEGMENT_SEQUENCE, item)], tags::SEGMENT_NUMBER) => self.number(*item, value.short().map(i64::from)),
            ([(tags::STRUCTURE_SET_ROI_SEQUENCE, item)], tags::ROI_NUMBER) => self.number(*item, value.integer()),
            ([(tags::SEGMENT_SEQUENCE, item)], tags::SEGMENT_LABEL) | ([(tags::STRUCTURE_SET_ROI_SEQUENCE, item)], tags::ROI_NAME) => {
                let name = self.characters.decode(&value.bytes).unwrap_or_else(|_| value.text());
                let name = name.trim_matches(|c: char| c.is_whitespace() || c == '\0').to_owned();
                if let Some(part) = self.part(*item).filter(|_| !name.is_empty()) {
                    part.name = name;
                }
            }
            ([(tags::REFERENCED_FRAME_OF_REFERENCE_SEQUENCE, _)], tags::FRAME_OF_REFERENCE_UID) => {
                add(&mut self.frames_of_reference, value);
            }
            ([(tags::REFERENCED_SERIES_SEQUENCE, _)] | [.., (tags::RT_REFERENCED_SERIES_SEQUENCE, _)], tags::SERIES_INSTANCE_UID) => {
                add(&mut self.series, value);
            }
            (
                [(tags::REFERENCED_SERIES_SEQUENCE, _), (tags::REFERENCED_INSTANCE_SEQUENCE, _)]
                | [.., (tags::CONTOUR_IMAGE_SEQUENCE | tags::SOURCE_IMAGE_SEQUENCE, _)],
                tags::REFERENCED_SOP_INSTANCE_UID,
            ) => add(&mut self.instances, value),
            _ => self.numbers.take(place, tag, value),
        }
    }

    fn part(&mut self, item: usize) -> Option<&mut Part> {
        if item >= MOST_FRAMES {
            return None;
        }
        (self.parts.len()..=item).for_each(|_| self.parts.push(Part::default()));
        self.parts.get_mut(item)
    }

    fn number(&mut self, item: usize, number: Option<i64>) {
        if let Some(part) = self.part(item) {
            part.number = number;
            if let (true, Some(number)) = (part.name.is_empty(), number) {
                part.name = format!("number {number}");
            }
        }
    }
}

/// Adds a UID, of which no file has more than there can be frames.
fn add(uids: &mut HashSet<String>, value: &Value) {
    let uid = value.text();
    if uids.len() < MOST_FRAMES && !uid.is_empty() {
        uids.insert(uid);
    }
}

/// A finding about where labels lie.
pub(crate) fn misplaced(name: &'static str, found: String) -> Problem {
    element(
        name,
        found,
        "labels on the pixels and planes of the images that they refer to",
        "bring them onto the images first, for example in 3D Slicer",
    )
}
