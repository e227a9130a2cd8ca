//! The paper's Table 7: what a case costs.

use std::collections::BTreeMap;
use std::path::Path;

use ::efficiency::Figures;
use anyhow::{Context, Result};
use maud::{Markup, html};
use pipeline::{NodeState, Snapshot, Source};
use volume::nifti;

use crate::html::{head, note, table};
use crate::models::Scored;
use crate::scores::{input, titled};

/// As many cases as the paper's table has.
const SHOWN_CASES: usize = 8;
/// How many headers are read to choose them; a header is a few hundred bytes.
const READ_CASES: usize = 200;

/// What the cases cost as far as it was measured; or else the sizes of some, and how long the pipeline took for them.
pub(crate) fn table_7(seen: &Snapshot<'_>, scored: &Scored) -> Result<Markup> {
    let measured = measured(seen)?;
    if !measured.is_empty() {
        return Ok(html! { @for (node, state, figures) in &measured { (shown(node, *state, figures)) } });
    }
    let not_measured = || html! { span.soft { "not measured" } };
    let times = Times::of(seen, scored);
    let sizes = match input(seen, &scored.node, "images").filter(|folder| folder.is_dir()) {
        Some(folder) => sizes(&folder)?,
        None => Vec::new(),
    };
    let row = |(case, [x, y, z]): &(String, [usize; 3])| {
        let time = times.of_case(seen, case).map_or_else(not_measured, |seconds| html! { (format!("{seconds:.2}")) });
        vec![html! { (case) }, html! { (format!("({x}, {y}, {z})")) }, time, not_measured(), not_measured()]
    };
    let rows: Vec<Vec<Markup>> = sizes.iter().map(row).collect();
    Ok(html! {
        h3 { "Table 7. Efficiency" }
        (table("cases", &head(&["Case ID", "Image size", "Running time (s)", "Max GPU (MB)", "Total GPU (MB)"]), &rows))
        (note(&html! { (times.note()) }))
    })
}

const STAGE: &str = "measure";

/// The figures of every node that has measured something.
fn measured(seen: &Snapshot<'_>) -> Result<Vec<(String, NodeState, Figures)>> {
    let mut all = Vec::new();
    for (node, view) in seen.pipeline.nodes.iter().zip(&seen.nodes) {
        let (STAGE, Some(record)) = (node.stage.name, &view.record) else { continue };
        let path = seen.store.object(&record.key).join(::efficiency::FILE);
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read the figures {}", path.display()))?;
        let figures =
            serde_json::from_str(&text).with_context(|| format!("{} holds no figures; run its node again with --force", path.display()))?;
        all.push((node.name.clone(), view.state, figures));
    }
    Ok(all)
}

/// Some of the measured cases, from few slices to many.
fn shown(node: &str, state: NodeState, figures: &Figures) -> Markup {
    let rows: Vec<Vec<String>> = spread(figures.cases.len()).map(|index| figures.row(&figures.cases[index])).collect();
    let about = format!(
        "{} of {} cases, one at a time by {}; {}; {}. Total is the area under the curve of memory over time in MB·s.",
        rows.len(),
        figures.cases.len(),
        figures.measured,
        figures.machine,
        figures.gpu
    );
    let body = html! { (table("cases", &head(&figures.heads()), &rows)) (note(&html! { (about) })) };
    titled(&html! { "Table 7. Efficiency " small { (node) } }, state, &body)
}

/// As many places as the table has rows, evenly over the first and the last of `n` and those between.
fn spread(n: usize) -> impl Iterator<Item = usize> {
    let shown = n.min(SHOWN_CASES);
    (0..shown).map(move |index| if shown > 1 { index * (n - 1) / (shown - 1) } else { 0 })
}

/// The nodes between a model and its scores, each with the keys of its cases.
struct Times {
    nodes: Vec<(String, BTreeMap<String, String>)>,
}

impl Times {
    fn of(seen: &Snapshot<'_>, scored: &Scored) -> Self {
        let mut nodes = Vec::new();
        let node = seen.pipeline.find(&scored.node).map(|index| &seen.pipeline.nodes[index]);
        let mut next = node.zip(scored.official.last()).and_then(|(node, model)| node.inputs.get(&format!("predictions.{}", model.model)));
        while let Some(Source::Node { index, .. }) = next {
            let node = &seen.pipeline.nodes[*index];
            let cases = seen.nodes[*index].record.as_ref().map(|record| seen.store.cases_of(&record.key));
            nodes.push((node.name.clone(), cases.unwrap_or_default()));
            // Backwards along the labels; what reads none is the first stage of inference.
            next = node.inputs.get("labels");
        }
        nodes.reverse();
        Self { nodes }
    }

    /// What all nodes together took for a case; `None` if one of them does not know.
    fn of_case(&self, seen: &Snapshot<'_>, case: &str) -> Option<f64> {
        let of_node = |(_, cases): &(String, BTreeMap<String, String>)| Some(seen.store.cases().record(cases.get(case)?)?.seconds);
        let times: Option<Vec<f64>> = self.nodes.iter().map(of_node).collect();
        times.filter(|times| !times.is_empty()).map(|times| times.iter().sum())
    }

    fn note(&self) -> String {
        let names: Vec<&str> = self.nodes.iter().map(|(name, _)| name.as_str()).collect();
        format!(
            "The running time is that of a case in {}, beside other cases on the same cores. GPU memory is not measured.",
            names.join(", ")
        )
    }
}

/// Name and shape of up to eight cases, spread evenly over the sorted numbers of slices.
fn sizes(folder: &Path) -> Result<Vec<(String, [usize; 3])>> {
    let list = std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut names: Vec<String> = list.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.retain(|name| name.ends_with(".nii.gz"));
    names.sort();
    let mut sizes = Vec::new();
    for name in names.into_iter().take(READ_CASES) {
        let header = nifti::read_header(folder.join(&name)).with_context(|| format!("the scan {name} in {}", folder.display()))?;
        let case = name.trim_end_matches(".nii.gz").trim_end_matches("_0000").to_owned();
        sizes.push((case, header.grid().shape));
    }
    sizes.sort_by_key(|(_, shape)| shape[2]);
    Ok(spread(sizes.len()).map(|index| sizes[index].clone()).collect())
}
