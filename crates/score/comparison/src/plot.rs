//! What methods reach against what they cost.

use plots::{Look, Mark, Scatter};

use crate::{Compared, Comparison, Cost};

/// What a horizontal axis shows, and the value of a method.
type Axis = (&'static str, fn(&Cost) -> Option<f64>);

#[expect(clippy::cast_precision_loss, reason = "models have far fewer than 2^52 parameters")]
const AXES: [Axis; 4] = [
    ("parameters (thousands)", |cost| cost.parameters.map(|n| n as f64 / 1e3)),
    ("training (s)", |cost| cost.training_seconds),
    ("peak of training (MiB)", |cost| cost.training_mib),
    ("a pass over a patch (s)", |cost| cost.patch_seconds),
];

impl Comparison {
    /// DSC of each group of classes against each cost that is known of any method, as a document of its own. Bars are the standard
    /// deviation over trainings.
    #[must_use]
    pub fn svg(&self) -> String {
        let (names, panels) = self.panels();
        plots::scatter(TITLE, &names, &panels)
    }

    /// The same for a page that holds [`plots::STYLE`].
    #[must_use]
    pub fn svg_for_page(&self) -> String {
        let (names, panels) = self.panels();
        plots::scatter_for_page(TITLE, &names, &panels)
    }

    fn panels(&self) -> (Vec<String>, Vec<Scatter>) {
        let names = self.methods.iter().map(|method| method.name.clone()).collect();
        let known = AXES.iter().filter(|(_, value)| self.methods.iter().any(|method| value(&method.cost).is_some()));
        (names, known.map(|axis| self.panel(axis)).collect())
    }

    fn panel(&self, (label, value): &Axis) -> Scatter {
        let marks = |group: &str| {
            let mark = |(name, method): (usize, &Compared)| {
                let reached = method.reached.get(group)?;
                let at = (value(&method.cost)?, 100.0 * reached.patients.mean?);
                Some(Mark { name, at, spread: 100.0 * reached.trainings.sd.unwrap_or(0.0) })
            };
            self.methods.iter().enumerate().filter_map(mark).collect()
        };
        let kinds = self.groups.iter().enumerate().map(|(place, group)| (group.words(), Look::of_kind(place), marks(&group.key))).collect();
        Scatter { x_label: (*label).into(), y_label: "DSC (%)".into(), kinds }
    }
}

const TITLE: &str = "What methods reach, and what they cost";

#[cfg(test)]
mod tests {
    use crate::tests::two_methods;

    #[test]
    fn a_method_stands_in_each_panel_of_a_known_cost() {
        let plot = two_methods().svg();
        // A has three known costs and no tumor; of B nothing is known.
        assert_eq!(plot.matches("<circle").count(), 3);
        assert!(plot.contains(">parameters (thousands)<") && !plot.contains("peak of training"));
        assert!(plot.contains(">1 A · 2 B,|<"));
        assert!(plot.contains(">organs<") && plot.contains(">tumor<"));
    }
}
