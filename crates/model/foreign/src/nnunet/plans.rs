//! `plans.json`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use volume::Scaling;

use super::architecture::{Architecture, Earlier};
use super::refused;
use crate::error::ForeignError;

const EXPECTED: &str = "the plans of nnU-Net's second version, as they lie beside the folds of a training";

/// What is needed of the plans.
pub(super) struct Plans {
    path: PathBuf,
    pub(super) dataset_name: String,
    /// For each axis of the network its place among slices, rows and columns.
    pub(super) transpose_forward: [usize; 3],
    reader: String,
    intensities: BTreeMap<String, Intensities>,
    configurations: BTreeMap<String, Value>,
}

/// A configuration.
pub(super) struct Configuration {
    /// Voxels of a patch along the network's axes.
    pub(super) patch_size: [usize; 3],
    /// In mm along the network's axes.
    pub(super) spacing: [f64; 3],
    pub(super) architecture: Architecture,
}

#[derive(Deserialize)]
struct Fields {
    #[serde(default)]
    dataset_name: Option<String>,
    transpose_forward: [usize; 3],
    image_reader_writer: String,
    foreground_intensity_properties_per_channel: BTreeMap<String, Intensities>,
    configurations: BTreeMap<String, Value>,
}

/// Of the foreground of all training cases, in HU.
#[derive(Clone, Copy, Deserialize)]
struct Intensities {
    percentile_00_5: f64,
    percentile_99_5: f64,
    mean: f64,
    std: f64,
}

#[derive(Deserialize)]
struct Said {
    patch_size: Vec<usize>,
    spacing: Vec<f64>,
    normalization_schemes: Vec<String>,
    #[serde(default)]
    previous_stage: Option<String>,
    #[serde(default)]
    preprocessor_name: Option<String>,
}

impl Plans {
    pub(super) fn read(path: &Path) -> Result<Self, ForeignError> {
        let fields: Fields = form(path, "", of_file(path)?, EXPECTED)?;
        Ok(Self {
            path: path.to_owned(),
            dataset_name: fields.dataset_name.unwrap_or_else(|| "a dataset without a name".into()),
            transpose_forward: fields.transpose_forward,
            reader: fields.image_reader_writer,
            intensities: fields.foreground_intensity_properties_per_channel,
            configurations: fields.configurations,
        })
    }

    /// Whether scans were turned to RAS before the network saw them.
    pub(super) fn reorients(&self) -> Result<bool, ForeignError> {
        match self.reader.as_str() {
            "SimpleITKIO" | "NibabelIO" => Ok(false),
            "SimpleITKIOWithReorient" | "NibabelIOWithReorient" => Ok(true),
            other => {
                let found = format!("image_reader_writer is {other}");
                Err(refused(&self.path, found, "expected SimpleITKIO or NibabelIO, with or without reorientation, which read CT scans"))
            }
        }
    }

    /// The window in HU, and what is made of it.
    pub(super) fn intensities(&self) -> Result<([f32; 2], Scaling), ForeignError> {
        let Some(&Intensities { percentile_00_5: low, percentile_99_5: high, mean, std }) = self.intensities.get("0") else {
            let found = "foreground_intensity_properties_per_channel has no channel 0".into();
            return Err(refused(&self.path, found, EXPECTED));
        };
        let width = high - low;
        if ![low, high, mean, std].iter().all(|value| value.is_finite() && value.abs() < 1e6) || width <= 0.0 || std <= 0.0 {
            let found = format!("the foreground has percentiles {low} and {high}, mean {mean} and deviation {std}");
            return Err(refused(
                &self.path,
                found,
                "expected Hounsfield units: a second percentile above the first, and a deviation above 0",
            ));
        }
        #[expect(clippy::cast_possible_truncation, reason = "Hounsfield units")]
        let [low_hu, high_hu, shift, scale] = [low, high, (mean - low) / width, std / width].map(|value| value as f32);
        Ok(([low_hu, high_hu], Scaling { shift, scale, ..Scaling::default() }))
    }

    pub(super) fn configuration(&self, name: &str) -> Result<Configuration, ForeignError> {
        let part = format!("configuration {name}: ");
        let value = self.inherited(name, &mut Vec::new())?;
        let said: Said = form(&self.path, &part, Value::Object(value.clone()), EXPECTED)?;
        let refused = |found: String, expected: &str| Err(refused(&self.path, format!("{part}{found}"), expected));
        if let Some(stage) = said.previous_stage {
            return refused(
                format!("it goes on from what {stage} has found"),
                "cascades are not taken; take 3d_fullres or 3d_lowres alone",
            );
        }
        if said.patch_size.len() == 2 {
            return refused("it labels slices one by one".into(), "take 3d_fullres or 3d_lowres, or export a student from this program");
        }
        if let Some(other) = said.preprocessor_name.filter(|name| name != "DefaultPreprocessor") {
            return refused(format!("its scans were prepared by {other}"), "expected DefaultPreprocessor");
        }
        if said.normalization_schemes != ["CTNormalization"] {
            let found = format!("its channels are normalised by {}", said.normalization_schemes.join(", "));
            return refused(found, "expected CTNormalization of one channel: a training on CT alone, `channel_names: {\"0\": \"CT\"}`");
        }
        let (Ok(patch_size), Ok(spacing)) = (<[usize; 3]>::try_from(said.patch_size), <[f64; 3]>::try_from(said.spacing)) else {
            return refused("patch_size and spacing have not three sides each".into(), EXPECTED);
        };
        let architecture = match value.get("architecture") {
            Some(architecture) => Architecture::read(architecture.clone()),
            None => serde_json::from_value(Value::Object(value)).map(Earlier::architecture),
        };
        let failed =
            |reason| ForeignError::Form { path: self.path.clone(), part, reason, expected: "a PlainConvUNet or ResidualEncoderUNet" };
        Ok(Configuration { patch_size, spacing, architecture: architecture.map_err(failed)? })
    }

    /// The fields of a configuration, over those that it inherits.
    fn inherited(&self, name: &str, seen: &mut Vec<String>) -> Result<Map<String, Value>, ForeignError> {
        let known = || self.configurations.keys().cloned().collect::<Vec<_>>().join(", ");
        let Some(Value::Object(own)) = self.configurations.get(name) else {
            return Err(refused(&self.path, format!("there is no configuration {name}"), &format!("expected one of {}", known())));
        };
        seen.push(name.to_owned());
        let Some(parent) = own.get("inherits_from").and_then(Value::as_str) else { return Ok(own.clone()) };
        if seen.iter().any(|name| name == parent) {
            return Err(refused(&self.path, format!("configurations inherit from each other: {}", seen.join(", ")), EXPECTED));
        }
        let mut all = self.inherited(parent, seen)?;
        all.extend(own.clone());
        Ok(all)
    }
}

/// The JSON in a file.
pub(super) fn of_file(path: &Path) -> Result<Value, ForeignError> {
    let remedy = "give the folder of a configuration, with plans.json, dataset.json and fold_0";
    let text = std::fs::read(path).map_err(|reason| ForeignError::Read { path: path.into(), reason, remedy })?;
    serde_json::from_slice(&text).map_err(|reason| ForeignError::Form { path: path.into(), part: String::new(), reason, expected: "JSON" })
}

/// What a value of a file says.
pub(super) fn form<T: DeserializeOwned>(path: &Path, part: &str, value: Value, expected: &'static str) -> Result<T, ForeignError> {
    serde_json::from_value(value).map_err(|reason| ForeignError::Form { path: path.into(), part: part.to_owned(), reason, expected })
}
