//! The two formats of `torch.save`: a ZIP archive since PyTorch 1.6, and pickles with the numbers behind them before.

use std::collections::HashMap;
use std::io::{Cursor, Read as _};
use std::ops::Range;

use zip::{CompressionMethod, ZipArchive};

use crate::error::Problem;
use crate::machine::{self, MOST_BYTES};
use crate::object::{Id, Object, Objects};
use crate::tensor::element_bytes;

/// A file, taken apart.
pub(crate) struct Archive<'b> {
    pub(crate) objects: Objects,
    pub(crate) root: Id,
    bytes: &'b [u8],
    /// Key of a storage → where its numbers lie.
    storages: HashMap<String, Range<usize>>,
}

/// What an old file begins with: a pickle of the number 0x1950a86a20f9469cfc6c.
const OLD_MAGIC: [u8; 15] = [0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, b'.'];

impl<'b> Archive<'b> {
    pub(crate) fn open(bytes: &'b [u8]) -> Result<Self, Problem> {
        match bytes {
            [] => Err(Problem::Damaged("the file is empty".into())),
            _ if bytes.starts_with(b"PK\x03\x04") => Self::zip(bytes),
            _ if bytes.starts_with(&OLD_MAGIC) => Self::old(bytes),
            [0x80, ..] => Err(Problem::Foreign("a pickle that torch.save did not write")),
            _ if bytes.get(8) == Some(&b'{') => Err(Problem::Foreign("what looks like safetensors; give it the ending .safetensors")),
            _ if bytes.starts_with(b"\x89HDF") => Err(Problem::Foreign("an HDF5 file")),
            _ if bytes.get(257..262) == Some(b"ustar") => Err(Problem::Foreign("a tar archive")),
            _ => Err(Problem::Damaged("the file begins neither as a ZIP archive nor as a pickle".into())),
        }
    }

    /// The numbers of a storage.
    pub(crate) fn storage(&self, key: &str) -> Option<&'b [u8]> {
        self.bytes.get(self.storages.get(key)?.clone())
    }

    fn zip(bytes: &'b [u8]) -> Result<Self, Problem> {
        let damaged = |error: zip::result::ZipError| Problem::Damaged(format!("the ZIP archive is damaged ({error})"));
        let mut zip = ZipArchive::new(Cursor::new(bytes)).map_err(damaged)?;
        let mut storages = HashMap::new();
        let mut pickle = None;
        for index in 0..zip.len() {
            let mut entry = zip.by_index(index).map_err(damaged)?;
            let name = entry.name().map_err(damaged)?.into_owned();
            let inside = name.split_once('/').map_or(name.as_str(), |(_, inside)| inside);
            if inside == "constants.pkl" || inside.starts_with("code/") {
                return Err(Problem::Foreign("a TorchScript archive"));
            }
            if inside == "byteorder" {
                let mut order = String::new();
                // Errors show when the text is compared.
                let _ = entry.by_ref().take(16).read_to_string(&mut order);
                if order.trim() != "little" {
                    return Err(Problem::Foreign("numbers in another byte order"));
                }
            }
            let key = inside.strip_prefix("data/");
            if key.is_none() && inside != "data.pkl" {
                continue;
            }
            // What is packed could be any number of times as long when it is unpacked; torch.save packs nothing.
            let range = (entry.compression() == CompressionMethod::Stored)
                .then(|| {
                    let start = usize::try_from(entry.data_start()?).ok()?;
                    let end = start.checked_add(usize::try_from(entry.size()).ok()?)?;
                    (end <= bytes.len()).then_some(start..end)
                })
                .flatten()
                .ok_or_else(|| Problem::Damaged(format!("the entry {name} is packed, or ends beyond the file")))?;
            match key {
                Some(key) => drop(storages.insert(key.to_owned(), range)),
                None => pickle = Some(range),
            }
        }
        let pickle = pickle.ok_or(Problem::Foreign("a ZIP archive without data.pkl"))?;
        if pickle.len() > MOST_BYTES {
            return Err(Problem::Damaged(format!("data.pkl has {} bytes, more than any state dict", pickle.len())));
        }
        let mut objects = Objects::default();
        let (root, _) = machine::run(&bytes[pickle], &mut objects)?;
        Ok(Self { objects, root, bytes, storages })
    }

    /// Magic, version, system, the object, the keys of its storages, and then each storage: its length and its numbers.
    fn old(bytes: &'b [u8]) -> Result<Self, Problem> {
        let mut objects = Objects::default();
        let mut rest = &bytes[OLD_MAGIC.len()..];
        for _ in 0..2 {
            rest = machine::run(rest, &mut Objects::default())?.1;
        }
        let (root, after) = machine::run(rest, &mut objects)?;
        let mut keys = Objects::default();
        let (list, mut rest) = machine::run(after, &mut keys)?;
        let Object::List(list) = keys.get(list) else { return Err(Problem::Damaged("the list of storages is missing".into())) };
        let mut classes = HashMap::new();
        for object in objects.all() {
            if let Object::Storage { class, key, .. } = object {
                classes.insert(key.as_str(), class.as_str());
            }
        }
        let mut storages = HashMap::new();
        for key in list.iter().filter_map(|key| keys.text(*key)) {
            let size = classes.get(key).and_then(|class| element_bytes(class));
            let size = size.ok_or_else(|| Problem::Damaged(format!("nothing is known of the storage {key}")))?;
            let cut = || Problem::Damaged(format!("the file ends within the storage {key}"));
            let (elements, numbers) = rest.split_first_chunk::<8>().ok_or_else(cut)?;
            let length = usize::try_from(u64::from_le_bytes(*elements)).ok().and_then(|n| n.checked_mul(size)).ok_or_else(cut)?;
            if length > numbers.len() {
                return Err(cut());
            }
            let start = bytes.len() - numbers.len();
            storages.insert(key.to_owned(), start..start + length);
            rest = &numbers[length..];
        }
        Ok(Self { objects, root, bytes, storages })
    }
}
