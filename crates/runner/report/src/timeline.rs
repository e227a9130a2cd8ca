//! When the work behind the results was done, and how long it took.

use jiff::Timestamp;
use maud::{Markup, html};
use pipeline::{Record, Snapshot};

use crate::graph;
use crate::html::{Section, note};
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
    let body = html! {
        (note(&html! { (hits) "The work behind the results, from " (span) "; times in which nothing was done are cut out." }))
        div.wide.drawing { (draw(seen, &bars)) }
    };
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

fn draw(seen: &Snapshot<'_>, bars: &[Bar<'_>]) -> Markup {
    let axis = Axis::over(bars);
    let height = TOP + ROW * bars.len() as f64 + 6.0;
    let upright = |class: &str, at: f64| {
        let at = format!("{at:.1}");
        html! { line class=(class) x1=(at) x2=(at) y1=(TOP) y2=(height) {} }
    };
    let anchors = ["start", "middle", "middle", "middle", "end"];
    html! {
        svg.timeline xmlns="http://www.w3.org/2000/svg" role="img" aria-label="timeline" viewBox={ "0 0 " (WIDTH) " " (height) }
            width=(WIDTH) height=(height) {
            @for (tick, anchor) in anchors.into_iter().enumerate() {
                @let share = tick as f64 / 4.0;
                (upright("grid", x(share)))
                text.soft x=(format!("{:.1}", x(share))) y="16" text-anchor=(anchor) {
                    @if tick == 0 { "0" } @else { (seconds(share * axis.length)) }
                }
            }
            @for (begin, _, _) in axis.stretches.iter().skip(1) { (upright("cut", x(axis.share(*begin)))) }
            @for (row, bar) in bars.iter().enumerate() { (drawn(seen, &axis, row, bar)) "\n" }
        }
    }
}

/// Where a share of the working time lies in the drawing.
fn x(share: f64) -> f64 {
    NAMES + share * (WIDTH - NAMES - TIMES)
}

fn drawn(seen: &Snapshot<'_>, axis: &Axis, row: usize, bar: &Bar<'_>) -> Markup {
    let (top, name) = (TOP + ROW * row as f64 + 3.0, &seen.pipeline.nodes[bar.index].name);
    let (from, to) = (x(axis.share(bar.begin)), x(axis.share(bar.end)));
    let (width, took, base) = ((to - from).max(2.0), seconds(bar.record.seconds), format!("{:.1}", top + ROW - 8.0));
    html! {
        text x=(NAMES - 8.0) y=(base) text-anchor="end" { (name) }
        a href={ "#node-" (bar.index) } {
            rect class=(graph::class(seen, bar.index)) x=(format!("{from:.1}")) y=(format!("{top:.1}")) width=(format!("{width:.1}"))
                height=(ROW - 6.0) rx="2" {
                title { (name) ": " (took) ", from " (date(&bar.record.started)) }
            }
        }
        text.soft x=(format!("{:.1}", from + width + 6.0)) y=(base) { (took) }
    }
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
