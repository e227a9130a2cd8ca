//! The paper's Table 7: what a case costs.

use std::path::Path;

use anyhow::{Context, Result};
use pipeline::{Snapshot, Source};
use volume::nifti;

use crate::html::{escaped, head, table};
use crate::models::Scored;
use crate::scores::{input, per_case};

/// As many cases as the paper's table has.
const SHOWN_CASES: usize = 8;
/// How many headers are read to choose them; a header is a few hundred bytes.
const READ_CASES: usize = 200;

/// The sizes of some cases, from few slices to many, and what is known of their cost.
pub(crate) fn table_7(seen: &Snapshot<'_>, scored: &Scored) -> Result<String> {
    let not_measured = || "<span class=\"soft\">not measured</span>".to_owned();
    let rows: Vec<Vec<String>> = match input(seen, &scored.node, "images").filter(|folder| folder.is_dir()) {
        Some(folder) => sizes(&folder)?
            .into_iter()
            .map(|(case, [x, y, z])| vec![escaped(&case), format!("({x}, {y}, {z})"), not_measured(), not_measured(), not_measured()])
            .collect(),
        None => Vec::new(),
    };
    let mut body = String::from("<h3>Table 7. Efficiency</h3>\n");
    body.push_str(&table("cases", &head(&["Case ID", "Image size", "Running time (s)", "Max GPU (MB)", "Total GPU (MB)"]), &rows));
    body.push_str(&format!(
        "<p class=\"note\">No stage measures single cases or the memory of a GPU. {}</p>\n",
        escaped(&means(seen, scored).unwrap_or_else(|| "Nor is it known how long the stages took.".to_owned()))
    ));
    Ok(body)
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
    let n = sizes.len();
    let shown = n.min(SHOWN_CASES);
    let at: Vec<usize> = (0..shown).map(|index| if shown > 1 { index * (n - 1) / (shown - 1) } else { 0 }).collect();
    Ok(at.into_iter().map(|index| sizes[index].clone()).collect())
}

/// The mean time of a case in each stage between the model and its scores.
fn means(seen: &Snapshot<'_>, scored: &Scored) -> Option<String> {
    let model = scored.official.last()?;
    let node = &seen.pipeline.nodes[seen.pipeline.find(&scored.node)?];
    let mut parts = Vec::new();
    let mut next = node.inputs.get(&format!("predictions.{}", model.model));
    while let Some(Source::Node { index, .. }) = next {
        let node = &seen.pipeline.nodes[*index];
        let record = seen.nodes[*index].record.as_ref()?;
        parts.push(format!("{} {}", node.name, per_case(record.seconds, model.cases)?));
        // Backwards along the labels; what reads none is the first stage of inference.
        next = node.inputs.get("labels");
    }
    parts.reverse();
    (!parts.is_empty()).then(|| format!("Mean time of a case, on all cores: {}.", parts.join(", ")))
}
