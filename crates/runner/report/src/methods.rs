//! Methods side by side: what every node `compare` has found.

use anyhow::{Context, Result};
use comparison::Comparison;
use pipeline::Snapshot;

use crate::html::{Section, escaped, head, table};
use crate::models::readable;
use crate::scores::titled;

const STAGE: &str = "compare";

pub(crate) fn section(seen: &Snapshot<'_>) -> Result<Option<Section>> {
    let mut body = String::new();
    for (node, view) in seen.pipeline.nodes.iter().zip(&seen.nodes) {
        let (STAGE, Some(record)) = (node.stage.name, readable(&node.stage, view.record.as_ref())) else { continue };
        let path = seen.store.object(&record.key).join(comparison::FILE);
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read the comparison {}", path.display()))?;
        let found: Comparison = serde_json::from_str(&text)
            .with_context(|| format!("{} holds no comparison; run its node again with --force", path.display()))?;
        body += &titled(&format!("<code>{}</code>", escaped(&node.name)), view.state, &shown(&found));
    }
    Ok((!body.is_empty()).then(|| Section { id: "methods", title: "Methods side by side".into(), body }))
}

fn shown(found: &Comparison) -> String {
    let heads = found.heads();
    let heads: Vec<&str> = heads.iter().map(String::as_str).collect();
    let row = |method| found.cells(method).iter().map(|cell| escaped(cell)).collect();
    let rows: Vec<Vec<String>> = found.methods.iter().map(row).collect();
    format!(
        "{}<p class=\"note\">{}</p>\n<div class=\"wide drawing\">{}</div>\n",
        table("scores dense", &head(&heads), &rows),
        escaped(&found.note()),
        found.svg_for_page()
    )
}
