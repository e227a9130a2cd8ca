//! Text from outside, such as a file's name, shown harmlessly.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The text with escapes in place of characters that steer a terminal or turn the direction of writing: a file's name may
/// hold any of them, and moves no cursor and hides no letters. A new line stays one.
#[must_use]
pub fn shown(text: &str) -> Cow<'_, str> {
    if !text.chars().any(steers) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if steers(c) {
            // Writing to a string does not fail.
            let _ = write!(shown, "{}", c.escape_default());
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

/// The first `most` names, and how many more there are: `a, b and 3 more`.
#[must_use]
pub fn some_of(names: &[impl AsRef<str>], most: usize) -> String {
    let shown = names.iter().take(most).map(AsRef::as_ref).collect::<Vec<_>>().join(", ");
    if names.len() > most { format!("{shown} and {} more", names.len() - most) } else { shown }
}

/// Control characters, and those that embed, override or isolate a direction of writing.
fn steers(c: char) -> bool {
    let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    turns || (c.is_control() && c != '\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_becomes_visible_and_all_else_stays() {
        assert_eq!(shown("a\u{1b}[2Jb\rc\td\u{7}\u{9b}"), r"a\u{1b}[2Jb\rc\td\u{7}\u{9b}");
        assert_eq!(shown("gpj\u{202e}nii"), r"gpj\u{202e}nii");
        for plain in ["Ärzte_患者", "two\nlines", r"back\slash", "quote'\"", ""] {
            assert!(matches!(shown(plain), Cow::Borrowed(same) if same == plain));
        }
    }
}
