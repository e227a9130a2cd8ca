//! The cases of an attempt: what is there already is put into place, and what was made is gathered.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use case_store::{CaseEntry, CaseList, CaseRecord, CaseStore, FileRecord};
use rayon::prelude::*;

/// Puts the files of all finished cases into the folders of the attempt and marks these cases as done; with `verify` only
/// after reading their blobs. Returns how many there are.
pub(crate) fn lay_out(store: &CaseStore, list: &mut CaseList, attempt: &Path, verify: bool) -> Result<usize> {
    let place = |entry: &mut CaseEntry| -> Result<usize> {
        let Some(record) = store.record(&entry.key) else { return Ok(0) };
        if verify && !sound(store, &record)? {
            return Ok(0);
        }
        for (place, file) in &record.files {
            let to = attempt.join(place);
            store.link(&file.hash, &to).with_context(|| format!("cannot put a finished case into {}", to.display()))?;
        }
        entry.done = true;
        Ok(1)
    };
    list.cases.par_iter_mut().map(place).sum()
}

/// Whether the blobs of a record are what they are called. If not, both are taken back.
pub(crate) fn sound(store: &CaseStore, record: &CaseRecord) -> Result<bool> {
    for file in record.files.values() {
        let path = store.blob(&file.hash);
        let read = || case_store::hash_of(&std::fs::File::open(&path)?);
        if read().with_context(|| format!("cannot read {}", path.display()))? != file.hash {
            store.drop_blob(&file.hash)?;
            store.withdraw(&record.key)?;
            return Ok(false);
        }
    }
    Ok(true)
}

/// The files that the cases have put into the output folder: relative path → content.
pub(crate) fn gather(store: &CaseStore, list: &CaseList) -> Result<BTreeMap<String, FileRecord>> {
    let files_of = |entry: &CaseEntry| -> Result<Vec<(String, FileRecord)>> {
        let record = store.record(&entry.key).with_context(|| format!("the stage ended well, but case {} has no result", entry.id))?;
        let output = |(place, file): (String, FileRecord)| Some((place.strip_prefix("output/")?.to_owned(), file));
        Ok(record.files.into_iter().filter_map(output).collect())
    };
    let files: Result<Vec<Vec<_>>> = list.cases.par_iter().map(files_of).collect();
    Ok(files?.into_iter().flatten().collect())
}
