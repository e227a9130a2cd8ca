//! nnU-Net's lists of the cases on each side, `splits_final.json`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use dataset::Split;
use serde::Deserialize;
use stage_kit::{Aside, LeftOut};

use crate::gather::Candidate;

/// The two lists of a fold.
pub(crate) struct Lists {
    file: PathBuf,
    fold: u32,
    sides: BTreeMap<String, Split>,
}

#[derive(Deserialize)]
struct Fold {
    train: Vec<String>,
    val: Vec<String>,
}

impl Lists {
    /// Reads the lists of a fold; `file` is relative to the dataset at `root`.
    pub(crate) fn read(root: &Path, file: &Path, fold: u32) -> Result<Self> {
        let path = root.join(file);
        let text = std::fs::read_to_string(&path).with_context(|| {
            format!(
                "split: cannot read {}; put nnU-Net's splits_final.json there, or give the dataset a `split` of its own",
                path.display()
            )
        })?;
        let folds: Vec<Fold> = serde_json::from_str(&text).with_context(|| {
            format!("split: {} is no list of {{\"train\": […], \"val\": […]}}; write it as nnU-Net does", path.display())
        })?;
        let last =
            folds.len().checked_sub(1).with_context(|| format!("split: {} has no fold; write it as nnU-Net does", path.display()))?;
        let Some(Fold { train, val }) = folds.into_iter().nth(fold as usize) else {
            bail!("split: fold: {fold}, and {} has the folds 0 to {last}; ask for one of them", path.display());
        };
        let mut sides: BTreeMap<String, Split> = train.into_iter().map(|case| (case, Split::Training)).collect();
        for case in val {
            ensure!(
                sides.get(&case) != Some(&Split::Training),
                "split: case {case} is on both lists of fold {fold} in {}; take it from one of them",
                path.display()
            );
            sides.insert(case, Split::Validation);
        }
        Ok(Self { file: file.to_owned(), fold, sides })
    }

    /// Puts the cases of a dataset on their sides. Cases on no list are left out, and so are names on a list that no case has.
    pub(crate) fn apply(&self, candidates: &mut Vec<Candidate>, aside: &mut Aside) -> Result<()> {
        candidates.retain_mut(|candidate| {
            candidate.side = self.sides.get(&candidate.files.case).copied();
            if candidate.side.is_none() {
                let remedy = "add the case to a list, or exclude it";
                aside.left_out.push(self.finding(&candidate.files.case, "a case that is on no list", remedy));
            }
            candidate.side.is_some()
        });
        let known: BTreeSet<&str> =
            candidates.iter().map(|one| one.files.case.as_str()).chain(aside.left_out.iter().map(|one| one.case.as_str())).collect();
        let missing = self.sides.keys().filter(|case| !known.contains(case.as_str()));
        let remedy = "put its files into the dataset, or take it from the list";
        let missing: Vec<LeftOut> = missing.map(|case| self.finding(case, "the name of a case that is not there", remedy)).collect();
        aside.left_out.extend(missing);
        self.check_patients(candidates)
    }

    fn finding(&self, case: &str, found: &str, remedy: &str) -> LeftOut {
        LeftOut {
            case: case.to_owned(),
            file: self.file.clone(),
            found: found.to_owned(),
            expected: format!("each case of the dataset on one list of fold {}", self.fold),
            remedy: remedy.to_owned(),
        }
    }

    fn check_patients(&self, candidates: &[Candidate]) -> Result<()> {
        let mut sides = BTreeMap::<&str, &Candidate>::new();
        for candidate in candidates {
            let first = sides.entry(&candidate.unit).or_insert(candidate);
            if first.side != candidate.side {
                let patient = candidate.files.patient.as_deref().unwrap_or(&candidate.unit);
                bail!(
                    "split: {} puts the cases {} and {} of patient {patient} on different sides; correct fold {}, or take `patient` out of the dataset",
                    self.file.display(),
                    first.files.case,
                    candidate.files.case,
                    self.fold
                );
            }
        }
        Ok(())
    }
}
