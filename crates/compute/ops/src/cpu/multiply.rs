//! Products of small matrices that lie in caches.

use super::isa::{Simd, per_isa};

/// Columns of a product are a multiple of this: whole vectors of any instruction set.
pub(crate) const COLUMNS: usize = 16;

/// Sizes of a product c = a b and the steps between the elements of a, and between the rows of b and c.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Product {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) inner: usize,
    pub(crate) a_row: usize,
    pub(crate) a_inner: usize,
    pub(crate) b_row: usize,
    pub(crate) c_row: usize,
}

impl Product {
    fn check(&self, a: &[f32], b: &[f32], c: &[f32]) {
        let last = |rows: usize, step: usize| (rows - 1) * step;
        assert!(self.rows > 0 && self.inner > 0 && self.columns > 0 && self.columns.is_multiple_of(COLUMNS));
        assert!(last(self.rows, self.a_row) + last(self.inner, self.a_inner) < a.len(), "a matrix is too small: {self:?}");
        assert!(last(self.inner, self.b_row) + self.columns <= b.len(), "a matrix is too small: {self:?}");
        assert!(last(self.rows, self.c_row) + self.columns <= c.len(), "a matrix is too small: {self:?}");
    }
}

per_isa! {
    /// c = a b, or c += a b when `add`.
    ///
    /// # Safety
    /// None beyond the instruction set: the sizes are checked.
    pub(crate) unsafe fn multiply<S>(product: Product, a: &[f32], b: &[f32], c: &mut [f32], add: bool) {
        product.check(a, b, c);
        let vectors = product.columns / S::LANES;
        let mut column = 0;
        while column < vectors {
            let width = match vectors - column {
                4 => 2,
                rest => rest.min(3),
            };
            let mut row = 0;
            while row < product.rows {
                let height = match product.rows - row {
                    rest if rest >= S::CHANNELS => S::CHANNELS,
                    4.. => 4,
                    _ => 1,
                };
                // SAFETY: the tile lies in the matrices, whose sizes were checked.
                unsafe {
                    let a = a.as_ptr().add(row * product.a_row);
                    let b = b.as_ptr().add(column * S::LANES);
                    let c = c.as_mut_ptr().add(row * product.c_row + column * S::LANES);
                    macro_rules! tiles {
                        ($($height:literal x $width:literal),*) => {
                            match (height, width) {
                                $(($height, $width) => register_tile::<S, $height, $width>(product, a, b, c, add),)*
                                other => unreachable!("no register tile of {other:?}"),
                            }
                        };
                    }
                    tiles!(8 x 3, 8 x 2, 8 x 1, 4 x 3, 4 x 2, 4 x 1, 1 x 3, 1 x 2, 1 x 1);
                }
                row += height;
            }
            column += width;
        }
    }
}

/// # Safety
/// The tile of `HEIGHT` rows and `WIDTH` vectors lies in the matrices.
#[inline(always)]
#[allow(unsafe_code)]
unsafe fn register_tile<S: Simd, const HEIGHT: usize, const WIDTH: usize>(
    product: Product,
    a: *const f32,
    b: *const f32,
    c: *mut f32,
    add: bool,
) {
    // SAFETY: the conditions of this function.
    unsafe {
        let mut sums = [[S::zero(); WIDTH]; HEIGHT];
        for k in 0..product.inner {
            let mut row = [S::zero(); WIDTH];
            for v in 0..WIDTH {
                row[v] = S::load(b.add(k * product.b_row + v * S::LANES));
            }
            for i in 0..HEIGHT {
                let factor = S::splat(*a.add(i * product.a_row + k * product.a_inner));
                for v in 0..WIDTH {
                    sums[i][v] = factor.mul_add(row[v], sums[i][v]);
                }
            }
        }
        for i in 0..HEIGHT {
            for v in 0..WIDTH {
                let to = c.add(i * product.c_row + v * S::LANES);
                let sum = if add { S::load(to).add(sums[i][v]) } else { sums[i][v] };
                sum.store(to);
            }
        }
    }
}
