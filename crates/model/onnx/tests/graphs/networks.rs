//! Small networks of every kind that is written.

use candle_core::Device;
use labels::flare23;
use nets::{
    DualUNet2d, DualUNet2dConfig, DynamicHeadConfig, Network, Params, ResidualConfig, TrunkConfig, UNet3d, UNet3dConfig, UNetConfig,
    UNetLayers,
};
use partial::{Dataset, Datasets, MethodConfig, Model, ModelConfig, Task, Told};
use random::Streams;

fn params(network: &impl Network) -> Params {
    Params::init(&network.parameters(), Streams::new(0), &Device::Cpu).unwrap()
}

/// A student of three outputs with their channels, of which two share a decoder.
pub(crate) fn student() -> (DualUNet2d, Vec<(String, usize)>, Params) {
    let outputs = [("organ", "organ_decoder", 3), ("vessel", "organ_decoder", 2), ("cancer", "cancer_decoder", 2)];
    let decoders: Vec<_> = outputs.iter().map(|(_, decoder, channels)| ((*decoder).to_owned(), *channels)).collect();
    let network = DualUNet2d::new(&DualUNet2dConfig { features: [2, 2, 3, 3, 4, 2] }, &decoders);
    let params = params(&network);
    (network, outputs.map(|(name, _, channels)| (name.to_owned(), channels)).into(), params)
}

/// A teacher and its channels.
pub(crate) fn teacher() -> (UNet3d, usize, Params) {
    let network = UNet3d::new(&UNet3dConfig { features: [2, 2, 3, 3, 4, 2] }, 3);
    let params = params(&network);
    (network, 3, params)
}

/// A model of every method, over networks of both kinds.
pub(crate) fn partial_models() -> [(&'static str, Model, Params); 9] {
    let residual = || ResidualConfig { features: [4, 4, 4, 8], blocks: [1; 5], groups: 2 };
    let unet = |blocks: Option<Vec<usize>>| {
        TrunkConfig::UNet(UNetConfig {
            features: vec![4, 6, 8],
            strides: vec![[2, 2, 2], [2, 2, 1]],
            blocks,
            first_kernel: [3, 3, 1],
            layers: None,
        })
    };
    let by_levels = TrunkConfig::UNet(UNetConfig {
        features: vec![4, 6, 6],
        strides: vec![[2, 2, 2], [2, 2, 1]],
        blocks: Some(vec![1, 2, 1]),
        first_kernel: [3; 3],
        layers: Some(UNetLayers { kernels: vec![[3, 3, 1], [3; 3], [3; 3]], convs: vec![1; 3], decoder_convs: vec![1, 2] }),
    });
    let trunk = || TrunkConfig::Residual(residual());
    let dodnet = |image_feature, task_encoding| MethodConfig::Dodnet {
        network: residual(),
        head: DynamicHeadConfig { depth: 3, width: 4, image_feature, task_encoding },
    };
    let methods = [
        ("dodnet", dodnet(true, true)),
        ("dodnet_without_image", dodnet(false, true)),
        ("multitalent", MethodConfig::Multitalent { network: unet(None), deep_supervision: true }),
        ("multi_head", MethodConfig::MultiHead { network: trunk() }),
        ("conditional_input", MethodConfig::Conditional { network: unet(Some(vec![1, 2, 1])), told: Told::Input }),
        ("conditional_decoder", MethodConfig::Conditional { network: trunk(), told: Told::Decoder }),
        ("target_adaptive", MethodConfig::TargetAdaptive { network: unet(Some(vec![1, 1, 1])) }),
        ("by_levels", MethodConfig::TargetAdaptive { network: by_levels }),
        ("per_dataset", MethodConfig::PerDataset { network: unet(None) }),
    ];
    methods.map(|(name, method)| {
        let model = model(method);
        let params = params(&model);
        (name, model, params)
    })
}

fn model(method: MethodConfig) -> Model {
    let names = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>();
    let parts = [("abdomen", names(&["liver", "spleen"])), ("lesions", names(&["tumor"]))];
    let dataset = |(name, classes): &(&str, Vec<String>)| Dataset {
        name: (*name).to_owned(),
        subset: (*name).to_owned(),
        classes: Some(classes.clone()),
    };
    let datasets: Vec<Dataset> = parts.iter().map(dataset).collect();
    let tasks = parts.iter().map(|(name, classes)| Task { name: (*name).to_owned(), classes: classes.clone() }).collect();
    let classes = flare23::classes();
    let known = Datasets::new(&datasets, &classes).unwrap();
    Model::new(&ModelConfig { method, datasets, tasks }, &known, &classes).unwrap()
}
