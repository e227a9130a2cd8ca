//! Labels laid over a CT slice: see-through areas with solid contours.

use labels::{BACKGROUND, CLASS_COLORS, TUMOR};

use crate::canvas::Color;

/// How much of its own colour an organ's area shows over the CT.
const ORGAN_OPACITY: f32 = 0.35;
/// Tumors are what the reader looks for, and cover more.
const TUMOR_OPACITY: f32 = 0.7;
/// Around every tumor runs a line that no organ has.
const TUMOR_RIM: Color = [255, 255, 255];

/// Colours of the pixels of a slice. `gray` and `labels` are rows of `width` from the top; labels are 0 to 14.
pub(crate) fn overlaid(gray: &[u8], labels: &[u8], width: usize) -> Vec<Color> {
    let color = |place: usize| {
        let (gray, label) = (gray[place], labels[place]);
        let beside = |wanted: &dyn Fn(u8) -> bool| neighbors(place, labels.len(), width).any(|other| wanted(labels[other]));
        if label != TUMOR && beside(&|other| other == TUMOR) {
            TUMOR_RIM
        } else if label == BACKGROUND {
            [gray; 3]
        } else if beside(&|other| other != label) {
            class_color(label)
        } else {
            blend(gray, class_color(label), if label == TUMOR { TUMOR_OPACITY } else { ORGAN_OPACITY })
        }
    };
    (0..labels.len()).map(color).collect()
}

/// The solid colour of a label.
pub(crate) fn class_color(label: u8) -> Color {
    CLASS_COLORS.get(usize::from(label)).copied().unwrap_or_default()
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
        let colors = overlaid(&[100; 35], &labels, 7);
        assert_eq!(colors[0], [100, 100, 100]);
        assert_eq!(colors[8], CLASS_COLORS[1], "a corner of the liver is contour");
        assert_eq!(colors[16], [154, 65, 65], "0.35 of red over grey");
        assert_eq!(colors[33], CLASS_COLORS[14]);
        assert_eq!([colors[26], colors[32], colors[34]], [TUMOR_RIM; 3]);
    }

    #[test]
    fn the_edge_of_the_picture_is_no_contour() {
        assert_eq!(overlaid(&[0; 4], &[14; 4], 2), [[179, 74, 126]; 4]);
        assert_eq!(overlaid(&[7], &[0], 1), [[7; 3]]);
    }
}
