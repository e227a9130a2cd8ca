//! Temporary files, and those that nobody will finish any more.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{FlockOperation, OFlags, flock};

use crate::folder_of;

/// How the names of all temporary files begin.
pub const PREFIX: &str = ".writing-";

/// The temporary files of this process.
static LIVE: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// A file that is removed unless it is renamed.
#[derive(Debug)]
pub(crate) struct Temporary {
    path: PathBuf,
}

impl Temporary {
    /// A new file in the folder of `path`, locked as long as it is open.
    pub(crate) fn beside(path: &Path) -> io::Result<(Self, File)> {
        let folder = folder_of(path);
        sweep_once(folder);
        loop {
            let path = folder.join(new_name());
            let this = Self { path: path.clone() };
            lock(&LIVE).insert(path.clone());
            let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
            match flock(&file, FlockOperation::LockExclusive) {
                // Between its making and the lock, somebody may have taken it for dead.
                Ok(()) if file.metadata()?.nlink() == 0 => {}
                // Where files cannot be locked, nobody takes one for dead.
                _ => return Ok((this, file)),
            }
        }
    }

    pub(crate) fn rename(self, to: &Path) -> io::Result<()> {
        // If it fails, the file goes with `self`; if it does not, nothing is left to go.
        fs::rename(&self.path, to)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
        lock(&LIVE).remove(&self.path);
    }
}

/// The process, the time and a number: every run in a container may have the same process id.
fn new_name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_nanos());
    format!("{PREFIX}{}-{nanos}-{count}", std::process::id())
}

/// Whether a file is named as [`new_name`] does it.
fn is_ours(name: &OsStr) -> bool {
    let parts = name.to_str().and_then(|name| name.strip_prefix(PREFIX)).map(|rest| rest.split('-').collect::<Vec<_>>());
    parts.is_some_and(|parts| parts.len() == 3 && parts.iter().all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit())))
}

/// Removes the temporary files of a folder whose writers are gone. Those that are being written, here or by others, stay.
pub fn sweep(folder: &Path) {
    // A folder that cannot be listed and a file that cannot be removed say so when they are written.
    for entry in fs::read_dir(folder).into_iter().flatten().flatten().filter(|entry| is_ours(&entry.file_name())) {
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let Ok(file) = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(entry.path()) else { continue };
        if flock(&file, FlockOperation::NonBlockingLockExclusive) == Ok(()) {
            // The lock is held until the name is gone: a writer that has not locked it yet sees that it has lost it.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// [`sweep`], the first time that this process writes into the folder.
fn sweep_once(folder: &Path) {
    static SWEPT: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    if lock(&SWEPT).insert(folder.to_owned()) {
        sweep(folder);
    }
}

/// Removes all that this process has begun and not finished, for one that is about to end.
pub fn remove_unfinished() {
    for path in lock(&LIVE).iter() {
        let _ = fs::remove_file(path);
    }
}

fn lock(paths: &Mutex<BTreeSet<PathBuf>>) -> MutexGuard<'_, BTreeSet<PathBuf>> {
    // Paths are put in and taken out whole.
    paths.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_dead_have_left_is_swept_and_what_lives_or_is_not_ours_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let (living, file) = Temporary::beside(&path("a")).unwrap();
        let left = path(".writing-1-17-0");
        for name in [".writing-1-17-0", ".writing-1-17", ".writing-x-17-0", ".writing-1-17-0.nii", "b"] {
            fs::write(path(name), "half").unwrap();
        }
        std::os::unix::fs::symlink(path("b"), path(".writing-1-18-0")).unwrap();
        sweep(folder.path());
        assert!(!left.exists() && living.path.exists());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 6);
        // As if the writer had been killed.
        std::mem::forget(living);
        drop(file);
        sweep(folder.path());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 5);
    }

    #[test]
    fn whoever_writes_into_a_folder_sweeps_it() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(".writing-1-17-0"), "half").unwrap();
        drop(Temporary::beside(&folder.path().join("a")).unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
