//! Networks that no structure of this project describes, as lists of operations: a [`Program`] goes from a patch to the scores of each
//! output, step by step, on the kernels of `ops`.
//!
//! A program is data that anybody may have written. All sizes follow from the patch, so that [`Program::check`] finds what cannot be
//! computed, or would take more memory than there is, before anything is allocated.
//!
//! ```
//! use candle_core::{Device, Tensor};
//! use graph::{Function, Op, Operand, Program, Step};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let halved = Step { op: Op::Multiply, of: vec![Operand::Value(0), Operand::Weight("half".into())] };
//! let relu = Step { op: Op::Each(Function::LeakyRelu { slope: 0.0 }), of: vec![Operand::Value(1)] };
//! let program = Program { image: vec![1, 1, 2], weights: [("half".into(), vec![1])].into(), steps: vec![halved, relu], outputs: vec![2] };
//! assert_eq!(program.check()?, [[1, 1, 2]]);
//! let image = Tensor::new(&[[[-4f32, 3.0]]], &Device::Cpu)?;
//! let found = program.run(|_| Tensor::new(&[0.5f32], &Device::Cpu), &image)?;
//! assert_eq!(found[0].to_vec3::<f32>()?, [[[0.0, 1.5]]]);
//! # Ok(())
//! # }
//! ```

mod compute;
mod op;
mod program;
mod shape;

pub use op::{Function, Op, Walk};
pub use program::{Operand, Program, ProgramError, Step};
pub use shape::{broadcast, count};
