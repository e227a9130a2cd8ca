//! What nnU-Net calls the parameters of its networks.

use nets::UNetConfig;

/// The names of a network's parameters.
pub(super) struct Names<'n> {
    network: &'n UNetConfig,
    bias: bool,
}

impl<'n> Names<'n> {
    pub(super) fn of(network: &'n UNetConfig, bias: bool) -> Self {
        Self { network, bias }
    }

    /// The name of a parameter of this program's network; none if that network has no such parameter, and zeros mean that.
    pub(super) fn of_parameter(&self, ours: &str) -> Option<String> {
        let parts: Vec<&str> = ours.split('.').collect();
        // Decoders count from the deepest level, heads of deep supervision too.
        let from_below = |level: &str| self.deepest() - 1 - level.parse::<usize>().unwrap_or_default();
        match parts[..] {
            ["encoder", "stem", ref leaf @ ..] => Some(format!("encoder.stem.convs.0.{}", leaf.join("."))),
            ["encoder", level, block, "skip", ref leaf @ ..] => {
                let place = usize::from(self.steps(level));
                Some(format!("encoder.stages.{level}.blocks.{block}.skip.{place}.{}", leaf.join(".")))
            }
            ["encoder", level, block, ref leaf @ ..] if self.network.blocks.is_some() => {
                Some(format!("encoder.stages.{level}.blocks.{block}.{}", leaf.join(".")))
            }
            ["encoder", level, conv, ref leaf @ ..] => Some(format!("encoder.stages.{level}.0.convs.{conv}.{}", leaf.join("."))),
            ["decoder", _, "up", "bias"] if !self.bias => None,
            ["decoder", level, "up", leaf] => Some(format!("decoder.transpconvs.{}.{leaf}", from_below(level))),
            ["decoder", level, conv, ref leaf @ ..] => {
                Some(format!("decoder.stages.{}.convs.{conv}.{}", from_below(level), leaf.join(".")))
            }
            _ => Some(format!("decoder.seg_layers.{}.{}", self.deepest() - 1, parts.last().copied().unwrap_or_default())),
        }
    }

    /// What a tensor is that no prediction depends on, if it is one.
    pub(super) fn unused(&self, theirs: &str) -> Option<&'static str> {
        if theirs.contains(".all_modules.") || theirs.starts_with("decoder.encoder.") {
            return Some("second names of others");
        }
        if theirs.ends_with(".conv.bias") {
            return Some("biases that the norm behind them takes away");
        }
        let head = theirs.strip_prefix("decoder.seg_layers.")?.split('.').next()?.parse::<usize>().ok()?;
        (head + 1 < self.deepest()).then_some("heads of deep supervision")
    }

    fn deepest(&self) -> usize {
        self.network.features.len() - 1
    }

    /// Whether a level begins with a step, which a skip averages over before it convolves.
    fn steps(&self, level: &str) -> bool {
        let level = level.parse::<usize>().unwrap_or_default();
        level > 0 && self.network.strides[level - 1] != [1; 3]
    }
}
