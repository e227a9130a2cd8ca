//! The methods, as a pipeline file declares them.

use labels::Classes;
use nets::{DynamicHeadConfig, ResidualConfig, TrunkConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::annotation::{Dataset, Datasets, Task};
use crate::class::Class;
use crate::error::PartialError;
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
    /// One network for all tasks, which computes one after the other.
    Conditional {
        /// The encoder-decoder.
        network: TrunkConfig,
        /// Where it is told the task.
        #[serde(default)]
        told: Told,
    },
    /// One network with exclusive classes; where some are not annotated, they count as background in the loss (Fang and Yan,
    /// 2020). Where classes of several groups lie in one voxel, that of the last group counts, as in the final label map.
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

/// Where a network is told the task, by a channel for each task, of ones for the one that is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// Beside the image (Chen, Xu and Koltun, ICCV 2017): Cond-Input in DoDNet's paper.
    #[default]
    Input,
    /// In the decoder, at each of its levels (Dmitriev and Kaufman, CVPR 2019): Cond-Dec. The encoder computes once for all tasks.
    Decoder,
    /// Nowhere: Cond-NO, which cannot tell one task from another.
    Nowhere,
}

/// Everything that the structure of a model follows from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// The method.
    pub method: MethodConfig,
    /// What is annotated where; by default each subset that has something annotated is a dataset.
    #[serde(default)]
    pub datasets: Vec<Dataset>,
    /// The tasks of `dodnet`, `multi_head` and `conditional`; by default each dataset is a task. Not used by the others.
    #[serde(default)]
    pub tasks: Vec<Task>,
}

impl MethodConfig {
    /// Whether its outputs are those of tasks.
    #[must_use]
    pub fn has_tasks(&self) -> bool {
        matches!(self, Self::Dodnet { .. } | Self::MultiHead { .. } | Self::Conditional { .. })
    }

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
        if let Self::Conditional { network, told } = self
            && *told != Told::Nowhere
            && !network.takes_channels()
        {
            return Err(PartialError::Network("conditional: this network takes no channels that tell the task; take another".into()));
        }
        let checked = match self {
            Self::Dodnet { network, head } => TrunkConfig::Residual(network.clone()).check(patch).and_then(|()| head.check()),
            _ => self.trunk().map_or(Ok(()), |network| network.check(patch)),
        };
        checked.map_err(PartialError::Network)
    }

    /// The encoder-decoder; DoDNet has one of its own.
    fn trunk(&self) -> Option<&TrunkConfig> {
        match self {
            Self::Dodnet { .. } => None,
            Self::Multitalent { network, .. }
            | Self::MultiHead { network }
            | Self::Conditional { network, .. }
            | Self::TargetAdaptive { network }
            | Self::PerDataset { network }
            | Self::MutualPartial { network, .. }
            | Self::MutualFull { network, .. } => Some(network),
        }
    }

    /// Whether a trained model computes with packed weights, and so in any precision; others compute in single precision alone.
    pub(crate) fn is_packed(&self) -> bool {
        self.trunk().is_some_and(TrunkConfig::is_packed)
    }
}

/// The heads of a model.
pub(crate) fn heads(config: &ModelConfig, datasets: &Datasets, classes: &Classes) -> Result<Vec<Head>, PartialError> {
    let of_datasets = || {
        let head = |d: usize| Head { name: datasets.declared()[d].name.clone(), classes: datasets.classes(d).to_vec(), dataset: Some(d) };
        (0..datasets.len()).map(head).collect::<Vec<_>>()
    };
    match config.method {
        MethodConfig::TargetAdaptive { .. } => Ok(vec![Head { name: "all".into(), classes: datasets.all(), dataset: None }]),
        MethodConfig::MutualFull { .. } => Ok(of_datasets().into_iter().map(|head| Head { classes: datasets.all(), ..head }).collect()),
        _ if !config.method.has_tasks() || config.tasks.is_empty() => Ok(of_datasets()),
        _ => of_tasks(&config.tasks, datasets, classes),
    }
}

fn of_tasks(tasks: &[Task], datasets: &Datasets, classes: &Classes) -> Result<Vec<Head>, PartialError> {
    let mut heads = Vec::with_capacity(tasks.len());
    let annotated = datasets.all();
    for task in tasks {
        let of_task = task.resolved(classes)?;
        let key = |class: &Class| classes.key_of(class.value()).into_owned();
        if let Some(class) = of_task.iter().find(|class| !annotated.contains(class)) {
            let annotated = annotated.iter().map(key).collect();
            return Err(PartialError::Untaught { task: task.name.clone(), class: key(class), annotated });
        }
        heads.push(Head { name: task.name.clone(), classes: of_task, dataset: None });
    }
    let about = |d: usize| heads.iter().any(|head| head.classes.iter().any(|class| datasets.classes(d).contains(class)));
    match (0..datasets.len()).find(|&d| !about(d)) {
        Some(alone) => Err(PartialError::NoTask(datasets.declared()[alone].name.clone())),
        None => Ok(heads),
    }
}
