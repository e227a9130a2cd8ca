//! From nodes to steps. What follows from shapes alone is computed here, so that no step does it.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use graph::{Op, Operand, Step};

use super::node::Ask;
use super::proto::{Graph, Node};
use super::{arithmetic, layers, resize, shapes};

/// The most numbers that are computed ahead, and places that are listed.
const MOST_FOLDED: usize = 1 << 26;

/// The most numbers of all weights.
const MOST_WEIGHTS: usize = 1 << 31;

/// What a name of the graph stands for.
#[derive(Clone, Debug)]
pub(super) enum Known {
    /// Numbers that do not depend on the image; values in single precision, or whole numbers.
    Constant { tensor: Tensor, name: String },
    /// A value of the program.
    Value(usize),
}

/// Steps as they come about.
pub(super) struct Translator {
    /// The version of the operators.
    pub(super) version: i64,
    pub(super) steps: Vec<Step>,
    /// The shapes of the patch and of what each step gives.
    pub(super) shapes: Vec<Vec<usize>>,
    pub(super) weights: BTreeMap<String, Tensor>,
    folded: usize,
}

impl Translator {
    /// Before anything but a patch of that shape.
    pub(super) fn new(version: i64, image: Vec<usize>) -> Self {
        Self { version, steps: Vec::new(), shapes: vec![image], weights: BTreeMap::new(), folded: 0 }
    }

    /// What the names of a graph stand for, with all that cannot be translated. `known` are those that are known ahead.
    pub(super) fn all<'g>(
        &mut self,
        graph: &'g Graph<'_>,
        folder: &Path,
        mut known: HashMap<&'g str, Known>,
    ) -> (HashMap<&'g str, Known>, Vec<String>) {
        let mut complaints = Vec::new();
        let mut lost: std::collections::HashSet<&str> = Default::default();
        let mut held = 0usize;
        for stored in &graph.weights {
            // Several may lie at one place of a file.
            let tensor = if held > MOST_WEIGHTS { Err("no room beside the others".to_owned()) } else { stored.tensor(folder) };
            match tensor {
                Ok(tensor) => {
                    held += tensor.elem_count();
                    known.insert(stored.name, Known::Constant { tensor, name: stored.name.to_owned() });
                }
                Err(reason) => {
                    lost.insert(stored.name);
                    complaints.push(format!("the weight `{}` has {reason}", stored.name));
                }
            }
        }
        for node in &graph.nodes {
            let is_lost = node.inputs.iter().any(|input| lost.contains(input));
            let found = if is_lost { Err(None) } else { self.node(node, folder, &known).map_err(Some) };
            match found {
                Ok(found) => known.extend(node.outputs.iter().copied().zip(found)),
                Err(reason) => {
                    lost.extend(&node.outputs);
                    complaints.extend(reason.map(|reason| format!("`{}` ({}): {reason}", node.title(), node.op)));
                }
            }
        }
        (known, complaints)
    }

    fn node(&mut self, node: &Node<'_>, folder: &Path, known: &HashMap<&str, Known>) -> Result<Vec<Known>, String> {
        let ask = Ask::of(node, folder, known)?;
        let one = |known: Known| vec![known];
        match node.op {
            "Split" => shapes::split(self, &ask),
            "Conv"
            | "ConvTranspose"
            | "MaxPool"
            | "AveragePool"
            | "GlobalAveragePool"
            | "ReduceMean"
            | "InstanceNormalization"
            | "GroupNormalization"
            | "BatchNormalization"
            | "Gemm"
            | "Softmax"
            | "LogSoftmax" => layers::translate(self, &ask).map(one),
            "Resize" | "Upsample" => resize::translate(self, &ask).map(one),
            "Reshape" | "Transpose" | "Unsqueeze" | "Squeeze" | "Flatten" | "Slice" | "Gather" | "Shape" | "Expand" | "Concat" | "Pad" => {
                shapes::translate(self, &ask).map(one)
            }
            _ => arithmetic::translate(self, &ask).map(one),
        }
    }

    /// The shape of what is known.
    pub(super) fn shape<'s>(&'s self, known: &'s Known) -> &'s [usize] {
        match known {
            Known::Constant { tensor, .. } => tensor.dims(),
            Known::Value(value) => &self.shapes[*value],
        }
    }

    /// What an operation gives: computed at once if nothing of it depends on the image.
    pub(super) fn emit(&mut self, op: Op, of: &[Known], name: &str) -> Result<Known, String> {
        let shape = self.shape_of(&op, of)?;
        if of.len() == 1 && shape == self.shape(&of[0]) && changes_nothing(&op) {
            return Ok(of[0].clone());
        }
        let constants = of.iter().map(|known| if let Known::Constant { tensor, .. } = known { Some(tensor.clone()) } else { None });
        if let Some(constants) = constants.collect::<Option<Vec<_>>>().filter(|_| is_folded(&op)) {
            self.count(&shape)?;
            let moves = matches!(
                op,
                Op::Join { .. } | Op::Cut { .. } | Op::Take { .. } | Op::Reshape { .. } | Op::Permute { .. } | Op::Expand { .. }
            );
            let kinds: Vec<DType> = constants.iter().map(Tensor::dtype).collect();
            if kinds.iter().any(|kind| *kind != kinds[0]) || !(moves || kinds[0] == DType::F32) {
                return Err("whole numbers where values are expected".into());
            }
            let tensor = op.run(&constants).map_err(|error| error.to_string())?;
            return Ok(Known::Constant { tensor, name: name.to_owned() });
        }
        self.step(op, of)
    }

    /// What an operation gives, as one more step.
    pub(super) fn step(&mut self, op: Op, of: &[Known]) -> Result<Known, String> {
        let shape = self.shape_of(&op, of)?;
        let of = of.iter().map(|known| self.operand(known)).collect::<Result<_, _>>()?;
        self.steps.push(Step { op, of });
        self.shapes.push(shape);
        Ok(Known::Value(self.steps.len()))
    }

    fn shape_of(&self, op: &Op, of: &[Known]) -> Result<Vec<usize>, String> {
        op.shape(&of.iter().map(|known| self.shape(known)).collect::<Vec<_>>())
    }

    /// What is known, for a step.
    fn operand(&mut self, known: &Known) -> Result<Operand, String> {
        match known {
            Known::Value(value) => Ok(Operand::Value(*value)),
            Known::Constant { tensor, name } if tensor.dtype() == DType::F32 => {
                let own = |name: &str| self.weights.get(name).is_none_or(|other| other.id() == tensor.id());
                let mut name = format!("graph/{name}");
                if !own(&name) {
                    name = format!("{name}/{}", self.steps.len());
                }
                self.weights.insert(name.clone(), tensor.clone());
                Ok(Operand::Weight(name))
            }
            Known::Constant { .. } => Err("whole numbers where values are expected".into()),
        }
    }

    /// Counts numbers that are computed ahead.
    pub(super) fn count(&mut self, shape: &[usize]) -> Result<(), String> {
        self.folded = self.folded.saturating_add(graph::count(shape).unwrap_or(usize::MAX));
        if self.folded > MOST_FOLDED { Err(format!("constants of more than {MOST_FOLDED} numbers together")) } else { Ok(()) }
    }
}

/// Whether an operation leaves values of the same shape as they are.
fn changes_nothing(op: &Op) -> bool {
    match op {
        Op::Permute { order } => order.is_sorted(),
        Op::Pad { before, after, .. } => before.iter().chain(after).all(|end| *end == 0),
        _ => matches!(op, Op::Reshape { .. } | Op::Cut { .. } | Op::Expand { .. }),
    }
}

/// Whether an operation of constants is computed ahead.
fn is_folded(op: &Op) -> bool {
    !matches!(op, Op::Conv { .. } | Op::ConvTranspose { .. } | Op::Product | Op::MaxPool { .. } | Op::AveragePool { .. } | Op::Norm { .. })
}

/// A constant of values.
pub(super) fn values(name: &str, values: &[f32], shape: &[usize]) -> Result<Known, String> {
    let tensor = Tensor::from_slice(values, shape, &Device::Cpu).map_err(|error| error.to_string())?;
    Ok(Known::Constant { tensor, name: name.to_owned() })
}

/// A constant of whole numbers.
pub(super) fn numbers(name: &str, numbers: &[i64], shape: &[usize]) -> Result<Known, String> {
    let tensor = Tensor::from_slice(numbers, shape, &Device::Cpu).map_err(|error| error.to_string())?;
    Ok(Known::Constant { tensor, name: name.to_owned() })
}
