//! The scores in the layout of the paper's Tables 4 to 7.

use std::fmt::Write as _;

use anyhow::Result;
use metrics::table::{Cells, Table};
use metrics::{ScoredGroup, Summary};
use pipeline::{NodeState, Snapshot, Source};

use crate::cases::{self, Case, ends};
use crate::efficiency;
use crate::html::{Section, badge, escaped, fold, head, table};
use crate::models::{Scored, variants};

pub(crate) fn section(seen: &Snapshot<'_>, models: &[Scored]) -> Result<Section> {
    let mut body = String::new();
    if models.is_empty() {
        body.push_str("<p class=\"note\">No node <code>evaluate</code> has a result yet.</p>\n");
    } else {
        body.push_str(
            "<p class=\"note\">Mean ± standard deviation over cases, by the challenge's rules (<em>official</em>); the same by plain rules \
             is folded below each table. The best of a row is bold.</p>\n",
        );
    }
    if let Some(last) = final_model(models) {
        body.push_str("<div class=\"tables\">\n");
        for table in [table_4(last)?, table_5(models)?, table_6(seen, last)?, efficiency::table_7(seen, last)?] {
            body.push_str(&format!("<div>\n{table}</div>\n"));
        }
        body.push_str("</div>\n");
    }
    for several in models.iter().filter(|scored| scored.official.len() > 1) {
        let title = format!("All models of <code>{}</code>", escaped(&several.node));
        body.push_str(&titled(&title, several.state, &both(several, |_| true)?));
    }
    Ok(Section { id: "scores", title: "Scores".into(), body })
}

/// Where the final model is scored: the node that scores a single one, or else the last.
pub(crate) fn final_model(models: &[Scored]) -> Option<&Scored> {
    models.iter().rfind(|scored| scored.official.len() == 1).or(models.last())
}

fn table_4(scored: &Scored) -> Result<String> {
    let Some(summary) = scored.official.last() else { return Ok(String::new()) };
    let last = scored.official.len() - 1;
    let title = format!("Table 4. The final model, {} <small>{}</small>", escaped(&summary.model), escaped(&scored.node));
    let cases = cases::read(&scored.folder.join("cases").join(format!("{}.plain.csv", summary.model)), summary)?;
    let groups: Vec<&ScoredGroup> = summary.groups.iter().map(|group| &group.group).collect();
    Ok(titled(&title, scored.state, &(both(scored, |index| index == last)? + &spread(&cases, &groups))))
}

fn table_5(models: &[Scored]) -> Result<String> {
    let teachers = |scored: &&Scored| scored.origins.iter().filter(|origin| !origin.student).count();
    // The first of those that score the most teachers.
    let Some(scored) = models.iter().rev().max_by_key(teachers).filter(|scored| teachers(scored) > 0) else { return Ok(String::new()) };
    let body = both(scored, |index| !scored.origins[index].student)?;
    Ok(titled(&format!("Table 5. 3-D teachers <small>{}</small>", escaped(&scored.node)), scored.state, &body))
}

fn table_6(seen: &Snapshot<'_>, last: &Scored) -> Result<String> {
    let with = |unlabeled: bool| if unlabeled { "with unlabelled data" } else { "without unlabelled data" };
    let mut columns: Vec<(bool, Summary)> = Vec::new();
    let mut add = |pipeline: &str, unlabeled: bool, summary: &Summary| {
        let model = format!("{} ({pipeline}, {})", with(unlabeled), summary.model);
        columns.push((unlabeled, Summary { model, ..summary.clone() }));
    };
    if let (Some(summary), Some(origin)) = (last.official.last(), last.origins.last().filter(|origin| origin.student)) {
        add(&seen.pipeline.name, origin.unlabeled, summary);
    }
    for variant in variants(seen, last)?.iter().filter(|variant| variant.origin.student) {
        add(&variant.pipeline, variant.origin.unlabeled, &variant.official);
    }
    columns.sort_by_key(|(unlabeled, _)| *unlabeled);
    let missing: Vec<&str> = [false, true].into_iter().filter(|side| columns.iter().all(|column| column.0 != *side)).map(with).collect();
    // A single column would repeat Table 4.
    let mut body = if columns.len() < 2 { String::new() } else { layout(&columns.into_iter().map(|column| column.1).collect::<Vec<_>>())? };
    for side in missing {
        let _ = writeln!(
            body,
            "<p class=\"note\">No pipeline of this store has a result <em>{side}</em> of the node <code>{}</code>.</p>",
            escaped(&last.node)
        );
    }
    Ok(titled("Table 6. With and without unlabelled data", last.state, &body))
}

pub(crate) fn titled(title: &str, state: NodeState, body: &str) -> String {
    let state = if state == NodeState::Fresh { String::new() } else { format!(" {}", badge(state.word())) };
    format!("<h3>{title}{state}</h3>\n{body}")
}

/// The official table, and the plain one folded.
fn both(scored: &Scored, wanted: impl Fn(usize) -> bool) -> Result<String> {
    let chosen = |all: &[Summary]| -> Vec<Summary> {
        all.iter().enumerate().filter(|(index, _)| wanted(*index)).map(|(_, summary)| summary.clone()).collect()
    };
    Ok(layout(&chosen(&scored.official))? + &fold("by plain rules", &layout(&chosen(&scored.plain))?))
}

/// Two columns per model, a row per target.
fn layout(summaries: &[Summary]) -> Result<String> {
    let table_of = Table::of(summaries)?;
    let mut heads = String::from("<tr><th rowspan=\"2\">Target</th>");
    for model in &table_of.models {
        let _ = write!(heads, "<th colspan=\"2\">{}<small>{} cases</small></th>", escaped(&model.name), model.cases);
    }
    heads.push_str("</tr>\n<tr>");
    heads.push_str(&"<th>DSC (%)</th><th>NSD (%)</th>".repeat(table_of.models.len()));
    heads.push_str("</tr>");
    let mut notes = String::new();
    let rows = table_of.rows.iter().map(|row| {
        for (model, cells) in table_of.models.iter().zip(&row.cells).filter(|(model, cells)| cells.dsc.n < model.cases) {
            let _ = write!(notes, " {}, {}: defined in {} of {} cases.", row.target, model.name, cells.dsc.n, model.cases);
        }
        let best =
            |score: fn(&Cells) -> Option<f64>| row.cells.iter().filter_map(score).max_by(f64::total_cmp).filter(|_| row.cells.len() > 1);
        let (dsc, nsd) = (best(|cells| cells.dsc.mean), best(|cells| cells.nsd.mean));
        let cell = |text: String, bold: bool| {
            let text = text.split_once(" ± ").map_or(text.clone(), |(mean, sd)| format!("{mean} <small>± {sd}</small>"));
            if bold { format!("<b>{text}</b>") } else { text }
        };
        let cells = row.cells.iter().flat_map(|cells| {
            let bold = [cells.dsc.mean.is_some() && cells.dsc.mean == dsc, cells.nsd.mean.is_some() && cells.nsd.mean == nsd];
            [cell(cells.dsc.percent(), bold[0]), cell(cells.nsd.percent(), bold[1])]
        });
        std::iter::once(escaped(&row.target)).chain(cells).collect()
    });
    let rows: Vec<Vec<String>> = rows.collect();
    let notes = if notes.is_empty() { notes } else { format!("<p class=\"note\">{}</p>\n", escaped(notes.trim())) };
    let class = if summaries.len() > 2 { "scores dense" } else { "scores" };
    Ok(table(class, &heads, &rows) + &notes)
}

/// How many cases a table shows; of more the best and the worst.
const SHOWN_CASES: usize = 12;

/// The cases one by one, or the ends and the quartiles of many.
fn spread(cases: &[Case], groups: &[&ScoredGroup]) -> String {
    let percent = |share: Option<f64>| share.map_or_else(|| "–".to_owned(), |share| format!("{:.1}", 100.0 * share));
    let row = |case: &Case| std::iter::once(escaped(&case.name)).chain(case.groups.iter().map(|dsc| percent(*dsc))).collect();
    let (shown, left) = ends(cases.iter().collect(), SHOWN_CASES);
    let shown: Vec<Vec<String>> = shown.into_iter().map(row).collect();
    let of_group = |group: &&ScoredGroup| format!("{}, {}DSC (%)", group.title(), if group.classes > 1 { "mean " } else { "" });
    let heads: Vec<String> = std::iter::once("Case".to_owned()).chain(groups.iter().map(of_group)).collect();
    let mut body = table("cases", &head(&heads.iter().map(String::as_str).collect::<Vec<_>>()), &shown);
    if let (1.., Some(lowest)) = (left, groups.first()) {
        let ranks: Vec<f64> = cases.iter().filter_map(Case::rank).collect();
        // Cases stand in falling order.
        let quartile = |part: usize| percent(ranks.get((ranks.len().saturating_sub(1)) * (4 - part) / 4).copied());
        let _ = writeln!(
            body,
            "<p class=\"note\">The best and the worst of {} cases. {}: lowest {}, quartiles {}, {} and {}, highest {}.</p>",
            cases.len(),
            escaped(&lowest.title()),
            quartile(0),
            quartile(1),
            quartile(2),
            quartile(3),
            quartile(4)
        );
    }
    fold("cases, by plain rules", &body)
}

/// Where an input of a node lies, if it is known.
pub(crate) fn input(seen: &Snapshot<'_>, node: &str, role: &str) -> Option<std::path::PathBuf> {
    match seen.pipeline.nodes[seen.pipeline.find(node)?].inputs.get(role)? {
        Source::Data { path, .. } => Some(path.clone()),
        Source::Node { index, sub } => Some(seen.store.object(&seen.nodes[*index].record.as_ref()?.key).join(sub)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::tests::summary;

    #[test]
    fn thousands_of_cases_make_a_table_of_twelve() {
        let cases: Vec<Case> = (0..=4000)
            .map(|index| Case { name: format!("case_{index}"), groups: vec![Some(1.0 - f64::from(index) / 4000.0), None] })
            .collect();
        let flare = summary(&[("liver", "organ"), ("aorta", "organ"), ("tumor", "cancer")]);
        let groups: Vec<&ScoredGroup> = flare.groups.iter().map(|group| &group.group).collect();
        let page = spread(&cases, &groups);
        assert_eq!(page.matches("<tr>").count(), 1 + SHOWN_CASES);
        assert!(page.contains(">Organs, mean DSC (%)<") && page.contains(">Tumor, DSC (%)<"), "{page}");
        assert!(page.contains("of 4001 cases. Organs: lowest 0.0, quartiles 25.0, 50.0 and 75.0, highest 100.0."), "{page}");
        assert_eq!(spread(&cases[..3], &groups).matches("<tr>").count(), 1 + 3);
    }
}
