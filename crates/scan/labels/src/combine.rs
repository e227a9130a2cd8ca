//! The two rules that combine label maps: a group over those below it, and a teacher's labels around true ones.
//!
//! All functions work on voxels in any order, so a caller may pass a whole volume or one slab at a time.

use crate::{BACKGROUND, Classes, LabelError, LabelPattern, Regions};

/// Lays the map of a group over one of the groups below it: its classes where it shows some, `labels` elsewhere (paper, section
/// 2.4). Both hold output values. Laying the same map twice changes nothing.
///
/// # Errors
/// If the lengths differ; `labels` is untouched then.
pub fn overlay(labels: &mut [u8], upper: &[u8]) -> Result<(), LabelError> {
    check_length("the upper map", upper, labels.len())?;
    for (label, &upper) in labels.iter_mut().zip(upper) {
        *label = if upper == BACKGROUND { *label } else { upper };
    }
    Ok(())
}

/// How true labels and those of a model become the target of a group (paper, section 2.3), voxel by voxel:
///
/// - A true class of the group wins.
/// - Where the truth shows a class of a higher group alone, such as a tumor, nobody says what lies below it. The model's class is
///   taken, whichever it is: higher groups are laid over at the end, so the network of the group should see all of it.
/// - Elsewhere the model may add only classes that were not annotated: where it says an annotated one, the annotators looked and
///   found none, so the target is background.
#[derive(Clone, Debug)]
pub struct Completion {
    /// For each true value the class of the group.
    own: [u8; 256],
    /// Whether a true value shows a higher group alone.
    hidden: [bool; 256],
    annotated: LabelPattern,
    /// Whether all classes of the group are annotated.
    complete: bool,
}

impl Completion {
    /// The rule for a group, given what the true values mean and which classes were looked for.
    ///
    /// # Errors
    /// [`LabelError::NotExclusive`].
    pub fn of(classes: &Classes, group: usize, truth: &Regions, annotated: LabelPattern) -> Result<Self, LabelError> {
        let values = classes.groups()[group].values();
        let places = truth.table(&values, classes)?;
        let own = places.map(|place| if place == 0 { BACKGROUND } else { values[usize::from(place) - 1] });
        let above = classes.above(group);
        let hidden = std::array::from_fn(|value| own[value] == BACKGROUND && truth.shown_by(value as u8).meets(above));
        Ok(Self { own, hidden, annotated, complete: classes.groups()[group].pattern().is_within(annotated) })
    }

    /// Whether a model need not be asked: all classes of the group are annotated, and nothing lies over it in the truth.
    #[must_use]
    pub fn needs_no_model(&self) -> bool {
        self.complete && !self.hidden.contains(&true)
    }

    /// The target of a voxel.
    #[must_use]
    pub fn target(&self, truth: u8, model: u8) -> u8 {
        match self.own[usize::from(truth)] {
            BACKGROUND if !self.hidden[usize::from(truth)] && self.annotated.contains(model) => BACKGROUND,
            BACKGROUND => model,
            own => own,
        }
    }

    /// Whether the truth alone decides the target of a voxel.
    #[must_use]
    pub fn is_decided(&self, truth: u8, model: u8) -> bool {
        self.own[usize::from(truth)] != BACKGROUND
            || (!self.hidden[usize::from(truth)] && (self.complete || self.annotated.contains(model)))
    }

    /// The targets of the voxels whose true labels are `truth`, in place of the model's labels.
    ///
    /// # Errors
    /// If the lengths differ; `labels` is untouched then.
    pub fn complete(&self, truth: &[u8], labels: &mut [u8]) -> Result<(), LabelError> {
        check_length("the map of the model", labels, truth.len())?;
        labels.iter_mut().zip(truth).for_each(|(label, &truth)| *label = self.target(truth, *label));
        Ok(())
    }
}

fn check_length(what: &'static str, map: &[u8], expected: usize) -> Result<(), LabelError> {
    if map.len() == expected {
        return Ok(());
    }
    Err(LabelError::LengthMismatch { what, found: map.len(), expected })
}
