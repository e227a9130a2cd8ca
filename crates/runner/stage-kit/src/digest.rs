//! Digests of the inputs of a stage that runs without a runner, in the form of the runner's.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use case_store::{Seen, hash_of, tree_digest};
use rayon::prelude::*;
use walkdir::WalkDir;

use crate::io::ABOUT;

/// What a file or folder held when it was looked at.
#[derive(Clone, Debug)]
pub struct Digested {
    /// `file:…` or `tree:…`, in hexadecimal digits of BLAKE3. Times, modes, empty folders and the folder [`ABOUT`] do not count.
    pub digest: String,
    /// The files, as they were before they were read.
    pub seen: Vec<Seen>,
}

impl Digested {
    /// Reads the file or folder at `path`; links are followed.
    ///
    /// # Errors
    /// Names what cannot be read.
    pub fn of(path: &Path) -> Result<Self> {
        if !path.is_dir() {
            let (hash, seen) = hashed(path)?;
            return Ok(Self { digest: format!("file:{hash}"), seen: vec![seen] });
        }
        let files: Vec<(String, Result<(String, Seen)>)> =
            files_in(path)?.into_par_iter().map(|(name, path)| (name, hashed(&path))).collect();
        let (mut hashes, mut all) = (BTreeMap::new(), Vec::new());
        for (name, file) in files {
            let (hash, seen) = file?;
            hashes.insert(name, hash);
            all.push(seen);
        }
        Ok(Self { digest: tree_digest(&hashes), seen: all })
    }
}

/// The hash of a file, and how it was before it was read.
pub(crate) fn hashed(path: &Path) -> Result<(String, Seen)> {
    let read = || -> Result<(String, Seen)> {
        let mut seen = Seen::now(path, "");
        ensure!(!path.is_dir(), "it is a directory, and a file is expected");
        // A pipe would have no end.
        ensure!(path.is_file(), "it is a pipe, a socket or a device, and a file is expected");
        seen.hash = hash_of(&File::open(path)?)?;
        Ok((seen.hash.clone(), seen))
    };
    read().with_context(|| format!("cannot read {}", path.display()))
}

/// The files below `folder` and their names in it. What leads nowhere or is no file, such as a pipe, has no content.
fn files_in(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut files = Vec::new();
    for entry in WalkDir::new(folder).follow_links(true) {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) if error.loop_ancestor().is_some() || leads_nowhere(&error) => continue,
            Err(error) => return Err(error).with_context(|| format!("cannot list {}", folder.display())),
        };
        let name = entry.path().strip_prefix(folder).unwrap_or(entry.path());
        if entry.file_type().is_file() && !name.starts_with(ABOUT) {
            files.push((name.to_str().map_or_else(|| format!("{name:?}"), str::to_owned), entry.into_path()));
        }
    }
    Ok(files)
}

fn leads_nowhere(error: &walkdir::Error) -> bool {
    error.io_error().is_some_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_alone_counts_and_what_has_none_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let put = |name: &str, text: &str| {
            std::fs::create_dir_all(path(name).parent().unwrap()).unwrap();
            std::fs::write(path(name), text).unwrap();
        };
        ["one", "two"].into_iter().for_each(|copy| put(&format!("{copy}/deep/a"), "text"));
        let digest = |name: &str| Digested::of(&path(name)).unwrap().digest;
        assert_eq!(digest("one"), digest("two"));
        assert!(digest("one").starts_with("tree:") && digest("one/deep/a").starts_with("file:"));
        std::os::unix::fs::symlink("nowhere", path("two/dangling")).unwrap();
        std::os::unix::fs::symlink("..", path("two/deep/round")).unwrap();
        put("two/about/times", "today");
        assert_eq!(digest("one"), digest("two"));
        put("two/deep/a", "other");
        assert_ne!(digest("one"), digest("two"));
        assert!(Digested::of(&path("none")).unwrap_err().to_string().contains("none"));
    }
}
