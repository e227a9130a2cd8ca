//! All stages, in the order of the method.

use stage_kit::Entry;

/// Every stage that a pipeline file may name.
pub(crate) const STAGES: &[Entry] = &[
    Entry::of::<phantom::Phantom>(),
    Entry::of::<partition::Partition>(),
    Entry::of::<preprocess::Preprocess>(),
    Entry::of::<train_teacher::TrainTeacher>(),
    Entry::of::<pseudo_label::PseudoLabel>(),
    Entry::of::<train_student::TrainStudent>(),
    Entry::of::<segment::Segment>(),
    Entry::of::<overlay::Overlay>(),
    Entry::of::<resample_back::ResampleBack>(),
    Entry::of::<evaluate::Evaluate>(),
];
