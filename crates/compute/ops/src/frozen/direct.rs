//! Convolutions as sums over kernel rows.

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::map::{Blank, Channels, Map};
use super::norm::{Moments, Part};
use super::packed::{Block, Packed};
use super::sums::{LaneExtremes, LaneSums};
use crate::cpu::isa::{Isa, Simd};
use crate::cpu::lanes::arithmetic::{Element, Kernels, Lane, Work};
use crate::cpu::lanes::rows::{Added, Run, Sink};
use crate::cpu::transpose::transpose_row_back;
use crate::cpu::{Shared, Size3, Unwritten, assume_written};
use crate::tensor::volumes;

/// Bytes of input rows that a task goes over for every block of output channels: half a second-level cache.
const ROWS_BYTES: usize = 512 << 10;
/// Rows of a task at most.
const ROWS: usize = 8;
/// Tasks wanted of a small map.
const TASKS: usize = 12;

/// Weights by kernel row, for several maps as if their channels were joined.
pub(crate) struct Direct<E: Element> {
    kernel: Size3,
    stride: Size3,
    packed: Packed<E>,
}

#[allow(unsafe_code)]
impl<E: Element> Direct<E> {
    /// Packs `weight` `(co, ci, kernel..)` for maps of the given channels, ci together, and steps of at most [`STRIDE`].
    pub(super) fn new(weight: &Tensor, sources: &[Channels], stride: Size3) -> Result<Self> {
        let (out_channels, in_channels, kernel) = volumes("frozen conv", weight.dims())?;
        let values = weight.flatten_all()?.to_vec1::<f32>()?;
        let taps: usize = kernel.iter().product();
        let packed = Self::pack(out_channels, kernel, sources, |out, channel, tap| values[(out * in_channels + channel) * taps + tap]);
        Ok(Self { stride, ..packed })
    }

    /// Packs `weight(out, channel, tap)`, the channels of all sources being counted through.
    pub(crate) fn pack(
        out_channels: usize,
        kernel: Size3,
        sources: &[Channels],
        weight: impl Fn(usize, usize, usize) -> f32 + Sync,
    ) -> Self {
        let rows = kernel[0] * kernel[1];
        let elements: Vec<usize> = sources.iter().flat_map(|channels| vec![kernel[2] * channels.step; rows]).collect();
        let packed = Packed::new(Channels::whole(out_channels), sources.len(), &elements, |out, run, element| {
            let (before, source) = sources.split_at(run / rows);
            let (tap, channel) = (element / source[0].step, element % source[0].step);
            if channel >= source[0].count {
                return 0.0;
            }
            let before: usize = before.iter().map(|channels| channels.count).sum();
            weight(out, before + channel, run % rows * kernel[2] + tap)
        });
        Self { kernel, stride: [1; 3], packed }
    }

    /// The convolution of maps that fit, without bias, and its moments.
    pub(super) fn run(&self, sources: &[&Map<E>]) -> (Map<E::Raw>, Moments) {
        let size: Size3 = std::array::from_fn(|a| sources[0].size()[a].div_ceil(self.stride[a]));
        let mut y = Blank::<E::Raw>::new(self.packed.channels, size, sources[0].border());
        let out = Shared(y.as_mut_ptr());
        let rows = size[0] * size[1];
        let chunk = self.rows_at_once(rows, sources);
        let moments: Vec<Part> = (0..rows.div_ceil(chunk))
            .into_par_iter()
            .map(|task| {
                let mut moments = Part::new(self.packed.channels.step);
                let rows = task * chunk..((task + 1) * chunk).min(rows);
                let work = Rows { conv: self, sources, rows, y: &y, out, moments: &mut moments };
                // SAFETY: the maps are those of the weights, so runs lie within them; tasks write rows of their own.
                unsafe { E::dispatch(self.packed.path, work) };
                moments
            })
            .collect();
        // SAFETY: the tasks have written all lanes of all rows.
        (unsafe { y.assume_written() }, Moments::add_up(&moments, size.iter().product()))
    }

    /// The convolution of a map that fits, with a bias for every lane, to `(co, size)`.
    pub(crate) fn run_to_planes<'y>(&self, source: &Map<E>, bias: &[f32], y: &'y mut Unwritten) -> &'y mut [f32] {
        assert_eq!(y.len(), self.packed.channels.count * source.size().iter().product::<usize>(), "an element for each output");
        let (isa, rows) = (Isa::current(), source.size()[0] * source.size()[1]);
        let chunk = self.rows_at_once(rows, &[source]);
        let target = Shared(y.as_mut_ptr().cast());
        (0..rows.div_ceil(chunk)).into_par_iter().for_each_init(Vec::new, |line, task| {
            let rows = task * chunk..((task + 1) * chunk).min(rows);
            let work = Lines { conv: self, source, isa, rows, bias, y: target, line };
            // SAFETY: the map is that of the weights, so runs lie within it; tasks write rows of their own.
            unsafe { E::dispatch(self.packed.path, work) };
        });
        // SAFETY: the tasks have written all rows of all channels.
        unsafe { assume_written(y) }
    }

    /// Rows of a task.
    fn rows_at_once(&self, rows: usize, sources: &[&Map<E>]) -> usize {
        let bytes: usize = sources.iter().map(|source| source.padded()[2] * source.step() * size_of::<E>()).sum();
        (rows / TASKS).clamp(1, ROWS).min((ROWS_BYTES / bytes).max(1))
    }

    /// The runs of one output row, in the order of the weights.
    fn runs(&self, sources: &[&Map<E>], [d, h]: [usize; 2], runs: &mut Vec<Run<E>>) {
        let half = self.kernel.map(|k| k / 2);
        runs.clear();
        for source in sources {
            let padded = source.padded();
            let line = padded[2] * source.step();
            let origin = source.row([d * self.stride[0], h * self.stride[1]]) - half[2] * source.step();
            for i in 0..self.kernel[0] {
                for j in 0..self.kernel[1] {
                    let at = origin + (i * padded[1] + j) * line - (half[0] * padded[1] + half[1]) * line;
                    let from = source.values()[at..].as_ptr();
                    runs.push(Run { from, step: self.stride[2] * source.step(), groups: self.packed.groups(runs.len()) });
                }
            }
        }
    }
}

/// Some rows of a convolution.
struct Rows<'a, E: Element> {
    conv: &'a Direct<E>,
    sources: &'a [&'a Map<E>],
    rows: std::ops::Range<usize>,
    y: &'a Blank<E::Raw>,
    out: Shared<E::Raw>,
    moments: &'a mut Part,
}

#[allow(unsafe_code)]
impl<E: Element> Work<E> for Rows<'_, E> {
    #[inline(always)]
    unsafe fn run<L: Lane<Element = E>>(self) {
        let [_, height, width] = self.y.size();
        let mut runs = Vec::with_capacity(self.conv.packed.runs());
        for block @ Block { first, lanes, .. } in self.conv.packed.blocks() {
            for at in self.rows.clone() {
                let place = [at / height, at % height];
                self.conv.runs(self.sources, place, &mut runs);
                // SAFETY: the row lies within y, and this task alone writes it; the runs lie within their maps, whose
                // borders and tails hold what a tile reads beyond the row.
                unsafe {
                    let to = self.out.get().add(self.y.row(place) + first);
                    let extremes = [LaneExtremes::new(); 2];
                    let mut sink = Store::<L> { to, step: self.y.step(), sums: [LaneSums::new(); 2], extremes };
                    let levels = self.sources.iter().map(|source| source.levels());
                    self.conv.packed.row::<L>(block, &runs, levels, width, &mut sink);
                    for (v, lane) in (first..first + lanes).step_by(L::Sums::LANES).enumerate() {
                        sink.sums[v].add_to(&mut self.moments.sums[2 * lane..]);
                        if E::LEVELS {
                            sink.extremes[v].add_to(&mut self.moments.extremes[lane..]);
                        }
                    }
                }
            }
        }
    }
}

/// Writes a row and sums it up.
struct Store<L: Lane> {
    to: *mut <L::Element as Kernels>::Raw,
    step: usize,
    sums: [LaneSums<L::Sums>; 2],
    extremes: [LaneExtremes<L::Sums>; 2],
}

#[allow(unsafe_code)]
impl<L: Lane> Sink<L> for Store<L> {
    #[inline(always)]
    unsafe fn take<const V: usize>(&mut self, at: usize, sums: &mut [[L::Sums; V]]) {
        // Of their own, so that they stay in registers.
        let (mut all, mut extremes) = (self.sums, self.extremes);
        for (at, sums) in (at..).zip(sums) {
            for v in 0..V {
                // SAFETY: the position is of the row that `to` starts.
                unsafe {
                    L::keep(sums[v], self.to.add(at * self.step + v * L::Sums::LANES));
                    all[v].add(sums[v]);
                    if L::Element::LEVELS {
                        extremes[v].add(sums[v]);
                    }
                }
            }
        }
        (self.sums, self.extremes) = (all, extremes);
    }
}

/// Some rows of a convolution, to be written with the channels outermost.
struct Lines<'a, E: Element> {
    conv: &'a Direct<E>,
    source: &'a Map<E>,
    isa: Isa,
    rows: std::ops::Range<usize>,
    bias: &'a [f32],
    y: Shared,
    /// `[position][lane]`
    line: &'a mut Vec<f32>,
}

#[allow(unsafe_code)]
impl<E: Element> Work<E> for Lines<'_, E> {
    #[inline(always)]
    unsafe fn run<L: Lane<Element = E>>(self) {
        let Self { conv, source, isa, line, .. } = self;
        let size @ [_, height, width] = source.size();
        let volume = size.iter().product::<usize>();
        let mut runs = Vec::with_capacity(conv.packed.runs());
        for block @ Block { first, lanes, .. } in conv.packed.blocks() {
            line.resize(width * lanes, 0.0);
            let present = lanes.min(conv.packed.channels.count - first);
            for at in self.rows.clone() {
                conv.runs(&[source], [at / height, at % height], &mut runs);
                // SAFETY: the line holds the row's positions, and the row of y is this task's alone in each of its channels; the
                // runs lie within the map, whose border and tail hold what a tile reads beyond the row.
                unsafe {
                    let mut sink = Added { to: line.as_mut_ptr(), lanes, from: self.bias[first..][..lanes].as_ptr(), step: 0 };
                    conv.packed.row::<L>(block, &runs, std::iter::once(source.levels()), width, &mut sink);
                    transpose_row_back(isa, line, lanes, self.y.get().add(first * volume + at * width), volume, present);
                }
            }
        }
    }
}
