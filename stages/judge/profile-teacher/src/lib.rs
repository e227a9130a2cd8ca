//! What a teacher costs (paper 4.1 tells of it beside Table 5): parameters and multiplications, by its structure, and time and memory
//! of a training step, measured on the machine that runs this. A process measures one network, so that its peak of memory is that
//! network's; times are of a machine with nothing else to do, or mean little.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Tensor};
use nets::{Learning, Network, Params, Teacher, TeacherConfig};
use random::Streams;
use random::rand::RngExt as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use stage_kit::{Role, Stage, StageIo, write_atomic_text};
use training::{Accumulator, FreezePlan, Optimizer, OptimizerConfig};

/// The parameters of `profile-teacher`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The kind and the size of the network.
    pub network: TeacherConfig,
    /// Channels of its output: one for background, and one for each class; 14 for the 13 organs of FLARE23.
    pub channels: usize,
    /// Voxels of a patch along x, y, z, of which a step takes one.
    pub patch: [usize; 3],
    /// The parameters that move, as in the training.
    #[serde(default = "FreezePlan::all_live")]
    pub live: FreezePlan,
    /// Steps that are timed, after one that is not; the middle one counts.
    #[serde(default = "three")]
    pub steps: usize,
}

fn three() -> usize {
    3
}

/// What is written.
#[derive(Clone, Debug, Serialize)]
struct Profile {
    parameters: usize,
    live_parameters: usize,
    macs: u64,
    seconds_per_step: f64,
    /// Of the process; absent where the system does not tell.
    peak_memory_bytes: Option<u64>,
    patch: [usize; 3],
    threads: usize,
}

/// The stage `profile-teacher`.
pub struct ProfileTeacher;

impl Stage for ProfileTeacher {
    const NAME: &'static str = "profile-teacher";
    const REVISION: u32 = 3;
    const ABOUT: &'static str = "Counts a teacher's parameters and multiplications, and measures time and memory of a training step";
    const READS: &'static [Role] = &[];
    const WRITES: &'static str = "profile.json";
    const PAPER: &'static str = "4.1, Table 5";
    const EXAMPLE: &'static str = include_str!("../example.yaml");
    type Config = Config;

    fn check(config: &Config) -> Result<()> {
        ensure!(config.steps > 0, "steps: 0 steps cannot be timed; give at least 1");
        let channels = config.channels;
        ensure!((2..=256).contains(&channels), "channels: an output cannot have {channels}; give 2 to 256, background and a class each");
        config.network.check(config.patch).map_err(anyhow::Error::msg)
    }

    fn run(config: &Config, io: &StageIo) -> Result<()> {
        let network = Teacher::new(&config.network, config.channels);
        let mut params = Params::init(&network.parameters(), Streams::new(io.seed), &nets::device(io.device)?)?;
        config.live.apply(&mut params)?;
        let weights = Learning::new(params);
        let seconds_per_step = seconds_per_step(config, &network, &weights, io)?;
        let params = weights.params();
        let profile = Profile {
            parameters: params.count(),
            live_parameters: params.live().map(|(_, var)| var.elem_count()).sum(),
            macs: network.macs(config.patch),
            seconds_per_step,
            peak_memory_bytes: stage_kit::peak_memory(),
            patch: config.patch,
            threads: rayon::current_num_threads(),
        };
        write_atomic_text(&io.output.join("profile.json"), &(serde_json::to_string_pretty(&profile)? + "\n"))
    }
}

/// Steps as in training (forward pass, loss, gradients, AdamW) on noise.
fn seconds_per_step(config: &Config, network: &Teacher, weights: &Learning, io: &StageIo) -> Result<f64> {
    let params = weights.params();
    let [d, h, w] = config.patch;
    let mut stream = Streams::new(io.seed).stream("profile", &[]);
    let voxels: Vec<f32> = (0..d * h * w).map(|_| stream.random()).collect();
    let labels: Vec<u8> = voxels.iter().map(|value| (value * config.channels as f32) as u8).collect();
    let image = Tensor::from_vec(voxels, (1, 1, d, h, w), &params.device())?;
    let target = Tensor::from_vec(labels, (1, d, h, w), &params.device())?;
    let mut optimizer = Optimizer::new(OptimizerConfig::AdamW, 1e-5, params)?;
    let mut seconds = Vec::new();
    for _ in 0..=config.steps {
        let begun = Instant::now();
        let loss = ops::dice_ce(&weights.run(network, &image)?, &target)?;
        let mut gradients = Accumulator::default();
        gradients.add(params, &loss, 1.0)?;
        optimizer.step(&gradients.into_gradients(), 1e-4)?;
        // A GPU has done it when its result is here.
        let loss = loss.to_dtype(DType::F32)?.to_scalar::<f32>()?;
        ensure!(loss.is_finite(), "the loss of noise became {loss}");
        seconds.push(begun.elapsed().as_secs_f64());
    }
    let mut timed = seconds.split_off(1);
    timed.sort_by(f64::total_cmp);
    timed.get(timed.len() / 2).copied().context("no steps were timed")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_channel_costs_its_weights_and_an_output_has_two_at_least() {
        let folder = tempfile::tempdir().unwrap();
        let profile = |channels: usize| -> serde_json::Value {
            let network = json!({"features": [2, 2, 2, 2, 2, 2]});
            let config: Config =
                serde_json::from_value(json!({"network": network, "channels": channels, "patch": [32, 32, 32], "steps": 1})).unwrap();
            ProfileTeacher::check(&config).unwrap();
            let none: [(String, std::path::PathBuf); 0] = [];
            let io = StageIo { device: stage_kit::DeviceChoice::Cpu, ..StageIo::new("profile", none, folder.path(), folder.path(), 1) };
            ProfileTeacher::run(&config, &io).unwrap();
            serde_json::from_str(&std::fs::read_to_string(folder.path().join("profile.json")).unwrap()).unwrap()
        };
        let parameters = |channels| profile(channels)["parameters"].as_u64().unwrap();
        // A weight from each of two features, and an offset.
        assert_eq!(parameters(31) - parameters(2), 29 * 3);
        let alone = json!({"network": {"features": [2, 2, 2, 2, 2, 2]}, "channels": 1, "patch": [32, 32, 32]});
        let error = ProfileTeacher::check(&serde_json::from_value(alone).unwrap()).unwrap_err().to_string();
        assert!(error.starts_with("channels: an output cannot have 1; give 2 to 256"), "{error}");
    }
}
