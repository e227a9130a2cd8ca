//! Which cases a data set has: their names, kinds and places in the folders.

use std::path::{Path, PathBuf};

use labels::{BACKGROUND, LabelPattern};
use random::{Streams, permutation};
use serde_json::{Value, json};

use crate::Config;
use crate::collection::Dataset;
use crate::subset::Subset;

/// Where the unlabelled images' numbers begin in FLARE23, and how many labelled ones fit below.
const FIRST_UNLABELED: usize = 2201;

/// What a case belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The training data of FLARE23.
    Training(Subset),
    /// Its validation.
    Validation,
    /// The collection of other datasets.
    Collection(Dataset),
}

impl Kind {
    /// Its name in `cases.json`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Training(subset) => subset.name(),
            Self::Validation => "validation",
            Self::Collection(dataset) => dataset.name(),
        }
    }

    /// A number that never changes, for the random streams.
    fn stream(self) -> u64 {
        match self {
            Self::Training(Subset::Unlabeled) => 0,
            Self::Training(Subset::Organs) => 1,
            Self::Training(Subset::FiveOrgans) => 2,
            Self::Training(Subset::FiveOrgansAndTumor) => 3,
            Self::Training(Subset::Tumor) => 4,
            Self::Training(Subset::OrgansAndTumor) => 5,
            Self::Validation => 6,
            Self::Collection(Dataset::Organs) => 7,
            Self::Collection(Dataset::Kidneys) => 8,
            Self::Collection(Dataset::KidneyTumors) => 9,
            Self::Collection(Dataset::Spleen) => 10,
        }
    }
}

/// One case to make.
#[derive(Clone, Debug)]
pub struct Case {
    /// `FLARE23_0001`, `FLARE23Ts_0001` for validation, or `organs_0001` for a dataset of the collection.
    pub(crate) id: String,
    pub(crate) kind: Kind,
    /// The place in the random streams: kind, then number among its kind, so that the number of one kind does not change
    /// another's patients.
    pub(crate) place: [u64; 2],
    /// Whether the label file is wrong and the right one lies in the folder of corrections.
    pub(crate) corrected: bool,
}

impl Case {
    fn new(id: String, kind: Kind, index: usize) -> Self {
        Self { id, kind, place: [kind.stream(), index as u64], corrected: false }
    }

    /// The image's path in the output folder.
    pub(crate) fn image(&self) -> PathBuf {
        let folder = match self.kind {
            Kind::Training(Subset::Unlabeled) => PathBuf::from("FLARE/unlabeledTr1800"),
            Kind::Training(_) => "FLARE/imagesTr2200".into(),
            Kind::Validation => "FLARE/validation".into(),
            Kind::Collection(dataset) => dataset.folder().join("imagesTr"),
        };
        folder.join(format!("{}_0000.nii.gz", self.id))
    }

    /// The path of the label file, if the case has one.
    pub(crate) fn label(&self) -> Option<PathBuf> {
        let folder = match self.kind {
            Kind::Training(Subset::Unlabeled) | Kind::Validation => return None,
            Kind::Training(_) => PathBuf::from("FLARE/labelsTr2200"),
            Kind::Collection(dataset) => dataset.folder().join("labelsTr"),
        };
        Some(folder.join(format!("{}.nii.gz", self.id)))
    }

    /// The path of the correction of [`Case::label`], if there is one.
    pub(crate) fn correction(&self) -> Option<PathBuf> {
        self.corrected.then(|| Path::new("FLARE/labelsTr2200/20230507-fix").join(format!("{}.nii.gz", self.id)))
    }

    /// The path of the full truth.
    pub(crate) fn truth(&self) -> PathBuf {
        Path::new("truth").join(format!("{}.nii.gz", self.id))
    }

    /// What its annotators made of a voxel, given the class there and the organ that would be there without tumors.
    pub(crate) fn annotated(&self) -> Box<dyn Fn(u8, u8) -> u8> {
        let seen = match self.kind {
            Kind::Training(subset) => subset.labelled(),
            Kind::Validation => LabelPattern::EMPTY,
            Kind::Collection(dataset) => return Box::new(dataset.value()),
        };
        Box::new(move |class, _| if seen.contains(class) { class } else { BACKGROUND })
    }

    /// What its files depend on beside the parameters and the seed.
    pub(crate) fn facts(&self) -> Value {
        // The words are those of the first version, which knew no other kinds: its cases need not be made again.
        let subset = if let Kind::Validation = self.kind { Value::Null } else { self.kind.name().into() };
        json!({"subset": subset, "place": self.place, "corrected": self.corrected})
    }

    /// The files of the case, in the output folder.
    pub(crate) fn files(&self) -> Vec<String> {
        let files = [Some(self.image()), self.label(), self.correction(), Some(self.truth())];
        files.into_iter().flatten().map(|path| path.display().to_string()).collect()
    }
}

/// All cases of a data set: labelled training cases by subset, unlabelled ones, validation, the collection.
pub(crate) fn plan(config: &Config, streams: &Streams) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for subset in Subset::LABELLED {
        for index in 0..config.cases.of(subset) {
            cases.push(Case::new(format!("FLARE23_{:04}", cases.len() + 1), Kind::Training(subset), index));
        }
    }
    let labelled = cases.len();
    for index in permutation(&mut streams.stream("phantom corrections", &[]), labelled).into_iter().take(config.corrected) {
        cases[index].corrected = true;
    }
    // Numbers stay FLARE's own unless there are more labelled cases than FLARE has.
    let first = FIRST_UNLABELED.max(labelled + 1);
    let mut add = |n: usize, name: &str, first: usize, kind: Kind| {
        cases.extend((0..n).map(|index| Case::new(format!("{name}_{:04}", first + index), kind, index)));
    };
    add(config.cases.of(Subset::Unlabeled), "FLARE23", first, Kind::Training(Subset::Unlabeled));
    add(config.validation, "FLARE23Ts", 1, Kind::Validation);
    for dataset in Dataset::ALL {
        add(config.collection.of(dataset), dataset.name(), 1, Kind::Collection(dataset));
    }
    cases
}
