//! Shards: chunks that are compressed each by itself, and behind them a table of where each lies.
//!
//! A chunk of zeros alone is not stored. The table has a checksum of its own, and so has every chunk.

use std::io;
use std::ops::Range;

use crate::PreparedError;
use crate::archive::{Archive, Content};
use crate::codec::{Packer, Unpacker};
use crate::zarr::{Cut, DataType, shard_entry};

/// What the table has for the begin and the length of a chunk that is not stored.
const ABSENT: u64 = u64::MAX;

/// Bytes of the table for each chunk, and of its checksum.
const PLACE: usize = 16;
const CHECKSUM: usize = 4;

/// Makes shards.
pub(crate) struct ShardWriter {
    cut: Cut,
    packer: Packer,
    chunk: Vec<u8>,
    packed: Vec<u8>,
}

impl ShardWriter {
    pub(crate) fn new(cut: Cut, data_type: DataType) -> io::Result<Self> {
        let chunk = vec![0; cut.chunk_voxels() * data_type.bytes()];
        Ok(Self { cut, packer: Packer::new(data_type)?, chunk, packed: Vec::new() })
    }

    /// The shard of a slab in C order, whole along the two faster axes; none if all voxels are 0.
    pub(crate) fn shard(&mut self, slab: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let chunks = self.cut.chunks();
        let (mut shard, mut table) = (Vec::new(), Vec::with_capacity(chunks.iter().product::<usize>() * PLACE + CHECKSUM));
        for place in places(chunks.map(|chunks| 0..chunks)) {
            self.cut_out(slab, place);
            let (begin, length) = if self.chunk.iter().all(|byte| *byte == 0) {
                (ABSENT, ABSENT)
            } else {
                self.packer.pack(&self.chunk, &mut self.packed)?;
                shard.extend_from_slice(&self.packed);
                ((shard.len() - self.packed.len()) as u64, self.packed.len() as u64)
            };
            table.extend([begin, length].map(u64::to_le_bytes).as_flattened());
        }
        if shard.is_empty() {
            return Ok(None);
        }
        let checksum = crc32c::crc32c(&table).to_le_bytes();
        shard.extend([&table[..], &checksum].concat());
        Ok(Some(shard))
    }

    /// Copies a chunk of the slab; what lies beyond the slab is 0.
    fn cut_out(&mut self, slab: &[u8], place: [usize; 3]) {
        let Cut { shape: [_, height, width], chunk: [depth, rows, columns], .. } = self.cut;
        let bytes = self.chunk.len() / self.cut.chunk_voxels();
        let (plane, left) = (height * width * bytes, place[2] * columns);
        let row_bytes = columns.min(width - left) * bytes;
        self.chunk.fill(0);
        for (row, to) in self.chunk.chunks_exact_mut(columns * bytes).enumerate() {
            let [i, j] = [place[0] * depth + row / rows, place[1] * rows + row % rows];
            if (i + 1) * plane <= slab.len() && j < height {
                to[..row_bytes].copy_from_slice(&slab[i * plane + (j * width + left) * bytes..][..row_bytes]);
            }
        }
    }
}

/// Reads chunks of the arrays of a case, into the same buffers.
pub(crate) struct ShardReader<'a> {
    archive: &'a Archive,
    cut: Cut,
    unpacker: Unpacker,
    table: Vec<u8>,
    packed: Vec<u8>,
    chunk: Vec<u8>,
}

impl<'a> ShardReader<'a> {
    pub(crate) fn new(archive: &'a Archive, cut: Cut) -> Result<Self, PreparedError> {
        let unpacker = Unpacker::new().map_err(|error| archive.damaged(format!("no chunk can be decompressed: {error}")))?;
        Ok(Self { archive, cut, unpacker, table: Vec::new(), packed: Vec::new(), chunk: Vec::new() })
    }

    /// Hands every chunk that has voxels of the region to `visit`, with its first voxel: its bytes in C order, also those beyond
    /// the array. The region lies inside the array.
    pub(crate) fn visit(
        &mut self,
        array: &str,
        data_type: DataType,
        region: &[Range<usize>; 3],
        mut visit: impl FnMut([usize; 3], &[u8]) -> Result<(), PreparedError>,
    ) -> Result<(), PreparedError> {
        if region.iter().any(Range::is_empty) {
            return Ok(());
        }
        let Cut { shard, chunk, .. } = self.cut;
        for place in places(touched(region, shard)) {
            let name = shard_entry(array, place);
            let content = self.archive.content(&name)?;
            if let Some(content) = content {
                self.read_table(&name, content)?;
            }
            let first: [usize; 3] = std::array::from_fn(|axis| place[axis] * shard[axis]);
            let within = std::array::from_fn(|axis| {
                region[axis].start.saturating_sub(first[axis])..(region[axis].end - first[axis]).min(shard[axis])
            });
            for place in places(touched(&within, chunk)) {
                self.read_chunk(&name, content, place, data_type)?;
                visit(std::array::from_fn(|axis| first[axis] + place[axis] * chunk[axis]), &self.chunk)?;
            }
        }
        Ok(())
    }

    /// Reads and checks the table of a shard.
    fn read_table(&mut self, name: &str, content: Content) -> Result<(), PreparedError> {
        let chunks = self.cut.chunks().iter().try_fold(1, |all: usize, chunks| all.checked_mul(*chunks));
        let bytes = chunks.and_then(|chunks| chunks.checked_mul(PLACE)?.checked_add(CHECKSUM)).map(|bytes| bytes as u64);
        let Some(bytes) = bytes.filter(|bytes| *bytes <= content.size) else {
            return Err(self.archive.damaged(format!("its shard {name} of {} bytes is shorter than its table of chunks", content.size)));
        };
        self.archive.read(content.begin + content.size - bytes, bytes, &mut self.table)?;
        let checksum = self.table.split_off(self.table.len() - CHECKSUM);
        if crc32c::crc32c(&self.table).to_le_bytes() != checksum[..] {
            return Err(self.archive.damaged(format!("the table of its shard {name} does not have its checksum")));
        }
        Ok(())
    }

    /// Decodes the chunk at a place of a shard, or fills in zeros.
    fn read_chunk(&mut self, name: &str, content: Option<Content>, place: [usize; 3], data_type: DataType) -> Result<(), PreparedError> {
        let [_, rows, columns] = self.cut.chunks();
        let bytes = self.cut.chunk_voxels() * data_type.bytes();
        let at = ((place[0] * rows + place[1]) * columns + place[2]) * PLACE;
        let stored = content.and_then(|content| {
            let entry = &self.table[at..at + PLACE];
            let [begin, length] = [0, 8].map(|at| entry[at..at + 8].iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)));
            (begin != ABSENT).then_some((content, begin, length))
        });
        let Some((content, begin, length)) = stored else {
            self.chunk.clear();
            self.chunk.resize(bytes, 0);
            return Ok(());
        };
        let damaged = |reason: String| self.archive.damaged(format!("a chunk of its shard {name} {reason}"));
        if begin.checked_add(length).is_none_or(|end| end > content.size) || !Unpacker::can_be(data_type, length, bytes) {
            return Err(damaged(format!("would be the {length} bytes at {begin} of {}", content.size)));
        }
        self.archive.read(content.begin + begin, length, &mut self.packed)?;
        self.unpacker.unpack(data_type, &self.packed, bytes, &mut self.chunk).map_err(damaged)
    }
}

/// The pieces of a size that have voxels of a region.
fn touched(region: &[Range<usize>; 3], piece: [usize; 3]) -> [Range<usize>; 3] {
    std::array::from_fn(|axis| region[axis].start / piece[axis]..region[axis].end.div_ceil(piece[axis]))
}

/// All places of some ranges, the last axis fastest.
fn places([first, second, third]: [Range<usize>; 3]) -> impl Iterator<Item = [usize; 3]> {
    first.flat_map(move |i| {
        let third = third.clone();
        second.clone().flat_map(move |j| third.clone().map(move |k| [i, j, k]))
    })
}
