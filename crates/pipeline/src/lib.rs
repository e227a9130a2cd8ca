//! Pipelines of stages: a YAML file becomes a checked graph, and what is not fresh is run.
//!
//! A pipeline file names nodes; each is a stage with parameters and inputs. [`Pipeline::load`] checks all of it before
//! any work. A node's [`key`](key::key) is made of contents alone, so that a result, once made, is found again whatever
//! the files' times and places are ([`Planner`]). Stages run as children of the runner ([`run()`]), write into a folder
//! of their attempt, and their output appears in the [`Store`] whole or not at all. An interrupted attempt is taken up
//! again by the next run.
//!
//! A program with stages has one `main`: [`cli::main`] with the [`Entry`](stage_kit::Entry) of each.

mod attempt;
mod child;
pub mod cli;
mod compare;
mod digest;
mod display;
mod document;
mod draw;
mod error;
mod explain;
mod graph;
mod journal;
pub mod key;
mod lock;
mod lookup;
mod nodes;
mod order;
mod params;
mod plan;
mod reference;
mod run;
mod schema;
mod snapshot;
mod store;
mod text;
mod yaml;

pub use child::die_with_parent;
pub use compare::{Comparison, compare};
pub use digest::{Digest, Hasher, Tree};
pub use display::Display;
pub use document::Overrides;
pub use draw::{STYLE as GRAPH_STYLE, dot, mermaid, stage_table, svg, svg_for_page};
pub use error::{ConfigError, Problem};
pub use explain::{differences, shown};
pub use graph::{Node, Pipeline, Source};
pub use journal::RunNote;
pub use plan::{Input, Planner, State, Work, records};
pub use run::{Options, Summary, run, stop_on_signals};
pub use schema::{schema, schema_text};
pub use snapshot::{NodeState, NodeView, Snapshot, log_end};
pub use store::{InputRecord, MadeBy, Record, Store};
pub use text::{duration, size};
