//! The methods, as a pipeline file declares them.

use nets::{DynamicHeadConfig, ResidualConfig, TrunkConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::annotation::{Class, Dataset, Datasets, PartialError, Task, check_names};
use crate::loss::Objective;
use crate::model::Head;
use crate::mutual::{Difference, Similarity};

/// A method and the size of its network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum MethodConfig {
    /// One encoder-decoder for all tasks, and a head whose filters are made for each image and task (Zhang et al., CVPR 2021).
    Dodnet {
        /// The encoder-decoder.
        network: ResidualConfig,
        /// The head.
        head: DynamicHeadConfig,
    },
    /// One network with an output for every class of every dataset (Ulrich et al., MICCAI 2023).
    Multitalent {
        /// The encoder-decoder.
        network: TrunkConfig,
        /// Whether the decoder's lower levels have outputs and losses too.
        deep_supervision: bool,
    },
    /// One encoder, and a decoder for each task (Chen et al., Med3D).
    MultiHead {
        /// The encoder and the decoders.
        network: TrunkConfig,
    },
    /// One network that is told the task by further input channels (Dmitriev and Kaufman, CVPR 2019; Chen et al.).
    Conditional {
        /// The encoder-decoder.
        network: TrunkConfig,
    },
    /// One network with exclusive classes; where some are not annotated, they count as background in the loss (Fang and Yan,
    /// 2020).
    TargetAdaptive {
        /// The encoder-decoder.
        network: TrunkConfig,
    },
    /// A network of its own for each dataset, trained side by side.
    PerDataset {
        /// The networks.
        network: TrunkConfig,
    },
    /// The first stage of deep mutual learning: a network for each dataset's classes, and they learn from their difference.
    MutualPartial {
        /// The networks.
        network: TrunkConfig,
        /// How much they learn from each other.
        difference: Difference,
    },
    /// Its second stage: a network of all classes for each dataset, trained on labels that a first stage has completed, and they
    /// learn from their similarity. `classes` of the datasets say what of these labels is true.
    MutualFull {
        /// The networks.
        network: TrunkConfig,
        /// How much they learn from each other.
        similarity: Similarity,
    },
}

/// Everything that the structure of a model follows from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// The method.
    pub method: MethodConfig,
    /// What is annotated where.
    pub datasets: Vec<Dataset>,
    /// The tasks of `dodnet`, `multi_head` and `conditional`; by default each dataset is a task. Not used by the others.
    #[serde(default)]
    pub tasks: Vec<Task>,
}

impl MethodConfig {
    /// What the method charges.
    #[must_use]
    pub fn objective(&self) -> Objective {
        match self {
            Self::Multitalent { .. } => Objective::Sum,
            Self::TargetAdaptive { .. } => Objective::Merged,
            Self::MutualPartial { difference, .. } => Objective::Difference(*difference),
            Self::MutualFull { similarity, .. } => Objective::Similarity(*similarity),
            // The comparison of DoDNet's paper trains all methods alike.
            Self::Dodnet { .. } | Self::MultiHead { .. } | Self::Conditional { .. } | Self::PerDataset { .. } => Objective::Mean,
        }
    }

    /// Refuses networks that cannot be, or cannot take patches of that shape.
    ///
    /// # Errors
    /// Names the parameter, its value and what it must be.
    pub fn check(&self, patch: [usize; 3]) -> Result<(), PartialError> {
        if let Self::Conditional { network } = self
            && !network.takes_channels()
        {
            return Err(PartialError::Network("conditional: this network takes no channels that tell the task; take another".into()));
        }
        let checked = match self {
            Self::Dodnet { network, head } => TrunkConfig::Residual(network.clone()).check(patch).and_then(|()| head.check()),
            Self::Multitalent { network, .. }
            | Self::MultiHead { network }
            | Self::Conditional { network }
            | Self::TargetAdaptive { network }
            | Self::PerDataset { network }
            | Self::MutualPartial { network, .. }
            | Self::MutualFull { network, .. } => network.check(patch),
        };
        checked.map_err(PartialError::Network)
    }
}

/// The groups of outputs of a model.
pub(crate) fn heads(config: &ModelConfig, datasets: &Datasets) -> Result<Vec<Head>, PartialError> {
    let of_datasets = || {
        let head = |d: usize| Head { name: datasets.declared()[d].name.clone(), classes: datasets.classes(d).to_vec(), dataset: Some(d) };
        (0..datasets.len()).map(head).collect::<Vec<_>>()
    };
    match config.method {
        MethodConfig::TargetAdaptive { .. } => Ok(vec![Head { name: "all".into(), classes: Class::all(), dataset: None }]),
        MethodConfig::Multitalent { .. } | MethodConfig::PerDataset { .. } | MethodConfig::MutualPartial { .. } => Ok(of_datasets()),
        MethodConfig::MutualFull { .. } => Ok(of_datasets().into_iter().map(|head| Head { classes: Class::all(), ..head }).collect()),
        _ if config.tasks.is_empty() => Ok(of_datasets()),
        _ => {
            check_names("task", config.tasks.iter().map(|task| task.name.as_str()))?;
            if let Some(task) = config.tasks.iter().find(|task| task.classes.is_empty()) {
                return Err(PartialError::Empty { what: "task", name: task.name.clone() });
            }
            let about = |d: usize| config.tasks.iter().any(|task| task.classes.iter().any(|class| datasets.classes(d).contains(class)));
            if let Some(alone) = (0..datasets.len()).find(|&d| !about(d)) {
                return Err(PartialError::NoTask(datasets.declared()[alone].name.clone()));
            }
            Ok(config
                .tasks
                .iter()
                .map(|Task { name, classes }| Head { name: name.clone(), classes: classes.clone(), dataset: None })
                .collect())
        }
    }
}
