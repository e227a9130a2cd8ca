//! Grey images of one size in a table: a column for each caption.

use crate::canvas::{Color, Picture};
use crate::font::{CHAR_PX, LINE_PX};

const PAPER: Color = [255, 255, 255];
const INK: Color = [34, 34, 34];
/// Space around the table and between its cells.
const GAP_PX: usize = 8;
/// Images are enlarged to about this many pixels, by whole factors.
const CELL_PX: usize = 200;

/// A table of images: `rows` of as many images as there are captions, each image `size` pixels wide and high, with values
/// from 0 (black) to 1 (white), row by row from the top. What is missing stays empty.
#[must_use]
pub fn gray_panels(captions: &[&str], rows: &[Vec<Vec<f32>>], size: [usize; 2]) -> Picture {
    let factor = (CELL_PX / size[0].max(size[1]).max(1)).max(1);
    let longest = captions.iter().map(|caption| caption.chars().count() * CHAR_PX).max().unwrap_or(0);
    let (wide, high) = ((factor * size[0]).max(longest) + GAP_PX, factor * size[1] + GAP_PX);
    let top = GAP_PX + LINE_PX;
    let mut picture = Picture::filled(GAP_PX + wide * captions.len(), top + high * rows.len(), PAPER);
    for (column, caption) in captions.iter().enumerate() {
        picture.text([GAP_PX + column * wide, GAP_PX], caption, INK);
    }
    for (row, images) in rows.iter().enumerate() {
        for (column, image) in images.iter().enumerate() {
            for (place, value) in image.iter().enumerate().take(size[0] * size[1]) {
                let at = [GAP_PX + column * wide + place % size[0] * factor, top + row * high + place / size[0] * factor];
                picture.fill(at, [factor; 2], [(value.clamp(0.0, 1.0) * 255.0).round() as u8; 3]);
            }
        }
    }
    picture
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_stand_where_their_image_does() {
        let picture = gray_panels(&["a", "b"], &[vec![vec![0.0, 1.0, 2.0, 0.5], vec![1.0; 4]], vec![vec![0.2; 4]]], [2, 2]);
        let (top, cell) = (GAP_PX + LINE_PX, 100);
        assert_eq!(picture.pixel(GAP_PX + 5, top + 5), Some([0; 3]));
        assert_eq!(picture.pixel(GAP_PX + cell + 5, top + 5), Some([255; 3]));
        assert_eq!(picture.pixel(GAP_PX + 5, top + cell + 5), Some([255; 3]), "values above 1 are white");
        assert_eq!(picture.pixel(GAP_PX + cell + 5, top + cell + 5), Some([128; 3]));
        assert_eq!(picture.pixel(GAP_PX + 5, top + 2 * cell + GAP_PX + 5), Some([51; 3]), "the second row");
        assert_eq!([picture.width(), picture.height()], [GAP_PX + 2 * 208, top + 2 * 208]);
    }
}
