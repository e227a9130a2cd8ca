//! The kernels: `f32`, contiguous, on the CPU, knowing nothing of candle's tensors.
//!
//! Images are volumes of depth 1. Work is cut into tasks by the shape alone, never by the number of threads, and
//! partial sums are added in task order, so results do not depend on how many threads there are. (They do differ
//! in the last bits between instruction sets, which sum in different orders.)

mod accumulate;
pub(crate) mod adamw;
pub(crate) mod argmax;
pub(crate) mod attention;
pub(crate) mod binary;
pub(crate) mod conv;
pub(crate) mod conv_data;
pub(crate) mod conv_filter;
mod correlate;
mod depthwise;
mod functions;
pub(crate) mod gelu;
pub(crate) mod grouped;
pub(crate) mod isa;
pub(crate) mod lanes;
pub(crate) mod linear;
pub(crate) mod loss;
pub(crate) mod max_pool;
pub(crate) mod multiply;
pub(crate) mod norm;
mod pack;
pub(crate) mod pad;
pub(crate) mod pool;
pub(crate) mod rows;
mod sums;
pub(crate) mod transpose;
mod unwritten;
pub(crate) mod upsample;

use std::cell::RefCell;

pub(crate) use unwritten::{
    Unwritten, assume_written, copied, filled, filled_in_rows, filled_in_tasks, filled_with, written, written_in_tasks, written_with,
};

/// Sizes along depth, height and width.
pub(crate) type Size3 = [usize; 3];

/// A convolution's shape. Channels are those of all groups together; filters have `in_channels / groups`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ConvShape {
    pub(crate) batch: usize,
    pub(crate) in_channels: usize,
    pub(crate) out_channels: usize,
    pub(crate) groups: usize,
    pub(crate) input: Size3,
    pub(crate) kernel: Size3,
    pub(crate) stride: Size3,
    pub(crate) padding: Size3,
}

impl ConvShape {
    /// The output's size. The kernel must fit into the padded input.
    pub(crate) fn output(&self) -> Size3 {
        std::array::from_fn(|a| (self.input[a] + 2 * self.padding[a] - self.kernel[a]) / self.stride[a] + 1)
    }

    pub(crate) fn taps(&self) -> usize {
        self.kernel.iter().product()
    }
}

/// Tasks wanted where each has sums of its own: enough for 16 threads, and few enough that adding them up does not show.
pub(crate) const SUMMING_TASKS: usize = 16;

/// A pointer to an output that tasks write in disjoint places.
#[derive(Clone, Copy)]
pub(crate) struct Shared<T = f32>(pub(crate) *mut T);
// SAFETY: every task writes elements of its own, and nobody reads before all tasks have ended.
#[allow(unsafe_code)]
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl<T: Send> Sync for Shared<T> {}
impl<T> Shared<T> {
    pub(crate) fn get(self) -> *mut T {
        self.0
    }
}

thread_local! {
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Lends a buffer of `len` floats of unspecified content, aligned to a cache line, kept by the thread for reuse.
fn with_scratch<R>(len: usize, f: impl FnOnce(&mut [f32]) -> R) -> R {
    SCRATCH.with(|scratch| {
        // Taken out rather than borrowed: a task may run another one while it waits.
        let mut buffer = scratch.take();
        if buffer.len() < len + 16 {
            buffer = vec![0.0; len + 16];
        }
        let skip = buffer.as_ptr().align_offset(64).min(16);
        let result = f(&mut buffer[skip..skip + len]);
        scratch.replace(buffer);
        result
    })
}
