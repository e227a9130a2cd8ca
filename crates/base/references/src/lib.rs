//! Where the tests find reference values and real CT, and how they say what they skip.
//!
//! Both are tens of megabytes and lie beside the checkout, or where `GOLDEN_DIR` and `CT_DIR` say: other files of the same names
//! serve as well. A run without them says so. A run for which `CI` is set needs them.

use std::io::Write as _;
use std::path::{Path, PathBuf};

/// A file of reference values, or none with a word about it.
///
/// # Panics
/// When it is missing and `CI` is set.
#[must_use]
pub fn golden(name: &str) -> Option<PathBuf> {
    found("GOLDEN_DIR", "golden", name)
}

/// A real CT, or none with a word about it.
///
/// # Panics
/// When it is missing and `CI` is set.
#[must_use]
pub fn ct(name: &str) -> Option<PathBuf> {
    found("CT_DIR", "data/ct", name)
}

/// Says what is skipped and why. Past the capture of cargo's test harness, which hides what tests print that succeed.
pub fn skipped(what: &str) {
    // A closed standard error is no reason to fail.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {what}");
}

fn found(variable: &str, folder: &str, name: &str) -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../../shared").join(folder);
    let path = std::env::var_os(variable).map_or(beside, PathBuf::from).join(name);
    if path.exists() {
        return Some(path);
    }
    assert!(std::env::var_os("CI").is_none(), "{} is missing; set {variable} to the folder that has it", path.display());
    skipped(&format!("what {name} tells; set {variable} to the folder that has it"));
    None
}
