//! A graph that grows node by node.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::{DType, Result, Tensor};
use prost::Message as _;

use crate::proto::{
    Attribute, Dimension, FLOAT, Graph as GraphProto, INT64, Model, Node, OperatorSet, Property, Shape, TensorData, TensorType, Type,
    ValueInfo,
};

/// The version of the operators.
const OPSET: i64 = 17;
/// The version of the format that came with them.
const IR: i64 = 8;

/// What a node gives.
#[derive(Clone, Debug)]
pub struct Value(pub(crate) String);

/// An attribute of a node.
pub(crate) enum Is<'a> {
    Float(f64),
    Int(i64),
    Ints(Vec<i64>),
    Text(&'a str),
}

/// Nodes, weights, inputs and outputs, in the order in which they were added.
#[derive(Default)]
pub(crate) struct Graph {
    nodes: Vec<Node>,
    weights: Vec<TensorData>,
    names: BTreeSet<String>,
    inputs: Vec<ValueInfo>,
    outputs: Vec<ValueInfo>,
}

impl Graph {
    /// A node of one output, which gets its name from `name`.
    pub(crate) fn node(&mut self, name: &str, op: &str, inputs: &[&str], attributes: &[(&str, Is<'_>)]) -> Value {
        let name = self.free(name);
        self.nodes.push(Node {
            input: inputs.iter().map(|&input| input.to_owned()).collect(),
            output: vec![name.clone()],
            name: name.clone(),
            op_type: op.to_owned(),
            attribute: attributes.iter().map(|(name, is)| attribute(name, is)).collect(),
        });
        Value(name)
    }

    /// Weights under that name, which are the same each time that they are asked for.
    pub(crate) fn weights(&mut self, name: &str, make: impl FnOnce() -> Result<Tensor>) -> Result<String> {
        if self.names.contains(name) {
            return Ok(name.to_owned());
        }
        let tensor = make()?;
        let values = tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        let dims: Vec<i64> = tensor.dims().iter().map(|&n| n as i64).collect();
        let raw = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Ok(self.data(name.to_owned(), dims, FLOAT, raw))
    }

    /// A list of whole numbers, such as a shape.
    pub(crate) fn numbers(&mut self, values: &[i64]) -> String {
        let name = format!("numbers[{}]", values.iter().map(ToString::to_string).collect::<Vec<_>>().join(","));
        if self.names.contains(&name) {
            return name;
        }
        let raw = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.data(name, vec![values.len() as i64], INT64, raw)
    }

    fn data(&mut self, name: String, dims: Vec<i64>, data_type: i32, raw: Vec<u8>) -> String {
        self.names.insert(name.clone());
        self.weights.push(TensorData { dims, data_type, name: name.clone(), raw_data: Some(raw) });
        name
    }

    /// An input of these sizes; those without a number have a name.
    pub(crate) fn input(&mut self, name: &str, sizes: &[Size<'_>]) -> Value {
        let name = self.free(name);
        self.inputs.push(info(&name, sizes));
        Value(name)
    }

    /// Makes a value an output of that name, with these sizes.
    pub(crate) fn output(&mut self, name: &str, value: &Value, sizes: &[Size<'_>]) {
        let Value(name) = self.node(name, "Identity", &[&value.0], &[]);
        self.outputs.push(info(&name, sizes));
    }

    /// The bytes of a file.
    pub(crate) fn into_bytes(self, about: &str, metadata: &BTreeMap<String, String>) -> Vec<u8> {
        let Self { nodes, weights, inputs, outputs, names: _ } = self;
        let graph = GraphProto { node: nodes, name: "network".into(), initializer: weights, input: inputs, output: outputs };
        let model = Model {
            ir_version: IR,
            producer_name: "flare".into(),
            producer_version: env!("CARGO_PKG_VERSION").into(),
            doc_string: about.to_owned(),
            graph: Some(graph),
            opset_import: vec![OperatorSet { domain: Some(String::new()), version: OPSET }],
            metadata_props: metadata.iter().map(|(key, value)| Property { key: key.clone(), value: value.clone() }).collect(),
        };
        model.encode_to_vec()
    }

    /// `name`, with a number where it is in use: a layer may be computed more than once.
    fn free(&mut self, name: &str) -> String {
        let mut free = name.to_owned();
        let mut number = 2;
        while !self.names.insert(free.clone()) {
            free = format!("{name}_{number}");
            number += 1;
        }
        free
    }
}

/// A size of an input or output.
#[derive(Clone, Copy)]
pub(crate) enum Size<'a> {
    Is(usize),
    Named(&'a str),
}

fn info(name: &str, sizes: &[Size<'_>]) -> ValueInfo {
    let dim = sizes.iter().map(|size| match size {
        Size::Is(n) => Dimension { value: Some(*n as i64), name: None },
        Size::Named(name) => Dimension { value: None, name: Some((*name).to_owned()) },
    });
    let tensor = TensorType { element: FLOAT, shape: Some(Shape { dim: dim.collect() }) };
    ValueInfo { name: name.to_owned(), kind: Some(Type { tensor: Some(tensor) }) }
}

fn attribute(name: &str, is: &Is<'_>) -> Attribute {
    let none = Attribute { name: name.to_owned(), ..Attribute::default() };
    match is {
        #[expect(clippy::cast_possible_truncation, reason = "ONNX has no longer ones")]
        Is::Float(f) => Attribute { f: Some(*f as f32), kind: 1, ..none },
        Is::Int(i) => Attribute { i: Some(*i), kind: 2, ..none },
        Is::Text(s) => Attribute { s: Some(s.as_bytes().to_vec()), kind: 3, ..none },
        Is::Ints(ints) => Attribute { ints: ints.clone(), kind: 7, ..none },
    }
}
