//! A dataset as pipeline files declare it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::problem::SplitError;

/// A dataset: where its files lie, and what its label maps mean.
///
/// ```yaml
/// layout: nnunet
/// values: {kidney: [kidney_left, kidney_right]}    # the others by their names in dataset.json
/// ignore: [gallbladder]
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DatasetConfig {
    /// Where its images and label maps lie.
    pub layout: Layout,
    /// For each class the value or values that show it in the label maps; with the layout `nnunet` also names of `dataset.json`.
    /// There, classes that are left out are known by their names in `dataset.json`. With other layouts they are not labelled; if none
    /// is here, each is shown by its own value. Where a label stands for structures on both sides of the body, `{left: kidneys}` and
    /// `{right: kidneys}` tell them apart: it is cut along a sagittal plane between its two parts. `[]` says that the annotators looked
    /// for a class and that no case has it: to a training, all of these scans are examples of what it is not.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub values: BTreeMap<String, Marks>,
    /// Values, or names of `dataset.json`, that count as background.
    #[serde(default, skip_serializing_if = "Marks::is_empty")]
    pub ignore: Marks,
    /// How the name of a case tells its patient, such as `{patient}_*`: all cases of a patient stand on one side of the split.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patient: Option<String>,
    /// How its cases are split, if otherwise than those of other datasets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<SplitRule>,
}

/// Where the files of a dataset lie.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", remote = "Self")]
#[schemars(transform = with_short_form)]
pub enum Layout {
    /// Folders of images `CASE_0000.nii.gz` and label maps `CASE.nii.gz`.
    Folders(Folders),
    /// `dataset.json`, `imagesTr`, `labelsTr`, as nnU-Net and the Medical Segmentation Decathlon have it. Written `nnunet` for short.
    Nnunet(Nnunet),
    /// Paths with `{case}` in them.
    Pattern(Pattern),
}

/// Folders of the challenge's naming, relative to the dataset. An image without a label map is unlabelled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Folders {
    /// Folders of images `CASE_0000.nii.gz`, labelled and unlabelled ones.
    pub images: Vec<PathBuf>,
    /// The folder of label maps `CASE.nii.gz`; none when nothing is labelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<PathBuf>,
    /// A folder of corrected label maps, which take precedence. It may be empty, but must be there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub corrected_labels: Option<PathBuf>,
}

/// The layout of nnU-Net.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Nnunet {
    /// Whether images without a label map are taken as unlabelled cases: those of `imagesTs`, and of `imagesTr` too. They are
    /// taken anyway if `dataset.json` declares no labels.
    pub unlabeled: bool,
}

/// Paths relative to the dataset. `{case}` stands for the name of the case, `{patient}` for that of the patient, `*` for anything;
/// none of them reaches beyond a `/`. With `{patient}`, a case is called `PATIENT_CASE`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pattern {
    /// The images, such as `ct/{case}.nii.gz`.
    pub images: String,
    /// The label maps, such as `seg/{case}-label.nii.gz`; none when nothing is labelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<String>,
    /// Other scans in the same folders, which are passed over, such as `ct/{case}-pet.nii.gz`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<String>,
    /// Whether images without a label map are taken as unlabelled cases. They are taken anyway if there is no `labels`.
    #[serde(default)]
    pub unlabeled: bool,
}

/// A layout may be the word `nnunet` alone.
fn with_short_form(schema: &mut Schema) {
    if let Some(variants) = schema.remove("oneOf") {
        schema.insert("anyOf".into(), serde_json::json!([{"const": NNUNET}, {"oneOf": variants}]));
    }
}

const NNUNET: &str = "nnunet";

impl<'de> Deserialize<'de> for Layout {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Form;
        impl<'de> Visitor<'de> for Form {
            type Value = Layout;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a layout: `nnunet`, or one of `{folders: …}`, `{nnunet: …}` and `{pattern: …}`")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<Layout, E> {
                if name == NNUNET {
                    Ok(Layout::Nnunet(Nnunet::default()))
                } else {
                    Err(E::invalid_value(serde::de::Unexpected::Str(name), &self))
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Layout, A::Error> {
                // That of the derived code.
                Layout::deserialize(MapAccessDeserializer::new(map))
            }
        }
        deserializer.deserialize_any(Form)
    }
}

impl Serialize for Layout {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

/// A value of label maps, or the name that the dataset's own list has for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mark {
    /// From 1 to 255.
    Value(u8),
    /// A name in `dataset.json`.
    Name(String),
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(value) => write!(f, "the value {value}"),
            Self::Name(name) => write!(f, "`{name}`"),
        }
    }
}

/// A side of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The patient's left.
    Left,
    /// The patient's right.
    Right,
}

/// One or several values or names: `2`, `kidney_left`, `[2, kidney_left]`; or what they show on one side of the body alone, where
/// a label stands for structures on both: `{left: kidneys}`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// The values and names.
    pub marks: Vec<Mark>,
    /// The side that is meant; none for both.
    pub side: Option<Side>,
}

impl Marks {
    fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }
}

impl From<Vec<Mark>> for Marks {
    fn from(marks: Vec<Mark>) -> Self {
        Self { marks, side: None }
    }
}

impl Serialize for Mark {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Value(value) => serializer.serialize_u8(*value),
            Self::Name(name) => serializer.serialize_str(name),
        }
    }
}

impl Serialize for Marks {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let side = match self.side {
            None => return serializer.collect_seq(&self.marks),
            Some(Side::Left) => LEFT,
            Some(Side::Right) => RIGHT,
        };
        serializer.collect_map([(side, &self.marks)])
    }
}

const LEFT: &str = "left";
const RIGHT: &str = "right";

struct MarkForm;

impl Visitor<'_> for MarkForm {
    type Value = Mark;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of label maps from 1 to 255, or a name in dataset.json")
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Mark, E> {
        match u8::try_from(value) {
            Ok(value) if value > 0 => Ok(Mark::Value(value)),
            _ => Err(E::invalid_value(serde::de::Unexpected::Unsigned(value), &self)),
        }
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Mark, E> {
        Ok(Mark::Name(name.to_owned()))
    }
}

impl<'de> Deserialize<'de> for Mark {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(MarkForm)
    }
}

impl<'de> Deserialize<'de> for Marks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Form;
        impl<'de> Visitor<'de> for Form {
            type Value = Marks;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value of label maps from 1 to 255, a name in dataset.json, a list of them, or `{left: …}` or `{right: …}` with one of these")
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Marks, E> {
                Ok(vec![MarkForm.visit_u64(value)?].into())
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<Marks, E> {
                Ok(vec![MarkForm.visit_str(name)?].into())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Marks, A::Error> {
                let mut marks = Vec::new();
                while let Some(mark) = list.next_element()? {
                    marks.push(mark);
                }
                Ok(marks.into())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Marks, A::Error> {
                let mut of_side = || map.next_entry::<String, Marks>();
                let (Some((side, marks)), None) = (of_side()?, of_side()?) else {
                    return Err(A::Error::custom("expected one of `{left: …}` and `{right: …}`"));
                };
                let side = match side.as_str() {
                    LEFT => Side::Left,
                    RIGHT => Side::Right,
                    other => return Err(A::Error::unknown_field(other, &[LEFT, RIGHT])),
                };
                match marks.side {
                    None => Ok(Marks { side: Some(side), ..marks }),
                    Some(_) => Err(A::Error::custom("a side of a side; expected values or names under `left` and `right`")),
                }
            }
        }
        deserializer.deserialize_any(Form)
    }
}

impl JsonSchema for Marks {
    fn schema_name() -> Cow<'static, str> {
        "Marks".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let value = || serde_json::json!({"type": "integer", "minimum": 1, "maximum": 255});
        let name = || serde_json::json!({"type": "string"});
        let marks = || serde_json::json!({"anyOf": [value(), name(), {"type": "array", "items": {"anyOf": [value(), name()]}}]});
        let side = |side: &str| serde_json::json!({"type": "object", "additionalProperties": false, "required": [side], "properties": {side: marks()}});
        schemars::json_schema!({"anyOf": [marks(), side(LEFT), side(RIGHT)]})
    }
}

/// How cases are put on the two sides of the split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "SplitFields", into = "SplitFields")]
pub enum SplitRule {
    /// So large a part of each subset is for validation, from 0 to below 1: `{fraction: 0.2}`.
    Fraction(f64),
    /// Of each subset every so-manieth case by name is for validation, from the first: `{every: 5}`.
    Every(u32),
    /// Each subset is cut into so many parts, and one is for validation: `{folds: 5, fold: 0}`.
    Folds {
        /// The number of parts.
        folds: u32,
        /// The part for validation, from 0.
        fold: u32,
    },
    /// The lists of nnU-Net's `splits_final.json`: `{file: splits_final.json, fold: 0}`.
    File {
        /// The file, relative to the dataset.
        file: PathBuf,
        /// The place of the two lists in it, from 0.
        fold: u32,
    },
}

/// One of `{fraction: 0.2}`, `{every: 5}`, `{folds: 5, fold: 0}` and `{file: splits_final.json, fold: 0}`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SplitFields {
    /// So large a part of each subset is for validation, from 0 to below 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fraction: Option<f64>,
    /// Of each subset every so-manieth case by name is for validation, from the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    every: Option<u32>,
    /// Each subset is cut into so many parts, of which `fold` is for validation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    folds: Option<u32>,
    /// Which part is for validation, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fold: Option<u32>,
    /// nnU-Net's lists of cases, relative to the dataset: `[{"train": […], "val": […]}, …]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    file: Option<PathBuf>,
}

impl SplitRule {
    /// Refuses numbers that make no sense.
    ///
    /// # Errors
    /// Names the number and what it must be.
    pub fn check(&self) -> Result<(), SplitError> {
        match *self {
            Self::Fraction(fraction) if !(0.0..1.0).contains(&fraction) => Err(SplitError::Fraction(fraction)),
            Self::Every(step) if step < 2 => Err(SplitError::Every(step)),
            Self::Folds { folds, .. } if folds < 2 => Err(SplitError::Folds(folds)),
            Self::Folds { folds, fold } if fold >= folds => Err(SplitError::Fold { fold, last: folds - 1 }),
            _ => Ok(()),
        }
    }
}

impl TryFrom<SplitFields> for SplitRule {
    type Error = &'static str;

    fn try_from(SplitFields { fraction, every, folds, fold, file }: SplitFields) -> Result<Self, Self::Error> {
        match (fraction, every, folds, file, fold) {
            (Some(fraction), None, None, None, None) => Ok(Self::Fraction(fraction)),
            (None, Some(step), None, None, None) => Ok(Self::Every(step)),
            (None, None, Some(folds), None, Some(fold)) => Ok(Self::Folds { folds, fold }),
            (None, None, None, Some(file), Some(fold)) => Ok(Self::File { file, fold }),
            _ => Err("split: give one of {fraction: 0.2}, {every: 5}, {folds: 5, fold: 0} and {file: splits_final.json, fold: 0}"),
        }
    }
}

impl From<SplitRule> for SplitFields {
    fn from(rule: SplitRule) -> Self {
        match rule {
            SplitRule::Fraction(fraction) => Self { fraction: Some(fraction), ..Self::default() },
            SplitRule::Every(step) => Self { every: Some(step), ..Self::default() },
            SplitRule::Folds { folds, fold } => Self { folds: Some(folds), fold: Some(fold), ..Self::default() },
            SplitRule::File { file, fold } => Self { file: Some(file), fold: Some(fold), ..Self::default() },
        }
    }
}

impl JsonSchema for SplitRule {
    fn schema_name() -> Cow<'static, str> {
        "SplitRule".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        SplitFields::json_schema(generator)
    }
}
