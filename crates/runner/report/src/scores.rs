//! The scores in the layout of the paper's Tables 4 to 7.

use anyhow::Result;
use maud::{Markup, html};
use metrics::table::{Cells, Table};
use metrics::{ScoredGroup, Summary};
use pipeline::{NodeState, Snapshot, Source};

use crate::cases::{self, Case, ends};
use crate::efficiency;
use crate::html::{Section, badge, fold, head, note, table};
use crate::models::{Scored, variants};

pub(crate) fn section(seen: &Snapshot<'_>, models: &[Scored]) -> Result<Section> {
    let tables = match final_model(models) {
        Some(last) => vec![table_4(last)?, table_5(models)?, table_6(seen, last)?, efficiency::table_7(seen, last)?],
        None => Vec::new(),
    };
    let several = models.iter().filter(|scored| scored.official.len() > 1).map(|several| {
        let title = html! { "All models of " code { (several.node) } };
        Ok(titled(&title, several.state, &both(several, |_| true)?))
    });
    let several = several.collect::<Result<Vec<Markup>>>()?;
    let body = html! {
        @if models.is_empty() {
            p.note { "No node " code { "evaluate" } " has a result yet." }
        } @else {
            p.note {
                "Mean ± standard deviation over cases, by the challenge's rules (" em { "official" } "); the same by plain rules is folded below \
                 each table. The best of a row is bold."
            }
        }
        @if !tables.is_empty() {
            div.tables { @for table in tables { div { (table) } } }
        }
        @for table in several { (table) }
    };
    Ok(Section { id: "scores", title: "Scores".into(), body })
}

/// Where the final model is scored: the node that scores a single one, or else the last.
pub(crate) fn final_model(models: &[Scored]) -> Option<&Scored> {
    models.iter().rfind(|scored| scored.official.len() == 1).or(models.last())
}

fn table_4(scored: &Scored) -> Result<Markup> {
    let Some(summary) = scored.official.last() else { return Ok(Markup::default()) };
    let last = scored.official.len() - 1;
    let title = html! { "Table 4. The final model, " (summary.model) " " small { (scored.node) } };
    let cases = cases::read(&scored.folder.join("cases").join(format!("{}.plain.csv", summary.model)), summary)?;
    let groups: Vec<&ScoredGroup> = summary.groups.iter().map(|group| &group.group).collect();
    Ok(titled(&title, scored.state, &html! { (both(scored, |index| index == last)?) (spread(&cases, &groups)) }))
}

fn table_5(models: &[Scored]) -> Result<Markup> {
    let teachers = |scored: &&Scored| scored.origins.iter().filter(|origin| !origin.student).count();
    // The first of those that score the most teachers.
    let Some(scored) = models.iter().rev().max_by_key(teachers).filter(|scored| teachers(scored) > 0) else {
        return Ok(Markup::default());
    };
    let body = both(scored, |index| !scored.origins[index].student)?;
    Ok(titled(&html! { "Table 5. 3-D teachers " small { (scored.node) } }, scored.state, &body))
}

fn table_6(seen: &Snapshot<'_>, last: &Scored) -> Result<Markup> {
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
    let columns: Vec<Summary> = columns.into_iter().map(|column| column.1).collect();
    let body = html! {
        // A single column would repeat Table 4.
        @if columns.len() > 1 { (layout(&columns)?) }
        @for side in missing {
            (note(&html! { "No pipeline of this store has a result " em { (side) } " of the node " code { (last.node) } "." }))
        }
    };
    Ok(titled(&html! { "Table 6. With and without unlabelled data" }, last.state, &body))
}

pub(crate) fn titled(title: &Markup, state: NodeState, body: &Markup) -> Markup {
    html! {
        h3 { (title) @if state != NodeState::Fresh { " " (badge(state.word())) } }
        (body)
    }
}

/// The official table, and the plain one folded.
fn both(scored: &Scored, wanted: impl Fn(usize) -> bool) -> Result<Markup> {
    let chosen = |all: &[Summary]| -> Vec<Summary> {
        all.iter().enumerate().filter(|(index, _)| wanted(*index)).map(|(_, summary)| summary.clone()).collect()
    };
    let plain = layout(&chosen(&scored.plain))?;
    Ok(html! { (layout(&chosen(&scored.official))?) (fold(&html! { "by plain rules" }, &plain)) })
}

/// Two columns per model, a row per target.
fn layout(summaries: &[Summary]) -> Result<Markup> {
    let table_of = Table::of(summaries)?;
    let heads = html! {
        tr {
            th rowspan="2" { "Target" }
            @for model in &table_of.models { th colspan="2" { (model.name) small { (model.cases) " cases" } } }
        }
        tr { @for _ in &table_of.models { th { "DSC (%)" } th { "NSD (%)" } } }
    };
    let mut notes = Vec::new();
    let rows = table_of.rows.iter().map(|row| {
        for (model, cells) in table_of.models.iter().zip(&row.cells).filter(|(model, cells)| cells.dsc.n < model.cases) {
            notes.push(format!("{}, {}: defined in {} of {} cases.", row.target, model.name, cells.dsc.n, model.cases));
        }
        let best =
            |score: fn(&Cells) -> Option<f64>| row.cells.iter().filter_map(score).max_by(f64::total_cmp).filter(|_| row.cells.len() > 1);
        let (dsc, nsd) = (best(|cells| cells.dsc.mean), best(|cells| cells.nsd.mean));
        let cells = row.cells.iter().flat_map(|cells| {
            let bold = [cells.dsc.mean.is_some() && cells.dsc.mean == dsc, cells.nsd.mean.is_some() && cells.nsd.mean == nsd];
            [cell(&cells.dsc.percent(), bold[0]), cell(&cells.nsd.percent(), bold[1])]
        });
        std::iter::once(html! { (row.target) }).chain(cells).collect()
    });
    let rows: Vec<Vec<Markup>> = rows.collect();
    let class = if summaries.len() > 2 { "scores dense" } else { "scores" };
    Ok(html! {
        (table(class, &heads, &rows))
        @if !notes.is_empty() { (note(&html! { (notes.join(" ")) })) }
    })
}

/// A mean, with its deviation in small.
fn cell(text: &str, bold: bool) -> Markup {
    let text = match text.split_once(" ± ") {
        Some((mean, deviation)) => html! { (mean) " " small { "± " (deviation) } },
        None => html! { (text) },
    };
    if bold {
        html! { b { (text) } }
    } else {
        text
    }
}

/// How many cases a table shows; of more the best and the worst.
const SHOWN_CASES: usize = 12;

/// The cases one by one, or the ends and the quartiles of many.
fn spread(cases: &[Case], groups: &[&ScoredGroup]) -> Markup {
    let percent = |share: Option<f64>| share.map_or_else(|| "–".to_owned(), |share| format!("{:.1}", 100.0 * share));
    let row = |case: &Case| std::iter::once(case.name.clone()).chain(case.groups.iter().map(|dsc| percent(*dsc))).collect();
    let (shown, left) = ends(cases.iter().collect(), SHOWN_CASES);
    let shown: Vec<Vec<String>> = shown.into_iter().map(row).collect();
    let of_group = |group: &&ScoredGroup| format!("{}, {}DSC (%)", group.title(), if group.classes > 1 { "mean " } else { "" });
    let heads: Vec<String> = std::iter::once("Case".to_owned()).chain(groups.iter().map(of_group)).collect();
    let ranks: Vec<f64> = cases.iter().filter_map(Case::rank).collect();
    // Cases stand in falling order.
    let quartile = |part: usize| percent(ranks.get((ranks.len().saturating_sub(1)) * (4 - part) / 4).copied());
    let body = html! {
        (table("cases", &head(&heads), &shown))
        @if let (1.., Some(lowest)) = (left, groups.first()) {
            (note(&html! {
                "The best and the worst of " (cases.len()) " cases. " (lowest.title()) ": lowest " (quartile(0)) ", quartiles " (quartile(1)) ", "
                (quartile(2)) " and " (quartile(3)) ", highest " (quartile(4)) "."
            }))
        }
    };
    fold(&html! { "cases, by plain rules" }, &body)
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
        let page = spread(&cases, &groups).into_string();
        assert_eq!(page.matches("<tr>").count(), 1 + SHOWN_CASES);
        assert!(page.contains(">Organs, mean DSC (%)<") && page.contains(">Tumor, DSC (%)<"), "{page}");
        assert!(page.contains("of 4001 cases. Organs: lowest 0.0, quartiles 25.0, 50.0 and 75.0, highest 100.0."), "{page}");
        assert_eq!(spread(&cases[..3], &groups).into_string().matches("<tr>").count(), 1 + 3);
    }
}
