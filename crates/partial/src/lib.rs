//! One network from datasets that label different things: what is annotated where ([`Datasets`], [`Task`]), the methods that
//! learn from it ([`Model`]), their losses ([`Loss`]), and the way from their outputs to label maps ([`Rule`], [`Clean`]).
//!
//! Every method but one has independent yes-or-no outputs, each for a class and a *head*: a task or a dataset. What is not
//! annotated in a sample takes no part in its loss, and its outputs get a gradient of exactly 0.

mod annotation;
mod clean;
mod loss;
mod method;
mod model;
mod mutual;
mod rule;
mod tally;
mod trained;

pub use annotation::{Class, Dataset, Datasets, PartialError, Task};
pub use clean::Clean;
pub use loss::{Dice, Loss, Objective, Truth};
pub use method::{MethodConfig, ModelConfig};
pub use model::{Channel, Head, Model, Output, Row};
pub use mutual::{Difference, Similarity};
pub use rule::{Combine, Rule};
pub use tally::PartialTally;
pub use trained::{TrainedModel, TrainedModelError};
