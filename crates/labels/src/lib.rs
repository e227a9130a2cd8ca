//! The labels of FLARE23: their names, which of them a case has, and the two rules that combine label maps.
//!
//! A label map holds one `u8` per voxel: 0 background, 1 to 13 organs, 14 tumor. FLARE23's training cases
//! are annotated partly, so a case is known by its [`LabelPattern`], and the paper (section 2.1) sorts
//! patterns into [`Subset`]s. [`SubsetName`] also covers the paper's unions, such as `D_o5`.
//!
//! ```
//! use labels::{LabelPattern, Subset, SubsetName};
//!
//! let pattern = LabelPattern::from_labels([0, 1, 2, 3, 4, 13, 14]).unwrap();
//! assert_eq!(pattern.to_string(), "{1,2,3,4,13,14}");
//! assert_eq!(pattern.subset(), Subset::Dl3);
//! assert!(SubsetName::Dc.contains(pattern.subset()));
//! ```

mod combine;
mod error;
mod pattern;
mod subset;

pub use combine::{merge_annotated_organs, merge_pseudo_organs, organ_target, overlay, overlay_in_place, truth_decides};
pub use error::LabelError;
pub use pattern::{LabelPattern, histogram};
pub use subset::{Subset, SubsetName};

/// How many organs FLARE23 asks for: labels 1 to 13.
pub const NUM_ORGANS: usize = 13;

/// Channels of an organ network: background and 13 organs.
pub const ORGAN_CLASSES: usize = NUM_ORGANS + 1;

/// Channels of a cancer network: background and tumor.
pub const CANCER_CLASSES: usize = 2;

/// Labels of a complete map: background, 13 organs and tumor.
pub const NUM_CLASSES: usize = 15;

/// The label of background.
pub const BACKGROUND: u8 = 0;

/// The label of tumors of every kind.
pub const TUMOR: u8 = 14;

/// Full trust in a label, as in one that is true; 0 is none.
pub const FULL_TRUST: u8 = u8::MAX;

/// The organs annotated in `D_l2` and `D_l3`: liver, right kidney, spleen, pancreas, left kidney.
pub const FIVE_ORGANS: [u8; 5] = [1, 2, 3, 4, 13];

/// Name of each label as in the paper's tables, indexed by label.
pub const CLASS_NAMES: [&str; NUM_CLASSES] = [
    "Background",
    "Liver",
    "Right kidney",
    "Spleen",
    "Pancreas",
    "Aorta",
    "Inferior vena cava",
    "Right adrenal gland",
    "Left adrenal gland",
    "Gallbladder",
    "Esophagus",
    "Stomach",
    "Duodenum",
    "Left kidney",
    "Tumor",
];

/// Name of each label for file names, JSON keys and table columns, indexed by label.
pub const CLASS_KEYS: [&str; NUM_CLASSES] = [
    "background",
    "liver",
    "right_kidney",
    "spleen",
    "pancreas",
    "aorta",
    "inferior_vena_cava",
    "right_adrenal",
    "left_adrenal",
    "gallbladder",
    "esophagus",
    "stomach",
    "duodenum",
    "left_kidney",
    "tumor",
];

/// The outputs of a cancer network, by channel.
pub const CANCER_KEYS: [&str; CANCER_CLASSES] = ["background", "tumor"];

/// Display colour of each label as sRGB, indexed by label.
///
/// The first labels are ITK-SNAP's defaults; its three near-identical blues are replaced, so that
/// neighbours such as spleen and left adrenal gland can be told apart in an overlay.
pub const CLASS_COLORS: [[u8; 3]; NUM_CLASSES] = [
    [0, 0, 0],
    [255, 0, 0],
    [0, 255, 0],
    [0, 0, 255],
    [255, 255, 0],
    [0, 255, 255],
    [255, 0, 255],
    [255, 239, 213],
    [128, 0, 160],
    [205, 133, 63],
    [140, 200, 60],
    [102, 205, 170],
    [255, 128, 0],
    [0, 139, 139],
    [255, 105, 180],
];
