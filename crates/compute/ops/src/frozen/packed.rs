//! Packed weights.

use rayon::prelude::*;

use super::map::Channels;
use crate::cpu::lanes::arithmetic::Element;

/// Weights in the order in which tiles use them: `[block of lanes][run][group][lane][element of the group]`.
pub(super) struct Packed<E: Element> {
    pub(super) path: E::Path,
    /// Of the output, in whole vectors.
    pub(super) channels: Channels,
    /// Groups of each run.
    groups: Vec<usize>,
    values: Vec<E>,
}

impl<E: Element> Packed<E> {
    /// Weights for an output of `channels`, in whole vectors, over runs of `elements` each. `weight(channel, run, element)`.
    pub(super) fn new(channels: Channels, elements: &[usize], weight: impl Fn(usize, usize, usize) -> f32 + Sync) -> Self {
        let path = E::path();
        let groups: Vec<usize> = elements.iter().map(|n| n.div_ceil(E::GROUP).next_multiple_of(E::groups_together(path))).collect();
        let per_lane = groups.iter().sum::<usize>() * E::GROUP;
        let mut values = vec![E::default(); channels.step * per_lane];
        values.par_chunks_mut(E::block(path) * per_lane).enumerate().for_each(|(at, values)| {
            let (first, lanes) = (at * E::block(path), values.len() / per_lane);
            let mut rows = values.chunks_exact_mut(lanes * E::GROUP);
            for (run, &elements) in elements.iter().enumerate() {
                for (group, row) in rows.by_ref().take(groups[run]).enumerate() {
                    for (i, value) in row.iter_mut().enumerate() {
                        let (lane, element) = (first + i / E::GROUP, group * E::GROUP + i % E::GROUP);
                        if lane < channels.count && element < elements {
                            *value = E::narrow(weight(lane, run, element));
                        }
                    }
                }
            }
        });
        Self { path, channels, groups, values }
    }

    /// Blocks of lanes with their weights: the first lane, the number of lanes, the weights.
    pub(super) fn blocks(&self) -> impl Iterator<Item = (usize, usize, &[E])> {
        let per_lane = self.groups.iter().sum::<usize>() * E::GROUP;
        let (lanes, block) = (self.channels.step, E::block(self.path));
        (0..lanes).step_by(block).map(move |first| {
            let lanes = block.min(lanes - first);
            (first, lanes, &self.values[first * per_lane..][..lanes * per_lane])
        })
    }

    pub(super) fn groups(&self, run: usize) -> usize {
        self.groups[run]
    }

    pub(super) fn runs(&self) -> usize {
        self.groups.len()
    }
}
