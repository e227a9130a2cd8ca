//! A bitmap font of five pixels by nine: seven above the base line, two below it.

/// Printable ASCII in bands of 16 characters, and a box for all others; `#` is ink.
const SHEET: &[u8] = include_bytes!("font.txt");
const PER_BAND: usize = 16;
const GLYPH_WIDTH: usize = 5;
const GLYPH_HEIGHT: usize = 9;
/// From glyph to glyph, one empty column included; the sheet is spaced alike.
const ADVANCE: usize = GLYPH_WIDTH + 1;
/// A line of the sheet with its line feed.
const SHEET_LINE: usize = PER_BAND * ADVANCE;

/// Text is drawn at twice the font's size.
const SCALE: usize = 2;
/// Pixels from character to character.
pub(crate) const CHAR_PX: usize = SCALE * ADVANCE;
/// Height of a line of text in pixels.
pub(crate) const LINE_PX: usize = SCALE * (GLYPH_HEIGHT + 1);
/// Height of capitals and digits in pixels.
pub(crate) const CAPITAL_PX: usize = SCALE * 7;

/// Calls `ink` with every pixel of `text`, its upper left corner at (0, 0).
///
/// Doubling turns diagonal strokes into stairs. The inner corners of the stairs, which lie between two inked pixels
/// that touch only there, are filled.
pub(crate) fn for_each_ink(text: &str, mut ink: impl FnMut(usize, usize)) {
    for (place, character) in text.chars().enumerate() {
        let has = |x: usize, y: usize| glyph_has_ink(character, x, y);
        for y in 1..=GLYPH_HEIGHT {
            for x in 1..=GLYPH_WIDTH {
                for (dy, beyond_y) in [y - 1, y + 1].into_iter().enumerate() {
                    for (dx, beyond_x) in [x - 1, x + 1].into_iter().enumerate() {
                        let stair = has(x, beyond_y) && has(beyond_x, y) && !has(beyond_x, beyond_y);
                        if stair || has(x, y) {
                            ink(place * CHAR_PX + SCALE * (x - 1) + dx, SCALE * (y - 1) + dy);
                        }
                    }
                }
            }
        }
    }
}

/// Whether a glyph has ink at a place counted from 1, so that 0 is the empty border.
fn glyph_has_ink(character: char, x: usize, y: usize) -> bool {
    if !(1..=GLYPH_WIDTH).contains(&x) || !(1..=GLYPH_HEIGHT).contains(&y) {
        return false;
    }
    let index = match character {
        ' '..='~' => character as usize - ' ' as usize,
        _ => '~' as usize - ' ' as usize + 1,
    };
    let (band, column) = (index / PER_BAND, index % PER_BAND);
    SHEET[(band * GLYPH_HEIGHT + y - 1) * SHEET_LINE + column * ADVANCE + x - 1] == b'#'
}

/// Breaks `text` into lines of at most `width_px`, between words where it can, and where the text itself breaks.
pub(crate) fn wrap(text: &str, width_px: usize) -> Vec<String> {
    let most = (width_px / CHAR_PX).max(1);
    text.lines().flat_map(|line| wrap_line(line, most)).collect()
}

fn wrap_line(text: &str, most: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for piece in text.split_whitespace().flat_map(|word| pieces(word, most)) {
        if !line.is_empty() && line.chars().count() + 1 + piece.chars().count() > most {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(&piece);
    }
    lines.push(line);
    lines
}

/// A word in pieces of at most `most` characters.
fn pieces(word: &str, most: usize) -> Vec<String> {
    let characters: Vec<char> = word.chars().collect();
    characters.chunks(most).map(|piece| piece.iter().collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inked(text: &str) -> Vec<(usize, usize)> {
        let mut places = Vec::new();
        for_each_ink(text, |x, y| places.push((x, y)));
        places
    }

    #[test]
    fn the_sheet_holds_six_bands_of_sixteen_glyphs() {
        assert_eq!(SHEET.len(), 6 * GLYPH_HEIGHT * SHEET_LINE);
        assert!(SHEET.chunks(SHEET_LINE).all(|line| line.ends_with(b"\n") && line.chunks(ADVANCE).all(|cell| cell.len() == ADVANCE)));
    }

    #[test]
    fn every_printable_character_has_a_glyph_of_its_own() {
        let glyphs: Vec<Vec<(usize, usize)>> = ('!'..='~').map(|character| inked(&character.to_string())).collect();
        assert!(glyphs.iter().all(|glyph| !glyph.is_empty()));
        for (i, glyph) in glyphs.iter().enumerate() {
            assert!(!glyphs[..i].contains(glyph), "{:?} looks like another", ('!'..='~').nth(i));
        }
        assert!(inked(" ").is_empty());
        assert!(!glyphs.contains(&inked("é")), "an unknown character is a box");
    }

    #[test]
    fn text_stays_inside_its_lines() {
        let text: String = (' '..='~').chain(['é']).collect();
        let inside = |(x, y): &(usize, usize)| *x < text.chars().count() * CHAR_PX && *y < LINE_PX;
        assert!(inked(&text).iter().all(inside));
    }

    #[test]
    fn strokes_are_two_pixels_wide_and_diagonals_without_gaps() {
        let l = inked("L");
        assert!((0..CAPITAL_PX).all(|y| l.contains(&(0, y)) && l.contains(&(1, y))));
        assert_eq!(l.len(), 2 * CAPITAL_PX + 2 * 8, "the corner of an L is sharp on both sides");
        // The middle strokes of an X meet at (4, 6); left of that, the stair from (2, 4) is filled.
        let x = inked("X");
        assert!([(2, 4), (4, 6), (3, 6), (4, 5)].iter().all(|place| x.contains(place)) && !x.contains(&(2, 6)));
    }

    #[test]
    fn lines_break_between_words_and_long_words_anywhere() {
        assert_eq!(wrap("M_4 organs 0.91", 10 * CHAR_PX), ["M_4 organs", "0.91"]);
        assert_eq!(wrap("FLARE23Ts_0001", 7 * CHAR_PX), ["FLARE23", "Ts_0001"]);
        assert_eq!(wrap("M_4\norgans", 100 * CHAR_PX), ["M_4", "organs"]);
        assert_eq!(wrap("", 100), [""; 0]);
        assert_eq!(wrap("ab", 0), ["a", "b"]);
    }
}
