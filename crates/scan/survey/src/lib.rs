//! `flare init`: looks at folders of scans, and writes a pipeline file that trains on all of them.
//!
//! Labels of one name become one class, in whatever order their words stand. `kidneys` of one folder beside `kidney_left` and
//! `kidney_right` of another becomes a class of its own that holds both. What this was unsure of stands in the file as a comment.
//! Spacing and patch follow from the scans and from the memory at hand, as nnU-Net plans them.

mod folder;
mod intensities;
mod merge;
mod plan;
mod write;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

pub use folder::{Folder, Form, NamedLabel};
pub use merge::{Merged, Place};
pub use plan::{Plan, Scans};

/// The text of a pipeline file for folders of scans, each with the name that its dataset shall have, and for this machine. The networks
/// are shown voxels of `spacing_mm`, or if that is not given of what the scans have.
///
/// # Errors
/// When a folder holds nothing that is known, or none of them has a label.
pub fn pipeline_file(folders: &[(String, PathBuf)], spacing_mm: Option<f64>) -> Result<String> {
    let system = rustix::system::sysinfo();
    for_memory(folders, spacing_mm, u64::from(system.mem_unit) * system.totalram)
}

/// The same for a machine with so much memory.
///
/// # Errors
/// As [`pipeline_file`].
pub fn for_memory(folders: &[(String, PathBuf)], spacing_mm: Option<f64>, memory_bytes: u64) -> Result<String> {
    ensure!(!folders.is_empty(), "no folder was given; give some as NAME=DIR");
    let found = folders.iter().map(|(name, path)| Folder::look_at(name, path)).collect::<Result<Vec<_>>>()?;
    let merged = Merged::of(&found)?;
    let datasets = found.iter().map(|folder| (folder.name.clone(), merged.declaration(folder))).collect::<Vec<_>>();
    let mut scans = Scans::default();
    for (folder, (name, config)) in found.iter().zip(&datasets) {
        scans.add(name, config, &folder.path, &merged.classes).with_context(|| format!("{name}: {}", folder.path.display()))?;
    }
    let plan = Plan::of(&scans, spacing_mm, memory_bytes);
    write::text(&found, &merged, &datasets, &scans, &plan)
}
