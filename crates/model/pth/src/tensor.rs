//! Tensors out of storages, whatever their strides.

use half::{bf16, f16};

use crate::archive::Archive;
use crate::object::{Id, Object};

/// A tensor in C order.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Its sides; none of a scalar.
    pub shape: Vec<usize>,
    /// Its values, of whatever type they were.
    pub values: Vec<f32>,
}

/// All tensors of a file together have no more elements: 1 GiB of 32-bit floats, ten times the largest network here. A view may have more than its storage.
pub(crate) const MOST_ELEMENTS: u64 = 1 << 28;

/// The bytes of an element of a storage class.
pub(crate) fn element_bytes(class: &str) -> Option<usize> {
    Some(match class.strip_prefix("torch.")?.strip_suffix("Storage")? {
        "Double" | "Long" => 8,
        "Float" | "Int" => 4,
        "Half" | "BFloat16" | "Short" => 2,
        "Char" | "Byte" | "Bool" => 1,
        _ => return None,
    })
}

fn value(class: &str, bytes: &[u8]) -> f32 {
    let of = |n: usize| -> [u8; 8] {
        let mut eight = [0; 8];
        eight[..n].copy_from_slice(&bytes[..n]);
        eight
    };
    match class {
        "torch.DoubleStorage" => f64::from_le_bytes(of(8)) as f32,
        "torch.LongStorage" => i64::from_le_bytes(of(8)) as f32,
        "torch.FloatStorage" => f32::from_bits(u64::from_le_bytes(of(4)) as u32),
        "torch.IntStorage" => u64::from_le_bytes(of(4)) as u32 as i32 as f32,
        "torch.HalfStorage" => f16::from_bits(u64::from_le_bytes(of(2)) as u16).to_f32(),
        "torch.BFloat16Storage" => bf16::from_bits(u64::from_le_bytes(of(2)) as u16).to_f32(),
        "torch.ShortStorage" => f32::from(u64::from_le_bytes(of(2)) as u16 as i16),
        "torch.CharStorage" => f32::from(bytes[0] as i8),
        _ => f32::from(bytes[0]),
    }
}

/// Reads a tensor; `left` is how many elements may still be read.
pub(crate) fn read(archive: &Archive<'_>, id: Id, left: &mut u64) -> Result<Tensor, String> {
    let Object::Tensor { storage, offset, shape, stride } = archive.objects.get(id) else { return Err("it is no tensor".into()) };
    let Object::Storage { class, key, offset: view } = archive.objects.get(*storage) else { return Err("it has no storage".into()) };
    let size = element_bytes(class).ok_or_else(|| format!("its numbers are of the type {class}; expected floats or integers"))?;
    let bytes = archive.storage(key).ok_or_else(|| format!("its storage {key} is not in the file; copy or save the file again"))?;
    let elements = shape.iter().try_fold(1u64, |product, side| product.checked_mul(*side));
    let elements =
        elements.filter(|elements| *elements <= *left).ok_or_else(|| format!("its shape {shape:?} is larger than any weights"))?;
    *left -= elements;
    let first = offset.checked_add(*view).ok_or("its offset is too large")?;
    let reach =
        || shape.iter().zip(stride).try_fold(first, |reach, (side, stride)| reach.checked_add(stride.checked_mul(side.saturating_sub(1))?));
    let there = (bytes.len() / size) as u64;
    if elements > 0 && reach().is_none_or(|last| last >= there) {
        return Err(format!("shape {shape:?} with strides {stride:?} reaches beyond its storage of {there} elements; save the file again"));
    }
    let mut values = Vec::with_capacity(elements as usize);
    let mut index = vec![0u64; shape.len()];
    for _ in 0..elements {
        let at = index.iter().zip(stride).fold(first, |at, (i, stride)| at + i * stride) as usize;
        values.push(value(class, &bytes[at * size..][..size]));
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            if index[axis] < shape[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
    Ok(Tensor { shape: shape.iter().map(|side| *side as usize).collect(), values })
}
