//! Classes, what the values of label maps mean, and the rules about both. Nothing here knows a class by itself: pipelines declare
//! them ([`Classes`]).
//!
//! A class is known by its output value, from 1 to 255; a [`LabelPattern`] is a set of classes. What the values of a dataset's
//! label maps mean is said by [`Regions`]. Training cases are annotated partly: by what they show they are sorted into
//! [`Subsets`] (paper, section 2.1), and a [`Completion`] lets a teacher fill in what their annotators did not look for.
//!
//! ```
//! use labels::{LabelPattern, Regions, flare23};
//!
//! let classes = flare23::classes();
//! let regions = Regions::plain(classes.pattern());
//! let mut voxels = [0; 256];
//! (voxels[1], voxels[14]) = (100, 7);
//! let pattern = regions.shown(&voxels).unwrap();
//! assert_eq!(pattern.to_string(), "{1,14}");
//! assert_eq!(classes.keys_of(pattern), ["liver", "tumor"]);
//! ```

mod class;
mod color;
mod combine;
mod error;
pub mod flare23;
mod mirror;
mod pattern;
mod regions;
mod snomed;
mod subset;

pub use class::{BACKGROUND_KEY, Class, Classes, Group, name_of};
pub use combine::{Completion, overlay};
pub use error::LabelError;
pub use pattern::{LabelPattern, histogram};
pub use regions::Regions;
pub use snomed::{Coded, Concept, snomed};
pub use subset::{ALL_CASES, Rule, Subset, Subsets};

/// The value of background.
pub const BACKGROUND: u8 = 0;

/// Full trust in a label, as in one that is true; 0 is none.
pub const FULL_TRUST: u8 = u8::MAX;
