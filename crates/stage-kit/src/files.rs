//! Files that appear whole or not at all.

use std::cell::Cell;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};

thread_local! {
    static DURABLE_LATER: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work`, whose files need not be on the disk for good when they are renamed: whoever calls this sees to it for all of
/// them at once, before anybody is told of them. Files that `work` writes on other threads are not spared.
pub(crate) fn durable_later<T>(work: impl FnOnce() -> T) -> T {
    struct Before(bool);
    impl Drop for Before {
        fn drop(&mut self) {
            DURABLE_LATER.set(self.0);
        }
    }
    let _before = Before(DURABLE_LATER.replace(true));
    work()
}

/// Writes `path` through a temporary file in the same folder, which is synced and renamed at the end.
///
/// A reader never sees half a file, and an interrupted writer leaves nothing under the final name.
///
/// # Errors
/// Names the path; the usual causes are a full disk and missing permissions.
pub fn write_atomic(path: &Path, fill: impl FnOnce(&mut BufWriter<&File>) -> Result<()>) -> Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || -> Result<()> {
        std::fs::create_dir_all(folder)?;
        let temporary = tempfile::Builder::new().prefix(".writing-").tempfile_in(folder)?;
        let mut buffered = BufWriter::with_capacity(1 << 20, temporary.as_file());
        fill(&mut buffered)?;
        buffered.flush()?;
        drop(buffered);
        // Temporary files are private; results are for everyone whom the umask allows to read.
        let mode = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o644);
        temporary.as_file().set_permissions(mode)?;
        if !DURABLE_LATER.get() {
            temporary.as_file().sync_all()?;
        }
        temporary.persist(path)?;
        Ok(())
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

/// Whether `path` was finished by an earlier attempt. Names appear only when their contents are whole.
#[must_use]
pub fn finished(path: &Path) -> bool {
    path.is_file()
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
