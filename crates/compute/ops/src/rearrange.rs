//! Rows brought to other places: windows cut out of a grid, tokens chosen and put back.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor, bail};

use crate::cpu::{copied, filled, filled_in_rows, filled_in_tasks, written};
use crate::tensor::{floats, kernels_serve};

/// In place of a row: zeros.
pub const NO_ROW: u32 = u32::MAX;

/// Elements that a task copies at least, so that tasks are worth their while.
const TASK: usize = 1 << 15;

/// Which row of the source stands at each place of the target. A row of the source is taken at most once, so that the
/// gradient is a map of the same kind, the other way round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowMap {
    from: Arc<[u32]>,
    back: Arc<[u32]>,
}

impl RowMap {
    /// A map by the sources of the target's rows, each below `sources` or [`NO_ROW`].
    ///
    /// # Errors
    /// When a source does not exist or is taken twice.
    pub fn new(from: Vec<u32>, sources: usize) -> Result<Self> {
        let mut back = vec![NO_ROW; sources];
        for (target, &source) in from.iter().enumerate().filter(|(_, source)| **source != NO_ROW) {
            match back.get_mut(source as usize) {
                None => bail!("row {source} asked for, of {sources}"),
                Some(place) if *place != NO_ROW => bail!("row {source} asked for twice"),
                Some(place) => *place = target as u32,
            }
        }
        Ok(Self { from: from.into(), back: back.into() })
    }

    /// Rows of the target.
    #[must_use]
    pub fn targets(&self) -> usize {
        self.from.len()
    }

    /// Rows of the source.
    #[must_use]
    pub fn sources(&self) -> usize {
        self.back.len()
    }

    /// Every row back to where it came from, zeros where none was taken.
    #[must_use]
    pub fn inverse(&self) -> Self {
        Self { from: Arc::clone(&self.back), back: Arc::clone(&self.from) }
    }
}

/// The rows of `x` `(sources, n)` in the places that `map` gives them, `(targets, n)`.
///
/// # Errors
/// When `x` does not have the rows that the map is made for.
pub fn rearrange_rows(x: &Tensor, map: &RowMap) -> Result<Tensor> {
    let (rows, width) = x.dims2()?;
    if rows != map.sources() || width == 0 {
        bail!("rearrange_rows: {} rows that are not empty expected, found {:?}", map.sources(), x.dims());
    }
    if kernels_serve(&[x]) {
        return x.contiguous()?.apply_op1(Rearrange(map.clone()));
    }
    // A row of zeros behind the others stands for those that are not there.
    let zeros = Tensor::zeros((1, width), x.dtype(), x.device())?;
    let places: Vec<u32> = map.from.iter().map(|&source| if source == NO_ROW { rows as u32 } else { source }).collect();
    let places = Tensor::from_vec(places, map.targets(), x.device())?.to_dtype(DType::U32)?;
    Tensor::cat(&[x, &zeros], 0)?.index_select(&places, 0)
}

/// Source to target.
struct Rearrange(RowMap);

impl CustomOp1 for Rearrange {
    fn name(&self) -> &'static str {
        "rearrange-rows"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = floats(s, l)?;
        let width = l.dims()[1];
        let rows = TASK.div_ceil(width);
        let y = written(self.0.targets() * width, |y| {
            filled_in_tasks(y, rows * width, |task, y| {
                filled_in_rows(y, width, |row, y| match self.0.from[task * rows + row] {
                    NO_ROW => filled(y, 0.0),
                    source => copied(y, &x[source as usize * width..][..width]),
                })
            })
        });
        Ok((CpuStorage::F32(y), (self.0.targets(), width).into()))
    }

    fn bwd(&self, _x: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        dy.contiguous()?.apply_op1_no_bwd(&Rearrange(self.0.inverse())).map(Some)
    }
}
