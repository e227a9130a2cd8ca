use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{LabelError, LabelPattern};

/// The part of the training data that a case belongs to (paper, section 2.1). Every case is in exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subset {
    /// `D_u`: no label.
    Du,
    /// `D_l1`: all 13 organs, no tumor label.
    Dl1,
    /// `D_l2`: the five organs, no tumor label.
    Dl2,
    /// `D_l3`: the five organs and tumor.
    Dl3,
    /// `D_l4`: tumor alone.
    Dl4,
    /// `D_other`: organs beyond the five together with tumor, which the paper's data does not have.
    Other,
}

impl Subset {
    /// Every subset, in the paper's order.
    pub const ALL: [Self; 6] = [Self::Du, Self::Dl1, Self::Dl2, Self::Dl3, Self::Dl4, Self::Other];

    /// The subset's own name among the names of subsets and unions.
    pub const fn name(self) -> SubsetName {
        match self {
            Self::Du => SubsetName::Du,
            Self::Dl1 => SubsetName::Dl1,
            Self::Dl2 => SubsetName::Dl2,
            Self::Dl3 => SubsetName::Dl3,
            Self::Dl4 => SubsetName::Dl4,
            Self::Other => SubsetName::Other,
        }
    }

    /// The organs that were looked for in the cases of this subset, so that their absence is background.
    ///
    /// Patterns tell what is there; this tells what a missing voxel means. `D_other` holds organs beyond
    /// the five, so its annotators looked for all 13.
    pub const fn annotated_organs(self) -> LabelPattern {
        match self {
            Self::Du | Self::Dl4 => LabelPattern::EMPTY,
            Self::Dl2 | Self::Dl3 => LabelPattern::FIVE_ORGANS,
            Self::Dl1 | Self::Other => LabelPattern::ORGANS,
        }
    }
}

/// A name for a set of cases: a [`Subset`], a union of them, or all of the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SubsetName {
    /// `D`: every case.
    All,
    /// `D_u`.
    Du,
    /// `D_l1`.
    Dl1,
    /// `D_l2`.
    Dl2,
    /// `D_l3`.
    Dl3,
    /// `D_l4`.
    Dl4,
    /// `D_other`.
    Other,
    /// `D_o13`: cases with all 13 organs, that is `D_l1`.
    Do13,
    /// `D_o5`: cases with at least the five organs, that is `D_l1`, `D_l2` and `D_l3`.
    Do5,
    /// `D_c`: cases with tumor labels, that is `D_l3` and `D_l4`.
    Dc,
}

impl SubsetName {
    /// Every name: all of the data, the subsets in the paper's order, then the unions.
    pub const ALL: [Self; 10] =
        [Self::All, Self::Du, Self::Dl1, Self::Dl2, Self::Dl3, Self::Dl4, Self::Other, Self::Do13, Self::Do5, Self::Dc];

    /// The name as text, such as `D_l1`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::All => "D",
            Self::Du => "D_u",
            Self::Dl1 => "D_l1",
            Self::Dl2 => "D_l2",
            Self::Dl3 => "D_l3",
            Self::Dl4 => "D_l4",
            Self::Other => "D_other",
            Self::Do13 => "D_o13",
            Self::Do5 => "D_o5",
            Self::Dc => "D_c",
        }
    }

    /// The subsets that the name stands for, in the paper's order.
    pub const fn members(self) -> &'static [Subset] {
        match self {
            Self::All => &Subset::ALL,
            Self::Du => &[Subset::Du],
            Self::Dl1 | Self::Do13 => &[Subset::Dl1],
            Self::Dl2 => &[Subset::Dl2],
            Self::Dl3 => &[Subset::Dl3],
            Self::Dl4 => &[Subset::Dl4],
            Self::Other => &[Subset::Other],
            Self::Do5 => &[Subset::Dl1, Subset::Dl2, Subset::Dl3],
            Self::Dc => &[Subset::Dl3, Subset::Dl4],
        }
    }

    /// Whether the cases of `subset` are among those that the name stands for.
    pub fn contains(self, subset: Subset) -> bool {
        self.members().contains(&subset)
    }
}

impl From<Subset> for SubsetName {
    fn from(subset: Subset) -> Self {
        subset.name()
    }
}

impl fmt::Display for SubsetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Display for Subset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name().fmt(f)
    }
}

impl FromStr for SubsetName {
    type Err = LabelError;

    fn from_str(text: &str) -> Result<Self, LabelError> {
        Self::ALL.into_iter().find(|name| name.as_str() == text).ok_or_else(|| not_a_subset(text))
    }
}

impl FromStr for Subset {
    type Err = LabelError;

    fn from_str(text: &str) -> Result<Self, LabelError> {
        Self::ALL.into_iter().find(|subset| subset.name().as_str() == text).ok_or_else(|| not_a_subset(text))
    }
}

fn not_a_subset(text: &str) -> LabelError {
    LabelError::NotASubset { text: text.to_owned() }
}

impl Serialize for SubsetName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for SubsetName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for SubsetName {
    fn schema_name() -> Cow<'static, str> {
        "SubsetName".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({
            "description": "A subset of the cases, or a union of subsets.",
            "type": "string",
            "enum": Self::ALL.map(Self::as_str),
        })
    }
}

impl Serialize for Subset {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name().as_str())
    }
}

impl<'de> Deserialize<'de> for Subset {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
