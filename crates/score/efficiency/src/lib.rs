//! What a case costs: time and memory of a program from its start to its end, as the challenge counts them.
//!
//! A [`Meter`] looks every 0.1 s at the memory of all processes that the program has started and at that of the graphics card.
//! The figures of a case are its time, the largest sample, and the area under the curve of memory over time.

mod figures;
mod meter;
mod nvml;
mod processes;
mod table;

pub use figures::{CaseFigures, Curve, Ended, FILE, Figures, MB, PENALTY_AREA_MB_S, PENALTY_SECONDS, SECONDS_PER_SAMPLE};
pub use meter::{Meter, MeterError, Outcome, Run, Sample};
pub use nvml::{Gpu, NvmlError};
pub use processes::{Tree, end_tree};
pub use table::{Memory, curve_svg, samples_csv};
