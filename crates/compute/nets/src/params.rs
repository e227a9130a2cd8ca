//! Named parameters, live or frozen.

use std::collections::{BTreeMap, HashMap};
use std::sync::{MutexGuard, PoisonError};

use candle_core::{DType, Device, Shape, Tensor, Var};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{VarBuilder, VarMap};
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

/// Elements of a map from which on a part of a transformer network is computed again for its gradient: 256 MiB, as at full
/// resolution on 128³.
const RECOMPUTE_FROM: usize = 1 << 26;

/// What is done with a parameter.
#[derive(Clone, Copy)]
struct Standing {
    live: bool,
    idle: bool,
}

/// The parameters of one network, in name order: candle's [`VarMap`], and which of its variables are live. A layer of candle's is
/// made on them by [`Params::builder`].
pub struct Params {
    vars: VarMap,
    /// What stands before each name in `vars`.
    prefix: String,
    standings: BTreeMap<String, Standing>,
    recompute_from: usize,
    factors: Factors,
}

impl Params {
    /// Fresh parameters. Each is drawn from a stream of its own name, so that adding a layer changes no other. (candle's own
    /// distributions draw from one generator of the device, which on the CPU takes no seed.)
    ///
    /// # Errors
    /// When the device is out of memory.
    pub fn init(specs: &[ParamSpec], streams: Streams, device: &Device) -> Result<Self, ParamsError> {
        let vars = VarMap::new();
        for spec in specs {
            let var = spec.start(streams, device)?;
            locked(&vars).insert(spec.name.clone(), var);
        }
        let standing = |spec: &ParamSpec| {
            let idle = matches!(spec.init, Init::Idle { .. });
            (spec.name.clone(), Standing { live: !idle, idle })
        };
        let standings = specs.iter().map(standing).collect();
        Ok(Self { vars, prefix: String::new(), standings, recompute_from: RECOMPUTE_FROM, factors: Factors::F32 })
    }

    /// The value of a parameter for a forward pass. A frozen one is cut off from the graph, so that neither its
    /// gradient nor, where nothing below it is live, the gradient of its input is computed.
    ///
    /// # Errors
    /// [`ParamsError::Unknown`].
    pub fn get(&self, name: &str) -> candle_core::Result<Tensor> {
        match self.standings.get(name).zip(self.var(name)) {
            None => candle_core::bail!("there is no parameter `{name}`"),
            Some((Standing { live: true, .. }, var)) => Ok(var.into_inner()),
            Some((Standing { live: false, .. }, var)) => Ok(var.as_detached_tensor()),
        }
    }

    /// Scale and shift of a norm of so many channels; 1 and 0 of one without parameters.
    pub(crate) fn norm(&self, name: Option<&str>, channels: usize) -> candle_core::Result<[Tensor; 2]> {
        let Some(name) = name else {
            let scale = Tensor::ones(channels, DType::F32, &self.device())?;
            return Ok([scale.clone(), scale.zeros_like()?]);
        };
        Ok([self.get(&format!("{name}.weight"))?, self.get(&format!("{name}.bias"))?])
    }

    /// What a layer of candle's takes its parameters from: each as [`Params::get`] gives it, of the shape that the layer asks for.
    #[must_use]
    pub fn builder(&self) -> VarBuilder<'_> {
        VarBuilder::from_backend(Box::new(Values(self)), DType::F32, self.device())
    }

    fn var(&self, name: &str) -> Option<Var> {
        locked(&self.vars).get(&self.whole_name(name)).cloned()
    }

    fn whole_name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// All names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.standings.keys().map(String::as_str)
    }

    /// All parameters with their variables, in name order.
    pub fn all(&self) -> impl Iterator<Item = (&str, Var)> {
        self.names().filter_map(|name| Some((name, self.var(name)?)))
    }

    /// The live parameters, in name order.
    pub fn live(&self) -> impl Iterator<Item = (&str, Var)> {
        self.all().filter(|(name, _)| self.standings[*name].live)
    }

    /// Whether a parameter is live whose name begins with `prefix` and a dot.
    pub(crate) fn moves(&self, prefix: &str) -> bool {
        let within = format!("{prefix}.");
        self.standings.range(within.clone()..).take_while(|(name, _)| name.starts_with(&within)).any(|(_, standing)| standing.live)
    }

    /// Makes the parameters whose name satisfies `rule` live and freezes all others. Idle ones ([`Init::Idle`]) stay frozen.
    pub fn set_live(&mut self, rule: impl Fn(&str) -> bool) {
        for (name, standing) in &mut self.standings {
            standing.live = rule(name) && !standing.idle;
        }
    }

    /// Whether the network does not compute with a parameter.
    pub(crate) fn is_idle(&self, name: &str) -> bool {
        self.standings.get(name).is_some_and(|standing| standing.idle)
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
        Self { recompute_from: usize::MAX, ..self.with(|name, standing| within(name).then(|| (name.to_owned(), standing))) }
    }

    /// The parameters whose names begin with `prefix`, without it, sharing their values.
    pub(crate) fn under(&self, prefix: &str) -> Self {
        let below = self.with(|name, standing| Some((name.strip_prefix(prefix)?.to_owned(), standing)));
        Self { prefix: self.whole_name(prefix), ..below }
    }

    /// The same parameters, sharing their values, all frozen.
    pub(crate) fn frozen(&self) -> Self {
        self.with(|name, standing| Some((name.to_owned(), Standing { live: false, ..standing })))
    }

    /// The same values under what `choose` makes of names and standings.
    fn with(&self, choose: impl Fn(&str, Standing) -> Option<(String, Standing)>) -> Self {
        let standings = self.standings.iter().filter_map(|(name, standing)| choose(name, *standing)).collect();
        Self { vars: self.vars.clone(), prefix: self.prefix.clone(), standings, ..*self }
    }

    /// Replaces the value of a parameter.
    ///
    /// # Errors
    /// [`ParamsError::Unknown`], or when the shape differs.
    pub fn set(&self, name: &str, value: &Tensor) -> Result<(), ParamsError> {
        if !self.standings.contains_key(name) {
            return Err(ParamsError::Unknown(name.to_owned()));
        }
        Ok(self.vars.clone().set_one(self.whole_name(name), value)?)
    }

    /// Replaces the values of parameters that are there, in the shapes that they have.
    pub(crate) fn set_all<'n>(&self, values: impl IntoIterator<Item = (&'n str, Tensor)>) -> candle_core::Result<()> {
        self.vars.clone().set(values.into_iter().map(|(name, value)| (self.whole_name(name), value)))
    }

    /// The number of single values.
    #[must_use]
    pub fn count(&self) -> usize {
        self.all().map(|(_, var)| var.elem_count()).sum()
    }

    /// The device that all parameters are on.
    #[must_use]
    pub fn device(&self) -> Device {
        self.all().next().map_or(Device::Cpu, |(_, var)| var.device().clone())
    }
}

fn locked(vars: &VarMap) -> MutexGuard<'_, HashMap<String, Var>> {
    vars.data().lock().unwrap_or_else(PoisonError::into_inner)
}

impl ParamSpec {
    fn start(&self, streams: Streams, device: &Device) -> candle_core::Result<Var> {
        let constant = |start: candle_nn::Init| start.var(self.shape.as_slice(), DType::F32, device);
        let count = self.shape.iter().product();
        let mut stream = streams.stream(&format!("init {}", self.name), &[]);
        let values: Vec<f32> = match self.init {
            Init::Ones => return constant(candle_nn::init::ONE),
            Init::Zeros => return constant(candle_nn::init::ZERO),
            Init::Idle { value } => return constant(candle_nn::Init::Const(value.into())),
            Init::Normal { std } => (0..count).map(|_| std * random::normal(&mut stream)).collect(),
            Init::Uniform { fan_in } => {
                #[expect(clippy::cast_precision_loss, reason = "fan-ins are far below 2^24")]
                let bound = 1.0 / (fan_in as f32).sqrt();
                (0..count).map(|_| stream.random_range(-bound..bound)).collect()
            }
        };
        Var::from_vec(values, self.shape.as_slice(), device)
    }
}

/// Parameters as layers of candle's ask for them. They are there already, so that no layer starts any.
struct Values<'p>(&'p Params);

impl SimpleBackend for Values<'_> {
    fn get(&self, shape: Shape, name: &str, _: candle_nn::Init, dtype: DType, device: &Device) -> candle_core::Result<Tensor> {
        let value = self.get_unchecked(name, dtype, device)?;
        if *value.shape() != shape {
            candle_core::bail!("the parameter `{name}` has the shape {:?}, the layer {shape:?}", value.shape());
        }
        Ok(value)
    }

    fn get_unchecked(&self, name: &str, dtype: DType, device: &Device) -> candle_core::Result<Tensor> {
        self.0.get(name)?.to_dtype(dtype)?.to_device(device)
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.0.standings.contains_key(name)
    }
}
