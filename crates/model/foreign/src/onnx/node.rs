//! A node with what its inputs stand for.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Tensor};

use super::proto::{Attribute, Node};
use super::translate::Known;

/// A node, whose inputs are known.
pub(super) struct Ask<'n> {
    node: &'n Node<'n>,
    folder: &'n Path,
    inputs: Vec<Option<Known>>,
}

impl<'n> Ask<'n> {
    pub(super) fn of(node: &'n Node<'n>, folder: &'n Path, known: &HashMap<&str, Known>) -> Result<Self, String> {
        let input = |name: &&str| match (known.get(name), name.is_empty()) {
            (_, true) => Ok(None),
            (Some(known), _) => Ok(Some(known.clone())),
            (None, _) => Err(format!("its input `{name}` is given by no node before it")),
        };
        Ok(Self { node, folder, inputs: node.inputs.iter().map(input).collect::<Result<_, _>>()? })
    }

    pub(super) fn op(&self) -> &'n str {
        self.node.op
    }

    /// What its result is called.
    pub(super) fn name(&self) -> &'n str {
        self.node.outputs.first().copied().unwrap_or_default()
    }

    /// How many results are asked for.
    pub(super) fn outputs(&self) -> usize {
        self.node.outputs.len()
    }

    /// All inputs that are there.
    pub(super) fn all(&self) -> Vec<Known> {
        self.inputs.iter().flatten().cloned().collect()
    }

    pub(super) fn input(&self, k: usize) -> Result<Known, String> {
        self.optional(k).ok_or_else(|| format!("its input {k} is missing"))
    }

    pub(super) fn optional(&self, k: usize) -> Option<Known> {
        self.inputs.get(k).cloned().flatten()
    }

    /// An input that must not depend on the image.
    pub(super) fn constant(&self, k: usize) -> Result<Option<Tensor>, String> {
        match self.optional(k) {
            None => Ok(None),
            Some(Known::Constant { tensor, .. }) => Ok(Some(tensor)),
            Some(Known::Value(_)) => Err(format!("its input {k} depends on the image; expected a constant")),
        }
    }

    /// The whole numbers of an input; none if it is left out.
    pub(super) fn numbers(&self, k: usize) -> Result<Option<Vec<i64>>, String> {
        self.constant(k)?.map(|tensor| whole_numbers(&tensor)).transpose()
    }

    /// The whole numbers of an attribute or, in later versions, of an input.
    pub(super) fn either(&self, attribute: &str, k: usize) -> Result<Option<Vec<i64>>, String> {
        match self.ints(attribute)? {
            Some(ints) => Ok(Some(ints)),
            None => self.numbers(k),
        }
    }

    /// The values of an input; none if it is left out or empty.
    pub(super) fn floats(&self, k: usize) -> Result<Option<Vec<f32>>, String> {
        let values = self.constant(k)?.map(|tensor| floats(&tensor)).transpose()?;
        Ok(values.filter(|values| !values.is_empty()))
    }

    pub(super) fn int(&self, name: &str, default: i64) -> Result<i64, String> {
        match self.node.attribute(name) {
            None => Ok(default),
            Some(Attribute::Int(int)) => Ok(*int),
            Some(_) => Err(format!("{name} is no number")),
        }
    }

    /// A number that is not negative.
    pub(super) fn size(&self, name: &str, default: i64) -> Result<usize, String> {
        let int = self.int(name, default)?;
        usize::try_from(int).map_err(|_| format!("{name} is {int}"))
    }

    pub(super) fn float(&self, name: &str, default: f32) -> Result<f64, String> {
        match self.node.attribute(name) {
            None => Ok(default.into()),
            Some(Attribute::Float(float)) if float.is_finite() => Ok((*float).into()),
            Some(_) => Err(format!("{name} is no number")),
        }
    }

    pub(super) fn text(&self, name: &str, default: &'n str) -> &'n str {
        if let Some(Attribute::Text(text)) = self.node.attribute(name) { text } else { default }
    }

    pub(super) fn ints(&self, name: &str) -> Result<Option<Vec<i64>>, String> {
        match self.node.attribute(name) {
            None => Ok(None),
            Some(Attribute::Ints(ints)) => Ok(Some(ints.clone())),
            Some(_) => Err(format!("{name} is no list")),
        }
    }

    /// A list with an entry for each spatial axis, none of them negative.
    pub(super) fn sizes(&self, name: &str, axes: usize, default: usize) -> Result<Vec<usize>, String> {
        let Some(ints) = self.ints(name)? else { return Ok(vec![default; axes]) };
        let sizes: Option<Vec<usize>> = ints.iter().map(|int| usize::try_from(*int).ok()).collect();
        sizes.filter(|sizes| sizes.len() == axes).ok_or_else(|| format!("{name} is {ints:?} for {axes} axes"))
    }

    /// The constant that an attribute holds.
    pub(super) fn tensor(&self, name: &str) -> Result<Option<Tensor>, String> {
        let made = |made: candle_core::Result<Tensor>| made.map(Some).map_err(|error| error.to_string());
        let device = &candle_core::Device::Cpu;
        match self.node.attribute(name) {
            None => Ok(None),
            Some(Attribute::Tensor(stored)) => stored.tensor(self.folder).map(Some),
            Some(Attribute::Float(float)) => made(Tensor::new(*float, device)),
            Some(Attribute::Int(int)) => made(Tensor::new(*int, device)),
            Some(Attribute::Floats(floats)) => made(Tensor::new(&floats[..], device)),
            Some(Attribute::Ints(ints)) => made(Tensor::new(&ints[..], device)),
            Some(Attribute::Text(_) | Attribute::Other) => Err(format!("{name} is no constant")),
        }
    }
}

/// The values of a tensor as whole numbers.
pub(super) fn whole_numbers(tensor: &Tensor) -> Result<Vec<i64>, String> {
    if tensor.dtype() != DType::I64 {
        return Err(format!("values of shape {:?} where whole numbers are expected", tensor.dims()));
    }
    tensor.flatten_all().and_then(|flat| flat.to_vec1()).map_err(|error| error.to_string())
}

/// The values of a tensor.
pub(super) fn floats(tensor: &Tensor) -> Result<Vec<f32>, String> {
    tensor.to_dtype(DType::F32).and_then(|tensor| tensor.flatten_all()?.to_vec1()).map_err(|error| error.to_string())
}

/// An axis that may count from the last.
pub(super) fn axis(axis: i64, rank: usize) -> Result<usize, String> {
    let from_first = if axis < 0 { usize::try_from(axis + rank as i64) } else { usize::try_from(axis) };
    from_first.ok().filter(|axis| *axis < rank).ok_or_else(|| format!("axis {axis} of {rank}"))
}
