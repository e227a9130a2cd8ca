//! Which labels of a model are trusted enough to be learned from: bounds for voxels, classes and cases.

use std::collections::BTreeMap;

use labels::{BACKGROUND, BACKGROUND_KEY, Classes, FULL_TRUST, LabelError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What trust a label needs to count. What falls below is ignored; as it stands, nothing does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// The bounds of every class that `classes` does not name.
    #[serde(default)]
    pub default: Bounds,
    /// The bounds of single classes, by names such as `left_adrenal` or `tumor`; `background` is that of all maps.
    #[serde(default)]
    pub classes: BTreeMap<String, Bounds>,
    /// A case is left out of a map altogether if the mean trust in all of it but the background lies below, from 0 to 1.
    #[serde(default)]
    pub case: f64,
}

/// What trust the labels of a class need, from 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bounds {
    /// A voxel with less is ignored.
    #[serde(default)]
    pub voxel: f64,
    /// This share of the voxels of the class in a case is ignored, those with the least trust; where several have the same,
    /// fewer are.
    #[serde(default)]
    pub quantile: f64,
    /// The class is ignored in a case if the mean trust in its voxels lies below.
    #[serde(default)]
    pub case: f64,
}

/// A filter that makes no sense.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum FilterError {
    /// A bound that is no share, with its place.
    #[error("{0} is {1}; it must be from 0 to 1, as trust is")]
    Bound(String, f64),
    /// A class that there is not.
    #[error("classes: {0}")]
    Class(LabelError),
}

/// What became of the labels of one class of one map.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The group, such as `organ`.
    pub map: String,
    /// The class.
    pub class: String,
    /// Voxels that the model says are of the class, without those where the truth is known.
    pub voxels: u64,
    /// The mean trust in them, from 0 to 1.
    pub trust: f64,
    /// The trust that a voxel needed.
    pub bound: f64,
    /// How many voxels are kept.
    pub kept: u64,
    /// Why the class is ignored in this case, if it is.
    pub left_out: Option<String>,
}

impl Filter {
    /// Refuses bounds that make no sense.
    ///
    /// # Errors
    /// Names the first.
    pub fn check(&self) -> Result<(), FilterError> {
        let named = self.classes.iter().map(|(name, bounds)| (format!("classes.{name}"), bounds));
        let bounds = std::iter::once(("default".to_owned(), &self.default)).chain(named);
        let all = bounds.flat_map(|(place, Bounds { voxel, quantile, case })| {
            [("voxel", *voxel), ("quantile", *quantile), ("case", *case)].map(|(name, value)| (format!("{place}.{name}"), value))
        });
        match all.chain([("case".to_owned(), self.case)]).find(|(_, value)| !(0.0..=1.0).contains(value)) {
            Some((place, value)) => Err(FilterError::Bound(place, value)),
            None => Ok(()),
        }
    }

    /// Refuses bounds of classes that there are not.
    ///
    /// # Errors
    /// [`FilterError::Class`].
    pub fn check_classes(&self, classes: &Classes) -> Result<(), FilterError> {
        for name in self.classes.keys().filter(|name| *name != BACKGROUND_KEY) {
            classes.class(name).map_err(FilterError::Class)?;
        }
        Ok(())
    }

    /// Judges the labels of a group, whose voxels are counted but for those that the truth has settled.
    pub(crate) fn judge(&self, classes: &Classes, group: usize, counts: &Counts) -> Judgement {
        let group = &classes.groups()[group];
        let map = group.key();
        let found = Histogram::sum(&counts.0[1..]);
        let case = (found.voxels() > 0 && found.mean() < self.case)
            .then(|| format!("mean trust in all {map} {:.3}, below the case's {}", found.mean(), self.case));
        let judge = |value: u8| {
            let verdict = self.judge_class(map, &classes.key_of(value), &counts.0[usize::from(value)], case.as_ref());
            (value, verdict)
        };
        Judgement(std::iter::once(BACKGROUND).chain(group.values()).map(judge).collect())
    }

    fn judge_class(&self, map: &str, class: &str, found: &Histogram, case: Option<&String>) -> Verdict {
        let bounds = self.classes.get(class).unwrap_or(&self.default);
        let bound = bounds.voxel.max(found.quantile(bounds.quantile));
        let mean = found.mean();
        let left_out =
            case.cloned().or_else(|| (mean < bounds.case).then(|| format!("mean trust {mean:.3}, below the class's {}", bounds.case)));
        let kept = if left_out.is_some() { 0 } else { found.from(bound) };
        Verdict { map: map.into(), class: class.into(), voxels: found.voxels(), trust: mean, bound, kept, left_out }
    }
}

/// The voxels of each value of a map by the trust in them.
pub(crate) struct Counts(Vec<Histogram>);

impl Counts {
    /// No voxels.
    pub(crate) fn new() -> Self {
        Self(vec![Histogram([0; 256]); 256])
    }

    pub(crate) fn add(&mut self, label: u8, trust: u8) {
        self.0[usize::from(label)].0[usize::from(trust)] += 1;
    }
}

/// What becomes of the labels of each class of a map.
pub(crate) struct Judgement(BTreeMap<u8, Verdict>);

impl Judgement {
    /// What is left of the trust in a label: nothing where it is below the bound of its class.
    pub(crate) fn trust(&self, label: u8, trust: u8) -> u8 {
        // A value that is no class of the group is not written by any model.
        let Some(Verdict { left_out, bound, .. }) = self.0.get(&label) else { return 0 };
        if left_out.is_some() || share(trust) < *bound { 0 } else { trust }
    }

    /// The verdicts on each class that the model has found.
    pub(crate) fn verdicts(self) -> Vec<Verdict> {
        self.0.into_values().filter(|verdict| verdict.voxels > 0).collect()
    }
}

/// Trust from 0 to 1.
fn share(trust: u8) -> f64 {
    f64::from(trust) / f64::from(FULL_TRUST)
}

/// Voxels by their trust.
#[derive(Clone)]
struct Histogram([u64; 256]);

impl Histogram {
    fn sum(all: &[Self]) -> Self {
        Self(std::array::from_fn(|trust| all.iter().map(|histogram| histogram.0[trust]).sum()))
    }

    fn counts(&self) -> impl Iterator<Item = (f64, u64)> {
        (0..=FULL_TRUST).map(share).zip(self.0)
    }

    fn voxels(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Full for no voxels.
    #[expect(clippy::cast_precision_loss, reason = "voxels of a scan")]
    fn mean(&self) -> f64 {
        if self.voxels() == 0 {
            return 1.0;
        }
        self.counts().map(|(trust, voxels)| trust * voxels as f64).sum::<f64>() / self.voxels() as f64
    }

    /// The voxels with a trust from `bound` on, but for those with none at all.
    fn from(&self, bound: f64) -> u64 {
        self.counts().filter(|&(trust, _)| trust >= bound && trust > 0.0).map(|(_, voxels)| voxels).sum()
    }

    /// The greatest trust of a voxel below which no more than `part` of the voxels lie; 0 for no voxels.
    #[expect(clippy::cast_precision_loss, reason = "voxels of a scan")]
    fn quantile(&self, part: f64) -> f64 {
        let (mut below, mut greatest) = (0, 0.0);
        for (trust, voxels) in self.counts().filter(|&(_, voxels)| voxels > 0) {
            if below as f64 <= part * self.voxels() as f64 {
                greatest = trust;
            }
            below += voxels;
        }
        greatest
    }
}

/// All cases' verdicts as CSV, one line for each class of each map.
#[must_use]
pub fn table(cases: &[(String, Vec<Verdict>)]) -> String {
    let heads = ["case", "map", "class", "voxels", "trust", "bound", "kept", "left_out"].map(str::to_owned);
    let row = |case: &str, verdict: &Verdict| {
        let Verdict { map, class, voxels, trust, bound, kept, left_out } = verdict;
        let (trust, bound) = (format!("{trust:.4}"), format!("{bound:.4}"));
        let why = left_out.clone().unwrap_or_default();
        [case.to_owned(), map.clone(), class.clone(), voxels.to_string(), trust, bound, kept.to_string(), why]
    };
    let rows = cases.iter().flat_map(|(case, verdicts)| verdicts.iter().map(|verdict| row(case, verdict)));
    tables::to_csv(std::iter::once(heads).chain(rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of these the liver has the value 1, and the spleen 30.
    const LABELS: [u8; 10] = [0, 0, 1, 1, 1, 1, 1, 30, 30, 30];
    const TRUST: [u8; 10] = [255, 0, 51, 102, 153, 204, 255, 51, 51, 0];

    fn classes() -> Classes {
        serde_json::from_str(r#"[{"group": "organs", "classes": {"liver": 1, "spleen": 30}}]"#).unwrap()
    }

    fn applied(filter: &Filter, settled: impl Fn(usize) -> bool) -> (Vec<u8>, Vec<Verdict>) {
        filter.check().unwrap();
        let mut counts = Counts::new();
        (0..10).filter(|&at| !settled(at)).for_each(|at| counts.add(LABELS[at], TRUST[at]));
        let judgement = filter.judge(&classes(), 0, &counts);
        let trust = |at: usize| if settled(at) { FULL_TRUST } else { judgement.trust(LABELS[at], TRUST[at]) };
        ((0..10).map(trust).collect(), judgement.verdicts())
    }

    fn bounds(voxel: f64, quantile: f64, case: f64) -> Bounds {
        Bounds { voxel, quantile, case }
    }

    fn of_liver(liver: Bounds) -> Filter {
        Filter { classes: [("liver".into(), liver)].into(), ..Filter::default() }
    }

    #[test]
    fn without_bounds_trust_stays_as_it_is() {
        let (trust, verdicts) = applied(&Filter::default(), |_| false);
        assert_eq!(trust, TRUST);
        let found: Vec<_> = verdicts.iter().map(|v| (v.class.as_str(), v.voxels, v.kept, v.left_out.is_some())).collect();
        assert_eq!(found, [("background", 2, 1, false), ("liver", 5, 5, false), ("spleen", 3, 2, false)]);
        assert!((verdicts[1].trust - 0.6).abs() < 1e-12);
    }

    #[test]
    fn voxels_below_the_bound_of_their_class_are_ignored() {
        let (trust, verdicts) = applied(&of_liver(bounds(0.6, 0.0, 0.0)), |_| false);
        assert_eq!(trust, [255, 0, 0, 0, 153, 204, 255, 51, 51, 0]);
        assert_eq!((verdicts[1].kept, verdicts[1].bound), (3, 0.6));
    }

    #[test]
    fn a_quantile_takes_the_least_trusted_and_never_more_than_its_share() {
        for (part, first) in [(0.0, 0), (0.19, 0), (0.2, 1), (0.5, 2), (0.8, 4), (1.0, 4)] {
            let (trust, verdicts) = applied(&of_liver(bounds(0.0, part, 0.0)), |_| false);
            let expected: Vec<u8> = (2..7).map(|at| if at < 2 + first { 0 } else { TRUST[at] }).collect();
            assert_eq!(trust[2..7], expected, "{part}");
            assert_eq!(verdicts[1].kept, 5 - first as u64);
        }
        let spleen = Filter { classes: [("spleen".into(), bounds(0.0, 0.5, 0.0))].into(), ..Filter::default() };
        assert_eq!(applied(&spleen, |_| false).0, TRUST, "two voxels tie where one would be too many");
    }

    #[test]
    fn a_class_below_its_bound_is_left_out_of_the_case_and_says_why() {
        let (trust, verdicts) = applied(&Filter { default: bounds(0.0, 0.0, 0.5), ..Filter::default() }, |_| false);
        assert_eq!(trust, [255, 0, 51, 102, 153, 204, 255, 0, 0, 0]);
        assert_eq!(verdicts[2].kept, 0);
        assert_eq!(verdicts[2].left_out.as_deref(), Some("mean trust 0.133, below the class's 0.5"));
    }

    #[test]
    fn a_case_below_its_bound_is_left_out_altogether_but_for_the_truth() {
        let filter = Filter { case: 0.5, ..Filter::default() };
        let (trust, verdicts) = applied(&filter, |_| false);
        assert_eq!(trust, [0; 10]);
        assert!(
            verdicts
                .iter()
                .all(|verdict| verdict.kept == 0 && verdict.left_out.as_ref().is_some_and(|why| why.contains("all organs 0.425")))
        );
        // With the spleen and a voxel of background settled by the truth, the liver's trust is enough.
        let (trust, verdicts) = applied(&filter, |at| at == 1 || LABELS[at] == 30);
        assert_eq!(trust, [255, 255, 51, 102, 153, 204, 255, 255, 255, 255]);
        assert_eq!(verdicts.len(), 2, "nothing is said of what the truth has settled");
        let (trust, _) = applied(&Filter { case: 0.7, ..filter }, |at| LABELS[at] == 30);
        assert_eq!(trust, [0, 0, 0, 0, 0, 0, 0, 255, 255, 255]);
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        let refused = |filter: Filter| filter.check().unwrap_err().to_string();
        assert_eq!(refused(of_liver(bounds(1.5, 0.0, 0.0))), "classes.liver.voxel is 1.5; it must be from 0 to 1, as trust is");
        assert!(refused(Filter { case: f64::NAN, ..Filter::default() }).starts_with("case is NaN"));
        let unknown = Filter { classes: [("lung".into(), Bounds::default())].into(), ..Filter::default() };
        let error = unknown.check_classes(&classes()).unwrap_err().to_string();
        assert_eq!(error, "classes: there is no class `lung`; the classes are liver, spleen");
        let background = Filter { classes: [("background".into(), Bounds::default())].into(), ..Filter::default() };
        assert_eq!(background.check_classes(&classes()), Ok(()));
    }

    #[test]
    fn the_table_has_a_line_for_each_class_found() {
        let (_, verdicts) = applied(&Filter { default: bounds(0.0, 0.0, 0.5), ..Filter::default() }, |_| false);
        let csv = table(&[("case_1".into(), verdicts)]);
        let lines: Vec<&str> = csv.lines().collect();
        assert_eq!(lines[0], "case,map,class,voxels,trust,bound,kept,left_out");
        assert_eq!(lines[1], "case_1,organs,background,2,0.5000,0.0000,1,");
        assert_eq!(lines[3], "case_1,organs,spleen,3,0.1333,0.0000,0,\"mean trust 0.133, below the class's 0.5\"");
    }
}
