//! Two processes never work on the same case at once: whoever comes second waits for the first, or finds its result.

use std::fs::{self, File, TryLockError};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The right to work on a case, until it is dropped or the process ends in whatever way.
#[derive(Debug)]
pub struct Claim {
    path: PathBuf,
    // The kernel's lock lives as long as the file is open.
    _file: File,
}

/// The answer to a claim.
#[derive(Debug)]
pub enum Claimed {
    /// It is granted.
    Granted(Claim),
    /// Another process works on the case.
    Busy,
}

impl Claim {
    pub(crate) fn take(path: &Path) -> Result<Claimed> {
        loop {
            let open = File::options().write(true).create(true).truncate(false).open(path);
            let file = open.with_context(|| format!("cannot open the lock {}", path.display()))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(Claimed::Busy),
                Err(TryLockError::Error(error)) => {
                    return Err(error).with_context(|| format!("cannot lock {}; does its file system know locks?", path.display()));
                }
            }
            // The holder before may have removed the file after it was opened here; then the lock is on nothing.
            let inode = |meta: std::io::Result<fs::Metadata>| meta.map(|meta| (meta.dev(), meta.ino())).ok();
            if inode(file.metadata()).is_some_and(|own| inode(fs::metadata(path)) == Some(own)) {
                return Ok(Claimed::Granted(Self { path: path.to_owned(), _file: file }));
            }
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Removed while it is still locked; a lock file that stays behind does no harm.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_belongs_to_one_at_a_time_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("case");
        let Claimed::Granted(claim) = Claim::take(&path).unwrap() else { panic!("nobody else is there") };
        assert!(matches!(Claim::take(&path).unwrap(), Claimed::Busy));
        drop(claim);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(matches!(Claim::take(&path).unwrap(), Claimed::Granted(_)));
    }

    #[test]
    fn many_threads_never_hold_it_together() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("case");
        let holders = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        if let Claimed::Granted(_claim) = Claim::take(&path).unwrap() {
                            assert_eq!(holders.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                            holders.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                        }
                    }
                });
            }
        });
    }
}
