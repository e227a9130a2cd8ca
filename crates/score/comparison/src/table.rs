//! The comparison as a table: cells for people, and numbers for programs.

use tables::to_csv;

use crate::{Compared, Comparison, Cost, Reached};

const DASH: &str = "–";

impl Comparison {
    /// The heads of the columns.
    #[must_use]
    pub fn heads(&self) -> Vec<String> {
        let mut heads = vec!["method".to_owned()];
        for group in &self.groups {
            heads.push(format!("{}: DSC (%)", group.words()));
            heads.push("over trainings".into());
            heads.push(format!("against {}", self.reference));
        }
        heads.extend(["parameters", "training (s)", "its peak (MiB)", "a patch (s)", "its peak (MiB)"].map(String::from));
        heads
    }

    /// The cells of a method's row, in the order of the heads.
    #[must_use]
    pub fn cells(&self, method: &Compared) -> Vec<String> {
        let Compared { name, trainings, reached, cost } = method;
        let mut cells = vec![name.clone()];
        for reached in self.groups.iter().map(|group| reached.get(&group.key)) {
            let Some(reached) = reached else {
                cells.extend([DASH; 3].map(String::from));
                continue;
            };
            let spread = reached.trainings.sd.map_or(DASH.to_owned(), |sd| format!("± {:.2}, n {trainings}", 100.0 * sd));
            cells.extend([reached.patients.percent(), spread, difference(reached)]);
        }
        let shown = |value: Option<f64>, digits: usize| value.map_or(DASH.to_owned(), |value| format!("{value:.digits$}"));
        let Cost { parameters, training_seconds, training_mib, patch_seconds, patch_mib } = cost;
        cells.push(parameters.map_or(DASH.to_owned(), |n| n.to_string()));
        cells.extend([shown(*training_seconds, 0), shown(*training_mib, 0), shown(*patch_seconds, 3), shown(*patch_mib, 0)]);
        cells
    }

    /// What the table says, in a paragraph.
    #[must_use]
    pub fn note(&self) -> String {
        format!(
            "Mean ± standard deviation over {} patients, {} protocol; a patient's score is the mean of those by all trainings of a method. \
             Over trainings: the standard deviation of the mean of each. Differences are over the patients that both methods have a \
             score for, with the p of Wilcoxon's signed-rank test (two-sided). Training: once, with all stages of the method, and the \
             most memory of any. A patch: one pass for all classes over a patch of the training's size, the median of {} passes.",
            self.patients, self.protocol, self.repeats
        )
    }

    /// The table in Markdown, with its note.
    #[must_use]
    pub fn markdown(&self) -> String {
        let heads = self.heads();
        let mut text = format!("| {} |\n|---|{}\n", heads.join(" | "), "---:|".repeat(heads.len() - 1));
        for method in &self.methods {
            let cells: Vec<String> = self.cells(method).iter().map(|cell| cell.replace('|', "\\|")).collect();
            text += &format!("| {} |\n", cells.join(" | "));
        }
        text + "\n" + &self.note() + "\n"
    }

    /// The numbers as CSV; what is not known is empty.
    #[must_use]
    pub fn csv(&self) -> String {
        let of_group = ["dsc", "dsc_sd", "patients", "trainings_sd", "difference", "difference_sd", "pairs", "p"];
        let mut heads = vec!["method".to_owned(), "trainings".to_owned()];
        heads.extend(self.groups.iter().flat_map(|group| of_group.map(|column| format!("{}_{column}", group.heading))));
        heads.extend(["parameters", "training_seconds", "training_mib", "patch_seconds", "patch_mib"].map(str::to_owned));
        let row = |Compared { name, trainings, reached, cost }: &Compared| {
            let mut row = vec![name.clone(), trainings.to_string()];
            for reached in self.groups.iter().map(|group| reached.get(&group.key)) {
                let Some(Reached { patients, trainings, paired }) = reached else {
                    row.extend(of_group.map(|_| String::new()));
                    continue;
                };
                let difference = paired.map(|paired| paired.difference);
                row.extend([number(patients.mean), number(patients.sd), patients.n.to_string(), number(trainings.sd)]);
                row.extend([number(difference.and_then(|stat| stat.mean)), number(difference.and_then(|stat| stat.sd))]);
                row.push(difference.map_or(String::new(), |stat| stat.n.to_string()));
                row.push(number(paired.and_then(|paired| paired.p)));
            }
            let Cost { parameters, training_seconds, training_mib, patch_seconds, patch_mib } = *cost;
            row.push(parameters.map_or(String::new(), |n| n.to_string()));
            row.extend([training_seconds, training_mib, patch_seconds, patch_mib].map(number));
            row
        };
        to_csv(std::iter::once(heads).chain(self.methods.iter().map(row)))
    }
}

/// `+1.20 ± 0.80 (p 0.031)`.
fn difference(reached: &Reached) -> String {
    let Some(paired) = reached.paired else { return DASH.to_owned() };
    let sign = if paired.difference.mean.is_some_and(|mean| mean > 0.0) { "+" } else { "" };
    let p = paired.p.map_or(String::new(), |p| format!(" (p {p:.3})"));
    format!("{sign}{}{p}", paired.difference.percent())
}

fn number(value: Option<f64>) -> String {
    tables::number(value, 6)
}

#[cfg(test)]
mod tests {
    use metrics::ScoredGroup;

    use super::*;
    use crate::tests::two_methods;

    #[test]
    fn every_row_has_a_cell_for_each_head_and_what_is_not_known_is_a_dash() {
        let comparison = two_methods();
        for method in &comparison.methods {
            assert_eq!(comparison.cells(method).len(), comparison.heads().len());
        }
        assert_eq!(comparison.heads()[..4], ["method", "organs: DSC (%)", "over trainings", "against A"]);
        assert_eq!(comparison.heads()[4], "tumor: DSC (%)");
        let a = comparison.cells(&comparison.methods[0]);
        assert_eq!(a, ["A", "80.00 ± 10.00", "± 14.14, n 2", "–", "–", "–", "–", "12345", "61", "–", "0.046", "–"]);
        let b = comparison.cells(&comparison.methods[1]);
        assert_eq!(b[..4], ["B,|", "60.00 ± 10.00", "–", "-20.00 ± 10.00 (p 0.250)"]);
        assert!(comparison.markdown().contains("\n| B,\\| | 60.00"));
    }

    #[test]
    fn every_group_has_columns_of_its_own_whatever_the_classes_are() {
        let mut comparison = two_methods();
        comparison.groups.insert(1, ScoredGroup { key: "great_vessel".into(), heading: "great_vessels".into(), classes: 2 });
        assert_eq!(comparison.heads()[4], "great vessels: DSC (%)");
        assert_eq!(comparison.cells(&comparison.methods[0])[4..7], [DASH; 3], "nobody scored them");
        let csv = comparison.csv();
        let columns: Vec<usize> = csv.lines().map(|line| line.replace("B,|", "B").split(',').count()).collect();
        assert!(csv.contains(",great_vessels_dsc,") && columns.iter().all(|found| *found == columns[0]), "{csv}");
        let organs = comparison.methods[0].reached["organ"];
        comparison.methods[0].reached.insert("great_vessel".into(), organs);
        assert!(comparison.svg().contains(">great vessels<") && comparison.svg().matches("<circle").count() == 6);
        comparison.groups.truncate(1);
        assert!(!comparison.csv().contains("tumor") && !comparison.svg().contains("tumor"));
    }

    #[test]
    fn numbers_stand_below_their_names() {
        let csv = two_methods().csv();
        let lines: Vec<&str> = csv.lines().collect();
        let columns = lines[0].split(',').count();
        assert!(
            lines[0].starts_with("method,trainings,organs_dsc,organs_dsc_sd,organs_patients,") && lines[0].contains(",tumor_p,parameters,")
        );
        assert_eq!(lines[1].split(',').count(), columns);
        assert!(lines[2].starts_with("\"B,|\",1,0.600000,0.100000,3,,-0.200000,0.100000,3,0.250000,"), "{csv}");
        assert!(lines[1].ends_with(",12345,61.200000,,0.045600,"), "{csv}");
    }
}
