//! `flare init`: looks at folders of scans, and writes a pipeline file that trains on all of them.
//!
//! Labels of one name become one class, in whatever order their words stand. `kidneys` of one folder beside `kidney_left` and
//! `kidney_right` of another becomes a class of its own that holds both. What this was unsure of stands in the file as a comment.
//! Spacing and patch follow from the scans and from the memory at hand, as nnU-Net plans them.

mod folder;
mod intensities;
mod merge;
mod plan;
mod scores;
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
    for (place, (name, path)) in folders.iter().enumerate() {
        ensure!(
            dataset::is_name(name),
            "{name}={}: a dataset's name is made of letters, digits, `-` and single `_`, and does not end with one",
            path.display()
        );
        let twice = folders[..place].iter().find(|(other, _)| other == name);
        ensure!(twice.is_none(), "two folders are called {name}; give each a name of its own");
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_no_dataset_can_have_are_refused_before_a_folder_is_looked_at() {
        let refused = |names: &[&str]| {
            let folders: Vec<_> = names.iter().map(|name| ((*name).to_owned(), PathBuf::from("/nowhere"))).collect();
            for_memory(&folders, None, 1 << 30).unwrap_err().to_string()
        };
        for name in ["A B", "a__b", "a_", "ä"] {
            assert!(refused(&["A", name]).contains(&format!("{name}=/nowhere: a dataset's name is made of letters")), "{name}");
        }
        assert!(refused(&["A", "A"]).contains("two folders are called A"));
    }
}
