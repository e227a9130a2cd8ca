//! An allocator that lays buffers against pages that nobody may touch.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

/// Where a buffer lies.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    /// Its end touches the guard.
    BeforeGuard = 1,
    /// Its start does.
    BehindGuard = 2,
}

/// Lays the buffers allocated until the result is dropped, by any thread, against guards.
pub(crate) fn guard(place: Place) -> impl Drop {
    struct Off;
    impl Drop for Off {
        fn drop(&mut self) {
            PLACE.store(0, Ordering::SeqCst);
        }
    }
    PLACE.store(place as u8, Ordering::SeqCst);
    Off
}

#[global_allocator]
static ALLOCATOR: Guarded = Guarded;

static PLACE: AtomicU8 = AtomicU8::new(0);
/// Where the reserved addresses start, and the next one that was never used. None is used twice, so that what was freed
/// stays out of reach.
static START: AtomicUsize = AtomicUsize::new(0);
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// Addresses reserved: far more than all cases together allocate. They take no memory.
const RESERVED: usize = 1 << 40;
/// A multiple of the size of pages everywhere.
const PAGE: usize = 1 << 16;

struct Guarded;

// SAFETY: blocks come from the system's allocator, or are pages of their own of the reserved addresses, readable and
// writable from `alloc` to `dealloc`; which of both, their addresses say.
unsafe impl GlobalAlloc for Guarded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let place = PLACE.load(Ordering::SeqCst);
        // Floats, labels and indices. What is aligned to more are not buffers of kernels.
        if place == 0 || layout.align() > align_of::<f32>() || layout.size() == 0 {
            // SAFETY: the caller's conditions.
            return unsafe { System.alloc(layout) };
        }
        let len = layout.size().next_multiple_of(PAGE);
        let Some(block) = reserve(len + PAGE) else {
            return null_mut();
        };
        // SAFETY: the range is of the reserved addresses, and nobody else has got it.
        if unsafe { libc::mprotect(block as *mut libc::c_void, len, libc::PROT_READ | libc::PROT_WRITE) } != 0 {
            return null_mut();
        }
        // The page behind stays out of reach, and so does the one before: it is behind the block before.
        let start = if place == Place::BeforeGuard as u8 { block + len - layout.size() } else { block };
        (start & !(layout.align() - 1)) as *mut u8
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let start = START.load(Ordering::SeqCst);
        if start == 0 || !(start..start + RESERVED).contains(&block.addr()) {
            // SAFETY: the caller's conditions; this block is the system's.
            return unsafe { System.dealloc(block, layout) };
        }
        let (first, end) = (block.addr() & !(PAGE - 1), (block.addr() + layout.size()).next_multiple_of(PAGE));
        // SAFETY: these pages hold this block alone, and the caller is done with it.
        unsafe {
            libc::madvise(first as *mut libc::c_void, end - first, libc::MADV_DONTNEED);
            libc::mprotect(first as *mut libc::c_void, end - first, libc::PROT_NONE);
        }
    }
}

/// Addresses that nobody has had before.
fn reserve(len: usize) -> Option<usize> {
    if START.load(Ordering::SeqCst) == 0 {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new mapping, out of reach for everybody.
        let start = unsafe { libc::mmap(null_mut(), RESERVED, libc::PROT_NONE, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return None;
        }
        // Of two threads that come here at once, one's mapping stays unused.
        if START.compare_exchange(0, start.addr(), Ordering::SeqCst, Ordering::SeqCst).is_ok() {
            NEXT.store(PAGE, Ordering::SeqCst);
        }
    }
    let offset = NEXT.fetch_add(len, Ordering::SeqCst);
    (offset + len <= RESERVED).then(|| START.load(Ordering::SeqCst) + offset)
}
