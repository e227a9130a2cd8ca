//! What a pipeline file says of a model, laid beside what the model says of itself.

use std::fmt::Debug;
use std::path::Path;

use serde_json::Value;
use volume::ModelGrid;

use crate::{CardError, ModelCard};

/// What the parameters of a stage say; nothing where they leave it to the model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Asked {
    /// Kind and size of the network.
    pub network: Option<Value>,
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
    /// Spacing and window.
    pub grid: ModelGrid,
    /// Whether scans are cropped to the foreground.
    pub crop_foreground: bool,
    /// Voxels or pixels of a window of inference.
    pub patch: Vec<usize>,
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
        let grid = self.grid.or_else(|| card.map(|card| card.input.grid));
        let crop_foreground = self.crop_foreground.or_else(|| card.map(|card| card.input.crop_foreground));
        let patch = self.patch.or_else(|| card.map(|card| card.input.patch.clone()));
        match (network, grid, crop_foreground, patch) {
            (Some(network), Some(grid), Some(crop_foreground), Some(patch)) => Ok(Answer { network, grid, crop_foreground, patch }),
            (network, grid, crop, patch) => {
                let given = [network.is_some(), grid.is_some(), crop.is_some(), patch.is_some()];
                let fields = ["network", "grid", "crop_foreground", "the size of the window"].into_iter().zip(given);
                Err(CardError::Missing { path: path.into(), fields: fields.filter(|(_, given)| !given).map(|(field, _)| field).collect() })
            }
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Kind, ModelInput, Origin};
    use serde_json::json;

    fn card() -> ModelCard {
        ModelCard {
            kind: Kind::Student,
            network: json!({"features": [1, 2]}),
            classes: vec!["background".into(), "liver".into()],
            input: ModelInput {
                grid: ModelGrid { spacing_mm: [Some(8.0), Some(8.0), None], window_hu: [-200.0, 300.0] },
                crop_foreground: true,
                patch: vec![96, 80],
            },
            origin: Origin { cases: "D_l4".into(), seed: 1, best_epoch: 3, validation_score: 0.5 },
        }
    }

    fn resolve(asked: Asked, card: Option<&ModelCard>) -> Result<Answer, String> {
        asked.resolve(card, Path::new("w.safetensors")).map_err(|error| error.to_string())
    }

    #[test]
    fn what_the_parameters_leave_out_the_model_says() {
        let card = card();
        let answer = resolve(Asked::default(), Some(&card)).unwrap();
        assert_eq!((answer.network, answer.grid), (card.network.clone(), card.input.grid));
        assert_eq!((answer.crop_foreground, answer.patch), (true, vec![96, 80]));
        let grid = ModelGrid { spacing_mm: [Some(8.0), Some(8.0), Some(2.5)], window_hu: [-200.0, 300.0] };
        let asked = Asked { grid: Some(grid), patch: Some(vec![128, 128]), ..Asked::default() };
        let answer = resolve(asked, Some(&card)).unwrap();
        assert_eq!((answer.grid, answer.patch), (grid, vec![128, 128]), "the depth of slices and the window may be others");
    }

    #[test]
    fn what_contradicts_the_model_is_refused_with_both_values() {
        let grid = ModelGrid { spacing_mm: [Some(25.0), Some(8.0), Some(2.5)], window_hu: [-100.0, 300.0] };
        let asked = Asked { network: Some(json!({"features": [1, 3]})), grid: Some(grid), crop_foreground: Some(false), patch: None };
        let error = resolve(asked, Some(&card())).unwrap_err();
        for part in [
            "w.safetensors: the model was trained with network {\"features\":[1,2]}, and the parameters say {\"features\":[1,3]}",
            "grid.spacing_mm [8, 8, null], and the parameters say [25, 8, 2.5]",
            "grid.window_hu [-200.0, 300.0], and the parameters say [-100.0, 300.0]",
            "crop_foreground true, and the parameters say false",
            "Leave these parameters out",
        ] {
            assert!(error.contains(part), "{part}: {error}");
        }
    }

    #[test]
    fn weights_without_a_card_need_all_that_matters() {
        let error = resolve(Asked { crop_foreground: Some(true), ..Asked::default() }, None).unwrap_err();
        assert!(error.contains("give network, grid, the size of the window under `params:`"), "{error}");
        let asked = Asked { network: Some(json!(1)), grid: Some(card().input.grid), crop_foreground: Some(true), patch: Some(Vec::new()) };
        assert!(resolve(asked, None).is_ok());
    }

    #[test]
    fn a_card_comes_back_from_metadata_and_refuses_another_role() {
        let (card, path) = (card(), Path::new("w.safetensors"));
        let metadata = card.to_metadata().unwrap().into_iter().collect();
        assert_eq!(ModelCard::of(&metadata, path).unwrap(), Some(card.clone()));
        assert_eq!(ModelCard::of(&Default::default(), path).unwrap(), None);
        let kind = card.must_be(Kind::Teacher, path).unwrap_err().to_string();
        assert!(kind.contains("is a student") && kind.contains("expected a teacher"), "{kind}");
        assert!(card.must_find(&["background", "liver"], path).is_ok());
        let classes = card.must_find(&["background", "tumor"], path).unwrap_err().to_string();
        assert!(classes.contains("finds background, liver; expected a model of background, tumor"), "{classes}");
    }
}
