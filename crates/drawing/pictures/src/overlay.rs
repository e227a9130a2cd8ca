//! Labels laid over a CT slice: see-through areas with solid contours.

use labels::BACKGROUND;

use crate::canvas::Color;
use crate::palette::Palette;

/// How much of its own colour the area of a class shows over the CT.
const OPACITY: f32 = 0.35;
/// What stands out, such as a tumor, covers more.
const MARKED_OPACITY: f32 = 0.7;
/// Around it runs a line that nothing else has.
const RIM: Color = [255, 255, 255];

/// Colours of the pixels of a slice. `gray` and `labels` are rows of `width` from the top.
pub(crate) fn overlaid(gray: &[u8], labels: &[u8], width: usize, palette: &Palette) -> Vec<Color> {
    let color = |place: usize| {
        let (gray, label) = (gray[place], labels[place]);
        let beside = |wanted: &dyn Fn(u8) -> bool| neighbors(place, labels.len(), width).any(|other| wanted(labels[other]));
        if !palette.marks(label) && beside(&|other| palette.marks(other)) {
            RIM
        } else if label == BACKGROUND {
            [gray; 3]
        } else if beside(&|other| other != label) {
            palette.color(label)
        } else {
            blend(gray, palette.color(label), if palette.marks(label) { MARKED_OPACITY } else { OPACITY })
        }
    };
    (0..labels.len()).map(color).collect()
}

fn blend(gray: u8, color: Color, opacity: f32) -> Color {
    color.map(|channel| (opacity * f32::from(channel) + (1.0 - opacity) * f32::from(gray)).round() as u8)
}

/// The pixels left, right, above and below, as far as there are any.
fn neighbors(place: usize, pixels: usize, width: usize) -> impl Iterator<Item = usize> {
    let column = place % width;
    let left = (column > 0).then(|| place - 1);
    let right = (column + 1 < width).then_some(place + 1);
    let above = place.checked_sub(width);
    let below = Some(place + width);
    [left, right, above, below].into_iter().flatten().filter(move |&other| other < pixels)
}

#[cfg(test)]
mod tests {
    use labels::{Classes, flare23};

    use super::*;

    #[test]
    fn areas_are_blended_contours_solid_and_tumors_rimmed() {
        #[rustfmt::skip]
        let labels = [
            0, 0, 0, 0, 0, 0, 0,
            0, 1, 1, 1, 1, 1, 0,
            0, 1, 1, 1, 1, 1, 0,
            0, 1, 1, 1, 1, 1, 0,
            0, 0, 0, 0, 0, 14, 0,
        ];
        let palette = Palette::of(&flare23::classes());
        let colors = overlaid(&[100; 35], &labels, 7, &palette);
        assert_eq!(colors[0], [100, 100, 100]);
        assert_eq!(colors[8], palette.color(1), "a corner of the liver is contour");
        assert_eq!(colors[16], [154, 65, 65], "0.35 of red over grey");
        assert_eq!(colors[33], palette.color(14));
        assert_eq!([colors[26], colors[32], colors[34]], [RIM; 3]);
    }

    #[test]
    fn the_uppermost_of_several_groups_stands_out() {
        let declared = r#"[{"group": "organ", "classes": {"liver": 90}}, {"group": "vessel", "classes": {"vein": 200}},
            {"group": "cancer", "classes": {"tumor": 3, "cyst": 17}}]"#;
        let classes: Classes = serde_json::from_str(declared).unwrap();
        let shown = |classes: &Classes| overlaid(&[0; 4], &[200, 90, 17, 3], 4, &Palette::of(classes));
        let colors = shown(&classes);
        assert_eq!([colors[1], colors[2], colors[3]], [RIM, classes.class("cyst").unwrap().color, classes.class("tumor").unwrap().color]);
        let alone: Classes = serde_json::from_str(r#"[{"group": "all", "classes": {"a": 90, "b": 200, "c": 3, "d": 17}}]"#).unwrap();
        assert!(!shown(&alone).contains(&RIM));
    }

    #[test]
    fn the_edge_of_the_picture_is_no_contour() {
        let palette = Palette::of(&flare23::classes());
        assert_eq!(overlaid(&[0; 4], &[14; 4], 2, &palette), [[179, 74, 126]; 4]);
        assert_eq!(overlaid(&[7], &[0], 1, &palette), [[7; 3]]);
    }
}
