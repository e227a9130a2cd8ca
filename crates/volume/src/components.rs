//! Connected parts of a mask.

use ndarray::Array3;

/// Takes every part of `mask` (voxels above 0) away that has fewer than `least` voxels. Voxels that touch by a face, an
/// edge or a corner belong together.
///
/// Memory grows with the largest part, not with the volume.
pub fn remove_small_parts(mask: &mut Array3<u8>, least: usize) {
    let shape: [usize; 3] = mask.dim().into();
    // A bit that no label has, for voxels that have been visited.
    const SEEN: u8 = 128;
    let mut part = Vec::new();
    for z in 0..shape[2] {
        for y in 0..shape[1] {
            for x in 0..shape[0] {
                if !(1..SEEN).contains(&mask[[x, y, z]]) {
                    continue;
                }
                part.clear();
                part.push([x, y, z]);
                mask[[x, y, z]] |= SEEN;
                let mut next = 0;
                while let Some(&at) = part.get(next) {
                    next += 1;
                    for neighbour in neighbours(at, shape) {
                        if (1..SEEN).contains(&mask[neighbour]) {
                            mask[neighbour] |= SEEN;
                            part.push(neighbour);
                        }
                    }
                }
                if part.len() < least {
                    part.iter().for_each(|&at| mask[at] = 0);
                }
            }
        }
    }
    mask.mapv_inplace(|value| value & !SEEN);
}

/// The voxels around `at`, itself among them, that lie in a volume of `shape`.
fn neighbours(at: [usize; 3], shape: [usize; 3]) -> impl Iterator<Item = [usize; 3]> {
    let near = |axis: usize| at[axis].saturating_sub(1)..(at[axis] + 2).min(shape[axis]);
    let (xs, ys, zs) = (near(0), near(1), near(2));
    zs.flat_map(move |z| {
        let xs = xs.clone();
        ys.clone().flat_map(move |y| xs.clone().map(move |x| [x, y, z]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{ShapeBuilder, s};

    #[test]
    fn parts_go_by_their_size_and_corners_connect() {
        let mut mask = Array3::zeros((9, 8, 7).f());
        mask.slice_mut(s![0..2, 0..2, 0..2]).fill(1); // 8 voxels,
        mask[[2, 2, 2]] = 1; // and a ninth that touches a corner of them
        mask.slice_mut(s![5..9, 6..8, 6]).fill(3); // 8 voxels at the far border
        mask[[5, 0, 0]] = 1;
        let with = |least| {
            let mut cleaned = mask.clone();
            remove_small_parts(&mut cleaned, least);
            cleaned
        };
        assert_eq!(with(0), mask);
        assert_eq!(with(1), mask, "a single voxel has one");
        let mut expected = mask.clone();
        expected[[5, 0, 0]] = 0;
        assert_eq!(with(8), expected);
        expected.slice_mut(s![5..9, 6..8, 6]).fill(0);
        assert_eq!(with(9), expected);
        assert_eq!(with(10).sum(), 0);
    }
}
