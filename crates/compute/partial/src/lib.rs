//! One network from datasets that label different things: what is annotated where ([`Datasets`], [`Task`]), the methods that
//! learn from it ([`Model`]), their losses ([`Loss`]), and the way from their outputs to label maps ([`Rule`]).
//!
//! Every method but one has independent yes-or-no outputs, each for a class and a *head*: a task or a dataset. What is not
//! annotated in a sample takes no part in its loss, and its outputs get a gradient of exactly 0.

mod annotation;
mod class;
mod error;
mod loss;
mod method;
mod model;
mod mutual;
mod over_scans;
mod resolve;
mod rule;
mod tally;
mod trained;
mod truth;
mod weights;
mod whole;

pub use annotation::{Dataset, Datasets, Task};
pub use class::Class;
pub use error::PartialError;
pub use loss::{Dice, Loss, Objective};
pub use method::{MethodConfig, ModelConfig, Told};
pub use model::{Channel, Head, Model, Output, Row};
pub use mutual::{Difference, Similarity};
pub use over_scans::open;
pub use rule::{Combine, Rule};
pub use tally::PartialTally;
pub use trained::{TrainedModel, TrainedModelError};
pub use truth::Truth;
pub use whole::Whole;
