//! Named points: each bears a number, and a line below the panels tells the names.

use std::fmt::Write as _;

use crate::{Axis, HEIGHT, LEFT, Look, WIDTH, alone, begun, draw_axes, draw_legend, escaped, group};

/// A point.
#[derive(Clone, Debug)]
pub struct Mark {
    /// The place of its name among the names of the plot.
    pub name: usize,
    /// Where it lies; a point that is not finite is left out.
    pub at: (f64, f64),
    /// How far the bar through it reaches up and down; 0 for none.
    pub spread: f64,
}

/// One pair of axes.
#[derive(Clone, Debug)]
pub struct Scatter {
    /// What the horizontal axis shows.
    pub x_label: String,
    /// What the vertical axis shows.
    pub y_label: String,
    /// The kinds of points, each with its name and look; later ones lie above.
    pub kinds: Vec<(String, Look, Vec<Mark>)>,
}

/// Room for the line of names, in the units of the drawing.
const NAMES: f64 = 26.0;
const RADIUS: f64 = 8.0;

/// The panels as a document of its own. `names` are those of the marks.
#[must_use]
pub fn scatter(title: &str, names: &[String], panels: &[Scatter]) -> String {
    alone(|style| draw(title, names, panels, style))
}

/// The panels for a page that holds [`crate::STYLE`].
#[must_use]
pub fn scatter_for_page(title: &str, names: &[String], panels: &[Scatter]) -> String {
    draw(title, names, panels, "")
}

fn draw(title: &str, names: &[String], panels: &[Scatter], style: &str) -> String {
    let mut out = begun(title, panels.len(), NAMES, style);
    for (at, panel) in panels.iter().enumerate() {
        let _ = writeln!(out, "{}", group(at));
        draw_panel(&mut out, names, panel);
        out.push_str("</g>\n");
    }
    let names: Vec<String> = names.iter().enumerate().map(|(at, name)| format!("{} {name}", at + 1)).collect();
    let below = crate::TOP + HEIGHT + crate::BOTTOM + NAMES / 2.0;
    let _ = writeln!(out, "<text x=\"{LEFT}\" y=\"{below}\">{}</text>", escaped(&names.join(" · ")));
    out.push_str("</svg>\n");
    out
}

fn draw_panel(out: &mut String, names: &[String], panel: &Scatter) {
    let marks = |marks: &[Mark]| -> Vec<Mark> {
        marks.iter().filter(|mark| mark.at.0.is_finite() && mark.at.1.is_finite() && mark.spread.is_finite()).cloned().collect()
    };
    let kinds: Vec<(Look, Vec<Mark>)> = panel.kinds.iter().map(|(_, look, all)| (*look, marks(all))).collect();
    let all = || kinds.iter().flat_map(|(_, marks)| marks);
    let x = Axis::over(all().map(|mark| mark.at.0), false);
    let y = Axis::over(all().flat_map(|mark| [mark.at.1 - mark.spread, mark.at.1 + mark.spread]), false);
    draw_axes(out, [&x, &y], [&panel.x_label, &panel.y_label]);
    draw_legend(out, panel.kinds.iter().map(|(name, look, _)| (*look, name.as_str())));
    let height = |value: f64| HEIGHT - y.share(value) * HEIGHT;
    for (look, marks) in &kinds {
        let class = look.class();
        for Mark { name, at, spread } in marks {
            let (column, row) = (x.share(at.0) * WIDTH, height(at.1));
            if *spread > 0.0 {
                let (top, bottom) = (height(at.1 + spread), height(at.1 - spread));
                let _ = writeln!(out, "<line class=\"{class}\" x1=\"{column:.1}\" x2=\"{column:.1}\" y1=\"{top:.1}\" y2=\"{bottom:.1}\"/>");
            }
            let told = names.get(*name).map_or("", String::as_str);
            let _ = writeln!(
                out,
                "<circle class=\"{class}\" cx=\"{column:.1}\" cy=\"{row:.1}\" r=\"{RADIUS}\"><title>{}</title></circle>",
                escaped(told)
            );
            let _ =
                writeln!(out, "<text class=\"mark\" x=\"{column:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>", row + 4.0, name + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finite_mark_stands_with_its_number_and_its_name() {
        let mark = |name, x, spread| Mark { name, at: (x, 0.5), spread };
        let panel = Scatter {
            x_label: "seconds".into(),
            y_label: "DSC".into(),
            kinds: vec![
                ("organs".into(), Look::First, vec![mark(0, 1.0, 0.1), mark(1, f64::NAN, 0.0)]),
                ("tumor".into(), Look::Second, vec![mark(1, 3.0, 0.0)]),
            ],
        };
        let plot = scatter("a<b", &["one & all".into(), "two".into()], &[panel]);
        assert_eq!(plot.matches("<circle").count(), 2);
        assert!(plot.contains(">1 one &amp; all · 2 two<") && plot.contains("<title>two</title>") && !plot.contains("NaN"), "{plot}");
        assert!(plot.contains(">organs<") && plot.contains(">tumor<") && plot.contains(">a&lt;b<"));
        assert_eq!(plot.matches("class=\"first\" x1").count(), 1 + 1, "a bar, and the legend");
    }
}
