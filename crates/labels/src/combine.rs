//! The two rules that combine label maps: cancer over organs, and a teacher's organs around true ones.
//!
//! All functions work on voxels in any order, so a caller may pass a whole volume or one slab at a time.

use crate::{BACKGROUND, LabelError, LabelPattern, NUM_ORGANS, TUMOR};

const HIGHEST_ORGAN: u8 = NUM_ORGANS as u8;

/// Lays a cancer map over an organ map: tumor where `cancer` is 1, `organs` elsewhere (paper, section 2.4).
///
/// `organs` may already hold tumor voxels; they stay. Laying the same cancer twice changes nothing.
///
/// # Errors
/// If the lengths differ, `organs` holds a value above 14 or `cancer` one above 1. `out` is untouched then.
pub fn overlay(organs: &[u8], cancer: &[u8], out: &mut [u8]) -> Result<(), LabelError> {
    check_length("the output", out, organs.len())?;
    check_overlay(organs, cancer)?;
    out.copy_from_slice(organs);
    put_cancer(out, cancer);
    Ok(())
}

/// [`overlay`] into the organ map itself, for slabs that pass through memory once.
///
/// # Errors
/// As [`overlay`]; `labels` is untouched then.
pub fn overlay_in_place(labels: &mut [u8], cancer: &[u8]) -> Result<(), LabelError> {
    check_overlay(labels, cancer)?;
    put_cancer(labels, cancer);
    Ok(())
}

fn check_overlay(organs: &[u8], cancer: &[u8]) -> Result<(), LabelError> {
    check_length("the cancer map", cancer, organs.len())?;
    check_highest("the organ map", organs, TUMOR)?;
    check_highest("the cancer map", cancer, 1)
}

fn put_cancer(labels: &mut [u8], cancer: &[u8]) {
    for (label, &is_cancer) in labels.iter_mut().zip(cancer) {
        *label = if is_cancer == 0 { *label } else { TUMOR };
    }
}

/// Organ targets for `D_l3'`: the five true organs, and the eight others from a teacher (paper, section 2.3).
///
/// This is [`merge_annotated_organs`] with the five organs annotated; the rules stand there.
///
/// # Errors
/// As [`merge_annotated_organs`].
pub fn merge_pseudo_organs(truth: &[u8], pseudo_organs: &[u8], out: &mut [u8]) -> Result<(), LabelError> {
    merge_annotated_organs(LabelPattern::FIVE_ORGANS, truth, pseudo_organs, out)
}

/// Completes a partly annotated organ map with a teacher's organs, voxel by voxel (see [`organ_target`]).
///
/// `annotated` are the organs that the annotators of `truth` looked for (tumor in it has no effect). With
/// no organ annotated the result is the teacher's map; with all 13 it is the truth, except under tumors.
///
/// # Errors
/// If the lengths differ, `truth` holds a value above 14 or `pseudo_organs` one above 13. `out` is
/// untouched then.
pub fn merge_annotated_organs(annotated: LabelPattern, truth: &[u8], pseudo_organs: &[u8], out: &mut [u8]) -> Result<(), LabelError> {
    check_length("the pseudo-label map", pseudo_organs, truth.len())?;
    check_length("the output", out, truth.len())?;
    check_highest("the true label map", truth, TUMOR)?;
    check_highest("the pseudo-label map", pseudo_organs, HIGHEST_ORGAN)?;
    for ((target, &true_label), &pseudo_organ) in out.iter_mut().zip(truth).zip(pseudo_organs) {
        *target = organ_target(annotated, true_label, pseudo_organ);
    }
    Ok(())
}

/// The organ target of one voxel, given its true label and the teacher's organ.
///
/// - A true organ wins.
/// - On true background the teacher may add only organs that were not annotated: where it says an annotated
///   one, the annotators looked and found none, so the target is background.
/// - Under a true tumor no organ is annotated, because a voxel has one label. The teacher's organ is taken,
///   whichever it is: cancer is laid over organs at the end, so the organ network should see the whole organ.
pub const fn organ_target(annotated: LabelPattern, true_label: u8, pseudo_organ: u8) -> u8 {
    match true_label {
        BACKGROUND if annotated.contains(pseudo_organ) => BACKGROUND,
        BACKGROUND | TUMOR => pseudo_organ,
        organ => organ,
    }
}

/// Whether the truth alone decides the organ target of a voxel (see [`organ_target`]): a true organ, or true background
/// where all organs were annotated or the teacher says one that was.
#[must_use]
pub const fn truth_decides(annotated: LabelPattern, true_label: u8, pseudo_organ: u8) -> bool {
    match true_label {
        BACKGROUND => annotated.contains(pseudo_organ) || LabelPattern::ORGANS.minus(annotated).is_empty(),
        TUMOR => false,
        _ => true,
    }
}

fn check_length(what: &'static str, map: &[u8], expected: usize) -> Result<(), LabelError> {
    if map.len() == expected {
        return Ok(());
    }
    Err(LabelError::LengthMismatch { what, found: map.len(), expected })
}

fn check_highest(what: &'static str, map: &[u8], highest: u8) -> Result<(), LabelError> {
    let value = map.iter().fold(0, |highest, &label| label.max(highest));
    if value <= highest {
        return Ok(());
    }
    Err(LabelError::ValueTooHigh { what, value, highest })
}
