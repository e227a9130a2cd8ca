//! Two runners never do the same work: a lock on each key, which the kernel lets go when its holders are gone.

use std::fs::{File, TryLockError};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// The right to work on a key.
///
/// The lock belongs to the open file and not to the process. A child that is given the file as its standard input
/// holds the lock too: should the runner be killed, nobody takes the key up before the child is gone as well.
pub(crate) struct Lease(File);

/// How long to wait for a holder that is just about to end.
const PATIENCE: Duration = Duration::from_secs(2);

impl Lease {
    /// Takes the lock at `path`, or tells who holds it.
    pub(crate) fn take(path: &Path) -> Result<Result<Self, String>> {
        let open = File::options().read(true).write(true).create(true).truncate(false).open(path);
        let mut file = open.with_context(|| format!("cannot open the lock {}", path.display()))?;
        let begun = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if begun.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(20)),
                Err(TryLockError::WouldBlock) => {
                    let mut holder = String::new();
                    // Who holds it is only told; that somebody does is known from the lock.
                    let _ = file.read_to_string(&mut holder);
                    return Ok(Err(if holder.trim().is_empty() { "another process".into() } else { holder.trim().to_owned() }));
                }
                Err(TryLockError::Error(error)) => {
                    return Err(error).with_context(|| format!("cannot lock {}; does its file system know locks?", path.display()));
                }
            }
        }
        let told = file.set_len(0).and_then(|()| writeln!(file, "process {} on {}", std::process::id(), host()));
        told.with_context(|| format!("cannot write the lock {}", path.display()))?;
        Ok(Ok(Self(file)))
    }

    /// The lock as a child's standard input.
    pub(crate) fn share(&self) -> Result<Stdio> {
        Ok(self.0.try_clone().context("cannot share the lock with the stage")?.into())
    }
}

/// The name of this machine.
pub(crate) fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_taker_is_told_who_holds_the_lock_until_it_is_let_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let lease = Lease::take(&path).unwrap().ok().unwrap();
        let holder = Lease::take(&path).unwrap().err().unwrap();
        assert!(holder.starts_with(&format!("process {} on ", std::process::id())), "{holder}");
        drop(lease);
        assert!(Lease::take(&path).unwrap().is_ok());
    }
}
