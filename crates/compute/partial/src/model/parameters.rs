//! The parameters of the networks, and where their outputs start.

use std::ops::Range;

use candle_core::Tensor;
use nets::{Network, ParamSpec, Params, ParamsError, Trunk};

use super::{Kind, Model};

impl Network for Model {
    fn parameters(&self) -> Vec<ParamSpec> {
        let whole = |trunk: &Trunk, prefix: &str, classes: usize| {
            let parts = [trunk.encoder_parameters(prefix), trunk.decoder_parameters(prefix), trunk.head_parameters(prefix, 0, classes)];
            parts.concat()
        };
        let classes = |head: usize| self.heads[head].classes.len();
        let all = 0..self.heads.len();
        match &self.kind {
            Kind::Dodnet(network) => network.parameters(),
            Kind::Shared { trunk, levels } => {
                let total = all.map(classes).sum();
                let mut specs = [trunk.encoder_parameters(""), trunk.decoder_parameters("")].concat();
                specs.extend((0..*levels).flat_map(|level| trunk.head_parameters("", level, total)));
                specs
            }
            Kind::Exclusive(trunk) => whole(trunk, "", classes(0) + 1),
            Kind::Conditional { trunk, .. } => whole(trunk, "", all.map(classes).max().unwrap_or(0)),
            Kind::Networks { trunk, .. } => all.flat_map(|head| whole(trunk, &self.prefix(head), classes(head))).collect(),
            Kind::Decoders(trunk) => {
                let decoder = |head: usize| {
                    let prefix = self.prefix(head);
                    [trunk.decoder_parameters(&prefix), trunk.head_parameters(&prefix, 0, classes(head))].concat()
                };
                [trunk.encoder_parameters(""), all.flat_map(decoder).collect()].concat()
            }
        }
    }
}

impl Model {
    /// Moves the biases behind all outputs, so that a class is found as likely as `prior` in every voxel before anything is
    /// learnt. Random weights alone say one half; the first steps then only teach that most voxels show nothing, so hard that
    /// small classes may not come back (Lin et al., Focal loss, ICCV 2017, 4.1).
    ///
    /// # Errors
    /// When the parameters are not this model's.
    pub fn start_near(&self, params: &Params, prior: f64) -> Result<(), ParamsError> {
        #[expect(clippy::cast_possible_truncation, reason = "odds")]
        let shift = (prior / (1.0 - prior)).ln() as f32;
        for (name, channels) in self.biases() {
            let bias = params.get(&name)?;
            let mut values = bias.to_vec1::<f32>()?;
            values[channels].iter_mut().for_each(|value| *value += shift);
            params.set(&name, &Tensor::from_vec(values, bias.shape(), bias.device())?)?;
        }
        Ok(())
    }

    /// The biases behind the outputs: names, and which of their values; all but the background's.
    fn biases(&self) -> Vec<(String, Range<usize>)> {
        let classes = |head: usize| self.heads[head].classes.len();
        let all = 0..self.heads.len();
        match &self.kind {
            Kind::Dodnet(network) => vec![network.output_biases()],
            Kind::Shared { levels, .. } => {
                let total = all.map(classes).sum();
                (0..*levels).map(|level| (Trunk::head_bias("", level), 0..total)).collect()
            }
            Kind::Exclusive(_) => vec![(Trunk::head_bias("", 0), 1..classes(0) + 1)],
            Kind::Conditional { .. } => vec![(Trunk::head_bias("", 0), 0..all.map(classes).max().unwrap_or(0))],
            Kind::Decoders(_) | Kind::Networks { .. } => {
                all.map(|head| (Trunk::head_bias(&self.prefix(head), 0), 0..classes(head))).collect()
            }
        }
    }
}
