//! Durations, dates and sizes for people.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;

/// `0.35 s`, `1.4 s`, `12 s`, `3:20 min` or `4:05 h`.
#[must_use]
pub fn duration(time: Duration) -> String {
    let whole = time.as_secs();
    match whole {
        0 => format!("{:.2} s", time.as_secs_f64()),
        1..10 => format!("{:.1} s", time.as_secs_f64()),
        10..60 => format!("{whole} s"),
        60..3600 => format!("{}:{:02} min", whole / 60, whole % 60),
        _ => format!("{}:{:02} h", whole / 3600, whole / 60 % 60),
    }
}

/// A moment in UTC, as ISO 8601 to the second; such texts sort by time.
pub(crate) fn utc(time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    // A clock beyond the year 9999 counts as one that was never set.
    i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok()).unwrap_or_default().to_string()
}

/// `512 B`, `1.4 MB`.
#[must_use]
pub fn size(bytes: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"];
    #[expect(clippy::cast_precision_loss, reason = "shown with two digits")]
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 || value >= 100.0 { format!("{value:.0} {}", units[unit]) } else { format!("{value:.1} {}", units[unit]) }
}

/// So many known names are listed beside one that is unknown.
const MOST_KNOWN: usize = 24;

/// What there is in place of an unknown name: `the nodes are a, b; did you mean a?`.
pub(crate) fn instead(unknown: &str, are: &str, known: &[&str]) -> String {
    let mut text = match known {
        [] => format!("{are} nothing"),
        known => format!("{are} {}", stage_kit::some_of(known, MOST_KNOWN)),
    };
    if let Some(near) = stage_kit::nearest(unknown, known.iter().copied()) {
        text += &format!("; did you mean `{near}`?");
    }
    text
}

/// `1 file`, `2 files`.
pub(crate) fn counted(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// Columns side by side, as wide as needed; the last one may be long.
pub(crate) fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |row: &[String; N]| {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let at = |seconds| utc(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        // From `date -u -d @SECONDS`.
        assert_eq!(at(0), "1970-01-01T00:00:00Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(at(1_735_689_599), "2024-12-31T23:59:59Z");
        assert_eq!(at(4_107_542_400), "2100-03-01T00:00:00Z");
    }

    #[test]
    fn durations_and_sizes_are_short() {
        assert_eq!(duration(Duration::from_millis(350)), "0.35 s");
        assert_eq!(duration(Duration::from_secs(200)), "3:20 min");
        assert_eq!(duration(Duration::from_secs(14_700)), "4:05 h");
        assert_eq!((size(512), size(1_400_000), size(123_456_789)), ("512 B".into(), "1.4 MB".into(), "123 MB".into()));
    }

    #[test]
    fn columns_line_up_without_blanks_at_the_end() {
        let rows = [["a".into(), "long".into(), "x".into()], ["bcd".into(), "s".into(), String::new()]];
        assert_eq!(columns(&rows), "a    long  x\nbcd  s\n");
    }
}
