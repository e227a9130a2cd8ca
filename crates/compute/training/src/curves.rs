//! The course of training: one row an epoch, as CSV and as a plot. How long each epoch took and how much memory stand by
//! themselves: they are others whenever the training is done again, and the rest is not.

use std::path::Path;

use plots::{Look, Panel, Series, svg};
use serde::{Deserialize, Serialize};

use crate::exact;

/// The file of the rows in the output folder.
pub const CURVE_FILE: &str = "curve.csv";

/// The file of the plot in the output folder.
pub const PLOT_FILE: &str = "curves.svg";

/// The file of the epochs' times and memory, in the folder [`stage_kit::ABOUT`] of the output folder.
pub const TIMES_FILE: &str = "times.csv";

/// How good a model is on the validation cases.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Validation {
    /// Mean loss.
    #[serde(with = "exact")]
    pub loss: f64,
    /// Mean Dice score, 0..=1; NaN where there are no classes, in pre-training.
    #[serde(with = "exact")]
    pub dice: f64,
    /// Further values for TensorBoard and the CSV file, such as the Dice of each organ; the same names in every epoch.
    pub details: Vec<Detail>,
}

/// A named value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Detail {
    /// The name, such as `dice_liver`.
    pub name: String,
    /// The value.
    #[serde(with = "exact")]
    pub value: f64,
}

/// One epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CurveRow {
    /// Counted from 1.
    pub epoch: u64,
    /// At the last step.
    #[serde(with = "exact")]
    pub learning_rate: f64,
    /// Mean over all samples of the epoch.
    #[serde(with = "exact")]
    pub training_loss: f64,
    /// After the epoch.
    pub validation: Validation,
    /// Wall time of the epoch with its validation.
    #[serde(with = "exact")]
    pub seconds: f64,
    /// The most memory that the process has held until then, without that of graphics cards; nothing where the system does not
    /// tell. A resumed training's rows tell of the process that made them.
    #[serde(default)]
    pub peak_mib: Option<u64>,
}

/// The rows as CSV.
#[must_use]
pub fn csv(rows: &[CurveRow]) -> String {
    let details = rows.first().map_or(&[][..], |row| &row.validation.details);
    let heads = ["epoch", "learning_rate", "training_loss", "validation_loss", "validation_dice"].map(str::to_owned);
    let heads = heads.into_iter().chain(details.iter().map(|detail| detail.name.clone())).collect();
    let row = |CurveRow { epoch, learning_rate, training_loss, validation, .. }: &CurveRow| {
        let Validation { loss, dice, details } = validation;
        let mut row = vec![epoch.to_string(), format!("{learning_rate:e}")];
        row.extend(
            [training_loss, loss, dice].into_iter().chain(details.iter().map(|detail| &detail.value)).map(|value| format!("{value:.6}")),
        );
        row
    };
    tables::to_csv(std::iter::once(heads).chain(rows.iter().map(row)))
}

/// The seconds of each epoch and the memory until its end as CSV.
fn times(rows: &[CurveRow]) -> String {
    let heads = ["epoch", "seconds", "peak_mib"].map(str::to_owned);
    let row = |CurveRow { epoch, seconds, peak_mib, .. }: &CurveRow| {
        [epoch.to_string(), format!("{seconds:.1}"), peak_mib.map(|mib| mib.to_string()).unwrap_or_default()]
    };
    tables::to_csv(std::iter::once(heads).chain(rows.iter().map(row)))
}

/// Writes [`CURVE_FILE`], [`PLOT_FILE`] and [`TIMES_FILE`] into the output folder `folder`.
///
/// # Errors
/// When they cannot be written.
pub fn write_curves(folder: &Path, rows: &[CurveRow]) -> anyhow::Result<()> {
    stage_kit::write_atomic_text(&folder.join(CURVE_FILE), &csv(rows))?;
    stage_kit::write_atomic_text(&folder.join(stage_kit::ABOUT).join(TIMES_FILE), &times(rows))?;
    stage_kit::write_atomic_text(&folder.join(PLOT_FILE), &plot(rows))
}

/// Without the node's name: the same training under another name writes the same.
fn plot(rows: &[CurveRow]) -> String {
    #[expect(clippy::cast_precision_loss, reason = "epochs are few")]
    let series = |name: &str, look: Look, value: &dyn Fn(&CurveRow) -> f64| Series {
        name: name.into(),
        look,
        points: rows.iter().map(|row| (row.epoch as f64, value(row))).collect(),
    };
    let loss = Panel {
        y_label: "loss".into(),
        series: vec![
            series("training", Look::First, &|row| row.training_loss),
            series("validation", Look::Second, &|row| row.validation.loss),
        ],
    };
    let dice = Panel { y_label: "Dice".into(), series: vec![series("validation", Look::Second, &|row| row.validation.dice)] };
    let has_dice = rows.iter().any(|row| row.validation.dice.is_finite());
    let panels = if has_dice || rows.is_empty() { vec![loss, dice] } else { vec![loss] };
    svg("Training", "epoch", &panels)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn row(epoch: u64) -> CurveRow {
        let details = vec![Detail { name: "dice_liver".into(), value: 0.9 }];
        let validation = Validation { loss: 1.0 / epoch as f64, dice: 1.0 - 0.5 / epoch as f64, details };
        CurveRow {
            epoch,
            learning_rate: 5e-4,
            training_loss: 0.8 / epoch as f64,
            validation,
            seconds: 12.34,
            peak_mib: (epoch > 1).then_some(300),
        }
    }

    #[test]
    fn the_table_has_one_line_an_epoch_and_a_column_for_each_detail() {
        assert_eq!(
            csv(&[row(1), row(2)]),
            "epoch,learning_rate,training_loss,validation_loss,validation_dice,dice_liver\n\
             1,5e-4,0.800000,1.000000,0.500000,0.900000\n\
             2,5e-4,0.400000,0.500000,0.750000,0.900000\n"
        );
        assert_eq!(times(&[row(1), row(2)]), "epoch,seconds,peak_mib\n1,12.3,\n2,12.3,300\n");
    }

    #[test]
    fn the_plot_holds_every_finite_point_of_every_curve() {
        let mut rows: Vec<_> = (1..=7).map(row).collect();
        rows[3].validation.loss = f64::NAN;
        let plot = plot(&rows);
        assert_eq!(plot.matches("<circle").count(), 7 + 6 + 7);
        assert_eq!(plot.matches("<svg").count(), 1);
        rows.iter_mut().for_each(|row| row.validation.dice = f64::NAN);
        assert!(!super::plot(&rows).contains(">Dice<"), "no classes, no Dice");
        assert!(!plot.contains("NaN") && plot.contains(">Training<") && plot.contains(">Dice<") && plot.contains(">epoch<"));
    }
}
