//! Gzip files of one member or several, with whatever follows the last one.

use std::io::{self, BufRead, Read};

use flate2::bufread::GzDecoder;

/// The first bytes of a gzip member.
pub(super) const MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Unpacks the members of a gzip file one after another. Zeros between and after them are skipped, and anything else that is no
/// member ends the stream, as it does for zlib, gzip and what is built on them: tapes pad with zeros, editors add a newline.
pub(super) struct Members<R: BufRead> {
    member: Option<GzDecoder<R>>,
}

impl<R: BufRead> Members<R> {
    pub(super) fn new(file: R) -> Self {
        Self { member: Some(GzDecoder::new(file)) }
    }
}

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.member {
            let read = member.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            let Some(mut file) = self.member.take().map(GzDecoder::into_inner) else { break };
            if another_begins(&mut file)? {
                self.member = Some(GzDecoder::new(file));
            }
        }
        Ok(0)
    }
}

/// Skips zeros, and says whether a member follows them.
fn another_begins(file: &mut impl BufRead) -> io::Result<bool> {
    loop {
        let here = file.fill_buf()?;
        let zeros = here.iter().take_while(|&&byte| byte == 0).count();
        if zeros < here.len() || here.is_empty() {
            let rest = &here[zeros..];
            // Where the buffer ends within the magic, the decoder looks at the second byte.
            let begins = !rest.is_empty() && rest.iter().zip(MAGIC).all(|(&found, magic)| found == magic);
            file.consume(zeros);
            return Ok(begins);
        }
        file.consume(zeros);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Write as _};

    use super::*;

    fn packed(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn members_are_read_one_after_another_and_what_follows_is_left() {
        let [one, two] = [packed(b"one "), packed(b"two")];
        let zeros = vec![0; 700];
        for between in [&[][..], &zeros] {
            for after in [&[][..], &zeros, b"\n", b"\r\n", b"\0\0\n", b"garbage", b"\x1f", b"\x1fx"] {
                let file = [&one, between, &two, after].concat();
                for capacity in [2, 3, 64, 8192] {
                    let mut text = String::new();
                    let read = Members::new(BufReader::with_capacity(capacity, &file[..])).read_to_string(&mut text);
                    assert!(read.is_ok() || after.starts_with(b"\x1f"), "{after:?}, {capacity} bytes at a time: {read:?}");
                    assert_eq!(text, "one two", "{after:?}, {capacity} bytes at a time");
                }
            }
        }
    }

    #[test]
    fn damage_within_a_member_is_no_end() {
        let mut file = [packed(b"one "), packed(b"two")].concat();
        let checksum = file.len() - 6;
        file[checksum] ^= 1;
        assert!(Members::new(&file[..]).read_to_end(&mut Vec::new()).is_err());
        let whole = packed(b"one");
        assert!(Members::new(&whole[..whole.len() - 3]).read_to_end(&mut Vec::new()).is_err());
    }
}
