//! What speaks against mirror images at inference.

use std::fmt;

use crate::{Kind, ModelCard};

/// Labels are the mean over mirror images along all axes, and the training of the model showed it fewer of them, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnseenMirrors {
    /// The axes of what the model is shown: x, y, and z of a volume.
    axes: usize,
    /// Along which of x, y and z it was shown mirror images.
    seen: [bool; 3],
}

impl fmt::Display for UnseenMirrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (asked, seen) = (along(&[true; 3][..self.axes]), along(&self.seen));
        write!(
            f,
            "`flips` mirrors along {asked}, and the training of this model along {seen}: its labels of images that are mirrored otherwise may \
             be bad; leave `flips` out, or train it with `mirror` under `augment`"
        )
    }
}

/// `x, y and z`, or `no axis`.
pub(crate) fn along(axes: &[bool]) -> String {
    let named: Vec<&str> = ["x", "y", "z"].into_iter().zip(axes).filter(|(_, along)| **along).map(|(axis, _)| axis).collect();
    match &named[..] {
        [] => "no axis".to_owned(),
        [axis] => (*axis).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

impl ModelCard {
    /// What speaks against labels by mirror images along every axis; nothing where the training is known to have shown these, and where
    /// nobody knows what it showed.
    #[must_use]
    pub fn unseen_mirrors(&self) -> Option<UnseenMirrors> {
        let axes = if self.kind == Kind::Student { 2 } else { 3 };
        let seen = self.origin.mirrored?;
        seen[..axes].contains(&false).then_some(UnseenMirrors { axes, seen })
    }
}
