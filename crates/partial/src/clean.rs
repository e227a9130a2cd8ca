//! What is done to label maps at the end.

use ndarray::Array3;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use volume::Keep;

use crate::annotation::Class;

/// Post-processing. DoDNet's keeps the largest part of organs and drops tumors of up to 50 voxels. Voxels that touch by a
/// face, an edge or a corner belong together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Clean {
    /// The organs of which only the largest part is kept.
    #[serde(default)]
    pub largest_part: Vec<Class>,
    /// Parts of the tumor with fewer voxels of the model grid are dropped.
    #[serde(default)]
    pub smallest_tumor_voxels: usize,
}

impl Clean {
    /// Cleans a map of organs.
    pub fn organs(&self, labels: &mut Array3<u8>) {
        let is_one_piece = |label: u8| self.largest_part.iter().any(|class| class.label() == label);
        volume::keep_parts(labels, |label| if is_one_piece(label) { Keep::Largest } else { Keep::All });
    }

    /// Cleans a map of the tumor, 0 and 1.
    pub fn tumor(&self, labels: &mut Array3<u8>) {
        if self.smallest_tumor_voxels > 1 {
            volume::keep_parts(labels, |_| Keep::Voxels(self.smallest_tumor_voxels));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::s;

    #[test]
    fn organs_keep_their_largest_part_and_tumors_those_that_are_large_enough() {
        let mut labels = Array3::zeros((10, 9, 8));
        labels.slice_mut(s![0..3, 0..3, 0..3]).fill(1);
        labels[[3, 3, 3]] = 1; // touches the corner
        labels.slice_mut(s![6..8, 6..8, 6..8]).fill(1);
        labels.slice_mut(s![6..8, 0..2, 0..2]).fill(2);
        labels.slice_mut(s![9, 8, 7]).fill(2);
        let liver = Class::of(1).unwrap();
        let clean = Clean { largest_part: vec![liver, Class::of(5).unwrap()], smallest_tumor_voxels: 9 };
        let mut expected = labels.clone();
        expected.slice_mut(s![6..8, 6..8, 6..8]).fill(0);
        let mut cleaned = labels.clone();
        clean.organs(&mut cleaned);
        assert_eq!(cleaned, expected, "the second part of label 1 goes, label 2 stays, label 5 is not there");
        let mut tumor = labels.mapv(|label: u8| u8::from(label == 2));
        clean.tumor(&mut tumor);
        assert_eq!(tumor.sum(), 0, "parts of 8 and 1 voxels are below 9");
        let mut tumor = labels.mapv(|label: u8| u8::from(label == 2));
        Clean { smallest_tumor_voxels: 8, ..clean }.tumor(&mut tumor);
        assert_eq!(tumor.sum(), 8);
    }
}
