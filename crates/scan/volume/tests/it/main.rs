//! What the crate promises, told from outside: laws of geometry, agreement with nibabel and MONAI, and bad files.

mod data;
mod hostile;
mod laws;
mod monai;
mod nibabel;
mod nifti_rs;
mod real_ct;
mod scan;
mod written;
