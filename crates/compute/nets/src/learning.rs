//! The weights of networks, in training and trained, and the way to compute with them: by tensors, or on the CPU by kernels for what is
//! frozen.

use candle_core::{Result, Tensor};
use ops::Factors;
use ops::frozen::{Bf16, Int8};

use crate::frozen::of_images;
use crate::layers::Layers;
use crate::params::Params;
use crate::partly::Partly;
use crate::precision::Precision;
use crate::student::DualUNet2d;

/// Layers that are computed, rather than written down.
pub trait Numeric: Layers {
    /// A batch on its way into a network.
    fn of_tensor(&self, batch: &Tensor) -> Self::Map;

    /// What has come out of a layer.
    ///
    /// # Errors
    /// When memory runs out.
    fn tensor(&self, x: &Self::Map) -> Result<Tensor>;
}

impl Numeric for Params {
    fn of_tensor(&self, batch: &Tensor) -> Tensor {
        batch.clone()
    }

    fn tensor(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.clone())
    }
}

/// A way of a batch through a network.
pub trait Pass: Sync {
    /// What comes of it.
    type Answer;

    /// Takes the way.
    ///
    /// # Errors
    /// When shapes do not fit or memory runs out.
    fn take<C: Numeric>(&self, compute: &C, batch: &Tensor) -> Result<Self::Answer>;
}

/// Outputs of a student by their places: logits `(b, channels, h, w)` of slices `(b, 1, h, w)`, sizes at least 16.
struct Outputs<'n>(&'n DualUNet2d, &'n [usize]);

impl Pass for Outputs<'_> {
    type Answer = Vec<Tensor>;

    fn take<C: Numeric>(&self, compute: &C, batch: &Tensor) -> Result<Vec<Tensor>> {
        let logits = self.0.logits(compute, &compute.of_tensor(batch), self.1)?;
        logits.iter().map(|logits| compute.tensor(logits)).collect()
    }
}

/// How weights are computed with.
enum Engine {
    /// As tensors: on a GPU, for [`Precision::Exact`], and where nothing is frozen.
    Tensors(Params),
    /// What is frozen packed, in single precision.
    F32(Partly<f32>),
    /// The same in 16 bits.
    Bf16(Partly<Bf16>),
    /// The same in 8 bits.
    Int8(Partly<Int8>),
}

impl Engine {
    fn params(&self) -> &Params {
        match self {
            Self::Tensors(params) => params,
            Self::F32(partly) => partly.params(),
            Self::Bf16(partly) => partly.params(),
            Self::Int8(partly) => partly.params(),
        }
    }

    fn into_params(self) -> Params {
        match self {
            Self::Tensors(params) => params,
            Self::F32(partly) => partly.into_params(),
            Self::Bf16(partly) => partly.into_params(),
            Self::Int8(partly) => partly.into_params(),
        }
    }

    fn run<P: Pass>(&self, pass: &P, batch: &Tensor) -> Result<P::Answer> {
        match self {
            Self::Tensors(params) => pass.take(params, batch),
            Self::F32(partly) => pass.take(partly, batch),
            Self::Bf16(partly) => pass.take(partly, batch),
            Self::Int8(partly) => pass.take(partly, batch),
        }
    }
}

/// The weights of a trained network, ready for inference.
pub struct Trained(Engine);

impl Trained {
    /// Freezes `params` where they are.
    #[must_use]
    pub fn new(mut params: Params, precision: Precision) -> Self {
        params.set_live(|_| false);
        if !params.device().is_cpu() {
            return Self(Engine::Tensors(params));
        }
        Self(match precision {
            Precision::Exact => Engine::Tensors(params),
            Precision::Bf16 => Engine::Bf16(Partly::new(params)),
            Precision::Int8 => Engine::Int8(Partly::new(params)),
            Precision::Auto if ops::frozen::bf16_is_fast() => Engine::Bf16(Partly::new(params)),
            Precision::F32 | Precision::Auto => Engine::F32(Partly::new(params)),
        })
    }

    /// The parameters as they were.
    #[must_use]
    pub fn params(&self) -> &Params {
        self.0.params()
    }

    /// The parameters, to be computed with otherwise.
    #[must_use]
    pub fn into_params(self) -> Params {
        self.0.into_params()
    }

    /// What a network makes of a batch.
    ///
    /// # Errors
    /// When shapes do not fit or memory runs out.
    pub fn run<P: Pass>(&self, pass: &P, batch: &Tensor) -> Result<P::Answer> {
        self.0.run(pass, batch)
    }

    /// Logits `(b, channels, h, w)` of every output, of slices `(b, 1, h, w)`, sizes at least 16. With packed weights slices go through the
    /// network one by one, which takes the least memory.
    ///
    /// # Errors
    /// When shapes do not fit or memory runs out.
    pub fn student(&self, network: &DualUNet2d, slices: &Tensor) -> Result<Vec<Tensor>> {
        let outputs: Vec<usize> = (0..network.outputs()).collect();
        let pass = Outputs(network, &outputs);
        if matches!(self.0, Engine::Tensors(_)) {
            return self.run(&pass, slices);
        }
        let (batch, _, height, width) = slices.dims4()?;
        let each = of_images(batch, height * width, |i| self.run(&pass, &slices.narrow(0, i, 1)?))?;
        let join = |place: usize| Tensor::cat(&each.iter().map(|logits| &logits[place]).collect::<Vec<_>>(), 0);
        outputs.iter().map(|&place| join(place)).collect()
    }
}

/// The parameters of a network in training, and how it is computed. Which of them are live is settled, and the values of the others are,
/// once a batch has passed.
pub struct Learning(Engine);

impl Learning {
    /// Computes with `params` as they are frozen now, in the numbers that they compute with.
    #[must_use]
    pub fn new(params: Params) -> Self {
        if !params.device().is_cpu() || params.live().count() == params.all().count() {
            return Self::by_tensors(params);
        }
        Self(match params.walk(1, 1).factors {
            Factors::F32 => Engine::F32(Partly::new(params)),
            Factors::Bf16 => Engine::Bf16(Partly::new(params)),
        })
    }

    /// Computes with tensors throughout, whatever is frozen.
    #[must_use]
    pub fn by_tensors(params: Params) -> Self {
        Self(Engine::Tensors(params))
    }

    /// The parameters, live and frozen.
    #[must_use]
    pub fn params(&self) -> &Params {
        self.0.params()
    }

    /// The parameters, to be frozen otherwise.
    #[must_use]
    pub fn into_params(self) -> Params {
        self.0.into_params()
    }

    /// What a network makes of a batch, with gradients for live parameters.
    ///
    /// # Errors
    /// When shapes do not fit or memory runs out.
    pub fn run<P: Pass>(&self, pass: &P, batch: &Tensor) -> Result<P::Answer> {
        self.0.run(pass, batch)
    }

    /// [`DualUNet2d::logits`] with gradients for live parameters.
    ///
    /// # Errors
    /// When there is no such output, shapes do not fit or memory runs out.
    pub fn student(&self, network: &DualUNet2d, slices: &Tensor, outputs: &[usize]) -> Result<Vec<Tensor>> {
        self.run(&Outputs(network, outputs), slices)
    }
}
