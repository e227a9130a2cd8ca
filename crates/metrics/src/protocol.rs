use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::MetricsError;

/// How deep, in mm, a surface may be off and still count as right in the NSD of labels 1 to 14 (index 0 is
/// label 1). FLARE23's evaluator fixes them, from the disagreement between radiologists.
pub const NSD_TOLERANCE_MM: [f64; 14] = [5.0, 3.0, 3.0, 5.0, 2.0, 2.0, 2.0, 2.0, 2.0, 3.0, 5.0, 7.0, 3.0, 2.0];

/// Aorta, inferior vena cava and esophagus run on beyond the scan; annotators stopped somewhere.
const TUBES: [u8; 3] = [5, 6, 10];

/// Below this DSC the official evaluator does not measure surfaces and sets NSD to 0.
const OFFICIAL_LEAST_DSC: f64 = 0.2;

/// Which rules turn two label maps into scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// FLARE23's evaluator, to the last digit.
    ///
    /// A class absent from both maps scores 1. Aorta, inferior vena cava and esophagus are compared between
    /// the first slice of the ground truth and the one before its last. NSD is 0 where DSC is below 0.2.
    /// Scores are rounded to 4 decimals. There are no Hausdorff distances.
    Official,
    /// What a reader would expect: whole masks, no rounding, no score where a class is absent from both maps.
    Plain,
}

impl Protocol {
    pub(crate) fn compares_only_annotated_slices(self, label: u8) -> bool {
        self == Self::Official && TUBES.contains(&label)
    }

    pub(crate) fn measures_surfaces(self, dsc: f64) -> bool {
        self == Self::Plain || dsc >= OFFICIAL_LEAST_DSC
    }

    pub(crate) fn measures_hausdorff(self) -> bool {
        self == Self::Plain
    }

    /// The score as reported: four decimals, ties to even as NumPy rounds, or untouched.
    pub(crate) fn rounded(self, score: f64) -> f64 {
        match self {
            Self::Official => (score * 1e4).round_ties_even() / 1e4,
            Self::Plain => score,
        }
    }

    /// Decimals worth printing.
    pub(crate) fn decimals(self) -> usize {
        match self {
            Self::Official => 4,
            Self::Plain => 6,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Official => "official",
            Self::Plain => "plain",
        })
    }
}

impl FromStr for Protocol {
    type Err = MetricsError;

    fn from_str(text: &str) -> Result<Self, MetricsError> {
        match text {
            "official" => Ok(Self::Official),
            "plain" => Ok(Self::Plain),
            _ => Err(MetricsError::NotAProtocol { text: text.to_owned() }),
        }
    }
}
