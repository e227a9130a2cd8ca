use thiserror::Error;

use crate::LabelPattern;

/// What can be wrong with classes, label maps, and the rules about them.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LabelError {
    /// No class at all.
    #[error("classes: none is declared; declare groups such as `- group: organ` with `classes: {{liver: 1}}`")]
    NoClasses,
    /// A group without classes.
    #[error("classes: the group `{key}` has no class; declare some, such as `{{liver: 1}}`, or leave the group out")]
    EmptyGroup {
        /// The group.
        key: String,
    },
    /// A name that cannot be one, or stands twice.
    #[error(
        "classes: `{key}` cannot be the name of a group or class here; names begin with a letter, hold letters, digits, `_` and `-` alone, differ from each other, and are not `background`"
    )]
    BadKey {
        /// The name.
        key: String,
    },
    /// A class with the value of background.
    #[error("classes: `{key}` has the value 0, which is that of background; give it one from 1 to 255")]
    BackgroundValue {
        /// The class.
        key: String,
    },
    /// Two classes of one value.
    #[error("classes: `{first}` and `{second}` both have the value {value}; give each class a value of its own")]
    SharedValue {
        /// The value.
        value: u8,
        /// A class.
        first: String,
        /// The other.
        second: String,
    },
    /// A class that shows one side of the body, and none for the other.
    #[error(
        "in a mirror image along x `{key}` would be `{mirror}`, which is no class; declare that class too, or `mirror: {key}` if `{key}` \
         has no side, or mirror along the other axes alone"
    )]
    NoMirror {
        /// The class.
        key: String,
        /// What it would be.
        mirror: String,
    },
    /// Declarations of mirror images that contradict each other.
    #[error(
        "classes: `{mirror}` cannot be the mirror image of `{key}`; the two must be of the same group, and neither the mirror image of a third"
    )]
    BadMirror {
        /// A class.
        key: String,
        /// The other.
        mirror: String,
    },
    /// A class that is to lie in what is no class of an earlier group.
    #[error(
        "classes: `{class}`, within: `{key}` is neither a class nor a group of the groups before its own; those are {}",
        if .below.is_empty() { "none".to_owned() } else { .below.join(", ") }
    )]
    Within {
        /// The class.
        class: String,
        /// What it is to lie in.
        key: String,
        /// The classes that it may lie in.
        below: Vec<String>,
    },
    /// A key that no class has.
    #[error("there is no class `{key}`; the classes are {}", .known.join(", "))]
    NoClass {
        /// The key as given.
        key: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// A key that no group has.
    #[error("there is no group `{key}`; the groups are {}", .known.join(", "))]
    NoGroup {
        /// The key as given.
        key: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// A text is not a label pattern.
    #[error("`{text}` is not a label pattern; expected values from 1 to 255 in braces, such as `{{1,2,3,4,13}}` or `{{}}`")]
    NotAPattern {
        /// The text as given.
        text: String,
    },
    /// Values that a class cannot have.
    #[error("`{key}`: {values:?} cannot be the values of a class; give at least one, and none that is 0")]
    BadRegion {
        /// The class.
        key: String,
        /// Its values.
        values: Vec<u8>,
    },
    /// A value that is a class's and ignored.
    #[error("the value {value} is one of `{key}` and is ignored too; take it out of one of the two")]
    IgnoredRegion {
        /// The class.
        key: String,
        /// The value.
        value: u8,
    },
    /// A value of two classes of one group.
    #[error(
        "the value {value} is one of `{first}` and of `{second}`, which exclude each other; give it to one of them, or put the two into different groups"
    )]
    NotExclusive {
        /// The value.
        value: u8,
        /// A class.
        first: String,
        /// The other.
        second: String,
    },
    /// A label map holds values that nobody declared.
    #[error("values that are not declared: {}; declared are 0 and {declared}", describe_counts(.found))]
    Undeclared {
        /// Each such value with the number of its voxels, ascending by value.
        found: Vec<(u8, u64)>,
        /// Those that are.
        declared: LabelPattern,
    },
    /// More combinations of classes than a byte has values.
    #[error(
        "the groups have {places} combinations of a class each, and a label map has 256 values; label by models in groups with fewer classes"
    )]
    TooManyPlaces {
        /// How many there are.
        places: usize,
    },
    /// A name that no subset or union can have.
    #[error(
        "`{name}` cannot be the name of a subset or union here; names hold letters, digits, `_` and `-` alone, differ from each other and from `D`, and unions hold subsets"
    )]
    BadSubsetName {
        /// The name.
        name: String,
    },
    /// A name that no subset has.
    #[error("there is no subset `{name}`; the subsets are {}", .known.join(", "))]
    NoSubset {
        /// The name.
        name: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// A rule about a dataset that is not declared.
    #[error("subset {subset}: there is no dataset `{dataset}`; the datasets are {}", .known.join(", "))]
    NoDataset {
        /// The subset.
        subset: String,
        /// The dataset.
        dataset: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// A rule about what is not known.
    #[error("subset {subset}: {reason}")]
    Rule {
        /// The subset.
        subset: String,
        /// What is wrong.
        reason: Box<LabelError>,
    },
    /// A rule that no case can fulfil.
    #[error("subset {subset}: no case can fulfil its rule, because `none` excludes what `any` or `all` asks for; correct one of them")]
    EmptyRule {
        /// The subset.
        subset: String,
    },
    /// A pattern that two rules take.
    #[error("cases that show {} belong to {}; change their rules so that each case belongs to one", describe(.shown), .subsets.join(" and to "))]
    Overlap {
        /// The subsets.
        subsets: Vec<String>,
        /// The classes that such a case shows.
        shown: Vec<String>,
    },
    /// A pattern that no rule takes.
    #[error("cases of {dataset} that show {} belong to no subset; add a rule that takes them", describe(.shown))]
    Gap {
        /// The dataset.
        dataset: String,
        /// The classes that such a case shows.
        shown: Vec<String>,
    },
    /// Two maps that must lie on one grid have different numbers of voxels.
    #[error("{what} has {found} voxels, expected {expected}; resample both onto one grid first")]
    LengthMismatch {
        /// Which map is at fault.
        what: &'static str,
        /// Its number of voxels.
        found: usize,
        /// The number of voxels of the first map.
        expected: usize,
    },
}

fn describe_counts(found: &[(u8, u64)]) -> String {
    let parts: Vec<String> = found.iter().map(|(value, voxels)| format!("{value} ({voxels} voxels)")).collect();
    parts.join(", ")
}

fn describe(shown: &[String]) -> String {
    if shown.is_empty() { "no class".to_owned() } else { format!("{} and no other kind of class", shown.join(", ")) }
}
