//! When the work behind the results was done, and how long it took.

use std::fmt::Write as _;

use jiff::Timestamp;
use pipeline::{Record, Snapshot};

use crate::graph;
use crate::html::{Section, escaped};
use crate::{date, seconds};

// Lengths in SVG user units, which show as pixels.
const WIDTH: f64 = 1000.0;
const NAMES: f64 = 170.0;
const TIMES: f64 = 78.0;
const ROW: f64 = 19.0;
const TOP: f64 = 26.0;

/// One piece of work; times in seconds since 1970.
struct Bar<'a> {
    record: &'a Record,
    index: usize,
    begin: f64,
    end: f64,
}

pub(crate) fn section(seen: &Snapshot<'_>) -> Option<Section> {
    let mut bars: Vec<Bar<'_>> = seen.nodes.iter().enumerate().filter_map(|(index, view)| bar(view.record.as_ref()?, index)).collect();
    bars.sort_by(|a, b| a.begin.total_cmp(&b.begin).then(a.index.cmp(&b.index)));
    let (first, last) = (bars.first()?, bars.last()?);
    let hits = seen.latest_run.as_ref().map_or_else(String::new, |run| {
        let kept = bars.iter().filter(|bar| !run.done.contains(&bar.record.node)).map(|bar| bar.record.seconds).sum();
        format!(
            "The latest run that did something, of {}, found {} of its nodes done already, and spared {} of work; it did {}. ",
            date(&run.started),
            run.fresh,
            seconds(kept),
            run.done.len()
        )
    });
    let span = if first.record.started == last.record.started {
        date(&first.record.started)
    } else {
        format!("{} to {}", date(&first.record.started), date(&last.record.started))
    };
    let body = format!(
        "<p class=\"note\">{}The work behind the results, from {}; times in which nothing was done are cut out.</p>\n<div class=\"wide drawing\">{}</div>",
        escaped(&hits),
        escaped(&span),
        draw(seen, &bars)
    );
    Some(Section { id: "timeline", title: "Timeline".into(), body })
}

fn bar(record: &Record, index: usize) -> Option<Bar<'_>> {
    let begin = seconds_since_1970(&record.started)?;
    Some(Bar { record, index, begin, end: begin + record.seconds })
}

/// The time of `2026-11-21T09:15:11Z`.
fn seconds_since_1970(utc: &str) -> Option<f64> {
    utc.parse::<Timestamp>().ok().map(|time| time.as_second() as f64)
}

/// Idle time that is longer than this is cut out: starts are noted to the second.
const SHORT_REST: f64 = 2.0;

/// Stretches of work, and where each begins on the axis of working time.
struct Axis {
    stretches: Vec<(f64, f64, f64)>,
    length: f64,
}

impl Axis {
    /// Of bars in the order of their begin.
    fn over(bars: &[Bar<'_>]) -> Self {
        let mut axis = Self { stretches: Vec::new(), length: 0.0 };
        for bar in bars {
            match axis.stretches.last_mut() {
                Some((_, end, _)) if bar.begin <= *end + SHORT_REST => {
                    axis.length += (bar.end - *end).max(0.0);
                    *end = end.max(bar.end);
                }
                _ => {
                    axis.stretches.push((bar.begin, bar.end, axis.length));
                    axis.length += bar.end - bar.begin;
                }
            }
        }
        axis
    }

    /// Where a moment lies, in 0..=1 of the working time.
    fn share(&self, moment: f64) -> f64 {
        let stretch = self.stretches.iter().rfind(|(begin, _, _)| *begin <= moment);
        let at = stretch.map_or(0.0, |(begin, end, offset)| offset + (moment.min(*end) - begin));
        if self.length > 0.0 { at / self.length } else { 0.0 }
    }
}

fn draw(seen: &Snapshot<'_>, bars: &[Bar<'_>]) -> String {
    let axis = Axis::over(bars);
    let (inner, height) = (WIDTH - NAMES - TIMES, TOP + ROW * bars.len() as f64 + 6.0);
    let x = |share: f64| NAMES + share * inner;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"timeline\" role=\"img\" aria-label=\"timeline\" viewBox=\"0 0 {WIDTH} {height}\" \
         width=\"{WIDTH}\" height=\"{height}\">\n"
    );
    for tick in 0..=4 {
        let share = f64::from(tick) / 4.0;
        let (at, anchor) = (x(share), ["start", "middle", "middle", "middle", "end"][tick as usize]);
        let _ = writeln!(out, "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{height}\"/>");
        let label = if tick == 0 { "0".to_owned() } else { seconds(share * axis.length) };
        let _ = writeln!(out, "<text class=\"soft\" x=\"{at:.1}\" y=\"16\" text-anchor=\"{anchor}\">{label}</text>");
    }
    for (begin, _, _) in axis.stretches.iter().skip(1) {
        let at = x(axis.share(*begin));
        let _ = writeln!(out, "<line class=\"cut\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{height}\"/>");
    }
    for (row, bar) in bars.iter().enumerate() {
        let (top, name) = (TOP + ROW * row as f64 + 3.0, &seen.pipeline.nodes[bar.index].name);
        let (from, to) = (x(axis.share(bar.begin)), x(axis.share(bar.end)));
        let (width, took) = ((to - from).max(2.0), seconds(bar.record.seconds));
        let base = top + ROW - 8.0;
        let _ = writeln!(out, "<text x=\"{}\" y=\"{base:.1}\" text-anchor=\"end\">{}</text>", NAMES - 8.0, escaped(name));
        let _ = writeln!(
            out,
            "<a href=\"#node-{}\"><rect class=\"{}\" x=\"{from:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{}\" rx=\"2\">\
             <title>{}: {took}, from {}</title></rect></a>",
            bar.index,
            graph::class(seen, bar.index),
            ROW - 6.0,
            escaped(name),
            escaped(&date(&bar.record.started))
        );
        let _ = writeln!(out, "<text class=\"soft\" x=\"{:.1}\" y=\"{base:.1}\">{took}</text>", from + width + 6.0);
    }
    out.push_str("</svg>\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_those_of_the_calendar() {
        // From `date -u -d … +%s`.
        assert_eq!(seconds_since_1970("1970-01-01T00:00:00Z"), Some(0.0));
        assert_eq!(seconds_since_1970("2000-02-29T00:00:00Z"), Some(951_782_400.0));
        assert_eq!(seconds_since_1970("2026-11-21T09:15:11Z"), Some(1_795_252_511.0));
        assert_eq!(seconds_since_1970("soon"), None);
    }

    #[test]
    fn nights_are_cut_out() {
        let record: Record = serde_json::from_str(
            r#"{"key":"","node":"a","stage":"s","revision":1,"params":{},"seed":0,"inputs":{},"output":"","files":1,"bytes":1,
                "started":"","seconds":1.0,"made_by":{"version":"","executable":"","host":"","device":""}}"#,
        )
        .unwrap();
        let bar = |begin, end| Bar { record: &record, index: 0, begin, end };
        let axis = Axis::over(&[bar(0.0, 10.0), bar(5.0, 20.0), bar(21.0, 30.0), bar(80_000.0, 80_010.0)]);
        assert_eq!(axis.length, 40.0);
        assert_eq!((axis.share(15.0), axis.share(80_000.0), axis.share(80_010.0)), (0.375, 0.75, 1.0));
    }
}
