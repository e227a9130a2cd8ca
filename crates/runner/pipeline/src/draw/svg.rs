//! The graph as SVG.

use std::fmt::Write as _;

use super::layout::{Graph, Layout, layout};
use super::{From, data_names, edges, title};
use crate::graph::Pipeline;

// All lengths are in SVG user units, which show as pixels.
const HEIGHT: f64 = 38.0;
/// From the top of a layer to the top of the next.
const LAYER: f64 = 68.0;
const MARGIN: f64 = 12.0;
/// Room for a letter of the two font sizes; an upper bound for common fonts.
const LETTER: [f64; 2] = [7.4, 6.2];

/// The looks, for light and dark. A page that holds several drawings has this once, and may set the variables.
pub const STYLE: &str = ".graph{--g-ink:#24292f;--g-soft:#6b7280;--g-box:#f6f7f9;--g-line:#9aa3b0;--g-far:#dde0e5;--g-paper:#fff}
@media (prefers-color-scheme:dark){.graph{--g-ink:#e6e6e3;--g-soft:#9aa0aa;--g-box:#24272c;--g-line:#6d7582;--g-far:#363b43;--g-paper:#17191c}}
.graph text{font:600 12px ui-sans-serif,system-ui,sans-serif;fill:var(--g-ink);text-anchor:middle}
.graph .stage{font-weight:400;font-size:10.5px;fill:var(--g-soft)}
.graph rect{fill:var(--g-box);stroke:var(--g-line)}
.graph .data rect{fill:var(--g-paper);stroke-dasharray:4 3}
.graph .data text{font-weight:400}
.graph path{fill:none;stroke:var(--g-line);stroke-width:1.2}
.graph .far path{stroke:var(--g-far)}
.graph .tip{fill:var(--g-line);stroke:none}
.graph .far .tip{fill:var(--g-far);stroke:none}
";

/// The graph as a document of its own.
#[must_use]
pub fn svg(pipeline: &Pipeline) -> String {
    draw(pipeline, &|_| Mark::default(), &format!("<style>{STYLE}.graph{{background:var(--g-paper)}}</style>\n"))
}

/// The graph for a page that holds [`STYLE`]: each node's box is of the class that `mark` gives it, leads to
/// `#node-INDEX`, and shows the text of `mark` under the pointer.
#[must_use]
pub fn svg_for_page(pipeline: &Pipeline, mark: &dyn Fn(usize) -> (&'static str, String)) -> String {
    let mark = |index| {
        let (class, about) = mark(index);
        Mark { class, about, href: Some(format!("#node-{index}")) }
    };
    draw(pipeline, &mark, "")
}

#[derive(Default)]
struct Mark {
    class: &'static str,
    about: String,
    href: Option<String>,
}

fn draw(pipeline: &Pipeline, mark: &dyn Fn(usize) -> Mark, style: &str) -> String {
    let (data, n_nodes) = (data_names(pipeline), pipeline.nodes.len());
    let labels: Vec<(String, Option<&str>)> = pipeline
        .nodes
        .iter()
        .map(|node| (title(node).0.to_owned(), title(node).1))
        .chain(data.iter().map(|name| (format!("data.{name}"), None)))
        .collect();
    let widths: Vec<f64> = labels.iter().map(|(name, stage)| width(name, *stage)).collect();
    let edges = edges(pipeline);
    let ends: Vec<(usize, usize)> = edges
        .iter()
        .map(|edge| match edge.from {
            From::Node(index) => (index, edge.to),
            From::Data(name) => (n_nodes + data.iter().position(|other| *other == name).unwrap_or(0), edge.to),
        })
        .collect();
    let placed = layout(&Graph { widths: &widths, edges: &ends });
    let (width, height) = size(&placed);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"graph\" role=\"img\" aria-label=\"graph of {}\" viewBox=\"0 0 {width:.0} {height:.0}\" \
         width=\"{width:.0}\" height=\"{height:.0}\">\n{style}",
        escaped(&pipeline.name)
    );
    let mut arrows: Vec<(bool, String)> = Vec::new();
    for ((path, edge), &(from, to)) in placed.paths.iter().zip(&edges).zip(&ends) {
        let top = placed.boxes[to].1 + 1 - path.len();
        let plain = !has_detour(&ends, from, to);
        let class = if plain { "" } else { " class=\"far\"" };
        arrows.push((plain, format!("<g{class}><title>{}</title>{}</g>\n", escaped(&edge.roles.join(", ")), arrow(path, top))));
    }
    // The quieter ones lie below.
    arrows.sort_by_key(|(plain, _)| *plain);
    arrows.iter().for_each(|(_, arrow)| out.push_str(arrow));
    for (index, ((name, stage), &(x, layer))) in labels.iter().zip(&placed.boxes).enumerate() {
        let mark = if index < n_nodes { mark(index) } else { Mark { class: "data", ..Mark::default() } };
        out.push_str(&node_box(name, *stage, (x, layer), widths[index], &mark));
    }
    out.push_str("</svg>\n");
    out
}

/// Whether there is a longer way from one box to the other: such an arrow tells nothing new of the order of the work, and
/// is drawn more quietly.
fn has_detour(ends: &[(usize, usize)], from: usize, to: usize) -> bool {
    let mut reached: Vec<usize> = ends.iter().filter(|&&(a, b)| a == from && b != to).map(|&(_, b)| b).collect();
    let mut next = 0;
    while let Some(&at) = reached.get(next) {
        next += 1;
        for &(_, b) in ends.iter().filter(|&&(a, _)| a == at) {
            if b == to {
                return true;
            }
            if !reached.contains(&b) {
                reached.push(b);
            }
        }
    }
    false
}

fn width(name: &str, stage: Option<&str>) -> f64 {
    let length = |text: &str, letter: f64| text.chars().count() as f64 * letter;
    length(name, LETTER[0]).max(stage.map_or(0.0, |stage| length(stage, LETTER[1]))) + 22.0
}

fn size(placed: &Layout) -> (f64, f64) {
    (placed.width + 2.0 * MARGIN, (placed.n_layers.max(1) - 1) as f64 * LAYER + HEIGHT + 2.0 * MARGIN)
}

/// A line through every layer from `top` on: from the lower edge of its first box to the upper edge of its last.
fn arrow(path: &[f64], top: usize) -> String {
    let y = |layer: usize| MARGIN + layer as f64 * LAYER;
    let mut line = String::new();
    for (step, pair) in path.windows(2).enumerate() {
        let (from, to) = (y(top + step) + HEIGHT, y(top + step + 1));
        let (a, b, middle) = (pair[0] + MARGIN, pair[1] + MARGIN, (from + to) / 2.0);
        // Straight through the height of a layer that it only crosses.
        let _ = if step == 0 { write!(line, "M{a:.1} {from:.1}") } else { write!(line, "L{a:.1} {from:.1}") };
        let last = step + 2 == path.len();
        let _ = write!(line, "C{a:.1} {middle:.1} {b:.1} {middle:.1} {b:.1} {:.1}", if last { to - 5.0 } else { to });
    }
    let (x, end) = (path.last().copied().unwrap_or(0.0) + MARGIN, y(top + path.len() - 1));
    format!(
        "<path d=\"{line}\"/><path class=\"tip\" d=\"M{:.1} {:.1}L{:.1} {:.1}L{x:.1} {end:.1}Z\"/>",
        x - 3.5,
        end - 6.0,
        x + 3.5,
        end - 6.0
    )
}

fn node_box(name: &str, stage: Option<&str>, (x, layer): (f64, usize), width: f64, mark: &Mark) -> String {
    let (x, y) = (x + MARGIN, MARGIN + layer as f64 * LAYER);
    let mut out = format!("<g class=\"{}\">", mark.class);
    if let Some(href) = &mark.href {
        let _ = write!(out, "<a href=\"{href}\">");
    }
    if !mark.about.is_empty() {
        let _ = write!(out, "<title>{}</title>", escaped(&mark.about));
    }
    let _ = write!(out, "<rect x=\"{:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{HEIGHT}\" rx=\"6\"/>", x - width / 2.0);
    let first = if stage.is_some() { 16.0 } else { 23.5 };
    let _ = write!(out, "<text x=\"{x:.1}\" y=\"{:.1}\">{}</text>", y + first, escaped(name));
    if let Some(stage) = stage {
        let _ = write!(out, "<text class=\"stage\" x=\"{x:.1}\" y=\"{:.1}\">{}</text>", y + 30.0, escaped(stage));
    }
    out.push_str(if mark.href.is_some() { "</a></g>\n" } else { "</g>\n" });
    out
}

fn escaped(text: &str) -> String {
    plots::escaped(&stage_kit::shown(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arrow_is_quiet_when_a_longer_way_leads_to_the_same_box() {
        let ends = [(0, 1), (1, 2), (0, 2), (0, 3)];
        let far: Vec<bool> = ends.iter().map(|&(from, to)| has_detour(&ends, from, to)).collect();
        assert_eq!(far, [false, false, true, false]);
    }

    #[test]
    fn an_arrow_over_a_layer_passes_it_straight() {
        let line = arrow(&[10.0, 50.0, 20.0], 1);
        let (top, bottom) = (MARGIN + 2.0 * LAYER, MARGIN + 2.0 * LAYER + HEIGHT);
        assert!(line.contains(&format!("62.0 {top:.1}L62.0 {bottom:.1}")), "{line}");
    }
}
