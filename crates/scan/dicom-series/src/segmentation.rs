//! Label maps as DICOM segmentations (PS3.3, A.51): a frame of bits for each class and slice that it is in.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};

use dicom_core::{Tag, VR};
use dicom_dictionary_std::{tags, uids};
use labels::{Class, Concept, snomed};
use volume::{LabelSink, SourceError};
use whole_files::WholeFile;

use crate::elements::Value;
use crate::encode::{Elements, item_of};
use crate::error::{DicomError, Problem, element};
use crate::instance::copied;
use crate::series::Series;

/// What a segmentation has of its series as it stands there, and as what.
const COPIED: [(Tag, VR); 16] = [
    (tags::SPECIFIC_CHARACTER_SET, VR::CS),
    (tags::STUDY_DATE, VR::DA),
    (tags::STUDY_TIME, VR::TM),
    (tags::ACCESSION_NUMBER, VR::SH),
    (tags::REFERRING_PHYSICIAN_NAME, VR::PN),
    (tags::STUDY_DESCRIPTION, VR::LO),
    (tags::PATIENT_NAME, VR::PN),
    (tags::PATIENT_ID, VR::LO),
    (tags::PATIENT_BIRTH_DATE, VR::DA),
    (tags::PATIENT_SEX, VR::CS),
    (tags::PATIENT_AGE, VR::AS),
    (tags::STUDY_INSTANCE_UID, VR::UI),
    (tags::STUDY_ID, VR::SH),
    (tags::FRAME_OF_REFERENCE_UID, VR::UI),
    (tags::POSITION_REFERENCE_INDICATOR, VR::LO),
    (tags::CONTENT_DATE, VR::DA),
];

const MANUFACTURER: &str = "flare";
const MODEL: &str = "predict";

/// Writes the label map of a series, slice by slice.
pub struct SegmentationWriter {
    path: PathBuf,
    series: Series,
    segments: Vec<Segment>,
    copied: Vec<(Tag, Value)>,
    /// The frames so far, by segment and slice.
    frames: Vec<(usize, usize)>,
    bits: Bits,
    slice: usize,
    digest: blake3::Hasher,
    file: WholeFile,
}

struct Segment {
    key: String,
    name: String,
    value: u8,
    color: [u8; 3],
}

impl SegmentationWriter {
    /// Begins the file. Segments have the numbers of their places among `classes`, from 1.
    ///
    /// # Errors
    /// When the series or the folder cannot be read or written.
    pub fn create(path: &Path, series: &Series, classes: &[&Class]) -> Result<Self, DicomError> {
        let problem = |error| DicomError::at(path)(Problem::Io { doing: "make a file in the folder", error });
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let segment = |class: &&Class| Segment { key: class.key.clone(), name: class.name.clone(), value: class.value, color: class.color };
        let wanted = COPIED.map(|(tag, _)| tag);
        let copied = match series.files().next() {
            Some(first) => copied(first, &wanted)?,
            None => Vec::new(),
        };
        let mut digest = blake3::Hasher::new();
        series.instances.iter().for_each(|instance| _ = digest.update(instance.uid.as_bytes()));
        Ok(Self {
            path: path.to_owned(),
            series: series.clone(),
            segments: classes.iter().map(segment).collect(),
            copied,
            frames: Vec::new(),
            bits: Bits { file: BufWriter::new(tempfile::tempfile_in(folder).map_err(problem)?), held: 0, count: 0 },
            slice: 0,
            digest,
            file: WholeFile::create(path).map_err(problem)?,
        })
    }

    fn add_slice(&mut self, labels: &[u8]) -> io::Result<()> {
        self.digest.update(labels);
        let mut there = [false; 256];
        labels.iter().for_each(|&label| there[usize::from(label)] = true);
        for (place, segment) in self.segments.iter().enumerate() {
            if there[usize::from(segment.value)] {
                self.frames.push((place, self.slice));
                self.bits.add(labels.iter().map(|&label| label == segment.value))?;
            }
        }
        self.slice += 1;
        Ok(())
    }

    fn write(mut self) -> Result<(), Problem> {
        let io = |error| Problem::Io { doing: "write the file", error };
        let [columns, rows, _] = self.series.grid.shape;
        if self.frames.is_empty() {
            // A segmentation without a frame is none.
            self.frames.push((0, 0));
            self.bits.add(std::iter::repeat_n(false, rows * columns)).map_err(io)?;
        }
        let Self { series, segments, copied, frames, bits, digest, file, .. } = self;
        let (mut bits, length) = bits.finish().map_err(io)?;
        let length = u32::try_from(length + length % 2).map_err(|_| {
            element(
                "Pixel Data",
                format!("{} frames", frames.len()),
                "at most 4 GiB of bits",
                "ask for fewer classes, or for another format",
            )
        })?;
        let uid = Uid(digest);
        let mut out = BufWriter::new(file);
        let about = About { series: &series, segments: &segments, copied: &copied, frames: &frames, uid: &uid };
        out.write_all(&[0; 128]).and_then(|()| out.write_all(b"DICM")).map_err(io)?;
        out.write_all(&about.meta()).and_then(|()| out.write_all(about.before_frames().bytes())).map_err(io)?;
        about.each_frame(&mut out).map_err(io)?;
        let mut head = Elements::default();
        head.head(tags::PIXEL_DATA, VR::OB, length);
        out.write_all(head.bytes()).map_err(io)?;
        let copied = io::copy(&mut bits, &mut out).map_err(io)?;
        out.write_all(&vec![0; (u64::from(length) - copied) as usize]).map_err(io)?;
        out.into_inner().map_err(io::IntoInnerError::into_error).and_then(WholeFile::finish).map_err(io)
    }
}

impl LabelSink for SegmentationWriter {
    fn add(&mut self, labels: &[u8]) -> Result<(), SourceError> {
        Ok(self.add_slice(labels).map_err(|error| DicomError::at(&self.path)(Problem::Io { doing: "write the frames", error }))?)
    }

    fn finish(self: Box<Self>) -> Result<(), SourceError> {
        let path = self.path.clone();
        Ok((*self).write().map_err(DicomError::at(&path))?)
    }
}

/// Bits one after another, the lowest of a byte first, in a file without a name.
struct Bits {
    file: BufWriter<File>,
    held: u8,
    count: u64,
}

impl Bits {
    fn add(&mut self, bits: impl Iterator<Item = bool>) -> io::Result<()> {
        for bit in bits {
            self.held |= u8::from(bit) << (self.count % 8);
            self.count += 1;
            if self.count.is_multiple_of(8) {
                self.file.write_all(&[std::mem::take(&mut self.held)])?;
            }
        }
        Ok(())
    }

    /// The file from its beginning, and its length.
    fn finish(mut self) -> io::Result<(BufReader<File>, u64)> {
        if !self.count.is_multiple_of(8) {
            self.file.write_all(&[self.held])?;
        }
        let mut file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.seek(SeekFrom::Start(0))?;
        Ok((BufReader::with_capacity(1 << 18, file), self.count.div_ceil(8)))
    }
}

/// UIDs that follow from what a file holds (PS3.5, B.2), so that the same labels give the same file.
struct Uid(blake3::Hasher);

impl Uid {
    fn of(&self, what: &str) -> String {
        let mut digest = self.0.clone();
        digest.update(what.as_bytes());
        let bytes: [u8; 16] = std::array::from_fn(|i| digest.finalize().as_bytes()[i]);
        format!("2.25.{}", u128::from_be_bytes(bytes))
    }
}

/// What the file says.
struct About<'a> {
    series: &'a Series,
    segments: &'a [Segment],
    copied: &'a [(Tag, Value)],
    frames: &'a [(usize, usize)],
    uid: &'a Uid,
}

impl About<'_> {
    /// The first group, which says how the others are stored.
    fn meta(&self) -> Vec<u8> {
        let mut meta = Elements::default();
        meta.put(Tag(0x0002, 0x0001), VR::OB, &[0, 1]);
        meta.text(tags::MEDIA_STORAGE_SOP_CLASS_UID, VR::UI, uids::SEGMENTATION_STORAGE);
        meta.text(tags::MEDIA_STORAGE_SOP_INSTANCE_UID, VR::UI, &self.uid.of("instance"));
        meta.text(tags::TRANSFER_SYNTAX_UID, VR::UI, uids::EXPLICIT_VR_LITTLE_ENDIAN);
        meta.text(tags::IMPLEMENTATION_CLASS_UID, VR::UI, IMPLEMENTATION);
        let mut all = Elements::default();
        all.longs(Tag(0x0002, 0x0000), &[meta.bytes().len() as u32]);
        [all.into_bytes(), meta.into_bytes()].concat()
    }

    /// A value of the series, in its own characters; empty if it has none.
    fn copy(&self, to: &mut Elements, tag: Tag) {
        let vr = COPIED.iter().find(|(known, _)| *known == tag).map_or(VR::UN, |(_, vr)| *vr);
        let value = self.copied.iter().find(|(found, _)| *found == tag).map_or(&[][..], |(_, value)| &value.bytes);
        to.put(tag, vr, value);
    }

    fn has(&self, tag: Tag) -> bool {
        self.copied.iter().any(|(found, _)| *found == tag)
    }

    /// Everything before the frames, by tags ascending.
    fn before_frames(&self) -> Elements {
        let (mut all, [columns, rows, _]) = (Elements::default(), self.series.grid.shape);
        if self.has(tags::SPECIFIC_CHARACTER_SET) {
            self.copy(&mut all, tags::SPECIFIC_CHARACTER_SET);
        }
        all.text(tags::IMAGE_TYPE, VR::CS, "DERIVED\\PRIMARY");
        all.text(tags::SOP_CLASS_UID, VR::UI, uids::SEGMENTATION_STORAGE);
        all.text(tags::SOP_INSTANCE_UID, VR::UI, &self.uid.of("instance"));
        self.copy(&mut all, tags::STUDY_DATE);
        // Of the study too: the same labels give the same file, whenever they are made.
        let date = if self.has(tags::CONTENT_DATE) { tags::CONTENT_DATE } else { tags::STUDY_DATE };
        let date = self.copied.iter().find(|(found, _)| *found == date).map_or(&b"19000101"[..], |(_, value)| &value.bytes);
        all.put(tags::CONTENT_DATE, VR::DA, date);
        self.copy(&mut all, tags::STUDY_TIME);
        all.text(tags::CONTENT_TIME, VR::TM, "000000");
        self.copy(&mut all, tags::ACCESSION_NUMBER);
        all.text(tags::MODALITY, VR::CS, "SEG");
        all.text(tags::MANUFACTURER, VR::LO, MANUFACTURER);
        self.copy(&mut all, tags::REFERRING_PHYSICIAN_NAME);
        if self.has(tags::STUDY_DESCRIPTION) {
            self.copy(&mut all, tags::STUDY_DESCRIPTION);
        }
        all.text(tags::SERIES_DESCRIPTION, VR::LO, "Segmentation");
        all.text(tags::MANUFACTURER_MODEL_NAME, VR::LO, MODEL);
        all.one(tags::REFERENCED_SERIES_SEQUENCE, |series| {
            series.sequence(tags::REFERENCED_INSTANCE_SEQUENCE, self.series.instances.iter(), |one, instance| {
                one.text(tags::REFERENCED_SOP_CLASS_UID, VR::UI, &instance.class);
                one.text(tags::REFERENCED_SOP_INSTANCE_UID, VR::UI, &instance.uid);
            });
            series.text(tags::SERIES_INSTANCE_UID, VR::UI, &self.series.uid);
        });
        for tag in [tags::PATIENT_NAME, tags::PATIENT_ID, tags::PATIENT_BIRTH_DATE, tags::PATIENT_SEX] {
            self.copy(&mut all, tag);
        }
        all.text(tags::DEVICE_SERIAL_NUMBER, VR::LO, "0");
        all.text(tags::SOFTWARE_VERSIONS, VR::LO, env!("CARGO_PKG_VERSION"));
        self.copy(&mut all, tags::STUDY_INSTANCE_UID);
        all.text(tags::SERIES_INSTANCE_UID, VR::UI, &self.uid.of("series"));
        self.copy(&mut all, tags::STUDY_ID);
        all.text(tags::SERIES_NUMBER, VR::IS, &(self.series.number.unwrap_or(0).clamp(0, 20_000) + 1000).to_string());
        all.text(tags::INSTANCE_NUMBER, VR::IS, "1");
        self.copy(&mut all, tags::FRAME_OF_REFERENCE_UID);
        self.copy(&mut all, tags::POSITION_REFERENCE_INDICATOR);
        self.dimensions(&mut all);
        all.shorts(tags::SAMPLES_PER_PIXEL, &[1]);
        all.text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2");
        all.text(tags::NUMBER_OF_FRAMES, VR::IS, &self.frames.len().to_string());
        for (tag, value) in [
            (tags::ROWS, rows as u16),
            (tags::COLUMNS, columns as u16),
            (tags::BITS_ALLOCATED, 1),
            (tags::BITS_STORED, 1),
            (tags::HIGH_BIT, 0),
            (tags::PIXEL_REPRESENTATION, 0),
        ] {
            all.shorts(tag, &[value]);
        }
        all.text(tags::LOSSY_IMAGE_COMPRESSION, VR::CS, "00");
        all.text(tags::SEGMENTATION_TYPE, VR::CS, "BINARY");
        all.sequence(tags::SEGMENT_SEQUENCE, (1..).zip(self.segments), |one, (number, segment)| segment.describe(one, number));
        all.text(tags::CONTENT_LABEL, VR::CS, "SEGMENTATION");
        all.text(tags::CONTENT_DESCRIPTION, VR::LO, "Labels of a model");
        all.text(tags::CONTENT_CREATOR_NAME, VR::PN, MODEL);
        self.shared(&mut all);
        all
    }

    /// Frames are told apart by segment and place.
    fn dimensions(&self, to: &mut Elements) {
        let organization = self.uid.of("dimensions");
        to.one(tags::DIMENSION_ORGANIZATION_SEQUENCE, |one| one.text(tags::DIMENSION_ORGANIZATION_UID, VR::UI, &organization));
        let pointers = [
            (tags::REFERENCED_SEGMENT_NUMBER, tags::SEGMENT_IDENTIFICATION_SEQUENCE),
            (tags::IMAGE_POSITION_PATIENT, tags::PLANE_POSITION_SEQUENCE),
        ];
        let at = |tag: Tag| [tag.group().to_le_bytes(), tag.element().to_le_bytes()].concat();
        to.sequence(tags::DIMENSION_INDEX_SEQUENCE, pointers, |one, (attribute, group)| {
            one.text(tags::DIMENSION_ORGANIZATION_UID, VR::UI, &organization);
            one.put(tags::DIMENSION_INDEX_POINTER, VR::AT, &at(attribute));
            one.put(tags::FUNCTIONAL_GROUP_POINTER, VR::AT, &at(group));
        });
    }

    /// What all frames have in common.
    fn shared(&self, to: &mut Elements) {
        let Series { grid, directions, spacing, instances, .. } = self.series;
        let between = grid.spacing_mm()[2];
        let thickness = instances.first().and_then(|instance| instance.thickness).unwrap_or(between);
        to.one(tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE, |shared| {
            shared.one(tags::PLANE_ORIENTATION_SEQUENCE, |one| one.decimals(tags::IMAGE_ORIENTATION_PATIENT, directions));
            shared.one(tags::PIXEL_MEASURES_SEQUENCE, |one| {
                one.decimals(tags::SLICE_THICKNESS, &[thickness]);
                one.decimals(tags::SPACING_BETWEEN_SLICES, &[between]);
                one.decimals(tags::PIXEL_SPACING, spacing);
            });
        });
    }

    /// Writes what each frame has of its own, one after another: there may be very many.
    fn each_frame(&self, out: &mut impl Write) -> io::Result<()> {
        let mut head = Elements::default();
        head.head(tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE, VR::SQ, u32::MAX);
        out.write_all(head.bytes())?;
        for &(segment, slice) in self.frames {
            let (mut frame, at) = (Elements::default(), &self.series.slices[slice]);
            let instance = &self.series.instances[at.file];
            frame.one(tags::DERIVATION_IMAGE_SEQUENCE, |derivation| {
                derivation.one(tags::SOURCE_IMAGE_SEQUENCE, |source| {
                    source.text(tags::REFERENCED_SOP_CLASS_UID, VR::UI, &instance.class);
                    source.text(tags::REFERENCED_SOP_INSTANCE_UID, VR::UI, &instance.uid);
                    if instance.frames.len() > 1 {
                        source.text(tags::REFERENCED_FRAME_NUMBER, VR::IS, &(at.frame + 1).to_string());
                    }
                    code(source, tags::PURPOSE_OF_REFERENCE_CODE_SEQUENCE, "DCM", "121322", "Source image for image processing operation");
                });
                code(derivation, tags::DERIVATION_CODE_SEQUENCE, "DCM", "113076", "Segmentation");
            });
            frame.one(tags::FRAME_CONTENT_SEQUENCE, |one| {
                one.longs(tags::DIMENSION_INDEX_VALUES, &[segment as u32 + 1, slice as u32 + 1]);
            });
            frame.one(tags::PLANE_POSITION_SEQUENCE, |one| one.decimals(tags::IMAGE_POSITION_PATIENT, &at.position));
            frame.one(tags::SEGMENT_IDENTIFICATION_SEQUENCE, |one| one.shorts(tags::REFERENCED_SEGMENT_NUMBER, &[segment as u16 + 1]));
            out.write_all(&item_of(&frame))?;
        }
        // The end of the sequence.
        out.write_all(&[0xfe, 0xff, 0xdd, 0xe0, 0, 0, 0, 0])
    }
}

/// A name for this program among those that write DICOM.
const IMPLEMENTATION: &str = "2.25.146361463473527474894170318452961853105";

fn code(to: &mut Elements, tag: Tag, scheme: &str, value: &str, meaning: &str) {
    to.one(tag, |one| coded(one, scheme, value, meaning));
}

fn coded(to: &mut Elements, scheme: &str, value: &str, meaning: &str) {
    to.text(tags::CODE_VALUE, VR::SH, value);
    to.text(tags::CODING_SCHEME_DESIGNATOR, VR::SH, scheme);
    to.text(tags::CODE_MEANING, VR::LO, meaning);
}

impl Segment {
    fn describe(&self, to: &mut Elements, number: u16) {
        let coded_as = snomed(&self.key);
        let put = |to: &mut Elements, tag: Tag, Concept { code: value, meaning }: Concept| code(to, tag, "SCT", value, meaning);
        put(to, tags::SEGMENTED_PROPERTY_CATEGORY_CODE_SEQUENCE, coded_as.category);
        to.shorts(tags::SEGMENT_NUMBER, &[number]);
        to.text(tags::SEGMENT_LABEL, VR::LO, &short(&self.name));
        to.text(tags::SEGMENT_ALGORITHM_TYPE, VR::CS, "AUTOMATIC");
        to.text(tags::SEGMENT_ALGORITHM_NAME, VR::LO, MODEL);
        to.shorts(tags::RECOMMENDED_DISPLAY_CIE_LAB_VALUE, &cie_lab(self.color));
        to.one(tags::SEGMENTED_PROPERTY_TYPE_CODE_SEQUENCE, |one| {
            coded(one, "SCT", coded_as.concept.code, coded_as.concept.meaning);
            if let Some(side) = coded_as.side {
                put(one, tags::SEGMENTED_PROPERTY_TYPE_MODIFIER_CODE_SEQUENCE, side);
            }
        });
    }
}

/// A name in 64 characters of ASCII, in which every reader has it.
fn short(name: &str) -> String {
    name.chars().map(|letter| if letter.is_ascii_graphic() && letter != '\\' { letter } else { ' ' }).take(64).collect()
}

/// A colour of sRGB as DICOM has it (PS3.3, C.10.7.1.1): L*, a* and b* under D50, in 16 bits each.
fn cie_lab(color: [u8; 3]) -> [u16; 3] {
    let [r, g, b] = color.map(|part| {
        let part = f64::from(part) / 255.0;
        if part <= 0.040_45 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) }
    });
    // From sRGB to XYZ under D50 (Bradford), over the white there.
    let x = (0.436_074_7 * r + 0.385_064_9 * g + 0.143_080_4 * b) / 0.964_22;
    let y = 0.222_504_5 * r + 0.716_878_6 * g + 0.060_616_9 * b;
    let z = (0.013_932_2 * r + 0.097_104_5 * g + 0.714_173_3 * b) / 0.825_21;
    let [x, y, z] = [x, y, z].map(|part: f64| if part > 216.0 / 24_389.0 { part.cbrt() } else { (24_389.0 / 27.0 * part + 16.0) / 116.0 });
    let [l, a, b] = [116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)];
    [l / 100.0, (a + 128.0) / 255.0, (b + 128.0) / 255.0].map(|part| (part.clamp(0.0, 1.0) * 65_535.0).round() as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_run_on_from_frame_to_frame() {
        let mut bits = Bits { file: BufWriter::new(tempfile::tempfile().unwrap()), held: 0, count: 0 };
        bits.add([true, false, true].into_iter()).unwrap();
        bits.add([true, true, false, false, true, true].into_iter()).unwrap();
        let (mut file, length) = bits.finish().unwrap();
        let mut found = Vec::new();
        io::copy(&mut file, &mut found).unwrap();
        assert_eq!((found, length), (vec![0b1001_1101, 1], 2));
    }

    #[test]
    fn colours_are_those_of_the_standard() {
        assert_eq!(cie_lab([255, 255, 255])[0], 65_535);
        assert_eq!(cie_lab([0, 0, 0]), [0, 32_896, 32_896]);
        // L* 54.29, a* 80.81, b* 69.89 under D50.
        let red = cie_lab([255, 0, 0]);
        for (found, expected) in red.into_iter().zip([54.29 / 100.0, (80.81 + 128.0) / 255.0, (69.89 + 128.0) / 255.0]) {
            assert!((f64::from(found) / 65_535.0 - expected).abs() < 1e-3, "{red:?}");
        }
    }
}
