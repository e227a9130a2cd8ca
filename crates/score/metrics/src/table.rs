//! Tables of scores as text: the paper's layout for several models side by side, and one line per case and class.

use serde::{Deserialize, Serialize};
use tables::{number, to_csv};

use crate::summary::check_alike;
use crate::{CaseScores, MetricsError, Protocol, ScoreStats, Stat, Summary};

/// The paper's Table 4: a row per class, group by group, then the average, two columns per model.
///
/// Rows follow that the paper's tables lack: the average of each group of several classes, such as that of the 13 organs, which
/// its abstract quotes and the challenge ranks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// The rules that all models were scored by.
    pub protocol: Protocol,
    /// The models, one pair of columns each.
    pub models: Vec<Model>,
    /// The rows.
    pub rows: Vec<Row>,
}

/// What stands above a pair of columns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    /// The model's name.
    pub name: String,
    /// On how many cases it was scored.
    pub cases: usize,
}

/// One class, or an average over classes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The class's name.
    pub target: String,
    /// One cell pair per model.
    pub cells: Vec<Cells>,
}

/// The scores of one model in one row, from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Cells {
    /// Dice similarity coefficient.
    pub dsc: Stat,
    /// Normalised surface Dice.
    pub nsd: Stat,
}

impl Table {
    /// Lays the summaries side by side, in the order given.
    ///
    /// # Errors
    /// [`MetricsError::NoCases`] without summaries, [`MetricsError::MixedProtocols`] or [`MetricsError::MixedClasses`] if they cannot
    /// be compared.
    pub fn of(summaries: &[Summary]) -> Result<Self, MetricsError> {
        let first = summaries.first().ok_or(MetricsError::NoCases)?;
        for summary in summaries {
            let what = || format!("model {}", summary.model);
            check_alike(what, (first.protocol, &first.scored()), (summary.protocol, &summary.scored()))?;
        }
        let models = summaries.iter().map(|summary| Model { name: summary.model.clone(), cases: summary.cases });
        let of_class = |(at, name): (usize, &str)| row(name, summaries, |summary| &summary.classes[at].scores);
        let mut rows: Vec<Row> = first.classes.iter().map(|class| class.class.name.as_str()).enumerate().map(of_class).collect();
        rows.push(row("Average", summaries, |summary| &summary.average));
        // A mean over one class, or over all, stands there already.
        for (at, group) in first.groups.iter().enumerate().filter(|(_, group)| (2..first.classes.len()).contains(&group.group.classes)) {
            rows.push(row(&format!("Average of the {}", group.group.counted()), summaries, |summary| &summary.groups[at].scores));
        }
        Ok(Self { protocol: first.protocol, models: models.collect(), rows })
    }

    /// The table as Markdown, in percent as `mean ± sd`, with a note on what was averaged.
    pub fn to_markdown(&self) -> String {
        let mut text = String::from("| Target |");
        for model in &self.models {
            let name = model.name.replace('|', "\\|");
            text += &format!(" {name} DSC(%) | {name} NSD(%) |");
        }
        text += "\n|---|";
        text += &"---:|".repeat(2 * self.models.len());
        for row in &self.rows {
            text += &format!("\n| {} |", row.target.replace('|', "\\|"));
            for cells in &row.cells {
                text += &format!(" {} | {} |", cells.dsc.percent(), cells.nsd.percent());
            }
        }
        text += &format!("\n\n{}", self.note());
        text
    }

    /// Says over how many cases the means are, and which cells rest on fewer.
    fn note(&self) -> String {
        let counts: Vec<String> = self.models.iter().map(|model| format!("{} {}", model.name, model.cases)).collect();
        let mut text = format!("Mean ± standard deviation over cases ({}), {} protocol.\n", counts.join(", "), self.protocol);
        for row in &self.rows {
            for (model, cells) in self.models.iter().zip(&row.cells) {
                let n = cells.dsc.n;
                if n < model.cases {
                    text += &format!("{}, {}: defined in {n} of {} cases.\n", row.target, model.name, model.cases);
                }
            }
        }
        text
    }

    /// The table as CSV with means, standard deviations and counts apart, in percent.
    pub fn to_csv(&self) -> String {
        let columns = ["DSC(%)", "DSC sd", "NSD(%)", "NSD sd", "n"];
        let heads = self.models.iter().flat_map(|model| columns.map(|column| format!("{} {column}", model.name)));
        let row = |row: &Row| {
            let of_model = |Cells { dsc, nsd }: &Cells| {
                [plain_percent(dsc.mean), plain_percent(dsc.sd), plain_percent(nsd.mean), plain_percent(nsd.sd), dsc.n.to_string()]
            };
            std::iter::once(row.target.clone()).chain(row.cells.iter().flat_map(of_model)).collect()
        };
        let heads: Vec<String> = std::iter::once("target".to_owned()).chain(heads).collect();
        to_csv(std::iter::once(heads).chain(self.rows.iter().map(row)))
    }
}

fn row<'a>(target: &str, summaries: &'a [Summary], scores: impl Fn(&'a Summary) -> &'a ScoreStats) -> Row {
    let cells = summaries.iter().map(|summary| Cells { dsc: scores(summary).dsc, nsd: scores(summary).nsd });
    Row { target: target.to_owned(), cells: cells.collect() }
}

/// A line for each model: the mean of each group of classes, and the classes of which it has found nothing in any case.
///
/// # Errors
/// As [`Table::of`].
pub fn short(summaries: &[Summary]) -> Result<String, MetricsError> {
    Table::of(summaries)?;
    let groups: Vec<String> = summaries.iter().take(1).flat_map(|summary| &summary.groups).map(|group| group.group.counted()).collect();
    let mut text = String::from("| Model |");
    groups.iter().for_each(|group| text += &format!(" {0} DSC(%) | {0} NSD(%) |", group.replace('|', "\\|")));
    text += &format!(" never found |\n|---|{}---|", "---:|".repeat(2 * groups.len()));
    for summary in summaries {
        text += &format!("\n| {} |", summary.model.replace('|', "\\|"));
        summary.groups.iter().for_each(|group| text += &format!(" {} | {} |", group.scores.dsc.percent(), group.scores.nsd.percent()));
        let missed = summary.classes.iter().filter(|class| class.scores.dsc.mean == Some(0.0));
        let missed: Vec<String> = missed.map(|class| class.class.name.replace('|', "\\|")).collect();
        text += &format!(" {} |", if missed.is_empty() { "–".to_owned() } else { missed.join(", ") });
    }
    Ok(text + "\n")
}

/// One line per case and class: `case,class,dsc,nsd,hd_mm,hd95_mm,note`; an undefined score is left empty.
pub fn cases_to_csv(cases: &[(String, CaseScores)]) -> String {
    let heads = ["case", "class", "dsc", "nsd", "hd_mm", "hd95_mm", "note"].map(str::to_owned);
    let rows = cases.iter().flat_map(|(case, scores)| {
        let digits = scores.protocol.decimals();
        scores.classes.iter().map(move |class| {
            let note = class.note.map_or("", |note| note.as_str());
            let [dsc, nsd] = [class.dsc, class.nsd].map(|score| number(score, digits));
            let [hd, hd95] = [class.hd_mm, class.hd95_mm].map(|score| number(score, 4));
            [case.clone(), class.class.key.clone(), dsc, nsd, hd, hd95, note.to_owned()]
        })
    });
    to_csv(std::iter::once(heads).chain(rows))
}

fn plain_percent(share: Option<f64>) -> String {
    number(share.map(|share| 100.0 * share), 2)
}
