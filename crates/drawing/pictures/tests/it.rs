//! What is seen where, in volumes whose every voxel is known.

use labels::{Classes, flare23};
use ndarray::Array3;
use pictures::{ABDOMEN_WINDOW_HU, Figure, Palette, Picture, PictureError};
use volume::{Affine, Grid, LabelVolume, Orientation, ScalarVolume, reorient};

/// Soft tissue, which is half way between black and white in the window.
const TISSUE_HU: f32 = 40.0;
const TISSUE: [u8; 3] = [128; 3];

fn ras(shape: [usize; 3], spacing_mm: [f64; 3]) -> Grid {
    Grid { shape, affine: Affine::from_spacing_mm(spacing_mm, [-50.0, -60.0, 10.0]) }
}

fn labelled(grid: &Grid, label: impl Fn([usize; 3]) -> u8) -> LabelVolume {
    let [nx, ny, nz] = grid.shape;
    LabelVolume { data: Array3::from_shape_fn((nx, ny, nz), |(x, y, z)| label([x, y, z])), affine: grid.affine }
}

fn tissue(grid: &Grid) -> ScalarVolume {
    ScalarVolume::filled(grid, TISSUE_HU)
}

fn color(label: u8) -> [u8; 3] {
    flare23::classes().colors()[usize::from(label)]
}

/// One panel with labels of FLARE23.
fn draw(image: &ScalarVolume, labels: &LabelVolume) -> Picture {
    draw_in(&Palette::of(&flare23::classes()), image, labels)
}

fn draw_in(palette: &Palette, image: &ScalarVolume, labels: &LabelVolume) -> Picture {
    let mut figure = Figure::new("case", image, labels, palette, ABDOMEN_WINDOW_HU).unwrap();
    figure.add_labels("labels", labels).unwrap();
    figure.draw()
}

/// The box of the pixels with a property: left, top, width, height.
fn extent(picture: &Picture, wanted: impl Fn([u8; 3]) -> bool) -> [usize; 4] {
    let places = (0..picture.height()).flat_map(|y| (0..picture.width()).map(move |x| (x, y)));
    let found: Vec<(usize, usize)> = places.filter(|&(x, y)| picture.pixel(x, y).is_some_and(&wanted)).collect();
    assert!(!found.is_empty(), "no pixel is such");
    let [left, right] = [found.iter().map(|p| p.0).min(), found.iter().map(|p| p.0).max()].map(Option::unwrap);
    let [top, bottom] = [found.iter().map(|p| p.1).min(), found.iter().map(|p| p.1).max()].map(Option::unwrap);
    [left, top, right + 1 - left, bottom + 1 - top]
}

#[test]
fn a_panel_has_the_patients_proportions_whatever_the_voxels_are() {
    // 80 x 40 voxels of 1 x 1.5 mm: 80 x 60 mm. The 6 mm from top to bottom are too few for a coronal view.
    let grid = ras([80, 40, 2], [1.0, 1.5, 3.0]);
    let picture = draw(&tissue(&grid), &labelled(&grid, |_| 0));
    assert_eq!(extent(&picture, |color| color == TISSUE)[2..], [320, 240]);
    // 40 mm from top to bottom are enough; they stand below, eight pixels apart.
    let grid = ras([80, 40, 8], [1.0, 1.5, 5.0]);
    let picture = draw(&tissue(&grid), &labelled(&grid, |_| 0));
    assert_eq!(extent(&picture, |color| color == TISSUE)[2..], [320, 240 + 8 + 160]);
}

#[test]
fn the_right_of_the_patient_is_on_the_left_and_anterior_on_top() {
    // The liver is in the octant at the right, anterior.
    let grid = ras([40, 40, 1], [2.0, 2.0, 2.0]);
    let labels = labelled(&grid, |[x, y, _]| u8::from(x >= 30 && y >= 20));
    let picture = draw(&tissue(&grid), &labels);
    let [left, top, ..] = extent(&picture, |color| color == TISSUE || color[0] > color[1]);
    // 8 pixels to a voxel; inside, red over grey.
    assert_eq!(picture.pixel(left + 40, top + 100), Some([172, 83, 83]));
    assert_eq!(picture.pixel(left + 79, top + 100), Some(color(1)), "the contour");
    assert_eq!(picture.pixel(left + 80, top + 100), Some(TISSUE));
    assert_eq!(picture.pixel(left + 40, top + 159), Some(color(1)));
    assert_eq!(picture.pixel(left + 40, top + 160), Some(TISSUE));
    assert_eq!(picture.pixel(left + 200, top + 100), Some(TISSUE));
}

#[test]
fn the_picture_is_the_same_for_every_orientation_of_the_volume() {
    let grid = ras([20, 30, 12], [2.0, 1.5, 3.0]);
    let labels = labelled(&grid, |[x, y, z]| if x > 10 && y > 12 && z > 7 { 14 } else { u8::from(x < 5) * 3 });
    let mut image = tissue(&grid);
    image.data.indexed_iter_mut().for_each(|((x, y, z), hu)| *hu = (7 * x + 3 * y + 5 * z) as f32 - 60.0);
    let expected = draw(&image, &labels);
    for orientation in Orientation::all() {
        let picture = draw(&reorient(&image, orientation), &reorient(&labels, orientation));
        assert!(picture == expected, "{orientation}");
    }
}

#[test]
fn the_slice_with_the_most_tumor_is_shown_even_where_others_have_more_labels() {
    let grid = ras([20, 20, 5], [1.0; 3]);
    let tumor = |[x, y, z]: [usize; 3]| z == 3 && (8..12).contains(&x) && (8..12).contains(&y);
    let labels = labelled(&grid, |[x, y, z]| {
        if tumor([x, y, z]) {
            14
        } else if z == 1 {
            1 + (x / 4) as u8
        } else {
            0
        }
    });
    let picture = draw(&tissue(&grid), &labels);
    let [.., width, height] = extent(&picture, |found| found == color(14));
    assert!(width >= 64 && height >= 64, "four voxels of 16 pixels: {width} x {height}");
}

#[test]
fn the_legend_names_the_classes_that_are_seen_and_no_others() {
    let grid = ras([10, 10, 1], [5.0; 3]);
    let swatches = |label: u8| {
        let picture = draw(&tissue(&grid), &labelled(&grid, |_| label));
        (picture.height(), (0..picture.width()).any(|x| picture.pixel(x, picture.height() - 30) == Some(color(2))))
    };
    let (without, _) = swatches(0);
    let (with, green) = swatches(2);
    assert!(with > without && green);
}

#[test]
fn classes_have_the_colours_and_names_that_are_declared_for_them() {
    let declared = r##"[{"group": "organ", "classes": {"liver": {"value": 200, "color": "#0a141e"}, "spleen": 17}},
        {"group": "vessel", "classes": {"vein": 90}}, {"group": "cancer", "classes": {"tumor": 255}}]"##;
    let classes: Classes = serde_json::from_str(declared).unwrap();
    let mut palette = Palette::of(&classes);
    let grid = ras([40, 40, 1], [2.0; 3]);
    // The tumor is in the liver; the vein touches neither.
    let labels = labelled(&grid, |[x, y, _]| match (x, y) {
        (15..20, 15..20) => 255,
        (10..25, 10..25) => 200,
        (30..35, 10..25) => 90,
        _ => 0,
    });
    let picture = draw_in(&palette, &tissue(&grid), &labels);
    for class in ["liver", "vein", "tumor"].map(|key| classes.class(key).unwrap()) {
        extent(&picture, |found| found == class.color);
    }
    let spleen = classes.class("spleen").unwrap().color;
    assert!((0..picture.height()).all(|y| (0..picture.width()).all(|x| picture.pixel(x, y) != Some(spleen))), "nobody sees a spleen");
    let line = |palette: &Palette| draw_in(palette, &tissue(&grid), &labels).height();
    let one = line(&palette);
    palette.rename(90, "A name that is so long that the legend needs more than one line");
    assert!(line(&palette) > one);
}

#[test]
fn a_scan_of_one_slice_and_an_empty_label_map_make_a_picture() {
    for shape in [[1, 1, 1], [64, 48, 1], [1, 1, 60], [1, 50, 2]] {
        let grid = ras(shape, [1.0, 1.0, 5.0]);
        let picture = draw(&tissue(&grid), &labelled(&grid, |_| 0));
        assert!(picture.width() >= 29 && picture.height() > 40, "{shape:?}");
        assert!((0..picture.height()).any(|y| picture.pixel(14, y) == Some(TISSUE)), "{shape:?}");
    }
}

#[test]
fn nothing_but_air_is_shown_whole() {
    let grid = ras([30, 20, 3], [2.0; 3]);
    let picture = draw(&ScalarVolume::filled(&grid, -1000.0), &labelled(&grid, |_| 0));
    let [.., width, _] = extent(&picture, |color| color == [0; 3]);
    assert_eq!(width, 320);
}

#[test]
fn a_png_file_holds_the_pixels() {
    let grid = ras([30, 20, 3], [2.0; 3]);
    let picture = draw(&tissue(&grid), &labelled(&grid, |[x, ..]| (x % 15) as u8));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/case.png");
    picture.write_png(&path).unwrap();
    let file = std::io::BufReader::new(std::fs::File::open(path).unwrap());
    let mut reader = png::Decoder::new(file).read_info().unwrap();
    let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut bytes).unwrap();
    assert_eq!([info.width as usize, info.height as usize], [picture.width(), picture.height()]);
    for (place, pixel) in bytes.chunks_exact(3).enumerate() {
        assert_eq!(picture.pixel(place % picture.width(), place / picture.width()).as_ref().map(|p| &p[..]), Some(pixel));
    }
}

#[test]
fn what_cannot_be_drawn_is_an_error_that_says_why() {
    let grid = ras([10, 10, 3], [2.0; 3]);
    let (image, labels) = (tissue(&grid), labelled(&grid, |_| 0));
    let elsewhere = labelled(&ras([10, 10, 4], [2.0; 3]), |_| 0);
    let error = |image: &ScalarVolume, labels: &LabelVolume, window_hu| {
        Figure::new("a", image, labels, &Palette::of(&flare23::classes()), window_hu).err().unwrap()
    };
    assert!(matches!(error(&image, &labels, [240.0, -160.0]), PictureError::Window { .. }));
    assert!(matches!(error(&image, &labels, [f32::NAN, 0.0]), PictureError::Window { .. }));
    let text = error(&image, &elsewhere, ABDOMEN_WINDOW_HU).to_string();
    assert!(text.starts_with("the ground truth has [10, 10, 4] voxels"), "{text}");
    let nothing = ras([0, 10, 3], [2.0; 3]);
    assert!(matches!(error(&tissue(&nothing), &labelled(&nothing, |_| 0), ABDOMEN_WINDOW_HU), PictureError::NoVoxels { .. }));
    let mut figure = Figure::new("a", &image, &labels, &Palette::of(&flare23::classes()), ABDOMEN_WINDOW_HU).unwrap();
    assert!(matches!(figure.add_labels("M_1", &elsewhere), Err(PictureError::Grid { .. })));
    let text = figure.add_labels("M_1", &labelled(&grid, |_| 15)).unwrap_err().to_string();
    assert!(text.starts_with("M_1: ") && text.contains("15"), "{text}");
}
