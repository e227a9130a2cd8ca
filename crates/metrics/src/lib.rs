//! How good a segmentation is: DSC, NSD and Hausdorff distances per class, their summary over cases, and tables.
//!
//! Surfaces are measured as in DeepMind's surface-distance package, which FLARE23's evaluator uses: surface
//! elements sit on voxel corners and weigh as much as their area. [`Protocol`] tells two readings of the
//! same numbers apart: what FLARE23's evaluator reports, and what a reader would expect.

mod case;
mod edt;
mod extents;
mod mask;
mod paired;
mod protocol;
mod summary;
mod surface;
mod surfel;
pub mod table;

pub use case::{CaseScores, ClassScore, Note, evaluate_case, evaluate_slices};
pub use extents::{SlicePairs, SliceSink};
pub use paired::Paired;
pub use protocol::{NSD_TOLERANCE_MM, Protocol};
pub use summary::{ClassSummary, ScoreStats, Stat, Summary};
pub use surface::{DirectedDistances, SurfaceDistances, surface_distances};
pub use surfel::surfel_areas_mm2;

use thiserror::Error;

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
    /// A map holds values that are no labels.
    #[error("{which}: {reason}")]
    BadLabels {
        /// Which of the two maps.
        which: &'static str,
        /// The values.
        reason: labels::LabelError,
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
