//! What the values of a label map mean.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{BACKGROUND, Classes, LabelError, LabelPattern};

/// What the values of label maps mean: a class is a set of values, so that a kidney may contain its tumor (`kidney: [1, 2]`,
/// `tumor: [2]`), and a value shows several classes then.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Regions {
    /// The values of each class; classes are known by their output values.
    values: BTreeMap<u8, LabelPattern>,
    /// Values that mean none of the classes.
    #[serde(default)]
    ignored: LabelPattern,
    /// Structures on both sides of the body: the values that stand for each in files, with those that its left part gets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    sides: Vec<BTreeMap<u8, u8>>,
}

impl Regions {
    /// Label maps whose values are the output values of the classes themselves.
    #[must_use]
    pub fn plain(classes: LabelPattern) -> Self {
        Self { values: classes.iter().map(|value| (value, LabelPattern::of(value))).collect(), ..Self::default() }
    }

    /// The regions of a declaration: values for each class by its key, and values that count as background. A class without values is
    /// one that annotators looked for and found nowhere.
    ///
    /// # Errors
    /// When a key is no class, a class has the value of background, a value is both ignored and a class's, or it shows two
    /// classes of one group, which exclude each other.
    pub fn declared(classes: &Classes, declared: &BTreeMap<String, Vec<u8>>, ignored: &[u8]) -> Result<Self, LabelError> {
        let ignored: LabelPattern = ignored.iter().copied().collect();
        let mut values = BTreeMap::new();
        for (key, of_class) in declared {
            let class = classes.class(key)?;
            if of_class.contains(&BACKGROUND) {
                return Err(LabelError::BadRegion { key: key.clone(), values: of_class.clone() });
            }
            let region: LabelPattern = of_class.iter().copied().collect();
            if let Some(value) = region.intersection(ignored).iter().next() {
                return Err(LabelError::IgnoredRegion { key: key.clone(), value });
            }
            values.insert(class.value, region);
        }
        let regions = Self { values, ignored, sides: Vec::new() };
        for group in classes.groups() {
            regions.table(&group.values(), classes)?;
        }
        Ok(regions)
    }

    /// The same for label maps in which the structures of `sides` are cut in two: their left part gets the other values.
    #[must_use]
    pub fn with_sides(self, sides: Vec<BTreeMap<u8, u8>>) -> Self {
        Self { sides, ..self }
    }

    /// The structures that are cut in two: their values, each with that of its left part.
    #[must_use]
    pub fn sides(&self) -> &[BTreeMap<u8, u8>] {
        &self.sides
    }

    /// Maps of several groups as one: the value `sum over groups of place × factor`, where a group's place is 0 for background
    /// and `k` for its class at `k - 1`. Returns the factors too.
    ///
    /// # Errors
    /// [`LabelError::TooManyPlaces`] when one byte does not hold all of them.
    pub fn product(classes: &Classes) -> Result<(Self, Vec<u8>), LabelError> {
        let places: Vec<usize> = classes.groups().iter().map(|group| 1 + group.classes().len()).collect();
        let all: usize = places.iter().product();
        if all > 256 {
            return Err(LabelError::TooManyPlaces { places: all });
        }
        let (mut factors, mut factor) = (Vec::new(), 1);
        for of_group in &places {
            factors.push(factor as u8);
            factor *= of_group;
        }
        let mut values = BTreeMap::new();
        for (group, (of_group, &factor)) in classes.groups().iter().zip(places.iter().zip(&factors)) {
            for (k, class) in group.classes().iter().enumerate() {
                let shows = |value: &u8| usize::from(value / factor) % of_group == k + 1;
                values.insert(class.value, (0..=(all - 1) as u8).filter(shows).collect());
            }
        }
        Ok((Self { values, ..Self::default() }, factors))
    }

    /// The classes that have a region.
    #[must_use]
    pub fn classes(&self) -> LabelPattern {
        self.values.keys().copied().collect()
    }

    /// The values of a class; none for one without a region.
    #[must_use]
    pub fn of_class(&self, class: u8) -> LabelPattern {
        self.values.get(&class).copied().unwrap_or_default()
    }

    /// The classes that a value shows.
    #[must_use]
    pub fn shown_by(&self, value: u8) -> LabelPattern {
        self.values.iter().filter(|(_, region)| region.contains(value)).map(|(&class, _)| class).collect()
    }

    /// The classes that a label map with so many voxels of each value shows.
    ///
    /// # Errors
    /// [`LabelError::Undeclared`] with every value that means nothing here, and its number of voxels.
    pub fn shown(&self, voxels: &[u64; 256]) -> Result<LabelPattern, LabelError> {
        let mut shown = LabelPattern::EMPTY;
        let mut found = Vec::new();
        for (value, &voxels) in (0u8..=255).zip(voxels).skip(1).filter(|(_, voxels)| **voxels > 0) {
            let classes = self.shown_by(value);
            if classes.is_empty() && !self.ignored.contains(value) {
                found.push((value, voxels));
            }
            shown = shown.union(classes);
        }
        if found.is_empty() { Ok(shown) } else { Err(LabelError::Undeclared { found, declared: self.declared_values() }) }
    }

    fn declared_values(&self) -> LabelPattern {
        self.values.values().fold(self.ignored, |all, region| all.union(*region))
    }

    /// For each value of the label map the place of its class among `targets`, from 1; 0 where it shows none of them.
    ///
    /// # Errors
    /// [`LabelError::NotExclusive`] when a value shows two of the targets.
    pub fn table(&self, targets: &[u8], classes: &Classes) -> Result<[u8; 256], LabelError> {
        let mut table = [0u8; 256];
        for (place, &class) in (1..).zip(targets) {
            for value in self.of_class(class).iter() {
                let entry = &mut table[usize::from(value)];
                if *entry != 0 {
                    let [first, second] = [targets[usize::from(*entry) - 1], class].map(|class| classes.key_of(class).into_owned());
                    return Err(LabelError::NotExclusive { value, first, second });
                }
                *entry = place;
            }
        }
        Ok(table)
    }
}
