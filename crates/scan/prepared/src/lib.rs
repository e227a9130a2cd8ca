//! Preprocessed cases on disk: one `.zarr.zip` file a case, from which any box is read without loading the rest.
//!
//! Training draws small patches from many volumes. A case is therefore stored as it is wanted, resampled, windowed
//! and cropped (paper, sections 2.2 and 3.2), and of a patch those chunks alone are read that it touches.
//!
//! The file is a [Zarr v3](https://zarr-specs.readthedocs.io/en/latest/v3/core/) group in a ZIP archive whose entries are stored
//! as they are. Its arrays, all of one shape:
//!
//! | name          | type   | values                                                 | there when                 |
//! |---------------|--------|--------------------------------------------------------|----------------------------|
//! | `image`       | uint16 | `round(scale v)` of the windowed image `v` in `[0, 1]` | always                     |
//! | `labels`      | uint8  | those of the dataset; [`CaseInfo::regions`] tells them | anything is annotated      |
//! | `trust_GROUP` | uint8  | trust in the label of a voxel in that group, 0 to 255  | pseudo labels were weighed |
//!
//! The axes are (x, y, z) in the layout `volume` and (z, x, y) in the layout `slices` (see [`Layout`]). The attributes of the group
//! are the fields of [`CaseInfo`], and `scale`. In Python, with `pip install zarr pcodec`:
//!
//! ```python
//! case = zarr.open_group(zarr.storage.ZipStore("cases/FLARE23_0001.zarr.zip", mode="r"), mode="r")
//! image = case["image"][...] / case.attrs["scale"]
//! labels = case["labels"][...]
//! ```
//!
//! A label map is stored once, in whatever values it came. Which class of a group each value shows is looked up when a box is
//! used ([`Regions::table`](labels::Regions::table)). The labels of teachers come in groups of which each may show something at a
//! voxel; they are one map too, of the values that [`Regions::product`](labels::Regions::product) gives their combinations.
//!
//! `scale` is twice the width of the window in HU (at most 65535): an image errs by at most a quarter of a HU, where CT itself is stored
//! in steps of 1 HU. Finer steps hold what resampling computes of noise, and each halving costs an eighth of a byte a voxel.
//!
//! Arrays are cut into chunks of about 1×128×128 voxels (`slices`) or 32×32×32 (`volume`), each of them compressed and with a checksum: the
//! image by [pco](https://github.com/pcodec/pcodec), maps by zstd. The codec `sharding_indexed` puts those of a slab of up to 32 voxels along
//! the slowest axis into one entry, with a table of their places at its end. So a case is written slab by slab, and has few entries. Chunks of
//! zeros are left out.
//!
//! On public scans at 1×1×2.5 mm, in a window of 500 HU, as `examples/loader.rs` counts it:
//!
//! | scan                            | slices: bytes a voxel | volume | with zstd for images, 1/4 HU |
//! |---------------------------------|-----------------------|--------|------------------------------|
//! | CRLM-CT-1004, image alone       | 0.52                  | 0.40   | 0.68, 0.57                   |
//! | TotalSegmentator's example      | 0.47                  | 0.66   | 0.94, 0.85                   |
//! | the same, small                 | 0.49                  | 0.67   | 0.96, 0.87                   |
//! | a piece of MSD's spleen, no air | 0.95                  | 0.83   | 1.37, 1.19                   |
//!
//! These are images and labels together, where 16 and 8 bits uncompressed take 3 bytes; labels are 0.01 to 0.02 of it.
//!
//! This crate writes and reads that much of Zarr by itself. The crate `zarrs` reads no faster, for about 120 dependencies and
//! several libraries of C, of which zstd is the only one here; and it keeps an array in a folder.
//! zarr-python 3.1 reads our files, and we read those in `tests/data`, which it wrote.

mod archive;
mod codec;
mod error;
mod info;
mod intensities;
mod read;
mod set;
mod shard;
mod source;
mod whole;
mod write;
mod zarr;

pub use error::PreparedError;
pub use info::{CaseInfo, CropBox, GridRecord, LabelSource, Layout, MeanTrust};
pub use intensities::Intensities;
pub use read::{Patch, PreparedCase};
pub use set::{CASES_FOLDER, INDEX_FILE, Index, IndexEntry, PreparedSet, case_path};
pub use source::{CaseArrays, CaseSource, Map, Part};
pub use write::write_case;

/// The array of the image.
const IMAGE: &str = "image";

/// The array of the labels.
const LABELS: &str = "labels";

/// What the names of arrays with trust begin with.
const TRUST_PREFIX: &str = "trust_";

/// The array with the trust in the labels of a group.
fn trust_array(group: &str) -> String {
    format!("{TRUST_PREFIX}{group}")
}
