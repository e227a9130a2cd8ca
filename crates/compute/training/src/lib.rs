//! Everything of training that is not the network: sampling, augmentation, the learning rate, the optimizer and its
//! frozen parts, checkpoints, curves, and the loop that joins them ([`fit`]).
//!
//! Training is a pure function of its parameters, its cases and its seed. What a batch holds follows from (seed,
//! epoch, step) alone, and a checkpoint holds weights, moments and counts to the bit; so a training that is killed
//! and resumed ends with the same weights as one that is not.

mod adamw;
mod augment;
mod batch;
mod card;
mod checkpoint;
mod curves;
mod exact;
mod fit;
mod freeze;
mod loader;
mod normalisation;
mod optim;
mod pace;
mod parts;
mod precision;
mod protocol;
mod run;
mod sampler;
mod schedule;
mod sgd;
mod sources;
mod standstill;
mod tally;
mod tensorboard;
mod together;
mod trust;

pub use augment::{
    Augment, AugmentConfig, Augmentation, Axis, BlurConfig, Brightness, BrightnessConfig, GammaConfig, Geometry, LowResolutionConfig,
    MirrorConfig, Noise, NoiseConfig, OffsetConfig, Preset, RangeConfig, Resampling, RotationConfig, ZoomConfig,
};
pub use batch::{Batch, BatchError, BatchSource, HostBatch, Targets};
pub use card::card;
pub use checkpoint::{Best, Checkpoint, CheckpointError, CheckpointFolder, STATE_FILE, Tensors, TrainingState};
pub use curves::{CURVE_FILE, CurveRow, Detail, PLOT_FILE, TIMES_FILE, Validation, csv, write_curves};
pub use fit::{EVENT_FILE, Fitted, Trainable, fit};
pub use freeze::{FreezeError, FreezePlan};
pub use loader::{Loader, Position};
pub use model_card::Output as Target;
pub use normalisation::Normalisation;
pub use optim::{Accumulator, OptimError, Optimizer, OptimizerConfig};
pub use pace::{STEPS, VALIDATION, cases, weight_bytes};
pub use parts::{Cut, Drawn, Parts};
pub use precision::TrainingPrecision;
pub use protocol::{FitConfig, Select};
pub use run::{Diverged, Interrupted, Run};
pub use sampler::{Epoch, Foreground, Order, Sample, Sampler, SamplerError, Sampling};
pub use schedule::{AfterWarmup, LrSchedule};
pub use sources::Sources;
pub use standstill::UntilStill;
pub use tally::{Tally, over_batches, validate};
pub use tensorboard::{EventError, EventFile};
pub use trust::{Trust, Truth};
