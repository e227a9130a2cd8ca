//! A label that stands for structures on both sides of the body, cut in two: `kidneys` become a right and a left one.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::Grid;
use crate::nifti::{LabelReader, NiftiError};

/// Where a label is cut in two along a sagittal plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cut {
    /// The label in the file, which stays that of the right part.
    pub value: u8,
    /// The label that the left part gets.
    pub left: u8,
    /// The plane, in mm of world coordinates (RAS, which grow to the right): what lies below it is left.
    pub x_mm: i32,
}

/// How a plane was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Found {
    /// There are two parts with a gap between them, or a waist.
    Between,
    /// There is one part, and it lies left of the middle of the scan.
    OnlyLeft,
    /// There is one part, and it lies right of the middle of the scan.
    OnlyRight,
}

/// What lies outside these shares of a label's voxels says nothing of where its parts are.
const TAILS: f64 = 0.005;
/// At least so many mm without voxels part a left structure from a right one, or two voxels where these are thicker.
const GAP_MM: usize = 10;
/// A structure that is wider is two that touch, such as lungs or a horseshoe kidney; a kidney is 5 to 8 cm wide.
const WIDEST_MM: usize = 130;

/// Replaces the labels of the left parts in slice `z` of a label map on `grid`; `labels` has x fastest.
pub(crate) fn apply(cuts: &[Cut], grid: &Grid, z: usize, labels: &mut [u8]) {
    if cuts.is_empty() {
        return;
    }
    for (labels, y) in labels.chunks_exact_mut(grid.shape[0].max(1)).zip(0..) {
        for (label, x) in labels.iter_mut().zip(0..) {
            if let Some(cut) = cuts.iter().find(|cut| cut.value == *label)
                && whole_mm(grid, [x, y, z]) < cut.x_mm
            {
                *label = cut.left;
            }
        }
    }
}

/// The world coordinate of a voxel along x, rounded down to a mm.
fn whole_mm(grid: &Grid, voxel: [usize; 3]) -> i32 {
    grid.affine.apply(&voxel.map(|index| index as f64))[0].floor() as i32
}

/// Finds the plane for each of the structures that the label map in a file has: the labels of a structure, each with that of its left
/// part. Reads all of the file, in the memory of a slice.
///
/// The plane lies in the middle of the widest gap between two parts. Without a gap of a centimetre it lies in the waist of a
/// structure that is wider than any one-sided one; a narrower structure is a single part, and whole on its side of the scan's middle.
///
/// # Errors
/// As [`count_labels`](crate::nifti::count_labels).
pub fn find_cuts(path: &Path, structures: &[BTreeMap<u8, u8>]) -> Result<Vec<(Cut, Found)>, NiftiError> {
    let mut reader = LabelReader::open(path)?;
    let grid = reader.header().grid();
    let of_label: [Option<usize>; 256] =
        std::array::from_fn(|label| structures.iter().position(|structure| structure.contains_key(&(label as u8))));
    let mut spreads = vec![BTreeMap::<i32, u64>::new(); structures.len()];
    let (mut slice, mut z) = (Vec::new(), 0);
    while reader.next_slice(&mut slice)? {
        for (at, label) in slice.iter().enumerate() {
            let Some(structure) = of_label[usize::from(*label)] else { continue };
            let x = whole_mm(&grid, [at % grid.shape[0], at / grid.shape[0], z]);
            *spreads[structure].entry(x).or_default() += 1;
        }
        z += 1;
    }
    let middle = grid.affine.apply(&grid.shape.map(|side| (side as f64 - 1.0) / 2.0))[0];
    let widest_voxel = grid.affine.0[0][..3].iter().fold(0.0, |widest: f64, step| widest.max(step.abs()));
    let gap = GAP_MM.max((2.0 * widest_voxel).ceil() as usize);
    let mut cuts = Vec::new();
    for (structure, spread) in structures.iter().zip(&spreads).filter(|(_, spread)| !spread.is_empty()) {
        let (x_mm, found) = plane(spread, middle, gap);
        cuts.extend(structure.iter().map(|(&value, &left)| (Cut { value, left, x_mm }, found)));
    }
    Ok(cuts)
}

/// The plane that parts voxels by their coordinates, of which there is at least one.
fn plane(voxels: &BTreeMap<i32, u64>, middle: f64, gap: usize) -> (i32, Found) {
    let (first, last) = core(voxels);
    let counts: Vec<u64> = (first..=last).map(|x| voxels.get(&x).copied().unwrap_or(0)).collect();
    if let Some(at) = widest_gap(&counts, gap) {
        return (first + at as i32, Found::Between);
    }
    if counts.len() > WIDEST_MM {
        return (first + waist(&counts) as i32, Found::Between);
    }
    let sum: f64 = voxels.iter().map(|(&x, &n)| (f64::from(x) + 0.5) * n as f64).sum();
    let centre = sum / voxels.values().sum::<u64>() as f64;
    let ends = (voxels.keys().next().copied().unwrap_or(0), voxels.keys().next_back().copied().unwrap_or(0));
    if centre < middle { (ends.1 + 1, Found::OnlyLeft) } else { (ends.0, Found::OnlyRight) }
}

/// The first and the last coordinate without the tails.
fn core(voxels: &BTreeMap<i32, u64>) -> (i32, i32) {
    let least = voxels.values().sum::<u64>() as f64 * TAILS;
    (beyond(voxels.iter(), least), beyond(voxels.iter().rev(), least))
}

/// The coordinate at which more than `least` voxels have come.
fn beyond<'a>(mut voxels: impl Iterator<Item = (&'a i32, &'a u64)>, least: f64) -> i32 {
    let mut sum = 0;
    let found = voxels.find_map(|(&x, &n)| {
        sum += n;
        (sum as f64 > least).then_some(x)
    });
    found.unwrap_or(0)
}

/// The middle of the longest run of mm without voxels, if it is at least so long.
fn widest_gap(counts: &[u64], least: usize) -> Option<usize> {
    let mut widest = 0..0;
    let mut start = 0;
    for (at, &n) in counts.iter().enumerate() {
        if n > 0 {
            start = at + 1;
        } else if at + 1 - start > widest.len() {
            widest = start..at + 1;
        }
    }
    (widest.len() >= least).then(|| widest.start + widest.len() / 2)
}

/// Where a centimetre of the middle half holds the fewest voxels.
fn waist(counts: &[u64]) -> usize {
    let reach = GAP_MM / 2;
    let around = |at: usize| counts[at - reach..at + reach].iter().sum::<u64>();
    let quarter = counts.len() / 4;
    (quarter..counts.len() - quarter).min_by_key(|&at| around(at)).unwrap_or(counts.len() / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voxels(parts: &[[i32; 2]]) -> BTreeMap<i32, u64> {
        let mut all = BTreeMap::new();
        for &[first, end] in parts {
            (first..end).for_each(|x| *all.entry(x).or_default() += 100);
        }
        all
    }

    #[test]
    fn two_parts_are_cut_in_the_middle_of_their_gap_wherever_the_scan_ends() {
        for middle in [-200.0, 0.0, 200.0] {
            assert_eq!(plane(&voxels(&[[-80, -20], [30, 90]]), middle, GAP_MM), (5, Found::Between));
        }
    }

    #[test]
    fn a_few_stray_voxels_make_no_second_part() {
        let mut one = voxels(&[[-80, -20]]);
        one.insert(60, 20);
        assert_eq!(plane(&one, 0.0, GAP_MM).1, Found::OnlyLeft);
        assert!(plane(&one, 0.0, GAP_MM).0 > 60, "they go with the others");
    }

    #[test]
    fn a_single_part_lies_whole_on_its_side_of_the_scan() {
        assert_eq!(plane(&voxels(&[[-80, 10]]), 0.0, GAP_MM), (10, Found::OnlyLeft));
        assert_eq!(plane(&voxels(&[[-10, 80]]), 0.0, GAP_MM), (-10, Found::OnlyRight));
    }

    #[test]
    fn parts_that_touch_are_cut_in_their_waist() {
        let mut lungs = voxels(&[[-120, 130]]);
        lungs.range_mut(-2..10).for_each(|(_, n)| *n = 5);
        let (x_mm, found) = plane(&lungs, 0.0, GAP_MM);
        assert_eq!(found, Found::Between);
        assert!((-2..10).contains(&x_mm), "{x_mm}");
    }
}
