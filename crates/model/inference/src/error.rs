//! Why a model cannot be had, or a scan not be labelled.

use std::path::{Path, PathBuf};

use candle_core::Device;
use labels::LabelError;
use model_card::CardError;
use nets::{ParamsError, Precision, WeightsError};
use volume::{ModelGridError, ScanError};

use crate::image::ShownError;
use crate::window::WindowError;

/// Why a model cannot be had, or a scan not be labelled.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The weights cannot be read, or are of another network.
    #[error(transparent)]
    Weights(Box<WeightsError>),
    /// The model is not what it is asked to be.
    #[error(transparent)]
    Card(#[from] CardError),
    /// The network cannot be made.
    #[error(transparent)]
    Params(#[from] ParamsError),
    /// A file of weights that does not say how they are used.
    #[error("{path} {reason}; expected a model as a training or the stage `export` writes it")]
    NotAModel {
        /// The file.
        path: PathBuf,
        /// What it lacks.
        reason: String,
    },
    /// A model of a kind that this program cannot compute.
    #[error("{path} is a model of `train-partial`, which this program does not compute; label with the stage `pseudo-label`")]
    Partial {
        /// The file.
        path: PathBuf,
    },
    /// A model of `train-partial` that cannot be had.
    #[error("{path}: {reason}")]
    OpenPartial {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Mirror images in which a class is one that the model does not find.
    #[error("flips: {0}; or label without flips")]
    Flips(LabelError),
    /// A network that cannot be.
    #[error("network.{0}")]
    Network(String),
    /// A network that cannot be, in a file.
    #[error("{path}: {reason}")]
    NetworkOf {
        /// The file of weights.
        path: PathBuf,
        /// What it must be.
        reason: String,
    },
    /// Weights of one output that do not say which of several groups it is for.
    #[error("{path} does not say what its output stands for, and `classes` has the groups {}; give one group", .groups.join(", "))]
    ManyGroups {
        /// The file of weights.
        path: PathBuf,
        /// The groups.
        groups: Vec<String>,
    },
    /// A network without kernels of the precision that is asked for.
    #[error(
        "{path} computes in single precision alone on a CPU, and `precision` asks for {precision}; leave `precision` out, or take another \
         model"
    )]
    Precision {
        /// The file of weights.
        path: PathBuf,
        /// What is asked for.
        precision: Precision,
    },
    /// Windows that cannot be laid.
    #[error("window: {0}")]
    Window(#[from] WindowError),
    /// A model grid that makes no sense.
    #[error(transparent)]
    Grid(#[from] ModelGridError),
    /// A scan that cannot be read or brought onto the model grid, or labels that cannot be written.
    #[error(transparent)]
    Scan(Box<ScanError>),
    /// A scan that cannot be shown to a 3-D network.
    #[error(transparent)]
    Shown(Box<ShownError>),
    /// Slices larger than any patient.
    #[error(
        "{path}: {shape:?} pixels of a slice on the model grid, more than the {most} that are segmented; its spacing is likely wrong, correct the header"
    )]
    TooWide {
        /// The file.
        path: PathBuf,
        /// Pixels along x and y.
        shape: [usize; 2],
        /// The limit.
        most: usize,
    },
    /// A model of slices.
    #[error("{path} was trained on patches of {patch:?}; expected three sides, along x, y and z")]
    Flat {
        /// The file of weights.
        path: PathBuf,
        /// The patch of its training.
        patch: Vec<usize>,
    },
    /// Models that are shown scans differently.
    #[error("{first} and {path} are shown scans differently: {}; models that work together agree in these", .found.join("; "))]
    Disagreement {
        /// The first model.
        first: PathBuf,
        /// The other.
        path: PathBuf,
        /// In what they differ, with both values.
        found: Vec<String>,
    },
    /// Models of which one finds some of what the other finds.
    #[error("{first} finds {a}, and {path} finds {b}; models that work together find the same, or have no group in common")]
    Outputs {
        /// The first model.
        first: PathBuf,
        /// The other.
        path: PathBuf,
        /// What the first one finds.
        a: String,
        /// What the other one finds.
        b: String,
    },
    /// Models of different groups whose classes have names or values in common.
    #[error("{first} and {path} cannot work together: {reason}")]
    Classes {
        /// The first model.
        first: PathBuf,
        /// The other.
        path: PathBuf,
        /// What is wrong with all their classes together.
        reason: Box<LabelError>,
    },
    /// No model.
    #[error("no model was given; give one at least")]
    NoModel,
    /// Label maps that differ in size.
    #[error(transparent)]
    Labels(#[from] LabelError),
    /// A failure of the tensor library.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

/// Boxed, so that a result is no larger for its errors.
macro_rules! boxed {
    ($($variant:ident($error:ty)),*) => {
        $(impl From<$error> for ModelError {
            fn from(error: $error) -> Self {
                Self::$variant(Box::new(error))
            }
        })*
    };
}

boxed!(Weights(WeightsError), Scan(ScanError), Shown(ShownError));

/// Refuses a precision that a network does not have, one without packed weights.
///
/// # Errors
/// When a precision other than single precision is asked for by name, on a CPU.
pub fn single_alone(precision: Precision, device: &Device, path: &Path) -> Result<(), ModelError> {
    match precision {
        Precision::Bf16 | Precision::Int8 if device.is_cpu() => Err(ModelError::Precision { path: path.into(), precision }),
        Precision::Exact | Precision::F32 | Precision::Auto | Precision::Bf16 | Precision::Int8 => Ok(()),
    }
}
