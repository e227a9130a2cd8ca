//! Networks of MONAI's: `BasicUNet`, `UNETR` and `SwinUNETR` of one image channel, with one head whose classes exclude each other.
//!
//! A state dict says nothing of how it is used. The declaration says it, in the words of pipeline files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use candle_core::Tensor;
use labels::Classes;
use model_card::{Habits, KeepParts, Kind, ModelCard, ModelInput, Origin, Output};
use nets::{Network as _, Teacher, TeacherConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use volume::{ModelGrid, Orientation, Scaling};

use crate::Foreign;
use crate::axes::Axes;
use crate::error::ForeignError;
use crate::fit::{Wanted, fit};
use crate::state::State;

const REMEDY: &str = "Declare the network as it was trained, with as many classes, or take weights of that network: BasicUNet, UNETR or SwinUNETR \
     of one image channel with instance norm, and of SwinUNETR the first version (use_v2=False)";

/// How the embedding of UNETR's tokens was named where it was a perceptron.
const PERCEPTRON: &str = "vit.patch_embedding.patch_embeddings.1.";
const EMBEDDING: &str = "vit.patch_embedding.patch_embeddings.";

/// What a state dict does not say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Declared {
    /// Kind and size of the network: `features` of a `BasicUNet`, `unetr` or `swin_unetr`.
    pub network: TeacherConfig,
    /// The classes, of one group, by ascending value as the channels from 1 on.
    pub classes: Classes,
    /// Spacing in mm, and the window: `a_min` and `a_max` of `ScaleIntensityRange`, which makes 0 and 1 of them.
    pub grid: ModelGrid,
    /// Voxels of a patch along x, y, z: `roi_size`.
    pub patch: [usize; 3],
    /// What `ScaleIntensityRange` made of the window's ends: `b_min` and `b_max`.
    #[serde(default = "from_0_to_1")]
    pub range: [f32; 2],
    /// Whether scans were cropped to the foreground (`CropForeground`).
    #[serde(default)]
    pub crop_foreground: bool,
    /// Where the voxel axes of the network's images point to: `axcodes` of `Orientation`.
    #[serde(default = "ras")]
    pub orientation: String,
}

fn from_0_to_1() -> [f32; 2] {
    [0.0, 1.0]
}

fn ras() -> String {
    Orientation::RAS.to_string()
}

impl Declared {
    /// Refuses what cannot be.
    ///
    /// # Errors
    /// Names the parameter, its value and what it must be.
    pub fn check(&self) -> Result<(), String> {
        self.network.check(self.patch)?;
        self.grid.check().map_err(|error| format!("grid.{error}"))?;
        if self.classes.groups().len() != 1 {
            let groups: Vec<&str> = self.classes.groups().iter().map(labels::Group::key).collect();
            return Err(format!("classes: groups {}; expected one group, since the network has one head", groups.join(", ")));
        }
        let [low, high] = self.range;
        if !(low.is_finite() && high.is_finite() && low < high) {
            return Err(format!("range [{low}, {high}]: the second must be above the first"));
        }
        self.axes().map(drop)
    }

    fn axes(&self) -> Result<Axes, String> {
        let orientation: Orientation = self.orientation.parse().map_err(|error| format!("orientation: {error}"))?;
        Axes::in_order(orientation).ok_or_else(|| {
            format!("orientation {orientation}: expected axes from left to right, back to front and feet to head, either way, such as RAS or LPS")
        })
    }

    fn card(&self, axes: &Axes, origin: String) -> Result<ModelCard, serde_json::Error> {
        let [low, high] = self.range;
        let input = ModelInput {
            grid: self.grid,
            // (v - shift) / scale is low at 0 and high at 1.
            scaling: Scaling { shift: (0.0 - low) / (high - low), scale: 1.0 / (high - low), ..Scaling::default() },
            crop_foreground: self.crop_foreground,
            patch: self.patch.to_vec(),
            // Windows are padded with zeros, after the scaling.
            habits: Habits { mirrored: axes.mirrored, around: ((0.0 - low) / (high - low)).clamp(0.0, 1.0), ..Habits::default() },
        };
        Ok(ModelCard {
            kind: Kind::Teacher,
            network: serde_json::to_value(&self.network)?,
            classes: self.classes.clone(),
            outputs: vec![Output::of_group(&self.classes, 0)],
            input,
            origin: Origin { cases: origin, ..Origin::default() },
            keep_parts: KeepParts::default(),
        })
    }
}

/// The network behind the state dict at `path`, as it is declared.
///
/// # Errors
/// When the declaration cannot be, the file is missing or damaged, or holds other weights; names all that does not fit.
pub fn import(path: &Path, declared: &Declared) -> Result<Foreign, ForeignError> {
    let refused = |found| ForeignError::Refused { path: path.into(), found, expected: "correct the declaration".into() };
    declared.check().map_err(refused)?;
    let axes = declared.axes().map_err(refused)?;
    let State { mut tensors, prefix } = State::read(path)?;
    let specs = Teacher::new(&declared.network, 1 + declared.classes.pattern().len()).parameters();
    if let TeacherConfig::Unetr(_) = declared.network {
        convolved(&mut tensors)?;
    }
    let used: BTreeSet<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
    let unused = |name: &&String| !used.contains(name.as_str());
    let (leftover, unknown): (Vec<String>, Vec<String>) = tensors.keys().filter(unused).cloned().partition(|name| nets::is_leftover(name));
    let wanted: Vec<Wanted> = specs.iter().map(|spec| Wanted { spec: spec.clone(), theirs: Some(spec.name.clone()) }).collect();
    let params = fit(path, &wanted, &tensors, &unknown, &axes, REMEDY)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let origin = if prefix.is_empty() { name.into_owned() } else { format!("{name}, names behind `{prefix}`") };
    let card = declared.card(&axes, origin).map_err(|reason| ForeignError::Card { path: path.into(), reason })?;
    let left = BTreeMap::from([("saved, not computed with", leftover.len())]).into_iter().filter(|(_, number)| *number > 0).collect();
    Ok(Foreign { card, params, taken: tensors.len() - leftover.len(), left, more: BTreeMap::new() })
}

/// The embedding of tokens as a convolution, where it was a perceptron over voxels in the order x, y, z of a token.
fn convolved(tensors: &mut BTreeMap<String, Tensor>) -> Result<(), ForeignError> {
    let Some(weight) = tensors.get(&format!("{PERCEPTRON}weight")) else { return Ok(()) };
    let side = nets::TOKEN_SIDE;
    // Of another shape it stays, and is named with all else that does not fit.
    if let Ok((hidden, inputs)) = weight.dims2()
        && inputs == side * side * side
    {
        let weight = weight.reshape((hidden, 1, side, side, side))?;
        tensors.remove(&format!("{PERCEPTRON}weight"));
        tensors.insert(format!("{EMBEDDING}weight"), weight);
        if let Some(bias) = tensors.remove(&format!("{PERCEPTRON}bias")) {
            tensors.insert(format!("{EMBEDDING}bias"), bias);
        }
    }
    Ok(())
}
