//! The numbers that inference computes with.

use candle_core::Device;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use stage_kit::Report;

/// The numbers that inference computes with, on the CPU. Sums are single in all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Single precision, by the kernels of training: the slowest.
    Exact,
    /// Single precision, with fewer multiplications where that is faster. The default.
    #[default]
    F32,
    /// 16 bits with the range of single precision: fast where the processor multiplies them (AVX-512 BF16), and very slow
    /// where it does not.
    Bf16,
    /// Activations and weights of 8 bits between layers: fast where the processor multiplies these (AVX-512 VNNI, AVX-VNNI), and very
    /// slow where it does not. A layer's activations have the 256 levels between their smallest and their greatest value.
    Int8,
    /// `bf16` where the processor multiplies it, else `f32`: results then depend on the machine in their last digits.
    Auto,
}

impl Precision {
    /// What speaks against it on a device of this machine.
    #[must_use]
    pub fn doubt(self, device: &Device) -> Option<String> {
        let fast = match self {
            _ if !device.is_cpu() => true,
            Self::Bf16 => ops::frozen::bf16_is_fast(),
            Self::Int8 => ops::frozen::int8_is_fast(),
            Self::Exact | Self::F32 | Self::Auto => true,
        };
        (!fast).then(|| {
            format!("warning: this processor does not multiply {self}, which is very slow here; leave `precision` out, or take f32")
        })
    }

    /// Warns of what speaks against it, if anything does.
    pub fn warn(self, device: &Device, report: &Report) {
        if let Some(doubt) = self.doubt(device) {
            report.note(&doubt);
        }
    }
}

/// As a pipeline file names it.
impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Exact => "exact",
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
            Self::Auto => "auto",
        })
    }
}
