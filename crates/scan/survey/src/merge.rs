//! Which labels of several datasets are one class.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};
use dataset::{DatasetConfig, Mark, Marks, Side};
use labels::Classes;
use serde_json::json;

use crate::folder::{Folder, Form};

/// The classes of all folders, and what each label becomes.
#[derive(Clone, Debug)]
pub struct Merged {
    /// The classes: organs, and lesions over them.
    pub classes: Classes,
    /// Where each class comes from, by its key.
    pub places: BTreeMap<String, Vec<Place>>,
    /// Labels that stand for structures on both sides of the body, each with its left and right class.
    sided: BTreeMap<Place, [String; 2]>,
    /// What a reader should look at.
    pub unsure: Vec<String>,
}

/// A label of a dataset.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The dataset.
    pub dataset: String,
    /// The label's name there.
    pub label: String,
    values: Vec<u8>,
}

/// What the label maps of a dataset show: a class, or several that a label stands for together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    /// The class, or the label of both sides of the body.
    pub(crate) name: String,
    /// The class alone, or those of both sides.
    pub(crate) classes: Vec<String>,
    /// The values that show it.
    pub(crate) values: Vec<u8>,
}

/// The groups of the classes.
const ORGAN: &str = "organ";
const LESION: &str = "lesion";

/// Words of names of what grows in organs, as [`words`] gives them.
const LESIONS: [&str; 12] =
    ["tumor", "tumour", "lesion", "mas", "cancer", "cyst", "metastasi", "metastase", "nodule", "carcinoma", "sarcoma", "gtv"];

/// The words of a name, without order, plural and what says nothing.
fn words(name: &str) -> BTreeSet<String> {
    let name = name.to_lowercase();
    let words = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty() && !["gland", "the", "of"].contains(word));
    words.map(|word| word.strip_suffix('s').filter(|word| word.len() > 2).unwrap_or(word).to_owned()).collect()
}

/// A name that a class can have.
fn key_of(name: &str) -> String {
    let key: String = name.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    let key = key.trim_matches('_').to_owned();
    if key.starts_with(|c: char| c.is_ascii_alphabetic()) { key } else { format!("class_{key}") }
}

fn is_lesion(words: &BTreeSet<String>) -> bool {
    words.iter().any(|word| LESIONS.contains(&word.as_str()))
}

/// The side of `whole` that a class of these words is, such as `kidney_left` of `kidneys`.
fn side_of(side: &BTreeSet<String>, whole: &BTreeSet<String>) -> Option<Side> {
    let named = [("left", Side::Left), ("right", Side::Right)];
    named.into_iter().find_map(|(word, of)| (side.contains(word) && side.iter().filter(|other| *other != word).eq(whole)).then_some(of))
}

/// A class with the labels that show it.
type Found = (BTreeSet<String>, String, Vec<Place>);

/// Takes the labels that stand for both sides of the body out of `found`, where other labels stand for a left and for a right one.
fn take_sided(found: &mut Vec<Found>) -> BTreeMap<Place, [String; 2]> {
    let mut sided = BTreeMap::new();
    let all = found.clone();
    found.retain(|(whole, _, places)| {
        let key = |wanted: Side| all.iter().find(|(words, _, _)| side_of(words, whole) == Some(wanted)).map(|(_, key, _)| key.clone());
        let (Some(left), Some(right)) = (key(Side::Left), key(Side::Right)) else { return true };
        sided.extend(places.iter().map(|place| (place.clone(), [left.clone(), right.clone()])));
        false
    });
    sided
}

impl Merged {
    /// Labels with the same words are one class.
    ///
    /// # Errors
    /// When there is no label at all.
    pub fn of(folders: &[Folder]) -> Result<Self> {
        let mut found: Vec<Found> = Vec::new();
        for folder in folders {
            for label in &folder.labels {
                let words = words(&label.name);
                let place = Place { dataset: folder.name.clone(), label: label.name.clone(), values: label.values.clone() };
                match found.iter_mut().find(|(known, _, _)| *known == words) {
                    Some((_, _, places)) => places.push(place),
                    None => found.push((words, key_of(&label.name), vec![place])),
                }
            }
        }
        ensure!(!found.is_empty(), "none of the folders has a label; give one at least that has, beside those without");
        let sided = take_sided(&mut found);
        let (mut groups, mut value) = (Vec::new(), 0u8);
        for (group, of_lesions) in [(ORGAN, false), (LESION, true)] {
            let of_group = |(words, _, _): &&Found| is_lesion(words) == of_lesions;
            let mut classes = serde_json::Map::new();
            for (_, key, _) in found.iter().filter(of_group) {
                ensure!(value < u8::MAX, "there are more than 255 classes; give fewer folders");
                value += 1;
                classes.insert(key.clone(), json!(value));
            }
            if !classes.is_empty() {
                groups.push(json!({"group": group, "classes": classes}));
            }
        }
        let unsure = unsure(&found, &sided);
        let places = found.into_iter().map(|(_, key, places)| (key, places)).collect();
        Ok(Self { classes: serde_json::from_value(json!(groups))?, places, sided, unsure })
    }

    /// The declaration of a folder's dataset.
    #[must_use]
    pub fn declaration(&self, folder: &Folder) -> DatasetConfig {
        let mut values = BTreeMap::new();
        let marks = |place: &Place| match folder.form {
            Form::Listed => vec![Mark::Name(place.label.clone())],
            Form::Unlisted(_) => place.values.iter().copied().map(Mark::Value).collect(),
        };
        let here = |key: &String| self.places[key].iter().find(|place| place.dataset == folder.name);
        for key in self.places.keys() {
            let Some(place) = here(key) else { continue };
            // Names that dataset.json and the classes share say it by themselves.
            if !matches!(folder.form, Form::Listed) || place.label != *key {
                values.insert(key.clone(), marks(place).into());
            }
        }
        for (place, [left, right]) in self.sided.iter().filter(|(place, _)| place.dataset == folder.name) {
            values.insert(left.clone(), Marks { side: Some(Side::Left), marks: marks(place) });
            values.insert(right.clone(), Marks { side: Some(Side::Right), marks: marks(place) });
        }
        DatasetConfig { layout: folder.layout(), values, ignore: Marks::default(), patient: None, split: None }
    }
}

impl Merged {
    /// What the label maps of a dataset show.
    pub(crate) fn shown(&self, dataset: &str) -> Vec<Shown> {
        let of_class = |class: &labels::Class| {
            let place = self.places.get(&class.key)?.iter().find(|place| place.dataset == dataset)?;
            Some(Shown { name: class.key.clone(), classes: vec![class.key.clone()], values: place.values.clone() })
        };
        let of_sides = |(place, sides): (&Place, &[String; 2])| Shown {
            name: key_of(&place.label),
            classes: sides.to_vec(),
            values: place.values.clone(),
        };
        let sided = self.sided.iter().filter(|(place, _)| place.dataset == dataset).map(of_sides);
        self.classes.all().into_iter().filter_map(of_class).chain(sided).collect()
    }
}

/// What names alone cannot tell.
fn unsure(found: &[Found], sided: &BTreeMap<Place, [String; 2]>) -> Vec<String> {
    let mut unsure = Vec::new();
    let names =
        |places: &[Place]| places.iter().map(|place| format!("`{}` of {}", place.label, place.dataset)).collect::<Vec<_>>().join(", ");
    for (_, key, places) in found.iter().filter(|(_, _, places)| places.windows(2).any(|pair| pair[0].label != pair[1].label)) {
        unsure.push(format!("{key}: {} are taken for one class; give the others names of their own if they are not", names(places)));
    }
    for (place, [left, right]) in sided {
        let Place { dataset, label, .. } = place;
        unsure.push(format!("`{label}` of {dataset} is taken for {left} and {right} together, and cut in two between its parts"));
    }
    let lesions: Vec<_> = found.iter().filter(|(words, _, _)| is_lesion(words)).collect();
    if lesions.len() > 1 {
        let all: Vec<String> = lesions.iter().map(|(_, _, places)| names(places)).collect();
        unsure.push(format!(
            "{} are different classes here; if two of them mean the same, give both the same class under `values`",
            all.join("; ")
        ));
    }
    for (_, key, places) in
        found.iter().filter(|(_, _, places)| places.iter().any(|place| place.label.ends_with(|c: char| c.is_ascii_digit())))
    {
        unsure.push(format!("{key}: a label without a name ({}); give it one", names(places)));
    }
    unsure
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folder::NamedLabel;

    fn folder(name: &str, labels: &[(&str, &[u8])]) -> Folder {
        let label = |&(name, values): &(&str, &[u8])| NamedLabel { name: name.to_owned(), values: values.to_vec() };
        Folder { name: name.to_owned(), path: "/".into(), form: Form::Listed, labels: labels.iter().map(label).collect() }
    }

    fn values(merged: &Merged, folder: &Folder) -> serde_json::Value {
        serde_json::to_value(merged.declaration(folder)).unwrap()["values"].clone()
    }

    #[test]
    fn labels_of_the_same_words_are_one_class_and_labels_of_both_sides_are_cut_in_two() {
        let a = folder("A", &[("kidney_left", &[8]), ("kidney_right", &[9]), ("Adrenal Gland Left", &[1]), ("stomach", &[3])]);
        let b = folder("B", &[("kidneys", &[2]), ("left_adrenal", &[4]), ("mass", &[5])]);
        let c = folder("C", &[("kidney", &[1, 2]), ("tumor", &[2])]);
        let merged = Merged::of(&[a.clone(), b.clone(), c.clone()]).unwrap();
        let groups: Vec<(&str, Vec<&str>)> = merged
            .classes
            .groups()
            .iter()
            .map(|group| (group.key(), group.classes().iter().map(|class| class.key.as_str()).collect()))
            .collect();
        let organs = vec!["adrenal_gland_left", "kidney_left", "kidney_right", "stomach"];
        assert_eq!(groups.iter().map(|(group, _)| *group).collect::<Vec<_>>(), ["organ", "lesion"]);
        let mut found = groups[0].1.clone();
        found.sort_unstable();
        assert_eq!((found, &groups[1].1), (organs, &vec!["mass", "tumor"]));
        assert_eq!(values(&merged, &a), json!({"adrenal_gland_left": ["Adrenal Gland Left"]}));
        let sides = |label: &str| json!({"kidney_left": {"left": [label]}, "kidney_right": {"right": [label]}});
        let mut of_b = sides("kidneys");
        of_b["adrenal_gland_left"] = json!(["left_adrenal"]);
        assert_eq!(values(&merged, &b), of_b);
        assert_eq!(values(&merged, &c), sides("kidney"));
        for part in
            ["`kidneys` of B is taken for kidney_left and kidney_right together", "`mass` of B; `tumor` of C are different classes here"]
        {
            assert!(merged.unsure.iter().any(|line| line.contains(part)), "{part}: {:?}", merged.unsure);
        }
    }

    #[test]
    fn folders_without_any_label_are_refused() {
        assert!(Merged::of(&[folder("A", &[])]).unwrap_err().to_string().contains("none of the folders has a label"));
    }
}
