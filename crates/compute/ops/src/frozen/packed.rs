//! Packed weights.

use rayon::prelude::*;

use super::levels::Levels;
use super::map::{Channels, LINE, to_line};
use crate::cpu::isa::Simd;
use crate::cpu::lanes::arithmetic::{Element, Lane};
use crate::cpu::lanes::rows::{Products, Run, Sink};

/// Weights in the order in which tiles use them: `[block of lanes][run][group][lane][element of the group]`.
pub(super) struct Packed<E: Element> {
    pub(super) path: E::Path,
    /// Of the output, in whole vectors.
    pub(super) channels: Channels,
    /// Groups of each run.
    groups: Vec<usize>,
    /// The first of the values that counts, where a cache line begins.
    origin: usize,
    values: Vec<E>,
    /// Of whole numbers.
    scales: Scales,
}

/// What whole numbers as weights stand for. There is nothing in it for other weights.
#[derive(Default)]
struct Scales {
    /// What 1 stands for, by lane: the largest weight of an output channel is 127.
    steps: Vec<f32>,
    /// The sums of the weights, `[source][lane]`: what an input of ones would give.
    sums: Vec<Vec<f32>>,
}

/// Some output channels and their weights.
#[derive(Clone, Copy)]
pub(super) struct Block<'a, E> {
    /// The first lane.
    pub(super) first: usize,
    pub(super) lanes: usize,
    pub(super) weights: &'a [E],
}

impl<E: Element> Packed<E> {
    /// Weights for an output of `channels`, in whole vectors, over runs of `elements` each, as many for each of the sources.
    /// `weight(channel, run, element)`.
    pub(super) fn new(channels: Channels, sources: usize, elements: &[usize], weight: impl Fn(usize, usize, usize) -> f32 + Sync) -> Self {
        let path = E::path();
        let groups: Vec<usize> = elements.iter().map(|n| n.div_ceil(E::GROUP).next_multiple_of(E::groups_together(path))).collect();
        let per_lane = groups.iter().sum::<usize>() * E::GROUP;
        let scales = if E::LEVELS { Scales::new(channels, sources, elements, &weight) } else { Scales::default() };
        let weight = |lane, run, element| match scales.steps.get(lane) {
            Some(step) => weight(lane, run, element) / step,
            None => weight(lane, run, element),
        };
        let mut values = vec![E::default(); channels.step * per_lane + LINE];
        let origin = to_line(&values);
        values[origin..][..channels.step * per_lane].par_chunks_mut(E::block(path) * per_lane).enumerate().for_each(|(at, values)| {
            let (first, lanes) = (at * E::block(path), values.len() / per_lane);
            let mut rows = values.chunks_exact_mut(lanes * E::GROUP);
            for (run, &elements) in elements.iter().enumerate() {
                for (group, row) in rows.by_ref().take(groups[run]).enumerate() {
                    for (i, value) in row.iter_mut().enumerate() {
                        let (lane, element) = (first + i / E::GROUP, group * E::GROUP + i % E::GROUP);
                        if lane < channels.count && element < elements {
                            *value = E::weight(weight(lane, run, element));
                        }
                    }
                }
            }
        });
        Self { path, channels, groups, origin, values, scales }
    }

    /// The blocks of lanes that are computed together.
    pub(super) fn blocks(&self) -> impl Iterator<Item = Block<'_, E>> {
        let per_lane = self.groups.iter().sum::<usize>() * E::GROUP;
        let (lanes, block) = (self.channels.step, E::block(self.path));
        (0..lanes).step_by(block).map(move |first| {
            let lanes = block.min(lanes - first);
            Block { first, lanes, weights: &self.values[self.origin + first * per_lane..][..lanes * per_lane] }
        })
    }

    pub(super) fn groups(&self, run: usize) -> usize {
        self.groups[run]
    }

    pub(super) fn runs(&self) -> usize {
        self.groups.len()
    }

    /// Computes a row of `width` positions for a block and hands it over. The runs are those of sources with these levels.
    ///
    /// # Safety
    /// That of [`Lane::row`].
    #[inline(always)]
    #[allow(unsafe_code)]
    pub(super) unsafe fn row<L: Lane<Element = E>>(
        &self,
        block: Block<'_, E>,
        runs: &[Run<E>],
        levels: impl Iterator<Item = Levels> + Clone,
        width: usize,
        sink: &mut impl Sink<L>,
    ) {
        let Block { first, lanes, mut weights } = block;
        if !E::LEVELS {
            // SAFETY: the condition of the caller.
            return unsafe { L::row(runs, weights, lanes, width, sink) };
        }
        // Whole numbers of different levels cannot be added, so that every source has sums of its own.
        let steps = &self.scales.steps[first..][..lanes];
        let mut shift = [0f32; LANES];
        for (levels, sums) in levels.clone().zip(&self.scales.sums) {
            for (shift, (sum, step)) in shift.iter_mut().zip(sums[first..].iter().zip(steps)) {
                *shift -= f32::from(levels.zero) * levels.step * sum * step;
            }
        }
        let sources = self.scales.sums.len();
        let mut line = if sources > 1 { vec![0f32; width * lanes] } else { Vec::new() };
        let (mut before, mut step) = (shift.as_ptr(), 0);
        for (source, (levels, runs)) in levels.zip(runs.chunks(runs.len() / sources)).enumerate() {
            let (own, behind) = weights.split_at(runs.iter().map(|run| run.groups).sum::<usize>() * E::GROUP * lanes);
            let mut scale = [0f32; LANES];
            scale.iter_mut().zip(steps).for_each(|(scale, step)| *scale = step * levels.step);
            let to = line.as_mut_ptr();
            // SAFETY: the condition of the caller; there are `lanes` factors, and the line holds `lanes` for each position.
            unsafe {
                if source + 1 == sources {
                    L::row(runs, own, lanes, width, &mut Scaled { scale: &scale, before, step, sink: &mut *sink });
                } else {
                    let mut sums = Products { to, lanes };
                    L::row(runs, own, lanes, width, &mut Scaled { scale: &scale, before, step, sink: &mut sums });
                }
            }
            (weights, before, step) = (behind, to, lanes);
        }
    }
}

/// Lanes of a block at most.
const LANES: usize = 32;

impl Scales {
    fn new(channels: Channels, sources: usize, elements: &[usize], weight: impl Fn(usize, usize, usize) -> f32 + Sync) -> Self {
        let runs = elements.len() / sources;
        let lane = |lane: usize| {
            let of = |run: usize| (0..elements[run]).map(move |element| (run, element)).map(|(run, element)| weight(lane, run, element));
            let largest = (0..elements.len()).flat_map(of).fold(0f32, |largest, weight| largest.max(weight.abs()));
            let step = if largest > 0.0 { largest / 127.0 } else { 1.0 };
            let sum =
                |source: usize| (source * runs..(source + 1) * runs).flat_map(of).map(|weight| (weight / step).round_ties_even()).sum();
            (step, (0..sources).map(sum).collect::<Vec<f32>>())
        };
        let lanes: Vec<(f32, Vec<f32>)> = (0..channels.count).into_par_iter().map(lane).collect();
        let mut steps: Vec<f32> = lanes.iter().map(|(step, _)| *step).collect();
        steps.resize(channels.step, 0.0);
        let sums = (0..sources).map(|source| {
            let mut sums: Vec<f32> = lanes.iter().map(|(_, sums)| sums[source]).collect();
            sums.resize(channels.step, 0.0);
            sums
        });
        Self { sums: sums.collect(), steps }
    }
}

/// Makes numbers of whole ones, and adds what is there already.
struct Scaled<'a, S> {
    /// By lane.
    scale: &'a [f32; LANES],
    /// What is added, a vector of lanes for every position.
    before: *const f32,
    /// From one position's to the next one's; 0 if all have the same.
    step: usize,
    sink: &'a mut S,
}

#[allow(unsafe_code)]
impl<L: Lane, S: Sink<L>> Sink<L> for Scaled<'_, S> {
    #[inline(always)]
    unsafe fn take<const V: usize>(&mut self, at: usize, sums: &mut [[L::Sums; V]]) {
        // SAFETY: a block has no more lanes than there are factors, and as many are there for each position of the row.
        unsafe {
            let scale: [L::Sums; V] = std::array::from_fn(|v| L::Sums::load(self.scale[v * L::Sums::LANES..].as_ptr()));
            for (at, sums) in (at..).zip(&mut *sums) {
                for v in 0..V {
                    sums[v] = sums[v].mul_add(scale[v], L::Sums::load(self.before.add(at * self.step + v * L::Sums::LANES)));
                }
            }
            self.sink.take(at, sums);
        }
    }
}
