//! Sums, sums of squares and extremes per lane.

use crate::cpu::isa::Simd;

/// Lanes of a vector at most.
pub(super) const LANES: usize = 16;

/// Of a few hundred values, in `f32`; sums of more are to be made of several.
#[derive(Clone, Copy)]
pub(super) struct LaneSums<S> {
    sums: S,
    squares: S,
}

#[allow(unsafe_code)]
impl<S: Simd> LaneSums<S> {
    #[inline(always)]
    pub(super) fn new() -> Self {
        // SAFETY: every set of instructions can zero a vector; callers run where they exist.
        unsafe { Self { sums: S::zero(), squares: S::zero() } }
    }

    /// # Safety
    /// The instructions of `S` exist.
    #[inline(always)]
    pub(super) unsafe fn add(&mut self, values: S) {
        // SAFETY: the caller's condition.
        unsafe {
            self.sums = self.sums.add(values);
            self.squares = values.mul_add(values, self.squares);
        }
    }

    /// Adds to the moments of the lanes: sum and sum of squares in turn.
    ///
    /// # Safety
    /// The instructions of `S` exist.
    #[inline(always)]
    pub(super) unsafe fn add_to(&self, moments: &mut [f64]) {
        let (mut sums, mut squares) = ([0f32; LANES], [0f32; LANES]);
        // SAFETY: the caller's condition; no vector has more lanes.
        unsafe {
            self.sums.store(sums.as_mut_ptr());
            self.squares.store(squares.as_mut_ptr());
        }
        for (moments, (sum, square)) in moments.as_chunks_mut::<2>().0.iter_mut().zip(sums.iter().zip(&squares)).take(S::LANES) {
            moments[0] += f64::from(*sum);
            moments[1] += f64::from(*square);
        }
    }
}

/// The greatest value of each lane, and the greatest one with its sign turned.
#[derive(Clone, Copy)]
pub(super) struct LaneExtremes<S> {
    high: S,
    low: S,
}

#[allow(unsafe_code)]
impl<S: Simd> LaneExtremes<S> {
    /// # Safety
    /// The instructions of `S` exist.
    #[inline(always)]
    pub(super) unsafe fn new() -> Self {
        // SAFETY: the caller's condition.
        let none = unsafe { S::splat(f32::NEG_INFINITY) };
        Self { high: none, low: none }
    }

    /// # Safety
    /// The instructions of `S` exist.
    #[inline(always)]
    pub(super) unsafe fn add(&mut self, values: S) {
        // SAFETY: the caller's condition.
        unsafe {
            self.high = values.max(self.high);
            self.low = values.mul_add(S::splat(-1.0), S::zero()).max(self.low);
        }
    }

    /// Adds to the extremes of the lanes.
    ///
    /// # Safety
    /// The instructions of `S` exist.
    #[inline(always)]
    pub(super) unsafe fn add_to(&self, extremes: &mut [[f32; 2]]) {
        let (mut high, mut low) = ([0f32; LANES], [0f32; LANES]);
        // SAFETY: the caller's condition; no vector has more lanes.
        unsafe {
            self.high.store(high.as_mut_ptr());
            self.low.store(low.as_mut_ptr());
        }
        for (extremes, (high, low)) in extremes.iter_mut().zip(high.iter().zip(&low)).take(S::LANES) {
            *extremes = [extremes[0].max(*high), extremes[1].max(*low)];
        }
    }
}

/// The extremes of two parts together.
pub(super) fn wider(a: [f32; 2], b: [f32; 2]) -> [f32; 2] {
    [a[0].max(b[0]), a[1].max(b[1])]
}
