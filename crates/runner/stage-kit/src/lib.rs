//! What every stage has in common: its declaration, its inputs and output folder, its progress, and its `main`.
//!
//! A stage is a pure step of the method: it reads the folders and files that stand behind its *roles*, and writes
//! one output folder. It knows neither the pipeline nor the other stages; files are the interface between them.

mod alone;
mod by_case;
mod cases;
mod cli;
mod describe;
mod digest;
mod entry;
mod files;
mod forecast;
mod io;
mod left_out;
mod made;
mod memory;
mod mistakes;
mod nearest;
mod progress;
mod shape;
mod shown;
mod sink;
mod stop;

pub use by_case::{ByCase, CasePlan, CaseSpec, CaseStage, Look, run_cases};
pub use case_store::hash_of;
pub use cases::{Case, CaseFailures, over_cases};
pub use cli::{StageArgs, main, run_stage, run_stage_with};
pub use digest::Digested;
pub use entry::{Entry, Role, Stage, role};
pub use files::{write_atomic, write_atomic_text};
pub use forecast::{Ahead, Chore, Cost, Forecast, Lot, Model, Outlook, time_cases};
pub use io::{ABOUT, DeviceChoice, Known, StageIo};
pub use left_out::{Aside, LEFT_OUT_FILE, LeftOut, left_out_text, name_of, read_left_out};
pub use memory::{forget_peak_memory, note_memory, peak_memory};
pub use mistakes::Mistake;
pub use nearest::nearest;
pub use progress::{Progress, ProgressStyle, Report, Update};
pub use ranks::Ranks;
pub use shown::{shown, some_of};
pub use sink::Sink;
pub use stop::stop_on_signals;
