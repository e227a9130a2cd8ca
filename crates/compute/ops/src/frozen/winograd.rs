//! 3×3 and 3×3×3 convolutions with fewer multiplications (Winograd; Lavin and Gray, 2016).
//!
//! A tile of `OUT × OUT` results needs `IN × IN` products per pair of channels instead of `9 · OUT²`: 16 instead of 36 for
//! `OUT` = 2, and 36 instead of 144 for `OUT` = 4, between sums over tiles of input and output that cost little when there
//! are many channels. The larger tile multiplies rounding errors, which `f32` can afford and `bf16` cannot.
//!
//! In volumes, tiles are planes: products are summed over the three planes of the kernel, and a task that goes along the depth
//! transforms every plane of its input once.
//!
//! A task reads the weights of all places once, so it takes tiles of as many rows as its caches hold: of a small map with many
//! channels the weights are the larger operand by far.

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::map::{Blank, Channels, Map};
use super::norm::{Moments, Part};
use super::packed::{Block, Packed};
use super::sums::LaneSums;
use crate::cpu::isa::Simd;
use crate::cpu::lanes::arithmetic::{Element, Lane, Work};
use crate::cpu::lanes::rows::{BEYOND, Places, multiply_places};
use crate::cpu::lanes::transforms::{Four, Scheme, Two, both_sides};
use crate::cpu::{Shared, Size3};
use crate::tensor::volumes;

/// Bytes of transformed input that a task holds: a quarter of a second-level cache.
const TILES_BYTES: usize = 256 << 10;
/// Tiles that one task takes together even so.
const FEW_TILES: usize = 32;
/// Planes of a task at most.
const PLANES: usize = 16;
/// Tasks wanted of a small volume: its planes are shared out until there are so many.
const TASKS: usize = 4;

/// Transformed weights of a convolution with a kernel of 3×3, or 3×3×3.
pub(super) struct Winograd<E: Element> {
    packed: Packed<E>,
    /// Planes of the kernel.
    depth: usize,
}

#[allow(unsafe_code)]
impl<E: Element> Winograd<E> {
    /// Transforms and packs `weight` `(co, ci, 3, 3)` or `(co, ci, 3, 3, 3)` for maps of the given channels.
    pub(super) fn new(weight: &Tensor, sources: &[Channels]) -> Result<Self> {
        let (out_channels, in_channels, [depth, ..]) = volumes("winograd", weight.dims())?;
        let values = weight.flatten_all()?.to_vec1::<f32>()?;
        let packed = match E::GROUP {
            1 => pack::<E, Four, 4, 6>(&values, [out_channels, in_channels, depth], sources),
            _ => pack::<E, Two, 2, 4>(&values, [out_channels, in_channels, depth], sources),
        };
        Ok(Self { packed, depth })
    }

    /// The convolution of maps that fit, without bias, and its moments.
    pub(super) fn run(&self, sources: &[&Map<E>]) -> (Map<E::Raw>, Moments) {
        match E::GROUP {
            1 => self.run_tiles::<Four, 4, 6>(sources),
            _ => self.run_tiles::<Two, 2, 4>(sources),
        }
    }

    fn run_tiles<S: Scheme<OUT, IN>, const OUT: usize, const IN: usize>(&self, sources: &[&Map<E>]) -> (Map<E::Raw>, Moments) {
        let size = sources[0].size();
        let mut y = Blank::<E::Raw>::new(self.packed.channels, size, sources[0].border());
        let out = Shared(y.as_mut_ptr());
        let channels: usize = sources.iter().map(|source| source.step()).sum();
        let cut = self.cut::<OUT, IN>(size, channels);
        let buffers = || {
            let inputs = vec![E::default(); (IN * IN * cut.tiles + BEYOND) * channels + SLACK];
            (vec![inputs; self.depth], vec![0f32; IN * IN * cut.tiles * E::block(self.packed.path)])
        };
        let moments: Vec<Part> = (0..cut.layers * cut.stretches * cut.groups)
            .into_par_iter()
            .map_init(buffers, |(inputs, products), task| {
                let mut moments = Part::new(self.packed.channels.step);
                let (layer, stretch) = (task / cut.groups / cut.stretches, task / cut.groups % cut.stretches);
                let first = stretch * cut.tiles;
                let work = Tiles::<_, S, OUT, IN> {
                    weights: self,
                    sources,
                    y: &y,
                    out,
                    channels,
                    planes: layer * cut.planes..((layer + 1) * cut.planes).min(size[0]),
                    place: Place { first, tiles: cut.tiles.min(cut.columns * cut.rows - first), columns: cut.columns },
                    blocks: task % cut.groups * cut.blocks..(task % cut.groups + 1) * cut.blocks,
                    inputs,
                    products,
                    moments: &mut moments,
                    scheme: std::marker::PhantomData::<S>,
                };
                // SAFETY: sources and y have one size, tasks write tiles and channels of their own, and the buffers hold a stretch.
                unsafe { E::dispatch(self.packed.path, work) };
                moments
            })
            .collect();
        // SAFETY: the tasks have written all lanes of all tiles.
        (unsafe { y.assume_written() }, Moments::add_up(&moments, size.iter().product()))
    }

    fn cut<const OUT: usize, const IN: usize>(&self, size: Size3, channels: usize) -> Cut {
        let (rows, columns) = (size[1].div_ceil(OUT), size[2].div_ceil(OUT));
        let bytes = IN * IN * channels * size_of::<E>() * self.depth;
        let tiles = match rows * columns {
            few @ ..=FEW_TILES => few,
            // A multiple of a register tile's positions.
            _ => (TILES_BYTES / bytes).next_multiple_of(12).clamp(12, 96),
        };
        let stretches = (rows * columns).div_ceil(tiles);
        let planes = (size[0] * stretches / TASKS).clamp(2, PLANES);
        let layers = size[0].div_ceil(planes);
        let all = self.packed.blocks().count();
        let blocks = all.div_ceil(rayon::current_num_threads().div_ceil(layers * stretches).min(all));
        Cut { rows, columns, tiles, stretches, planes, layers, blocks, groups: all.div_ceil(blocks) }
    }
}

/// How a map is cut into tasks: layers of planes, and in each the tiles in the order of their rows, in stretches. These follow
/// from the shape alone, as sums do that are taken within a task. Where there are fewer of them than threads, the channels of
/// the output are cut too, in groups of blocks, and no sum goes across these.
struct Cut {
    rows: usize,
    columns: usize,
    tiles: usize,
    stretches: usize,
    planes: usize,
    layers: usize,
    blocks: usize,
    groups: usize,
}

/// Elements that a group may reach beyond the last channel.
const SLACK: usize = 64;

/// Transformed weights: for every place in the tile one run per plane of the kernel, over the channels of all maps.
fn pack<E: Element, S: Scheme<OUT, IN>, const OUT: usize, const IN: usize>(
    values: &[f32],
    [out_channels, in_channels, depth]: [usize; 3],
    sources: &[Channels],
) -> Packed<E> {
    // Where each stored channel comes from; the channels that fill up a vector come from nowhere.
    let mut origins = Vec::new();
    for channels in sources {
        let first = origins.iter().flatten().count();
        origins.extend((0..channels.step).map(|channel| (channel < channels.count).then_some(first + channel)));
    }
    let runs = vec![origins.len(); IN * IN * depth];
    Packed::new(Channels::whole(out_channels), 1, &runs, |out, run, channel| {
        let Some(channel) = origins[channel] else { return 0.0 };
        let (place, plane) = (run / depth, run % depth);
        let filter = &values[((out * in_channels + channel) * depth + plane) * 9..][..9];
        let (down, across) = (S::WEIGHT[place / IN], S::WEIGHT[place % IN]);
        let sum = |i: usize| -> f64 { (0..3).map(|j| across[j] * f64::from(filter[3 * i + j])).sum() };
        (0..3).map(|i| down[i] * sum(i)).sum::<f64>() as f32
    })
}

/// Some tiles of a plane, the rows of `columns` tiles being one behind the other.
#[derive(Clone, Copy)]
struct Place {
    first: usize,
    tiles: usize,
    columns: usize,
}

impl Place {
    /// Row and column of a tile.
    fn of(self, tile: usize) -> [usize; 2] {
        [(self.first + tile) / self.columns, (self.first + tile) % self.columns]
    }
}

/// The same tiles of some planes.
struct Tiles<'a, E: Element, S, const OUT: usize, const IN: usize> {
    weights: &'a Winograd<E>,
    sources: &'a [&'a Map<E>],
    y: &'a Blank<E::Raw>,
    out: Shared<E::Raw>,
    /// Stored channels of all sources.
    channels: usize,
    planes: std::ops::Range<usize>,
    place: Place,
    /// Of output channels.
    blocks: std::ops::Range<usize>,
    /// `[place][tile][channel]` of as many planes as the kernel has, in turn.
    inputs: &'a mut [Vec<E>],
    /// `[place][tile][lane]`
    products: &'a mut [f32],
    moments: &'a mut Part,
    scheme: std::marker::PhantomData<S>,
}

#[allow(unsafe_code)]
impl<E: Element, S: Scheme<OUT, IN>, const OUT: usize, const IN: usize> Work<E> for Tiles<'_, E, S, OUT, IN> {
    #[inline(always)]
    unsafe fn run<L: Lane<Element = E>>(mut self) {
        let depth = self.weights.depth;
        for ahead in self.planes.start..self.planes.end + depth - 1 {
            // SAFETY: the conditions that `run_tiles` vouches for; the instructions of L exist.
            unsafe {
                self.transform_input::<L>(ahead);
                if ahead + 1 >= self.planes.start + depth {
                    self.multiply::<L>(ahead + 1 - depth);
                }
            }
        }
    }
}

#[allow(unsafe_code)]
impl<E: Element, S: Scheme<OUT, IN>, const OUT: usize, const IN: usize> Tiles<'_, E, S, OUT, IN> {
    /// All products of output plane `d`, whose input planes, `d` and those behind it when the border is counted, are there.
    #[inline(always)]
    unsafe fn multiply<L: Lane<Element = E>>(&mut self, d: usize) {
        let (weights, tiles) = (self.weights, self.place.tiles);
        for Block { first, lanes, weights: values } in weights.packed.blocks().skip(self.blocks.start).take(self.blocks.len()) {
            let input = Places { planes: self.inputs, first: d, tiles, step: self.channels, groups: weights.packed.groups(0) };
            // SAFETY: the inputs hold all places of all tiles and some elements more; the instructions exist.
            unsafe { multiply_places::<L>(&input, IN * IN, values, lanes, self.products) };
            // SAFETY: the products of the block are complete.
            unsafe { self.transform_output::<L>(d, first, lanes) };
        }
    }

    /// Transforms the tiles of plane `d` of the maps with their borders.
    #[inline(always)]
    unsafe fn transform_input<L: Lane<Element = E>>(&mut self, d: usize) {
        let plane = self.place.tiles * self.channels;
        let inputs = &mut self.inputs[d % self.weights.depth];
        for tile in 0..self.place.tiles {
            let [row, column] = self.place.of(tile);
            let mut to = tile * self.channels;
            for source in self.sources {
                let step = source.step();
                let line = source.padded()[2] * step;
                // The tile's first position is one up and one to the left: the border's for the first tile.
                let corner = source.place([d, row * OUT, column * OUT]);
                for lane in (0..step).step_by(L::Sums::LANES) {
                    // SAFETY: rows that the map does not have are not read, and positions beyond a row are those of the next
                    // one or of the tail; they take no part in results that are kept. `to` is the tile's place.
                    unsafe {
                        let mut values = [[L::Sums::zero(); IN]; IN];
                        for i in 0..IN.min(source.padded()[1] - row * OUT) {
                            let from = source.values()[corner + i * line + lane..].as_ptr();
                            for j in 0..IN {
                                values[i][j] = L::widen(from.add(j * step));
                            }
                        }
                        let transformed = both_sides(&S::INPUT, &values);
                        let to = inputs[to + lane..].as_mut_ptr();
                        for i in 0..IN {
                            for j in 0..IN {
                                L::narrow(transformed[i][j], to.add((i * IN + j) * plane));
                            }
                        }
                    }
                }
                to += step;
            }
        }
    }

    #[inline(always)]
    unsafe fn transform_output<L: Lane<Element = E>>(&mut self, d: usize, first: usize, lanes: usize) {
        let [_, height, width] = self.y.size();
        let plane = self.place.tiles * lanes;
        for lane in (0..lanes).step_by(L::Sums::LANES) {
            let mut sums = LaneSums::<L::Sums>::new();
            for tile in 0..self.place.tiles {
                let [row, column] = self.place.of(tile);
                // SAFETY: products hold `lanes` lanes of all tiles; positions within the size are this task's own.
                unsafe {
                    let mut products = [[L::Sums::zero(); IN]; IN];
                    let from = self.products[tile * lanes + lane..].as_ptr();
                    for i in 0..IN {
                        for j in 0..IN {
                            products[i][j] = L::Sums::load(from.add((i * IN + j) * plane));
                        }
                    }
                    let results = both_sides(&S::OUTPUT, &products);
                    for i in 0..OUT {
                        for j in 0..OUT {
                            let (h, w) = (row * OUT + i, column * OUT + j);
                            if h < height && w < width {
                                let at = self.y.row([d, h]) + w * self.y.step() + first + lane;
                                L::keep(results[i][j], self.out.get().add(at));
                                sums.add(results[i][j]);
                            }
                        }
                    }
                }
            }
            // SAFETY: the instructions exist.
            unsafe { sums.add_to(&mut self.moments.sums[2 * (first + lane)..]) };
        }
    }
}
