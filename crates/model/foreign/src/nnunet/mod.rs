//! nnU-Net, second version: the results folder of a training, with `plans.json`, `dataset.json` and a checkpoint for each fold.
//!
//! Taken are the U-Nets of `3d_fullres` and `3d_lowres`, plain or with a residual encoder, of one CT channel; all else is refused by name.
//! Labels become a teacher. Regions, which may overlap, become a model for partial labels with a group for each: the later group lies
//! over the earlier ones, as `regions_class_order` says.

mod architecture;
mod dataset;
mod names;
mod plans;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use model_card::{Habits, KeepParts, Kind, ModelCard, ModelInput, Origin, Output};
use nets::{Network as _, NnUNet, TeacherConfig, TrunkConfig, UNetConfig};
use partial::{Dataset, MethodConfig, ModelConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use volume::{ModelGrid, Orientation, Resampling};

use crate::Foreign;
use crate::axes::Axes;
use crate::error::ForeignError;
use crate::fit::{Wanted, fit};
use crate::state::of_torch;
use dataset::Targets;
use names::Names;
use plans::Plans;

/// Where a checkpoint holds the weights.
const UNDER: &[&str] = &["network_weights"];

const REMEDY: &str = "Take plans.json, dataset.json and checkpoints of one training, whose trainer builds the network of the plans";

/// What of a training is taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Choice {
    /// The configuration of the plans, such as `3d_fullres`; by default that of the checkpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub configuration: Option<String>,
    /// The folds, such as `0` or `all`; by default every one that has the checkpoint.
    pub folds: Vec<String>,
    /// The file of each fold.
    pub checkpoint: String,
    /// Where the voxel axes of the training's scans point to, as they are stored, such as RAS or LPS: nnU-Net shows them as they lie in the
    /// file. By default RAS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trained_on: Option<String>,
    /// The group of the classes; regions have groups of their own.
    pub group: String,
}

impl Default for Choice {
    fn default() -> Self {
        let checkpoint = "checkpoint_final.pth".to_owned();
        Self { configuration: None, folds: Vec::new(), checkpoint, trained_on: None, group: "organ".to_owned() }
    }
}

impl Choice {
    /// Refuses what cannot be.
    ///
    /// # Errors
    /// Names the parameter, its value and what it must be.
    pub fn check(&self) -> Result<(), String> {
        self.orientation().map(drop)
    }

    fn orientation(&self) -> Result<Option<Orientation>, String> {
        self.trained_on.as_ref().map(|text| text.parse().map_err(|error| format!("trained_on: {error}"))).transpose()
    }
}

/// A training's folder.
pub struct Results {
    folder: PathBuf,
    choice: Choice,
    plans: Plans,
    targets: Targets,
    folds: Vec<String>,
}

/// What all folds share.
struct Shared {
    axes: Axes,
    network: UNetConfig,
    /// Whether convolutions have a bias.
    bias: bool,
    input: ModelInput,
}

impl Results {
    /// Reads what stands beside the folds.
    ///
    /// # Errors
    /// When a file is missing or says what this program has no form for, or there is no such fold.
    pub fn read(folder: &Path, choice: &Choice) -> Result<Self, ForeignError> {
        choice.check().map_err(|found| refused(folder, found, "correct the parameter"))?;
        let plans = Plans::read(&folder.join("plans.json"))?;
        let targets = Targets::read(&folder.join("dataset.json"), &choice.group)?;
        let folds = folds(folder, choice)?;
        Ok(Self { folder: folder.to_owned(), choice: choice.clone(), plans, targets, folds })
    }

    /// The folds that are taken, in order.
    #[must_use]
    pub fn folds(&self) -> &[String] {
        &self.folds
    }

    /// The orientation of the scans that the network is used to, and whether the plans say it themselves.
    ///
    /// # Errors
    /// When the parameters contradict the plans.
    pub fn orientation(&self) -> Result<(Orientation, bool), ForeignError> {
        let path = self.folder.join("plans.json");
        let said = self.choice.orientation().map_err(|found| refused(&path, found, "correct the parameter"))?;
        match (self.plans.reorients()?, said) {
            (true, Some(said)) if said != Orientation::RAS => {
                let found = format!("its reader turns every scan to RAS, and `trained_on` says {said}");
                Err(refused(&path, found, "leave `trained_on` out"))
            }
            (true, _) => Ok((Orientation::RAS, true)),
            (false, said) => Ok((said.unwrap_or(Orientation::RAS), said.is_some())),
        }
    }

    /// A fold as a model.
    ///
    /// # Errors
    /// When its checkpoint is missing or damaged, or the plans are of another network; names all that does not fit.
    pub fn fold(&self, fold: &str) -> Result<Foreign, ForeignError> {
        let path = self.folder.join(format!("fold_{fold}")).join(&self.choice.checkpoint);
        let saved = pth::Saved::read(&path)?;
        let configuration = match &self.choice.configuration {
            Some(configuration) => configuration.clone(),
            None => saved.text(&["init_args", "configuration"])?.ok_or_else(|| {
                refused(&path, "the checkpoint does not say its configuration".into(), "give `configuration`, such as 3d_fullres")
            })?,
        };
        let Shared { axes, network, bias, input } = self.shared(&configuration)?;
        let names = Names::of(&network, bias);
        let channels = self.targets.channels();
        let specs = NnUNet::new(&network, channels).parameters();
        let wanted: Vec<Wanted> = specs.into_iter().map(|spec| Wanted { theirs: names.of_parameter(&spec.name), spec }).collect();
        let theirs: BTreeSet<&str> = wanted.iter().filter_map(|wanted| wanted.theirs.as_deref()).collect();
        let is_wanted = |name: &str| theirs.contains(name);
        let (mut left, mut unknown) = (BTreeMap::new(), Vec::new());
        for name in saved.names(UNDER)?.into_iter().filter(|name| !is_wanted(name)) {
            match names.unused(&name) {
                Some(what) => *left.entry(what).or_default() += 1,
                None => unknown.push(name),
            }
        }
        let tensors = of_torch(saved.tensors(UNDER, is_wanted)?)?;
        let params = fit(&path, &wanted, &tensors, &unknown, &axes, REMEDY)?;
        let origin = Origin { cases: format!("{}, {configuration}, fold {fold}", self.plans.dataset_name), ..Origin::default() };
        let card = self.card(network, input, origin).map_err(|reason| ForeignError::Card { path, reason })?;
        Ok(Foreign { card, params, taken: tensors.len(), left, more: BTreeMap::new() })
    }

    fn shared(&self, configuration: &str) -> Result<Shared, ForeignError> {
        let path = self.folder.join("plans.json");
        let (orientation, _) = self.orientation()?;
        let plan = self.plans.configuration(configuration)?;
        let order = self.plans.transpose_forward;
        let axes = Axes::of(orientation, order)
            .ok_or_else(|| refused(&path, format!("transpose_forward is {order:?}"), "expected 0, 1 and 2 in some order"))?;
        let (network, bias) = plan.architecture.network(&axes).map_err(|(found, expected)| refused(&path, found, &expected))?;
        let patch = axes.of_grid(plan.patch_size);
        let config = TrunkConfig::UNet(network.clone());
        config
            .check(patch)
            .map_err(|found| refused(&path, format!("configuration {configuration}: {found}"), "take plans as nnU-Net makes them"))?;
        let (window_hu, scaling) = self.plans.intensities()?;
        let grid = ModelGrid { spacing_mm: axes.of_grid(plan.spacing).map(Some), window_hu };
        grid.check()
            .map_err(|error| refused(&path, format!("configuration {configuration}: {error}"), "take plans as nnU-Net makes them"))?;
        // What lies around a small scan is 0 to the network.
        let around = scaling.shift.clamp(0.0, 1.0);
        let habits = Habits { mirrored: axes.mirrored, around, resampling: Resampling::Clipped };
        let input = ModelInput { grid, scaling, crop_foreground: false, patch: patch.to_vec(), habits };
        Ok(Shared { axes, network, bias, input })
    }

    fn card(&self, network: UNetConfig, input: ModelInput, origin: Origin) -> serde_json::Result<ModelCard> {
        let classes = self.targets.classes().clone();
        let (kind, network, outputs): (_, Value, _) = match self.targets {
            Targets::Labels(_) => {
                let outputs = vec![Output::of_group(&classes, 0)];
                (Kind::Teacher, serde_json::to_value(TeacherConfig::NnUNet(network))?, outputs)
            }
            Targets::Regions(_) => {
                let all = Some(classes.keys_of(classes.pattern()));
                let dataset = Dataset { name: "nnunet".into(), subset: "all".into(), classes: all };
                let method = MethodConfig::Multitalent { network: TrunkConfig::UNet(network), deep_supervision: false };
                let config = ModelConfig { method, datasets: vec![dataset], tasks: Vec::new() };
                (Kind::Partial, serde_json::to_value(config)?, Vec::new())
            }
        };
        Ok(ModelCard { kind, network, classes, outputs, input, origin, keep_parts: KeepParts::default() })
    }
}

fn refused(path: &Path, found: String, expected: &str) -> ForeignError {
    ForeignError::Refused { path: path.into(), found, expected: expected.to_owned() }
}

/// The folds that have the checkpoint, or those that were asked for.
fn folds(folder: &Path, choice: &Choice) -> Result<Vec<String>, ForeignError> {
    let has = |fold: &str| folder.join(format!("fold_{fold}")).join(&choice.checkpoint).is_file();
    let remedy = "give the folder of a configuration, with plans.json, dataset.json and fold_0";
    let mut found: Vec<String> = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|reason| ForeignError::Read { path: folder.into(), reason, remedy })? {
        let name = entry.map_err(|reason| ForeignError::Read { path: folder.into(), reason, remedy })?.file_name();
        found.extend(name.to_string_lossy().strip_prefix("fold_").filter(|fold| has(fold)).map(str::to_owned));
    }
    found.sort();
    let missing: Vec<&str> = choice.folds.iter().map(String::as_str).filter(|fold| !found.iter().any(|other| other == fold)).collect();
    if missing.is_empty() && !found.is_empty() {
        return Ok(if choice.folds.is_empty() { found } else { choice.folds.clone() });
    }
    let asked = if missing.is_empty() { String::new() } else { format!(" of the folds {}", missing.join(", ")) };
    let there = if found.is_empty() { "no fold has one".to_owned() } else { format!("the folds {} have one", found.join(", ")) };
    Err(refused(folder, format!("there is no {}{asked}; {there}", choice.checkpoint), "correct `folds` or `checkpoint`"))
}
