//! Networks that are frozen, or frozen in part, on the CPU. What lies before the first live layer is computed by the frozen kernels, from
//! weights that are packed once, and nothing of it is kept for gradients; so a network without live layers is all frozen.
//!
//! Which layers these are follows as a batch passes the network: a layer is computed frozen if none of its parameters is live, and
//! neither is any layer before it. A frozen layer behind a live one hands gradients on to its input and has none itself. What has no
//! frozen kernels is computed by those of training.

use candle_core::{Result, Tensor};
use ops::frozen::{Element, Map};

use crate::compute::{Compute, SLOPE};
use crate::dodnet::DynamicHead;
use crate::frozen::{Frozen, Normed, of_images};
use crate::layers::{Block, ConvNorm, Layers};
use crate::learning::Numeric;
use crate::params::Params;
use crate::passed::{Image, Passed, Still};

/// Parameters of which some are live, and the packed weights of those layers that lie before all live ones.
pub(crate) struct Partly<E: Element> {
    params: Params,
    frozen: Frozen<E>,
}

impl<E: Element> Partly<E> {
    pub(crate) fn new(params: Params) -> Self {
        Self { frozen: Frozen::new(params.frozen()), params }
    }

    pub(crate) fn params(&self) -> &Params {
        &self.params
    }

    pub(crate) fn into_params(self) -> Params {
        self.params
    }

    /// The activations that the layer `name` is computed of, image by image, if neither it nor anything before it is live.
    fn before<'a>(&self, name: &str, sources: &[&'a Passed<E>]) -> Result<Option<Vec<&'a [Image<E>]>>> {
        if self.params.moves(name) || sources.iter().any(|source| source.still().is_none()) {
            return Ok(None);
        }
        sources.iter().filter_map(|source| source.still()).map(|still| still.images()).collect::<Result<_>>().map(Some)
    }

    /// A layer by the kernels of training.
    fn trained(&self, sources: &[&Passed<E>], run: impl FnOnce(&Params, &[&Tensor]) -> Result<Tensor>) -> Result<Passed<E>> {
        let tensors = sources.iter().map(|source| source.tensor()).collect::<Result<Vec<_>>>()?;
        run(&self.params, &tensors.iter().collect::<Vec<_>>()).map(Passed::of_tensor)
    }
}

/// What a frozen layer makes of each image, the joined maps of all sources.
fn each<E: Element, T: Send>(sources: &[&[Image<E>]], one: impl Fn(&[&Map<E>]) -> Result<T> + Sync + Send) -> Result<Vec<T>> {
    let images = sources.first().map_or(0, |images| images.len());
    let first = sources.first().and_then(|images| images.first()).and_then(|maps| maps.first());
    let pixels = first.map_or(0, |map| map.size().iter().product());
    of_images(images, pixels, |i| one(&sources.iter().flat_map(|images| images[i].iter().map(|map| &**map)).collect::<Vec<_>>()))
}

/// A batch with one map for each image, where it is still.
fn whole<E: Element>(x: &Passed<E>) -> Result<Passed<E>> {
    match x {
        Passed::Still(still) => still.whole().map(Passed::Still),
        Passed::Moving(_) => Ok(x.clone()),
    }
}

impl<E: Element> Compute for Partly<E> {
    type Map = Passed<E>;

    fn conv_norm_act(&self, name: &str, sources: &[&Passed<E>]) -> Result<Passed<E>> {
        let Some(images) = self.before(name, sources)? else {
            return self.trained(sources, |params, x| params.conv_norm_act(name, x));
        };
        let (conv, norm) = (format!("{name}.conv"), format!("{name}.adn.N"));
        let layer = Normed { conv: &conv, norm: Some(&norm), stride: [1; 3], slope: SLOPE };
        each(&images, |maps| self.frozen.conv_norm(layer, maps)).map(Passed::of_maps)
    }

    fn max_pool2(&self, x: &Passed<E>) -> Result<Passed<E>> {
        match whole(x)? {
            Passed::Still(x) => each(&[x.images()?], |x| x[0].max_pool2()).map(Passed::of_maps),
            Passed::Moving(x) => self.params.max_pool2(&x).map(Passed::Moving),
        }
    }

    fn upsample(&self, name: &str, x: &Passed<E>, like: &Passed<E>) -> Result<Passed<E>> {
        let (x, like) = (&whole(x)?, &whole(like)?);
        match self.before(name, &[x, like])? {
            Some(images) => each(&images, |maps| self.frozen.upsample(name, true, maps[0], Some(maps[1].size()))).map(Passed::of_maps),
            None => self.trained(&[x, like], |params, x| params.upsample(name, x[0], x[1])),
        }
    }

    fn head(&self, name: &str, x: &Passed<E>) -> Result<Passed<E>> {
        let x = &whole(x)?;
        let by_maps = x.still().is_some_and(Still::has_maps);
        match if by_maps { self.before(name, &[x])? } else { None } {
            Some(images) => Tensor::cat(&each(&images, |x| self.frozen.head(name, x[0]))?, 0).map(Passed::of_tensor),
            None => self.trained(&[x], |params, x| params.head(name, x[0])),
        }
    }
}

impl<E: Element> Layers for Partly<E> {
    fn conv_norm(&self, name: &str, x: &Passed<E>, how: ConvNorm) -> Result<Passed<E>> {
        let (conv, norm) = (format!("{name}.conv"), format!("{name}.norm"));
        if self.frozen.has_conv(&conv, how.stride, how.padding)?
            && let Some(images) = self.before(name, &[x])?
        {
            let layer = Normed { conv: &conv, norm: how.learnt.then_some(&*norm), stride: how.stride, slope: how.slope };
            return each(&images, |maps| self.frozen.conv_norm(layer, maps)).map(Passed::of_maps);
        }
        self.trained(&[x], |params, x| params.conv_norm(name, x[0], how))
    }

    fn raise(&self, name: &str, x: &Passed<E>, stride: [usize; 3], bias: bool) -> Result<Passed<E>> {
        let x = &whole(x)?;
        if self.frozen.has_upsampling(name, stride)?
            && let Some(images) = self.before(name, &[x])?
        {
            return each(&images, |maps| self.frozen.upsample(name, bias, maps[0], None)).map(Passed::of_maps);
        }
        self.trained(&[x], |params, x| params.raise(name, x[0], stride, bias))
    }

    fn average(&self, name: &str, x: &Passed<E>, size: [usize; 3]) -> Result<Passed<E>> {
        match whole(x)? {
            Passed::Still(x) => each(&[x.images()?], |x| x[0].average(size)).map(Passed::of_maps),
            Passed::Moving(x) => self.params.average(name, &x, size).map(Passed::Moving),
        }
    }

    fn standard_conv(&self, name: &str, x: &Passed<E>, stride: usize, padding: usize) -> Result<Passed<E>> {
        self.trained(&[x], |params, x| params.standard_conv(name, x[0], stride, padding))
    }

    fn group_norm_relu(&self, name: &str, x: &Passed<E>, groups: usize) -> Result<Passed<E>> {
        self.trained(&[x], |params, x| params.group_norm_relu(name, x[0], groups))
    }

    fn resize_like(&self, x: &Passed<E>, like: &Passed<E>) -> Result<Passed<E>> {
        self.trained(&[x, like], |params, x| params.resize_like(x[0], x[1]))
    }

    fn add(&self, a: &Passed<E>, b: &Passed<E>) -> Result<Passed<E>> {
        self.trained(&[a, b], |params, x| Layers::add(params, x[0], x[1]))
    }

    fn add_leaky_relu(&self, a: &Passed<E>, b: &Passed<E>, slope: f64) -> Result<Passed<E>> {
        match (whole(a)?, whole(b)?) {
            (Passed::Still(a), Passed::Still(b)) if a.has_maps() && b.has_maps() => {
                each(&[a.images()?, b.images()?], |maps| maps[0].add_leaky_relu(maps[1], slope as f32)).map(Passed::of_maps)
            }
            (a, b) => self.trained(&[&a, &b], |params, x| params.add_leaky_relu(x[0], x[1], slope)),
        }
    }

    fn join(&self, a: &Passed<E>, b: &Passed<E>) -> Result<Passed<E>> {
        match (a, b) {
            (Passed::Still(a), Passed::Still(b)) if a.has_maps() && b.has_maps() => a.join(b).map(Passed::Still),
            _ => self.trained(&[a, b], |params, x| params.join(x[0], x[1])),
        }
    }

    fn beside(&self, map: Passed<E>, values: &[f32]) -> Result<Passed<E>> {
        match values {
            [] => Ok(map),
            _ => self.trained(&[&map], |params, x| params.beside(x[0].clone(), values)),
        }
    }

    fn select(&self, map: &Passed<E>, samples: &[usize]) -> Result<Passed<E>> {
        match samples == (0..map.batch()?).collect::<Vec<_>>() {
            true => Ok(map.clone()),
            false => self.trained(&[map], |params, x| params.select(x[0], samples)),
        }
    }

    fn mean(&self, map: &Passed<E>) -> Result<Passed<E>> {
        self.trained(&[map], |params, x| params.mean(x[0]))
    }

    fn dynamic_head(&self, head: &DynamicHead<'_, Passed<E>>, pairs: &[(usize, usize)]) -> Result<Passed<E>> {
        let (map, pooled) = (head.map.tensor()?, head.pooled.map(Passed::tensor).transpose()?);
        let head = DynamicHead { map: &map, pooled: pooled.as_ref(), tasks: head.tasks, layers: head.layers.clone() };
        self.params.dynamic_head(&head, pairs).map(Passed::of_tensor)
    }

    fn as_trained(
        &self,
        _: &str,
        inputs: &[&Passed<E>],
        run: impl FnOnce(&Params, &[&Tensor]) -> Result<Vec<Tensor>>,
    ) -> Result<Vec<Passed<E>>> {
        let tensors = inputs.iter().map(|input| input.tensor()).collect::<Result<Vec<_>>>()?;
        let found = run(&self.params, &tensors.iter().collect::<Vec<_>>())?;
        Ok(found.into_iter().map(Passed::of_tensor).collect())
    }

    /// A block in which something is live, or before which something is, is trained as a whole.
    fn block<B: Block>(&self, block: &B, inputs: &[&Passed<E>]) -> Result<Passed<E>> {
        match self.params.moves(block.name()) || inputs.iter().any(|input| input.still().is_none()) {
            true => self.trained(inputs, |params, inputs| params.block(block, inputs)),
            false => block.run(self, inputs),
        }
    }
}

impl<E: Element> Numeric for Partly<E> {
    fn of_tensor(&self, batch: &Tensor) -> Passed<E> {
        Passed::of_tensor(batch.clone())
    }

    fn tensor(&self, x: &Passed<E>) -> Result<Tensor> {
        x.tensor()
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};
    use random::Streams;

    use super::*;
    use crate::{DualUNet2d, DualUNet2dConfig, Network as _};

    /// The layers that are computed frozen while the parameters that satisfy `live` learn.
    fn frozen_layers(live: impl Fn(&str) -> bool) -> Vec<String> {
        let decoders = [("organ_decoder".to_owned(), 3), ("cancer_decoder".to_owned(), 2)];
        let network = DualUNet2d::new(&DualUNet2dConfig { features: [4, 4, 8, 8, 16, 4] }, &decoders);
        let mut params = Params::init(&network.parameters(), Streams::new(0), &Device::Cpu).unwrap();
        params.set_live(live);
        let partly = Partly::<f32>::new(params);
        let slices = Passed::of_tensor(Tensor::zeros((2, 1, 16, 16), DType::F32, &Device::Cpu).unwrap());
        network.logits(&partly, &slices, &[0, 1]).unwrap();
        partly.frozen.packed()
    }

    #[test]
    fn what_lies_before_the_first_live_layer_is_frozen_and_nothing_behind_it() {
        let two = |name: &str| [0, 1].map(|k| format!("{name}.conv_{k}"));
        let up = |name: &str| [&two(&format!("{name}.convs"))[..], &[format!("{name}.upsample.deconv")]].concat();
        let decoder =
            |name: &str| [&[format!("{name}.final_conv")][..], &up(&format!("{name}.upcat_1")), &up(&format!("{name}.upcat_2"))].concat();
        let sorted = |layers: &[Vec<String>]| {
            let mut layers = layers.concat();
            layers.sort();
            layers
        };
        let encoder = [&["conv_0".to_owned()][..], &[1, 2, 3, 4].map(|k| format!("down_{k}.convs"))].concat();
        let upper = |levels: usize| encoder[..levels].iter().flat_map(|name| two(name)).collect::<Vec<_>>();
        let shared = [upper(5), up("upcat_4"), up("upcat_3")].concat();
        assert_eq!(frozen_layers(|_| false), sorted(&[shared.clone(), decoder("organ_decoder"), decoder("cancer_decoder")]));
        assert_eq!(frozen_layers(|name| name.starts_with("organ_decoder.")), sorted(&[shared.clone(), decoder("cancer_decoder")]));
        let decoders = |name: &str| name.contains("_decoder.");
        assert_eq!(frozen_layers(decoders), sorted(&[shared]));
        // The levels above are skipped to the decoders, where they meet what moves.
        assert_eq!(frozen_layers(|name| name.starts_with("down_2.")), sorted(&[upper(2)]));
        assert_eq!(frozen_layers(|name| name == "conv_0.conv_1.adn.N.bias"), ["conv_0.conv_0"]);
        let all_but_heads = |name: &str| name.contains(".final_conv.bias");
        assert_eq!(frozen_layers(all_but_heads).len(), frozen_layers(|_| false).len() - 2, "a live bias makes its head a live layer");
    }
}
