//! The classes that are scored, as everything downstream of the scores knows them.

use labels::name_of;
use serde::{Deserialize, Serialize};

/// A class that is scored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScoredClass {
    /// Its key in files, such as `right_kidney`.
    pub key: String,
    /// Its name in tables, such as `Right kidney`.
    pub name: String,
    /// Its value in label maps; a union of classes has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<u8>,
    /// The key of its group, such as `organ`.
    pub group: String,
}

/// The classes of a group that are scored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScoredGroup {
    /// The key of the group, such as `organ`.
    #[serde(rename = "group")]
    pub key: String,
    /// What stands above its columns: `organs`, or the key of the class if the group has one alone.
    pub heading: String,
    /// How many classes of it are scored.
    pub classes: usize,
}

impl ScoredGroup {
    /// The groups of some classes, in the order in which these come.
    #[must_use]
    pub fn of<'a>(classes: impl IntoIterator<Item = &'a ScoredClass>) -> Vec<Self> {
        let mut groups = Vec::<Self>::new();
        for class in classes {
            match groups.iter_mut().find(|group| group.key == class.group) {
                Some(group) => {
                    group.classes += 1;
                    group.heading = plural(&group.key);
                }
                None => groups.push(Self { key: class.group.clone(), heading: class.key.clone(), classes: 1 }),
            }
        }
        groups
    }

    /// The heading for readers, such as `organs`.
    #[must_use]
    pub fn words(&self) -> String {
        self.heading.replace('_', " ")
    }

    /// The heading as the first words of a line, such as `Organs`.
    #[must_use]
    pub fn title(&self) -> String {
        name_of(&self.heading)
    }

    /// What a mean over it is of: `13 organs`, or the heading alone.
    #[must_use]
    pub fn counted(&self) -> String {
        if self.classes == 1 { self.words() } else { format!("{} {}", self.classes, self.words()) }
    }
}

/// The key of several, by the commonest rules of English.
fn plural(key: &str) -> String {
    match key.strip_suffix('y') {
        _ if key.ends_with('s') => key.to_owned(),
        Some(stem) if !stem.ends_with(['a', 'e', 'o', 'u']) => format!("{stem}ies"),
        _ => format!("{key}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(classes: &[(&str, &str)]) -> Vec<[String; 3]> {
        let class = |&(key, group): &(&str, &str)| ScoredClass { key: key.into(), name: key.into(), label: None, group: group.into() };
        let classes: Vec<ScoredClass> = classes.iter().map(class).collect();
        ScoredGroup::of(&classes).into_iter().map(|group| [group.counted(), group.title(), group.key]).collect()
    }

    #[test]
    fn a_group_of_several_is_headed_by_its_own_name_and_one_of_a_single_class_by_that_of_the_class() {
        let found = groups(&[("liver", "organ"), ("spleen", "organ"), ("liver_tumor", "cancer"), ("aorta", "artery"), ("left", "artery")]);
        assert_eq!(found[0], ["2 organs", "Organs", "organ"]);
        assert_eq!(found[1], ["liver tumor", "Liver tumor", "cancer"]);
        assert_eq!(found[2], ["2 arteries", "Arteries", "artery"]);
        assert_eq!(["glands", "day", "lymph_node"].map(plural), ["glands", "days", "lymph_nodes"]);
    }
}
