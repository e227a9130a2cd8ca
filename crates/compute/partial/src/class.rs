//! A class with its place among those that are declared.

use labels::{Classes, LabelPattern};

/// A declared class. Classes are in the order of their groups, so that of two in one voxel the later one lies above.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Class {
    group: u8,
    place: u8,
    value: u8,
}

impl Class {
    /// The class of an output value, if one is declared.
    #[must_use]
    pub fn of(classes: &Classes, value: u8) -> Option<Self> {
        let group = classes.group_of(value)?;
        let below = classes.groups()[group].classes().iter().position(|class| class.value == value)?;
        // Every group and every class has a value of its own among 255.
        Some(Self { group: group as u8, place: below as u8 + 1, value })
    }

    /// The declared classes of a set.
    #[must_use]
    pub fn within(classes: &Classes, pattern: LabelPattern) -> Vec<Self> {
        let mut within: Vec<Self> = pattern.iter().filter_map(|value| Self::of(classes, value)).collect();
        within.sort_unstable();
        within
    }

    /// The place of its group.
    #[must_use]
    pub fn group(self) -> usize {
        usize::from(self.group)
    }

    /// The label that stands for it in the map of its group, from 1.
    #[must_use]
    pub fn place(self) -> u8 {
        self.place
    }

    /// Its output value.
    #[must_use]
    pub fn value(self) -> u8 {
        self.value
    }
}
