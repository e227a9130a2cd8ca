//! The frame of the page.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// One part of the page.
pub(crate) struct Section {
    /// Its anchor.
    pub(crate) id: &'static str,
    pub(crate) title: String,
    /// Its HTML.
    pub(crate) body: String,
}

pub(crate) fn page(title: &str, lead: &str, sections: &[Section]) -> String {
    let title = escaped(title);
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n<meta name=\"viewport\" content=\"width=device-width\"/>\n\
         <meta name=\"color-scheme\" content=\"light dark\"/>\n<title>{title}</title>\n<link rel=\"icon\" href=\"data:,\"/>\n\
         <style>\n{}{}{}</style>\n</head>\n<body>\n<header>\n<h1>{title}</h1>\n<p class=\"lead\">{lead}</p>\n</header>\n<nav>\n",
        include_str!("page.css"),
        pipeline::GRAPH_STYLE,
        plots::STYLE
    );
    for section in sections {
        let _ = writeln!(out, "<a href=\"#{}\">{}</a>", section.id, escaped(&section.title));
    }
    out.push_str("</nav>\n<main>\n");
    for section in sections {
        let _ = writeln!(out, "<section id=\"{}\">\n<h2>{}</h2>\n{}\n</section>", section.id, escaped(&section.title), section.body);
    }
    out.push_str("</main>\n</body>\n</html>\n");
    out
}

/// Text for elements and attributes, with visible escapes in place of what steers a terminal or turns the direction of
/// writing.
pub(crate) fn escaped(text: &str) -> String {
    plots::escaped(&stage_kit::shown(text))
}

/// A table of a head and rows; cells are HTML. The first column is text, the others stand right.
pub(crate) fn table(class: &str, head: &str, rows: &[Vec<String>]) -> String {
    let mut out = format!("<div class=\"wide\"><table class=\"{class}\">\n<thead>{head}</thead>\n<tbody>\n");
    for row in rows {
        let cells: String = row.iter().map(|cell| format!("<td>{cell}</td>")).collect();
        let _ = writeln!(out, "<tr>{cells}</tr>");
    }
    out.push_str("</tbody>\n</table></div>\n");
    out
}

/// A row of headings.
pub(crate) fn head(cells: &[&str]) -> String {
    format!("<tr>{}</tr>", cells.iter().map(|cell| format!("<th>{}</th>", escaped(cell))).collect::<String>())
}

/// A part that opens on demand.
pub(crate) fn fold(summary: &str, body: &str) -> String {
    format!("<details><summary>{summary}</summary>\n{body}</details>\n")
}

/// A word in a colored frame.
pub(crate) fn badge(class: &str) -> String {
    format!("<span class=\"badge {class}\">{class}</span>")
}

/// Bytes as a data URI.
pub(crate) fn data_uri(mime: &str, bytes: &[u8]) -> String {
    let mut out = format!("data:{mime};base64,");
    STANDARD.encode_string(bytes, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_encoded_as_in_rfc_4648() {
        let encoded = |text: &str| data_uri("x", text.as_bytes()).replace("data:x;base64,", "");
        let vectors = [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("foobar", "Zm9vYmFy")];
        for (text, expected) in vectors {
            assert_eq!(encoded(text), expected);
        }
        assert_eq!(data_uri("x", &[0xfb, 0xff]), "data:x;base64,+/8=");
    }

    #[test]
    fn nothing_in_a_text_can_break_the_page() {
        assert_eq!(escaped("a<b & \"c\"\x1b[31m\n"), "a&lt;b &amp; &quot;c&quot;\\u{1b}[31m\n");
    }
}
