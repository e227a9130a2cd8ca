//! Register tiles that run over rows of positions.
//!
//! A tile holds a dozen positions by two vectors of output channels. For every group of input values it reads two
//! vectors of weights and spreads one group per position over all lanes: half a load per multiplication.

use super::arithmetic::{Kernels, Lane};
use crate::cpu::isa::Simd;
use crate::cpu::multiply::COLUMNS;

/// Values that belong to one kernel row: where they start for the row's first position, how far the next position's are,
/// and how many groups they are.
#[derive(Clone, Copy)]
pub struct Run<E> {
    pub(crate) from: *const E,
    pub(crate) step: usize,
    pub(crate) groups: usize,
}

/// What takes the sums of a tile.
#[allow(unsafe_code)]
pub trait Sink<L: Lane> {
    /// The sums of position `at` and those behind it, `V` vectors each. They may be overwritten.
    ///
    /// # Safety
    /// Called where the instructions of `L` exist.
    unsafe fn take<const V: usize>(&mut self, at: usize, sums: &mut [[L::Sums; V]]);
}

/// Positions beyond a row that may be read, by the largest tile: none beyond a multiple of 16.
pub(crate) const BEYOND: usize = 32;

/// Vectors that multiply groups of elements.
///
/// # Safety
/// As of [`Lane`].
#[allow(unsafe_code)]
pub(crate) trait Dot: Lane {
    /// A group of elements per lane.
    type Groups: Copy;
    /// Whether there are 32 registers rather than 16.
    const MANY_REGISTERS: bool;

    /// Reads a group for every lane.
    unsafe fn groups(from: *const Self::Element) -> Self::Groups;
    /// Reads one group for all lanes.
    unsafe fn spread(from: *const Self::Element) -> Self::Groups;
    /// `sums` plus the products of `a` and `b`, summed within each group.
    unsafe fn dot(sums: Self::Sums, a: Self::Groups, b: Self::Groups) -> Self::Sums;
    /// The sums as numbers, where they were whole ones.
    unsafe fn finish(sums: Self::Sums) -> Self::Sums {
        sums
    }
}

/// See [`Lane::row`].
///
/// # Safety
/// As there.
#[inline(always)]
#[allow(unsafe_code)]
pub(crate) unsafe fn by_vectors<L: Dot>(
    runs: &[Run<L::Element>],
    weights: &[L::Element],
    lanes: usize,
    width: usize,
    sink: &mut impl Sink<L>,
) {
    // SAFETY: the same conditions.
    unsafe { if lanes > L::Sums::LANES { row_of::<L, 2>(runs, weights, width, sink) } else { row_of::<L, 1>(runs, weights, width, sink) } }
}

#[inline(always)]
#[allow(unsafe_code)]
unsafe fn row_of<L: Dot, const V: usize>(runs: &[Run<L::Element>], weights: &[L::Element], width: usize, sink: &mut impl Sink<L>) {
    let weights = weights.as_ptr();
    let mut at = 0;
    while at < width {
        let left = width - at;
        // SAFETY: the conditions of the caller; a tile reaches at most three positions beyond the row.
        at += unsafe {
            match (L::MANY_REGISTERS, left) {
                (true, 9..) => tile::<L, 12, V>(runs, weights, at, left, sink),
                (true, 5..=8) => tile::<L, 8, V>(runs, weights, at, left, sink),
                (false, 5..) => tile::<L, 6, V>(runs, weights, at, left, sink),
                _ => tile::<L, 4, V>(runs, weights, at, left, sink),
            }
        };
    }
}

/// One tile of `M` positions; returns how many of them count.
#[inline(always)]
#[allow(unsafe_code)]
unsafe fn tile<L: Dot, const M: usize, const V: usize>(
    runs: &[Run<L::Element>],
    mut weights: *const L::Element,
    at: usize,
    left: usize,
    sink: &mut impl Sink<L>,
) -> usize {
    // SAFETY: the conditions of the caller.
    unsafe {
        let group = L::Element::GROUP;
        let vector = L::Sums::LANES * group;
        let mut sums = [[L::Sums::zero(); V]; M];
        for run in runs {
            // Every third position has a pointer of its own; the two behind it are reached by the instruction's index.
            let first = run.from.add(at * run.step);
            let mut from: [_; 4] = std::array::from_fn(|third| first.add(3 * third * run.step));
            for _ in 0..run.groups {
                let weight: [L::Groups; V] = std::array::from_fn(|v| L::groups(weights.add(v * vector)));
                for (m, sums) in sums.iter_mut().enumerate() {
                    let value = L::spread(from[m / 3].add(m % 3 * run.step));
                    for (sum, &weight) in sums.iter_mut().zip(&weight) {
                        *sum = L::dot(*sum, value, weight);
                    }
                }
                from = from.map(|from| from.add(group));
                weights = weights.add(V * vector);
            }
        }
        // By way of memory, so that nothing but these stores ties the sums above to places: they stay in registers.
        let mut finished = [std::mem::MaybeUninit::<[L::Sums; V]>::uninit(); M];
        for (finished, sums) in finished.iter_mut().zip(sums) {
            finished.write(sums.map(|sum| L::finish(sum)));
        }
        let valid = M.min(left);
        sink.take::<V>(at, std::slice::from_raw_parts_mut(finished.as_mut_ptr().cast(), valid));
        valid
    }
}

/// Transformed tiles, `[place][tile][element]` of each of some planes that are kept in turn.
pub(crate) struct Places<'a, E> {
    pub(crate) planes: &'a [Vec<E>],
    /// The plane that the first of the kernel's multiplies.
    pub(crate) first: usize,
    pub(crate) tiles: usize,
    /// From one tile's elements to the next one's.
    pub(crate) step: usize,
    /// Groups of a tile.
    pub(crate) groups: usize,
}

/// The products of all places for a block of `lanes`: `[place][tile][lane]`, summed over the planes of the kernel.
///
/// # Safety
/// The instructions of `L` exist, and the planes hold all places of all tiles and [`BEYOND`] more tiles.
#[inline(always)]
#[allow(unsafe_code)]
pub(crate) unsafe fn multiply_places<L: Lane>(
    input: &Places<'_, L::Element>,
    places: usize,
    weights: &[L::Element],
    lanes: usize,
    products: &mut [f32],
) {
    let &Places { planes, first, tiles, step, groups } = input;
    let per_place = weights.len() / places;
    for place in 0..places {
        let mut runs = [Run { from: std::ptr::null(), step, groups }; 3];
        for (plane, run) in runs[..planes.len()].iter_mut().enumerate() {
            run.from = planes[(first + plane) % planes.len()][place * tiles * step..].as_ptr();
        }
        let to = products[place * tiles * lanes..][..tiles * lanes].as_mut_ptr();
        // SAFETY: the runs hold all tiles and some more, the products the lanes of all tiles.
        unsafe { L::row(&runs[..planes.len()], &weights[place * per_place..][..per_place], lanes, tiles, &mut Products { to, lanes }) };
    }
}

/// A bias, or none, for whole vectors of any instruction set.
pub(crate) fn bias_of_lanes(bias: Option<&[f32]>, channels: usize) -> Vec<f32> {
    let mut lanes = vec![0.0; channels.next_multiple_of(COLUMNS)];
    if let Some(bias) = bias {
        lanes[..channels].copy_from_slice(bias);
    }
    lanes
}

/// Keeps sums as they are: `[position][lane]`.
pub(crate) struct Products {
    pub(crate) to: *mut f32,
    pub(crate) lanes: usize,
}

#[allow(unsafe_code)]
impl<L: Lane> Sink<L> for Products {
    #[inline(always)]
    unsafe fn take<const V: usize>(&mut self, at: usize, sums: &mut [[L::Sums; V]]) {
        for (m, sums) in sums.iter().enumerate() {
            for v in 0..V {
                // SAFETY: the position is one of the tiles.
                unsafe { sums[v].store(self.to.add((at + m) * self.lanes + v * L::Sums::LANES)) };
            }
        }
    }
}

/// Keeps sums with what is added to them, a vector of lanes for every position: `[position][lane]`.
pub(crate) struct Added {
    pub(crate) to: *mut f32,
    pub(crate) lanes: usize,
    /// What is added, which may be what lies at `to`.
    pub(crate) from: *const f32,
    /// From one position's to the next one's; 0 if all have the same.
    pub(crate) step: usize,
}

#[allow(unsafe_code)]
impl<L: Lane> Sink<L> for Added {
    #[inline(always)]
    unsafe fn take<const V: usize>(&mut self, at: usize, sums: &mut [[L::Sums; V]]) {
        for (at, sums) in (at..).zip(sums) {
            for v in 0..V {
                let lane = v * L::Sums::LANES;
                // SAFETY: the position is one of the row, and so are its lanes in both places.
                unsafe { sums[v].add(L::Sums::load(self.from.add(at * self.step + lane))).store(self.to.add(at * self.lanes + lane)) };
            }
        }
    }
}
