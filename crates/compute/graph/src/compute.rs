//! How operations are computed.

use candle_core::{Result, Tensor};
use ops::{ConvOptions, PoolOptions};

use crate::op::{Function, Op, Walk};

impl Op {
    /// The result of operands whose shapes [`Op::shape`] has taken.
    ///
    /// # Errors
    /// When shapes do not fit or memory runs out.
    pub fn run(&self, of: &[Tensor]) -> Result<Tensor> {
        let [x, ..] = of else { candle_core::bail!("an operation without operands") };
        match self {
            Self::Conv { walk, groups } => {
                let conv = |x: &Tensor| ops::conv_with(x, &solid(&of[1])?, of.get(2), options(walk, *groups));
                solidly(x, conv)
            }
            Self::ConvTranspose { walk, groups, more } => {
                let raise = |x: &Tensor| ops::conv_transpose_with(x, &solid(&of[1])?, of.get(2), options(walk, *groups), last(more, 0));
                solidly(x, raise)
            }
            Self::Norm { groups, eps, slope } => solidly(x, |x| match groups {
                None => ops::instance_norm_leaky_relu(x, &of[1], &of[2], *eps, *slope),
                Some(groups) => ops::group_norm_leaky_relu(x, *groups, &of[1], &of[2], *eps, *slope),
            }),
            Self::Each(function) => function.run(x),
            Self::Sloped => x.relu()?.broadcast_sub(&x.neg()?.relu()?.broadcast_mul(&of[1])?),
            Self::Softmax { axis } => candle_nn::ops::softmax(x, *axis),
            Self::Add => x.broadcast_add(&of[1]),
            Self::Subtract => x.broadcast_sub(&of[1]),
            Self::Multiply => x.broadcast_mul(&of[1]),
            Self::Divide => x.broadcast_div(&of[1]),
            Self::Product => x.contiguous()?.broadcast_matmul(&of[1].contiguous()?),
            Self::Join { axis } => Tensor::cat(of, *axis),
            Self::MaxPool { kernel, walk } => {
                let options = PoolOptions { kernel: last(kernel, 1), stride: last(&walk.stride, 1), padding: last(&walk.padding, 0) };
                solidly(x, |x| ops::max_pool(x, options))
            }
            Self::AveragePool { kernel, walk, outside } => solidly(x, |x| average(x, kernel, walk, *outside)),
            Self::Mean { axes } => x.mean_keepdim(&axes[..]),
            Self::Nearest { size } => ops::upsample_nearest(x, size),
            Self::Linear { size } => ops::upsample_linear(x, size),
            Self::Blend { axis, low, high, part } => blend(x, *axis, low, high, part),
            Self::Pad { before, after, with } => pad(x, before, after, *with),
            Self::Cut { axis, start, length } => x.narrow(*axis, *start, *length),
            Self::Take { axis, places } => take(x, *axis, places),
            Self::Reshape { shape } => x.reshape(&shape[..]),
            Self::Permute { order } => x.permute(&order[..])?.contiguous(),
            Self::Expand { shape } => x.broadcast_as(&shape[..])?.contiguous(),
        }
    }
}

impl Function {
    fn run(self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::LeakyRelu { slope: 0.0 } => x.relu(),
            Self::LeakyRelu { slope } => x.relu()? - (x.neg()?.relu()? * slope)?,
            Self::Elu { alpha } => x.elu(alpha),
            Self::Sigmoid => candle_nn::ops::sigmoid(x),
            Self::Tanh => x.tanh(),
            Self::Erf => x.erf(),
            Self::Exp => x.exp(),
            Self::Log => x.log(),
            Self::Sqrt => x.sqrt(),
            Self::Floor => x.floor(),
            Self::Ceil => x.ceil(),
            Self::Negative => x.neg(),
            Self::Absolute => x.abs(),
            Self::Clip { low, high } => x.clamp(low, high),
        }
    }
}

/// What goes along one or two spatial axes, along three.
fn last(list: &[usize], first: usize) -> [usize; 3] {
    let mut whole = [first; 3];
    let own = list.len().min(3);
    whole[3 - own..].copy_from_slice(&list[..own]);
    whole
}

fn options(walk: &Walk, groups: usize) -> ConvOptions {
    ConvOptions { stride: last(&walk.stride, 1), padding: last(&walk.padding, 0), groups, ..ConvOptions::new(1, 0) }
}

/// Rows as images of one row.
fn solid(x: &Tensor) -> Result<Tensor> {
    if x.rank() == 3 { x.unsqueeze(2) } else { Ok(x.clone()) }
}

/// An operation for images and volumes, of rows too.
fn solidly(x: &Tensor, op: impl FnOnce(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
    let y = op(&solid(x)?)?;
    if x.rank() == 3 { y.squeeze(2) } else { Ok(y) }
}

/// Means of windows, as a convolution of each channel by itself.
fn average(x: &Tensor, kernel: &[usize], walk: &Walk, outside: bool) -> Result<Tensor> {
    let sums = |x: &Tensor| {
        let channels = x.dim(1)?;
        let sides = &last(kernel, 1)[5 - x.rank()..];
        let ones = Tensor::ones([&[channels, 1], sides].concat(), x.dtype(), x.device())?;
        ops::conv_with(x, &ones, None, options(walk, channels))
    };
    let all = kernel.iter().product::<usize>();
    if outside || walk.padding.iter().all(|padding| *padding == 0) {
        #[expect(clippy::cast_precision_loss, reason = "windows are small")]
        return sums(x)? / all as f64;
    }
    let counts = sums(&x.narrow(0, 0, 1)?.narrow(1, 0, 1)?.ones_like()?)?;
    sums(x)?.broadcast_div(&counts)
}

fn index(places: &[usize], like: &Tensor) -> Result<Tensor> {
    let places: Vec<u32> = places.iter().map(|place| u32::try_from(*place).map_err(candle_core::Error::wrap)).collect::<Result<_>>()?;
    Tensor::new(places, like.device())
}

fn take(x: &Tensor, axis: usize, places: &[usize]) -> Result<Tensor> {
    x.contiguous()?.index_select(&index(places, x)?, axis)
}

fn blend(x: &Tensor, axis: usize, low: &[usize], high: &[usize], part: &[f32]) -> Result<Tensor> {
    let mut along = vec![1; x.rank()];
    along[axis] = part.len();
    let part = Tensor::from_slice(part, along, x.device())?;
    let (low, high) = (take(x, axis, low)?, take(x, axis, high)?);
    &low + (high - &low)?.broadcast_mul(&part)?
}

fn pad(x: &Tensor, before: &[usize], after: &[usize], with: f32) -> Result<Tensor> {
    let mut y = x.clone();
    for axis in (0..x.rank()).filter(|axis| before[*axis] + after[*axis] > 0) {
        if with == 0.0 {
            y = y.pad_with_zeros(axis, before[axis], after[axis])?;
            continue;
        }
        let outside = |side: usize| {
            let mut dims = y.dims().to_vec();
            dims[axis] = side;
            Tensor::full(with, dims, x.device())
        };
        y = Tensor::cat(&[&outside(before[axis])?, &y, &outside(after[axis])?], axis)?;
    }
    Ok(y)
}
