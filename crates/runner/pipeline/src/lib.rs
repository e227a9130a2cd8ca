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
mod cases;
mod child;
mod classes;
pub mod cli;
mod defaults;
mod diff;
mod digest;
mod display;
mod document;
mod draw;
mod error;
mod executor;
mod explain;
mod forecast;
mod gc;
mod graph;
mod job;
mod journal;
pub mod key;
mod layer;
mod layout;
mod like;
mod lock;
mod lookup;
mod machine;
mod merge;
mod nodes;
mod order;
mod overrides;
mod own;
mod params;
mod plan;
mod progress;
mod publish;
mod record;
mod reference;
mod resources;
mod run;
mod schema;
mod slurm;
mod snapshot;
mod status;
mod store;
mod taint;
mod text;
mod verify;
mod yaml;

pub use attempt::Attempt;
pub use cases::{Cases, Filter, PlannedCase};
pub use child::{Word, die_with_parent, parent_process};
pub use diff::{Comparison, compare};
pub use digest::{Digest, Hasher, Tree};
pub use display::Display;
pub use draw::{STYLE as GRAPH_STYLE, dot, mermaid, stage_list, stage_table, svg, svg_for_page};
pub use error::{ConfigError, Problem, Usage};
pub use executor::{Executor, Failure, Local};
pub use explain::{CaseChange, case_changes, case_lines, case_reasons, differences, shown};
pub use forecast::{NodeCost, critical_path};
pub use gc::{Swept, collect};
pub use graph::{Node, Pipeline, Source};
pub use job::{Job, Part};
pub use journal::RunNote;
pub use lock::{Found, Holder, Life};
pub use overrides::Overrides;
pub use plan::{Input, Planner, State, Work, records};
pub use progress::Progress;
pub use publish::Written;
pub use record::{InputRecord, MadeBy, Record};
pub use resources::Resources;
pub use run::{Options, Summary, run};
pub use schema::{schema, schema_text};
pub use slurm::{Slurm, SlurmOptions};
pub use snapshot::{NodeView, Snapshot, log_end};
pub use status::{Counts, NodeState, NodeStatus, reasons, statuses};
pub use store::Store;
pub use text::{duration, size};
pub use verify::{Damage, verify};
