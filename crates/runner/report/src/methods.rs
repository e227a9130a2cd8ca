//! Methods side by side: what every node `compare` has found.

use anyhow::{Context, Result};
use comparison::Comparison;
use maud::{Markup, html};
use pipeline::Snapshot;

use crate::html::{Section, drawing, head, note, table};
use crate::models::readable;
use crate::scores::titled;

const STAGE: &str = "compare";

pub(crate) fn section(seen: &Snapshot<'_>) -> Result<Option<Section>> {
    let mut comparisons = Vec::new();
    for (node, view) in seen.pipeline.nodes.iter().zip(&seen.nodes) {
        let (STAGE, Some(record)) = (node.stage.name, readable(&node.stage, view.record.as_ref())) else { continue };
        let path = seen.store.object(&record.key).join(comparison::FILE);
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read the comparison {}", path.display()))?;
        let found: Comparison = serde_json::from_str(&text)
            .with_context(|| format!("{} holds no comparison; run its node again with --force", path.display()))?;
        comparisons.push(titled(&html! { code { (node.name) } }, view.state, &shown(&found)));
    }
    let body = html! { @for comparison in &comparisons { (comparison) } };
    Ok((!comparisons.is_empty()).then(|| Section { id: "methods", title: "Methods side by side".into(), body }))
}

fn shown(found: &Comparison) -> Markup {
    let rows: Vec<Vec<String>> = found.methods.iter().map(|method| found.cells(method)).collect();
    html! {
        (table("scores dense", &head(&found.heads()), &rows))
        (note(&html! { (found.note()) }))
        (drawing(found.svg_for_page()))
    }
}
