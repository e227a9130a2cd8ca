//! Named parameters, live or frozen.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor, Var};
use ops::{ConvOptions, Factors};
use random::Streams;
use random::rand::RngExt as _;

/// How a parameter starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// Uniform in ±1/√fan_in, PyTorch's default for the weights and biases of convolutions.
    Uniform {
        /// Inputs that one output sums over.
        fan_in: usize,
    },
    /// All ones: the scale of a normalisation.
    Ones,
    /// All zeros: the shift of a normalisation.
    Zeros,
    /// Normal around zero: places of tokens, and biases by them.
    Normal {
        /// The standard deviation.
        std: f32,
    },
    /// What MONAI's network has and does not compute with: kept so that files fit, never live.
    Idle {
        /// All values.
        value: f32,
    },
}

/// The name, shape and start of a parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct ParamSpec {
    /// MONAI's name, such as `down_1.convs.conv_0.conv.weight`.
    pub name: String,
    /// PyTorch's shape.
    pub shape: Vec<usize>,
    /// The start.
    pub init: Init,
}

/// Why parameters cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ParamsError {
    /// A name that the network does not have.
    #[error("there is no parameter `{0}`")]
    Unknown(String),
    /// A failure of the tensor library.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

#[derive(Clone)]
struct Param {
    var: Var,
    live: bool,
    idle: bool,
}

/// Elements of a map from which on a part of a transformer network is computed again for its gradient: 256 MiB, as at full
/// resolution on 128³.
const RECOMPUTE_FROM: usize = 1 << 26;

/// The parameters of one network, in name order.
pub struct Params {
    entries: BTreeMap<String, Param>,
    recompute_from: usize,
    factors: Factors,
}

impl Params {
    /// Fresh parameters. Each is drawn from a stream of its own name, so that adding a layer changes no other.
    ///
    /// # Errors
    /// When the device is out of memory.
    pub fn init(specs: &[ParamSpec], streams: Streams, device: &Device) -> Result<Self, ParamsError> {
        let entries = specs.iter().map(|spec| {
            let count = spec.shape.iter().product();
            let values: Vec<f32> = match spec.init {
                Init::Ones => vec![1.0; count],
                Init::Zeros => vec![0.0; count],
                Init::Idle { value } => vec![value; count],
                Init::Normal { std } => {
                    let mut stream = streams.stream(&format!("init {}", spec.name), &[]);
                    (0..count).map(|_| std * random::normal(&mut stream)).collect()
                }
                Init::Uniform { fan_in } => {
                    #[expect(clippy::cast_precision_loss, reason = "fan-ins are far below 2^24")]
                    let bound = 1.0 / (fan_in as f32).sqrt();
                    let mut stream = streams.stream(&format!("init {}", spec.name), &[]);
                    (0..count).map(|_| stream.random_range(-bound..bound)).collect()
                }
            };
            let var = Var::from_tensor(&Tensor::from_vec(values, spec.shape.as_slice(), device)?)?;
            let idle = matches!(spec.init, Init::Idle { .. });
            Ok((spec.name.clone(), Param { var, live: !idle, idle }))
        });
        Ok(Self { entries: entries.collect::<Result<_, ParamsError>>()?, recompute_from: RECOMPUTE_FROM, factors: Factors::F32 })
    }

    /// The value of a parameter for a forward pass. A frozen one is cut off from the graph, so that neither its
    /// gradient nor, where nothing below it is live, the gradient of its input is computed.
    ///
    /// # Errors
    /// [`ParamsError::Unknown`].
    pub fn get(&self, name: &str) -> candle_core::Result<Tensor> {
        match self.entries.get(name) {
            None => candle_core::bail!("there is no parameter `{name}`"),
            Some(Param { var, live: true, .. }) => Ok(var.as_tensor().clone()),
            Some(Param { var, live: false, .. }) => Ok(var.as_detached_tensor()),
        }
    }

    /// All names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// All parameters with their variables, in name order.
    pub fn all(&self) -> impl Iterator<Item = (&str, &Var)> {
        self.entries.iter().map(|(name, param)| (name.as_str(), &param.var))
    }

    /// The live parameters, in name order.
    pub fn live(&self) -> impl Iterator<Item = (&str, &Var)> {
        self.entries.iter().filter(|(_, param)| param.live).map(|(name, param)| (name.as_str(), &param.var))
    }

    /// Makes the parameters whose name satisfies `rule` live and freezes all others. Idle ones ([`Init::Idle`]) stay frozen.
    pub fn set_live(&mut self, rule: impl Fn(&str) -> bool) {
        for (name, param) in &mut self.entries {
            param.live = rule(name) && !param.idle;
        }
    }

    /// Whether the network does not compute with a parameter.
    pub(crate) fn is_idle(&self, name: &str) -> bool {
        self.entries.get(name).is_some_and(|param| param.idle)
    }

    /// From how many elements of a map on the part of a transformer network around it is computed again for its gradient, in
    /// place of being kept. Changes time and memory, no bit of a result, and of gradients the rounding.
    pub fn set_recompute_from(&mut self, elements: usize) {
        self.recompute_from = elements;
    }

    /// What the products of convolutions are made of; `f32` unless this is called.
    pub fn set_factors(&mut self, factors: Factors) {
        self.factors = factors;
    }

    /// How a convolution of this network walks.
    pub(crate) fn walk(&self, stride: usize, padding: usize) -> ConvOptions {
        ConvOptions { factors: self.factors, ..ConvOptions::new(stride, padding) }
    }

    /// Whether a part with maps of so many elements is computed again. On a GPU it is not.
    pub(crate) fn recomputes(&self, elements: usize) -> bool {
        elements >= self.recompute_from && self.device().is_cpu()
    }

    /// The parameters whose names begin with `prefix` and a dot, sharing their values; nothing of them is computed again.
    pub(crate) fn part(&self, prefix: &str) -> Self {
        let within = |name: &str| name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('.'));
        let entries = self.entries.iter().filter(|(name, _)| within(name)).map(|(name, param)| (name.clone(), param.clone())).collect();
        Self { entries, recompute_from: usize::MAX, factors: self.factors }
    }

    /// The parameters whose names begin with `prefix`, without it, sharing their values.
    pub(crate) fn under(&self, prefix: &str) -> Self {
        let below = |(name, param): (&String, &Param)| Some((name.strip_prefix(prefix)?.to_owned(), param.clone()));
        Self { entries: self.entries.iter().filter_map(below).collect(), ..*self }
    }

    /// The same parameters, sharing their values, all frozen.
    pub(crate) fn frozen(&self) -> Self {
        let frozen = |(name, param): (&String, &Param)| (name.clone(), Param { live: false, ..param.clone() });
        Self { entries: self.entries.iter().map(frozen).collect(), ..*self }
    }

    /// Replaces the value of a parameter.
    ///
    /// # Errors
    /// [`ParamsError::Unknown`], or when the shape differs.
    pub fn set(&self, name: &str, value: &Tensor) -> Result<(), ParamsError> {
        let param = self.entries.get(name).ok_or_else(|| ParamsError::Unknown(name.to_owned()))?;
        Ok(param.var.set(value)?)
    }

    /// The number of single values.
    #[must_use]
    pub fn count(&self) -> usize {
        self.entries.values().map(|param| param.var.elem_count()).sum()
    }

    /// The device that all parameters are on.
    #[must_use]
    pub fn device(&self) -> Device {
        self.entries.values().next().map_or(Device::Cpu, |param| param.var.device().clone())
    }
}
