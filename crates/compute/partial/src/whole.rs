//! Batches in parts.

use candle_core::Tensor;

/// The batch that samples are a part of, as far as the loss of the part depends on it.
#[derive(Clone, Debug)]
pub struct Whole {
    datasets: Vec<usize>,
    /// For each part and each of its outputs what [`crate::Loss::sums`] gives, if the loss needs it.
    sums: Vec<Vec<Tensor>>,
}

impl Whole {
    /// A batch whose samples are of these datasets.
    #[must_use]
    pub fn of(datasets: &[usize]) -> Self {
        Self { datasets: datasets.to_vec(), sums: Vec::new() }
    }

    /// The same, knowing the sums of all its parts, which [`crate::Loss::is_of_whole_batches`] asks for.
    #[must_use]
    pub fn with_sums(self, sums: Vec<Vec<Tensor>>) -> Self {
        Self { sums, ..self }
    }

    pub(crate) fn datasets(&self) -> &[usize] {
        &self.datasets
    }

    /// The sum over the other parts of the batch; none if the batch is not cut.
    pub(crate) fn others(&self, part: usize, output: usize) -> candle_core::Result<Option<Tensor>> {
        let others = self.sums.iter().enumerate().filter(|(place, _)| *place != part).map(|(_, sums)| &sums[output]);
        let mut sum: Option<Tensor> = None;
        for other in others {
            sum = Some(match sum {
                None => other.clone(),
                Some(sum) => (sum + other)?,
            });
        }
        Ok(sum)
    }
}
