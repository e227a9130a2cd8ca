//! Validation: the mean loss, and the Dice score of every output over what is annotated of it.

use candle_core::{DType, Tensor};
use ranks::Sums;
use training::{Detail, Validation};

use crate::annotation::Datasets;
use crate::class::Class;
use crate::model::{Model, Output};
use crate::truth::Truth;

/// Losses and voxel counts of every head's classes, summed over batches. Its size does not grow with their number.
pub struct PartialTally {
    loss_sum: f64,
    samples: f64,
    /// Per head and class: voxels of prediction and truth together, and of both.
    voxels: Vec<Vec<[f64; 2]>>,
}

impl PartialTally {
    /// Nothing yet.
    #[must_use]
    pub fn new(model: &Model) -> Self {
        Self { loss_sum: 0.0, samples: 0.0, voxels: model.heads().iter().map(|head| vec![[0.0; 2]; head.classes.len()]).collect() }
    }

    /// Adds a batch, or a part of one, with its loss and the number of samples of the whole; lower levels of deep supervision are
    /// not looked at.
    ///
    /// # Errors
    /// When shapes do not fit.
    #[expect(clippy::cast_precision_loss, reason = "batches are small")]
    pub fn add(
        &mut self,
        model: &Model,
        outputs: &[Output],
        truth: &Truth<'_>,
        datasets: &Datasets,
        (loss, batch): (&Tensor, usize),
    ) -> candle_core::Result<()> {
        self.loss_sum += f64::from(loss.to_scalar::<f32>()?) * batch as f64;
        self.samples += truth.datasets.len() as f64;
        let size = truth.size()?;
        for output in outputs.iter().filter(|output| output.logits.dims()[2..] == *size) {
            let predicted = predicted(model, &output.logits.detach())?;
            let targets = if model.is_exclusive() { exclusive_targets(output, truth, datasets)? } else { truth.targets(output)? };
            let sums = |map: &Tensor| map.to_dtype(DType::F32)?.flatten_from(2)?.sum(2)?.to_vec2::<f32>();
            let (both, p, t) = (sums(&(&predicted * &targets)?)?, sums(&predicted)?, sums(&targets)?);
            for (k, (row, mask)) in output.rows.iter().zip(truth.mask(output, datasets)).enumerate() {
                for (channel, about) in row.channels.iter().enumerate().filter(|(channel, _)| mask[*channel]) {
                    let Some(about) = about else { continue };
                    let place = model.heads()[about.head].classes.iter().position(|class| *class == about.class);
                    if let Some(counts) = place.map(|place| &mut self.voxels[about.head][place]) {
                        counts[0] += f64::from(p[k][channel]) + f64::from(t[k][channel]);
                        counts[1] += f64::from(both[k][channel]);
                    }
                }
            }
        }
        Ok(())
    }

    /// The Dice score is the mean over all outputs whose class occurs; one that does not occur has the detail 1.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "few classes")]
    pub fn validation(&self, model: &Model) -> Validation {
        let mut details = Vec::new();
        let mut occurring = Vec::new();
        for (head, counts) in model.heads().iter().zip(&self.voxels) {
            for (class, [either, both]) in head.classes.iter().zip(counts) {
                let score = (*either > 0.0).then(|| 2.0 * both / either);
                occurring.extend(score);
                let key = model.classes().key_of(class.value());
                details.push(Detail { name: format!("dice_{}_{key}", head.name), value: score.unwrap_or(1.0) });
            }
        }
        let dice = occurring.iter().sum::<f64>() / occurring.len().max(1) as f64;
        Validation { loss: self.loss_sum / self.samples, dice, details }
    }
}

impl Sums for PartialTally {
    fn sums(&mut self) -> Vec<&mut f64> {
        [&mut self.loss_sum, &mut self.samples].into_iter().chain(self.voxels.iter_mut().flatten().flatten()).collect()
    }
}

/// Where each channel says yes: above a probability of one half, or the greatest of classes that exclude each other.
fn predicted(model: &Model, logits: &Tensor) -> candle_core::Result<Tensor> {
    if !model.is_exclusive() {
        return logits.gt(0.0);
    }
    let labels = ops::argmax_channels(logits)?;
    let of_label = (0..logits.dim(1)?).map(|label| labels.eq(label as u8)).collect::<candle_core::Result<Vec<_>>>()?;
    Tensor::stack(&of_label, 1)
}

/// Where each annotated channel is to say yes, when only the class of the last group does of those in a voxel.
fn exclusive_targets(output: &Output, truth: &Truth<'_>, datasets: &Datasets) -> candle_core::Result<Tensor> {
    let mut rows = Vec::with_capacity(output.rows.len());
    for row in &output.rows {
        let mask = truth.mask_of_row(row, datasets);
        let annotated = row.channels.iter().zip(mask).map(|(about, on)| about.filter(|_| on).map(|about| about.class));
        let annotated: Vec<Option<Class>> = annotated.collect();
        let places = truth.exclusive(row.sample, &annotated.iter().copied().flatten().collect::<Vec<_>>())?;
        let mut place = 0u8;
        let mut channels = Vec::with_capacity(annotated.len());
        for class in annotated {
            place += u8::from(class.is_some());
            channels.push(if class.is_some() { places.eq(place)? } else { places.zeros_like()? });
        }
        rows.push(Tensor::stack(&channels, 1)?);
    }
    Tensor::cat(&rows, 0)
}
