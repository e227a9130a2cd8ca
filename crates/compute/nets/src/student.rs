//! The dual-decoding 2-D U-Net (paper 2.3 and Fig. 2): one encoder, a shared start of the decoder, and for each group of classes
//! a decoder of the last two levels; the paper has two groups, organs and cancer.

use candle_core::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Network;
use crate::blocks::{Down, Head, TwoConv, UpCat};
use crate::compute::Compute;
use crate::params::ParamSpec;
use crate::size::check_channels;

/// The size of the student.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DualUNet2dConfig {
    /// Channels of the five encoder levels and of the last decoder level; the paper's are 16, 32, 64, 128, 256, 128.
    pub features: [usize; 6],
}

impl DualUNet2dConfig {
    /// Refuses sizes that cannot be.
    ///
    /// # Errors
    /// Names the parameter, its value and what it must be.
    pub fn check(&self) -> std::result::Result<(), String> {
        check_channels("features", &self.features)
    }
}

struct Decoder {
    upcat_2: UpCat,
    upcat_1: UpCat,
    heads: Vec<Head>,
}

impl Decoder {
    /// A decoder with a last layer for each output, which has so many channels.
    fn new(name: &str, f: [usize; 6], channels: &[usize]) -> Self {
        let head = |(k, channels): (usize, &usize)| {
            let number = if k == 0 { String::new() } else { format!("_{}", k + 1) };
            Head::new(format!("{name}.final_conv{number}"), 2, f[5], *channels)
        };
        Self {
            upcat_2: UpCat::new(format!("{name}.upcat_2"), 2, f[2], f[1], f[1], false),
            upcat_1: UpCat::new(format!("{name}.upcat_1"), 2, f[1], f[0], f[5], true),
            heads: channels.iter().enumerate().map(head).collect(),
        }
    }

    fn specs(&self, specs: &mut Vec<ParamSpec>) {
        self.upcat_2.specs(specs);
        self.upcat_1.specs(specs);
        self.heads.iter().for_each(|head| head.specs(specs));
    }

    /// What the last layers start from, `(b, f_5, h, w)`.
    fn forward<C: Compute>(&self, compute: &C, features: &Features<C::Map>) -> Result<C::Map> {
        let x = self.upcat_2.forward(compute, &features.shared, &features.half)?;
        self.upcat_1.forward(compute, &x, &features.full)
    }
}

/// What all decoders start from.
struct Features<M> {
    full: M,
    half: M,
    shared: M,
}

/// The student. With the paper's features and decoders it has 2,388,096 parameters.
pub struct DualUNet2d {
    conv_0: TwoConv,
    downs: [Down; 4],
    upcat_4: UpCat,
    upcat_3: UpCat,
    decoders: Vec<Decoder>,
    /// For each output its decoder and the place of its last layer there.
    outputs: Vec<(usize, usize)>,
}

impl DualUNet2d {
    /// The network of that size, with outputs of these decoders and numbers of channels; the paper's are `organ_decoder` of 14 and
    /// `cancer_decoder` of 2. Outputs of one decoder differ in their last layer alone.
    #[must_use]
    pub fn new(config: &DualUNet2dConfig, outputs: &[(String, usize)]) -> Self {
        let f = config.features;
        let mut decoders: Vec<(&str, Vec<usize>)> = Vec::new();
        let mut places = Vec::with_capacity(outputs.len());
        for (name, channels) in outputs {
            let decoder = decoders.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
                decoders.push((name, Vec::new()));
                decoders.len() - 1
            });
            places.push((decoder, decoders[decoder].1.len()));
            decoders[decoder].1.push(*channels);
        }
        Self {
            conv_0: TwoConv::new("conv_0".into(), 2, 1, f[0]),
            downs: std::array::from_fn(|i| Down::new(&format!("down_{}", i + 1), 2, f[i], f[i + 1])),
            upcat_4: UpCat::new("upcat_4".into(), 2, f[4], f[3], f[3], false),
            upcat_3: UpCat::new("upcat_3".into(), 2, f[3], f[2], f[2], false),
            decoders: decoders.iter().map(|(name, channels)| Decoder::new(name, f, channels)).collect(),
            outputs: places,
        }
    }

    /// The part that all decoders share: slices `(b, 1, h, w)`, sizes at least 16.
    ///
    /// # Errors
    /// When shapes do not fit or memory runs out.
    fn features<C: Compute>(&self, compute: &C, slices: &C::Map) -> Result<Features<C::Map>> {
        let full = self.conv_0.forward(compute, &[slices])?; // (b, f_0, h, w)
        let half = self.downs[0].forward(compute, &full)?; // (b, f_1, h/2, w/2)
        let quarter = self.downs[1].forward(compute, &half)?;
        let eighth = self.downs[2].forward(compute, &quarter)?;
        let deepest = self.downs[3].forward(compute, &eighth)?;
        let x = self.upcat_4.forward(compute, &deepest, &eighth)?;
        let shared = self.upcat_3.forward(compute, &x, &quarter)?; // (b, f_2, h/4, w/4)
        Ok(Features { full, half, shared })
    }

    /// How many outputs there are.
    #[must_use]
    pub fn outputs(&self) -> usize {
        self.outputs.len()
    }

    /// Logits `(b, channels, h, w)` of some outputs, by their places, of slices `(b, 1, h, w)`, sizes at least 16. What they share is
    /// computed once; of decoders that is so for outputs that are asked for one after another.
    ///
    /// # Errors
    /// When there is no such output, or memory runs out.
    pub fn logits<C: Compute>(&self, compute: &C, slices: &C::Map, outputs: &[usize]) -> Result<Vec<C::Map>> {
        let features = self.features(compute, slices)?;
        let mut last = None;
        let logits = |&output: &usize| {
            let Some(&(decoder, head)) = self.outputs.get(output) else {
                candle_core::bail!("there is no output {output}; the student has {}", self.outputs.len());
            };
            let found = &self.decoders[decoder];
            let decoded = match last.take() {
                Some((same, decoded)) if same == decoder => decoded,
                _ => found.forward(compute, &features)?,
            };
            let logits = found.heads[head].forward(compute, &decoded);
            last = Some((decoder, decoded));
            logits
        };
        outputs.iter().map(logits).collect()
    }
}

impl Network for DualUNet2d {
    fn parameters(&self) -> Vec<ParamSpec> {
        let mut specs = Vec::new();
        self.conv_0.specs(&mut specs);
        self.downs.iter().for_each(|down| down.specs(&mut specs));
        self.upcat_4.specs(&mut specs);
        self.upcat_3.specs(&mut specs);
        self.decoders.iter().for_each(|decoder| decoder.specs(&mut specs));
        specs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn student(decoders: &[(&str, usize)]) -> DualUNet2d {
        let decoders: Vec<_> = decoders.iter().map(|(name, channels)| ((*name).to_owned(), *channels)).collect();
        DualUNet2d::new(&DualUNet2dConfig { features: [16, 32, 64, 128, 256, 128] }, &decoders)
    }

    fn size(student: &DualUNet2d) -> usize {
        student.parameters().iter().map(|p| p.shape.iter().product::<usize>()).sum()
    }

    #[test]
    fn the_papers_student_has_2_388_million_parameters() {
        assert_eq!(size(&student(&[("organ_decoder", 14), ("cancer_decoder", 2)])), 2_388_096);
    }

    #[test]
    fn outputs_of_one_decoder_cost_a_last_layer() {
        let sizes = |outputs: &[(&str, usize)]| size(&student(outputs));
        let shared = [("a_decoder", 2), ("a_decoder", 2), ("b_decoder", 3)];
        assert_eq!(sizes(&shared) - sizes(&[("a_decoder", 2), ("b_decoder", 3)]), 2 * (128 + 1));
        let names: Vec<String> = student(&shared).parameters().into_iter().map(|spec| spec.name).collect();
        for name in ["a_decoder.final_conv.weight", "a_decoder.final_conv_2.weight", "b_decoder.final_conv.weight"] {
            assert!(names.iter().any(|known| known == name), "{name}: {names:?}");
        }
    }

    #[test]
    fn decoders_differ_in_their_last_layer_alone() {
        let sizes = |decoders: &[(&str, usize)]| size(&student(decoders));
        let none = sizes(&[]);
        let one = |channels| sizes(&[("a_decoder", channels)]) - none;
        assert_eq!(one(200) - one(2), 198 * (128 + 1), "a weight for each feature of the last level, and a bias");
        assert_eq!(sizes(&[("a_decoder", 3), ("b_decoder", 40), ("c_decoder", 2)]) - none, one(3) + one(40) + one(2));
    }
}
