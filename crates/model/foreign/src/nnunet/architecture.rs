//! What plans say of a network.

use nets::{UNetConfig, UNetLayers};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::axes::Axes;

/// The network of a configuration.
pub(super) struct Architecture {
    name: String,
    arguments: Arguments,
}

/// What networks are built with. Others than these fields change the network, and are refused by their names.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Arguments {
    n_stages: usize,
    features_per_stage: Vec<usize>,
    conv_op: String,
    kernel_sizes: Vec<[usize; 3]>,
    strides: Vec<[usize; 3]>,
    #[serde(default)]
    n_conv_per_stage: Option<Vec<usize>>,
    #[serde(default)]
    n_blocks_per_stage: Option<Vec<usize>>,
    n_conv_per_stage_decoder: Vec<usize>,
    #[serde(default)]
    conv_bias: bool,
    norm_op: String,
    norm_op_kwargs: Option<Value>,
    dropout_op: Option<String>,
    #[serde(rename = "dropout_op_kwargs")]
    _dropout_op_kwargs: Option<Value>,
    nonlin: String,
    nonlin_kwargs: Option<Value>,
    #[serde(default, rename = "deep_supervision")]
    _deep_supervision: Option<Value>,
}

/// The form of plans of the first releases.
#[derive(Deserialize)]
pub(super) struct Earlier {
    #[serde(rename = "UNet_class_name")]
    name: String,
    #[serde(rename = "UNet_base_num_features")]
    base: usize,
    unet_max_num_features: usize,
    n_conv_per_stage_encoder: Vec<usize>,
    n_conv_per_stage_decoder: Vec<usize>,
    pool_op_kernel_sizes: Vec<[usize; 3]>,
    conv_kernel_sizes: Vec<[usize; 3]>,
}

/// What was found, and what was expected.
type Refusal = (String, String);

impl Architecture {
    /// Of `architecture` in the plans.
    pub(super) fn read(architecture: Value) -> serde_json::Result<Self> {
        #[derive(Deserialize)]
        struct Fields {
            network_class_name: String,
            arch_kwargs: Arguments,
        }
        let Fields { network_class_name, arch_kwargs } = serde_json::from_value(architecture)?;
        let name = network_class_name.rsplit('.').next().unwrap_or_default().to_owned();
        Ok(Self { name, arguments: arch_kwargs })
    }

    /// The network along the axes of the grid, and whether its convolutions have a bias.
    pub(super) fn network(&self, axes: &Axes) -> Result<(UNetConfig, bool), Refusal> {
        let Self { name, arguments } = self;
        arguments.check()?;
        let levels = arguments.n_stages;
        let along = |sides: &[[usize; 3]]| sides.iter().map(|sides| axes.of_grid(*sides)).collect::<Vec<_>>();
        let refused = |found: &str| Err((found.to_owned(), "take plans as nnU-Net makes them".to_owned()));
        let blocks = match (name.as_str(), &arguments.n_conv_per_stage, &arguments.n_blocks_per_stage) {
            ("PlainConvUNet", Some(_), None) => None,
            ("ResidualEncoderUNet", None, Some(blocks)) => Some(blocks.clone()),
            ("PlainConvUNet" | "ResidualEncoderUNet", ..) => {
                return refused("a PlainConvUNet has n_conv_per_stage and a ResidualEncoderUNet n_blocks_per_stage, and this one has not");
            }
            _ => return Err((format!("the network is a {name}"), "expected a PlainConvUNet or a ResidualEncoderUNet".into())),
        };
        let (Some((first, strides)), true) = (arguments.strides.split_first(), arguments.kernel_sizes.len() == levels) else {
            return refused("kernel_sizes and strides are not one for each of n_stages");
        };
        if *first != [1; 3] {
            return Err((format!("the first stage has the stride {first:?}"), "expected 1, 1, 1: logits of the image's size".into()));
        }
        let layers = UNetLayers {
            kernels: along(&arguments.kernel_sizes),
            convs: arguments.n_conv_per_stage.clone().unwrap_or_else(|| vec![1; levels]),
            decoder_convs: arguments.n_conv_per_stage_decoder.iter().rev().copied().collect(),
        };
        let network = UNetConfig {
            features: arguments.features_per_stage.clone(),
            strides: along(strides),
            blocks,
            first_kernel: [3; 3],
            layers: Some(layers),
        };
        network.check().map_err(|found| (found, "take plans as nnU-Net makes them".to_owned()))?;
        Ok((network, arguments.conv_bias))
    }
}

impl Arguments {
    /// Refuses layers of other kinds.
    fn check(&self) -> Result<(), Refusal> {
        let kinds =
            [("conv_op", &self.conv_op, "Conv3d"), ("norm_op", &self.norm_op, "InstanceNorm3d"), ("nonlin", &self.nonlin, "LeakyReLU")];
        for (field, found, expected) in kinds {
            if found.rsplit('.').next() != Some(expected) {
                return Err((format!("{field} is {found}"), format!("expected {expected}, as nnU-Net's plans for CT have it")));
            }
        }
        if let Some(dropout) = &self.dropout_op {
            return Err((format!("dropout_op is {dropout}"), "expected none, as in nnU-Net's plans".into()));
        }
        let norm = self.norm_op_kwargs.clone().unwrap_or_default();
        if norm["affine"] != json!(true) || norm["eps"].as_f64().is_some_and(|eps| (eps / nets::EPSILON - 1.0).abs() > 1e-6) {
            return Err((format!("norm_op_kwargs are {norm}"), "expected an affine norm with eps 1e-5".into()));
        }
        let slope = self.nonlin_kwargs.clone().unwrap_or_default()["negative_slope"].as_f64().unwrap_or(0.01);
        if (slope - 0.01).abs() > 1e-9 {
            return Err((format!("the LeakyReLU has the negative_slope {slope}"), "expected 0.01".into()));
        }
        Ok(())
    }
}

impl Earlier {
    /// The same in the later form: what the first releases did not write was fixed.
    pub(super) fn architecture(self) -> Architecture {
        let levels = self.n_conv_per_stage_encoder.len();
        let is_plain = self.name == "PlainConvUNet";
        let features = (0..levels).map(|level| {
            let doubled = u32::try_from(level).ok().and_then(|level| 1usize.checked_shl(level)).and_then(|by| self.base.checked_mul(by));
            doubled.unwrap_or(usize::MAX).min(self.unet_max_num_features)
        });
        let text = str::to_owned;
        let arguments = Arguments {
            n_stages: levels,
            features_per_stage: features.collect(),
            conv_op: text("Conv3d"),
            kernel_sizes: self.conv_kernel_sizes,
            strides: self.pool_op_kernel_sizes,
            n_conv_per_stage: is_plain.then(|| self.n_conv_per_stage_encoder.clone()),
            n_blocks_per_stage: (!is_plain).then_some(self.n_conv_per_stage_encoder),
            n_conv_per_stage_decoder: self.n_conv_per_stage_decoder,
            conv_bias: true,
            norm_op: text("InstanceNorm3d"),
            norm_op_kwargs: Some(json!({"eps": 1e-5, "affine": true})),
            dropout_op: None,
            _dropout_op_kwargs: None,
            nonlin: text("LeakyReLU"),
            nonlin_kwargs: None,
            _deep_supervision: None,
        };
        Architecture { name: self.name, arguments }
    }
}
