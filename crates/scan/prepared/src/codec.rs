//! How a chunk is compressed: intensities by pco, which is made for numbers, and maps by zstd.
//!
//! Noise makes the intensities of a body. A compressor of bytes sees 16 bits of which the lower ones are random; pco codes the
//! differences of neighbours by how often they come, and takes 40 to 80 % of what zstd takes (see the table of the crate).

use pco::ChunkConfig;
use pco::standalone::{guarantee, simple_compress_into, simple_decompress_into};
use serde_json::{Value, json};
use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe;

use crate::zarr::DataType;

/// How good and how slow the compression is.
const ZSTD_LEVEL: i32 = 3;
const PCO_LEVEL: usize = 6;

/// Bytes of the checksum behind a chunk of intensities; zstd's frames have one of their own.
const CHECKSUM: usize = 4;

/// The names of the codecs of a chunk, in the order in which they encode.
pub(crate) fn names(data_type: DataType) -> [&'static str; 2] {
    match data_type {
        DataType::U8 => ["bytes", "zstd"],
        DataType::U16 => ["numcodecs.pcodec", "crc32c"],
    }
}

/// The codecs of a chunk as an array's metadata tell them.
pub(crate) fn metadata(data_type: DataType) -> [Value; 2] {
    let configurations = match data_type {
        DataType::U8 => [json!({"endian": "little"}), json!({"level": ZSTD_LEVEL, "checksum": true})],
        DataType::U16 => [json!({"level": PCO_LEVEL, "mode_spec": "auto", "delta_spec": "auto"}), Value::Null],
    };
    let mut codecs = names(data_type).map(|name| json!({ "name": name }));
    for (codec, configuration) in codecs.iter_mut().zip(configurations) {
        if !configuration.is_null() {
            codec["configuration"] = configuration;
        }
    }
    codecs
}

/// The most bytes that a chunk of so many bytes takes.
fn most_packed(data_type: DataType, bytes: usize) -> usize {
    match data_type {
        DataType::U8 => zstd_safe::compress_bound(bytes),
        DataType::U16 => {
            guarantee::file_size::<u16>(bytes / 2, &ChunkConfig::default().paging_spec).unwrap_or(usize::MAX - CHECKSUM) + CHECKSUM
        }
    }
}

/// Compresses the chunks of an array, one after another.
pub(crate) struct Packer {
    data_type: DataType,
    zstd: Compressor<'static>,
    intensities: Vec<u16>,
}

impl Packer {
    pub(crate) fn new(data_type: DataType) -> std::io::Result<Self> {
        let mut zstd = Compressor::new(ZSTD_LEVEL)?;
        zstd.include_checksum(true)?;
        Ok(Self { data_type, zstd, intensities: Vec::new() })
    }

    /// Puts the chunk into `packed`, in place of what is there.
    pub(crate) fn pack(&mut self, chunk: &[u8], packed: &mut Vec<u8>) -> std::io::Result<()> {
        packed.clear();
        match self.data_type {
            DataType::U8 => {
                packed.reserve(most_packed(self.data_type, chunk.len()));
                self.zstd.compress_to_buffer(chunk, packed)?;
            }
            DataType::U16 => {
                self.intensities.clear();
                self.intensities.extend(chunk.as_chunks().0.iter().map(|bytes| u16::from_le_bytes(*bytes)));
                let config = ChunkConfig::default().with_compression_level(PCO_LEVEL);
                simple_compress_into(&self.intensities, &config, &mut *packed).map_err(std::io::Error::other)?;
                packed.extend(crc32c::crc32c(packed).to_le_bytes());
            }
        }
        Ok(())
    }
}

/// Decompresses chunks, into the same buffers.
pub(crate) struct Unpacker {
    zstd: Decompressor<'static>,
    intensities: Vec<u16>,
}

impl Unpacker {
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self { zstd: Decompressor::new()?, intensities: Vec::new() })
    }

    /// Whether a chunk of so many bytes can be packed into as many as `packed`.
    pub(crate) fn can_be(data_type: DataType, packed: u64, bytes: usize) -> bool {
        packed <= most_packed(data_type, bytes) as u64
    }

    /// Puts the chunk of `bytes` bytes into `chunk`, in place of what is there, or says what is wrong with it.
    pub(crate) fn unpack(&mut self, data_type: DataType, packed: &[u8], bytes: usize, chunk: &mut Vec<u8>) -> Result<(), String> {
        chunk.clear();
        let found = match data_type {
            DataType::U8 => {
                chunk.reserve(bytes);
                self.zstd.decompress_to_buffer(packed, chunk).map_err(|error| format!("cannot be decompressed: {error}"))?
            }
            DataType::U16 => {
                let Some((packed, checksum)) = packed.split_last_chunk::<CHECKSUM>() else {
                    return Err("is shorter than its checksum".into());
                };
                if crc32c::crc32c(packed).to_le_bytes() != *checksum {
                    return Err("does not have its checksum".into());
                }
                self.intensities.resize(bytes / 2, 0);
                let done =
                    simple_decompress_into(packed, &mut self.intensities).map_err(|error| format!("cannot be decompressed: {error}"))?;
                if !done.finished {
                    return Err(format!("has more than {bytes} bytes"));
                }
                let found = &self.intensities[..done.n_processed];
                chunk.resize(2 * found.len(), 0);
                chunk.as_chunks_mut().0.iter_mut().zip(found).for_each(|(bytes, value)| *bytes = value.to_le_bytes());
                chunk.len()
            }
        };
        if found == bytes { Ok(()) } else { Err(format!("has {found} bytes, expected {bytes}")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(voxels: usize) -> Vec<u8> {
        let noise = |at: usize| (400 + ((at * 2_654_435_761) >> 7) % 97 + at / 50) as u16;
        (0..voxels).flat_map(|at| noise(at).to_le_bytes()).collect()
    }

    #[test]
    fn a_chunk_comes_back_and_noise_takes_less_than_its_bytes() {
        for (data_type, most) in [(DataType::U8, 1.0), (DataType::U16, 0.5)] {
            for voxels in [1, 2, 255, 257, 20_000] {
                let (chunk, mut packed, mut found) = (chunk(voxels), Vec::new(), b"what was there".to_vec());
                Packer::new(data_type).unwrap().pack(&chunk, &mut packed).unwrap();
                assert!(Unpacker::can_be(data_type, packed.len() as u64, chunk.len()), "{} of {}", packed.len(), chunk.len());
                assert!(voxels < 20_000 || (packed.len() as f64) < most * chunk.len() as f64, "{} of {}", packed.len(), chunk.len());
                Unpacker::new().unwrap().unpack(data_type, &packed, chunk.len(), &mut found).unwrap();
                assert!(found == chunk, "{data_type:?}, {voxels} voxels");
            }
        }
    }

    /// Whoever forges a chunk can forge its checksum too.
    #[test]
    fn forged_chunks_are_refused_or_are_some_chunk_and_nothing_panics() {
        let (chunk, mut packed, mut found) = (chunk(3000), Vec::new(), Vec::new());
        Packer::new(DataType::U16).unwrap().pack(&chunk, &mut packed).unwrap();
        packed.truncate(packed.len() - CHECKSUM);
        let mut unpacker = Unpacker::new().unwrap();
        let mut unpack = |body: &[u8]| {
            let sealed = [body, &crc32c::crc32c(body).to_le_bytes()].concat();
            unpacker.unpack(DataType::U16, &sealed, chunk.len(), &mut found)
        };
        unpack(&packed).unwrap();
        let mut refused = (0..packed.len()).filter(|length| unpack(&packed[..*length]).is_err()).count();
        assert_eq!(refused, packed.len(), "each of the shorter ones");
        for at in 0..packed.len() {
            for flip in [0x01, 0x10, 0x80, 0xff] {
                let mut forged = packed.clone();
                forged[at] ^= flip;
                refused += usize::from(unpack(&forged).is_err());
            }
        }
        assert!(refused > packed.len(), "none of the changed ones was refused");
        let mut short = Vec::new();
        assert!(unpacker.unpack(DataType::U16, &packed, 10, &mut short).is_err(), "more voxels than a chunk has");
        assert!(unpacker.unpack(DataType::U16, &[1, 2], 10, &mut short).unwrap_err().contains("shorter than its checksum"));
    }
}
