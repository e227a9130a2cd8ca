//! What the stages left out of their results.

use std::fmt::Write as _;

use pipeline::Snapshot;
use stage_kit::LeftOut;

use crate::html::{Section, escaped};

/// So many findings of a node are shown; their list has all.
const MOST: usize = 100;

pub(crate) fn section(seen: &Snapshot<'_>) -> Option<Section> {
    let mut body = String::new();
    for (index, (node, view)) in seen.pipeline.nodes.iter().zip(&seen.nodes).enumerate() {
        let Some(record) = &view.record else { continue };
        let object = seen.store.object(&record.key);
        let left_out = stage_kit::read_left_out(&object);
        if left_out.is_empty() {
            continue;
        }
        let _ = writeln!(body, "<h3><a href=\"#node-{index}\">{}</a></h3>", escaped(&node.name));
        body.push_str("<table>\n<tr><th>case</th><th>file</th><th>found</th><th>expected</th><th>what to do</th></tr>\n");
        for LeftOut { case, file, found, expected, remedy } in left_out.iter().take(MOST) {
            let cells = [case, &file.display().to_string(), found, expected, remedy].map(|cell| format!("<td>{}</td>", escaped(cell)));
            let _ = writeln!(body, "<tr>{}</tr>", cells.concat());
        }
        body.push_str("</table>\n");
        if left_out.len() > MOST {
            let list = object.join(stage_kit::ABOUT).join(stage_kit::LEFT_OUT_FILE);
            let _ = writeln!(
                body,
                "<p class=\"note\">{} more stand in <code>{}</code></p>",
                left_out.len() - MOST,
                escaped(&list.display().to_string())
            );
        }
    }
    (!body.is_empty()).then(|| Section { id: "left-out", title: "Left out".into(), body })
}
