//! How the intensities of scans are shown to a network.

use anyhow::{Result, bail};
use prepared::{Intensities, PreparedError, PreparedSet};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use stage_kit::StageIo;
use volume::Scaling;

/// How windowed intensities are shown to a network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Normalisation {
    /// From 0 to 1 across the window, as in the paper.
    #[default]
    Unit,
    /// From -1 to 1 across the window, as in DoDNet.
    Signed,
    /// As in nnU-Net: clipped to the 0.5 and 99.5 percentiles of the labelled voxels of the training cases, less their mean, by
    /// their standard deviation. Every training case is read once for it when training starts.
    Foreground,
}

/// What intensities are measured by where a change of them is drawn: in the scale in which the network is shown them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Reference {
    /// The intensity that is neither bright nor dark.
    pub(crate) middle: f64,
    /// How far they are from each other.
    pub(crate) deviation: f64,
    /// Half the width of the window.
    pub(crate) half_window: f64,
}

/// The share of the labelled voxels below the lowest intensity that is kept, and below the highest.
const KEPT: [f64; 2] = [0.005, 0.995];

impl Normalisation {
    /// Whether it is the paper's; for `skip_serializing_if`.
    #[must_use]
    pub fn is_unit(&self) -> bool {
        *self == Self::Unit
    }

    /// By what changes of intensities are measured. Mean and deviation are known of `foreground` alone; elsewhere they are those of
    /// intensities that are spread evenly over the window.
    pub(crate) fn reference(self) -> Reference {
        let of_window = |middle: f64, half_window: f64| Reference { middle, deviation: half_window / 3.0_f64.sqrt(), half_window };
        match self {
            Self::Unit => of_window(0.5, 0.5),
            Self::Signed => of_window(0.0, 1.0),
            Self::Foreground => Reference { middle: 0.0, deviation: 1.0, half_window: 1.0 },
        }
    }

    /// What it comes to for these training cases.
    ///
    /// # Errors
    /// When a case cannot be read, or the labelled voxels do not differ in their intensity.
    pub fn scaling(self, training_cases: &PreparedSet, io: &StageIo) -> Result<Scaling> {
        match self {
            Self::Unit => Ok(Scaling::default()),
            Self::Signed => Ok(Scaling::signed()),
            Self::Foreground => of_foreground(training_cases, io),
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "intensities are single precision")]
fn of_foreground(cases: &PreparedSet, io: &StageIo) -> Result<Scaling> {
    let every_class = cases.index().classes.pattern();
    let progress = io.report.start(&io.node, "cases for the normalisation", cases.len() as u64);
    let add = |mut intensities: Intensities, case: usize| -> Result<Intensities, PreparedError> {
        cases.case(case)?.add_intensities(&cases.values_of(case, every_class), &mut intensities)?;
        progress.step(&cases.cases()[case].id);
        Ok(intensities)
    };
    // The sums are those of whole numbers, so that their order does not matter.
    let none = || Intensities::of_window(cases.index().window_hu);
    let parts = (0..cases.len()).into_par_iter().try_fold(none, add);
    let intensities = parts.try_reduce(none, |some, others| Ok(some.and(&others)))?;
    let (Some([mean, deviation]), [Some(low), Some(high)]) =
        (intensities.mean_and_deviation().filter(|[_, deviation]| *deviation > 0.0), KEPT.map(|share| intensities.percentile(share)))
    else {
        bail!(
            "normalisation: `foreground` needs labelled voxels that differ in their intensity, and the {} labelled voxels of the {} \
             training cases do not; take `unit` or `signed`, or a subset with labels",
            intensities.voxels(),
            cases.len()
        );
    };
    let [from, to] = cases.index().window_hu.map(f64::from);
    let hu = |value: f64| from + value * (to - from);
    io.report.note(&format!(
        "{}: intensities are clipped to {:.1} and {:.1} HU, less {:.1} HU, by {:.1} HU: {} labelled voxels of {} training cases",
        io.node,
        hu(low),
        hu(high),
        hu(mean),
        deviation * (to - from),
        intensities.voxels(),
        cases.len()
    ));
    Ok(Scaling { clip: [low as f32, high as f32], shift: mean as f32, scale: deviation as f32 })
}
