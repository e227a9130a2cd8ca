//! The gradients of a batch that several ranks compute parts of.

use candle_core::Var;
use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor};
use ranks::{RankError, Ranks};

use crate::optim::OptimError;

/// Sums gradients in the order of the parts of a batch, whatever rank has them. Each rank adds up a slice of all values: in each round
/// it gets its slice of every rank's gradient. What is held does not grow with the number of parts.
pub(crate) struct Together {
    ranks: Ranks,
    slice: Vec<f32>,
}

/// By what a rank tells that a parameter has a gradient.
const PRESENT: u8 = 1;

impl Together {
    pub(crate) fn new(ranks: Ranks) -> Self {
        Self { ranks, slice: Vec::new() }
    }

    /// Adds the gradients of the parts of a round, this rank's among them if it has one. A parameter without a gradient keeps its sum.
    pub(crate) fn add(&mut self, vars: &[Var], own: Option<&[Option<Tensor>]>) -> std::result::Result<(), OptimError> {
        let (flat, present) = match own {
            Some(gradients) => (flattened(vars, gradients)?, gradients.iter().map(|gradient| u8::from(gradient.is_some())).collect()),
            None => (Vec::new(), Vec::new()),
        };
        let bounds = self.bounds(vars);
        let piece = |rank: usize| if flat.is_empty() { &[][..] } else { &flat[bounds[rank]..bounds[rank + 1]] };
        let pieces = self.ranks.exchange(&(0..self.ranks.size()).map(piece).collect::<Vec<_>>())?;
        let begin = bounds[self.ranks.rank()];
        for (piece, present) in pieces.iter().zip(self.ranks.gather(&present)?).filter(|(_, present)| !present.is_empty()) {
            if self.slice.is_empty() {
                self.slice.clone_from(piece);
            } else {
                add(&mut self.slice, piece, begin, vars, &present);
            }
        }
        Ok(())
    }

    /// The sums of all parameters, on every rank.
    pub(crate) fn gathered(self, vars: &[Var]) -> std::result::Result<GradStore, OptimError> {
        let flat = self.ranks.gather(&self.slice).map_err(OptimError::Ranks)?.concat();
        let (mut sums, mut begin) = (GradStore::default(), 0);
        for var in vars {
            let end = begin + var.elem_count();
            sums.insert(var, Tensor::from_slice(&flat[begin..end], var.dims(), var.device())?);
            begin = end;
        }
        Ok(sums)
    }

    /// Where the slice of each rank begins, and where the last one ends.
    fn bounds(&self, vars: &[Var]) -> Vec<usize> {
        let all: usize = vars.iter().map(|var| var.elem_count()).sum();
        (0..=self.ranks.size()).map(|rank| all * rank / self.ranks.size()).collect()
    }
}

/// All gradients one after another, zeros where there is none.
fn flattened(vars: &[Var], gradients: &[Option<Tensor>]) -> Result<Vec<f32>> {
    let mut flat = Vec::with_capacity(vars.iter().map(|var| var.elem_count()).sum());
    for (var, gradient) in vars.iter().zip(gradients) {
        match gradient {
            Some(gradient) => flat.extend(gradient.flatten_all()?.to_vec1::<f32>()?),
            None => flat.resize(flat.len() + var.elem_count(), 0.0),
        }
    }
    Ok(flat)
}

/// Adds to a slice of all values, which begins at `begin`, the parameters that are `present`.
fn add(slice: &mut [f32], piece: &[f32], begin: usize, vars: &[Var], present: &[u8]) {
    let mut from = 0;
    for (var, &present) in vars.iter().zip(present) {
        let to = from + var.elem_count();
        let within = |at: usize| at.clamp(begin, begin + slice.len()) - begin;
        let range = within(from)..within(to);
        if present == PRESENT {
            slice[range.clone()].iter_mut().zip(&piece[range]).for_each(|(sum, value)| *sum += value);
        }
        from = to;
    }
}

impl From<RankError> for OptimError {
    fn from(error: RankError) -> Self {
        Self::Ranks(error)
    }
}
