//! What a pipeline file says of a model, laid beside what the model says of itself.

use std::fmt::Debug;
use std::path::Path;

use labels::Classes;
use serde_json::Value;
use volume::{ModelGrid, Scaling};

use crate::{CardError, Habits, KeepParts, ModelCard, Output};

/// What the parameters of a stage say; nothing where they leave it to the model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Asked {
    /// Kind and size of the network.
    pub network: Option<Value>,
    /// The classes, which may be more than the model finds.
    pub classes: Option<Classes>,
    /// Spacing and window.
    pub grid: Option<ModelGrid>,
    /// Whether scans are cropped to the foreground.
    pub crop_foreground: Option<bool>,
    /// Voxels or pixels of a window of inference, which may be others than in training.
    pub patch: Option<Vec<usize>>,
}

/// How the model is used.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Kind and size of the network.
    pub network: Value,
    /// The classes that it finds.
    pub classes: Classes,
    /// What its outputs stand for, by the order of the groups; for weights that do not say it, one for each group.
    pub outputs: Vec<Output>,
    /// Spacing and window.
    pub grid: ModelGrid,
    /// How windowed intensities are scaled.
    pub scaling: Scaling,
    /// Whether scans are cropped to the foreground.
    pub crop_foreground: bool,
    /// Voxels or pixels of a window of inference.
    pub patch: Vec<usize>,
    /// What the network is used to from another program.
    pub habits: Habits,
    /// Which connected parts of what it finds are kept.
    pub keep_parts: KeepParts,
}

impl Asked {
    /// Fills in what the model at `path` says of itself.
    ///
    /// Where training kept the spacing of each scan along an axis, any spacing may be asked for: the paper's student is trained on
    /// slices at their native depth, and segments slices 2.5 mm apart (2.4).
    ///
    /// # Errors
    /// [`CardError::Missing`] if neither says something, [`CardError::Contradiction`] if they say different things; each names all.
    pub fn resolve(self, card: Option<&ModelCard>, path: &Path) -> Result<Answer, CardError> {
        let mut contradictions = Vec::new();
        if let Some(card) = card {
            let mut compare = |field: &str, trained: &dyn Debug, asked: &dyn Debug, agree: bool| {
                if !agree {
                    contradictions.push(format!("the model was trained with {field} {trained:?}, and the parameters say {asked:?}"));
                }
            };
            if let Some(network) = &self.network {
                let [trained, asked] = [&card.network, network].map(ToString::to_string);
                let agree = trained == asked;
                compare("network", &Plain(trained), &Plain(asked), agree);
            }
            if let Some(classes) = &self.classes {
                let [trained, asked] = [&card.classes, classes].map(described);
                compare("the classes", &Plain(trained), &Plain(asked), has_all(classes, &card.classes));
            }
            if let Some(grid) = &self.grid {
                let trained = &card.input.grid;
                let along = |(trained, asked): (&Option<f64>, &Option<f64>)| trained.is_none() || trained == asked;
                let agree = trained.spacing_mm.iter().zip(&grid.spacing_mm).all(along);
                compare("grid.spacing_mm", &spacing(trained), &spacing(grid), agree);
                compare("grid.window_hu", &trained.window_hu, &grid.window_hu, trained.window_hu == grid.window_hu);
            }
            if let Some(crop) = self.crop_foreground {
                compare("crop_foreground", &card.input.crop_foreground, &crop, card.input.crop_foreground == crop);
            }
        }
        if !contradictions.is_empty() {
            return Err(CardError::Contradiction { path: path.into(), found: contradictions });
        }
        let network = self.network.or_else(|| card.map(|card| card.network.clone()));
        let classes = card.map(|card| card.classes.clone()).or(self.classes);
        let grid = self.grid.or_else(|| card.map(|card| card.input.grid));
        let crop_foreground = self.crop_foreground.or_else(|| card.map(|card| card.input.crop_foreground));
        let patch = self.patch.or_else(|| card.map(|card| card.input.patch.clone()));
        let scaling = card.map(|card| card.input.scaling).unwrap_or_default();
        let habits = card.map(|card| card.input.habits).unwrap_or_default();
        let keep_parts = card.map(|card| card.keep_parts.clone()).unwrap_or_default();
        match (network, classes, grid, crop_foreground, patch) {
            (Some(network), Some(classes), Some(grid), Some(crop_foreground), Some(patch)) => {
                let whole = |classes: &Classes| (0..classes.groups().len()).map(|group| Output::of_group(classes, group)).collect();
                let outputs = card.map_or_else(|| whole(&classes), ModelCard::ordered_outputs);
                Ok(Answer { network, classes, outputs, grid, scaling, crop_foreground, patch, habits, keep_parts })
            }
            (network, classes, grid, crop, patch) => {
                let given = [network.is_some(), classes.is_some(), grid.is_some(), crop.is_some(), patch.is_some()];
                let fields = ["network", "classes", "grid", "crop_foreground", "the size of the window"].into_iter().zip(given);
                Err(CardError::Missing { path: path.into(), fields: fields.filter(|(_, given)| !given).map(|(field, _)| field).collect() })
            }
        }
    }
}

/// Whether `classes` has all `others`, with the same values in the same groups.
fn has_all(classes: &Classes, others: &Classes) -> bool {
    others.groups().iter().all(|group| {
        let own = classes.groups().iter().find(|own| own.key() == group.key());
        let has = |key: &str, value: u8| own.is_some_and(|own| own.classes().iter().any(|class| class.key == key && class.value == value));
        group.classes().iter().all(|class| has(&class.key, class.value))
    })
}

/// In the words of pipeline files, without names and colours.
fn described(classes: &Classes) -> String {
    let groups = classes.groups().iter().map(|group| {
        let classes: Vec<String> = group.classes().iter().map(|class| format!("{}: {}", class.key, class.value)).collect();
        format!("{} {{{}}}", group.key(), classes.join(", "))
    });
    groups.collect::<Vec<_>>().join(", ")
}

/// A text that is shown as it is.
struct Plain(String);

impl Debug for Plain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// As pipeline files write it.
fn spacing(grid: &ModelGrid) -> Plain {
    let each = grid.spacing_mm.map(|mm| mm.map_or_else(|| "null".into(), |mm| mm.to_string()));
    Plain(format!("[{}]", each.join(", ")))
}
