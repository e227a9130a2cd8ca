//! What the stages left out of their results.

use maud::{Markup, html};
use pipeline::Snapshot;
use stage_kit::LeftOut;

use crate::html::{Section, note};

/// So many findings of a node are shown; their list has all.
const MOST: usize = 100;

pub(crate) fn section(seen: &Snapshot<'_>) -> Option<Section> {
    let of_nodes: Vec<Markup> = (0..seen.nodes.len()).filter_map(|index| of_node(seen, index)).collect();
    let body = html! { @for node in &of_nodes { (node) } };
    (!of_nodes.is_empty()).then(|| Section { id: "left-out", title: "Left out".into(), body })
}

fn of_node(seen: &Snapshot<'_>, index: usize) -> Option<Markup> {
    let object = seen.store.object(&seen.nodes[index].record.as_ref()?.key);
    let left_out = stage_kit::read_left_out(&object);
    let list = object.join(stage_kit::ABOUT).join(stage_kit::LEFT_OUT_FILE);
    let heads = ["case", "file", "found", "expected", "what to do"];
    (!left_out.is_empty()).then(|| {
        html! {
            h3 { a href={ "#node-" (index) } { (seen.pipeline.nodes[index].name) } }
            table {
                tr { @for head in heads { th { (head) } } }
                @for LeftOut { case, file, found, expected, remedy } in left_out.iter().take(MOST) {
                    tr { td { (case) } td { (file.display()) } td { (found) } td { (expected) } td { (remedy) } }
                }
            }
            @if left_out.len() > MOST {
                (note(&html! { (left_out.len() - MOST) " more stand in " code { (list.display()) } }))
            }
        }
    })
}
