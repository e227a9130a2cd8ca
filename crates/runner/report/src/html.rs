//! The frame of the page, and what its parts are made of. Every text is escaped where it enters the page ([`maud`]).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use maud::{Markup, PreEscaped, Render, html};

/// One part of the page.
pub(crate) struct Section {
    /// Its anchor.
    pub(crate) id: &'static str,
    pub(crate) title: String,
    pub(crate) body: Markup,
}

/// What has no end in HTML and must have one in XML, which `maud` does not write.
const HEAD: &str = "<meta charset=\"utf-8\"/>\n<meta name=\"viewport\" content=\"width=device-width\"/>\n\
    <meta name=\"color-scheme\" content=\"light dark\"/>\n<link rel=\"icon\" href=\"data:,\"/>\n";

/// The page: XML, in which what steers a terminal or turns the direction of writing stands as a visible escape.
pub(crate) fn page(title: &str, lead: &str, sections: &[Section]) -> String {
    let style = [include_str!("page.css"), pipeline::GRAPH_STYLE, plots::STYLE].concat();
    let page = html! {
        (PreEscaped("<!DOCTYPE html>\n"))
        html lang="en" {
            head {
                (PreEscaped(HEAD))
                title { (title) }
                style { (PreEscaped(style)) }
            }
            "\n"
            body {
                header {
                    h1 { (title) }
                    p.lead { (lead) }
                }
                nav {
                    @for section in sections {
                        a href={ "#" (section.id) } { (section.title) }
                        "\n"
                    }
                }
                main {
                    @for section in sections {
                        section id=(section.id) {
                            h2 { (section.title) }
                            (section.body)
                        }
                        "\n"
                    }
                }
            }
        }
    };
    stage_kit::shown(&page.into_string()).into_owned()
}

/// A table of a head and rows. The first column is text, the others stand right.
pub(crate) fn table(class: &str, head: &Markup, rows: &[Vec<impl Render>]) -> Markup {
    html! {
        div.wide {
            table class=(class) {
                thead { (head) }
                tbody {
                    @for row in rows {
                        tr { @for cell in row { td { (cell) } } }
                        "\n"
                    }
                }
            }
        }
    }
}

/// A row of headings.
pub(crate) fn head(cells: &[impl Render]) -> Markup {
    html! { tr { @for cell in cells { th { (cell) } } } }
}

/// A part that opens on demand.
pub(crate) fn fold(summary: &Markup, body: &Markup) -> Markup {
    html! { details { summary { (summary) } (body) } }
}

/// A word in a colored frame.
pub(crate) fn badge(class: &str) -> Markup {
    html! { span.badge.(class) { (class) } }
}

/// A remark.
pub(crate) fn note(text: &Markup) -> Markup {
    html! { p.note { (text) } "\n" }
}

/// A drawing as SVG, which scrolls where it is wide.
pub(crate) fn drawing(svg: String) -> Markup {
    html! { div.wide.drawing { (PreEscaped(svg)) } "\n" }
}

/// A picture within the page.
pub(crate) fn image(about: &str, mime: &str, bytes: &[u8]) -> Markup {
    let about = html! { (about) };
    html! {
        (PreEscaped("<img loading=\"lazy\" alt=\"")) (about) (PreEscaped("\" src=\"")) (data_uri(mime, bytes)) (PreEscaped("\"/>"))
    }
}

/// Bytes as a data URI.
fn data_uri(mime: &str, bytes: &[u8]) -> String {
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
        let text = "a<b & \"c\"\x1b[31m\u{202e}\n";
        let shown = "a&lt;b &amp; &quot;c&quot;\\u{1b}[31m\\u{202e}\n";
        let rows = [vec![text.to_owned()]];
        let body = html! { (table(text, &head(&[text]), &rows)) (fold(&html! { (text) }, &note(&html! { (text) }))) (badge(text)) (image(text, "x", &[])) };
        let page = page(text, text, &[Section { id: "a", title: text.into(), body }]);
        // The title twice, the lead, the section's title twice; class, heading and cell; summary and note; badge twice; the picture.
        assert_eq!(page.matches(shown).count(), 13);
        assert!(!page.contains("a<b") && !page.contains('\x1b') && !page.contains('\u{202e}'), "{page}");
    }
}
