//! Preprocessed cases on disk: one `.safetensors` file a case, from which any box is read without loading the rest.
//!
//! Training draws small patches from many volumes. A case is therefore stored as it is wanted, resampled, windowed
//! and cropped (paper, sections 2.2 and 3.2), and a patch is read with one positioned read per plane.
//!
//! The tensors of a file, all of one shape and in C order:
//!
//! | name           | type | values                                                 | there when                     |
//! |----------------|------|--------------------------------------------------------|--------------------------------|
//! | `image`        | U16  | `round(65535 v)` of the windowed image `v` in `[0, 1]` | always                         |
//! | `organs`       | U8   | 0 background, 1 to 13 organs                           | organs are annotated or pseudo |
//! | `cancer`       | U8   | 0 background, 1 tumor                                  | tumors are annotated or pseudo |
//! | `organs_trust` | U8   | trust in the label of a voxel, 0 to 255                | pseudo labels were weighed     |
//! | `cancer_trust` | U8   | the same of `cancer`                                   | pseudo labels were weighed     |
//!
//! Fixed point halves the bytes of `f32` at an error of at most 0.5/65535 of the window: 0.004 HU of the paper's
//! 500 HU, where CT itself is stored in steps of 1 HU.
//!
//! The axes are (x, y, z) in the layout `volume` and (z, x, y) in the layout `slices`, where one slice is contiguous
//! (see [`Layout`]). `__metadata__` holds the fields of [`CaseInfo`], each as JSON. In Python:
//!
//! ```python
//! with safetensors.safe_open("cases/FLARE23_0001.safetensors", "numpy") as case:
//!     image = case.get_tensor("image") / 65535
//!     info = {key: json.loads(value) for key, value in case.metadata().items()}
//! ```

mod error;
mod info;
mod read;
mod set;
mod source;
mod write;

pub use error::PreparedError;
pub use info::{CaseInfo, CropBox, GridRecord, LabelSource, Layout, MeanTrust};
pub use read::{Patch, PreparedCase};
pub use set::{CASES_FOLDER, INDEX_FILE, Index, IndexEntry, PreparedSet, case_path};
pub use source::{CaseArrays, CaseSource, Map, Part};
pub use write::write_case;

/// The stored value of the upper end of the window.
const FULL_SCALE: f32 = u16::MAX as f32;
