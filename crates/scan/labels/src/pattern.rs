use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{BACKGROUND, LabelError};

/// A set of classes, each known by its output value from 1 to 255: those that a label map shows, or that its annotators looked for.
///
/// Background is in every case and says nothing, so it is never a member. Written as `{1,2,3,4,13}`, in text and in serde.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct LabelPattern([u64; 4]);

impl LabelPattern {
    /// No class at all.
    pub const EMPTY: Self = Self([0; 4]);

    /// A single class; none for background.
    #[must_use]
    pub const fn of(value: u8) -> Self {
        let mut bits = [0; 4];
        if value != BACKGROUND {
            bits[value as usize / 64] = 1 << (value % 64);
        }
        Self(bits)
    }

    /// Whether a class is a member. Background never is.
    #[must_use]
    pub const fn contains(self, value: u8) -> bool {
        self.0[value as usize / 64] >> (value % 64) & 1 == 1
    }

    /// The classes of both.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(std::array::from_fn(|k| self.0[k] | other.0[k]))
    }

    /// The classes in common.
    #[must_use]
    pub fn intersection(self, other: Self) -> Self {
        Self(std::array::from_fn(|k| self.0[k] & other.0[k]))
    }

    /// The classes of `self` that `other` lacks.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self(std::array::from_fn(|k| self.0[k] & !other.0[k]))
    }

    /// Whether every class of `self` is one of `other`.
    #[must_use]
    pub fn is_within(self, other: Self) -> bool {
        self.minus(other).is_empty()
    }

    /// Whether the two have a class in common.
    #[must_use]
    pub fn meets(self, other: Self) -> bool {
        !self.intersection(other).is_empty()
    }

    /// Whether no class is a member.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == [0; 4]
    }

    /// How many classes are members.
    #[must_use]
    pub fn len(self) -> usize {
        self.0.iter().map(|bits| bits.count_ones() as usize).sum()
    }

    /// The classes in ascending order.
    pub fn iter(self) -> impl Iterator<Item = u8> {
        (1..=u8::MAX).filter(move |&value| self.contains(value))
    }
}

impl FromIterator<u8> for LabelPattern {
    /// The set of some values, in any order and with repetitions; background is passed over.
    fn from_iter<I: IntoIterator<Item = u8>>(values: I) -> Self {
        values.into_iter().map(Self::of).fold(Self::EMPTY, Self::union)
    }
}

/// Number of voxels of each value in a label map.
#[must_use]
pub fn histogram(labels: &[u8]) -> [u64; 256] {
    // Label maps are long runs of one value; four tables keep successive increments independent.
    let mut tables = [[0u64; 256]; 4];
    let quads = labels.chunks_exact(4);
    for &label in quads.remainder() {
        tables[0][usize::from(label)] += 1;
    }
    for quad in quads {
        for (table, &label) in tables.iter_mut().zip(quad) {
            table[usize::from(label)] += 1;
        }
    }
    std::array::from_fn(|value| tables.iter().map(|table| table[value]).sum())
}

impl fmt::Display for LabelPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (i, value) in self.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            write!(f, "{comma}{value}")?;
        }
        f.write_str("}")
    }
}

impl fmt::Debug for LabelPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LabelPattern{self}")
    }
}

impl FromStr for LabelPattern {
    type Err = LabelError;

    /// Reads `{1,2,13}`; spaces around values are allowed, repetitions and background are not.
    fn from_str(text: &str) -> Result<Self, LabelError> {
        let not_a_pattern = || LabelError::NotAPattern { text: text.to_owned() };
        let inside = text.trim().strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).ok_or_else(not_a_pattern)?;
        if inside.trim().is_empty() {
            return Ok(Self::EMPTY);
        }
        inside.split(',').try_fold(Self::EMPTY, |pattern, part| {
            let value: u8 = part.trim().parse().map_err(|_| not_a_pattern())?;
            if value == BACKGROUND || pattern.contains(value) { Err(not_a_pattern()) } else { Ok(pattern.union(Self::of(value))) }
        })
    }
}

impl Serialize for LabelPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for LabelPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
