//! Which cases a data set has: their names, subsets and places in the folders.

use std::path::PathBuf;

use labels::Subset;
use streams::{Streams, permutation};

use crate::Config;

/// Where the unlabelled images' numbers begin in FLARE23, and how many labelled ones fit below.
const FIRST_UNLABELED: usize = 2201;

/// One case to make.
#[derive(Clone, Debug)]
pub struct Case {
    /// `FLARE23_0001`, or `FLARE23Ts_0001` for validation.
    pub(crate) id: String,
    /// The subset of the training data; `None` for validation.
    pub(crate) subset: Option<Subset>,
    /// The place in the random streams: subset, then number within the subset, so that one subset's size does not
    /// change another's patients.
    pub(crate) place: [u64; 2],
    /// Whether the label file is wrong and the right one lies in the folder of corrections.
    pub(crate) corrected: bool,
}

impl Case {
    /// The image's path in the output folder.
    pub(crate) fn image(&self) -> PathBuf {
        let folder = match self.subset {
            None => "validation",
            Some(Subset::Du) => "unlabeledTr1800",
            Some(_) => "imagesTr2200",
        };
        PathBuf::from("FLARE").join(folder).join(format!("{}_0000.nii.gz", self.id))
    }

    /// The path of the label file, if the case has one.
    pub(crate) fn label(&self) -> Option<PathBuf> {
        self.has_labels().then(|| PathBuf::from("FLARE/labelsTr2200").join(format!("{}.nii.gz", self.id)))
    }

    /// The path of the correction of [`Case::label`], if there is one.
    pub(crate) fn correction(&self) -> Option<PathBuf> {
        self.corrected.then(|| PathBuf::from("FLARE/labelsTr2200/20230507-fix").join(format!("{}.nii.gz", self.id)))
    }

    /// The path of the full truth.
    pub(crate) fn truth(&self) -> PathBuf {
        PathBuf::from("truth").join(format!("{}.nii.gz", self.id))
    }

    /// What its annotators made of the true `label`.
    pub(crate) fn annotated(&self, label: u8) -> u8 {
        let Some(subset) = self.subset else { return labels::BACKGROUND };
        let seen = match label {
            labels::TUMOR => labels::SubsetName::Dc.contains(subset),
            organ => subset.annotated_organs().contains(organ),
        };
        if seen { label } else { labels::BACKGROUND }
    }

    /// The files of the case, in the output folder.
    pub(crate) fn files(&self) -> Vec<String> {
        let files = [Some(self.image()), self.label(), self.correction(), Some(self.truth())];
        files.into_iter().flatten().map(|path| path.display().to_string()).collect()
    }

    fn has_labels(&self) -> bool {
        self.subset.is_some_and(|subset| subset != Subset::Du)
    }
}

/// All cases of a data set: labelled training cases by subset, unlabelled ones, validation.
pub(crate) fn plan(config: &Config, streams: &Streams) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for subset in [Subset::Dl1, Subset::Dl2, Subset::Dl3, Subset::Dl4] {
        for index in 0..config.cases.of(subset) {
            let id = format!("FLARE23_{:04}", cases.len() + 1);
            cases.push(Case { id, subset: Some(subset), place: [stream_of(Some(subset)), index as u64], corrected: false });
        }
    }
    let labelled = cases.len();
    for index in permutation(&mut streams.stream("phantom corrections", &[]), labelled).into_iter().take(config.corrected) {
        cases[index].corrected = true;
    }
    // Numbers stay FLARE's own unless there are more labelled cases than FLARE has.
    let first = FIRST_UNLABELED.max(labelled + 1);
    for index in 0..config.cases.unlabeled {
        let subset = Some(Subset::Du);
        cases.push(Case {
            id: format!("FLARE23_{:04}", first + index),
            subset,
            place: [stream_of(subset), index as u64],
            corrected: false,
        });
    }
    for index in 0..config.validation {
        cases.push(Case {
            id: format!("FLARE23Ts_{:04}", index + 1),
            subset: None,
            place: [stream_of(None), index as u64],
            corrected: false,
        });
    }
    cases
}

/// A number for each kind of case that never changes.
fn stream_of(subset: Option<Subset>) -> u64 {
    match subset {
        Some(Subset::Du) => 0,
        Some(Subset::Dl1) => 1,
        Some(Subset::Dl2) => 2,
        Some(Subset::Dl3) => 3,
        Some(Subset::Dl4) => 4,
        Some(Subset::Other) => 5,
        None => 6,
    }
}
