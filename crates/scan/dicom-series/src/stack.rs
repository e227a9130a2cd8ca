//! From frames to a grid: which lie on each other, in which order, and whether any is missing.

use std::array::from_fn;

use crate::instance::Frame;

/// Positions may be off the line by this share of the distance between slices, as scanners round them.
const LEAST_REGULAR: f64 = 0.1;

/// Directions differ by less than this within a stack.
pub(crate) const SAME_DIRECTION: f64 = 1e-3;

/// A frame in a stack.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Slice {
    /// Which file of the series.
    pub(crate) file: usize,
    /// Which frame of it, from 0.
    pub(crate) frame: u32,
    pub(crate) position: [f64; 3],
    pub(crate) scaling: [f64; 2],
}

/// Frames of the same size, direction and spacing.
#[derive(Clone, Debug)]
pub(crate) struct Stack {
    pub(crate) sides: [u16; 2],
    pub(crate) directions: [f64; 6],
    pub(crate) spacing: [f64; 2],
    pub(crate) acquisition: Option<i64>,
    pub(crate) slices: Vec<Slice>,
}

/// What keeps frames from being one scan: what was found, what was expected, what to do.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Irregular {
    pub(crate) found: String,
    pub(crate) expected: &'static str,
    pub(crate) remedy: &'static str,
}

fn irregular(found: String, expected: &'static str, remedy: &'static str) -> Irregular {
    Irregular { found, expected, remedy }
}

impl Stack {
    /// An empty one that frames like this one belong to.
    pub(crate) fn of(frame: &Frame, sides: [u16; 2], acquisition: Option<i64>) -> Result<Self, Irregular> {
        const EXPORT: &str = "export the series again, with all of its attributes";
        let missing = |what: &str| irregular(format!("images without {what}"), "images that say where they lie", EXPORT);
        let directions = frame.directions.ok_or_else(|| missing("Image Orientation (Patient)"))?;
        let spacing = frame.spacing.ok_or_else(|| missing("Pixel Spacing"))?;
        frame.position.ok_or_else(|| missing("Image Position (Patient)"))?;
        let [along_row, along_column] = [from_fn(|i| directions[i]), from_fn(|i| directions[3 + i])];
        let off = [dot(along_row, along_row) - 1.0, dot(along_column, along_column) - 1.0, dot(along_row, along_column)];
        if off.iter().any(|off| off.abs() > 0.01) {
            return Err(irregular(format!("the directions {directions:?}"), "two directions of length 1 at a right angle", EXPORT));
        }
        if spacing.iter().any(|&side| side <= 0.0) {
            return Err(irregular(format!("the pixel spacing {spacing:?} mm"), "two lengths", EXPORT));
        }
        Ok(Self { sides, directions, spacing, acquisition, slices: Vec::new() })
    }

    pub(crate) fn takes(&self, other: &Self) -> bool {
        let near = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() <= SAME_DIRECTION);
        self.sides == other.sides && near(&self.directions, &other.directions) && near(&self.spacing, &other.spacing)
    }

    fn normal(&self) -> [f64; 3] {
        let [a, b]: [[f64; 3]; 2] = [from_fn(|i| self.directions[i]), from_fn(|i| self.directions[3 + i])];
        [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
    }

    /// Puts the slices into order, along the normal of their planes.
    pub(crate) fn sort(&mut self) {
        let normal = self.normal();
        self.slices.sort_by(|a, b| dot(a.position, normal).total_cmp(&dot(b.position, normal)));
    }

    /// Whether two slices lie at the same place.
    pub(crate) fn has_doubles(&self) -> bool {
        self.distances().iter().any(|&distance| distance < 1e-3)
    }

    fn distances(&self) -> Vec<f64> {
        let normal = self.normal();
        self.slices.windows(2).map(|pair| dot(pair[1].position, normal) - dot(pair[0].position, normal)).collect()
    }

    /// The steps in LPS mm from pixel to pixel, from row to row and from slice to slice; of sorted slices. The last step need not be
    /// at a right angle to the others: the gantry may have been tilted.
    pub(crate) fn columns(&self) -> Result<[[f64; 3]; 3], Irregular> {
        let (Some(first), Some(last)) = (self.slices.first(), self.slices.last()) else { unreachable!("stacks are made of slices") };
        let distances = self.distances();
        let count = distances.len();
        if count == 0 {
            return Err(irregular("a single slice".into(), "two slices or more", "name the folder of the series, or leave it out"));
        }
        let mut sorted = distances.clone();
        sorted.sort_by(f64::total_cmp);
        let usual = sorted[count / 2];
        if sorted[0] < 1e-3 {
            let double = distances.iter().position(|&distance| distance < 1e-3).unwrap_or(0);
            return Err(irregular(
                format!("two images at the place {:?} mm", self.slices[double].position),
                "one image at each place",
                "put each phase or reconstruction into a folder of its own",
            ));
        }
        let more = |distance: &f64| ((distance / usual).round() as usize).saturating_sub(1);
        let missing = distances.iter().map(more).fold(0, usize::saturating_add);
        if missing > 0 {
            let gap = distances.iter().position(|distance| distance / usual >= 1.5).unwrap_or(0);
            let [from, to] = [gap, gap + 1].map(|slice| self.slices[slice].position);
            return Err(irregular(
                format!(
                    "{} missing, the first between {from:?} and {to:?} mm, where others are {usual:.3} mm apart",
                    if missing == 1 { "1 slice is".into() } else { format!("{missing} slices are") }
                ),
                "slices without a gap",
                "export the series again, with all slices",
            ));
        }
        let step: [f64; 3] = from_fn(|i| (last.position[i] - first.position[i]) / count as f64);
        for (k, slice) in self.slices.iter().enumerate() {
            let off: [f64; 3] = from_fn(|i| slice.position[i] - first.position[i] - k as f64 * step[i]);
            let off = dot(off, off).sqrt();
            if off > LEAST_REGULAR * usual {
                return Err(irregular(
                    format!("slices {:.3} to {:.3} mm apart; slice {} is {off:.3} mm off the line", sorted[0], sorted[count - 1], k + 1),
                    "slices at equal distances on a line",
                    "reconstruct the scan with equal distances, or resample it to NIfTI first",
                ));
            }
        }
        let along = |from: usize, length: f64| from_fn(|i| self.directions[from + i] * length);
        Ok([along(0, self.spacing[1]), along(3, self.spacing[0]), step])
    }
}

fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: Frame = Frame {
        position: Some([0.0; 3]),
        directions: Some([1.0, 0.0, 0.0, 0.0, 1.0, 0.0]),
        spacing: Some([0.8, 0.7]),
        slope: None,
        intercept: None,
    };

    fn stack(positions: &[[f64; 3]]) -> Stack {
        let mut stack = Stack::of(&FRAME, [4, 4], None).unwrap();
        stack.slices = positions.iter().map(|&position| Slice { file: 0, frame: 0, position, scaling: [1.0, 0.0] }).collect();
        stack.sort();
        stack
    }

    #[test]
    fn slices_are_sorted_by_their_places_and_a_tilt_is_kept() {
        let columns = stack(&[[1.0, 2.0, 9.0], [1.0, 0.0, 3.0], [1.0, 1.0, 6.0]]).columns().unwrap();
        assert_eq!(columns, [[0.7, 0.0, 0.0], [0.0, 0.8, 0.0], [0.0, 1.0, 3.0]]);
        // Rounded to 0.1 mm.
        assert!(stack(&[[0.0, 0.0, 0.0], [0.0, 0.0, 0.8], [0.0, 0.0, 1.5], [0.0, 0.0, 2.3]]).columns().is_ok());
    }

    #[test]
    fn what_is_no_scan_is_told_with_its_place() {
        for (positions, found) in [
            (&[0.0, 3.0, 6.0, 15.0, 18.0][..], "2 slices are missing, the first between [0.0, 0.0, 6.0] and [0.0, 0.0, 15.0] mm"),
            (&[0.0, 3.0, 3.0], "two images at the place [0.0, 0.0, 3.0] mm"),
            (&[0.0, 3.0, 6.0, 10.0], "slices 3.000 to 4.000 mm apart"),
            (&[0.0], "a single slice"),
        ] {
            let positions: Vec<[f64; 3]> = positions.iter().map(|&z| [0.0, 0.0, z]).collect();
            let irregular = stack(&positions).columns().unwrap_err();
            assert!(irregular.found.contains(found), "{irregular:?}");
        }
        let no_place = Frame { position: None, ..FRAME };
        assert!(Stack::of(&no_place, [4, 4], None).unwrap_err().found.contains("Image Position"));
        assert!(Stack::of(&Frame { directions: Some([1.0; 6]), ..FRAME }, [4, 4], None).is_err());
    }
}
