//! Panels side by side, their captions above them and a legend below.

use std::path::Path;

use labels::LabelPattern;
use volume::Slices;

use crate::PictureError;
use crate::canvas::{Color, Picture};
use crate::cut::{Cut, cuts, labels_of};
use crate::font::{CAPITAL_PX, CHAR_PX, LINE_PX, wrap};
use crate::overlay::overlaid;
use crate::palette::Palette;

const PAPER: Color = [255, 255, 255];
const INK: Color = [34, 34, 34];
/// Marks inside a panel.
const MARK: Color = [255, 255, 255];
/// Space around the figure.
const MARGIN_PX: usize = 14;
/// Space between panels.
const GAP_PX: usize = 8;
/// Length of the strokes that show the level of the axial cut.
const STROKE_PX: usize = 10;

/// One case seen by several models: a column per panel, with an axial slice and, where the scan is high enough, a
/// coronal one.
///
/// Holds what is seen and no volumes, which are read slice by slice.
pub struct Figure {
    title: String,
    palette: Palette,
    image: volume::Grid,
    cuts: Vec<Cut>,
    panels: Vec<Panel>,
    /// The classes in any panel.
    classes: LabelPattern,
}

struct Panel {
    caption: String,
    /// Colours of the pixels of each cut.
    views: Vec<Vec<Color>>,
}

impl Figure {
    /// Chooses the slices: those with the most in `truth` of what stands out, such as tumors, or else with the most labels.
    ///
    /// `image` is in HU; `window_hu` becomes black and white. The labels of all panels have the values of `palette`.
    ///
    /// # Errors
    /// When the image has no voxels or no usable affine, the window is empty, or `truth` is not on the image's grid, or
    /// when either cannot be read.
    pub fn new(
        title: &str,
        image: &impl Slices<f32>,
        truth: &impl Slices<u8>,
        palette: &Palette,
        window_hu: [f32; 2],
    ) -> Result<Self, PictureError> {
        let grid = image.grid();
        if grid.shape.contains(&0) {
            return Err(PictureError::NoVoxels { shape: grid.shape });
        }
        grid.affine.check()?;
        let [low, high] = window_hu;
        if !(low.is_finite() && high.is_finite() && low < high) {
            return Err(PictureError::Window { window_hu });
        }
        let (title, palette, classes) = (title.to_owned(), palette.clone(), LabelPattern::EMPTY);
        let mut figure = Self { title, palette, image: grid, cuts: Vec::new(), panels: Vec::new(), classes };
        figure.check_grid("the ground truth", truth.grid())?;
        figure.cuts = cuts(image, truth, &figure.palette, window_hu)?;
        Ok(figure)
    }

    /// Adds a panel with the CT alone.
    pub fn add_ct(&mut self, caption: &str) {
        let views = self.cuts.iter().map(|cut| cut.gray.iter().map(|&gray| [gray; 3]).collect()).collect();
        self.panels.push(Panel { caption: caption.to_owned(), views });
    }

    /// Adds a panel with labels over the CT.
    ///
    /// # Errors
    /// When the labels are not on the image's grid, or the slices hold values that the palette does not have.
    pub fn add_labels(&mut self, caption: &str, labels: &impl Slices<u8>) -> Result<(), PictureError> {
        self.check_grid(caption, labels.grid())?;
        let mut views = Vec::new();
        for (cut, labels) in self.cuts.iter().zip(labels_of(&self.cuts, labels)?) {
            let found = self.palette.seen(&labels).map_err(|reason| PictureError::Labels { what: caption.to_owned(), reason })?;
            self.classes = self.classes.union(found);
            views.push(overlaid(&cut.gray, &labels, cut.width(), &self.palette));
        }
        self.panels.push(Panel { caption: caption.to_owned(), views });
        Ok(())
    }

    fn check_grid(&self, what: &str, found: volume::Grid) -> Result<(), PictureError> {
        if found.approx_eq(&self.image) {
            return Ok(());
        }
        Err(PictureError::Grid { what: what.to_owned(), found: Box::new(found), expected: Box::new(self.image) })
    }

    /// Draws the figure.
    #[must_use]
    pub fn draw(&self) -> Picture {
        let layout = Layout::of(self);
        let mut picture = Picture::filled(layout.width, layout.height, PAPER);
        draw_lines(&mut picture, [MARGIN_PX, MARGIN_PX], &layout.title);
        for (column, panel) in self.panels.iter().enumerate() {
            let left = layout.left(column);
            draw_lines(&mut picture, [left, layout.captions_top], &layout.captions[column]);
            for ((cut, view), &top) in self.cuts.iter().zip(&panel.views).zip(&layout.view_tops) {
                draw_view(&mut picture, [left, top], cut, view);
            }
        }
        for entry in &layout.legend {
            picture.fill(entry.at, [CAPITAL_PX; 2], INK);
            picture.fill(entry.at.map(|edge| edge + 1), [CAPITAL_PX - 2; 2], self.palette.color(entry.label));
            picture.text([entry.at[0] + CAPITAL_PX + CHAR_PX / 2, entry.at[1]], self.palette.name(entry.label), INK);
        }
        picture
    }

    /// Draws the figure into a PNG file, which appears whole or not at all.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_png(&self, path: &Path) -> Result<(), PictureError> {
        self.draw().write_png(path)
    }
}

fn draw_lines(picture: &mut Picture, [left, top]: [usize; 2], lines: &[String]) {
    for (index, line) in lines.iter().enumerate() {
        picture.text([left, top + index * LINE_PX], line, INK);
    }
}

/// One slice with the mark of the patient's right side and, on a coronal one, the level of the axial cut.
fn draw_view(picture: &mut Picture, [left, top]: [usize; 2], cut: &Cut, view: &[Color]) {
    picture.paste([left, top], cut.width(), view);
    if cut.height() > 2 * LINE_PX && cut.width() > 4 * CHAR_PX {
        picture.text([left + 4, top + 4], "R", MARK);
    }
    if let Some(row) = cut.crossing {
        let stroke = STROKE_PX.min(cut.width() / 4);
        picture.fill([left, top + row], [stroke, 1], MARK);
        picture.fill([left + cut.width() - stroke, top + row], [stroke, 1], MARK);
    }
}

/// Where everything stands, in pixels from the upper left corner.
struct Layout {
    width: usize,
    height: usize,
    column_px: usize,
    title: Vec<String>,
    captions_top: usize,
    captions: Vec<Vec<String>>,
    view_tops: Vec<usize>,
    legend: Vec<LegendEntry>,
}

/// A class in the legend and the upper left corner of its patch of colour.
struct LegendEntry {
    label: u8,
    at: [usize; 2],
}

impl Layout {
    fn of(figure: &Figure) -> Self {
        let column_px = figure.cuts.iter().map(Cut::width).max().unwrap_or(0);
        let columns = figure.panels.len().max(1);
        let inside_px = columns * (column_px + GAP_PX) - GAP_PX;
        let title = wrap(&figure.title, inside_px);
        let captions: Vec<Vec<String>> = figure.panels.iter().map(|panel| wrap(&panel.caption, column_px)).collect();
        let captions_top = MARGIN_PX + title.len() * LINE_PX + GAP_PX;
        let mut bottom = captions_top + captions.iter().map(Vec::len).max().unwrap_or(0) * LINE_PX;
        let mut view_tops = Vec::new();
        for cut in &figure.cuts {
            view_tops.push(bottom);
            bottom += cut.height() + GAP_PX;
        }
        let (legend, bottom) = legend(figure.classes, &figure.palette, MARGIN_PX + inside_px, bottom);
        let (width, height) = (inside_px + 2 * MARGIN_PX, bottom + MARGIN_PX - GAP_PX);
        Self { width, height, column_px, title, captions_top, captions, view_tops, legend }
    }

    fn left(&self, column: usize) -> usize {
        MARGIN_PX + column * (self.column_px + GAP_PX)
    }
}

/// Places the legend's entries in rows that end at `right`, from `top` on; returns them and where they end.
fn legend(classes: LabelPattern, palette: &Palette, right: usize, top: usize) -> (Vec<LegendEntry>, usize) {
    let mut at = [MARGIN_PX, top + GAP_PX / 2];
    let mut entries = Vec::new();
    for label in classes.iter() {
        let width = CAPITAL_PX + CHAR_PX / 2 + palette.name(label).chars().count() * CHAR_PX;
        if at[0] > MARGIN_PX && at[0] + width > right {
            at = [MARGIN_PX, at[1] + LINE_PX];
        }
        entries.push(LegendEntry { label, at });
        at[0] += width + 2 * CHAR_PX;
    }
    let bottom = if entries.is_empty() { top } else { at[1] + LINE_PX + GAP_PX };
    (entries, bottom)
}
