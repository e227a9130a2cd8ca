//! Plots as SVG, panels side by side: lines over a common horizontal axis, and named points ([`Scatter`]). As files of their
//! own or parts of a page.

mod scatter;

use std::fmt::Write as _;

pub use scatter::{Mark, Scatter, scatter, scatter_for_page};

/// One line of a panel.
pub struct Series {
    /// What it shows.
    pub name: String,
    /// How it looks.
    pub look: Look,
    /// Points that are not finite are left out.
    pub points: Vec<(f64, f64)>,
}

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// The first color, with points.
    First,
    /// The second color, with points.
    Second,
    /// The third color, with points.
    Third,
    /// The fourth color, with points.
    Fourth,
    /// One of many: thin, without points, and told only under the pointer.
    Thin,
}

impl Look {
    /// The colour of the kind at a place; after the fourth they come again.
    #[must_use]
    pub fn of_kind(place: usize) -> Self {
        [Self::First, Self::Second, Self::Third, Self::Fourth][place % 4]
    }

    fn class(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Second => "second",
            Self::Third => "third",
            Self::Fourth => "fourth",
            Self::Thin => "thin",
        }
    }
}

/// One pair of axes.
pub struct Panel {
    /// What the vertical axis shows.
    pub y_label: String,
    /// The lines; later ones lie above.
    pub series: Vec<Series>,
}

/// The looks, for light and dark. A page that holds several plots has this once.
pub const STYLE: &str = ".plot{--p-ink:#333;--p-grid:#e4e4e4;--p-first:#1f77b4;--p-second:#d62728;--p-third:#2a8a3c;--p-fourth:#8e57b8;--p-thin:#9aa3b0;--p-paper:#fff}
@media (prefers-color-scheme:dark){.plot{--p-ink:#d6d6d2;--p-grid:#33373e;--p-first:#6cb2e6;--p-second:#f28b82;--p-third:#7fcf8a;--p-fourth:#c39be6;--p-thin:#5b6472;--p-paper:#17191c}}
.plot text{font:12px ui-sans-serif,system-ui,sans-serif;fill:var(--p-ink)}
.plot .title{font-size:15px}
.plot .axis{fill:none;stroke:var(--p-ink)}
.plot .grid{stroke:var(--p-grid)}
.plot polyline{fill:none;stroke-width:1.5}
.plot .first{stroke:var(--p-first)}
.plot .second{stroke:var(--p-second)}
.plot .third{stroke:var(--p-third)}
.plot .fourth{stroke:var(--p-fourth)}
.plot .thin{stroke:var(--p-thin);stroke-width:1}
.plot circle.first{fill:var(--p-first);stroke:none}
.plot circle.second{fill:var(--p-second);stroke:none}
.plot circle.third{fill:var(--p-third);stroke:none}
.plot circle.fourth{fill:var(--p-fourth);stroke:none}
.plot text.mark{font-size:11px;fill:var(--p-paper)}
";

// All lengths are in SVG user units, which show as pixels.
const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 66.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 50.0;
const RIGHT: f64 = 20.0;

/// The panels as a document of its own.
#[must_use]
pub fn svg(title: &str, x_label: &str, panels: &[Panel]) -> String {
    alone(|style| draw(title, x_label, panels, style))
}

/// The panels for a page that holds [`STYLE`].
#[must_use]
pub fn svg_for_page(title: &str, x_label: &str, panels: &[Panel]) -> String {
    draw(title, x_label, panels, "")
}

/// A plot for a page, as one of its own.
fn alone(drawn: impl Fn(&str) -> String) -> String {
    drawn(&format!("<style>{STYLE}</style>\n<rect width=\"100%\" height=\"100%\" style=\"fill:var(--p-paper)\"/>\n"))
}

fn draw(title: &str, x_label: &str, panels: &[Panel], style: &str) -> String {
    let mut out = begun(title, panels.len(), 0.0, style);
    for (at, panel) in panels.iter().enumerate() {
        let _ = writeln!(out, "{}", group(at));
        draw_panel(&mut out, x_label, panel);
        out.push_str("</g>\n");
    }
    out.push_str("</svg>\n");
    out
}

/// The beginning of a document of so many panels, with its title and `more` room below.
fn begun(title: &str, panels: usize, more: f64, style: &str) -> String {
    let width = (LEFT + WIDTH + RIGHT) * panels as f64;
    let height = TOP + HEIGHT + BOTTOM + more;
    let title = escaped(title);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"plot\" role=\"img\" aria-label=\"{title}\" viewBox=\"0 0 {width} {height}\" \
         width=\"{width}\" height=\"{height}\">\n{style}<text class=\"title\" x=\"{}\" y=\"22\" text-anchor=\"middle\">{title}</text>\n",
        width / 2.0
    )
}

/// The beginning of the panel at that place.
fn group(at: usize) -> String {
    format!("<g transform=\"translate({} {TOP})\">", at as f64 * (LEFT + WIDTH + RIGHT) + LEFT)
}

fn draw_panel(out: &mut String, x_label: &str, panel: &Panel) {
    let points = || panel.series.iter().flat_map(|series| finite(&series.points));
    let x = Axis::over(points().map(|p| p.0), true);
    let y = Axis::over(points().map(|p| p.1), false);
    draw_axes(out, [&x, &y], [x_label, &panel.y_label]);
    let place = |(px, py): (f64, f64)| (x.share(px) * WIDTH, HEIGHT - y.share(py) * HEIGHT);
    for series in &panel.series {
        draw_series(out, series, &place);
    }
    let named = panel.series.iter().filter(|series| series.look != Look::Thin);
    draw_legend(out, named.map(|series| (series.look, series.name.as_str())));
}

/// Names of looks above a panel.
fn draw_legend<'a>(out: &mut String, names: impl Iterator<Item = (Look, &'a str)>) {
    for (at, (look, name)) in names.enumerate() {
        let (row, column) = (-12.0, 10.0 + 110.0 * at as f64);
        let class = look.class();
        let _ = writeln!(
            out,
            "<line class=\"{class}\" x1=\"{column}\" x2=\"{}\" y1=\"{row}\" y2=\"{row}\" stroke-width=\"2\"/>",
            column + 20.0
        );
        let _ = writeln!(out, "<text x=\"{}\" y=\"{}\">{}</text>", column + 26.0, row + 4.0, escaped(name));
    }
}

/// The axes of a panel with their ticks and labels.
fn draw_axes(out: &mut String, [x, y]: [&Axis; 2], [x_label, y_label]: [&str; 2]) {
    for tick in y.ticks() {
        let at = HEIGHT - y.share(tick) * HEIGHT;
        let _ = writeln!(out, "<line x1=\"0\" x2=\"{WIDTH}\" y1=\"{at:.1}\" y2=\"{at:.1}\" class=\"grid\"/>");
        let _ = writeln!(out, "<text x=\"-8\" y=\"{:.1}\" text-anchor=\"end\">{}</text>", at + 4.0, y.label(tick));
    }
    for tick in x.ticks() {
        let at = x.share(tick) * WIDTH;
        let _ = writeln!(out, "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>", HEIGHT + 18.0, x.label(tick));
    }
    let _ = writeln!(out, "<path d=\"M0 0V{HEIGHT}H{WIDTH}\" class=\"axis\"/>");
    let _ = writeln!(out, "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>", WIDTH / 2.0, HEIGHT + 38.0, escaped(x_label));
    let _ =
        writeln!(out, "<text transform=\"translate(-52 {}) rotate(-90)\" text-anchor=\"middle\">{}</text>", HEIGHT / 2.0, escaped(y_label));
}

fn draw_series(out: &mut String, series: &Series, place: &impl Fn((f64, f64)) -> (f64, f64)) {
    let class = series.look.class();
    let mut line = String::new();
    for (px, py) in finite(&series.points).map(place) {
        let _ = write!(line, "{px:.1},{py:.1} ");
        if series.look != Look::Thin {
            let _ = writeln!(out, "<circle class=\"{class}\" cx=\"{px:.1}\" cy=\"{py:.1}\" r=\"2\"/>");
        }
    }
    let _ = writeln!(out, "<polyline class=\"{class}\" points=\"{}\"><title>{}</title></polyline>", line.trim_end(), escaped(&series.name));
}

fn finite(points: &[(f64, f64)]) -> impl Iterator<Item = (f64, f64)> {
    points.iter().copied().filter(|(x, y)| x.is_finite() && y.is_finite())
}

/// Text for elements and attributes of XML. Characters that XML forbids, such as those that steer a terminal, become
/// visible escapes.
#[must_use]
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(letter),
            '\u{fffe}' | '\u{ffff}' => out.extend(letter.escape_default()),
            letter if letter.is_control() => out.extend(letter.escape_default()),
            letter => out.push(letter),
        }
    }
    out
}

/// A range that begins and ends at a multiple of its tick distance.
struct Axis {
    low: f64,
    high: f64,
    tick: f64,
}

impl Axis {
    fn over(values: impl Iterator<Item = f64>, whole: bool) -> Self {
        let (mut low, mut high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        if high - low < 1e-9 * high.abs().max(1e-3) {
            high = low + if low == 0.0 || whole { 1.0 } else { 0.1 * low.abs() };
        }
        // About five ticks at 1, 2 or 5 times a power of ten.
        let rough = (high - low) / 5.0;
        let power = 10_f64.powf(rough.log10().floor());
        let mut tick = power * [1.0, 2.0, 5.0, 10.0].into_iter().find(|step| step * power >= rough).unwrap_or(10.0);
        if whole {
            tick = tick.max(1.0);
        }
        let (low, high) = if whole { (low, high) } else { ((low / tick).floor() * tick, (high / tick).ceil() * tick) };
        Self { low, high, tick }
    }

    fn share(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        let first = (self.low / self.tick - 1e-9).ceil();
        let count = ((self.high / self.tick + 1e-9).floor() - first) as usize;
        (0..=count).map(move |i| (first + i as f64) * self.tick)
    }

    /// As many decimals as the tick distance has.
    fn label(&self, value: f64) -> String {
        let decimals = (-self.tick.log10().floor()).max(0.0) as usize;
        format!("{value:.decimals$}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(values: &[f64], whole: bool) -> Vec<String> {
        let axis = Axis::over(values.iter().copied(), whole);
        axis.ticks().map(|tick| axis.label(tick)).collect()
    }

    #[test]
    fn ticks_are_round_numbers_around_the_values() {
        assert_eq!(labels(&[0.31, 1.12], false), ["0.2", "0.4", "0.6", "0.8", "1.0", "1.2"]);
        assert_eq!(labels(&[1.0, 250.0], true), ["50", "100", "150", "200", "250"]);
        assert_eq!(labels(&[1.0, 3.0], true), ["1", "2", "3"], "there are no half epochs");
    }

    #[test]
    fn a_single_value_and_no_value_still_make_an_axis() {
        assert!(labels(&[0.5], false).len() > 1);
        assert_eq!(labels(&[], false).len(), 6);
        assert!(labels(&[1.0], true).contains(&"1".to_owned()));
    }

    #[test]
    fn a_title_cannot_break_the_document() {
        assert!(svg("a<b & c", "x", &[]).contains(">a&lt;b &amp; c<"));
    }
}
