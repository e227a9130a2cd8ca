//! Loss and Dice of every training, also of those that go on.

use std::path::{Path, PathBuf};

use anyhow::Result;
use maud::{Markup, html};
use pipeline::{NodeState, NodeView, Snapshot};
use plots::{Look, Panel, Series, svg_for_page};
use tables::{Table, TableError};

use crate::html::{Section, badge, drawing, head, note, table};
use crate::seconds;

/// The file that a training writes after each epoch.
const CURVE_FILE: &str = "curve.csv";
/// The times of its epochs, in the folder [`stage_kit::ABOUT`] beside it.
const TIMES_FILE: &str = "times.csv";
/// More points than this cannot be told apart in a plot.
const MOST_POINTS: usize = 400;

pub(crate) fn section(seen: &Snapshot<'_>) -> Result<Option<Section>> {
    let (mut rows, mut plots) = (Vec::new(), Vec::new());
    for (index, (node, view)) in seen.pipeline.nodes.iter().zip(&seen.nodes).enumerate() {
        let Some(path) = curve_file(seen, view) else { continue };
        let curve = Curve::read(&path)?;
        let times = path.with_file_name(stage_kit::ABOUT).join(TIMES_FILE);
        let took = if times.is_file() { Curve::read(&times)?.column("seconds").map(|column| column.iter().sum()) } else { None };
        if curve.epochs() == 0 {
            continue;
        }
        let (best, lowest) = (curve.extreme("validation_dice", f64::max), curve.extreme("validation_loss", f64::min));
        let shown = |found: Option<(f64, f64)>, scale: f64, digits: usize| match found {
            Some((epoch, value)) => html! { (format!("{:.digits$} ", scale * value)) small { "epoch " (epoch) } },
            None => html! { "–" },
        };
        rows.push(vec![
            html! {
                a href={ "#node-" (index) } { (node.name) }
                @if view.state != NodeState::Fresh { " " (badge(view.state.word())) }
            },
            html! { (curve.epochs()) },
            shown(best, 100.0, 1),
            shown(lowest, 1.0, 4),
            html! { (took.map_or_else(|| "–".to_owned(), seconds)) },
        ]);
        plots.push(drawing(svg_for_page(&node.name, "epoch", &curve.panels())));
    }
    let heads = head(&["Training", "Epochs", "Best Dice (%), validation", "Lowest loss, validation", "Time"]);
    let body: Markup = html! {
        (table("cases", &heads, &rows))
        (note(&html! { "Mean Dice in red; the thin lines are the single organs and tumors, named under the pointer." }))
        @for plot in plots { (plot) }
    };
    Ok((!rows.is_empty()).then(|| Section { id: "training", title: "Training".into(), body }))
}

/// The curve of the finished training, or of the attempt that goes on.
fn curve_file(seen: &Snapshot<'_>, view: &NodeView) -> Option<PathBuf> {
    let attempt = view.log.as_ref().and_then(|log| Some(log.parent()?.join("output").join(CURVE_FILE)));
    let result = view.record.as_ref().map(|record| seen.store.object(&record.key).join(CURVE_FILE));
    attempt.into_iter().chain(result).find(|path| path.is_file())
}

/// A table of numbers by column.
struct Curve {
    columns: Vec<(String, Vec<f64>)>,
}

impl Curve {
    fn read(path: &Path) -> Result<Self, TableError> {
        let mut table = Table::open(path)?;
        let mut columns: Vec<(String, Vec<f64>)> = table.names().iter().map(|name| (name.clone(), Vec::new())).collect();
        for row in table.rows() {
            let row = row?;
            for (place, (_, column)) in columns.iter_mut().enumerate() {
                // What is not known leaves a gap in the plot.
                column.push(row.number(place)?.unwrap_or(f64::NAN));
            }
        }
        Ok(Self { columns })
    }

    fn column(&self, name: &str) -> Option<&[f64]> {
        Some(&self.columns.iter().find(|(other, _)| other == name)?.1)
    }

    fn epochs(&self) -> usize {
        self.columns.first().map_or(0, |(_, column)| column.len())
    }

    /// The epoch and the value at which `of` two values always chooses the column's.
    fn extreme(&self, name: &str, of: fn(f64, f64) -> f64) -> Option<(f64, f64)> {
        let values = self.column("epoch")?.iter().zip(self.column(name)?).filter(|(_, value)| value.is_finite());
        values.map(|(&epoch, &value)| (epoch, value)).reduce(|best, next| if of(best.1, next.1) == best.1 { best } else { next })
    }

    fn series(&self, name: &str, column: &str, look: Look) -> Option<Series> {
        let step = self.epochs().div_ceil(MOST_POINTS).max(1);
        let last = self.epochs() - 1;
        let points = self.column("epoch")?.iter().copied().zip(self.column(column)?.iter().copied());
        let points = points.enumerate().filter(|(at, _)| at % step == 0 || *at == last).map(|(_, point)| point).collect();
        Some(Series { name: name.to_owned(), look, points })
    }

    fn panels(&self) -> [Panel; 2] {
        let loss = [("training", "training_loss", Look::First), ("validation", "validation_loss", Look::Second)];
        let loss = loss.into_iter().filter_map(|(name, column, look)| self.series(name, column, look)).collect();
        let details = self.columns.iter().filter_map(|(column, _)| {
            let name = column.strip_prefix("dice_")?.replace('_', " ");
            self.series(&name, column, Look::Thin)
        });
        let dice = details.chain(self.series("validation", "validation_dice", Look::Second)).collect();
        [Panel { y_label: "loss".into(), series: loss }, Panel { y_label: "Dice".into(), series: dice }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(n_epochs: usize) -> Curve {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(CURVE_FILE);
        let mut text = "epoch,training_loss,validation_loss,validation_dice,dice_liver\n".to_owned();
        for epoch in 1..=n_epochs {
            text += &format!("{epoch},1,{},{},NaN\n", 2.0 - 0.1 * (epoch % 7) as f64, 0.1 * (epoch % 5) as f64);
        }
        std::fs::write(&path, text).unwrap();
        Curve::read(&path).unwrap()
    }

    #[test]
    fn the_best_epoch_is_the_first_of_equals() {
        let curve = curve(20);
        assert_eq!(curve.extreme("validation_dice", f64::max), Some((4.0, 0.4)));
        assert_eq!(curve.extreme("validation_loss", f64::min), Some((6.0, 1.4)));
        assert_eq!(curve.extreme("dice_liver", f64::max), None, "an organ that was nowhere has no best epoch");
    }

    #[test]
    fn a_long_training_is_thinned_and_keeps_its_end() {
        let series = curve(5000).series("x", "training_loss", Look::First).unwrap();
        assert!(series.points.len() <= MOST_POINTS + 1);
        assert_eq!(series.points.last(), Some(&(5000.0, 1.0)));
    }
}
