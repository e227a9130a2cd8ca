//! Rows of tiles out of tensors with the channels outermost.

use super::{IN, OUT, PLACES, TOGETHER};
use crate::cpu::Size3;
use crate::cpu::isa::{Isa, Simd};
use crate::cpu::lanes::transforms::{Four, Scheme, both_sides};
use crate::cpu::transpose::transpose_row;

/// Some channels of a tensor `(batch, channels, depth, height, width)`.
#[derive(Clone, Copy)]
pub(super) struct Planes<'a> {
    values: &'a [f32],
    /// Channels of the tensor.
    all: usize,
    first: usize,
    channels: usize,
    size: Size3,
}

/// Where a row of tiles begins: the image, the plane, which may lie outside, and the first line of its results.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) image: usize,
    pub(super) plane: Option<usize>,
    pub(super) top: usize,
}

/// Where the tiles of a row go: `[place][tile][channel]`, the places so many floats apart.
#[derive(Clone, Copy)]
pub(super) struct Target {
    pub(super) to: *mut f32,
    pub(super) apart: usize,
}

/// What is transformed: tiles of N×N values. A type rather than a value, so that the zeros and ones of the matrix cost nothing.
pub(super) trait Tile<const N: usize> {
    const MATRIX: [[f32; N]; IN];
}

/// What a convolution reads, with a border around the results of the tile.
pub(super) struct Input;

impl Tile<IN> for Input {
    const MATRIX: [[f32; IN]; IN] = <Four as Scheme<OUT, IN>>::INPUT;
}

/// The gradient of what it writes.
pub(super) struct Gradient;

impl Tile<OUT> for Gradient {
    const MATRIX: [[f32; OUT]; IN] = transposed(&<Four as Scheme<OUT, IN>>::OUTPUT);
}

pub(super) const fn transposed<const M: usize, const N: usize>(matrix: &[[f32; N]; M]) -> [[f32; M]; N] {
    let mut to = [[0.0; M]; N];
    let mut at = 0;
    while at < M * N {
        to[at % N][at / N] = matrix[at / N][at % N];
        at += 1;
    }
    to
}

#[allow(unsafe_code)]
impl<'a> Planes<'a> {
    pub(super) fn new(values: &'a [f32], channels: usize, size: Size3) -> Self {
        Self { values, all: channels, first: 0, channels, size }
    }

    /// `channels` of them, or as many as there are, from `first` on.
    pub(super) fn part(self, first: usize, channels: usize) -> Self {
        Self { first: self.first + first, channels: channels.min(self.channels - first), ..self }
    }

    pub(super) fn channels(&self) -> usize {
        self.channels
    }

    /// Floats from one position's channels to the next's.
    pub(super) fn step(&self) -> usize {
        self.channels.next_multiple_of(TOGETHER)
    }

    /// Transforms a row of tiles of N×N values, which overlap by N - OUT. `lines` is kept for the next row.
    ///
    /// # Safety
    /// The instructions of `isa` and of `S` exist; the target holds all tiles of the row in every place.
    #[inline(always)]
    pub(super) unsafe fn transform<S: Simd, T: Tile<N>, const N: usize>(
        &self,
        isa: Isa,
        place: Place,
        lines: &mut Vec<f32>,
        target: Target,
    ) {
        let [_, height, width] = self.size;
        let (step, columns) = (self.step(), width.div_ceil(OUT));
        let Some(plane) = place.plane else {
            for at in 0..PLACES {
                // SAFETY: the target holds the row in every place.
                unsafe { target.to.add(at * target.apart).write_bytes(0, columns * step) };
            }
            return;
        };
        let border = (N - OUT) / 2;
        let first = place.top.saturating_sub(border);
        let present = first..(place.top + N - border).min(height);
        let rows = first + border - place.top..present.end + border - place.top;
        self.read(isa, place.image, plane, present, lines);
        for column in 0..columns {
            let left = column * OUT;
            let inside = border.saturating_sub(left)..N.min(width + border - left);
            let whole = rows.len() == N && inside.len() == N;
            for lane in (0..step).step_by(S::LANES) {
                // SAFETY: `rows` and `inside` are the part of the tile that lies in the lines read; a tile with its zeros is N×N
                // vectors. The target holds the tile in every place.
                unsafe {
                    let mut edge: [[S; N]; N];
                    let corner = lines.as_ptr().wrapping_add((left * step + lane).wrapping_sub(border * step));
                    let at = |i: usize, j: usize| corner.wrapping_add(((i - rows.start) * width + j) * step);
                    let (from, line, position) = if whole {
                        (corner, width * step, step)
                    } else {
                        edge = [[S::zero(); N]; N];
                        for i in rows.clone() {
                            for j in inside.clone() {
                                edge[i][j] = S::load(at(i, j));
                            }
                        }
                        (edge.as_ptr().cast::<f32>(), N * S::LANES, S::LANES)
                    };
                    let mut values = [[S::zero(); N]; N];
                    for i in 0..N {
                        for j in 0..N {
                            values[i][j] = S::load(from.add(i * line + j * position));
                        }
                    }
                    let transformed = both_sides(&T::MATRIX, &values);
                    let to = target.to.add(column * step + lane);
                    for i in 0..IN {
                        for j in 0..IN {
                            transformed[i][j].store(to.add((i * IN + j) * target.apart));
                        }
                    }
                }
            }
        }
    }

    /// Turns lines into `[line][position][channel]`.
    fn read(&self, isa: Isa, image: usize, plane: usize, lines: std::ops::Range<usize>, to: &mut Vec<f32>) {
        let [depth, height, width] = self.size;
        let volume = depth * height * width;
        let from = &self.values[(image * self.all + self.first) * volume + (plane * height + lines.start) * width..];
        grow(to, IN * width * self.step());
        let to = &mut to[..lines.len() * width * self.step()];
        // SAFETY: safe code but for the instruction set.
        unsafe { transpose_row(isa, from, volume, self.channels, to, self.step()) };
    }
}

/// Makes room for `len` values.
pub(super) fn grow(values: &mut Vec<f32>, len: usize) {
    if values.len() < len {
        *values = vec![0.0; len];
    }
}
