use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::MetricsError;

/// How deep, in mm, the surface of a class may be off and still count as right in the NSD. FLARE23's evaluator fixes them, from
/// the disagreement between radiologists.
const FLARE23_TOLERANCES_MM: [(&str, f64); 14] = [
    ("liver", 5.0),
    ("right_kidney", 3.0),
    ("spleen", 3.0),
    ("pancreas", 5.0),
    ("aorta", 2.0),
    ("inferior_vena_cava", 2.0),
    ("right_adrenal", 2.0),
    ("left_adrenal", 2.0),
    ("gallbladder", 2.0),
    ("esophagus", 3.0),
    ("stomach", 5.0),
    ("duodenum", 7.0),
    ("left_kidney", 3.0),
    ("tumor", 2.0),
];

/// The tolerance of classes that FLARE23 does not have.
pub const OTHER_TOLERANCE_MM: f64 = 2.0;

/// They run on beyond the scan; annotators stopped somewhere.
const TUBES: [&str; 3] = ["aorta", "inferior_vena_cava", "esophagus"];

/// Below this DSC the official evaluator does not measure surfaces and sets NSD to 0.
const OFFICIAL_LEAST_DSC: f64 = 0.2;

/// Which rules turn two label maps into scores. Classes are known by their keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// FLARE23's evaluator, to the last digit.
    ///
    /// A class absent from both maps scores 1. Aorta, inferior vena cava and esophagus are compared between
    /// the first slice of the ground truth and the one before its last. NSD is 0 where DSC is below 0.2.
    /// Scores are rounded to 4 decimals. There are no Hausdorff distances. Other classes are scored by the same rules.
    Official,
    /// What a reader would expect: whole masks, no rounding, no score where a class is absent from both maps.
    Plain,
}

impl Protocol {
    /// The tolerance of the NSD of a class, in mm: the challenge's, the one that is declared, or [`OTHER_TOLERANCE_MM`]. Where there
    /// are both of the first, the official rules go by the challenge's, and the plain ones by the declared one.
    #[must_use]
    pub fn nsd_tolerance_mm(self, class: &str, declared: Option<f64>) -> f64 {
        let challenges = FLARE23_TOLERANCES_MM.iter().find(|(key, _)| *key == class).map(|(_, mm)| *mm);
        let found = match self {
            Self::Official => challenges.or(declared),
            Self::Plain => declared.or(challenges),
        };
        found.unwrap_or(OTHER_TOLERANCE_MM)
    }

    pub(crate) fn compares_only_annotated_slices(self, class: &str) -> bool {
        self == Self::Official && TUBES.contains(&class)
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
