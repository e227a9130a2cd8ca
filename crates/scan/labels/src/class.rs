//! The declaration of classes: names, output values, colours, groups.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::color::{self, Color};
use crate::{BACKGROUND, LabelError, LabelPattern};

/// A class that label maps can show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Class {
    /// The name in files and tables, such as `right_kidney`.
    pub key: String,
    /// The name for readers, such as `Right kidney`.
    pub name: String,
    /// The value in label maps that models write, from 1. It stands for the class everywhere.
    pub value: u8,
    /// The colour in pictures and viewers, as sRGB.
    pub color: [u8; 3],
    /// The key of the class that it is in a mirror image along x, if it is declared. [`Classes::mirror_of`] knows names too.
    pub mirror: Option<String>,
    /// The classes, or groups of classes, of earlier groups that it may lie in; all of them if this is absent.
    pub within: Option<Vec<String>>,
}

/// Classes that exclude each other: one softmax with background, one decoder of the student, one label map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    key: String,
    classes: Vec<Class>,
}

impl Group {
    /// The name in files and parameters, such as `organ`.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The classes, ascending by value.
    #[must_use]
    pub fn classes(&self) -> &[Class] {
        &self.classes
    }

    /// The classes as a set.
    #[must_use]
    pub fn pattern(&self) -> LabelPattern {
        self.classes.iter().map(|class| class.value).collect()
    }

    /// The values of the classes, ascending.
    #[must_use]
    pub fn values(&self) -> Vec<u8> {
        self.classes.iter().map(|class| class.value).collect()
    }
}

/// All classes of a pipeline, in groups. A later group lies over the earlier ones where both show something: a tumor over the
/// organ that it is in (paper, section 2.4).
///
/// In pipeline files:
///
/// ```yaml
/// classes:
///   - group: organ
///     classes: {liver: 1, right_adrenal: {value: 2, name: Right adrenal gland, color: "#ffefd5"}}
///   - group: cancer
///     classes: {tumor: 14, liver_tumor: {value: 15, within: [liver]}}
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<GroupDeclaration>", into = "Vec<GroupDeclaration>")]
pub struct Classes {
    groups: Vec<Group>,
}

impl Classes {
    /// The groups, the lowest first.
    #[must_use]
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The place of a group.
    ///
    /// # Errors
    /// [`LabelError::NoGroup`].
    pub fn group(&self, key: &str) -> Result<usize, LabelError> {
        let known = || self.groups.iter().map(|group| group.key.clone()).collect();
        self.groups.iter().position(|group| group.key == key).ok_or_else(|| LabelError::NoGroup { key: key.to_owned(), known: known() })
    }

    /// Every class, ascending by value.
    #[must_use]
    pub fn all(&self) -> Vec<&Class> {
        let mut all: Vec<&Class> = self.groups.iter().flat_map(|group| &group.classes).collect();
        all.sort_by_key(|class| class.value);
        all
    }

    /// Every class as a set.
    #[must_use]
    pub fn pattern(&self) -> LabelPattern {
        self.groups.iter().map(Group::pattern).fold(LabelPattern::EMPTY, LabelPattern::union)
    }

    /// The class of a key.
    ///
    /// # Errors
    /// [`LabelError::NoClass`].
    pub fn class(&self, key: &str) -> Result<&Class, LabelError> {
        let found = self.groups.iter().flat_map(|group| &group.classes).find(|class| class.key == key);
        found.ok_or_else(|| LabelError::NoClass { key: key.to_owned(), known: self.keys_of(self.pattern()) })
    }

    /// The class of a value.
    #[must_use]
    pub fn of_value(&self, value: u8) -> Option<&Class> {
        self.groups.iter().flat_map(|group| &group.classes).find(|class| class.value == value)
    }

    /// The key of a value; `background` for 0, and the number for a value that no class has.
    #[must_use]
    pub fn key_of(&self, value: u8) -> Cow<'_, str> {
        match self.of_value(value) {
            Some(class) => Cow::Borrowed(&class.key),
            None if value == BACKGROUND => Cow::Borrowed(BACKGROUND_KEY),
            None => Cow::Owned(value.to_string()),
        }
    }

    /// The keys of a set, ascending by value.
    #[must_use]
    pub fn keys_of(&self, pattern: LabelPattern) -> Vec<String> {
        pattern.iter().map(|value| self.key_of(value).into_owned()).collect()
    }

    /// The set behind keys of classes and of groups.
    ///
    /// # Errors
    /// [`LabelError::NoClass`] for a key that is neither.
    pub fn pattern_of<K: AsRef<str>>(&self, keys: &[K]) -> Result<LabelPattern, LabelError> {
        keys.iter().try_fold(LabelPattern::EMPTY, |pattern, key| {
            let of_key = match self.group(key.as_ref()) {
                Ok(group) => self.groups[group].pattern(),
                Err(_) => LabelPattern::of(self.class(key.as_ref())?.value),
            };
            Ok(pattern.union(of_key))
        })
    }

    /// The place of the group that has a class.
    #[must_use]
    pub fn group_of(&self, value: u8) -> Option<usize> {
        self.groups.iter().position(|group| group.classes.iter().any(|class| class.value == value))
    }

    /// Whether a class of a later group may lie in one of an earlier group, such as a tumor in the organ that it grows in.
    #[must_use]
    pub fn may_lie_in(&self, inner: u8, outer: u8) -> bool {
        let (Some(of_inner), Some(of_outer)) = (self.group_of(inner), self.group_of(outer)) else { return false };
        let within = self.of_value(inner).and_then(|class| class.within.as_deref());
        of_outer < of_inner && within.is_none_or(|keys| self.pattern_of(keys).is_ok_and(|pattern| pattern.contains(outer)))
    }

    /// The classes of all groups above the one at `group`, which hide its classes where they lie.
    #[must_use]
    pub fn above(&self, group: usize) -> LabelPattern {
        self.groups[group + 1..].iter().map(Group::pattern).fold(LabelPattern::EMPTY, LabelPattern::union)
    }

    /// The colour of every value; that of background and of values without a class is black.
    #[must_use]
    pub fn colors(&self) -> [[u8; 3]; 256] {
        let mut colors = [[0; 3]; 256];
        self.all().into_iter().for_each(|class| colors[usize::from(class.value)] = class.color);
        colors
    }

    /// The groups of both, those of `upper` over these.
    ///
    /// # Errors
    /// When a name or a value stands twice.
    pub fn and(&self, upper: &Self) -> Result<Self, LabelError> {
        [self.clone(), upper.clone()].into_iter().flat_map(Vec::<GroupDeclaration>::from).collect::<Vec<_>>().try_into()
    }

    /// The same without the classes that are not in `kept`, and without groups that have none left.
    #[must_use]
    pub fn only(&self, kept: LabelPattern) -> Self {
        let mut groups = self.groups.clone();
        groups.iter_mut().for_each(|group| group.classes.retain(|class| kept.contains(class.value)));
        groups.retain(|group| !group.classes.is_empty());
        let left = Self { groups };
        let mut groups = left.groups.clone();
        for within in groups.iter_mut().flat_map(|group| &mut group.classes).filter_map(|class| class.within.as_mut()) {
            within.retain(|key| left.pattern_of(std::slice::from_ref(key)).is_ok());
        }
        Self { groups }
    }

    /// Refuses classes that lie in something else than classes of earlier groups.
    fn check_within(&self) -> Result<(), LabelError> {
        for (place, group) in self.groups.iter().enumerate() {
            let below = self.groups[..place].iter().map(Group::pattern).fold(LabelPattern::EMPTY, LabelPattern::union);
            for class in &group.classes {
                let unknown = |key: &&String| !self.pattern_of(&[*key]).is_ok_and(|pattern| pattern.is_within(below));
                if let Some(key) = class.within.iter().flatten().find(unknown) {
                    return Err(LabelError::Within { class: class.key.clone(), key: key.clone(), below: self.keys_of(below) });
                }
            }
        }
        Ok(())
    }
}

/// The key of what shows no class.
pub const BACKGROUND_KEY: &str = "background";

/// A group as pipeline files write it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct GroupDeclaration {
    /// The name of the group, such as `organ`: of its decoder (`organ_decoder`) and of the folder of its label maps.
    group: String,
    /// The classes, which exclude each other: for each its output value, or value, name and colour.
    #[serde(deserialize_with = "declarations")]
    classes: BTreeMap<String, ClassDeclaration>,
}

/// A class as pipeline files write it.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(untagged)]
enum ClassDeclaration {
    /// The value; the name follows from the key and the colour from the value.
    Value(u8),
    /// All of it.
    Full(FullDeclaration),
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct FullDeclaration {
    /// The output value, from 1.
    value: u8,
    /// The name for readers; the key with spaces if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// The colour, such as `#ff8000`; one that follows from the value if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    color: Option<Color>,
    /// The class that it is in a mirror image along x, where left and right change places; itself if it has no side. Known without it
    /// of names such as `left_kidney` and `right_kidney`, `kidney_l` and `kidney_r`. One of a pair says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mirror: Option<String>,
    /// The classes, or groups of classes, of earlier groups that it may lie in, such as the organ of a tumor; all if this is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    within: Option<Vec<String>>,
}

/// The classes of a group. Serde cannot say which of the two forms it misses something in, nor of which class.
fn declarations<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, ClassDeclaration>, D::Error> {
    let declared: BTreeMap<String, serde_json::Value> = BTreeMap::deserialize(deserializer)?;
    let read = |(key, value): (String, serde_json::Value)| {
        let form = if value.is_object() {
            serde_json::from_value(value).map(ClassDeclaration::Full).map_err(|error| error.to_string())
        } else {
            let number = value.as_u64().and_then(|number| u8::try_from(number).ok());
            number.map(ClassDeclaration::Value).ok_or_else(|| {
                format!("{value} is found, and expected is a value from 1 to 255, or a map such as `{{value: 6, name: Right kidney}}`")
            })
        };
        form.map(|form| (key.clone(), form)).map_err(|message| D::Error::custom(format!("class `{key}`: {message}")))
    };
    declared.into_iter().map(read).collect()
}

impl ClassDeclaration {
    fn class(self, key: String) -> Class {
        let FullDeclaration { value, name, color, mirror, within } = match self {
            Self::Value(value) => FullDeclaration { value, name: None, color: None, mirror: None, within: None },
            Self::Full(full) => full,
        };
        Class {
            name: name.unwrap_or_else(|| name_of(&key)),
            color: color.map_or_else(|| color::of_value(value), |Color(color)| color),
            key,
            value,
            mirror,
            within,
        }
    }
}

/// The name for readers of a key: `right_kidney` as `Right kidney`.
#[must_use]
pub fn name_of(key: &str) -> String {
    let mut letters = key.replace('_', " ").chars().collect::<Vec<_>>();
    if let Some(first) = letters.first_mut() {
        *first = first.to_ascii_uppercase();
    }
    letters.into_iter().collect()
}

impl TryFrom<Vec<GroupDeclaration>> for Classes {
    type Error = LabelError;

    fn try_from(declared: Vec<GroupDeclaration>) -> Result<Self, LabelError> {
        let mut names = Vec::new();
        let mut values = BTreeMap::<u8, String>::new();
        let mut groups = Vec::with_capacity(declared.len());
        for GroupDeclaration { group, classes } in declared {
            if classes.is_empty() {
                return Err(LabelError::EmptyGroup { key: group });
            }
            for name in std::iter::once(&group).chain(classes.keys()) {
                let plain = name.starts_with(|c: char| c.is_ascii_alphabetic())
                    && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
                if !plain || name == BACKGROUND_KEY || names.contains(name) {
                    return Err(LabelError::BadKey { key: name.clone() });
                }
                names.push(name.clone());
            }
            let mut classes: Vec<Class> = classes.into_iter().map(|(key, class)| class.class(key)).collect();
            classes.sort_by_key(|class| class.value);
            for Class { key, value, .. } in &classes {
                if *value == BACKGROUND {
                    return Err(LabelError::BackgroundValue { key: key.clone() });
                }
                if let Some(first) = values.insert(*value, key.clone()) {
                    return Err(LabelError::SharedValue { value: *value, first, second: key.clone() });
                }
            }
            groups.push(Group { key: group, classes });
        }
        if groups.is_empty() {
            return Err(LabelError::NoClasses);
        }
        let classes = Self { groups };
        classes.check_mirrors()?;
        classes.check_within()?;
        Ok(classes)
    }
}

impl From<Classes> for Vec<GroupDeclaration> {
    fn from(classes: Classes) -> Self {
        let declaration = |Class { key, name, value, color, mirror, within }: Class| {
            let name = (name != name_of(&key)).then_some(name);
            let color = (color != color::of_value(value)).then_some(Color(color));
            let is_short = name.is_none() && color.is_none() && mirror.is_none() && within.is_none();
            let full = FullDeclaration { value, name, color, mirror, within };
            (key, if is_short { ClassDeclaration::Value(value) } else { ClassDeclaration::Full(full) })
        };
        let group =
            |Group { key, classes }: Group| GroupDeclaration { group: key, classes: classes.into_iter().map(declaration).collect() };
        classes.groups.into_iter().map(group).collect()
    }
}

impl JsonSchema for Classes {
    fn schema_name() -> Cow<'static, str> {
        "Classes".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = <Vec<GroupDeclaration>>::json_schema(generator);
        schema.insert("description".into(), "The classes, in groups; a later group lies over the earlier ones.".into());
        schema
    }
}
