//! What an output was made from, kept with the output itself.
//!
//! A runner knows by its records what a file is. Without one the file tells: an extended attribute holds the key of its case,
//! which is the runner's, and the hash of its bytes. No file is added to a folder of label maps, and their bytes stay what they
//! are. Whoever copies a file without its attributes, edits it or cuts it has a file that counts for nothing.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Seek as _;
use std::path::{Path, PathBuf};
use std::sync::Once;

use anyhow::{Result, ensure};
use case_store::{Common, Seen, hash_of};
use rustix::fs::{XattrFlags, fgetxattr, fsetxattr};
use serde::{Deserialize, Serialize};
use whole_files::Finished;

use crate::by_case::{CaseSpec, CaseStage};
use crate::digest::{Digested, hashed};
use crate::entry::role;
use crate::io::{DeviceChoice, StageIo};

/// The name of the attribute.
const ATTRIBUTE: &str = "user.flare.made";

/// Longer than any record.
const MOST_BYTES: usize = 1024;

/// The attribute's value, as JSON.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    /// The key of the case.
    key: String,
    /// Which device was asked for: a runner's node has one, and a key none.
    device: DeviceChoice,
    /// The hash of the file's bytes.
    blake3: String,
}

/// What all cases of a run are made from.
pub(crate) struct Origins {
    common: [u8; 32],
    device: DeviceChoice,
    /// The files of the inputs that all share.
    seen: Vec<Seen>,
    no_attributes: Once,
}

/// What one case is made from.
pub(crate) struct Origin {
    key: String,
    seen: Vec<Seen>,
    absent: Vec<PathBuf>,
}

/// What is there of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Nothing,
    /// All that it writes, made from the same.
    Same,
    /// Something else.
    Other,
}

impl Origins {
    /// Reads the inputs that all cases share.
    pub(crate) fn of<S: CaseStage>(config: &S::Config, io: &StageIo) -> Result<Self> {
        let mut shared = BTreeMap::new();
        let mut seen = Vec::new();
        for (name, path) in io.inputs.iter().filter(|(name, _)| !role(S::READS, name).is_some_and(|role| role.by_case)) {
            let input = Digested::of(path)?;
            shared.insert(name.clone(), input.digest);
            seen.extend(input.seen);
        }
        let common = Common { stage: S::NAME.to_owned(), revision: S::REVISION, params: S::case_params(config)?, seed: io.seed, shared };
        Ok(Self { common: common.digest(), device: io.device, seen, no_attributes: Once::new() })
    }

    /// Reads the files that are the case's own. One that is not there has no hash, as in the runner's key.
    pub(crate) fn origin(&self, spec: &CaseSpec) -> Result<Origin> {
        let (mut reads, mut seen, mut absent) = (BTreeMap::new(), Vec::new(), Vec::new());
        for (name, path) in &spec.reads {
            let hash = if path.exists() {
                let (hash, file) = hashed(path)?;
                seen.push(file);
                hash
            } else {
                absent.push(path.clone());
                String::new()
            };
            reads.insert(name.clone(), hash);
        }
        Ok(Origin { key: Common::case_key(&self.common, &spec.id, &reads, &spec.facts), seen, absent })
    }

    /// What is there of a case. Its own files are read only if all that it writes has records.
    pub(crate) fn standing(&self, spec: &CaseSpec, io: &StageIo) -> Standing {
        let paths: Vec<PathBuf> = spec.paths(io).map(|(_, path)| path).collect();
        if !paths.iter().any(|path| path.symlink_metadata().is_ok()) {
            return Standing::Nothing;
        }
        let records: Option<Vec<(File, Record)>> = paths.iter().map(|path| recorded(path)).collect();
        let is_same = records.is_some_and(|records| {
            self.origin(spec).is_ok_and(|origin| {
                let same = |(file, Record { key, device, blake3 }): &(File, Record)| {
                    *key == origin.key && *device == self.device && hash_of(file).is_ok_and(|hash| hash == *blake3)
                };
                records.iter().all(same)
            })
        });
        if is_same { Standing::Same } else { Standing::Other }
    }

    /// Gives the files of a case that was done their records, if what it was made from is still there as it was.
    pub(crate) fn record(&self, origin: &Origin, files: Vec<Finished>, io: &StageIo) -> Result<()> {
        self.seen.iter().chain(&origin.seen).try_for_each(Seen::check)?;
        for path in &origin.absent {
            ensure!(!path.exists(), "{} appeared while the case was done; run again", path.display());
        }
        for Finished { path, mut file } in files {
            file.rewind()?;
            let record = Record { key: origin.key.clone(), device: self.device, blake3: hash_of(&file)? };
            if let Err(error) = fsetxattr(&file, ATTRIBUTE, &serde_json::to_vec(&record)?, XattrFlags::empty()) {
                self.no_attributes.call_once(|| {
                    io.report.note(&format!(
                        "{}: {} cannot carry a record of what it was made from ({error}): the next run makes all outputs anew; \
                         write to a file system with extended attributes to spare that",
                        io.node,
                        path.display()
                    ));
                });
            }
        }
        Ok(())
    }
}

/// A file with its record, if it has one.
fn recorded(path: &Path) -> Option<(File, Record)> {
    // A pipe of that name would be waited for.
    let file = path.is_file().then(|| File::open(path).ok()).flatten()?;
    let mut value = [0; MOST_BYTES];
    let length = fgetxattr(&file, ATTRIBUTE, &mut value).ok()?;
    let record = serde_json::from_slice(&value[..length]).ok()?;
    Some((file, record))
}
