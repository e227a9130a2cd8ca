//! ZIP archives of entries that are stored as they are, read at any place.
//!
//! The central directory stands at the end, and what is read of every case right before it, so that one read of the end finds
//! both. A ZIP has no checksum over its central directory; ours stands in the comment of the archive. It tells a damaged name from
//! an entry that is not there.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use crate::PreparedError;

const LOCAL: [u8; 4] = *b"PK\x03\x04";
const CENTRAL: [u8; 4] = *b"PK\x01\x02";
const END: [u8; 4] = *b"PK\x05\x06";

/// Bytes of these records without names and the like.
const LOCAL_LENGTH: usize = 30;
const CENTRAL_LENGTH: usize = 46;
const END_LENGTH: usize = 22;

/// What the comment begins with; the checksum of the central directory follows in hexadecimal digits.
const COMMENT: &str = "crc32c of the central directory: ";

/// Bytes at the end that are read at once; they hold the central directory and the metadata of any but the longest scans.
const TAIL: u64 = 1 << 15;

/// An archive that is being written, from its beginning to its end.
pub(crate) struct ArchiveWriter<'w, W> {
    out: &'w mut W,
    length: u64,
    central: Vec<u8>,
    entries: u16,
}

impl<'w, W: Write> ArchiveWriter<'w, W> {
    pub(crate) fn new(out: &'w mut W) -> Self {
        Self { out, length: 0, central: Vec::new(), entries: 0 }
    }

    /// Adds an entry. No time is written, so that the same entries give the same bytes.
    pub(crate) fn add(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let offset = u32::try_from(self.length).map_err(too_large)?.to_le_bytes();
        let size = u32::try_from(bytes.len()).map_err(too_large)?.to_le_bytes();
        let name_length = u16::try_from(name.len()).map_err(too_large)?.to_le_bytes();
        self.entries = self.entries.checked_add(1).filter(|&entries| entries < u16::MAX).ok_or_else(|| too_large(()))?;
        // Version 2.0, names in UTF-8, stored, 0 o'clock on the first day of 1980.
        let manner = [20, 0, 0, 8, 0, 0, 0, 0, 0x21, 0];
        let crc = crc32fast::hash(bytes).to_le_bytes();
        let sizes = [&crc[..], &size, &size, &name_length, &[0; 2]].concat();
        let local = [&LOCAL[..], &manner, &sizes, name.as_bytes()].concat();
        self.central.extend([&CENTRAL[..], &[20, 0], &manner, &sizes, &[0; 10], &offset, name.as_bytes()].concat());
        self.length += (local.len() + bytes.len()) as u64;
        self.out.write_all(&local)?;
        self.out.write_all(bytes)
    }

    /// Writes the central directory.
    pub(crate) fn finish(self) -> io::Result<()> {
        let offset = u32::try_from(self.length).map_err(too_large)?.to_le_bytes();
        let size = u32::try_from(self.central.len()).map_err(too_large)?.to_le_bytes();
        let comment = format!("{COMMENT}{:08x}", crc32c::crc32c(&self.central));
        let entries = self.entries.to_le_bytes();
        let comment_length = (comment.len() as u16).to_le_bytes();
        let end = [&END[..], &[0; 4], &entries, &entries, &size, &offset, &comment_length, comment.as_bytes()].concat();
        self.out.write_all(&self.central)?;
        self.out.write_all(&end)
    }
}

fn too_large<E>(_: E) -> io::Error {
    io::Error::other("the case needs more than the 4 GiB or 65534 entries of a ZIP; prepare it at a coarser spacing")
}

/// An entry of an archive, as the central directory has it.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Where its local record begins.
    offset: u64,
    size: u64,
    crc: u32,
}

/// An entry whose bytes can be read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Content {
    /// Where its bytes begin in the file.
    pub(crate) begin: u64,
    /// How many there are.
    pub(crate) size: u64,
    crc: u32,
}

/// An archive, open for reading.
#[derive(Debug)]
pub(crate) struct Archive {
    path: PathBuf,
    file: File,
    /// The last bytes of the file, and where they begin.
    tail: Vec<u8>,
    tail_begin: u64,
    entries: HashMap<String, Entry>,
}

impl Archive {
    pub(crate) fn open(path: &Path) -> Result<Self, PreparedError> {
        let unreadable = |reason| PreparedError::Read { path: path.to_owned(), reason };
        let file = File::open(path).map_err(unreadable)?;
        let length = file.metadata().map_err(unreadable)?.len();
        let tail_begin = length.saturating_sub(TAIL);
        let mut tail = vec![0; (length - tail_begin) as usize];
        file.read_exact_at(&mut tail, tail_begin).map_err(unreadable)?;
        let mut archive = Self { path: path.to_owned(), file, tail, tail_begin, entries: HashMap::new() };
        let truncated = || archive.damaged(format!("its {length} bytes do not end as a ZIP archive does"));
        let end = find_end(&archive.tail).ok_or_else(truncated)?;
        let end_begin = tail_begin + end as u64;
        let record = &archive.tail[end..];
        let [entries, size, offset] = [u64::from(u16_at(record, 10)), u64::from(u32_at(record, 12)), u64::from(u32_at(record, 16))];
        if offset + size != end_begin {
            let reason = format!("its central directory would be the {size} bytes at {offset}, expected to end at {end_begin}");
            return Err(archive.damaged(reason));
        }
        let comment = record[END_LENGTH..].to_vec();
        let central = archive.bytes(offset, size)?;
        let expected = comment.strip_prefix(COMMENT.as_bytes());
        if expected.is_some_and(|expected| format!("{:08x}", crc32c::crc32c(&central)).as_bytes() != expected) {
            return Err(archive.damaged("its central directory does not have the checksum of the comment".into()));
        }
        let directory = directory(&central, offset).filter(|directory| directory.len() as u64 == entries);
        archive.entries =
            directory.ok_or_else(|| archive.damaged(format!("its central directory is not one of {entries} stored entries")))?;
        Ok(archive)
    }

    /// The error that this file is damaged.
    pub(crate) fn damaged(&self, reason: String) -> PreparedError {
        PreparedError::Damaged { path: self.path.clone(), reason }
    }

    /// The error that this file is something else.
    pub(crate) fn not_prepared(&self, reason: String) -> PreparedError {
        PreparedError::NotPrepared { path: self.path.clone(), reason }
    }

    /// The names of all entries, in any order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// An entry, if there is one of that name. What stands before its bytes is read.
    pub(crate) fn content(&self, name: &str) -> Result<Option<Content>, PreparedError> {
        let Some(&Entry { offset, size, crc }) = self.entries.get(name) else { return Ok(None) };
        let local = self.bytes(offset, (LOCAL_LENGTH + name.len()) as u64)?;
        if local[..4] != LOCAL || &local[LOCAL_LENGTH..] != name.as_bytes() || usize::from(u16_at(&local, 26)) != name.len() {
            return Err(self.damaged(format!("its entry {name} does not begin at {offset}")));
        }
        let begin = offset + local.len() as u64 + u64::from(u16_at(&local, 28));
        Ok(Some(Content { begin, size, crc }))
    }

    /// All of an entry that is text; at most `most` bytes.
    pub(crate) fn text(&self, name: &str, most: u64) -> Result<Option<Vec<u8>>, PreparedError> {
        let Some(content) = self.content(name)? else { return Ok(None) };
        if content.size > most {
            return Err(self.not_prepared(format!("its entry {name} has {} bytes, expected at most {most}", content.size)));
        }
        let bytes = self.bytes(content.begin, content.size)?;
        if crc32fast::hash(&bytes) != content.crc {
            return Err(self.damaged(format!("its entry {name} does not have the checksum of the central directory")));
        }
        Ok(Some(bytes))
    }

    fn bytes(&self, begin: u64, length: u64) -> Result<Vec<u8>, PreparedError> {
        let mut bytes = Vec::new();
        self.read(begin, length, &mut bytes)?;
        Ok(bytes)
    }

    /// Reads bytes of the file into `to`, in place of what it holds.
    pub(crate) fn read(&self, begin: u64, length: u64, to: &mut Vec<u8>) -> Result<(), PreparedError> {
        let end = self.tail_begin + self.tail.len() as u64;
        if begin.checked_add(length).is_none_or(|last| last > end) {
            return Err(self.damaged(format!("it refers to {length} bytes at {begin}, and has {end} bytes in all")));
        }
        to.clear();
        if let Some(from) = begin.checked_sub(self.tail_begin) {
            to.extend_from_slice(&self.tail[from as usize..][..length as usize]);
            return Ok(());
        }
        to.resize(length as usize, 0);
        self.file.read_exact_at(to, begin).map_err(|reason| PreparedError::Read { path: self.path.clone(), reason })
    }
}

/// Where the last record begins: one whose comment goes to the very end.
fn find_end(tail: &[u8]) -> Option<usize> {
    let fits = |&begin: &usize| tail[begin..].starts_with(&END) && begin + END_LENGTH + usize::from(u16_at(tail, begin + 20)) == tail.len();
    (0..=tail.len().checked_sub(END_LENGTH)?).rev().find(fits)
}

/// The entries by name; nothing if the bytes are no central directory at `begin`, or hold what we do not read.
fn directory(central: &[u8], begin: u64) -> Option<HashMap<String, Entry>> {
    let (mut entries, mut at) = (HashMap::new(), 0);
    while at < central.len() {
        let record = central.get(at..).filter(|record| record.len() >= CENTRAL_LENGTH && record.starts_with(&CENTRAL))?;
        let [flags, method, name, extra, comment] = [8, 10, 28, 30, 32].map(|place| usize::from(u16_at(record, place)));
        let entry = Entry { offset: u32_at(record, 42).into(), size: u32_at(record, 24).into(), crc: u32_at(record, 16) };
        let is_stored = method == 0 && flags & 1 == 0 && u32_at(record, 20) == u32_at(record, 24);
        // What needs 64 bits has all ones here, and cannot lie before the directory.
        if !is_stored || entry.offset + entry.size > begin {
            return None;
        }
        let name_bytes = record.get(CENTRAL_LENGTH..CENTRAL_LENGTH + name)?;
        entries.insert(std::str::from_utf8(name_bytes).ok()?.to_owned(), entry);
        at += CENTRAL_LENGTH + name + extra + comment;
    }
    (at == central.len()).then_some(entries)
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
