//! Stored tensors as candle's: values in single precision, whole numbers in 64 bits.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Component, Path};

use candle_core::{Device, Tensor};

use super::proto::Stored;
use super::wire::whole;

/// More axes than any tensor of a network has.
const MOST_AXES: usize = 16;

/// What a type's numbers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    F32,
    F16,
    Bf16,
    F64,
    /// Whole numbers of so many bytes, with a sign or without.
    Int(usize, bool),
}

/// What the numbers of types are; none of texts, complex numbers and those of less than 8 bits.
pub(super) fn element(kind: i64) -> Option<Element> {
    Some(match kind {
        1 => Element::F32,
        10 => Element::F16,
        16 => Element::Bf16,
        11 => Element::F64,
        2 | 9 => Element::Int(1, false),
        3 => Element::Int(1, true),
        4 => Element::Int(2, false),
        5 => Element::Int(2, true),
        6 => Element::Int(4, true),
        12 => Element::Int(4, false),
        7 => Element::Int(8, true),
        13 => Element::Int(8, false),
        _ => return None,
    })
}

impl Element {
    fn bytes(self) -> usize {
        match self {
            Self::F16 | Self::Bf16 => 2,
            Self::F32 => 4,
            Self::F64 => 8,
            Self::Int(bytes, _) => bytes,
        }
    }

    pub(super) fn is_float(self) -> bool {
        !matches!(self, Self::Int(..))
    }
}

impl Stored<'_> {
    /// The tensor. What lies in another file is read from `folder`.
    ///
    /// # Errors
    /// Says what is damaged, of another type, or beyond a file's end.
    pub(super) fn tensor(&self, folder: &Path) -> Result<Tensor, String> {
        let element = element(self.kind).ok_or_else(|| format!("values of type {}; expected numbers of 8 bits or more", self.kind))?;
        let shape = self.dims.iter().map(|side| usize::try_from(*side).ok()).collect::<Option<Vec<_>>>();
        let shape = shape.filter(|shape| shape.len() <= MOST_AXES).ok_or_else(|| format!("the shape {:?}", self.dims))?;
        let bytes = shape.iter().try_fold(element.bytes(), |bytes, side| bytes.checked_mul(*side));
        let bytes = bytes.ok_or_else(|| format!("the shape {shape:?}"))?;
        if !self.elsewhere.is_empty() {
            return made(element, &self.elsewhere(folder, bytes)?, shape);
        }
        if let Some(raw) = self.raw {
            let found = raw.len();
            return if found == bytes { made(element, raw, shape) } else { Err(format!("{found} bytes for the shape {shape:?}")) };
        }
        let (count, found) =
            (bytes / element.bytes(), if element.is_float() && self.ints.is_empty() { self.floats.len() } else { self.ints.len() });
        if found != count {
            return Err(format!("{found} values for the shape {shape:?}"));
        }
        match element {
            Element::F32 | Element::F64 => Tensor::from_slice(&self.floats, shape, &Device::Cpu).map_err(|error| error.to_string()),
            Element::Int(..) => Tensor::from_slice(&self.ints, shape, &Device::Cpu).map_err(|error| error.to_string()),
            // The bits of 16 stand in whole numbers.
            Element::F16 | Element::Bf16 => {
                let bits: Vec<u8> = self.ints.iter().flat_map(|bits| (bits & 0xffff).to_le_bytes().into_iter().take(2)).collect();
                made(element, &bits, shape)
            }
        }
    }

    /// Its bytes in the file beside the graph that it names.
    fn elsewhere(&self, folder: &Path, bytes: usize) -> Result<Vec<u8>, String> {
        let said = |key: &str| self.elsewhere.iter().find(|(own, _)| *own == key).map(|(_, value)| *value);
        let number =
            |key: &str| said(key).map_or(Ok(None), |text| text.parse::<u64>().map(Some).map_err(|_| format!("the {key} `{text}`")));
        let place = Path::new(said("location").unwrap_or_default());
        if place.components().count() == 0 || !place.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
            return Err(format!("its values in `{}`; expected a file beside the graph", place.display()));
        }
        let (offset, length) = (number("offset")?.unwrap_or(0), number("length")?);
        if length.is_some_and(|length| length != bytes as u64) {
            return Err(format!("{} bytes in {} for the shape {:?}", length.unwrap_or_default(), place.display(), self.dims));
        }
        let unread = |error: std::io::Error| format!("its values in {}, which cannot be read ({error})", place.display());
        let file = File::open(folder.join(place)).map_err(unread)?;
        let held = file.metadata().map_err(unread)?.len();
        if offset.checked_add(bytes as u64).is_none_or(|end| end > held) {
            return Err(format!("{bytes} bytes from {offset} on in {}, which has {held}", place.display()));
        }
        let mut values = vec![0; bytes];
        file.read_exact_at(&mut values, offset).map_err(unread)?;
        Ok(values)
    }
}

/// A tensor of little-endian bytes, as many as the shape needs.
#[expect(clippy::cast_possible_truncation, reason = "networks are computed in single precision")]
fn made(element: Element, bytes: &[u8], shape: Vec<usize>) -> Result<Tensor, String> {
    let floats = |values: Vec<f32>| Tensor::from_vec(values, shape.clone(), &Device::Cpu);
    match element {
        Element::F32 => floats(whole(bytes)?.map(f32::from_le_bytes).collect()),
        Element::F64 => floats(whole(bytes)?.map(|bytes| f64::from_le_bytes(bytes) as f32).collect()),
        Element::F16 => floats(whole(bytes)?.map(|bytes| half::f16::from_le_bytes(bytes).to_f32()).collect()),
        Element::Bf16 => floats(whole(bytes)?.map(|bytes| half::bf16::from_le_bytes(bytes).to_f32()).collect()),
        Element::Int(size, signed) => Tensor::from_vec(bytes.chunks(size).map(|one| int(one, signed)).collect(), shape, &Device::Cpu),
    }
    .map_err(|error| error.to_string())
}

/// A whole number of up to 8 bytes.
fn int(bytes: &[u8], signed: bool) -> i64 {
    let negative = signed && bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let mut all = [if negative { 0xff } else { 0 }; 8];
    all[..bytes.len()].copy_from_slice(bytes);
    i64::from_le_bytes(all)
}
