//! What the samples of a batch are labelled with.

use candle_core::{DType, Tensor};
use training::Batch;

use crate::annotation::Datasets;
use crate::class::Class;
use crate::model::{Output, Row};

/// The labels of a batch: a map for each group, so that classes of different groups may lie in one voxel.
pub struct Truth<'a> {
    /// For each group `u8 (b, d, h, w)`: the place of a class among those of the group, from 1; 0 elsewhere.
    pub groups: &'a [Tensor],
    /// The dataset of each sample, which says what of this is annotated.
    pub datasets: &'a [usize],
    /// For each group how much each label counts, `f32 (b, d, h, w)`; fully where there is nothing. Outputs that are independent
    /// ignore labels of weight 0 and take all others alike.
    pub weights: &'a [Option<Tensor>],
}

impl<'a> Truth<'a> {
    /// The labels of a batch whose samples are of these datasets, and which has a target for each group.
    #[must_use]
    pub fn of(batch: &'a Batch, datasets: &'a [usize]) -> Self {
        Self { groups: &batch.labels, datasets, weights: &batch.weights }
    }

    /// The voxels of a sample along each axis.
    pub(crate) fn size(&self) -> candle_core::Result<&[usize]> {
        match self.groups.first() {
            Some(map) => Ok(&map.dims()[1..]),
            None => candle_core::bail!("the batch was assembled without labels"),
        }
    }

    fn group(&self, class: Class) -> candle_core::Result<&Tensor> {
        match self.groups.get(class.group()) {
            Some(map) => Ok(map),
            None => candle_core::bail!(
                "the batch was assembled without the labels of group {}, of which class {} is",
                class.group(),
                class.value()
            ),
        }
    }

    /// Where a sample shows a class: `u8 (1, d, h, w)`.
    fn where_is(&self, sample: usize, class: Class) -> candle_core::Result<Tensor> {
        self.group(class)?.narrow(0, sample, 1)?.eq(class.place())
    }

    /// Where a sample shows each of some classes: `u8 (1, classes, d, h, w)`.
    pub(crate) fn shows(&self, sample: usize, classes: &[Class]) -> candle_core::Result<Tensor> {
        let maps = classes.iter().map(|class| self.where_is(sample, *class)).collect::<candle_core::Result<Vec<_>>>()?;
        Tensor::stack(&maps, 1)
    }

    /// Which of some classes a sample shows, as if they excluded each other: `u8 (1, d, h, w)` with the place of a class among them,
    /// from 1. The last one counts, which is of the last group where they are in order.
    pub(crate) fn exclusive(&self, sample: usize, classes: &[Class]) -> candle_core::Result<Tensor> {
        let Some(first) = self.groups.first() else { candle_core::bail!("the batch was assembled without labels") };
        let mut places = first.narrow(0, sample, 1)?.zeros_like()?;
        for (place, class) in (1u8..).zip(classes) {
            let here = self.where_is(sample, *class)?;
            places = here.where_cond(&Tensor::full(place, here.shape(), here.device())?, &places)?;
        }
        Ok(places)
    }

    /// Where the samples of rows show their channel's class: `u8 (rows, channels, size..)`, for a size that may be lower than
    /// that of the labels (of which the nearest count then). Channels without a class have zeros.
    pub(crate) fn targets(&self, output: &Output) -> candle_core::Result<Tensor> {
        let size = &output.logits.dims()[2..];
        let groups = self.groups.iter().map(|map| at_size(map, size)).collect::<candle_core::Result<Vec<_>>>()?;
        let sized = Truth { groups: &groups, ..*self };
        by_row(output, |sample, class| sized.where_is(sample, class), 0)
    }

    /// [`ops::binary_sums`] of an output, over the voxels whose labels count.
    pub(crate) fn sums(&self, output: &Output) -> candle_core::Result<Tensor> {
        let targets = self.targets(output)?;
        let counts = self.counts(output)?;
        sums_where(&output.logits, &targets, counts.as_ref())
    }

    /// Where labels count: `u8`, shaped as the logits of the output; everywhere if it is nothing.
    fn counts(&self, output: &Output) -> candle_core::Result<Option<Tensor>> {
        if self.weights.iter().all(Option::is_none) {
            return Ok(None);
        }
        let size = &output.logits.dims()[2..];
        let sized = |map: &Option<Tensor>| map.as_ref().map(|map| at_size(map, size)?.gt(0.0)).transpose();
        let weights = self.weights.iter().map(sized).collect::<candle_core::Result<Vec<_>>>()?;
        let counts = |sample: usize, class: Class| match &weights[class.group()] {
            Some(counts) => counts.narrow(0, sample, 1),
            None => Tensor::ones([&[1], size].concat(), DType::U8, output.logits.device()),
        };
        by_row(output, counts, 1).map(Some)
    }

    /// How much each voxel of a sample counts for a map of exclusive classes: as its least trusted label, `f32 (1, d, h, w)`.
    pub(crate) fn least_weights(&self, sample: usize) -> candle_core::Result<Option<Tensor>> {
        let mut weights = self.weights.iter().flatten().map(|map| map.narrow(0, sample, 1));
        let Some(first) = weights.next() else { return Ok(None) };
        weights.try_fold(first?, |least, map| least.minimum(&map?)).map(Some)
    }

    /// The sums of some logits `(1, classes, d, h, w)` of a sample.
    pub(crate) fn sums_of(&self, output: &Output, row: usize) -> candle_core::Result<Tensor> {
        let of_row = Output { logits: output.logits.narrow(0, row, 1)?, rows: vec![output.rows[row].clone()], weight: 1.0, features: None };
        self.sums(&of_row)
    }

    /// Which channels are annotated: a row of truths for each row of the output.
    pub(crate) fn mask(&self, output: &Output, datasets: &Datasets) -> Vec<Vec<bool>> {
        output.rows.iter().map(|row| self.mask_of_row(row, datasets)).collect()
    }

    pub(crate) fn mask_of_row(&self, row: &Row, datasets: &Datasets) -> Vec<bool> {
        let annotated = datasets.classes(self.datasets[row.sample]);
        row.channels.iter().map(|about| about.is_some_and(|about| annotated.contains(&about.class))).collect()
    }
}

/// Logits that say no as surely as numbers can: neither a Dice score nor an entropy sees a voxel with one and no label.
const SURELY_NOT: f32 = -40.0;

/// The sums over the voxels that count. The gradient elsewhere is exactly 0.
fn sums_where(logits: &Tensor, targets: &Tensor, counts: Option<&Tensor>) -> candle_core::Result<Tensor> {
    let Some(counts) = counts else { return ops::binary_sums(logits, targets) };
    let no = Tensor::full(SURELY_NOT, logits.shape(), logits.device())?;
    ops::binary_sums(&counts.where_cond(logits, &no)?, &(targets * counts)?)
}

/// A map `(1, size..)` for each row and channel as `(rows, channels, size..)`; `else_` for channels without a class.
fn by_row(output: &Output, map: impl Fn(usize, Class) -> candle_core::Result<Tensor>, else_: u8) -> candle_core::Result<Tensor> {
    let size = &output.logits.dims()[2..];
    let nothing = Tensor::full(else_, [&[1], size].concat(), output.logits.device())?;
    let mut rows = Vec::with_capacity(output.rows.len());
    for row in &output.rows {
        let channel = |about: &Option<crate::Channel>| match about {
            None => Ok(nothing.clone()),
            Some(about) => map(row.sample, about.class),
        };
        rows.push(Tensor::stack(&row.channels.iter().map(channel).collect::<candle_core::Result<Vec<_>>>()?, 1)?);
    }
    Tensor::cat(&rows, 0)
}

/// A map `(b, d, h, w)` at a size, the nearest values.
fn at_size(labels: &Tensor, size: &[usize]) -> candle_core::Result<Tensor> {
    let mut labels = labels.clone();
    for (axis, &to) in size.iter().enumerate() {
        let from = labels.dim(axis + 1)?;
        if from != to {
            let nearest = (0..to).map(|i| (i * from / to) as u32);
            labels = labels.index_select(&Tensor::from_iter(nearest, labels.device())?, axis + 1)?;
        }
    }
    Ok(labels)
}
