//! Fewer steps that compute the same.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use graph::{Function, Op, Operand, Program, Step};

use super::translate::Translator;

/// The program whose outputs are these values: an activation is part of the norm before it, a scale and a shift part of the convolution
/// before it, a norm of groups one step, and what no output needs is left out.
///
/// # Errors
/// When weights cannot be computed.
pub(super) fn program(to: Translator, outputs: &[usize]) -> candle_core::Result<(Program, BTreeMap<String, Tensor>)> {
    let mut work = Simplifier::of(to, outputs);
    for k in 0..work.to.steps.len() {
        work.step(k)?;
    }
    let outputs = outputs.iter().map(|output| work.same[*output]).collect();
    Ok(pruned(work.to, outputs))
}

struct Simplifier {
    to: Translator,
    /// For each value the one that has come to stand for it.
    same: Vec<usize>,
    /// How many operands and outputs each value is.
    uses: Vec<usize>,
}

impl Simplifier {
    fn of(to: Translator, outputs: &[usize]) -> Self {
        let mut uses = vec![0; to.steps.len() + 1];
        let operands = to.steps.iter().flat_map(|step| &step.of).filter_map(value);
        operands.chain(outputs.iter().copied()).for_each(|value| uses[value] += 1);
        Self { same: (0..uses.len()).collect(), uses, to }
    }

    fn step(&mut self, k: usize) -> candle_core::Result<()> {
        for operand in &mut self.to.steps[k].of {
            if let Operand::Value(value) = operand {
                *value = self.same[*value];
            }
        }
        let step = self.to.steps[k].clone();
        match (&step.op, &step.of[..]) {
            (Op::Each(Function::LeakyRelu { slope }), [Operand::Value(x)]) if self.alone(*x) => {
                if let Op::Norm { slope: own @ 1.0, .. } = &mut self.to.steps[*x - 1].op {
                    *own = *slope;
                    self.merge(k + 1, *x);
                }
            }
            (Op::Multiply | Op::Add, [Operand::Value(x), Operand::Weight(w)] | [Operand::Weight(w), Operand::Value(x)]) => {
                if step.op == Op::Add
                    && let Some(norm) = self.norm_of_groups(*x, w)?
                {
                    self.to.steps[k] = norm;
                } else if self.alone(*x) && self.taken_by_conv(k, *x, w, &step.op)? {
                    self.merge(k + 1, *x);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether a value is a step's, and nothing else needs it.
    fn alone(&self, value: usize) -> bool {
        value > 0 && self.uses[value] == 1
    }

    /// Lets a value stand for another, which was all that needed it.
    fn merge(&mut self, value: usize, into: usize) {
        self.same[value] = into;
        self.uses[into] = self.uses[value];
    }

    fn before(&self, value: usize) -> Option<&Step> {
        value.checked_sub(1).map(|k| &self.to.steps[k])
    }

    /// The values of a weight, one for each of so many channels; none if it is not of channels.
    fn by_channel(&self, weight: &str, rank: usize, channels: usize) -> candle_core::Result<Option<Tensor>> {
        let Some(tensor) = self.to.weights.get(weight) else { return Ok(None) };
        let aligned = |axis: usize| (axis + tensor.rank()).checked_sub(rank).map_or(1, |axis| tensor.dims()[axis]);
        let of_channels = tensor.rank() <= rank && (0..rank).all(|axis| aligned(axis) == if axis == 1 { channels } else { 1 });
        if of_channels { tensor.flatten_all().map(Some) } else { Ok(None) }
    }

    /// Makes a scale or shift of each channel part of the convolution before it.
    fn taken_by_conv(&mut self, k: usize, x: usize, weight: &str, op: &Op) -> candle_core::Result<bool> {
        let shape = self.to.shapes[x].clone();
        let Some(by_channel) = self.by_channel(weight, shape.len(), shape.get(1).copied().unwrap_or_default())? else { return Ok(false) };
        let conv = &self.to.steps[x - 1];
        let (axis, Some(Operand::Weight(own))) = (
            match conv.op {
                Op::Conv { .. } => 0,
                Op::ConvTranspose { groups: 1, .. } => 1,
                _ => return Ok(false),
            },
            conv.of.get(1),
        ) else {
            return Ok(false);
        };
        let bias = match conv.of.get(2) {
            None => Tensor::zeros(shape[1], candle_core::DType::F32, &Device::Cpu)?,
            Some(Operand::Weight(bias)) => self.to.weights[bias].clone(),
            Some(Operand::Value(_)) => return Ok(false),
        };
        let filters = self.to.weights[own].clone();
        let mut of = vec![conv.of[0].clone()];
        if *op == Op::Add {
            of.extend([conv.of[1].clone(), self.weight(k, "bias", (bias + by_channel)?)]);
        } else {
            let mut along = vec![1; filters.rank()];
            along[axis] = shape[1];
            of.push(self.weight(k, "filters", filters.broadcast_mul(&by_channel.reshape(along)?)?));
            of.push(self.weight(k, "bias", (bias * by_channel)?));
        }
        self.to.steps[x - 1].of = of;
        Ok(true)
    }

    fn weight(&mut self, k: usize, what: &str, tensor: Tensor) -> Operand {
        let name = format!("graph/{what} {k}");
        self.to.weights.insert(name.clone(), tensor);
        Operand::Weight(name)
    }

    /// The norm of groups that ends in a shift of `x`: groups as channels of a row, their norm, and a scale of each channel.
    fn norm_of_groups(&mut self, x: usize, shift: &str) -> candle_core::Result<Option<Step>> {
        let Some(Step { op: Op::Multiply, of: scaled }) = self.before(x) else { return Ok(None) };
        let ([Operand::Value(back), Operand::Weight(scale)] | [Operand::Weight(scale), Operand::Value(back)]) = &scaled[..] else {
            return Ok(None);
        };
        let chain = |value: usize| match self.before(value) {
            Some(Step { op: Op::Reshape { .. }, of }) => value_of(of),
            _ => None,
        };
        let Some(normed) = chain(*back) else { return Ok(None) };
        let Some(Step { op: Op::Norm { groups: None, eps, slope: 1.0 }, of }) = self.before(normed) else { return Ok(None) };
        let (Some(image), [_, Operand::Weight(one), Operand::Weight(none)]) = (value_of(of).and_then(chain), &of[..]) else {
            return Ok(None);
        };
        let (shape, rows) = (self.to.shapes[image].clone(), self.to.shapes[normed].clone());
        let all =
            |weight: &String, is: f32| self.to.weights[weight].to_vec1::<f32>().is_ok_and(|values| values.iter().all(|value| *value == is));
        let groups_alone = shape.len() > 3 && rows.len() == 3 && rows[0] == 1 && shape[0] == 1 && self.to.shapes[*back] == shape;
        if !groups_alone || !shape[1].is_multiple_of(rows[1]) || !all(one, 1.0) || !all(none, 0.0) {
            return Ok(None);
        }
        let parts = [self.by_channel(scale, shape.len(), shape[1])?, self.by_channel(shift, shape.len(), shape[1])?];
        let (op, [Some(gamma), Some(beta)]) = (Op::Norm { groups: Some(rows[1]), eps: *eps, slope: 1.0 }, parts) else { return Ok(None) };
        let of = vec![Operand::Value(image), self.weight(x, "gamma", gamma), self.weight(x, "beta", beta)];
        Ok(Some(Step { op, of }))
    }
}

fn value(operand: &Operand) -> Option<usize> {
    if let Operand::Value(value) = operand { Some(*value) } else { None }
}

fn value_of(of: &[Operand]) -> Option<usize> {
    of.first().and_then(value)
}

/// What the outputs need, numbered anew.
fn pruned(to: Translator, outputs: Vec<usize>) -> (Program, BTreeMap<String, Tensor>) {
    let mut needed = vec![false; to.shapes.len()];
    outputs.iter().for_each(|output| needed[*output] = true);
    for (k, step) in to.steps.iter().enumerate().rev() {
        if needed[k + 1] {
            step.of.iter().filter_map(value).for_each(|value| needed[value] = true);
        }
    }
    let (mut place, mut steps, mut weights) = (vec![0; needed.len()], Vec::new(), BTreeMap::new());
    for (k, mut step) in to.steps.into_iter().enumerate().filter(|(k, _)| needed[k + 1]) {
        for operand in &mut step.of {
            match operand {
                Operand::Value(value) => *value = place[*value],
                Operand::Weight(name) => drop(to.weights.get(name).map(|tensor| weights.insert(name.clone(), tensor.clone()))),
            }
        }
        steps.push(step);
        place[k + 1] = steps.len();
    }
    let shapes = weights.iter().map(|(name, tensor)| (name.clone(), tensor.dims().to_vec())).collect();
    let outputs = outputs.into_iter().map(|output| place[output]).collect();
    (Program { image: to.shapes[0].clone(), weights: shapes, steps, outputs }, weights)
}
