//! TensorBoard event files: TFRecord frames around hand-encoded `Event` messages with scalar summaries.

use std::fs::{File, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crc32c::crc32c;

/// An event file that grows while training goes on; TensorBoard may watch it meanwhile.
pub struct EventFile {
    path: PathBuf,
    file: File,
    length: u64,
}

/// Why events cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the event file {path}: {reason}; check that the disk has room and the folder may be written")]
pub struct EventError {
    path: PathBuf,
    reason: std::io::Error,
}

impl EventFile {
    /// Opens `path` and keeps its first `length` bytes: what came after them was written by an attempt that ended
    /// before its next checkpoint, and training is about to write it again. A file shorter than that (or none) is
    /// begun anew.
    ///
    /// # Errors
    /// When the file cannot be opened or written.
    pub fn resume(path: &Path, length: u64) -> Result<Self, EventError> {
        let failed = |reason| EventError { path: path.into(), reason };
        let mut file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path).map_err(failed)?;
        let found = file.metadata().map_err(failed)?.len();
        let length = if found < length { 0 } else { length };
        file.set_len(length).and_then(|()| file.seek(SeekFrom::End(0))).map_err(failed)?;
        let mut events = Self { path: path.into(), file, length };
        if length == 0 {
            events.append(&event(wall_time(), None, &string_field(3, "brain.Event:2")))?;
        }
        Ok(events)
    }

    /// Adds scalar values at `step`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn scalars(&mut self, step: u64, values: &[(&str, f64)]) -> Result<(), EventError> {
        let mut summary = Vec::new();
        for (tag, value) in values {
            #[expect(clippy::cast_possible_truncation, reason = "the format stores single precision")]
            let value = [string_field(1, tag), fixed32_field(2, *value as f32)].concat();
            summary.extend(bytes_field(1, &value));
        }
        self.append(&event(wall_time(), Some(step), &bytes_field(5, &summary)))
    }

    /// Makes everything written so far survive a crash, and returns its length in bytes for [`EventFile::resume`].
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn sync(&mut self) -> Result<u64, EventError> {
        self.file.sync_data().map_err(|reason| EventError { path: self.path.clone(), reason })?;
        Ok(self.length)
    }

    /// One TFRecord: length, its checksum, the data, their checksum. A record goes out in one write, so that a watching
    /// TensorBoard seldom meets half of one.
    fn append(&mut self, data: &[u8]) -> Result<(), EventError> {
        let length = (data.len() as u64).to_le_bytes();
        let record = [&length[..], &masked(&length).to_le_bytes(), data, &masked(data).to_le_bytes()].concat();
        self.file.write_all(&record).map_err(|reason| EventError { path: self.path.clone(), reason })?;
        self.length += record.len() as u64;
        Ok(())
    }
}

fn wall_time() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// TFRecord's masked checksum: rotated and shifted, so that a checksum of data with checksums stays meaningful.
fn masked(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xA282_EAD8)
}

/// `Event { double wall_time = 1; int64 step = 2; ... }` with the already encoded field `what`.
fn event(wall_time: f64, step: Option<u64>, what: &[u8]) -> Vec<u8> {
    let mut bytes = vec![1 << 3 | 1];
    bytes.extend(wall_time.to_le_bytes());
    if let Some(step) = step {
        bytes.push(2 << 3);
        bytes.extend(varint(step));
    }
    bytes.extend(what);
    bytes
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push((value & 0x7F) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn bytes_field(field: u8, bytes: &[u8]) -> Vec<u8> {
    [&[field << 3 | 2], varint(bytes.len() as u64).as_slice(), bytes].concat()
}

fn string_field(field: u8, text: &str) -> Vec<u8> {
    bytes_field(field, text.as_bytes())
}

fn fixed32_field(field: u8, value: f32) -> Vec<u8> {
    [&[field << 3 | 5], value.to_le_bytes().as_slice()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames of a TFRecord file, with both checksums of each checked.
    fn records(path: &Path) -> Vec<Vec<u8>> {
        let bytes = std::fs::read(path).unwrap();
        let mut rest = bytes.as_slice();
        let mut records = Vec::new();
        while !rest.is_empty() {
            let (length, after) = rest.split_at(8);
            let (length_crc, after) = after.split_at(4);
            let (data, after) = after.split_at(u64::from_le_bytes(length.try_into().unwrap()) as usize);
            let (data_crc, after) = after.split_at(4);
            for (part, crc) in [(length, length_crc), (data, data_crc)] {
                let crc = u32::from_le_bytes(crc.try_into().unwrap());
                // TensorFlow's unmask: subtract the constant and rotate back.
                let unmasked = crc.wrapping_sub(0xA282_EAD8).rotate_left(15);
                assert_eq!(unmasked, crc32c(part));
            }
            records.push(data.to_vec());
            rest = after;
        }
        records
    }

    /// Protobuf fields of a message: number and payload (varints and fixed values as little-endian bytes).
    fn fields(mut bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
        fn take_varint(bytes: &mut &[u8]) -> u64 {
            let mut value = 0;
            for shift in (0..).step_by(7) {
                let (first, rest) = bytes.split_first().unwrap();
                *bytes = rest;
                value |= u64::from(first & 0x7F) << shift;
                if first & 0x80 == 0 {
                    break;
                }
            }
            value
        }
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let key = take_varint(&mut bytes);
            let payload = match key & 7 {
                0 => take_varint(&mut bytes).to_le_bytes().to_vec(),
                wire => {
                    let length = match wire {
                        1 => 8,
                        5 => 4,
                        2 => take_varint(&mut bytes) as usize,
                        other => panic!("wire type {other}"),
                    };
                    let (payload, rest) = bytes.split_at(length);
                    bytes = rest;
                    payload.to_vec()
                }
            };
            fields.push((key >> 3, payload));
        }
        fields
    }

    fn scalars(path: &Path) -> Vec<(u64, String, f32)> {
        let mut found = Vec::new();
        for record in &records(path)[1..] {
            let event = fields(record);
            let step = u64::from_le_bytes(event.iter().find(|f| f.0 == 2).unwrap().1.clone().try_into().unwrap());
            for (_, value) in fields(&event.iter().find(|f| f.0 == 5).unwrap().1) {
                let value = fields(&value);
                let tag = String::from_utf8(value[0].1.clone()).unwrap();
                found.push((step, tag, f32::from_le_bytes(value[1].1.clone().try_into().unwrap())));
            }
        }
        found
    }

    #[test]
    fn scalars_are_read_back_with_their_steps_and_tags() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.out.tfevents.test");
        let mut events = EventFile::resume(&path, 0).unwrap();
        events.scalars(0, &[("train/loss", 1.5), ("train/lr", 5e-4)]).unwrap();
        events.scalars(1_000_000, &[("validation/dice", 0.75)]).unwrap();
        assert_eq!(
            scalars(&path),
            [(0, "train/loss".into(), 1.5), (0, "train/lr".into(), 5e-4), (1_000_000, "validation/dice".into(), 0.75)]
        );
        assert_eq!(fields(&records(&path)[0])[1], (3, b"brain.Event:2".to_vec()));
    }

    #[test]
    fn a_resumed_file_drops_what_came_after_the_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.out.tfevents.test");
        let mut events = EventFile::resume(&path, 0).unwrap();
        events.scalars(1, &[("loss", 1.0)]).unwrap();
        let kept = events.sync().unwrap();
        events.scalars(2, &[("loss", 2.0)]).unwrap();
        drop(events);
        let mut events = EventFile::resume(&path, kept).unwrap();
        events.scalars(2, &[("loss", 3.0)]).unwrap();
        assert_eq!(scalars(&path), [(1, "loss".into(), 1.0), (2, "loss".into(), 3.0)]);
    }

    #[test]
    fn a_lost_event_file_is_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.out.tfevents.test");
        let mut events = EventFile::resume(&path, 12345).unwrap();
        events.scalars(7, &[("loss", 1.0)]).unwrap();
        assert_eq!(scalars(&path), [(7, "loss".into(), 1.0)]);
    }
}
