//! Parts of a network whose inner values are not kept for the gradient but computed again.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, Device, Layout, Result, Shape, Storage, Tensor, Var, bail};

use crate::params::Params;

type Part = dyn Fn(&Params, &[Tensor]) -> Result<Tensor> + Send + Sync;

/// `part` of one or two inputs and of the parameters whose names begin with `prefix`, none but its result kept. The
/// gradient computes it once more: the result is the same to the bit, and the gradient but for the order in which the
/// consumers of an input are added. It takes half as long again, and the memory of the part's inner values only while its own gradient
/// is computed.
///
/// # Errors
/// Those of `part`.
pub(crate) fn recomputed(
    params: &Params,
    prefix: &str,
    inputs: &[&Tensor],
    part: impl Fn(&Params, &[Tensor]) -> Result<Tensor> + Send + Sync + 'static,
) -> Result<Tensor> {
    let own = params.part(prefix);
    let live: Vec<Tensor> = own.live().map(|(_, var)| var.flatten_all()).collect::<Result<_>>()?;
    let detached: Vec<Tensor> = inputs.iter().map(|x| x.detach()).collect();
    let y = part(&own.frozen(), &detached)?;
    if live.is_empty() && !inputs.iter().any(|x| x.track_op()) {
        return Ok(y);
    }
    // All parameters of the part as one argument. Its values are not looked at: they are those of the variables.
    let packed = if live.is_empty() { Tensor::zeros(1, y.dtype(), &Device::Cpu)? } else { Tensor::cat(&live, 0)? };
    let result = Mutex::new(Some((storage(&y)?, y.shape().clone())));
    let op = Recomputed { part: Arc::new(part), params: own, result };
    match inputs {
        [x] => x.apply_op2(&packed, op),
        [x, second] => x.apply_op3(second, &packed, op),
        _ => bail!("a part of one or two inputs expected, found {}", inputs.len()),
    }
}

fn storage(y: &Tensor) -> Result<CpuStorage> {
    let y = y.contiguous()?;
    let (storage, layout) = y.storage_and_layout();
    match (&*storage, layout.contiguous_offsets()) {
        (Storage::Cpu(CpuStorage::F32(values)), Some((start, end))) => Ok(CpuStorage::F32(values[start..end].to_vec())),
        _ => bail!("only f32 on the CPU is computed again"),
    }
}

struct Recomputed {
    part: Arc<Part>,
    params: Params,
    /// What the part came to, until it is taken.
    result: Mutex<Option<(CpuStorage, Shape)>>,
}

impl Recomputed {
    fn take(&self) -> Result<(CpuStorage, Shape)> {
        match self.result.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(result) => Ok(result),
            None => bail!("the result of a part was taken twice"),
        }
    }

    /// The gradients by the inputs that have one, and by all live parameters in one piece.
    fn gradients(&self, inputs: &[&Tensor], dy: &Tensor) -> Result<(Vec<Option<Tensor>>, Option<Tensor>)> {
        let leaf = |x: &&Tensor| match x.track_op() {
            true => Ok(Var::from_tensor(&x.detach())?.into_inner()),
            false => Ok(x.detach()),
        };
        let inputs: Vec<Tensor> = inputs.iter().map(leaf).collect::<Result<_>>()?;
        let y = (self.part)(&self.params, &inputs)?;
        let gradients = y.apply_op1(Seed(dy.detach()))?.backward()?;
        drop(y);
        let mut by_parameter = Vec::new();
        for (_, var) in self.params.live() {
            let gradient = gradients.get(var.as_tensor()).map_or_else(|| var.zeros_like(), |gradient| Ok(gradient.clone()))?;
            by_parameter.push(gradient.flatten_all()?);
        }
        let packed = if by_parameter.is_empty() { None } else { Some(Tensor::cat(&by_parameter, 0)?) };
        Ok((inputs.iter().map(|x| gradients.get(x).filter(|_| x.is_variable()).cloned()).collect(), packed))
    }
}

impl CustomOp2 for Recomputed {
    fn name(&self) -> &'static str {
        "recomputed"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        self.take()
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, _: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (mut inputs, packed) = self.gradients(&[x], dy)?;
        Ok((inputs.remove(0), packed))
    }
}

impl CustomOp3 for Recomputed {
    fn name(&self) -> &'static str {
        "recomputed"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        self.take()
    }

    fn bwd(
        &self,
        x: &Tensor,
        second: &Tensor,
        _: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (mut inputs, packed) = self.gradients(&[x, second], dy)?;
        let by_second = inputs.remove(1);
        Ok((inputs.remove(0), by_second, packed))
    }
}

/// A scalar whose gradient by its argument is given.
struct Seed(Tensor);

impl CustomOp1 for Seed {
    fn name(&self) -> &'static str {
        "seed"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(vec![0.0]), ().into()))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, _: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(self.0.clone()))
    }
}
