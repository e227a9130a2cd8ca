//! What is done to label maps at the end.

use ndarray::Array3;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
        for class in &self.largest_part {
            keep_largest_part(labels, class.label());
        }
    }

    /// Cleans a map of the tumor, 0 and 1.
    pub fn tumor(&self, labels: &mut Array3<u8>) {
        if self.smallest_tumor_voxels > 1 {
            volume::remove_small_parts(labels, self.smallest_tumor_voxels);
        }
    }
}

/// Takes every part of `label` away but the largest; of equal ones the first in memory stays.
fn keep_largest_part(labels: &mut Array3<u8>, label: u8) {
    let shape: [usize; 3] = labels.dim().into();
    let mut left = labels.mapv(|found| found == label);
    let mut largest: Vec<[usize; 3]> = Vec::new();
    for (at, _) in labels.indexed_iter().filter(|(_, found)| **found == label) {
        if !left[at] {
            continue;
        }
        left[at] = false;
        let mut part = vec![at.into()];
        let mut next = 0;
        while let Some(&at) = part.get(next) {
            next += 1;
            for neighbour in neighbours(at, shape).filter(|&neighbour| std::mem::take(&mut left[neighbour])) {
                part.push(neighbour);
            }
        }
        if part.len() > largest.len() {
            largest = part;
        }
    }
    labels.mapv_inplace(|found| if found == label { 0 } else { found });
    largest.into_iter().for_each(|at| labels[at] = label);
}

/// The voxels around `at`, itself among them, that lie in a volume of `shape`.
fn neighbours(at: [usize; 3], shape: [usize; 3]) -> impl Iterator<Item = [usize; 3]> {
    let near = |axis: usize| at[axis].saturating_sub(1)..(at[axis] + 2).min(shape[axis]);
    let (xs, ys, zs) = (near(0), near(1), near(2));
    xs.flat_map(move |x| {
        let zs = zs.clone();
        ys.clone().flat_map(move |y| zs.clone().map(move |z| [x, y, z]))
    })
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
