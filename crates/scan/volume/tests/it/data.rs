//! Reference data: small fixtures in the checkout, larger ones beside it.

use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};

pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures")).join(name)
}

pub(crate) use references::{ct, golden};

/// The tensors of a safetensors file.
pub(crate) struct Tensors(Vec<u8>);

impl Tensors {
    pub(crate) fn open(path: &Path) -> Self {
        Self(std::fs::read(path).unwrap())
    }

    fn all(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.0).unwrap()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.all().names().into_iter().map(str::to_owned).collect()
    }

    pub(crate) fn shape(&self, name: &str) -> Vec<usize> {
        self.all().tensor(name).unwrap().shape().to_vec()
    }

    /// The values in the file's order (last index fastest).
    pub(crate) fn values(&self, name: &str) -> Vec<f64> {
        let all = self.all();
        let tensor = all.tensor(name).unwrap();
        let bytes = tensor.data();
        match tensor.dtype() {
            Dtype::U8 => bytes.iter().map(|&b| b.into()).collect(),
            Dtype::F16 => bytes.as_chunks().0.iter().map(|&b| from_f16(u16::from_le_bytes(b))).collect(),
            Dtype::F32 => bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b).into()).collect(),
            Dtype::F64 => bytes.as_chunks().0.iter().map(|&b| f64::from_le_bytes(b)).collect(),
            other => panic!("{name} has type {other:?}"),
        }
    }

    pub(crate) fn affine(&self, name: &str) -> volume::Affine {
        let v = self.values(name);
        volume::Affine(std::array::from_fn(|r| std::array::from_fn(|c| v[4 * r + c])))
    }

    /// A tensor [x, y, z] as a volume.
    pub(crate) fn volume<T>(&self, name: &str, affine: volume::Affine, to: fn(f64) -> T) -> volume::Volume<T> {
        let shape: [usize; 3] = self.shape(name).try_into().unwrap();
        let values = self.values(name).into_iter().map(to).collect();
        volume::Volume { data: ndarray::Array3::from_shape_vec(shape, values).unwrap(), affine }
    }
}

fn from_f16(bits: u16) -> f64 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023) / 1024.0);
    match exponent {
        0 => sign * fraction * 2f64.powi(-14),
        _ => sign * (1.0 + fraction) * 2f64.powi(exponent - 15),
    }
}

/// The largest difference between two affines' entries.
pub(crate) fn distance(a: &volume::Affine, b: &volume::Affine) -> f64 {
    a.0.as_flattened().iter().zip(b.0.as_flattened()).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}
