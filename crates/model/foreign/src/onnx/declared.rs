//! What a graph does not say of itself.

use labels::{BACKGROUND, BACKGROUND_KEY, Classes};
use model_card::{Habits, Output};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use volume::{ModelGrid, Orientation, Scaling};

use crate::axes::Axes;

/// What an ONNX file does not say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Declared {
    /// The classes: one group where they exclude each other; else voxels of a group belong to the likeliest class above one half, and
    /// later groups lie over earlier ones.
    pub classes: Classes,
    /// What the output's channels stand for, in order, by the names of classes and `background`; by default background first, unless
    /// classes overlap, and then all classes by ascending value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channels: Option<Vec<String>>,
    /// Whether a voxel may be of several classes, so that each channel has a probability of its own (sigmoid); by default the channels
    /// exclude each other (softmax).
    #[serde(default)]
    pub overlapping: bool,
    /// What the output holds. A softmax or sigmoid at the end of the graph is found, and left out, whatever is said here.
    #[serde(default)]
    pub scores: Scores,
    /// Spacing in mm along x, y, z, and the window of intensities in HU, outside of which they are clipped.
    pub grid: ModelGrid,
    /// What the network is shown of the window: `{range: [0, 1]}` unless something else is said.
    #[serde(default)]
    pub intensity: Intensity,
    /// The spatial axes of the graph's input, in order: `xyz` as MONAI has them, `zyx` as nnU-Net and SimpleITK; `xy` or `yx` for slices.
    pub axes: String,
    /// Voxels of a patch along x, y, z, 1 across slices; by default as the graph says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch: Option<[usize; 3]>,
    /// Whether scans were cropped to the foreground.
    #[serde(default)]
    pub crop_foreground: bool,
    /// Where x, y and z of the network's images point to, such as RAS or LPS.
    #[serde(default = "ras")]
    pub orientation: String,
    /// The output of a graph that has several, as those with deep supervision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
}

/// What the channels of an output hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scores {
    /// What softmax or sigmoid makes probabilities of.
    #[default]
    Logits,
    /// Probabilities.
    Probabilities,
}

/// How the network is shown intensities.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Intensity {
    /// What the ends of the window become: `a_min` and `a_max` become `b_min` and `b_max`.
    Range([f32; 2]),
    /// Less a mean, divided by a deviation, both in HU, as nnU-Net has it.
    Normal {
        /// The mean.
        mean: f32,
        /// The deviation.
        std: f32,
    },
}

impl Default for Intensity {
    fn default() -> Self {
        Self::Range([0.0, 1.0])
    }
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
        self.grid.check().map_err(|error| format!("grid.{error}"))?;
        if !self.overlapping && self.classes.groups().len() != 1 {
            let groups: Vec<&str> = self.classes.groups().iter().map(labels::Group::key).collect();
            return Err(format!("classes: groups {}; expected one group, or `overlapping: true`", groups.join(", ")));
        }
        if self.patch.is_some_and(|patch| patch.contains(&0)) {
            return Err(format!("patch: {:?}: every side must have at least 1 voxel", self.patch.unwrap_or_default()));
        }
        self.channel_values()?;
        self.scaling()?;
        self.order()?;
        self.habits().map(drop)
    }

    /// The output value of each channel, 0 for background.
    pub(super) fn channel_values(&self) -> Result<Vec<u8>, String> {
        let (all, first) = (self.classes.all(), if self.overlapping { None } else { Some(BACKGROUND) });
        let Some(keys) = &self.channels else { return Ok(first.into_iter().chain(all.iter().map(|class| class.value)).collect()) };
        let value = |key: &String| match key.as_str() {
            BACKGROUND_KEY => Ok(BACKGROUND),
            key => self.classes.class(key).map(|class| class.value).map_err(|error| format!("channels: {error}")),
        };
        let values = keys.iter().map(value).collect::<Result<Vec<_>, _>>()?;
        let number = |value: u8| values.iter().filter(|own| **own == value).count();
        let wrong = all.iter().map(|class| class.value).find(|value| number(*value) != 1);
        let wrong =
            wrong.or_else(|| Some(BACKGROUND).filter(|background| number(*background) > 1 || first.is_some() && number(*background) == 0));
        match wrong {
            Some(value) => Err(format!(
                "channels: {} stands {} times in [{}]; expected once",
                self.classes.key_of(value),
                number(value),
                keys.join(", ")
            )),
            None => Ok(values),
        }
    }

    /// What the outputs stand for, and which channels each is made of; of classes that exclude each other the first is background.
    pub(super) fn outputs(&self) -> Result<Vec<(Output, Vec<usize>)>, String> {
        let values = self.channel_values()?;
        let place = |value: u8| values.iter().position(|own| *own == value);
        let of_group = |k: usize| {
            let mut output = Output::of_group(&self.classes, k);
            if !self.overlapping {
                output.values = values.iter().copied().filter(|value| *value != BACKGROUND).collect();
            }
            let classes = if self.overlapping { output.values.clone() } else { output.value_of_channel() };
            (output, classes.into_iter().filter_map(place).collect())
        };
        Ok((0..self.classes.groups().len()).map(of_group).collect())
    }

    /// Windowed intensities as the network is shown them.
    pub(super) fn scaling(&self) -> Result<Scaling, String> {
        let [low, high] = self.grid.window_hu;
        match self.intensity {
            // (v − shift) / scale is `from` at 0 and `to` at 1.
            Intensity::Range([from, to]) if from.is_finite() && to.is_finite() && from < to => {
                Ok(Scaling { shift: (0.0 - from) / (to - from), scale: 1.0 / (to - from), ..Scaling::default() })
            }
            Intensity::Range([from, to]) => Err(format!("intensity.range [{from}, {to}]: the second must be above the first")),
            Intensity::Normal { mean, std } if mean.is_finite() && std.is_finite() && std > 0.0 => {
                Ok(Scaling { shift: (mean - low) / (high - low), scale: std / (high - low), ..Scaling::default() })
            }
            Intensity::Normal { mean, std } => {
                Err(format!("intensity.normal: mean {mean} and std {std}: expected HU, and a deviation above 0"))
            }
        }
    }

    /// For each spatial axis of the graph that of x, y and z.
    pub(super) fn order(&self) -> Result<Vec<usize>, String> {
        let order: Option<Vec<usize>> = self.axes.chars().map(|axis| "xyz".find(axis)).collect();
        let order = order.filter(|order| (2..=3).contains(&order.len()) && (1..order.len()).all(|k| !order[..k].contains(&order[k])));
        order.ok_or_else(|| {
            format!("axes: {}: expected two or three of x, y and z in the order of the graph's input, such as zyx", self.axes)
        })
    }

    pub(super) fn habits(&self) -> Result<Habits, String> {
        let orientation: Orientation = self.orientation.parse().map_err(|error| format!("orientation: {error}"))?;
        let axes = Axes::in_order(orientation).ok_or_else(|| {
            format!(
                "orientation {orientation}: expected where x, y and z point to, such as RAS or LPS; `axes` says in which order they stand"
            )
        })?;
        // Windows are padded with zeros, after the scaling.
        Ok(Habits { mirrored: axes.mirrored, around: self.scaling()?.shift.clamp(0.0, 1.0), ..Habits::default() })
    }
}
