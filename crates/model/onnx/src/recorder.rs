//! Layers, written down in place of being computed.

use std::cell::RefCell;
use std::collections::BTreeMap;

use candle_core::{Error, Result, bail};
use nets::{Compute, EPSILON, Params, SLOPE};

use crate::graph::{Graph, Is, Size, Value};

/// That an operation has no form here.
pub(crate) fn unknown(what: &str) -> Error {
    Error::Msg(format!("{what} cannot be written as ONNX"))
}

/// Records the layers of a network as an ONNX graph, with the values of `params`.
///
/// The batch and the sides of images are left open.
pub struct Recorder<'p> {
    pub(crate) params: &'p Params,
    /// The names of the spatial axes.
    axes: &'static [&'static str],
    graph: RefCell<Graph>,
}

impl<'p> Recorder<'p> {
    /// For slices `(batch, 1, x, y)`.
    #[must_use]
    pub fn of_slices(params: &'p Params) -> Self {
        Self { params, axes: &["x", "y"], graph: RefCell::default() }
    }

    /// For volumes `(batch, 1, x, y, z)`.
    #[must_use]
    pub fn of_volumes(params: &'p Params) -> Self {
        Self { params, axes: &["x", "y", "z"], graph: RefCell::default() }
    }

    /// The image that the network is shown.
    #[must_use]
    pub fn image(&self) -> Value {
        self.graph.borrow_mut().input("image", &self.sizes(1))
    }

    /// Makes a value of so many channels an output.
    pub fn output(&self, name: &str, value: &Value, channels: usize) {
        self.graph.borrow_mut().output(name, value, &self.sizes(channels));
    }

    /// The graph as the bytes of a file, with a sentence about it and with metadata.
    #[must_use]
    pub fn into_bytes(self, about: &str, metadata: &BTreeMap<String, String>) -> Vec<u8> {
        self.graph.into_inner().into_bytes(about, metadata)
    }

    fn sizes(&self, channels: usize) -> Vec<Size<'static>> {
        let mut sizes = vec![Size::Named("batch"), Size::Is(channels)];
        sizes.extend(self.axes.iter().map(|axis| Size::Named(axis)));
        sizes
    }

    /// The number of spatial axes.
    pub(crate) fn dims(&self) -> usize {
        self.axes.len()
    }

    pub(crate) fn node(&self, name: &str, op: &str, inputs: &[&str], attributes: &[(&str, Is<'_>)]) -> Value {
        self.graph.borrow_mut().node(name, op, inputs, attributes)
    }

    /// A parameter of the network.
    pub(crate) fn weights(&self, name: &str) -> Result<String> {
        self.made(name, || self.params.get(name))
    }

    /// Weights that are made of parameters.
    pub(crate) fn made(&self, name: &str, make: impl FnOnce() -> Result<candle_core::Tensor>) -> Result<String> {
        self.graph.borrow_mut().weights(name, make)
    }

    pub(crate) fn numbers(&self, values: &[i64]) -> String {
        self.graph.borrow_mut().numbers(values)
    }

    /// Part of a shape: of its axes from `start` on, or up to `end`.
    pub(crate) fn shape(&self, x: &Value, start: i64, end: Option<i64>) -> Value {
        let mut attributes = vec![("start", Is::Int(start))];
        attributes.extend(end.map(|end| ("end", Is::Int(end))));
        self.node(&format!("{}.shape", x.0), "Shape", &[&x.0], &attributes)
    }

    /// The parts of a shape behind each other.
    pub(crate) fn shape_of(&self, name: &str, parts: &[&str]) -> Value {
        self.node(&format!("{name}.shape"), "Concat", parts, &[("axis", Is::Int(0))])
    }

    /// A convolution, whose filters have the sides `kernel`.
    pub(crate) fn conv(&self, name: &str, x: &Value, weight: &str, bias: Option<&str>, walk: &Walk<'_>) -> Value {
        let Walk { kernel, stride, padding } = walk;
        let ints = |values: &[usize]| Is::Ints(values.iter().map(|&n| n as i64).collect());
        let inputs: Vec<&str> = [x.0.as_str(), weight].into_iter().chain(bias).collect();
        let pads = [*padding, *padding].concat();
        self.node(name, "Conv", &inputs, &[("kernel_shape", ints(kernel)), ("strides", ints(stride)), ("pads", ints(&pads))])
    }

    /// A transposed convolution whose kernel is as large as its stride.
    pub(crate) fn raised(&self, name: &str, x: &Value, weight: &str, bias: Option<&str>, stride: &[usize]) -> Value {
        let ints = || Is::Ints(stride.iter().map(|&n| n as i64).collect());
        let inputs: Vec<&str> = [x.0.as_str(), weight].into_iter().chain(bias).collect();
        self.node(name, "ConvTranspose", &inputs, &[("kernel_shape", ints()), ("strides", ints())])
    }

    /// Instance norm, with scale and shift.
    pub(crate) fn norm(&self, name: &str, x: &Value, gamma: &str, beta: &str) -> Value {
        self.node(name, "InstanceNormalization", &[&x.0, gamma, beta], &[("epsilon", Is::Float(EPSILON))])
    }

    pub(crate) fn leaky(&self, name: &str, x: &Value, slope: f64) -> Value {
        self.node(&format!("{name}.act"), "LeakyRelu", &[&x.0], &[("alpha", Is::Float(slope))])
    }

    pub(crate) fn concat(&self, name: &str, maps: &[&Value]) -> Value {
        let names: Vec<&str> = maps.iter().map(|map| map.0.as_str()).collect();
        self.node(&format!("{name}.concat"), "Concat", &names, &[("axis", Is::Int(1))])
    }
}

/// How a convolution goes over a map, along each axis.
pub(crate) struct Walk<'a> {
    pub(crate) kernel: &'a [usize],
    pub(crate) stride: &'a [usize],
    pub(crate) padding: &'a [usize],
}

impl Compute for Recorder<'_> {
    type Map = Value;

    fn conv_norm_act(&self, name: &str, sources: &[&Value]) -> Result<Value> {
        let x = match sources {
            [] => bail!("`{name}` has no input"),
            [x] => (*x).clone(),
            _ => self.concat(name, sources),
        };
        let get = |leaf: &str| self.weights(&format!("{name}.{leaf}"));
        let (three, one) = (vec![3; self.dims()], vec![1; self.dims()]);
        let walk = Walk { kernel: &three, stride: &one, padding: &one };
        let y = self.conv(&format!("{name}.conv"), &x, &get("conv.weight")?, Some(&get("conv.bias")?), &walk);
        let y = self.norm(&format!("{name}.adn.N"), &y, &get("adn.N.weight")?, &get("adn.N.bias")?);
        Ok(self.leaky(name, &y, SLOPE))
    }

    fn max_pool2(&self, x: &Value) -> Result<Value> {
        let twos = || Is::Ints(vec![2; self.dims()]);
        Ok(self.node(&format!("{}.pooled", x.0), "MaxPool", &[&x.0], &[("kernel_shape", twos()), ("strides", twos())]))
    }

    fn upsample(&self, name: &str, x: &Value, like: &Value) -> Result<Value> {
        let get = |leaf: &str| self.weights(&format!("{name}.{leaf}"));
        let raised = self.raised(name, x, &get("weight")?, Some(&get("bias")?), &vec![2; self.dims()]);
        // What an odd side lacks is a copy of its neighbour: padding at the far ends, by the difference of the sizes.
        let (wanted, found) = (self.shape(like, 2, None), self.shape(&raised, 2, None));
        let missing = self.node(&format!("{name}.missing"), "Sub", &[&wanted.0, &found.0], &[]);
        let none = self.numbers(&vec![0; self.dims() + 4]);
        let pads = self.shape_of(&format!("{name}.pads"), &[&none, &missing.0]);
        Ok(self.node(&format!("{name}.padded"), "Pad", &[&raised.0, &pads.0], &[("mode", Is::Text("edge"))]))
    }

    fn head(&self, name: &str, x: &Value) -> Result<Value> {
        let (one, none) = (vec![1; self.dims()], vec![0; self.dims()]);
        let walk = Walk { kernel: &one, stride: &one, padding: &none };
        let get = |leaf: &str| self.weights(&format!("{name}.{leaf}"));
        Ok(self.conv(name, x, &get("weight")?, Some(&get("bias")?), &walk))
    }
}
