use labels::{CLASS_KEYS, LabelPattern, NUM_CLASSES, TUMOR};
use ndarray::{ArrayView3, Axis};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

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
    check_spacing(spacing_mm)?;
    let extents = Extents::of(&prediction, &truth);
    check_labels("the prediction", &extents.prediction_voxels)?;
    check_labels("the ground truth", &extents.truth_voxels)?;
    let classes =
        (1..=TUMOR).into_par_iter().map(|label| score_class(label, &prediction, &truth, &extents, spacing_mm, protocol)).collect();
    Ok(CaseScores { protocol, classes })
}

pub(crate) fn check_spacing(spacing_mm: [f64; 3]) -> Result<(), MetricsError> {
    if spacing_mm.iter().all(|mm| mm.is_finite() && *mm > 0.0) { Ok(()) } else { Err(MetricsError::BadSpacing { spacing_mm }) }
}

fn check_labels(which: &'static str, voxels: &[u64; 256]) -> Result<(), MetricsError> {
    LabelPattern::from_histogram(voxels).map(|_| ()).map_err(|reason| MetricsError::BadLabels { which, reason })
}

fn score_class(
    label: u8,
    prediction: &ArrayView3<'_, u8>,
    truth: &ArrayView3<'_, u8>,
    extents: &Extents,
    spacing_mm: [f64; 3],
    protocol: Protocol,
) -> ClassScore {
    let class = usize::from(label);
    let in_prediction = extents.prediction_voxels[class] > 0;
    let in_truth = extents.truth_voxels[class] > 0;
    match (in_prediction, in_truth) {
        (false, false) => {
            let score = (protocol == Protocol::Official).then_some(1.0);
            return ClassScore::by_rule(label, score, Note::AbsentFromBoth);
        }
        (true, false) => return ClassScore::by_rule(label, Some(0.0), Note::AbsentFromTruth),
        (false, true) => return ClassScore::by_rule(label, Some(0.0), Note::AbsentFromPrediction),
        (true, true) => {}
    }
    let mut region = extents.either[class];
    if protocol.compares_only_annotated_slices(label) {
        let [first, end] = extents.truth_slices[class];
        if end - first < 2 {
            return ClassScore::by_rule(label, None, Note::TruthOnOneSlice);
        }
        // The evaluator slices up to the last annotated slice, which Python leaves out.
        (region.start[2], region.end[2]) = (first, end - 1);
    }
    let prediction = Mask::of_label(prediction, label, &region);
    let truth = Mask::of_label(truth, label, &region);
    measure(label, &prediction, &truth, spacing_mm, protocol)
}

fn measure(label: u8, prediction: &Mask, truth: &Mask, spacing_mm: [f64; 3], protocol: Protocol) -> ClassScore {
    let dsc = dice(prediction, truth);
    let mut score = ClassScore { label, dsc: Some(protocol.rounded(dsc)), nsd: Some(0.0), hd_mm: None, hd95_mm: None, note: None };
    if protocol.measures_surfaces(dsc) {
        let distances = SurfaceDistances::between(prediction, truth, spacing_mm);
        let tolerance_mm = NSD_TOLERANCE_MM[usize::from(label) - 1];
        score.nsd = distances.nsd(tolerance_mm).map(|nsd| protocol.rounded(nsd));
        if protocol.measures_hausdorff() {
            score.hd_mm = distances.hausdorff_mm();
            score.hd95_mm = distances.hausdorff95_mm();
        }
    }
    score
}

/// Where the classes of two maps are.
struct Extents {
    /// Voxels of every value.
    prediction_voxels: [u64; 256],
    truth_voxels: [u64; 256],
    /// The box of each class in either map.
    either: [Region; NUM_CLASSES],
    /// First and one past the last axial slice of each class in the ground truth.
    truth_slices: [[usize; 2]; NUM_CLASSES],
}

impl Extents {
    const NOTHING: Self = Self {
        prediction_voxels: [0; 256],
        truth_voxels: [0; 256],
        either: [Region::EMPTY; NUM_CLASSES],
        truth_slices: [[usize::MAX, 0]; NUM_CLASSES],
    };

    fn of(prediction: &ArrayView3<'_, u8>, truth: &ArrayView3<'_, u8>) -> Self {
        (0..truth.len_of(Axis(2)))
            .into_par_iter()
            .fold(
                || Self::NOTHING,
                |mut extents, z| {
                    extents.add_slice(prediction, truth, z);
                    extents
                },
            )
            .reduce(|| Self::NOTHING, |a, b| a.joined(&b))
    }

    fn add_slice(&mut self, prediction: &ArrayView3<'_, u8>, truth: &ArrayView3<'_, u8>, z: usize) {
        let prediction = prediction.index_axis(Axis(2), z);
        let truth = truth.index_axis(Axis(2), z);
        for (y, (p_row, t_row)) in (prediction.columns().into_iter()).zip(truth.columns()).enumerate() {
            for (x, (&p, &t)) in p_row.iter().zip(&t_row).enumerate() {
                self.prediction_voxels[usize::from(p)] += 1;
                self.truth_voxels[usize::from(t)] += 1;
                if p != 0 {
                    self.include(p, [x, y, z]);
                }
                if t != 0 && t != p {
                    self.include(t, [x, y, z]);
                }
            }
        }
        self.note_slice(truth.iter().copied(), z);
    }

    fn include(&mut self, label: u8, voxel: [usize; 3]) {
        if let Some(region) = self.either.get_mut(usize::from(label)) {
            region.include(voxel);
        }
    }

    fn note_slice(&mut self, truth: impl Iterator<Item = u8>, z: usize) {
        let present = truth.filter(|&label| usize::from(label) < NUM_CLASSES).fold(0u16, |present, label| present | 1 << label);
        for (label, [first, end]) in self.truth_slices.iter_mut().enumerate() {
            if present >> label & 1 == 1 {
                (*first, *end) = ((*first).min(z), (*end).max(z + 1));
            }
        }
    }

    fn joined(mut self, other: &Self) -> Self {
        for value in 0..256 {
            self.prediction_voxels[value] += other.prediction_voxels[value];
            self.truth_voxels[value] += other.truth_voxels[value];
        }
        for label in 0..NUM_CLASSES {
            self.either[label] = self.either[label].joined(&other.either[label]);
            let [first, end] = other.truth_slices[label];
            let slices = &mut self.truth_slices[label];
            *slices = [slices[0].min(first), slices[1].max(end)];
        }
        self
    }
}
