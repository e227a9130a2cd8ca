//! Memory that a kernel is about to write.
//!
//! To zero it first would cost as much as a third of a kernel that waits for memory. A kernel gets it as [`Unwritten`] instead, which
//! safe code can write and cannot read, and gives it back as floats once it has written all of it.

use std::mem::MaybeUninit;

use rayon::prelude::*;

/// Elements that nobody may read yet.
pub(crate) type Unwritten<T = f32> = [MaybeUninit<T>];

/// A vector of the `len` floats that `kernel` writes.
pub(crate) fn written(len: usize, kernel: impl FnOnce(&mut Unwritten) -> &mut [f32]) -> Vec<f32> {
    written_with(len, |y| ((), kernel(y))).1
}

/// What `kernel` computes besides, and a vector of the `len` floats that it writes.
#[allow(unsafe_code)]
pub(crate) fn written_with<R>(len: usize, kernel: impl FnOnce(&mut Unwritten) -> (R, &mut [f32])) -> (R, Vec<f32>) {
    let mut values = Vec::with_capacity(len);
    let unwritten = &mut values.spare_capacity_mut()[..len];
    let place = unwritten.as_ptr_range();
    let (result, done) = kernel(unwritten);
    check(done, place);
    // SAFETY: the kernel has given these elements back as floats, so they are written.
    unsafe { values.set_len(len) };
    (result, values)
}

/// Lets `write` fill `y` piece by piece, each of `len` elements or for the last one fewer, on all threads. Returns what it computes
/// for each piece.
#[allow(unsafe_code)]
pub(crate) fn written_in_tasks<R: Send>(
    y: &mut Unwritten,
    len: usize,
    write: impl Fn(usize, &mut Unwritten) -> (R, &mut [f32]) + Sync,
) -> (Vec<R>, &mut [f32]) {
    let pieces = y.par_chunks_mut(len).enumerate().map(|(at, y)| {
        let place = y.as_ptr_range();
        let (result, done) = write(at, y);
        check(done, place);
        result
    });
    let results = pieces.collect();
    // SAFETY: every piece came back as floats, and the pieces are all of `y`.
    (results, unsafe { assume_written(y) })
}

/// [`written_in_tasks`] where nothing else is computed.
pub(crate) fn filled_in_tasks(y: &mut Unwritten, len: usize, write: impl Fn(usize, &mut Unwritten) -> &mut [f32] + Sync) -> &mut [f32] {
    written_in_tasks(y, len, |at, y| ((), write(at, y))).1
}

/// Lets `write` fill `y` row by row, each of `len` elements or for the last one fewer.
#[allow(unsafe_code)]
pub(crate) fn filled_in_rows(y: &mut Unwritten, len: usize, mut write: impl FnMut(usize, &mut Unwritten) -> &mut [f32]) -> &mut [f32] {
    for (at, y) in y.chunks_mut(len).enumerate() {
        let place = y.as_ptr_range();
        check(write(at, y), place);
    }
    // SAFETY: every row came back as floats, and the rows are all of `y`.
    unsafe { assume_written(y) }
}

/// `y`, all of it `value`.
#[allow(unsafe_code)]
pub(crate) fn filled<T: Copy>(y: &mut Unwritten<T>, value: T) -> &mut [T] {
    y.fill(MaybeUninit::new(value));
    // SAFETY: every element is written.
    unsafe { assume_written(y) }
}

/// `y` as a copy of `from`, which is as long.
#[allow(unsafe_code)]
pub(crate) fn copied<'y>(y: &'y mut Unwritten, from: &[f32]) -> &'y mut [f32] {
    assert_eq!(y.len(), from.len(), "rows of one length");
    // SAFETY: both are as long, and what is borrowed to be written is no part of what is borrowed to be read.
    unsafe {
        y.as_mut_ptr().cast::<f32>().copy_from_nonoverlapping(from.as_ptr(), from.len());
        assume_written(y)
    }
}

/// `y`, an element for each of the values, which are as many.
#[inline(always)]
#[allow(unsafe_code)]
pub(crate) fn filled_with(y: &mut Unwritten, values: impl Iterator<Item = f32>) -> &mut [f32] {
    let mut count = 0;
    for (y, value) in y.iter_mut().zip(values) {
        y.write(value);
        count += 1;
    }
    assert_eq!(count, y.len(), "a value for each element");
    // SAFETY: as many elements are written as there are.
    unsafe { assume_written(y) }
}

/// `y` as what it holds.
///
/// # Safety
/// Every element has been written.
#[inline(always)]
#[allow(unsafe_code)]
pub(crate) unsafe fn assume_written<T>(y: &mut Unwritten<T>) -> &mut [T] {
    // SAFETY: elements have the same layout, and by the condition of this function they are valid.
    unsafe { &mut *(std::ptr::from_mut(y) as *mut [T]) }
}

/// Panics where a kernel gives back other floats than it got memory for.
fn check(done: &[f32], place: std::ops::Range<*const MaybeUninit<f32>>) {
    let done = done.as_ptr_range();
    assert!(done.start == place.start.cast() && done.end == place.end.cast(), "a kernel gives back the memory that it was given");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_tasks_write_all_of_a_vector() {
        fn row(y: &mut Unwritten, first: usize) -> &mut [f32] {
            filled_with(y, (first..).map(|i| i as f32))
        }
        let in_tasks = written(10, |y| filled_in_tasks(y, 4, |task, y| filled_in_rows(y, 2, |at, y| row(y, 4 * task + 2 * at))));
        assert_eq!(in_tasks, (0..10).map(|i| i as f32).collect::<Vec<_>>());
        assert_eq!(written(0, |y| filled(y, 1.0)), Vec::<f32>::new());
    }

    #[test]
    #[should_panic(expected = "a kernel gives back the memory that it was given")]
    fn a_kernel_cannot_give_back_a_part() {
        written(3, |y| filled(&mut y[..2], 0.0));
    }

    #[test]
    #[should_panic(expected = "a kernel gives back the memory that it was given")]
    fn a_kernel_cannot_give_back_other_memory() {
        written(3, |_| Box::leak(vec![0.0; 3].into_boxed_slice()));
    }

    #[test]
    #[should_panic(expected = "a value for each element")]
    fn too_few_values_are_refused() {
        written(3, |y| filled_with(y, [0.0; 2].into_iter()));
    }
}
