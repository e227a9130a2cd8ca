//! What is done to label maps at the end.

use std::collections::BTreeMap;

use labels::Classes;
use ndarray::Array3;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use volume::Keep;

use crate::annotation::named;
use crate::error::PartialError;

/// Post-processing. DoDNet's keeps the largest part of organs and drops tumors of up to 50 voxels. Voxels of a class that touch by
/// a face, an edge or a corner belong together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Clean {
    /// The classes, or groups of classes, of which only the largest part is kept.
    #[serde(default)]
    pub largest_part: Vec<String>,
    /// For classes or groups of classes: parts with fewer voxels of the model grid are dropped. The number of a class goes before that
    /// of its group.
    #[serde(default)]
    pub smallest_voxels: BTreeMap<String, usize>,
}

impl Clean {
    /// What this is for the classes that are declared.
    ///
    /// # Errors
    /// Names the field, the name in it that is not known, and those that are.
    pub fn of(&self, classes: &Classes) -> Result<Cleaner, PartialError> {
        let mut cleaner = Cleaner { largest: [false; 256], least: [0; 256] };
        for class in named(classes, &self.largest_part, || "clean.largest_part".into())? {
            cleaner.largest[usize::from(class.value())] = true;
        }
        // Groups first, so that a class's own number replaces that of its group.
        let (groups, single): (Vec<_>, Vec<_>) = self.smallest_voxels.iter().partition(|(key, _)| classes.group(key).is_ok());
        for (key, least) in groups.into_iter().chain(single) {
            for class in named(classes, std::slice::from_ref(key), || "clean.smallest_voxels".into())? {
                cleaner.least[usize::from(class.value())] = *least;
            }
        }
        Ok(cleaner)
    }
}

/// [`Clean`] by output values.
#[derive(Clone, Debug, PartialEq)]
pub struct Cleaner {
    /// Whether only the largest part is kept.
    largest: [bool; 256],
    /// The least voxels of a part.
    least: [usize; 256],
}

impl Cleaner {
    /// Cleans the map of a group, in output values.
    pub fn clean(&self, labels: &mut Array3<u8>) {
        let (largest, least) = (|label: u8| self.largest[usize::from(label)], |label: u8| self.least[usize::from(label)]);
        if self.largest.contains(&true) {
            volume::keep_parts(labels, |label| if largest(label) { Keep::Largest } else { Keep::All });
        }
        if self.least.iter().any(|&voxels| voxels > 1) {
            volume::keep_parts(labels, |label| if least(label) > 1 { Keep::Voxels(least(label)) } else { Keep::All });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use labels::flare23;
    use ndarray::s;

    fn clean(largest_part: &[&str], smallest_voxels: &[(&str, usize)]) -> Result<Cleaner, String> {
        let clean = Clean {
            largest_part: largest_part.iter().map(|&key| key.to_owned()).collect(),
            smallest_voxels: smallest_voxels.iter().map(|&(key, n)| (key.to_owned(), n)).collect(),
        };
        clean.of(&flare23::classes()).map_err(|error| error.to_string())
    }

    /// A liver in a large part and one of 8 voxels, and a right kidney in parts of 8 voxels and 1.
    fn organs() -> Array3<u8> {
        let mut labels = Array3::zeros((10, 9, 8));
        labels.slice_mut(s![0..3, 0..3, 0..3]).fill(1);
        labels[[3, 3, 3]] = 1; // touches the corner
        labels.slice_mut(s![6..8, 6..8, 6..8]).fill(1);
        labels.slice_mut(s![6..8, 0..2, 0..2]).fill(2);
        labels[[9, 8, 7]] = 2;
        labels
    }

    #[test]
    fn classes_keep_their_largest_part_or_those_that_are_large_enough() {
        let mut expected = organs();
        expected.slice_mut(s![6..8, 6..8, 6..8]).fill(0);
        let mut cleaned = organs();
        clean(&["liver", "aorta"], &[("tumor", 50)]).unwrap().clean(&mut cleaned);
        assert_eq!(cleaned, expected, "the second part of the liver goes, the kidney stays, the aorta is not there");
        let voxels_of = |cleaner: Cleaner, value: u8| {
            let mut tumor = organs().mapv(|label| if label == 2 { value } else { 0 });
            cleaner.clean(&mut tumor);
            tumor.iter().filter(|&&label| label == value).count()
        };
        assert_eq!(voxels_of(clean(&[], &[("tumor", 9)]).unwrap(), 14), 0, "parts of 8 voxels and 1 are below 9");
        assert_eq!(voxels_of(clean(&[], &[("cancer", 8)]).unwrap(), 14), 8);
        assert_eq!(voxels_of(clean(&[], &[("cancer", 9), ("tumor", 1)]).unwrap(), 14), 9, "the class's number goes first");
        assert_eq!(voxels_of(clean(&[], &[("organ", 9), ("spleen", 0)]).unwrap(), 2), 0);
    }

    #[test]
    fn names_that_are_not_known_are_told() {
        let error = clean(&["kidney"], &[]).unwrap_err();
        assert!(error.starts_with("clean.largest_part: there is no class `kidney`; the classes are liver, right_kidney"), "{error}");
        let error = clean(&[], &[("tumour", 50)]).unwrap_err();
        assert!(error.starts_with("clean.smallest_voxels: there is no class `tumour`"), "{error}");
    }
}
