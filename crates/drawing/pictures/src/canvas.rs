//! Pixels, what is drawn on them, and their PNG file.

use std::io::Write as _;
use std::path::Path;

use stage_kit::write_atomic;

use crate::PictureError;
use crate::font::for_each_ink;

/// An sRGB colour.
pub(crate) type Color = [u8; 3];

/// A finished picture in 8-bit sRGB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    width: usize,
    height: usize,
    /// Row by row from the top.
    pixels: Vec<Color>,
}

impl Picture {
    pub(crate) fn filled(width: usize, height: usize, color: Color) -> Self {
        Self { width, height, pixels: vec![color; width * height] }
    }

    /// Pixels from left to right.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// Pixels from top to bottom.
    #[must_use]
    pub fn height(&self) -> usize {
        self.height
    }

    /// The sRGB colour `x` pixels from the left and `y` from the top, if that is inside.
    #[must_use]
    pub fn pixel(&self, x: usize, y: usize) -> Option<[u8; 3]> {
        if x < self.width { self.pixels.get(y * self.width + x).copied() } else { None }
    }

    /// Sets a pixel; what falls outside is not drawn.
    pub(crate) fn set(&mut self, x: usize, y: usize, color: Color) {
        if x < self.width
            && let Some(pixel) = self.pixels.get_mut(y * self.width + x)
        {
            *pixel = color;
        }
    }

    pub(crate) fn fill(&mut self, [x, y]: [usize; 2], [width, height]: [usize; 2], color: Color) {
        for row in y..y + height {
            for column in x..x + width {
                self.set(column, row, color);
            }
        }
    }

    /// Draws `pixels`, rows of `width`, with the upper left corner at `at`.
    pub(crate) fn paste(&mut self, at: [usize; 2], width: usize, pixels: &[Color]) {
        for (y, row) in pixels.chunks_exact(width).enumerate() {
            for (x, &color) in row.iter().enumerate() {
                self.set(at[0] + x, at[1] + y, color);
            }
        }
    }

    pub(crate) fn text(&mut self, [left, top]: [usize; 2], text: &str, color: Color) {
        for_each_ink(text, |x, y| self.set(left + x, top + y, color));
    }

    /// The picture as the bytes of a PNG file.
    ///
    /// # Errors
    /// When a side is zero or does not fit 31 bits.
    pub fn to_png(&self) -> Result<Vec<u8>, PictureError> {
        let side = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, side(self.width), side(self.height));
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.set_source_srgb(png::SrgbRenderingIntent::Perceptual);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(self.pixels.as_flattened())?;
        writer.finish()?;
        Ok(bytes)
    }

    /// Writes a PNG file, which appears whole or not at all.
    ///
    /// # Errors
    /// When the picture cannot be encoded or the file cannot be written.
    pub fn write_png(&self, path: &Path) -> Result<(), PictureError> {
        let bytes = self.to_png()?;
        write_atomic(path, |file| Ok(file.write_all(&bytes)?)).map_err(|error| PictureError::Write(error.into()))
    }
}
