//! FLARE23's subsets as phantoms know them: which classes their annotators labelled, and which patients have tumors.

use labels::LabelPattern;
use labels::flare23::{FIVE_ORGANS, TUMOR};

/// A subset of the training data (paper, section 2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subset {
    /// `D_u`: no labels.
    Unlabeled,
    /// `D_l1`: 13 organs.
    Organs,
    /// `D_l2`: five organs.
    FiveOrgans,
    /// `D_l3`: five organs and tumor.
    FiveOrgansAndTumor,
    /// `D_l4`: tumor alone.
    Tumor,
    /// `D_other`: 13 organs and tumor, which FLARE23 does not have.
    OrgansAndTumor,
}

impl Subset {
    /// Those with labels, in the paper's order, and what the paper does not have.
    pub(crate) const LABELLED: [Self; 5] = [Self::Organs, Self::FiveOrgans, Self::FiveOrgansAndTumor, Self::Tumor, Self::OrgansAndTumor];

    /// Its name in `pipeline.yaml`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Unlabeled => "D_u",
            Self::Organs => "D_l1",
            Self::FiveOrgans => "D_l2",
            Self::FiveOrgansAndTumor => "D_l3",
            Self::Tumor => "D_l4",
            Self::OrgansAndTumor => "D_other",
        }
    }

    /// What its label maps show of the truth.
    pub(crate) fn labelled(self) -> LabelPattern {
        let five = LabelPattern::from_iter(FIVE_ORGANS);
        match self {
            Self::Unlabeled => LabelPattern::EMPTY,
            // In FLARE23 the tumor is the last class.
            Self::Organs => (1..TUMOR).collect(),
            Self::FiveOrgans => five,
            Self::FiveOrgansAndTumor => five.union(LabelPattern::of(TUMOR)),
            Self::Tumor => LabelPattern::of(TUMOR),
            Self::OrgansAndTumor => (1..=TUMOR).collect(),
        }
    }
}
