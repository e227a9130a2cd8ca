use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{FIVE_ORGANS, LabelError, NUM_CLASSES, NUM_ORGANS, Subset, TUMOR};

/// Which of the labels 1 to 14 a case has.
///
/// Background is in every case and tells nothing, so it is never a member. Written as `{1,2,3,4,13}`,
/// in text and in serde.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct LabelPattern(u16);

impl LabelPattern {
    /// No label at all: an unlabelled case.
    pub const EMPTY: Self = Self(0);
    /// The 13 organs.
    pub const ORGANS: Self = Self(((1 << NUM_ORGANS) - 1) << 1);
    /// The five organs annotated in `D_l2` and `D_l3`.
    pub const FIVE_ORGANS: Self = Self::of_five_organs();
    /// Tumor alone.
    pub const TUMOR: Self = Self(1 << TUMOR);

    const fn of_five_organs() -> Self {
        let mut bits = 0;
        let mut i = 0;
        while i < FIVE_ORGANS.len() {
            bits |= 1 << FIVE_ORGANS[i];
            i += 1;
        }
        Self(bits)
    }

    /// The pattern of `labels`, in any order and with repetitions; background is passed over.
    ///
    /// # Errors
    /// [`LabelError::OutsideRange`] with every value above 14 and how often it came.
    pub fn from_labels(labels: impl IntoIterator<Item = u8>) -> Result<Self, LabelError> {
        let mut counts = [0u64; 256];
        for label in labels {
            counts[usize::from(label)] += 1;
        }
        Self::from_histogram(&counts)
    }

    /// The pattern of a label map whose voxels per value are `counts` (see [`histogram`]).
    ///
    /// # Errors
    /// [`LabelError::OutsideRange`] with every value above 14 and its number of voxels.
    pub fn from_histogram(counts: &[u64; 256]) -> Result<Self, LabelError> {
        let mut bits = 0u16;
        let mut found = Vec::new();
        for (value, &voxels) in (0u8..=255).zip(counts) {
            if voxels == 0 || value == 0 {
                continue;
            }
            if usize::from(value) < NUM_CLASSES {
                bits |= 1 << value;
            } else {
                found.push((value, voxels));
            }
        }
        if found.is_empty() { Ok(Self(bits)) } else { Err(LabelError::OutsideRange { found }) }
    }

    /// Whether `label` is a member. Background and values above 14 never are.
    pub const fn contains(self, label: u8) -> bool {
        label as usize >= 1 && (label as usize) < NUM_CLASSES && self.0 & (1 << label) != 0
    }

    /// The labels of both.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The labels in common.
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The labels of `self` that `other` lacks.
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The organs among the labels.
    pub const fn organs(self) -> Self {
        self.intersection(Self::ORGANS)
    }

    /// Whether tumor is a member.
    pub const fn has_tumor(self) -> bool {
        self.contains(TUMOR)
    }

    /// Whether no label is a member.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many labels are members.
    pub const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// The labels in ascending order.
    pub fn iter(self) -> impl Iterator<Item = u8> {
        (1..=TUMOR).filter(move |&label| self.contains(label))
    }

    /// The paper's subset for this pattern (section 2.1).
    ///
    /// A case may lack an organ that its annotators looked for (a removed gallbladder), so the rule asks
    /// what is there, never what is missing: any organ beyond the five means that all 13 were annotated.
    pub const fn subset(self) -> Subset {
        let beyond_five = !self.organs().minus(Self::FIVE_ORGANS).is_empty();
        let any_of_five = !self.intersection(Self::FIVE_ORGANS).is_empty();
        match (beyond_five, any_of_five, self.has_tumor()) {
            (true, _, true) => Subset::Other,
            (true, _, false) => Subset::Dl1,
            (false, true, true) => Subset::Dl3,
            (false, true, false) => Subset::Dl2,
            (false, false, true) => Subset::Dl4,
            (false, false, false) => Subset::Du,
        }
    }
}

/// Number of voxels of each value in a label map.
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
        for (i, label) in self.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            write!(f, "{comma}{label}")?;
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

    /// Reads `{1,2,13}`; spaces around labels are allowed, repetitions and background are not.
    fn from_str(text: &str) -> Result<Self, LabelError> {
        let not_a_pattern = || LabelError::NotAPattern { text: text.to_owned() };
        let inside = text.trim().strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).ok_or_else(not_a_pattern)?;
        if inside.trim().is_empty() {
            return Ok(Self::EMPTY);
        }
        let mut pattern = Self::EMPTY;
        for part in inside.split(',') {
            let label: u8 = part.trim().parse().map_err(|_| not_a_pattern())?;
            if !(1..=TUMOR).contains(&label) || pattern.contains(label) {
                return Err(not_a_pattern());
            }
            pattern.0 |= 1 << label;
        }
        Ok(pattern)
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
