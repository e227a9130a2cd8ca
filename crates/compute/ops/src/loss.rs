//! The segmentation losses: mean Dice over softmax probabilities, cross-entropy, and their sum.

use std::sync::{Arc, OnceLock};

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp2, CustomOp3, DType, Layout, Result, Shape, Tensor, bail};

use crate::composed;
use crate::cpu::isa::Isa;
use crate::cpu::loss::{self as kernel, Batch, ClassSlope, ClassSums};
use crate::cpu::written;
#[cfg(feature = "cuda")]
use crate::cuda;
use crate::tensor::{all_kernels_serve, floats, kernels_serve};

/// Added to numerator and denominator of every Dice score, so that a class absent from both counts as perfect.
pub(crate) const SMOOTH: f64 = 1e-5;

/// The loss of the paper: soft Dice plus cross-entropy, equal to MONAI's
/// `DiceCELoss(softmax=True, to_onehot_y=True, include_background=True)`.
///
/// With p the softmax over channels, t the one-hot truth and sums over the voxels of one class of one batch entry,
/// `Dice loss = mean over batch and classes of 1 - (2 sum(p t) + 1e-5) / (sum(p) + sum(t) + 1e-5)`, in the
/// denominator `sum(p^2)` in place of `sum(p)` when `squared`. To this comes the mean over voxels of `-log p` of
/// the true class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiceCe {
    /// Whether probabilities are squared in the denominator (MONAI's `squared_pred`); the paper's loss does.
    pub squared: bool,
    /// Whether the sums of the Dice scores run over the voxels of the whole batch (MONAI's `batch`), so that a class
    /// has one score and not one in each entry. A class that few entries have then counts as much as any other.
    pub batch: bool,
}

/// What a loss is taken against: labels, and how much each of them counts.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// `u8 (b, spatial..)`, each below the number of channels.
    pub labels: &'a Tensor,
    /// `f32 (b, spatial..)`, each 0 or more; without them every voxel counts 1. A weight multiplies its voxel's part in each
    /// sum of the Dice scores and its cross-entropy, whose mean stays that over all voxels: samples are independent of each
    /// other, and one that is little trusted has little say. A voxel of weight 0 has a gradient of exactly zero, and its
    /// label does not matter.
    pub weights: Option<&'a Tensor>,
}

impl<'a> From<&'a Tensor> for Target<'a> {
    fn from(labels: &'a Tensor) -> Self {
        Self { labels, weights: None }
    }
}

impl DiceCe {
    /// The loss of `logits` `(b, c, spatial..)` against labels `(b, spatial..)` of type `u8`, or a [`Target`] with weights: a
    /// scalar.
    ///
    /// # Errors
    /// When the shapes do not fit, or a label is not below the number of channels.
    pub fn loss<'a>(self, logits: &Tensor, target: impl Into<Target<'a>>) -> Result<Tensor> {
        segmentation_loss(logits, target.into(), Terms { dice: Some(self), cross_entropy: true })
    }

    /// The Dice part of [`DiceCe::loss`] alone.
    ///
    /// # Errors
    /// As [`DiceCe::loss`].
    pub fn dice_alone<'a>(self, logits: &Tensor, target: impl Into<Target<'a>>) -> Result<Tensor> {
        segmentation_loss(logits, target.into(), Terms { dice: Some(self), cross_entropy: false })
    }
}

/// [`DiceCe::loss`] with squared denominators and scores of each batch entry, as in the paper.
///
/// # Errors
/// As [`DiceCe::loss`].
pub fn dice_ce<'a>(logits: &Tensor, target: impl Into<Target<'a>>) -> Result<Tensor> {
    DiceCe { squared: true, batch: false }.loss(logits, target)
}

/// The mean over voxels of `-log p` of the true class; arguments as of [`DiceCe::loss`].
///
/// # Errors
/// As [`DiceCe::loss`].
pub fn cross_entropy<'a>(logits: &Tensor, target: impl Into<Target<'a>>) -> Result<Tensor> {
    segmentation_loss(logits, target.into(), Terms { dice: None, cross_entropy: true })
}

/// Which losses are added.
#[derive(Clone, Copy)]
pub(crate) struct Terms {
    pub(crate) dice: Option<DiceCe>,
    pub(crate) cross_entropy: bool,
}

impl Terms {
    fn squared(self) -> bool {
        self.dice.is_some_and(|dice| dice.squared)
    }

    /// The sums of every score: those of each entry and class, or of each class.
    fn scored(self, sums: Vec<ClassSums>, classes: usize) -> Vec<ClassSums> {
        if !self.dice.is_some_and(|dice| dice.batch) {
            return sums;
        }
        let mut whole = vec![ClassSums::default(); classes];
        for entry in sums.chunks_exact(classes) {
            whole.iter_mut().zip(entry).for_each(|(whole, sums)| whole.add(sums));
        }
        whole
    }
}

fn segmentation_loss(logits: &Tensor, target: Target<'_>, terms: Terms) -> Result<Tensor> {
    let (dims, labels) = (logits.dims(), target.labels);
    let voxels = dims.iter().skip(2).product::<usize>();
    if dims.len() < 3 || logits.elem_count() == 0 || dims[1] > 256 {
        bail!("segmentation loss: logits (b, c, spatial..) with at most 256 channels expected, found {dims:?}");
    }
    if labels.dtype() != DType::U8 || labels.dim(0)? != dims[0] || labels.elem_count() != dims[0] * voxels {
        bail!("segmentation loss: logits {dims:?} need u8 labels (b, spatial..), found {:?} of {:?}", labels.dims(), labels.dtype());
    }
    if let Some(weights) = target.weights.filter(|weights| weights.dtype() != DType::F32 || weights.dims() != labels.dims()) {
        let (found, of) = (weights.dims(), weights.dtype());
        bail!("segmentation loss: labels {:?} need f32 weights of their shape, found {found:?} of {of:?}", labels.dims());
    }
    // Weights have a kernel on the CPU alone.
    if kernels_serve(&[logits]) || (target.weights.is_none() && all_kernels_serve(&[logits])) {
        let weights = target.weights.map(|weights| weights.flatten_all()?.to_vec1().map(Arc::new)).transpose()?;
        let op = SegmentationLoss { terms, weights, sums: OnceLock::new() };
        return logits.contiguous()?.apply_op2(&labels.contiguous()?, op);
    }
    let highest = labels.flatten_all()?.max(0)?.to_scalar::<u8>()?;
    check_label(highest, dims[1])?;
    composed::segmentation_loss(logits, target, terms)
}

fn check_label(label: u8, classes: usize) -> Result<()> {
    if usize::from(label) >= classes {
        bail!("segmentation loss: label {label} outside 0..{classes}, the channels of the logits");
    }
    Ok(())
}

fn labels<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [u8]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::U8(values), Some((start, end))) => Ok(&values[start..end]),
        _ => bail!("contiguous u8 labels expected, found {layout:?}"),
    }
}

fn batch<'a>(
    (s1, l1): (&'a CpuStorage, &Layout),
    (s2, l2): (&'a CpuStorage, &Layout),
    weights: &'a Option<Arc<Vec<f32>>>,
) -> Result<Batch<'a>> {
    let dims = l1.dims();
    let weights = weights.as_ref().map(|weights| weights.as_slice());
    let batch = Batch { logits: floats(s1, l1)?, labels: labels(s2, l2)?, weights, classes: dims[1], voxels: dims[2..].iter().product() };
    check_label(batch.labels.iter().copied().max().unwrap_or(0), batch.classes)?;
    Ok(batch)
}

#[cfg(feature = "cuda")]
fn batch_on_gpu<'a>(logits: cuda::Operand<'a>, labels: cuda::Operand<'a>) -> cuda::loss::Batch<'a> {
    let dims = logits.1.dims();
    cuda::loss::Batch { logits, labels, classes: dims[1], voxels: dims[2..].iter().product() }
}

/// `(logits, target)` to the loss, keeping the sums of every score for the gradient.
struct SegmentationLoss {
    terms: Terms,
    /// One for each label; on the CPU alone.
    weights: Option<Arc<Vec<f32>>>,
    sums: OnceLock<Vec<ClassSums>>,
}

impl CustomOp2 for SegmentationLoss {
    fn name(&self) -> &'static str {
        "segmentation-loss"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let batch = batch((s1, l1), (s2, l2), &self.weights)?;
        let sums = kernel::sums(Isa::current(), batch, self.terms.squared());
        let loss = self.finish(sums, batch.classes, batch.labels.len());
        Ok((CpuStorage::F32(vec![loss]), ().into()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, s1: &CudaStorage, l1: &Layout, s2: &CudaStorage, l2: &Layout) -> Result<(CudaStorage, Shape)> {
        let batch = batch_on_gpu((s1, l1), (s2, l2));
        let (sums, log_likelihood, highest) = cuda::loss::sums(batch, self.terms.squared())?;
        check_label(highest, batch.classes)?;
        let loss = self.finish((sums, log_likelihood), batch.classes, l2.shape().elem_count());
        Ok((CudaStorage::wrap_cuda_slice(s1.device.clone_htod(&[loss])?, s1.device.clone()), ().into()))
    }

    fn bwd(&self, logits: &Tensor, target: &Tensor, _loss: &Tensor, d_loss: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let Some(sums) = self.sums.get() else {
            bail!("segmentation-loss: gradient asked for before the forward pass");
        };
        let op = SegmentationLossGradient { terms: self.terms, weights: self.weights.clone(), sums: sums.clone() };
        let gradient = logits.apply_op3_no_bwd(target, &d_loss.contiguous()?, &op)?;
        Ok((Some(gradient), None))
    }
}

impl SegmentationLoss {
    /// The loss, from the sums per batch entry and class and the sum of the log-probabilities of `voxels` labels.
    fn finish(&self, (sums, log_likelihood): (Vec<ClassSums>, f64), classes: usize, voxels: usize) -> f32 {
        let sums = self.terms.scored(sums, classes);
        let mut loss = 0.0;
        if self.terms.cross_entropy {
            loss -= log_likelihood / voxels as f64;
        }
        if self.terms.dice.is_some() {
            let scores = sums.iter().map(|class| score(class).0);
            loss += 1.0 - scores.sum::<f64>() / sums.len() as f64;
        }
        self.sums.get_or_init(|| sums);
        loss as f32
    }
}

/// The smoothed Dice score of one class, and its denominator.
fn score(class: &ClassSums) -> (f64, f64) {
    let denominator = class.mass + class.count + SMOOTH;
    ((2.0 * class.overlap + SMOOTH) / denominator, denominator)
}

/// `(logits, target, d_loss)` to the gradient by the logits.
struct SegmentationLossGradient {
    terms: Terms,
    weights: Option<Arc<Vec<f32>>>,
    sums: Vec<ClassSums>,
}

impl CustomOp3 for SegmentationLossGradient {
    fn name(&self) -> &'static str {
        "segmentation-loss-gradient"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let batch = batch((s1, l1), (s2, l2), &self.weights)?;
        let (slopes, cross_entropy) = self.slopes(f64::from(floats(s3, l3)?[0]), l1.dims()[0], batch.classes, batch.labels.len());
        let (isa, squared) = (Isa::current(), self.terms.squared());
        let gradient = written(batch.logits.len(), |gradient| kernel::backward(isa, batch, squared, &slopes, cross_entropy, gradient));
        Ok((CpuStorage::F32(gradient), l1.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        s1: &CudaStorage,
        l1: &Layout,
        s2: &CudaStorage,
        l2: &Layout,
        s3: &CudaStorage,
        l3: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let batch = batch_on_gpu((s1, l1), (s2, l2));
        let (slopes, cross_entropy) = self.slopes(1.0, l1.dims()[0], batch.classes, l2.shape().elem_count());
        let gradient = cuda::loss::backward(batch, (s3, l3), self.terms.squared(), &slopes, cross_entropy)?;
        Ok((gradient, l1.shape().clone()))
    }
}

impl SegmentationLossGradient {
    /// The slopes per batch entry and class, and the weight of the cross-entropy, of `d_loss` times the loss.
    fn slopes(&self, d_loss: f64, entries: usize, classes: usize, voxels: usize) -> (Vec<ClassSlope>, f32) {
        // d(1 - score) = -2 t / denominator + score / denominator * d(mass), over the number of scores.
        let weight = d_loss / self.sums.len() as f64;
        let slope = |class: &ClassSums| {
            let (score, denominator) = score(class);
            ClassSlope { truth: (-2.0 * weight / denominator) as f32, mass: (weight * score / denominator) as f32 }
        };
        let none = ClassSlope { truth: 0.0, mass: 0.0 };
        let slopes: Vec<ClassSlope> = self.sums.iter().map(|class| if self.terms.dice.is_some() { slope(class) } else { none }).collect();
        // The scores of the whole batch have the same slopes in each entry.
        let slopes = slopes.repeat(entries * classes / slopes.len());
        let cross_entropy = if self.terms.cross_entropy { d_loss / voxels as f64 } else { 0.0 };
        (slopes, cross_entropy as f32)
    }
}
