//! Goes over the elements of a file, in bounded memory whatever it declares.

use std::fs::File;
use std::io::{BufReader, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use dicom_core::{Tag, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_encoding::transfer_syntax::TransferSyntaxIndex as _;
use dicom_encoding::{Endianness, TransferSyntax};
use dicom_parser::StatefulDecode as _;
use dicom_parser::dataset::LazyDataToken;
use dicom_parser::dataset::lazy_read::LazyDataSetReader;
use dicom_transfer_syntax_registry::TransferSyntaxRegistry;

use crate::error::{Problem, element};

/// The first bytes of a file: 128 of no meaning, and a mark.
const PREAMBLE: u64 = 128;
const MARK: &[u8; 4] = b"DICM";

/// No image nests its sequences deeper.
const DEEPEST: usize = 16;

/// Values of more bytes than this are passed over: no element that is asked for is so long.
const MOST_VALUE: u64 = 1 << 12;

/// Elements of more bytes than this in a file before its pixels, which none has, are not gone over.
const MOST_TOKENS: u64 = 1 << 24;

/// Where an element stands: the sequences that it is in, each with the number of the item, from 0.
pub(crate) type Place<'a> = &'a [(Tag, usize)];

/// The bytes of a value, and how to read numbers in them.
pub(crate) struct Value {
    pub(crate) vr: VR,
    pub(crate) bytes: Vec<u8>,
    pub(crate) big_endian: bool,
}

impl Value {
    pub(crate) fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.bytes);
        text.trim_matches(|c: char| c.is_whitespace() || c == '\0').to_owned()
    }

    /// The numbers of a text, if all that it holds are some.
    pub(crate) fn list(&self) -> Option<Vec<f64>> {
        let number = |text: &str| text.trim().parse().ok().filter(|number: &f64| number.is_finite());
        self.text().split('\\').map(number).collect()
    }

    /// So many numbers of a text.
    pub(crate) fn numbers<const N: usize>(&self) -> Option<[f64; N]> {
        self.list()?.try_into().ok()
    }

    pub(crate) fn integer(&self) -> Option<i64> {
        self.text().parse().ok()
    }

    /// A number of 16 bits without sign.
    pub(crate) fn short(&self) -> Option<u16> {
        let bytes = self.bytes.get(..2)?.try_into().ok()?;
        Some(if self.big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    }
}

/// How a file stores its elements, and where its pixels are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) syntax: String,
    pub(crate) big_endian: bool,
    /// Where the value of the pixels begins, and its length if it is not packed.
    pub(crate) pixels: Option<(u64, Option<u64>)>,
}

/// Whether the file begins as DICOM files do.
#[must_use]
pub fn looks_like_dicom(path: &Path) -> bool {
    let mut start = [0; PREAMBLE as usize + 4];
    path.is_file() && File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok() && start.ends_with(MARK)
}

/// Gives each short value up to the pixels to `take`, with its place.
pub(crate) fn each_value(path: &Path, take: impl FnMut(Place<'_>, Tag, &Value)) -> Result<Layout, Problem> {
    each_value_within(path, |_| MOST_VALUE, take)
}

/// The same of values of at most so many bytes as `most` says of their element, and of all short ones.
pub(crate) fn each_value_within(
    path: &Path,
    most: fn(Tag) -> u64,
    mut take: impl FnMut(Place<'_>, Tag, &Value),
) -> Result<Layout, Problem> {
    let io = |error| Problem::Io { doing: "read the file", error };
    let file = File::open(path).map_err(io)?;
    let bytes = file.metadata().map_err(io)?.len();
    let mut file = BufReader::with_capacity(1 << 14, file);
    file.seek(SeekFrom::Start(PREAMBLE)).map_err(io)?;
    let mut mark = [0; 4];
    file.read_exact(&mut mark).map_err(io)?;
    if &mark != MARK {
        return Err(element("mark", format!("{mark:?}"), "DICM after 128 bytes", "the file is no DICOM file"));
    }
    // The first group is always in explicit little endian and says how the others are stored.
    let Some(explicit) = TransferSyntaxRegistry.get(uids::EXPLICIT_VR_LITTLE_ENDIAN) else { unreachable!("every registry has it") };
    let mut syntax = String::new();
    let mut meta = Walk { file: &mut file, bytes, syntax: explicit, only_group: Some(2), most };
    let (begin, _) = meta.go(|_, tag, value| {
        if tag == tags::TRANSFER_SYNTAX_UID {
            syntax = value.text();
        }
    })?;
    let Some(known) = TransferSyntaxRegistry.get(&syntax) else {
        return Err(Problem::Syntax { uid: syntax, name: "something unknown" });
    };
    if syntax == uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN {
        return Err(Problem::Syntax { uid: syntax, name: "deflated elements" });
    }
    file.seek(SeekFrom::Start(begin)).map_err(io)?;
    let (_, pixels) = Walk { file: &mut file, bytes, syntax: known, only_group: None, most }.go(&mut take)?;
    Ok(Layout { big_endian: known.endianness() == Endianness::Big, syntax, pixels })
}

/// What an element's pixels are.
type Pixels = Option<(u64, Option<u64>)>;

struct Walk<'a> {
    file: &'a mut BufReader<File>,
    bytes: u64,
    syntax: &'a TransferSyntax,
    /// The only group that is wanted; the first element of another one ends the walk.
    only_group: Option<u16>,
    /// The most bytes of a value that is read.
    most: fn(Tag) -> u64,
}

impl Walk<'_> {
    /// Goes over the elements up to the pixels, and says where it ended and where these are.
    fn go(&mut self, mut take: impl FnMut(Place<'_>, Tag, &Value)) -> Result<(u64, Pixels), Problem> {
        let damaged = |error: &dyn std::fmt::Display| Problem::Damaged(error.to_string());
        let (bytes, only_group, most) = (self.bytes, self.only_group, self.most);
        let big_endian = self.syntax.endianness() == Endianness::Big;
        let mut begin = self.file.stream_position().map_err(|error| Problem::Io { doing: "read the file", error })?;
        let mut reader = LazyDataSetReader::new_with_ts(&mut *self.file, self.syntax).map_err(|error| damaged(&error))?;
        // For each sequence, how many items have begun, and whether the last of them is open. The reader of elements relies on it that
        // items end where they have begun.
        let (mut place, mut items) = (Vec::<(Tag, usize)>::new(), Vec::<(usize, bool)>::new());
        for _ in 0..MOST_TOKENS {
            let token = match reader.advance() {
                None if place.is_empty() => return Ok((begin, None)),
                None => return Err(Problem::Damaged("the file ends within a sequence".into())),
                Some(token) => token.map_err(|error| damaged(&error))?,
            };
            match token {
                LazyDataToken::ElementHeader(header) => {
                    if only_group.is_some_and(|group| header.tag.group() != group) {
                        return Ok((begin, None));
                    }
                }
                LazyDataToken::LazyValue { header, decoder } => {
                    let (tag, declared, at) = (header.tag, u64::from(header.len.0), decoder.position());
                    let left = bytes.saturating_sub(at);
                    let is_pixels = place.is_empty() && tag == tags::PIXEL_DATA;
                    if declared > left {
                        return Err(Problem::Truncated { tag: tag.to_string(), declared, left });
                    }
                    if is_pixels {
                        return Ok((begin, Some((at, Some(declared)))));
                    }
                    let mut value = Value { vr: header.vr(), bytes: Vec::new(), big_endian };
                    if declared <= most(tag).max(MOST_VALUE) {
                        decoder.read_to_vec(header.len.0, &mut value.bytes).map_err(|error| damaged(&error))?;
                        take(&place, tag, &value);
                    } else {
                        decoder.skip_bytes(header.len.0).map_err(|error| damaged(&error))?;
                    }
                    begin = decoder.position();
                }
                LazyDataToken::PixelSequenceStart if place.is_empty() => {
                    return Ok((begin, Some((reader.into_decoder().position(), None))));
                }
                LazyDataToken::SequenceStart { tag, len } => {
                    // In the first group, a sequence is damage; elsewhere as long as it is said to be.
                    if only_group.is_some() {
                        return Ok((begin, None));
                    }
                    if let Some(declared) = len.get().map(u64::from).filter(|&declared| declared > bytes) {
                        return Err(Problem::Truncated { tag: tag.to_string(), declared, left: bytes });
                    }
                    if place.len() == DEEPEST {
                        return Err(Problem::Nested(DEEPEST));
                    }
                    place.push((tag, 0));
                    items.push((0, false));
                }
                LazyDataToken::ItemStart { .. } => match (place.last_mut(), items.last_mut()) {
                    (Some((_, item)), Some((count, open))) if !*open => {
                        (*item, *count, *open) = (*count, *count + 1, true);
                    }
                    _ => return Err(Problem::Damaged("an item outside a sequence".into())),
                },
                LazyDataToken::ItemEnd => match items.last_mut() {
                    Some((_, open)) if *open => *open = false,
                    _ => return Err(Problem::Damaged("the end of an item that has not begun".into())),
                },
                LazyDataToken::SequenceEnd => {
                    if items.pop().is_none_or(|(_, open)| open) {
                        return Err(Problem::Damaged("the end of a sequence within an item or outside a sequence".into()));
                    }
                    place.pop();
                }
                _ => return Err(Problem::Damaged("packed pixels within a sequence".into())),
            }
        }
        Err(Problem::Damaged(format!("more than {MOST_TOKENS} elements")))
    }
}
