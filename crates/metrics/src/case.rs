use labels::{CLASS_KEYS, LabelPattern, TUMOR};
use ndarray::{ArrayView3, Axis};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::extents::{Extents, SlicePairs, SliceSink};
use crate::mask::{Mask, Region, dice};
use crate::surface::SurfaceDistances;
use crate::{MetricsError, NSD_TOLERANCE_MM, Protocol};

/// How the 14 classes of one case came out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CaseScores {
    /// The rules that were followed.
    pub protocol: Protocol,
    /// Scores of labels 1 to 14, ascending.
    pub classes: Vec<ClassScore>,
}

/// How one class of one case came out. A score is absent where the protocol does not define it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassScore {
    /// The label, 1 to 14.
    pub label: u8,
    /// Dice similarity coefficient, 0 to 1.
    pub dsc: Option<f64>,
    /// Normalised surface Dice at [`NSD_TOLERANCE_MM`], 0 to 1.
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
    /// The scores of a label from 1 to 14.
    pub fn class(&self, label: u8) -> Option<&ClassScore> {
        self.classes.iter().find(|score| score.label == label)
    }
}

impl ClassScore {
    /// The short name of the class, such as `right_kidney`.
    pub fn key(&self) -> &'static str {
        CLASS_KEYS.get(usize::from(self.label)).copied().unwrap_or("unknown")
    }

    fn by_rule(label: u8, score: Option<f64>, note: Note) -> Self {
        Self { label, dsc: score, nsd: score, hd_mm: None, hd95_mm: None, note: Some(note) }
    }
}

/// Scores a predicted label map against the ground truth, class by class.
///
/// Both maps are indexed `[x, y, z]` on one grid and hold labels 0 to 14; `spacing_mm` is the ground truth's,
/// as its header's voxel sizes say. Classes run in parallel, each inside the box that holds it in either map.
///
/// # Errors
/// If the shapes differ, the spacing is not positive, or a map holds a value above 14.
#[allow(clippy::needless_pass_by_value, reason = "views go by value, as in ndarray")]
pub fn evaluate_case(
    prediction: ArrayView3<'_, u8>,
    truth: ArrayView3<'_, u8>,
    spacing_mm: [f64; 3],
    protocol: Protocol,
) -> Result<CaseScores, MetricsError> {
    if prediction.shape() != truth.shape() {
        return Err(MetricsError::ShapeMismatch { prediction: prediction.shape().to_vec(), truth: truth.shape().to_vec() });
    }
    let [scores] = evaluate_slices(&Held { prediction, truth }, spacing_mm, [protocol])?;
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
    protocols: [Protocol; N],
) -> Result<[CaseScores; N], S::Error> {
    evaluate_in_groups(maps, spacing_mm, protocols, MOST_HELD)
}

fn evaluate_in_groups<S: SlicePairs, const N: usize>(
    maps: &S,
    spacing_mm: [f64; 3],
    protocols: [Protocol; N],
    most_held: usize,
) -> Result<[CaseScores; N], S::Error> {
    check_spacing(spacing_mm)?;
    let extents = Extents::of(maps)?;
    check_labels("the prediction", &extents.prediction_voxels)?;
    check_labels("the ground truth", &extents.truth_voxels)?;
    let width = maps.shape()[0];
    let mut classes: Vec<Vec<ClassScore>> =
        (1..=TUMOR).map(|label| protocols.map(|protocol| absent(label, &extents, protocol)).into()).collect();
    for group in extents.groups(most_held) {
        let mut pairs: Vec<Pair> = group.into_iter().map(|label| Pair::new(label, extents.either[usize::from(label)])).collect();
        maps.each(&mut |z, prediction, truth| pairs.iter_mut().for_each(|pair| pair.add_slice(z, prediction, truth, width)))?;
        let score = |pair: &Pair| Ok((pair.label, pair.scores(extents.truth_slices[usize::from(pair.label)], spacing_mm, &protocols)?));
        let scored: Vec<(u8, Vec<ClassScore>)> = pairs.par_iter().map(score).collect::<Result<_, MetricsError>>()?;
        scored.into_iter().for_each(|(label, scores)| classes[usize::from(label) - 1] = scores);
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

fn check_labels(which: &'static str, voxels: &[u64; 256]) -> Result<(), MetricsError> {
    LabelPattern::from_histogram(voxels).map(|_| ()).map_err(|reason| MetricsError::BadLabels { which, reason })
}

/// The score by rule of a class that a map lacks; what stands here for a class that both have is measured later.
fn absent(label: u8, extents: &Extents, protocol: Protocol) -> ClassScore {
    let class = usize::from(label);
    match (extents.prediction_voxels[class] > 0, extents.truth_voxels[class] > 0) {
        (true, false) => ClassScore::by_rule(label, Some(0.0), Note::AbsentFromTruth),
        (false, true) => ClassScore::by_rule(label, Some(0.0), Note::AbsentFromPrediction),
        _ => ClassScore::by_rule(label, (protocol == Protocol::Official).then_some(1.0), Note::AbsentFromBoth),
    }
}

/// A class in both maps, inside the box that holds it in either.
struct Pair {
    label: u8,
    region: Region,
    prediction: Mask,
    truth: Mask,
}

impl Pair {
    fn new(label: u8, region: Region) -> Self {
        Self { label, region, prediction: Mask::empty(region.shape()), truth: Mask::empty(region.shape()) }
    }

    fn add_slice(&mut self, z: usize, prediction: &[u8], truth: &[u8], width: usize) {
        if (self.region.start[2]..self.region.end[2]).contains(&z) {
            let here = z - self.region.start[2];
            self.prediction.set_slice(here, prediction, width, self.label, &self.region);
            self.truth.set_slice(here, truth, width, self.label, &self.region);
        }
    }

    /// The scores by each protocol; `truth_slices` are the first and one past the last annotated slice.
    fn scores(&self, truth_slices: [usize; 2], spacing_mm: [f64; 3], protocols: &[Protocol]) -> Result<Vec<ClassScore>, MetricsError> {
        // Protocols that compare the same voxels share the distances.
        let mut whole = None;
        let mut score = |&protocol: &Protocol| {
            if !protocol.compares_only_annotated_slices(self.label) {
                return measure(self.label, &self.prediction, &self.truth, spacing_mm, protocol, &mut whole);
            }
            let [first, end] = truth_slices.map(|z| z - self.region.start[2]);
            if end - first < 2 {
                return Ok(ClassScore::by_rule(self.label, None, Note::TruthOnOneSlice));
            }
            // The evaluator slices up to the last annotated slice, which Python leaves out.
            let (prediction, truth) = (self.prediction.slices(first..end - 1), self.truth.slices(first..end - 1));
            measure(self.label, &prediction, &truth, spacing_mm, protocol, &mut None)
        };
        protocols.iter().map(&mut score).collect()
    }
}

/// Scores two masks; `distances` are those between them, computed if they are missing and needed.
fn measure(
    label: u8,
    prediction: &Mask,
    truth: &Mask,
    spacing_mm: [f64; 3],
    protocol: Protocol,
    distances: &mut Option<SurfaceDistances>,
) -> Result<ClassScore, MetricsError> {
    let dsc = dice(prediction, truth);
    let mut score = ClassScore { label, dsc: Some(protocol.rounded(dsc)), nsd: Some(0.0), hd_mm: None, hd95_mm: None, note: None };
    if protocol.measures_surfaces(dsc) {
        let distances = match distances {
            Some(distances) => distances,
            None => distances.insert(SurfaceDistances::between(prediction, truth, spacing_mm)?),
        };
        let tolerance_mm = NSD_TOLERANCE_MM[usize::from(label) - 1];
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
    use ndarray::Array3;

    use super::*;

    #[test]
    fn scores_are_the_same_however_many_classes_are_held_at_a_time() {
        let map = |shift: usize| Array3::from_shape_fn((70, 20, 11), |(x, y, z)| (((x + shift) / 9 + 4 * (y / 7) + z / 5) % 15) as u8);
        let (truth, prediction) = (map(0), map(2));
        let held = Held { prediction: prediction.view(), truth: truth.view() };
        let scores = |most_held| evaluate_in_groups(&held, [0.8, 0.8, 2.5], [Protocol::Official, Protocol::Plain], most_held).unwrap();
        let whole = scores(MOST_HELD);
        assert!(whole[1].classes.iter().all(|class| class.hd_mm.is_some()));
        for most_held in [1, 10_000] {
            assert_eq!(scores(most_held), whole);
        }
    }
}
