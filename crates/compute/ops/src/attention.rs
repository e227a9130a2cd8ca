//! Self-attention as a candle operation.

use std::sync::OnceLock;

use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Storage, Tensor, bail};

use crate::composed;
use crate::cpu::attention::{self as kernel, Backward};
use crate::cpu::isa::Isa;
use crate::cpu::{written, written_with};
use crate::tensor::{floats, kernels_serve};

/// Multi-head self-attention: `softmax(q k' / sqrt(depth) + bias + mask) v` of every batch entry and head.
///
/// `qkv` is `(b, tokens, 3 * heads * depth)` as a linear layer leaves it: queries, keys and values, each with the heads
/// one behind the other. The result is `(b, tokens, heads * depth)`. `bias` `(heads, tokens, tokens)` is added to the
/// scores of every batch entry, as a bias by relative position is; it has a gradient. `mask` `(windows, tokens, tokens)`
/// is added too, its window b modulo windows to batch entry b, and has none.
///
/// The scores are never held as a whole, in either direction.
///
/// # Errors
/// When shapes do not fit each other.
pub fn attention(qkv: &Tensor, heads: usize, bias: Option<&Tensor>, mask: Option<&Tensor>) -> Result<Tensor> {
    let (batch, tokens, width) = qkv.dims3()?;
    if heads == 0 || !width.is_multiple_of(3 * heads) || qkv.elem_count() == 0 {
        bail!("attention: (b, tokens, 3 * {heads} heads * depth) expected, found {:?}", qkv.dims());
    }
    if let Some(bias) = bias.filter(|bias| bias.dims() != [heads, tokens, tokens]) {
        bail!("attention: a bias of shape {:?} expected, found {:?}", [heads, tokens, tokens], bias.dims());
    }
    if let Some(mask) = mask {
        let fits = matches!(*mask.dims(), [windows, n, m] if windows > 0 && batch.is_multiple_of(windows) && [n, m] == [tokens; 2]);
        if !fits {
            bail!("attention: a mask (windows, {tokens}, {tokens}) with windows dividing {batch} expected, found {:?}", mask.dims());
        }
    }
    if !kernels_serve(&[qkv, bias.unwrap_or(qkv), mask.unwrap_or(qkv)]) {
        return composed::attention(qkv, heads, bias, mask);
    }
    let mask = mask.map(|mask| mask.detach().contiguous()).transpose()?;
    let op = Attention { heads, mask, logarithms: OnceLock::new() };
    match bias {
        None => qkv.contiguous()?.apply_op1(op),
        Some(bias) => qkv.contiguous()?.apply_op2(&bias.contiguous()?, op),
    }
}

/// `qkv`, or `(qkv, bias)`, to y, keeping the logarithms of the sums of the scores' exponentials for the gradient.
struct Attention {
    heads: usize,
    mask: Option<Tensor>,
    logarithms: OnceLock<Vec<f32>>,
}

impl Attention {
    fn run(&self, s: &CpuStorage, l: &Layout, bias: Option<&[f32]>) -> Result<(CpuStorage, Shape)> {
        let dims = l.dims();
        let (logarithms, y) = with_floats(self.mask.as_ref(), |mask| {
            let attention = inputs(floats(s, l)?, dims, self.heads, bias, mask);
            Ok(written_with(l.shape().elem_count() / 3, |y| kernel::forward(Isa::current(), &attention, y)))
        })?;
        self.logarithms.get_or_init(|| logarithms);
        Ok((CpuStorage::F32(y), (dims[0], dims[1], dims[2] / 3).into()))
    }

    /// The gradients by `qkv` and by a bias.
    fn gradients(&self, qkv: &Tensor, bias: Option<&Tensor>, y: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let Some(logarithms) = self.logarithms.get() else {
            bail!("attention: gradient asked for before the forward pass");
        };
        let by_bias = bias.is_some_and(Tensor::track_op);
        let op = AttentionGradient {
            heads: self.heads,
            bias: bias.map(Tensor::detach),
            by_bias,
            mask: self.mask.clone(),
            logarithms: logarithms.clone(),
        };
        let all = qkv.apply_op3_no_bwd(y, &dy.contiguous()?, &op)?;
        let dqkv = all.narrow(0, 0, qkv.elem_count())?.reshape(qkv.shape())?;
        let dbias = match bias {
            Some(bias) if by_bias => Some(all.narrow(0, qkv.elem_count(), bias.elem_count())?.reshape(bias.shape())?),
            _ => None,
        };
        Ok((qkv.track_op().then_some(dqkv), dbias))
    }
}

fn inputs<'a>(qkv: &'a [f32], dims: &[usize], heads: usize, bias: Option<&'a [f32]>, mask: Option<&'a [f32]>) -> kernel::Attention<'a> {
    kernel::Attention { batch: dims[0], tokens: dims[1], heads, depth: dims[2] / (3 * heads), qkv, bias, mask }
}

/// Runs `f` with the elements of a contiguous tensor that is not an argument of the operation.
fn with_floats<R>(tensor: Option<&Tensor>, f: impl FnOnce(Option<&[f32]>) -> Result<R>) -> Result<R> {
    let Some(tensor) = tensor else {
        return f(None);
    };
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => f(Some(floats(storage, layout)?)),
        _ => bail!("attention: bias and mask on the CPU expected"),
    }
}

impl CustomOp1 for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        self.run(s, l, None)
    }

    fn bwd(&self, qkv: &Tensor, y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        Ok(self.gradients(qkv, None, y, dy)?.0)
    }
}

impl CustomOp2 for Attention {
    fn name(&self) -> &'static str {
        "attention-bias"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        self.run(s1, l1, Some(floats(s2, l2)?))
    }

    fn bwd(&self, qkv: &Tensor, bias: &Tensor, y: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        self.gradients(qkv, Some(bias), y, dy)
    }
}

/// `(qkv, y, dy)` to one vector of the gradients by `qkv` and, if wanted, by the bias.
struct AttentionGradient {
    heads: usize,
    bias: Option<Tensor>,
    by_bias: bool,
    mask: Option<Tensor>,
    logarithms: Vec<f32>,
}

impl CustomOp3 for AttentionGradient {
    fn name(&self) -> &'static str {
        "attention-gradient"
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
        let (qkv, y, dy) = (floats(s1, l1)?, floats(s2, l2)?, floats(s3, l3)?);
        let bias_len = self.bias.as_ref().filter(|_| self.by_bias).map_or(0, Tensor::elem_count);
        let all = with_floats(self.bias.as_ref(), |bias| {
            with_floats(self.mask.as_ref(), |mask| {
                let attention = inputs(qkv, l1.dims(), self.heads, bias, mask);
                let pass = Backward { attention, y, dy, logarithms: &self.logarithms };
                Ok(written(qkv.len() + bias_len, |all| kernel::backward(Isa::current(), &pass, all)))
            })
        })?;
        let len = all.len();
        Ok((CpuStorage::F32(all), len.into()))
    }
}
