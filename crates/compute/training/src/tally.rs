//! Validation: the mean loss, and the Dice score of each class over all validation samples together.

use anyhow::Result;
use candle_core::{Device, Tensor};
use ranks::{Ranks, Sums};

use crate::batch::{Batch, BatchSource};
use crate::curves::{Detail, Validation};
use crate::trust::Truth;

/// Losses and voxel counts of one output, summed over samples. Its size does not grow with their number.
pub struct Tally {
    names: Vec<String>,
    loss: ops::DiceCe,
    dice_loss_only: bool,
    loss_sum: f64,
    samples: f64,
    /// Per class, by weight: voxels of prediction and truth together, and of both.
    voxels: Vec<[f64; 2]>,
}

impl Tally {
    /// A tally of the classes `names`, the background first. With `dice_loss_only`, the loss is the Dice part alone
    /// (paper 3.2: the best 3-D network is the one with the lowest Dice loss).
    #[must_use]
    pub fn new(names: &[String], dice_loss_only: bool) -> Self {
        let voxels = vec![[0.0; 2]; names.len()];
        Self {
            names: names.to_vec(),
            loss: ops::DiceCe { squared: true, batch: false },
            dice_loss_only,
            loss_sum: 0.0,
            samples: 0.0,
            voxels,
        }
    }

    /// Adds samples: `logits (b, classes, …)`, `truth (b, …)`. Labels count by their weights in the scores too.
    ///
    /// # Errors
    /// When the shapes do not fit.
    #[expect(clippy::cast_precision_loss, reason = "batches are small")]
    pub fn add(&mut self, logits: &Tensor, truth: &Truth) -> candle_core::Result<()> {
        let target = truth.target();
        let loss = if self.dice_loss_only { self.loss.dice_alone(logits, target)? } else { self.loss.loss(logits, target)? };
        let samples = logits.dim(0)? as f64;
        self.loss_sum += f64::from(loss.to_scalar::<f32>()?) * samples;
        self.samples += samples;
        let predicted = ops::argmax_channels(logits)?.flatten_all()?.to_vec1::<u8>()?;
        let labels = truth.labels.flatten_all()?.to_vec1::<u8>()?;
        let weights = truth.weights.as_ref().map(|weights| weights.flatten_all()?.to_vec1::<f32>()).transpose()?;
        let weights = weights.iter().flatten().map(|&weight| f64::from(weight)).chain(std::iter::repeat(1.0));
        for ((p, t), weight) in predicted.into_iter().zip(labels).zip(weights) {
            self.voxels[usize::from(p)][0] += weight;
            self.voxels[usize::from(t)][0] += weight;
            self.voxels[usize::from(p)][1] += if p == t { weight } else { 0.0 };
        }
        Ok(())
    }

    /// The mean loss.
    #[must_use]
    pub fn loss(&self) -> f64 {
        self.loss_sum / self.samples
    }

    /// The Dice score of each class but the background; none for a class that neither truth nor prediction has.
    fn scores(&self) -> impl Iterator<Item = (&str, Option<f64>)> {
        let score = |[either, both]: [f64; 2]| (either > 0.0).then(|| 2.0 * both / either);
        self.names.iter().map(String::as_str).zip(self.voxels.iter().map(move |&voxels| score(voxels))).skip(1)
    }
}

impl Sums for Tally {
    fn sums(&mut self) -> Vec<&mut f64> {
        [&mut self.loss_sum, &mut self.samples].into_iter().chain(self.voxels.iter_mut().flatten()).collect()
    }
}

/// Goes over all batches of a validation. Each rank has a `look` at its own; what it saw is added to sums that all ranks hold, in the
/// order of the batches.
///
/// # Errors
/// Those of `look` and `add`, and of the cases; and when a rank is lost.
pub fn over_batches<S: Sums, T>(
    source: &BatchSource,
    device: &Device,
    ranks: &Ranks,
    sums: &mut S,
    look: impl Fn(&Batch) -> Result<T>,
    add: impl Fn(&mut S, &Batch, T) -> Result<()>,
) -> Result<()> {
    let epoch = source.sampler().epoch(0);
    let steps = usize::try_from(source.sampler().steps_per_epoch())?;
    let mut own = ranks.own(steps);
    for _ in 0..ranks.rounds(steps) {
        let looked = own.next().map(|step| {
            let batch = source.assemble(&epoch, 0, step as u64)?.into_tensors(device)?;
            anyhow::Ok((look(&batch)?, batch))
        });
        let add = &add;
        let in_turn = looked.transpose()?.map(|(looked, batch)| move |sums: &mut S| add(sums, &batch, looked));
        ranks.in_turn(sums, in_turn)?;
    }
    Ok(())
}

/// The validation of a model: `forward` gives for a batch the logits and the truth of each of `tallies`.
///
/// The Dice score is the mean over all classes of all tallies that occur; a class that does not occur has the detail 1.
///
/// # Errors
/// Those of the network and of the cases.
#[expect(clippy::cast_precision_loss, reason = "few classes")]
pub fn validate(
    source: &BatchSource,
    device: &Device,
    ranks: &Ranks,
    mut tallies: Vec<Tally>,
    forward: impl Fn(&Batch) -> Result<Vec<(Tensor, Truth)>>,
) -> Result<Validation> {
    // No gradient is wanted: without this the graph of the whole forward pass would stay in memory.
    let detached = |(logits, truth): (Tensor, Truth)| (logits.detach(), truth);
    let look = |batch: &Batch| Ok(forward(batch)?.into_iter().map(detached).collect::<Vec<_>>());
    over_batches(source, device, ranks, &mut tallies, look, |tallies, _, looked| {
        tallies.iter_mut().zip(looked).try_for_each(|(tally, (logits, truth))| Ok(tally.add(&logits, &truth)?))
    })?;
    let scores: Vec<(&str, Option<f64>)> = tallies.iter().flat_map(Tally::scores).collect();
    let occurring: Vec<f64> = scores.iter().filter_map(|(_, score)| *score).collect();
    Ok(Validation {
        loss: tallies.iter().map(Tally::loss).sum(),
        dice: occurring.iter().sum::<f64>() / occurring.len().max(1) as f64,
        details: scores.into_iter().map(|(name, score)| Detail { name: format!("dice_{name}"), value: score.unwrap_or(1.0) }).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn the_dice_score_pools_all_voxels_and_leaves_out_classes_that_do_not_occur() {
        let names = ["background", "a", "b"].map(str::to_owned);
        let mut tally = Tally::new(&names, false);
        // Predictions a, a, background, background against truths a, background, a, background.
        let logits = Tensor::new(&[[[0f32, 0., 1., 1.], [1., 1., 0., 0.], [-1., -1., -1., -1.]]], &Device::Cpu).unwrap();
        let labels = Tensor::new(&[[1u8, 0, 1, 0]], &Device::Cpu).unwrap();
        tally.add(&logits, &Truth { labels: labels.clone(), weights: None }).unwrap();
        assert_eq!(tally.scores().collect::<Vec<_>>(), [("a", Some(0.5)), ("b", None)]);
        let loss = ops::dice_ce(&logits, &labels).unwrap();
        assert!((tally.loss() - f64::from(loss.to_scalar::<f32>().unwrap())).abs() < 1e-6);

        // Without the voxel whose label is in doubt, the prediction is wrong in one place alone.
        let mut tally = Tally::new(&names, false);
        let weights = Some(Tensor::new(&[[1f32, 0., 0.5, 1.]], &Device::Cpu).unwrap());
        tally.add(&logits, &Truth { labels, weights }).unwrap();
        assert_eq!(tally.scores().next(), Some(("a", Some(2.0 / 2.5))));
    }
}
