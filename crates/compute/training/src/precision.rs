//! The numbers that training computes with.

use anyhow::Result;
use nets::{ParamSpec, Params};
use ops::Factors;
use random::Streams;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use stage_kit::StageIo;

use crate::protocol::FitConfig;

/// What the large 3×3 convolutions multiply in training; heads, the first layer, norms, losses, sums and the weights themselves are
/// in single precision in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TrainingPrecision {
    /// Single precision. The default.
    #[default]
    F32,
    /// 16 bits with the range of single precision: faster with AMX and on GPUs, slower on other processors. On a CPU the layers
    /// before the first live one keep what passes between them in 16 bits too, as in inference.
    Bf16,
    /// `bf16` on processors with AMX, else `f32`: weights then depend on the machine.
    Auto,
}

impl TrainingPrecision {
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// What it comes to on this machine.
    #[must_use]
    pub fn factors(self) -> Factors {
        match self {
            Self::Bf16 => Factors::Bf16,
            Self::Auto if ops::bf16_trains_faster() => Factors::Bf16,
            Self::F32 | Self::Auto => Factors::F32,
        }
    }
}

impl FitConfig {
    /// Fresh parameters of a network, on the stage's device, from its seed.
    ///
    /// # Errors
    /// When there is no such device, or it is out of memory.
    pub fn parameters(&self, specs: &[ParamSpec], io: &StageIo) -> Result<Params> {
        let mut params = Params::init(specs, Streams::new(io.seed), &nets::device(io.device)?)?;
        params.set_factors(self.precision.factors());
        Ok(params)
    }
}
