//! Two runners never do the same work: a lock on each key, which the kernel lets go when its holders are gone.

use std::fs::{self, File, TryLockError};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::text::utc;

/// Who holds a lock, as it is written into it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The machine.
    pub host: String,
    /// Its boot, since numbers of processes begin anew with each.
    pub boot: String,
    /// The process.
    pub process: u32,
    /// When it began, in the kernel's ticks: a later process may have the same number.
    pub begun: u64,
    /// The job of a cluster that it belongs to.
    pub job: Option<String>,
    /// What it works on.
    pub node: String,
    /// Since when, in UTC.
    pub since: String,
}

/// What is known of a holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// It lives.
    Alive,
    /// It is certainly gone.
    Dead,
    /// It is, or was, on another machine, which cannot be asked.
    Elsewhere,
}

impl Holder {
    fn here(node: &str) -> Self {
        let process = std::process::id();
        let (boot, begun) = (boot(), begun(process).unwrap_or_default());
        Self { host: host(), boot, process, begun, job: own_job(), node: node.to_owned(), since: utc(SystemTime::now()) }
    }

    /// Whether it still lives, as far as this machine can tell.
    #[must_use]
    pub fn life(&self) -> Life {
        match () {
            // A cluster's job that is put back into the queue keeps its number, and its earlier process is gone.
            () if self.job.is_some() && self.job == own_job() && self.process != std::process::id() => Life::Dead,
            () if self.host != host() => Life::Elsewhere,
            () if self.boot == boot() && begun(self.process) == Some(self.begun) => Life::Alive,
            () => Life::Dead,
        }
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "process {} on {}", self.process, self.host)?;
        self.job.iter().try_for_each(|job| write!(f, " (job {job})"))?;
        write!(f, " since {}", self.since)
    }
}

/// The number of the cluster's job that this process belongs to.
fn own_job() -> Option<String> {
    let slurm = |name: &str| std::env::var(format!("SLURM_{name}")).ok();
    // As Slurm's commands name it: `12_3` is job 3 of array 12.
    let in_array = || Some(format!("{}_{}", slurm("ARRAY_JOB_ID")?, slurm("ARRAY_TASK_ID")?));
    in_array().or_else(|| slurm("JOB_ID"))
}

/// The boot of this machine.
fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}

/// When a process began; `None` when there is no such process, or nothing is left of it but its exit status.
fn begun(process: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The program's name may hold blanks and brackets; the fields after it do not.
    let mut fields = stat[stat.rfind(')')? + 1..].split_whitespace();
    let state = fields.next()?;
    let begun = fields.nth(18)?.parse().ok()?;
    (state != "Z" && state != "X").then_some(begun)
}

/// The right to work on a key.
///
/// The lock belongs to the open file and not to the process. A child that is given the file as its standard input
/// holds the lock too: should the runner be killed, nobody takes the key up before the child is gone as well.
pub(crate) struct Lease(File);

/// How long to wait for a holder that is just about to end.
const PATIENCE: Duration = Duration::from_secs(2);

impl Lease {
    /// Takes the lock at `path` for work on `node`, or tells in a sentence who holds it.
    pub(crate) fn take(path: &Path, node: &str) -> Result<Result<Self, String>> {
        let begun = Instant::now();
        loop {
            match Self::try_take(path, node)? {
                Ok(lease) => return Ok(Ok(lease)),
                Err(holder) if begun.elapsed() >= PATIENCE => return Ok(Err(holder)),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// [`Lease::take`] without patience.
    pub(crate) fn try_take(path: &Path, node: &str) -> Result<Result<Self, String>> {
        let open = File::options().read(true).write(true).create(true).truncate(false).open(path);
        let mut file = open.with_context(|| format!("cannot open the lock {}", path.display()))?;
        let locked = match file.try_lock() {
            Ok(()) => false,
            Err(TryLockError::WouldBlock) => true,
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}; does its file system know locks?", path.display()));
            }
        };
        let mut text = String::new();
        // Who holds it is only told; that somebody does is known from the lock.
        let _ = file.read_to_string(&mut text);
        let holder: Option<Holder> = serde_json::from_str(&text).ok();
        match holder {
            _ if locked => {
                let who = holder.map_or_else(|| "another process".into(), |holder| holder.to_string());
                return Ok(Err(format!("{who} is working on it in the same store")));
            }
            // The kernel gave the lock, which proves that no process of this machine holds it. Of another machine that did
            // not let it go in good order nothing is known: not every network's file system hands locks around.
            Some(holder) if holder.life() == Life::Elsewhere => {
                let how = "is working on it, or ended without a word; this machine cannot ask. If it is gone, call `unlock --force`";
                return Ok(Err(format!("{holder} {how}")));
            }
            _ => {}
        }
        let text = serde_json::to_string(&Holder::here(node))?;
        let told = file.set_len(0).and_then(|()| file.seek(SeekFrom::Start(0))).and_then(|_| file.write_all(text.as_bytes()));
        told.with_context(|| format!("cannot write the lock {}", path.display()))?;
        Ok(Ok(Self(file)))
    }

    /// The lock as a child's standard input.
    pub(crate) fn share(&self) -> Result<Stdio> {
        Ok(self.0.try_clone().context("cannot share the lock with the stage")?.into())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // An empty lock was let go in good order; one that is not, whose holder died, is told apart by its holder's life.
        let _ = self.0.set_len(0);
    }
}

/// Lets go of the lock at `path` for the job of a cluster that is certainly gone, if that job was its last holder.
pub(crate) fn free_of_job(path: &Path, job: &str) -> Result<()> {
    let left = look(path).is_some_and(|found| !found.held && found.holder.is_some_and(|holder| holder.job.as_deref() == Some(job)));
    if left {
        let free = || File::options().write(true).open(path)?.set_len(0);
        free().with_context(|| format!("cannot write the lock {}", path.display()))?;
    }
    Ok(())
}

/// Lets go of the lock at `path` if its holder is dead or, with `elsewhere`, on another machine. Whether it was let go.
///
/// Whoever takes the lock meanwhile keeps it: the kernel's lock is held while the holder is looked at, and the file stays. Only a lock that
/// another machine's kernel holds still is removed whole.
pub(crate) fn free(path: &Path, elsewhere: bool) -> Result<bool> {
    let Ok(mut file) = File::options().read(true).write(true).open(path) else { return Ok(false) };
    let held = match file.try_lock() {
        Ok(()) => false,
        Err(TryLockError::WouldBlock) => true,
        Err(TryLockError::Error(error)) => return Err(error).with_context(|| format!("cannot lock {}", path.display())),
    };
    let mut text = String::new();
    file.read_to_string(&mut text).with_context(|| format!("cannot read {}", path.display()))?;
    let life = serde_json::from_str::<Holder>(&text).ok().map(|holder| holder.life());
    match life {
        _ if held && (!elsewhere || life != Some(Life::Elsewhere)) => return Ok(false),
        Some(Life::Elsewhere) if !elsewhere => return Ok(false),
        _ if held => fs::remove_file(path),
        _ => file.set_len(0),
    }
    .with_context(|| format!("cannot free the lock {}", path.display()))?;
    Ok(true)
}

/// A lock as it is found.
#[derive(Clone, Debug)]
pub struct Found {
    /// Whether a process of this machine, or of another by a file system that hands locks around, holds it.
    pub held: bool,
    /// Who wrote it last without letting it go in good order.
    pub holder: Option<Holder>,
}

/// Looks at the lock at `path`; `None` when there is no such file.
pub(crate) fn look(path: &Path) -> Option<Found> {
    let mut file = File::open(path).ok()?;
    let held = matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    Some(Found { held, holder: serde_json::from_str(&text).ok() })
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
        let lease = Lease::take(&path, "a").unwrap().ok().unwrap();
        let holder = Lease::take(&path, "b").unwrap().err().unwrap();
        assert!(holder.starts_with(&format!("process {} on ", std::process::id())), "{holder}");
        assert!(look(&path).unwrap().held);
        drop(lease);
        assert!(!look(&path).unwrap().held);
        assert!(Lease::take(&path, "a").unwrap().is_ok());
    }

    #[test]
    fn a_lock_is_freed_of_the_dead_and_by_force_of_other_machines_and_never_of_the_living() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let lease = Lease::take(&path, "a").unwrap().ok().unwrap();
        assert!(!free(&path, true).unwrap(), "not even by force");
        assert!(Lease::try_take(&path, "b").unwrap().is_err(), "it is still held");
        drop(lease);
        let dead = Holder { boot: "earlier".into(), ..Holder::here("a") };
        fs::write(&path, serde_json::to_string(&dead).unwrap()).unwrap();
        assert!(free(&path, false).unwrap());
        fs::write(&path, serde_json::to_string(&Holder { host: "elsewhere".into(), ..dead }).unwrap()).unwrap();
        assert!(!free(&path, false).unwrap());
        assert!(free(&path, true).unwrap());
        assert!(Lease::try_take(&path, "b").unwrap().is_ok());
    }

    #[test]
    fn the_dead_are_told_from_the_living_and_from_those_elsewhere() {
        let mine = Holder::here("a");
        assert_eq!(mine.life(), Life::Alive);
        assert_eq!(Holder { begun: mine.begun + 1, ..mine.clone() }.life(), Life::Dead, "the number was given to another process");
        assert_eq!(Holder { boot: "earlier".into(), ..mine.clone() }.life(), Life::Dead);
        assert_eq!(Holder { host: "elsewhere".into(), ..mine }.life(), Life::Elsewhere);
    }

    #[test]
    fn a_lock_that_a_dead_process_left_is_taken_and_one_of_another_machine_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let dead = Holder { boot: "earlier".into(), ..Holder::here("a") };
        fs::write(&path, serde_json::to_string(&dead).unwrap()).unwrap();
        assert!(Lease::take(&path, "a").unwrap().is_ok());
        let elsewhere = Holder { host: "elsewhere".into(), job: Some("12_3".into()), ..dead };
        fs::write(&path, serde_json::to_string(&elsewhere).unwrap()).unwrap();
        let refused = Lease::take(&path, "a").unwrap().err().unwrap();
        assert!(refused.contains(" on elsewhere") && refused.contains("unlock --force"), "{refused}");
        free_of_job(&path, "12_4").unwrap();
        assert!(Lease::try_take(&path, "a").unwrap().is_err(), "another job says nothing about this one");
        free_of_job(&path, "12_3").unwrap();
        assert!(Lease::try_take(&path, "a").unwrap().is_ok());
    }
}
