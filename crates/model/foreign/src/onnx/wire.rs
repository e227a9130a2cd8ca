//! Protocol buffers, field by field, where they lie.

/// Why bytes are no protocol buffers.
pub(super) type Damage = &'static str;

/// The most messages, names and attributes of a file together. Published networks have some thousand.
const MOST_PARTS: usize = 1 << 20;

/// The most numbers of a list.
const MOST_NUMBERS: usize = 1 << 22;

/// The fields of a message.
pub(super) struct Fields<'a>(&'a [u8]);

/// What a field holds.
#[derive(Clone, Copy)]
pub(super) enum Held<'a> {
    Number(u64),
    Four([u8; 4]),
    Eight([u8; 8]),
    Bytes(&'a [u8]),
}

/// How much more of a file may be read into memory.
pub(super) struct Budget(usize);

impl Default for Budget {
    fn default() -> Self {
        Self(MOST_PARTS)
    }
}

impl Budget {
    /// Takes one part.
    pub(super) fn take(&mut self) -> Result<(), Damage> {
        self.0 = self.0.checked_sub(1).ok_or("it has more than a million nodes, names and attributes")?;
        Ok(())
    }
}

impl<'a> Fields<'a> {
    pub(super) fn of(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    fn varint(&mut self) -> Result<u64, Damage> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or("a number is cut off")?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err("a number has more than 64 bits")
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Damage> {
        let (array, rest) = self.0.split_first_chunk().ok_or("a number is cut off")?;
        self.0 = rest;
        Ok(*array)
    }

    fn field(&mut self) -> Result<(u64, Held<'a>), Damage> {
        let key = self.varint()?;
        let held = match key & 7 {
            0 => Held::Number(self.varint()?),
            1 => Held::Eight(self.array()?),
            5 => Held::Four(self.array()?),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| "a part is cut off")?;
                let (bytes, rest) = self.0.split_at_checked(length).ok_or("a part is cut off")?;
                self.0 = rest;
                Held::Bytes(bytes)
            }
            _ => return Err("a field is of no known form"),
        };
        Ok((key >> 3, held))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Held<'a>), Damage>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Held<'a> {
    /// A message or the bytes of a field.
    pub(super) fn bytes(self) -> Result<&'a [u8], Damage> {
        if let Self::Bytes(bytes) = self { Ok(bytes) } else { Err("a number stands where a part is expected") }
    }

    pub(super) fn text(self) -> Result<&'a str, Damage> {
        std::str::from_utf8(self.bytes()?).map_err(|_| "a name is no text")
    }

    pub(super) fn int(self) -> Result<i64, Damage> {
        if let Self::Number(number) = self { Ok(number.cast_signed()) } else { Err("a part stands where a number is expected") }
    }

    pub(super) fn float(self) -> Result<f32, Damage> {
        if let Self::Four(bytes) = self { Ok(f32::from_le_bytes(bytes)) } else { Err("a part stands where a number is expected") }
    }

    /// Adds whole numbers, packed or one by one.
    pub(super) fn add_ints(self, ints: &mut Vec<i64>) -> Result<(), Damage> {
        match self {
            Self::Number(number) => ints.push(number.cast_signed()),
            Self::Bytes(bytes) => {
                let mut packed = Fields(bytes);
                while !packed.0.is_empty() && ints.len() <= MOST_NUMBERS {
                    ints.push(packed.varint()?.cast_signed());
                }
            }
            Self::Four(_) | Self::Eight(_) => return Err("a number is of no known form"),
        }
        if ints.len() > MOST_NUMBERS { Err("a list has more than four million numbers") } else { Ok(()) }
    }

    /// Adds numbers of 4 bytes, packed or one by one.
    pub(super) fn add_floats(self, floats: &mut Vec<f32>) -> Result<(), Damage> {
        match self {
            Self::Four(bytes) => floats.push(f32::from_le_bytes(bytes)),
            Self::Bytes(bytes) => floats.extend(whole(bytes)?.map(f32::from_le_bytes)),
            Self::Number(_) | Self::Eight(_) => return Err("a number is of no known form"),
        }
        Ok(())
    }

    /// Adds numbers of 8 bytes, as 4, packed or one by one.
    #[expect(clippy::cast_possible_truncation, reason = "networks are computed in single precision")]
    pub(super) fn add_doubles(self, floats: &mut Vec<f32>) -> Result<(), Damage> {
        match self {
            Self::Eight(bytes) => floats.push(f64::from_le_bytes(bytes) as f32),
            Self::Bytes(bytes) => floats.extend(whole(bytes)?.map(|bytes| f64::from_le_bytes(bytes) as f32)),
            Self::Number(_) | Self::Four(_) => return Err("a number is of no known form"),
        }
        Ok(())
    }
}

/// Bytes in pieces of one size, without rest.
pub(super) fn whole<const N: usize>(bytes: &[u8]) -> Result<impl Iterator<Item = [u8; N]>, Damage> {
    let (pieces, rest) = bytes.as_chunks::<N>();
    if rest.is_empty() { Ok(pieces.iter().copied()) } else { Err("a number is cut off") }
}
