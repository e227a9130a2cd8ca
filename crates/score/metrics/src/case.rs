use labels::{LabelError, LabelPattern};
use ndarray::{ArrayView3, Axis};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::extents::{Extents, SlicePairs, SliceSink};
use crate::mask::{Mask, Region, dice};
use crate::surface::SurfaceDistances;
use crate::{MapKind, MetricsError, Protocol, Scored, ScoredClass, Scoring, Stat};

/// How the classes of one case came out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CaseScores {
    /// The rules that were followed.
    pub protocol: Protocol,
    /// The scores of each class, in the order of the [`Scoring`].
    pub classes: Vec<ClassScore>,
}

/// How one class of one case came out. A score is absent where the protocol does not define it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassScore {
    /// The class.
    #[serde(flatten)]
    pub class: ScoredClass,
    /// Dice similarity coefficient, 0 to 1.
    pub dsc: Option<f64>,
    /// Normalised surface Dice at [`Protocol::nsd_tolerance_mm`], 0 to 1.
    pub nsd: Option<f64>,
    /// Hausdorff distance in mm.
    pub hd_mm: Option<f64>,
    /// 95th percentile Hausdorff distance in mm, weighted by surface area.
    pub hd95_mm: Option<f64>,
    /// What was special about the class in this case.
    pub note: Option<Note>,
}

/// Why a score is absent, or set by rule instead of measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Note {
    /// Neither map has the class: 1 officially, no score plainly.
    AbsentFromBoth,
    /// The prediction invented the class: DSC and NSD are 0.
    AbsentFromTruth,
    /// The prediction missed the class: DSC and NSD are 0.
    AbsentFromPrediction,
    /// The ground truth lies on one axial slice, which the official evaluator crops away and then fails: no
    /// score.
    TruthOnOneSlice,
}

impl Note {
    /// The note as one word, as in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AbsentFromBoth => "absent_from_both",
            Self::AbsentFromTruth => "absent_from_truth",
            Self::AbsentFromPrediction => "absent_from_prediction",
            Self::TruthOnOneSlice => "truth_on_one_slice",
        }
    }
}

impl CaseScores {
    /// The scores of a class.
    pub fn class(&self, key: &str) -> Option<&ClassScore> {
        self.classes.iter().find(|score| score.class.key == key)
    }

    /// The mean DSC of the classes of a group that have one.
    pub fn mean_dsc(&self, group: &str) -> Option<f64> {
        let dsc: Vec<f64> = self.classes.iter().filter(|score| score.class.group == group).filter_map(|score| score.dsc).collect();
        Stat::of(&dsc).mean
    }
}

impl ClassScore {
    fn by_rule(class: &ScoredClass, score: Option<f64>, note: Note) -> Self {
        Self { class: class.clone(), dsc: score, nsd: score, hd_mm: None, hd95_mm: None, note: Some(note) }
    }
}

/// Scores a predicted label map against the ground truth, class by class.
///
/// Both maps are indexed `[x, y, z]` on one grid; `spacing_mm` is the ground truth's, as its header's voxel sizes say. Classes run
/// in parallel, each inside the box that holds it in either map.
///
/// # Errors
/// If the shapes differ, the spacing is not positive, or a map holds a value that the scoring does not know.
#[allow(clippy::needless_pass_by_value, reason = "views go by value, as in ndarray")]
pub fn evaluate_case(
    prediction: ArrayView3<'_, u8>,
    truth: ArrayView3<'_, u8>,
    spacing_mm: [f64; 3],
    scoring: &Scoring,
    protocol: Protocol,
) -> Result<CaseScores, MetricsError> {
    if prediction.shape() != truth.shape() {
        return Err(MetricsError::ShapeMismatch { prediction: prediction.shape().to_vec(), truth: truth.shape().to_vec() });
    }
    let [scores] = evaluate_slices(&Held { prediction, truth }, spacing_mm, scoring, [protocol])?;
    Ok(scores)
}

/// [`evaluate_case`] by several protocols of maps that are read slice by slice, once to find the classes and once for as many
/// classes as are held at a time: a bit for each voxel of a class's box.
///
/// # Errors
/// As [`evaluate_case`], and when slices cannot be read.
pub fn evaluate_slices<S: SlicePairs, const N: usize>(
    maps: &S,
    spacing_mm: [f64; 3],
    scoring: &Scoring,
    protocols: [Protocol; N],
) -> Result<[CaseScores; N], S::Error> {
    evaluate_in_groups(maps, spacing_mm, scoring, protocols, MOST_HELD)
}

fn evaluate_in_groups<S: SlicePairs, const N: usize>(
    maps: &S,
    spacing_mm: [f64; 3],
    scoring: &Scoring,
    protocols: [Protocol; N],
    most_held: usize,
) -> Result<[CaseScores; N], S::Error> {
    check_spacing(spacing_mm)?;
    let extents = Extents::of(maps)?;
    check_values(MapKind::Prediction, &extents.prediction.voxels, scoring.prediction)?;
    check_values(MapKind::Truth, &extents.truth.voxels, scoring.truth)?;
    let (width, all) = (maps.shape()[0], scoring.classes());
    let mut classes: Vec<Vec<ClassScore>> =
        all.iter().map(|class| protocols.map(|protocol| absent(class, &extents, protocol)).into()).collect();
    for group in extents.groups(all, most_held) {
        let mut pairs: Vec<Pair<'_>> = group.iter().map(|&at| Pair::new(&all[at], &extents)).collect();
        maps.each(&mut |z, prediction, truth| pairs.iter_mut().for_each(|pair| pair.add_slice(z, prediction, truth, width)))?;
        let score = |pair: &Pair<'_>| pair.scores(spacing_mm, &protocols);
        let scored: Vec<Vec<ClassScore>> = pairs.par_iter().map(score).collect::<Result<_, MetricsError>>()?;
        group.into_iter().zip(scored).for_each(|(at, scores)| classes[at] = scores);
    }
    Ok(std::array::from_fn(|n| CaseScores { protocol: protocols[n], classes: classes.iter().map(|scores| scores[n].clone()).collect() }))
}

/// Bytes of masks that are held at a time.
const MOST_HELD: usize = 1 << 27;

/// Two maps in memory.
struct Held<'a> {
    prediction: ArrayView3<'a, u8>,
    truth: ArrayView3<'a, u8>,
}

impl SlicePairs for Held<'_> {
    type Error = MetricsError;

    fn shape(&self) -> [usize; 3] {
        self.truth.dim().into()
    }

    fn each(&self, sink: &mut SliceSink<'_>) -> Result<(), MetricsError> {
        let mut slices = [Vec::new(), Vec::new()];
        for z in 0..self.truth.len_of(Axis(2)) {
            for (slice, map) in slices.iter_mut().zip([&self.prediction, &self.truth]) {
                slice.clear();
                slice.extend(map.index_axis(Axis(2), z).t().iter().copied());
            }
            sink(z, &slices[0], &slices[1]);
        }
        Ok(())
    }
}

pub(crate) fn check_spacing(spacing_mm: [f64; 3]) -> Result<(), MetricsError> {
    if spacing_mm.iter().all(|mm| mm.is_finite() && *mm > 0.0) { Ok(()) } else { Err(MetricsError::BadSpacing { spacing_mm }) }
}

fn check_values(map: MapKind, voxels: &[u64; 256], declared: LabelPattern) -> Result<(), MetricsError> {
    let values = (0u8..=255).zip(voxels.iter().copied()).skip(1);
    let found: Vec<(u8, u64)> = values.filter(|(value, voxels)| *voxels > 0 && !declared.contains(*value)).collect();
    if found.is_empty() { Ok(()) } else { Err(MetricsError::BadValues { map, reason: LabelError::Undeclared { found, declared } }) }
}

/// The score by rule of a class that a map lacks; what stands here for a class that both have is measured later.
fn absent(scored: &Scored, extents: &Extents, protocol: Protocol) -> ClassScore {
    let class = &scored.class;
    match (extents.prediction.shows(scored.prediction), extents.truth.shows(scored.truth)) {
        (true, false) => ClassScore::by_rule(class, Some(0.0), Note::AbsentFromTruth),
        (false, true) => ClassScore::by_rule(class, Some(0.0), Note::AbsentFromPrediction),
        _ => ClassScore::by_rule(class, (protocol == Protocol::Official).then_some(1.0), Note::AbsentFromBoth),
    }
}

/// A class in both maps, inside the box that holds it in either.
struct Pair<'a> {
    scored: &'a Scored,
    region: Region,
    /// The first and one past the last axial slice of it in the ground truth.
    truth_slices: [usize; 2],
    prediction: Mask,
    truth: Mask,
}

impl<'a> Pair<'a> {
    fn new(scored: &'a Scored, extents: &Extents) -> Self {
        let (region, truth) = (extents.either(scored), extents.truth.region(scored.truth));
        let truth_slices = [truth.start[2], truth.end[2]];
        Self { scored, region, truth_slices, prediction: Mask::empty(region.shape()), truth: Mask::empty(region.shape()) }
    }

    fn add_slice(&mut self, z: usize, prediction: &[u8], truth: &[u8], width: usize) {
        if (self.region.start[2]..self.region.end[2]).contains(&z) {
            let here = z - self.region.start[2];
            self.prediction.add_slice(here, prediction, width, self.scored.prediction, &self.region);
            self.truth.add_slice(here, truth, width, self.scored.truth, &self.region);
        }
    }

    /// The scores by each protocol.
    fn scores(&self, spacing_mm: [f64; 3], protocols: &[Protocol]) -> Result<Vec<ClassScore>, MetricsError> {
        // Protocols that compare the same voxels share the distances.
        let mut whole = None;
        let mut score = |&protocol: &Protocol| {
            if !protocol.compares_only_annotated_slices(&self.scored.class.key) {
                return measure(self.scored, &self.prediction, &self.truth, spacing_mm, protocol, &mut whole);
            }
            let [first, end] = self.truth_slices.map(|z| z - self.region.start[2]);
            if end - first < 2 {
                return Ok(ClassScore::by_rule(&self.scored.class, None, Note::TruthOnOneSlice));
            }
            // The evaluator slices up to the last annotated slice, which Python leaves out.
            let (prediction, truth) = (self.prediction.slices(first..end - 1), self.truth.slices(first..end - 1));
            measure(self.scored, &prediction, &truth, spacing_mm, protocol, &mut None)
        };
        protocols.iter().map(&mut score).collect()
    }
}

/// Scores two masks; `distances` are those between them, computed if they are missing and needed.
fn measure(
    scored: &Scored,
    prediction: &Mask,
    truth: &Mask,
    spacing_mm: [f64; 3],
    protocol: Protocol,
    distances: &mut Option<SurfaceDistances>,
) -> Result<ClassScore, MetricsError> {
    let dsc = dice(prediction, truth);
    let class = scored.class.clone();
    let mut score = ClassScore { class, dsc: Some(protocol.rounded(dsc)), nsd: Some(0.0), hd_mm: None, hd95_mm: None, note: None };
    if protocol.measures_surfaces(dsc) {
        let distances = match distances {
            Some(distances) => distances,
            None => distances.insert(SurfaceDistances::between(prediction, truth, spacing_mm)?),
        };
        let tolerance_mm = protocol.nsd_tolerance_mm(&scored.class.key, scored.nsd_tolerance_mm);
        score.nsd = distances.nsd(tolerance_mm).map(|nsd| protocol.rounded(nsd));
        if protocol.measures_hausdorff() {
            score.hd_mm = distances.hausdorff_mm();
            score.hd95_mm = distances.hausdorff95_mm();
        }
    }
    Ok(score)
}

#[cfg(test)]
mod tests {
    use labels::flare23;
    use ndarray::Array3;

    use super::*;

    #[test]
    fn scores_are_the_same_however_many_classes_are_held_at_a_time() {
        let map = |shift: usize| Array3::from_shape_fn((70, 20, 11), |(x, y, z)| (((x + shift) / 9 + 4 * (y / 7) + z / 5) % 15) as u8);
        let (truth, prediction) = (map(0), map(2));
        let held = Held { prediction: prediction.view(), truth: truth.view() };
        let scoring = Scoring::of(&flare23::classes());
        let protocols = [Protocol::Official, Protocol::Plain];
        let scores = |most_held| evaluate_in_groups(&held, [0.8, 0.8, 2.5], &scoring, protocols, most_held).unwrap();
        let whole = scores(MOST_HELD);
        assert!(whole[1].classes.iter().all(|class| class.hd_mm.is_some()));
        for most_held in [1, 10_000] {
            assert_eq!(scores(most_held), whole);
        }
    }
}
