//! Which tokens see each other: windows over a grid, shifted or not, and what becomes of tokens that come together there
//! without being neighbours.

use candle_core::{Device, Result, Tensor};
use ops::{NO_ROW, RowMap};

use crate::unetr_blocks::volume;

/// Added to the scores of tokens that are no neighbours, as in MONAI.
const APART: f32 = -100.0;

/// The windows of one stage: where its tokens go, and who sees whom.
pub(crate) struct Windows {
    /// From the tokens of a batch to those of its windows, window after window, with zeros where windows reach beyond the grid.
    pub(crate) cut: RowMap,
    /// Windows of one image.
    pub(crate) count: usize,
    /// Tokens of a window.
    pub(crate) tokens: usize,
    /// `(count, tokens, tokens)`, when windows are shifted.
    pub(crate) mask: Option<Tensor>,
    /// For each pair of tokens the row of the table of biases, `(tokens * tokens)`.
    pub(crate) pairs: Tensor,
}

impl Windows {
    /// Over `size` tokens along each axis of `batch` images. An axis no longer than a window has one window and no shift.
    pub(crate) fn new(batch: usize, size: [usize; 3], window: usize, shifted: bool, device: &Device) -> Result<Self> {
        let side = size.map(|n| n.min(window));
        let shift = size.map(|n| if shifted && n > window { window / 2 } else { 0 });
        let padded: [usize; 3] = std::array::from_fn(|axis| size[axis].next_multiple_of(side[axis]));
        let windows: [usize; 3] = std::array::from_fn(|axis| padded[axis] / side[axis]);
        let mut places = Vec::with_capacity(volume(padded));
        let mut regions = Vec::with_capacity(volume(padded));
        for corner in cells(windows) {
            for within in cells(side) {
                let place: [usize; 3] = std::array::from_fn(|axis| corner[axis] * side[axis] + within[axis]);
                let source: [usize; 3] = std::array::from_fn(|axis| (place[axis] + shift[axis]) % padded[axis]);
                let inside = (0..3).all(|axis| source[axis] < size[axis]);
                places.push(inside.then(|| (source[0] * size[1] + source[1]) * size[2] + source[2]));
                regions.push((0..3).fold(0u8, |id, axis| 3 * id + region(place[axis], padded[axis], side[axis], shift[axis])));
            }
        }
        let of_image = |image: usize| places.iter().map(move |place| place.map_or(NO_ROW, |place| (image * volume(size) + place) as u32));
        let (count, tokens) = (volume(windows), volume(side));
        let mask = if shift == [0; 3] { None } else { Some(mask(&regions, count, tokens, device)?) };
        Ok(Self {
            cut: RowMap::new((0..batch).flat_map(of_image).collect(), batch * volume(size))?,
            count: batch * count,
            tokens,
            mask,
            pairs: Tensor::from_vec(pairs(window, tokens), tokens * tokens, device)?,
        })
    }
}

/// Every cell of a grid, the last axis fastest.
fn cells(size: [usize; 3]) -> impl Iterator<Item = [usize; 3]> {
    let [a, b, c] = size;
    (0..a).flat_map(move |i| (0..b).flat_map(move |j| (0..c).map(move |k| [i, j, k])))
}

/// Which part of an axis a place of the shifted grid lies in: tokens of different parts are no neighbours.
fn region(place: usize, length: usize, side: usize, shift: usize) -> u8 {
    match place {
        _ if shift == 0 => 0,
        _ if place < length - side => 0,
        _ if place < length - shift => 1,
        _ => 2,
    }
}

fn mask(regions: &[u8], count: usize, tokens: usize, device: &Device) -> Result<Tensor> {
    let mut mask = vec![0.0; count * tokens * tokens];
    for (mask, regions) in mask.chunks_exact_mut(tokens * tokens).zip(regions.chunks_exact(tokens)) {
        if regions.iter().all(|region| *region == regions[0]) {
            continue;
        }
        for (row, region) in mask.chunks_exact_mut(tokens).zip(regions) {
            for (value, other) in row.iter_mut().zip(regions) {
                *value = if region == other { 0.0 } else { APART };
            }
        }
    }
    Tensor::from_vec(mask, (count, tokens, tokens), device)
}

/// The rows of the table for the first `tokens` of a whole window, which is also what MONAI takes for a smaller window,
/// whose tokens lie elsewhere.
fn pairs(window: usize, tokens: usize) -> Vec<u32> {
    let span = 2 * window - 1;
    let places: Vec<[usize; 3]> = cells([window; 3]).take(tokens).collect();
    let row = |a: &[usize; 3], b: &[usize; 3]| (0..3).fold(0, |row, axis| row * span + (a[axis] + window - 1 - b[axis])) as u32;
    places.iter().flat_map(|a| places.iter().map(move |b| row(a, b))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(size: [usize; 3], window: usize, shifted: bool) -> Windows {
        Windows::new(2, size, window, shifted, &Device::Cpu).unwrap()
    }

    #[test]
    fn every_token_lies_in_one_window_and_comes_back() {
        for (size, window, shifted) in [([4, 6, 8], 2, false), ([5, 7, 3], 3, true), ([2, 9, 4], 4, true)] {
            let windows = windows(size, window, shifted);
            assert_eq!(windows.cut.targets(), windows.count * windows.tokens);
            let x = Tensor::arange(1f32, 1.0 + windows.cut.sources() as f32, &Device::Cpu).unwrap().reshape(((), 1)).unwrap();
            let cut = ops::rearrange_rows(&x, &windows.cut).unwrap();
            let back = ops::rearrange_rows(&cut, &windows.cut.inverse()).unwrap();
            assert_eq!(back.to_vec2::<f32>().unwrap(), x.to_vec2::<f32>().unwrap(), "{size:?}");
        }
    }

    #[test]
    fn shifted_windows_part_what_the_border_brings_together() {
        let windows = windows([4, 1, 1], 2, true);
        // 0 1 2 3 becomes [1 2] [3 0], of which 3 and 0 lie at opposite ends.
        let masks = windows.mask.unwrap().to_vec3::<f32>().unwrap();
        assert_eq!(masks, [[[0.0, 0.0], [0.0, 0.0]], [[0.0, APART], [APART, 0.0]]]);
    }

    #[test]
    fn equal_offsets_share_a_bias() {
        let rows = pairs(3, 27);
        let row = |a: usize, b: usize| rows[a * 27 + b];
        assert_eq!(row(0, 0), row(26, 26));
        assert_eq!(row(0, 1), row(12, 13));
        assert_ne!(row(0, 1), row(1, 0));
        assert_eq!(rows.iter().max(), Some(&124), "the table has 5³ rows");
    }
}
