//! What in the folder of a store is the store's own.
//!
//! A store is marked, and only names of its own form are ever removed from it, never through a link: whoever names a folder of
//! scans as the store by mistake gets a refusal, and not an empty folder.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::error::{ConfigError, Problem};

/// The mark at the root of a store.
const MARK: &str = "STORE";
const MARK_TEXT: &str = "A store of results. Files that its program has not made do not belong here.\n";

/// The folders of a store.
pub(crate) const FOLDERS: [&str; 7] = ["objects", "records", "trees", "cases", "blobs", "attempts", "locks"];

/// What else lies at its root.
const OTHERS: [&str; 7] = [MARK, "results", "runs", "samples", "slurm", "index", "in-use"];

/// A kind of entry of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `objects/KEY`
    Object,
    /// `records/KEY.json`, `.log`, `.cases`
    Record,
    /// `trees/HASH`
    Tree,
    /// `cases/ab/KEY.json`
    CaseRecord,
    /// `blobs/ab/HASH`
    Blob,
    /// `attempts/KEY`
    Attempt,
    /// `slurm/KEY`
    Submission,
    /// `locks/KEY`, `locks/KEY.0-50`, `locks/case-KEY`
    Lock,
}

impl Kind {
    fn folder(self) -> &'static str {
        match self {
            Self::Object => "objects",
            Self::Record => "records",
            Self::Tree => "trees",
            Self::CaseRecord => "cases",
            Self::Blob => "blobs",
            Self::Attempt => "attempts",
            Self::Submission => "slurm",
            Self::Lock => "locks",
        }
    }

    fn is_sharded(self) -> bool {
        matches!(self, Self::CaseRecord | Self::Blob)
    }

    fn is_own(self, path: &Path) -> bool {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return false };
        let Ok(meta) = fs::symlink_metadata(path) else { return false };
        match self {
            Self::Object | Self::Attempt | Self::Submission => meta.is_dir() && is_hash(name),
            Self::Tree | Self::Blob => meta.is_file() && is_hash(name),
            Self::Record => {
                meta.is_file() && name.split_once('.').is_some_and(|(key, end)| is_hash(key) && matches!(end, "json" | "log" | "cases"))
            }
            Self::CaseRecord => meta.is_file() && name.strip_suffix(".json").is_some_and(is_hash),
            Self::Lock => meta.is_file() && is_hash(name.strip_prefix("case-").unwrap_or(name).split('.').next().unwrap_or_default()),
        }
    }
}

/// 64 hexadecimal digits, as BLAKE3 writes them.
fn is_hash(text: &str) -> bool {
    text.len() == 2 * blake3::OUT_LEN && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// Whether it is a file that somebody began to write and was killed.
pub(crate) fn is_temporary(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(whole_files::PREFIX))
        && fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file())
}

/// The entries of a kind, sorted, and the temporary files beside them.
pub(crate) fn entries(root: &Path, kind: Kind) -> Result<(Vec<PathBuf>, Vec<PathBuf>)> {
    let folder = root.join(kind.folder());
    let mut folders = vec![folder.clone()];
    if kind.is_sharded() {
        let is_shard = |path: &PathBuf| path.file_name().is_some_and(|name| name.len() == 2) && is_real_folder(path);
        folders.extend(list(&folder)?.into_iter().filter(is_shard));
    }
    let (mut own, mut temporary) = (Vec::new(), Vec::new());
    for path in folders.iter().map(|folder| list(folder)).collect::<Result<Vec<_>>>()?.into_iter().flatten() {
        if is_temporary(&path) {
            temporary.push(path);
        } else if kind.is_own(&path) && (!kind.is_sharded() || path.parent() != Some(&folder)) {
            own.push(path);
        }
    }
    own.sort();
    Ok((own, temporary))
}

fn is_real_folder(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir())
}

/// What lies in a folder that is no link; nothing when there is no such folder.
pub(crate) fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    if is_real_folder(folder) { everything_in(folder) } else { Ok(Vec::new()) }
}

fn everything_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let list = || -> std::io::Result<Vec<PathBuf>> { fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect() };
    list().with_context(|| format!("cannot list {}", folder.display()))
}

/// Refuses a folder that is no store, and says whether there is anything in it.
///
/// # Errors
/// Names what lies there.
pub(crate) fn check(root: &Path) -> Result<bool> {
    if !root.exists() {
        return Ok(false);
    }
    ensure!(root.is_dir(), "the store {} is no folder; name another one by `store:` or `--store`", root.display());
    let entries = everything_in(root)?;
    if entries.is_empty() {
        return Ok(false);
    }
    for folder in FOLDERS.map(|folder| root.join(folder)) {
        if folder.is_symlink() {
            bail!(
                "{} is a link, and the folders of a store are none; move the whole store, and name its place by `--store`",
                folder.display()
            );
        }
    }
    if root.join(MARK).is_file() {
        return Ok(true);
    }
    // A store of an earlier version has no mark, and nothing else in it either.
    let name = |path: &PathBuf| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let strange: Vec<String> = entries
        .iter()
        .filter(|path| !is_temporary(path))
        .map(name)
        .filter(|name| !FOLDERS.contains(&&**name) && !OTHERS.contains(&&**name))
        .collect();
    if strange.is_empty() {
        return Ok(true);
    }
    let mut shown = strange;
    shown.sort();
    shown.truncate(3);
    let message = format!(
        "is no store of results: it holds {} and has no file {MARK}. Nothing was touched. Name a new or empty folder, or a store, by `store:` or `--store`",
        shown.join(", ")
    );
    Err(ConfigError::from(Problem { file: root.display().to_string(), line: None, field: String::new(), message }).into())
}

/// Marks a store and makes its folders, which must lie on one file system: results are moved into place by renaming.
///
/// # Errors
/// When the folder is no store, or cannot be written.
pub(crate) fn create(root: &Path) -> Result<()> {
    check(root)?;
    let mut first = None;
    for folder in FOLDERS.map(|folder| root.join(folder)) {
        fs::create_dir_all(&folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
        let device = fs::metadata(&folder).with_context(|| format!("cannot read {}", folder.display()))?.dev();
        ensure!(
            *first.get_or_insert(device) == device,
            "{} lies on another file system than {}; a store moves results into place by renaming, so that all its folders must lie on one",
            folder.display(),
            root.join(FOLDERS[0]).display()
        );
    }
    let mark = root.join(MARK);
    if !mark.exists() {
        stage_kit::write_atomic_text(&mark, MARK_TEXT)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_something_else_is_no_store() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!check(&folder.path().join("new")).unwrap() && !check(folder.path()).unwrap(), "there is nothing yet");
        fs::create_dir_all(folder.path().join("blobs/ab")).unwrap();
        fs::write(folder.path().join("a_0000.nii.gz"), "scan").unwrap();
        let error = check(folder.path()).unwrap_err().to_string();
        assert!(error.contains(": is no store of results: it holds a_0000.nii.gz") && error.contains("Nothing was touched"), "{error}");
        assert!(create(folder.path()).is_err());
        assert!(!folder.path().join("objects").exists());
    }

    #[test]
    fn a_store_of_an_earlier_version_is_known_by_its_form_and_marked() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["objects", "records", "results"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        create(folder.path()).unwrap();
        fs::write(folder.path().join("notes.txt"), "mine").unwrap();
        assert!(check(folder.path()).unwrap(), "once it is marked, other files may lie beside");
        fs::remove_dir(folder.path().join("blobs")).unwrap();
        std::os::unix::fs::symlink("/tmp", folder.path().join("blobs")).unwrap();
        assert!(check(folder.path()).unwrap_err().to_string().contains("is a link"));
    }

    #[test]
    fn entries_are_those_of_its_own_form_and_never_behind_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let hash = "ab".repeat(32);
        let others = tempfile::tempdir().unwrap();
        fs::write(others.path().join(&hash), "mine").unwrap();
        fs::create_dir_all(folder.path().join("blobs/ab")).unwrap();
        for name in [hash.as_str(), "scan.nii.gz", "AB"] {
            fs::write(folder.path().join("blobs/ab").join(name), "").unwrap();
        }
        fs::write(folder.path().join("blobs").join(&hash), "").unwrap();
        fs::write(folder.path().join("blobs/ab/.writing-1"), "").unwrap();
        std::os::unix::fs::symlink(others.path(), folder.path().join("blobs/cd")).unwrap();
        let (own, temporary) = entries(folder.path(), Kind::Blob).unwrap();
        assert_eq!(own, [folder.path().join("blobs/ab").join(&hash)]);
        assert_eq!(temporary, [folder.path().join("blobs/ab/.writing-1")]);
    }
}
