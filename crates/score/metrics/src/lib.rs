//! How good a segmentation is: DSC, NSD and Hausdorff distances per class, their summary over cases, and tables.
//!
//! Surfaces are measured as in DeepMind's surface-distance package, which FLARE23's evaluator uses: surface
//! elements sit on voxel corners and weigh as much as their area. [`Protocol`] tells two readings of the
//! same numbers apart: what FLARE23's evaluator reports, and what a reader would expect. [`Scoring`] says which
//! classes are scored and what shows them; scores name their classes and groups themselves.

mod case;
mod class;
mod edt;
mod extents;
mod mask;
mod paired;
mod protocol;
mod scoring;
mod summary;
mod surface;
mod surfel;
pub mod table;

pub use case::{CaseScores, ClassScore, Note, evaluate_case, evaluate_slices};
pub use class::{ScoredClass, ScoredGroup};
pub use extents::{SlicePairs, SliceSink};
pub use paired::Paired;
pub use protocol::{OTHER_TOLERANCE_MM, Protocol};
pub use scoring::{Declared, Scored, Scoring};
pub use summary::{ClassSummary, GroupSummary, ScoreStats, Stat, Summary};
pub use surface::{DirectedDistances, SurfaceDistances, surface_distances};
pub use surfel::surfel_areas_mm2;

use std::fmt;

use labels::LabelError;
use thiserror::Error;

/// One of the two maps that are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MapKind {
    /// What a model found.
    Prediction,
    /// What is there.
    Truth,
}

impl fmt::Display for MapKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Prediction => "the prediction",
            Self::Truth => "the ground truth",
        })
    }
}

/// Why a case cannot be evaluated, or tables cannot be made.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum MetricsError {
    /// Prediction and ground truth differ in shape.
    #[error(
        "the prediction has {prediction:?} voxels and the ground truth {truth:?}; resample the prediction onto the ground truth's grid first"
    )]
    ShapeMismatch {
        /// Shape of the prediction in voxels.
        prediction: Vec<usize>,
        /// Shape of the ground truth in voxels.
        truth: Vec<usize>,
    },
    /// The spacing is not three positive, finite lengths.
    #[error("the spacing {spacing_mm:?} mm is not positive and finite; repair the ground truth's header")]
    BadSpacing {
        /// The spacing as given.
        spacing_mm: [f64; 3],
    },
    /// A map holds values that mean nothing.
    #[error("{map}: {reason}")]
    BadValues {
        /// Which of the two maps.
        map: MapKind,
        /// The values.
        reason: LabelError,
    },
    /// What is said of the ground truth's values cannot be.
    #[error("truth: {reason}")]
    Truth {
        /// What is wrong.
        reason: LabelError,
    },
    /// What is said of a union cannot be.
    #[error("unions: {key}: {reason}")]
    Union {
        /// The union.
        key: String,
        /// What is wrong.
        reason: LabelError,
    },
    /// A name that no union can have.
    #[error("unions: `{key}` cannot be the name of a union; take one that is neither empty, a group's, nor that of background")]
    UnionName {
        /// The name.
        key: String,
    },
    /// A union of nothing.
    #[error("unions: `{key}` has no members; name the classes that it is the union of")]
    EmptyUnion {
        /// The union.
        key: String,
    },
    /// A union that nothing shows in the ground truth.
    #[error("unions: `truth` has neither `{key}` nor its member `{member}`; give the values of one of them there")]
    NoTruth {
        /// The union.
        key: String,
        /// A class without values.
        member: String,
    },
    /// A tolerance that is no length.
    #[error("nsd_tolerance_mm: `{key}` has {mm} mm; give a finite length that is not negative")]
    BadTolerance {
        /// The class.
        key: String,
        /// The tolerance.
        mm: f64,
    },
    /// A tolerance of what is not scored.
    #[error("nsd_tolerance_mm: `{key}` is not scored; scored are {}", .scored.join(", "))]
    NotScored {
        /// The key.
        key: String,
        /// The classes that are scored.
        scored: Vec<String>,
    },
    /// Surfaces that no organ has.
    #[error(
        "the surfaces of a class have {found} elements, expected at most {most}; one of the maps is noise rather than organs, look at both"
    )]
    TooManySurfels {
        /// Elements of both surfaces.
        found: usize,
        /// The limit.
        most: usize,
    },
    /// Scores of both protocols cannot be averaged together.
    #[error("{what} was scored by the {found} protocol, those before by the {expected} one; summarise them apart")]
    MixedProtocols {
        /// The first case or model that differs.
        what: String,
        /// Its protocol.
        found: Protocol,
        /// The protocol of the first.
        expected: Protocol,
    },
    /// Scores of other classes cannot be averaged together or laid side by side.
    #[error("{what} was scored on {}, those before on {}; score all of them on the same classes", .found.join(", "), .expected.join(", "))]
    MixedClasses {
        /// The first case or model that differs.
        what: String,
        /// Its classes.
        found: Vec<String>,
        /// The classes of the first.
        expected: Vec<String>,
    },
    /// A text is not the name of a protocol.
    #[error("`{text}` is not a protocol; expected official or plain")]
    NotAProtocol {
        /// The text as given.
        text: String,
    },
    /// A summary of no case says nothing.
    #[error("no case was scored, so there is nothing to summarise")]
    NoCases,
}
