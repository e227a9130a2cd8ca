//! How far the labels of a scan can be trusted: the probability of each, in every look at the scan, and a second opinion.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use inference::{Look, SlidingWindow};
use labels::{Classes, FULL_TRUST};
use ndarray::{Array3, Zip};
use pseudo_labels::{Filter, Found, Weighed};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use stage_kit::StageIo;
use volume::nifti;

use crate::found::Asked;

/// How labels are weighed. The trust in a label is its probability in the look that finds it least likely.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrustConfig {
    /// Further looks at each scan beside the one that makes the labels: a label that depends on how one looks is less trusted.
    #[serde(default)]
    pub looks: Vec<LookParams>,
    /// Who makes the labels.
    #[serde(default)]
    pub labels_from: LabelsFrom,
    /// With labels of the teachers and an `opinion`: the most that a label is trusted with which the opinion disagrees, 0 to 1.
    #[serde(default)]
    pub disagreeing: f64,
    /// What trust a label needs.
    #[serde(default)]
    pub filter: Filter,
}

/// A look at a scan in another way.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LookParams {
    /// The overlap of the windows, which then lie in other places; left out, that of `window`.
    #[serde(default)]
    pub overlap: Option<f64>,
    /// What intensities (0 to 1) are multiplied by, as in the augmentation of training.
    #[serde(default = "one")]
    pub scale: f64,
    /// What is added to them.
    #[serde(default)]
    pub shift: f64,
}

fn one() -> f64 {
    1.0
}

/// Who makes the labels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LabelsFrom {
    /// The teachers; an opinion may disagree.
    #[default]
    Teachers,
    /// The opinion, such as the student of the round before; the teachers say how likely they find its labels.
    Opinion,
}

impl LookParams {
    /// The look that makes the labels.
    pub(crate) const FIRST: Self = Self { overlap: None, scale: 1.0, shift: 0.0 };

    /// How it lays windows.
    fn window(&self, window: &SlidingWindow) -> SlidingWindow {
        SlidingWindow { overlap: self.overlap.unwrap_or(window.overlap), ..*window }
    }

    /// How likely the model finds given labels when it looks so, in 255ths.
    fn belief(&self, labels: &Array3<u8>, asked: &Asked<'_>) -> Result<Array3<u8>> {
        let look = Look { window: self.window(&asked.model.view().window), scale: self.scale, shift: self.shift };
        Ok(asked.model.belief_in(labels, asked.shown, asked.output, &look)?)
    }
}

impl TrustConfig {
    pub(crate) fn check(&self, window: &SlidingWindow) -> Result<()> {
        for (n, look) in self.looks.iter().enumerate() {
            let window_of_look = look.window(window);
            window_of_look.check().with_context(|| format!("trust.looks[{n}]"))?;
            ensure!(look.scale.is_finite() && look.scale > 0.0, "trust.looks[{n}].scale is {}; it must be above 0", look.scale);
            ensure!(look.shift.is_finite(), "trust.looks[{n}].shift is {}; it must be a number", look.shift);
            let same = LookParams { overlap: None, ..*look } == LookParams::FIRST && window_of_look == *window;
            ensure!(!same, "trust.looks[{n}] is the look that makes the labels; give it another `overlap`, `scale` or `shift`");
        }
        let bound = self.disagreeing;
        ensure!((0.0..=1.0).contains(&bound), "trust.disagreeing is {bound}; it must be from 0 to 1, as trust is");
        self.filter.check().context("trust.filter")
    }

    /// The labels of a scan for one group, and the trust in them.
    pub(crate) fn weigh(&self, asked: &Asked<'_>, opinion: Option<&Path>) -> Result<Weighed> {
        let opinion = opinion.map(|path| read_opinion(path, asked)).transpose()?;
        match (self.labels_from, opinion) {
            (LabelsFrom::Teachers, opinion) => self.weigh_own(asked, opinion),
            (LabelsFrom::Opinion, Some(opinion)) => self.weigh_others(asked, opinion),
            (LabelsFrom::Opinion, None) => bail!("trust.labels_from: there is no opinion"),
        }
    }

    /// The teacher's labels.
    fn weigh_own(&self, asked: &Asked<'_>, opinion: Option<Found>) -> Result<Weighed> {
        let [labels, mut trust] = asked.model.segment_with_confidence(asked.shown, asked.output)?;
        self.look_again(asked, &labels, &mut trust)?;
        let most = (self.disagreeing * f64::from(FULL_TRUST)).round() as u8;
        let opinion = opinion.map(|opinion| (opinion, most));
        Ok(Weighed { labels: asked.found(labels, 0), trust: asked.found(trust, FULL_TRUST), opinion })
    }

    /// The labels of an opinion, as far as the teacher believes in them.
    fn weigh_others(&self, asked: &Asked<'_>, opinion: Found) -> Result<Weighed> {
        let labels = asked.of(&opinion);
        let mut trust = LookParams::FIRST.belief(&labels, asked)?;
        self.look_again(asked, &labels, &mut trust)?;
        Ok(Weighed { labels: opinion, trust: asked.found(trust, FULL_TRUST), opinion: None })
    }

    fn look_again(&self, asked: &Asked<'_>, labels: &Array3<u8>, trust: &mut Array3<u8>) -> Result<()> {
        for look in &self.looks {
            let belief = look.belief(labels, asked)?;
            Zip::from(&mut *trust).and(&belief).for_each(|trust, &belief| *trust = belief.min(*trust));
        }
        Ok(())
    }
}

/// The label maps of a second opinion on a case, one for each group.
pub(crate) struct Opinion {
    pub(crate) maps: Vec<PathBuf>,
}

/// The folder behind the role `opinion`, if there is one and the parameters have a use for it.
pub(crate) fn opinions<'a>(trust: Option<&TrustConfig>, io: &'a StageIo) -> Result<Option<&'a Path>> {
    let folder = io.input_opt("opinion")?;
    match (trust, folder) {
        (None, Some(_)) => bail!("the input `opinion` is given, and no parameter `trust`, without which nobody asks for it; give both"),
        (Some(TrustConfig { labels_from: LabelsFrom::Opinion, .. }), None) => {
            bail!("trust.labels_from is `opinion`, and there is no input `opinion`; give the label maps, such as the output of `segment`")
        }
        _ => Ok(folder),
    }
}

impl Opinion {
    /// On a case, in the folder behind the role `opinion`.
    pub(crate) fn on(case: &str, folder: &Path, classes: &Classes) -> Self {
        let map = |group: &labels::Group| folder.join(group.key()).join(format!("{case}.nii.gz"));
        Self { maps: classes.groups().iter().map(map).collect() }
    }
}

fn read_opinion(path: &Path, asked: &Asked<'_>) -> Result<Found> {
    ensure!(path.is_file(), "{} is missing; `opinion` must have label maps of every scan that is labelled", path.display());
    let (labels, _) = nifti::read_labels(path)?;
    asked.check(&labels.data, path)?;
    Ok(Found::of(labels))
}
