//! The pixels of a frame, however they are packed.

use std::fs::File;
use std::io::{BufReader, Cursor, Read as _, Seek as _, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};

use dicom_dictionary_std::uids;

use crate::error::{EXPORT, Problem, element};
use crate::instance::{Instance, Pixels};

/// A packed frame of more bytes than this beside its unpacked size is damaged.
const MOST_MORE: u64 = 1 << 20;

/// How the pixels of a file are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packing {
    Raw,
    Rle,
    JpegLossless,
    Jpeg2000,
}

impl Packing {
    /// That of a transfer syntax, if it is unpacked here.
    pub(crate) fn of(syntax: &str) -> Result<Self, Problem> {
        match syntax {
            uids::IMPLICIT_VR_LITTLE_ENDIAN | uids::EXPLICIT_VR_LITTLE_ENDIAN | EXPLICIT_VR_BIG_ENDIAN => Ok(Self::Raw),
            uids::RLE_LOSSLESS => Ok(Self::Rle),
            uids::JPEG_LOSSLESS | uids::JPEG_LOSSLESS_SV1 => Ok(Self::JpegLossless),
            uids::JPEG2000_LOSSLESS | uids::JPEG2000 => Ok(Self::Jpeg2000),
            _ => Err(Problem::Syntax { uid: syntax.to_owned(), name: name_of(syntax) }),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Raw => "unpacked",
            Self::Rle => "RLE",
            Self::JpegLossless => "JPEG lossless",
            Self::Jpeg2000 => "JPEG 2000",
        }
    }
}

/// Retired, and so not to be taken from the dictionary.
const EXPLICIT_VR_BIG_ENDIAN: &str = "1.2.840.10008.1.2.2";

fn name_of(syntax: &str) -> &'static str {
    match syntax {
        "1.2.840.10008.1.2.4.50" => "JPEG baseline",
        "1.2.840.10008.1.2.4.51" => "JPEG extended",
        uids::JPEGLS_LOSSLESS | uids::JPEGLS_NEAR_LOSSLESS => "JPEG-LS",
        uids::HTJ2K_LOSSLESS | uids::HTJ2K_LOSSLESS_RPCL | uids::HTJ2K => "high-throughput JPEG 2000",
        _ => "something that is not known here",
    }
}

/// The frames of an open file.
pub(crate) struct Frames {
    file: BufReader<File>,
    packing: Packing,
    pixels: Pixels,
    big_endian: bool,
    /// Where each frame is: the parts that it is packed in, with their lengths.
    parts: Vec<Vec<(u64, u64)>>,
}

impl Frames {
    /// Finds the frames.
    pub(crate) fn open(instance: &Instance) -> Result<Self, Problem> {
        let packing = Packing::of(&instance.layout.syntax)?;
        let file = File::open(&instance.path).map_err(|error| Problem::Io { doing: "open the file", error })?;
        let bytes = file.metadata().map_err(|error| Problem::Io { doing: "open the file", error })?.len();
        let mut file = BufReader::with_capacity(1 << 16, file);
        let count = instance.frames.len();
        let unpacked = frame_bytes(&instance.pixels) as u64;
        let parts = match (packing, instance.layout.pixels) {
            (Packing::Raw, Some((at, Some(length)))) => {
                let (declared, left) = (count as u64 * unpacked, length.min(bytes.saturating_sub(at)));
                if declared > left {
                    return Err(Problem::Truncated { tag: "of the pixels".into(), declared, left });
                }
                (0..count as u64).map(|frame| vec![(at + frame * unpacked, unpacked)]).collect()
            }
            (Packing::Rle | Packing::JpegLossless | Packing::Jpeg2000, Some((at, None))) => {
                let (offsets, items) = items(&mut file, at, bytes)?;
                by_frame(&offsets, &items, count)?
            }
            _ => return Err(element("Pixel Data", "another form", "the form that the transfer syntax asks for", EXPORT)),
        };
        for (frame, parts) in parts.iter().enumerate() {
            let found: u64 = parts.iter().map(|(_, length)| length).sum();
            if found > 2 * unpacked + MOST_MORE {
                return Err(Problem::Pixels {
                    frame: frame as u32 + 1,
                    packing: packing.name(),
                    reason: format!("{found} bytes for a frame of {unpacked}"),
                });
            }
        }
        Ok(Self { file, packing, pixels: instance.pixels.clone(), big_endian: instance.layout.big_endian, parts })
    }

    /// The values of a frame, x fastest, in place of those in `values`.
    pub(crate) fn read(&mut self, frame: u32, [slope, intercept]: [f64; 2], values: &mut Vec<f32>) -> Result<(), Problem> {
        let io = |error| Problem::Io { doing: "read the pixels", error };
        let parts = self.parts.get(frame as usize).map_or(&[][..], Vec::as_slice);
        let mut packed = vec![0; parts.iter().map(|(_, length)| *length as usize).sum()];
        let mut rest = &mut packed[..];
        for &(at, length) in parts {
            let (part, after) = rest.split_at_mut(length as usize);
            self.file.seek(SeekFrom::Start(at)).map_err(io)?;
            self.file.read_exact(part).map_err(io)?;
            rest = after;
        }
        let (packing, pixels) = (self.packing, &self.pixels);
        let damaged = |reason: String| Problem::Pixels { frame: frame + 1, packing: packing.name(), reason };
        // Decoders of others may have asserted what a damaged file does not keep to.
        let unpack = || match packing {
            Packing::Raw => Ok(packed),
            Packing::Rle => rle(&packed, pixels),
            Packing::JpegLossless => jpeg_lossless(&packed, pixels),
            Packing::Jpeg2000 => jpeg_2000(&packed, pixels),
        };
        let stored = catch_unwind(AssertUnwindSafe(unpack)).unwrap_or_else(|_| Err("the decoder has given up".into())).map_err(damaged)?;
        if stored.len() != frame_bytes(pixels) {
            return Err(damaged(format!("{} bytes, expected {}", stored.len(), frame_bytes(pixels))));
        }
        values.clear();
        scaled(&stored, pixels, self.big_endian && packing == Packing::Raw, [slope, intercept], values);
        Ok(())
    }
}

/// Bytes of an unpacked frame.
fn frame_bytes(pixels: &Pixels) -> usize {
    usize::from(pixels.rows) * usize::from(pixels.columns) * usize::from(pixels.allocated / 8)
}

/// Where an item's value is, and how long that is.
type Item = (u64, u64);

/// The table of offsets and the items behind it: where each begins, where its value is, and how long that is.
fn items(file: &mut BufReader<File>, mut at: u64, bytes: u64) -> Result<(Vec<u64>, Vec<Item>), Problem> {
    const MOST_ITEMS: usize = 1 << 20;
    let io = |error| Problem::Io { doing: "read the pixels", error };
    let mut items = Vec::new();
    loop {
        let mut head = [0; 8];
        file.seek(SeekFrom::Start(at)).map_err(io)?;
        if file.read_exact(&mut head).is_err() {
            return Err(Problem::Truncated { tag: "of the pixels".into(), declared: 8, left: bytes.saturating_sub(at) });
        }
        let length = u64::from(u32::from_le_bytes([head[4], head[5], head[6], head[7]]));
        match head[..4] {
            [0xfe, 0xff, 0x00, 0xe0] if at + 8 + length <= bytes && items.len() < MOST_ITEMS => items.push((at + 8, length)),
            [0xfe, 0xff, 0xdd, 0xe0] => break,
            _ => {
                return Err(Problem::Truncated {
                    tag: "of the packed pixels".into(),
                    declared: length,
                    left: bytes.saturating_sub(at + 8),
                });
            }
        }
        at += 8 + length;
    }
    if items.is_empty() {
        return Err(element("Pixel Data", "no items", "a table of offsets and the frames", EXPORT));
    }
    let (table, length) = items.remove(0);
    let mut offsets = vec![0; (length as usize).min(4 * MOST_ITEMS) / 4 * 4];
    file.seek(SeekFrom::Start(table)).map_err(io)?;
    file.read_exact(&mut offsets).map_err(io)?;
    let offsets = offsets.as_chunks::<4>().0.iter().map(|bytes| u64::from(u32::from_le_bytes(*bytes))).collect();
    Ok((offsets, items))
}

/// The items of each frame.
fn by_frame(offsets: &[u64], items: &[(u64, u64)], count: usize) -> Result<Vec<Vec<(u64, u64)>>, Problem> {
    if count == 1 && !items.is_empty() {
        return Ok(vec![items.to_vec()]);
    }
    if items.len() == count {
        return Ok(items.iter().map(|item| vec![*item]).collect());
    }
    let mut frames = vec![Vec::new(); count];
    let first = items.first().map_or(0, |(at, _)| at - 8);
    if offsets.len() == count && offsets.is_sorted() {
        for &(at, length) in items {
            let frame = offsets.partition_point(|&offset| first + offset <= at - 8);
            if let Some(parts) = frame.checked_sub(1).and_then(|frame| frames.get_mut(frame)) {
                parts.push((at, length));
            }
        }
    }
    if frames.iter().any(Vec::is_empty) {
        let found = format!("{} items for {count} frames, and no table that says which is whose", items.len());
        return Err(element(
            "Pixel Data",
            found,
            "one item for each frame, or a table of offsets",
            "unpack the series first, for example with `gdcmconv --raw`",
        ));
    }
    Ok(frames)
}

/// Run lengths (PS3.5, annex G): one segment for each byte of a pixel, the highest first.
fn rle(packed: &[u8], pixels: &Pixels) -> Result<Vec<u8>, String> {
    let (words, _) = packed.as_chunks::<4>();
    let word = |index: usize| words.get(index).map(|bytes| u32::from_le_bytes(*bytes) as usize);
    let bytes = usize::from(pixels.allocated / 8);
    let segments = word(0).unwrap_or(0);
    if segments != bytes {
        return Err(format!("{segments} segments, expected {bytes}"));
    }
    let mut stored = vec![0; frame_bytes(pixels)];
    for segment in 0..segments {
        let begin = word(1 + segment).unwrap_or(0);
        let end = if segment + 1 < segments { word(2 + segment).unwrap_or(0) } else { packed.len() };
        let mut from = packed.get(begin..end).ok_or("a segment lies outside")?;
        let mut to = stored.iter_mut().skip(bytes - 1 - segment).step_by(bytes);
        let mut missing = usize::from(pixels.rows) * usize::from(pixels.columns);
        while missing > 0 {
            let (&count, after) = from.split_first().ok_or("a segment ends early")?;
            from = after;
            let run = match count as i8 {
                -128 => continue,
                count @ 0.. => count.unsigned_abs() as usize + 1,
                count => 1 + usize::from(count.unsigned_abs()),
            };
            if run > missing {
                return Err("a run is longer than the rest of the frame".into());
            }
            missing -= run;
            if count < 128 {
                let (literal, after) = from.split_at_checked(run).ok_or("a segment ends early")?;
                to.by_ref().zip(literal).for_each(|(to, from)| *to = *from);
                from = after;
            } else {
                let (&value, after) = from.split_first().ok_or("a segment ends early")?;
                to.by_ref().take(run).for_each(|to| *to = value);
                from = after;
            }
        }
    }
    Ok(stored)
}

/// JPEG processes 14, whose samples are the stored bits.
fn jpeg_lossless(packed: &[u8], pixels: &Pixels) -> Result<Vec<u8>, String> {
    let mut decoder = jpeg_decoder::Decoder::new(Cursor::new(packed));
    decoder.set_max_decoding_buffer_size(4 * frame_bytes(pixels).max(1));
    decoder.read_info().map_err(|error| error.to_string())?;
    let info = decoder.info().ok_or("it does not say its size")?;
    check_sides(u32::from(info.width), u32::from(info.height), pixels)?;
    let samples = decoder.decode().map_err(|error| error.to_string())?;
    let wide: Vec<u32> = match info.pixel_format {
        jpeg_decoder::PixelFormat::L8 => samples.iter().map(|&sample| u32::from(sample)).collect(),
        jpeg_decoder::PixelFormat::L16 => samples.as_chunks::<2>().0.iter().map(|bytes| u32::from(u16::from_ne_bytes(*bytes))).collect(),
        _ => return Err("it is in colour".into()),
    };
    Ok(narrowed(&wide, pixels))
}

fn jpeg_2000(packed: &[u8], pixels: &Pixels) -> Result<Vec<u8>, String> {
    let settings = hayro_jpeg2000::DecodeSettings { resolve_palette_indices: false, ..Default::default() };
    let image = hayro_jpeg2000::Image::new(packed, &settings).map_err(|error| error.to_string())?;
    check_sides(image.width(), image.height(), pixels)?;
    let mut context = hayro_jpeg2000::DecoderContext::default();
    let decoded = image.decode(&mut context).map_err(|error| error.to_string())?;
    let [component] = decoded.components() else { return Err("it is in colour".into()) };
    let depth = u32::from(component.bit_depth());
    // The decoder gives samples with and without sign alike, the least as 0. Bit 7 of the component's size says that they have one.
    let lowest = if is_signed(packed) && (1..32).contains(&depth) { 1i64 << (depth - 1) } else { 0 };
    let wide: Vec<u32> = component.samples().iter().map(|&sample| (sample.round() as i64 - lowest) as u32).collect();
    Ok(narrowed(&wide, pixels))
}

/// Whether the first component of a JPEG 2000 codestream has a sign.
fn is_signed(packed: &[u8]) -> bool {
    const SIZE_OF_COMPONENT: usize = 42;
    let begin = packed.windows(4).position(|bytes| bytes == [0xff, 0x4f, 0xff, 0x51]);
    begin.and_then(|begin| packed.get(begin + SIZE_OF_COMPONENT)).is_some_and(|size| size & 0x80 != 0)
}

fn check_sides(width: u32, height: u32, pixels: &Pixels) -> Result<(), String> {
    let (rows, columns) = (u32::from(pixels.rows), u32::from(pixels.columns));
    if (width, height) == (columns, rows) { Ok(()) } else { Err(format!("{width} x {height} pixels, expected {columns} x {rows}")) }
}

/// Samples in as many bytes as the file says pixels have.
fn narrowed(samples: &[u32], pixels: &Pixels) -> Vec<u8> {
    let bytes = usize::from(pixels.allocated / 8);
    samples.iter().flat_map(|sample| sample.to_le_bytes().into_iter().take(bytes)).collect()
}

/// Adds the meant values of stored bits: those between the highest bit and the number that are stored, with their sign.
fn scaled(stored: &[u8], pixels: &Pixels, big_endian: bool, scaling: [f64; 2], values: &mut Vec<f32>) {
    let (up, down) = (pixels.allocated - 1 - pixels.high_bit, pixels.allocated - pixels.stored);
    macro_rules! convert {
        ($signed:ty, $unsigned:ty) => {{
            let (stored, _) = stored.as_chunks::<{ size_of::<$unsigned>() }>();
            let bits = |bytes: &[u8; size_of::<$unsigned>()]| {
                if big_endian { <$unsigned>::from_be_bytes(*bytes) << up } else { <$unsigned>::from_le_bytes(*bytes) << up }
            };
            if pixels.signed {
                add(stored.iter().map(|bytes| f64::from(bits(bytes) as $signed >> down)), scaling, values);
            } else {
                add(stored.iter().map(|bytes| f64::from(bits(bytes) >> down)), scaling, values);
            }
        }};
    }
    match pixels.allocated {
        8 => convert!(i8, u8),
        16 => convert!(i16, u16),
        _ => convert!(i32, u32),
    }
}

fn add(stored: impl Iterator<Item = f64>, [slope, intercept]: [f64; 2], values: &mut Vec<f32>) {
    if [slope, intercept] == [1.0, 0.0] {
        values.extend(stored.map(|value| value as f32));
    } else {
        values.extend(stored.map(|value| (value * slope + intercept) as f32));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIXELS: Pixels = Pixels { rows: 2, columns: 3, samples: 1, allocated: 16, stored: 12, high_bit: 11, signed: true };

    #[test]
    fn stored_bits_are_told_from_those_above_and_below_them() {
        let read = |pixels: &Pixels, stored: &[u8], big_endian| {
            let mut values = Vec::new();
            scaled(stored, pixels, big_endian, [1.0, 0.0], &mut values);
            values
        };
        // Overlays stood in the bits above.
        assert_eq!(read(&PIXELS, &[0xff, 0x0f, 0x01, 0xf0, 0x00, 0x08], false), [-1.0, 1.0, -2048.0]);
        assert_eq!(read(&Pixels { signed: false, ..PIXELS }, &[0xff, 0x0f], false), [4095.0]);
        assert_eq!(read(&Pixels { high_bit: 15, ..PIXELS }, &[0xf0, 0xff, 0x1f, 0x00], false), [-1.0, 1.0]);
        assert_eq!(read(&Pixels { stored: 16, high_bit: 15, ..PIXELS }, &[0x80, 0x01], true), [-32767.0]);
        assert_eq!(read(&Pixels { allocated: 8, stored: 8, high_bit: 7, ..PIXELS }, &[0xfe], false), [-2.0]);
    }

    #[test]
    fn run_lengths_are_read_as_the_standard_has_them() {
        let mut packed = [2u32, 64, 70].iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
        packed.resize(64, 0);
        // Six high bytes of 1; then 10, 20, 20, 20, 20, 30 with a byte of no meaning between.
        packed.extend([0xfb, 1, 0x80, 0x80, 0x80, 0x80, 0x00, 10, 0x80, 0xfd, 20, 0x00, 30]);
        let low = [10, 20, 20, 20, 20, 30].iter().flat_map(|&low| [low, 1]).collect::<Vec<u8>>();
        assert_eq!(rle(&packed, &PIXELS), Ok(low));
        for end in 0..packed.len() {
            assert!(rle(&packed[..end], &PIXELS).is_err(), "{end}");
        }
    }

    #[test]
    fn items_belong_to_frames_by_their_number_or_by_the_table() {
        let items = [(108, 10), (126, 20), (154, 6)];
        assert_eq!(by_frame(&[], &items, 1).unwrap(), [items.to_vec()]);
        assert_eq!(by_frame(&[], &items, 3).unwrap().len(), 3);
        assert_eq!(by_frame(&[0, 46], &items, 2).unwrap(), [items[..2].to_vec(), items[2..].to_vec()]);
        assert!(by_frame(&[], &items, 2).is_err() && by_frame(&[0, 500], &items, 2).is_err());
    }
}
