//! The mean over mirror images of what a network is shown.

use std::path::Path;

use candle_core::{Result, Tensor};
use labels::{Classes, LabelError};
use model_card::{ModelCard, Output, UnseenMirrors};

use crate::error::ModelError;

/// What speaks against `flips` with the model in a file: mirror images that its training is known not to have shown it.
///
/// # Errors
/// When the file cannot be read.
pub fn unseen_mirrors(model: &Path) -> std::result::Result<Option<UnseenMirrors>, ModelError> {
    Ok(ModelCard::of(&nets::metadata(model)?, model)?.and_then(|card| card.unseen_mirrors()))
}

/// The mirror images that a mean is taken over.
pub(crate) struct Mirrors {
    /// The axes of each, counted from the last.
    images: Vec<Vec<usize>>,
    /// The axis from left to right, counted from the last.
    across: usize,
    /// For each output the channel that shows in a mirror image from left to right what a channel shows in the image itself.
    channels: Vec<Vec<u32>>,
}

impl Mirrors {
    /// The image itself alone.
    pub(crate) fn none() -> Self {
        Self { images: vec![Vec::new()], across: 0, channels: Vec::new() }
    }

    /// The image and all its mirror images along its last `spatial` axes, of which the first goes from left to right.
    ///
    /// # Errors
    /// When an output has a class of one side without that of the other.
    pub(crate) fn all(spatial: usize, outputs: &[Output], classes: &Classes) -> std::result::Result<Self, LabelError> {
        let axes = |flags: usize| (0..spatial).filter(|axis| flags >> axis & 1 == 1).collect();
        let channels = outputs.iter().map(|output| order(output, classes)).collect::<std::result::Result<_, _>>()?;
        Ok(Self { images: (0..1 << spatial).map(axes).collect(), across: spatial - 1, channels })
    }

    /// Whether there is but the image itself.
    pub(crate) fn is_none(&self) -> bool {
        self.images.len() == 1
    }

    /// The sum of what `likely` finds over members and mirror images of `input`; whose greatest value is the greatest mean. The channels
    /// lie before the spatial axes, which are the last.
    pub(crate) fn sum<M>(&self, input: &Tensor, members: &[M], likely: impl Fn(&M, &Tensor) -> Result<Vec<Tensor>>) -> Result<Vec<Tensor>> {
        let mut sums: Option<Vec<Tensor>> = None;
        for axes in &self.images {
            let mirrored = mirrored(input, axes)?;
            for member in members {
                let found = likely(member, &mirrored)?;
                let here = found.iter().enumerate().map(|(output, found)| self.back(found, axes, output)).collect::<Result<Vec<_>>>()?;
                sums = Some(match sums {
                    None => here,
                    Some(sums) => sums.iter().zip(&here).map(|(sum, here)| sum + here).collect::<Result<_>>()?,
                });
            }
        }
        sums.ok_or_else(|| candle_core::Error::Msg("no model".into()))
    }

    /// What was found in a mirror image, as found in the image itself.
    fn back(&self, found: &Tensor, axes: &[usize], output: usize) -> Result<Tensor> {
        let found = mirrored(found, axes)?;
        match self.channels.get(output).filter(|order| axes.contains(&self.across) && !order.is_sorted()) {
            None => Ok(found),
            Some(order) => {
                let channels = found.rank() - 2 - self.across;
                found.index_select(&Tensor::new(&order[..], found.device())?, channels)
            }
        }
    }
}

/// For each channel of an output the one of its mirror image.
fn order(output: &Output, classes: &Classes) -> std::result::Result<Vec<u32>, LabelError> {
    let values = output.value_of_channel();
    let channel_of = |&value: &u8| {
        let mirror = classes.mirror_of(value)?;
        let channel = (0..).zip(&values).find(|(_, other)| **other == mirror).map(|(channel, _)| channel);
        let [key, mirror] = [value, mirror].map(|value| classes.key_of(value).into_owned());
        channel.ok_or(LabelError::NoMirror { key, mirror })
    };
    values.iter().map(channel_of).collect()
}

/// `x` mirrored along some axes, which are counted from the last one.
pub(crate) fn mirrored(x: &Tensor, from_last: &[usize]) -> Result<Tensor> {
    let axes: Vec<usize> = from_last.iter().map(|axis| x.rank() - 1 - axis).collect();
    if axes.is_empty() { Ok(x.clone()) } else { x.flip(&axes) }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use labels::flare23;

    use super::*;

    fn flat(x: &Tensor) -> Vec<f32> {
        x.flatten_all().unwrap().to_vec1().unwrap()
    }

    fn outputs(keys: &[&str]) -> Vec<Output> {
        let classes = flare23::classes();
        vec![Output { group: "organ".into(), values: classes.pattern_of(keys).unwrap().iter().collect(), decoder: None }]
    }

    #[test]
    fn what_is_mirrored_comes_back_in_its_place() {
        let x = Tensor::arange(0f32, 24.0, &Device::Cpu).unwrap().reshape((1, 1, 2, 3, 4)).unwrap();
        let liver = outputs(&["liver"]);
        // A network that lacks the batch's axis in what it gives.
        let same = |_: &(), patch: &Tensor| Ok(vec![patch.squeeze(0)?, (patch.squeeze(0)? * 2.0)?]);
        let mirrors = Mirrors::all(3, &liver, &flare23::classes()).unwrap();
        assert!(mirrors.images.len() == 8 && !mirrors.is_none() && Mirrors::none().is_none());
        let sums = mirrors.sum(&x, &[(), ()], same).unwrap();
        assert_eq!(flat(&sums[0]), flat(&(&x * 16.0).unwrap()));
        assert_eq!(flat(&sums[1]), flat(&(&x * 32.0).unwrap()));
        assert_eq!(flat(&Mirrors::none().sum(&x, &[()], same).unwrap()[0]), flat(&x));
        assert_eq!(flat(&mirrored(&x, &[0]).unwrap())[..4], [3.0, 2.0, 1.0, 0.0], "along the last axis");
    }

    #[test]
    fn left_and_right_change_places_where_the_image_does() {
        // Channels: background, right kidney, spleen, left kidney. What lies at low x is the right kidney to this network.
        let keys = ["right_kidney", "spleen", "left_kidney"];
        for shape in [vec![1, 1, 4, 3], vec![1, 1, 4, 3, 2]] {
            let mirrors = Mirrors::all(shape.len() - 2, &outputs(&keys), &flare23::classes()).unwrap();
            assert_eq!(mirrors.channels, [[0, 3, 2, 1]]);
            let sides = |_: &(), x: &Tensor| {
                let zero = x.zeros_like()?;
                let column: Vec<f32> = x.narrow(3, 0, 1)?.flatten_all()?.to_vec1()?;
                assert!(column.iter().all(|value| *value > 0.0));
                let mut right = vec![1.0f32, 1.0, 0.0, 0.0];
                let half = |values: &[f32]| {
                    let mut ones = vec![1; shape.len()];
                    ones[2] = 4;
                    Tensor::new(values, &Device::Cpu)?.reshape(ones)?.broadcast_as(&shape[..])?.contiguous()
                };
                let low = half(&right)?;
                right.reverse();
                Ok(vec![Tensor::cat(&[&zero, &low, &zero, &half(&right)?], 1)?])
            };
            let x = Tensor::ones(&shape[..], candle_core::DType::F32, &Device::Cpu).unwrap();
            let alone = sides(&(), &x).unwrap().remove(0);
            let all = mirrors.sum(&x, &[()], sides).unwrap().remove(0);
            assert_eq!(flat(&all), flat(&(alone * mirrors.images.len() as f64).unwrap()), "nothing is said against it by any image");
        }
    }

    #[test]
    fn a_model_of_one_side_alone_has_no_mirror_image() {
        let error = Mirrors::all(2, &outputs(&["right_kidney", "liver"]), &flare23::classes()).err().unwrap().to_string();
        assert!(error.contains("`right_kidney` would be `left_kidney`"), "{error}");
        assert!(Mirrors::all(2, &outputs(&["spleen", "liver"]), &flare23::classes()).is_ok());
    }
}
