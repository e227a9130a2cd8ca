//! Files that appear whole or not at all.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};
use whole_files::WholeFile;

/// Writes `path` through a temporary file in the same folder, which is synced and renamed at the end.
///
/// A reader never sees half a file, and an interrupted writer leaves nothing under the final name.
///
/// # Errors
/// Names the path; the usual causes are a full disk and missing permissions.
pub fn write_atomic(path: &Path, fill: impl FnOnce(&mut BufWriter<&File>) -> Result<()>) -> Result<()> {
    let write = || -> Result<()> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let whole = WholeFile::create(path)?;
        let mut buffered = BufWriter::with_capacity(1 << 20, whole.file());
        fill(&mut buffered)?;
        buffered.flush()?;
        drop(buffered);
        Ok(whole.finish()?)
    };
    write().with_context(|| format!("cannot write {}; check that the disk has room and the folder may be written", path.display()))
}

/// [`write_atomic`] for text.
///
/// # Errors
/// As [`write_atomic`].
pub fn write_atomic_text(path: &Path, text: &str) -> Result<()> {
    write_atomic(path, |file| Ok(file.write_all(text.as_bytes())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_neither_the_file_nor_a_temporary() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("result.txt");
        let failed = write_atomic(&path, |file| {
            file.write_all(b"half")?;
            anyhow::bail!("interrupted")
        });
        assert!(failed.is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_write_replaces_the_old_contents_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/result.txt");
        write_atomic_text(&path, "one").unwrap();
        write_atomic_text(&path, "two").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two");
    }
}
