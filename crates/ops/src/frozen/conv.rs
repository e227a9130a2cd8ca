//! Convolutions that keep the size, and the heads of networks.
#![allow(unsafe_code)]

use candle_core::{Device, Result, Tensor, bail};
use rayon::prelude::*;

use super::arithmetic::{Element, Lane, Work};
use super::map::Map;
use super::norm::Moments;
use super::rows::{Packed, Run, Sink, row};
use crate::cpu::Size3;
use crate::cpu::isa::Simd;
use crate::tensor::volumes;

/// Bytes of input rows that a task goes over for every block of output channels: half a second-level cache.
const ROWS_BYTES: usize = 512 << 10;
/// Rows of a task at most.
const ROWS: usize = 8;
/// Tasks wanted of a small map.
const TASKS: usize = 12;

/// The weights of a convolution of odd kernel, stride 1 and zero padding that keeps the size; over one map, or over
/// several as if their channels were joined.
pub struct PackedConv<E: Element> {
    kernel: Size3,
    /// The channels of each map.
    sources: Vec<usize>,
    out_channels: usize,
    packed: Packed<E>,
}

impl<E: Element> PackedConv<E> {
    /// Packs `weight` `(co, ci, kernel..)` for maps of the given numbers of channels, ci together.
    ///
    /// # Errors
    /// When the channels do not add up, or a kernel is even or wider than 3.
    pub fn new(weight: &Tensor, sources: &[usize]) -> Result<Self> {
        let (out_channels, in_channels, kernel) = volumes("frozen conv", weight.dims())?;
        if sources.iter().sum::<usize>() != in_channels || kernel.iter().any(|&k| k != 1 && k != 3) {
            bail!("frozen conv: weights {:?} do not fit maps of {sources:?} channels with a kernel of 1 or 3", weight.dims());
        }
        let values = weight.flatten_all()?.to_vec1::<f32>()?;
        let steps: Vec<usize> = sources.iter().map(|&channels| Map::<E>::step_of(channels)).collect();
        let rows = kernel[0] * kernel[1];
        let elements: Vec<usize> = steps.iter().flat_map(|step| vec![kernel[2] * step; rows]).collect();
        let packed = Packed::new(out_channels, Map::<E>::step_of(out_channels), &elements, |out, run, element| {
            let source = run / rows;
            let (tap, channel) = (element / steps[source], element % steps[source]);
            if channel >= sources[source] {
                return 0.0;
            }
            let before: usize = sources[..source].iter().sum();
            values[((out * in_channels + before + channel) * rows + run % rows) * kernel[2] + tap]
        });
        Ok(Self { kernel, sources: sources.to_vec(), out_channels, packed })
    }

    /// The convolution without bias, and the moments of its channels.
    ///
    /// # Errors
    /// When the maps are not those that the weights were packed for.
    pub fn run(&self, sources: &[&Map<E>]) -> Result<(Map<E>, Moments)> {
        let first = self.check(sources)?;
        let mut y = Map::unwritten(self.out_channels, first.size(), first.border());
        let out = Output { values: y.as_mut_ptr(), step: y.step() };
        let size = first.size();
        let rows = size[0] * size[1];
        let bytes: usize = sources.iter().map(|source| source.padded()[2] * source.step() * size_of::<E>()).sum();
        let chunk = (rows / TASKS).clamp(1, ROWS).min((ROWS_BYTES / bytes).max(1));
        let moments: Vec<Vec<f64>> = (0..rows.div_ceil(chunk))
            .into_par_iter()
            .map(|task| {
                let mut moments = vec![0f64; 2 * self.packed.lanes];
                let rows = task * chunk..((task + 1) * chunk).min(rows);
                let work = Rows { conv: self, sources, rows, y: &y, out, moments: &mut moments };
                // SAFETY: the maps are those of the weights, so runs lie within them; tasks write rows of their own.
                unsafe { E::dispatch(self.packed.path, work) };
                moments
            })
            .collect();
        Ok((y, Moments::add_up(&moments, size.iter().product())))
    }

    fn check<'a>(&self, sources: &[&'a Map<E>]) -> Result<&'a Map<E>> {
        let channels: Vec<usize> = sources.iter().map(|source| source.channels()).collect();
        let Some(first) = sources.first().filter(|_| channels == self.sources) else {
            bail!("frozen conv: packed for maps of {:?} channels, found {channels:?}", self.sources)
        };
        if sources.iter().any(|source| source.size() != first.size() || source.border() != first.border()) {
            bail!("frozen conv: maps of one size expected, found {:?}", sources.iter().map(|s| s.size()).collect::<Vec<_>>());
        }
        if (0..3).any(|a| self.kernel[a] / 2 > first.border()[a]) {
            bail!("frozen conv: a kernel of {:?} has no room in a map of size {:?}", self.kernel, first.size());
        }
        Ok(first)
    }

    /// The runs of one output row, in the order of the weights.
    fn runs(&self, sources: &[&Map<E>], [d, h]: [usize; 2], runs: &mut Vec<Run<E>>) {
        let half = self.kernel.map(|k| k / 2);
        runs.clear();
        for source in sources {
            let padded = source.padded();
            let line = padded[2] * source.step();
            let origin = source.row([d, h]) - half[2] * source.step();
            for i in 0..self.kernel[0] {
                for j in 0..self.kernel[1] {
                    let at = origin + (i * padded[1] + j) * line - (half[0] * padded[1] + half[1]) * line;
                    let from = source.values()[at..].as_ptr();
                    runs.push(Run { from, step: source.step(), groups: self.packed.groups(runs.len()) });
                }
            }
        }
    }
}

/// Where tasks write rows of their own.
#[derive(Clone, Copy)]
struct Output<E> {
    values: *mut E,
    step: usize,
}
// SAFETY: every task writes rows of its own, and nobody reads before all tasks have ended.
unsafe impl<E: Send> Send for Output<E> {}
// SAFETY: as above.
unsafe impl<E: Sync> Sync for Output<E> {}

/// Some rows of a convolution.
struct Rows<'a, E: Element> {
    conv: &'a PackedConv<E>,
    sources: &'a [&'a Map<E>],
    rows: std::ops::Range<usize>,
    y: &'a Map<E>,
    out: Output<E>,
    moments: &'a mut [f64],
}

impl<E: Element> Work<E> for Rows<'_, E> {
    #[inline(always)]
    unsafe fn run<L: Lane<Element = E>>(self) {
        let [_, height, width] = self.y.size();
        let mut runs = Vec::with_capacity(self.conv.packed.runs());
        for (first, lanes, weights) in self.conv.packed.blocks() {
            for at in self.rows.clone() {
                let place = [at / height, at % height];
                self.conv.runs(self.sources, place, &mut runs);
                // SAFETY: the row lies within y, and this task alone writes it; the runs lie within their maps, whose
                // borders and tails hold what a tile reads beyond the row.
                unsafe {
                    let zero = L::Sums::zero();
                    let to = self.out.values.add(self.y.row(place) + first);
                    let mut sink = Store::<L> { to, step: self.out.step, sums: [zero; 2], squares: [zero; 2] };
                    row::<L>(&runs, weights, lanes, width, &mut sink);
                    sink.add_to(&mut self.moments[2 * first..2 * (first + lanes)]);
                }
            }
        }
    }
}

/// Writes a row and sums it up.
struct Store<L: Lane> {
    to: *mut L::Element,
    step: usize,
    sums: [L::Sums; 2],
    squares: [L::Sums; 2],
}

impl<L: Lane> Sink<L> for Store<L> {
    #[inline(always)]
    unsafe fn take<const V: usize>(&mut self, at: usize, sums: &[[L::Sums; V]]) {
        for (m, values) in sums.iter().enumerate() {
            for (v, &value) in values.iter().enumerate() {
                // SAFETY: the position is of the row that `to` starts.
                unsafe {
                    L::narrow(value, self.to.add((at + m) * self.step + v * L::Sums::LANES));
                    self.sums[v] = self.sums[v].add(value);
                    self.squares[v] = value.mul_add(value, self.squares[v]);
                }
            }
        }
    }
}

impl<L: Lane> Store<L> {
    /// Adds to sums and squares by lane, in turn.
    #[inline(always)]
    unsafe fn add_to(&self, moments: &mut [f64]) {
        let mut lanes = [0f32; 16];
        for (offset, vectors) in [&self.sums, &self.squares].into_iter().enumerate() {
            for (v, vector) in vectors.iter().enumerate() {
                // SAFETY: no vector has more than 16 lanes.
                unsafe { vector.store(lanes.as_mut_ptr()) };
                let first = v * L::Sums::LANES;
                for (lane, &value) in lanes[..L::Sums::LANES].iter().enumerate() {
                    if let Some(moment) = moments.get_mut(2 * (first + lane) + offset) {
                        *moment += f64::from(value);
                    }
                }
            }
        }
    }
}

/// A 1×1 convolution to logits.
pub struct PackedHead<E: Element> {
    channels: usize,
    classes: usize,
    bias: Vec<f32>,
    packed: Packed<E>,
}

impl<E: Element> PackedHead<E> {
    /// Packs `weight` `(classes, c, 1..)` with its bias.
    ///
    /// # Errors
    /// When shapes do not fit.
    pub fn new(weight: &Tensor, bias: &Tensor) -> Result<Self> {
        let (classes, channels, kernel) = volumes("frozen head", weight.dims())?;
        if kernel != [1; 3] || bias.dims() != [classes] {
            bail!("frozen head: weights (classes, c, 1..) and a bias per class expected, found {:?}, {:?}", weight.dims(), bias.dims());
        }
        let values = weight.flatten_all()?.to_vec1::<f32>()?;
        let step = Map::<E>::step_of(channels);
        let packed = Packed::new(classes, classes.next_multiple_of(16), &[step], |class, _, channel| {
            if channel < channels { values[class * channels + channel] } else { 0.0 }
        });
        Ok(Self { channels, classes, bias: bias.to_vec1()?, packed })
    }

    /// Logits `(1, classes, size..)`.
    ///
    /// # Errors
    /// When the map has other channels.
    pub fn run(&self, x: &Map<E>) -> Result<Tensor> {
        if x.channels() != self.channels {
            bail!("frozen head: packed for {} channels, found {}", self.channels, x.channels());
        }
        let [depth, height, width] = x.size();
        let mut logits = crate::cpu::unwritten(self.classes * depth * height * width);
        let plane = depth * height * width;
        let out = Output { values: logits.as_mut_ptr(), step: plane };
        (0..depth * height).into_par_iter().for_each(|at| {
            let work = LogitRow { head: self, x, at: [at / height, at % height], out, offset: at * width };
            // SAFETY: the map is that of the weights; tasks write rows of their own.
            unsafe { E::dispatch(self.packed.path, work) };
        });
        Tensor::from_vec(logits, x.dims(self.classes), &Device::Cpu)
    }
}

/// One row of logits.
struct LogitRow<'a, E: Element> {
    head: &'a PackedHead<E>,
    x: &'a Map<E>,
    at: [usize; 2],
    out: Output<f32>,
    offset: usize,
}

impl<E: Element> Work<E> for LogitRow<'_, E> {
    #[inline(always)]
    unsafe fn run<L: Lane<Element = E>>(self) {
        let [_, _, width] = self.x.size();
        let from = self.x.values()[self.x.row(self.at)..].as_ptr();
        let run = Run { from, step: self.x.step(), groups: self.head.packed.groups(0) };
        for (first, lanes, weights) in self.head.packed.blocks() {
            let mut sink = Scatter { head: self.head, first, out: self.out, offset: self.offset };
            // SAFETY: the run lies within the map; see `Scatter`.
            unsafe { row::<L>(&[run], weights, lanes, width, &mut sink) };
        }
    }
}

/// Writes sums as planes, one per class.
struct Scatter<'a, E: Element> {
    head: &'a PackedHead<E>,
    first: usize,
    out: Output<f32>,
    offset: usize,
}

impl<L: Lane> Sink<L> for Scatter<'_, L::Element> {
    #[inline(always)]
    unsafe fn take<const V: usize>(&mut self, at: usize, sums: &[[L::Sums; V]]) {
        let mut lanes = [0f32; 32];
        for (m, values) in sums.iter().enumerate() {
            for (v, value) in values.iter().enumerate() {
                // SAFETY: two vectors have at most 32 lanes.
                unsafe { value.store(lanes[v * L::Sums::LANES..].as_mut_ptr()) };
            }
            let classes = self.head.classes.saturating_sub(self.first).min(V * L::Sums::LANES);
            for (class, &value) in (self.first..).zip(&lanes[..classes]) {
                // SAFETY: the position is of this task's row in the plane of a class.
                unsafe { *self.out.values.add(class * self.out.step + self.offset + at + m) = value + self.head.bias[class] };
            }
        }
    }
}
