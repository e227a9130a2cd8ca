//! The 3-D U-Net of the teachers M_c, M_o1 and M_o2 (paper 2.3; MONAI's BasicUNet).

use candle_core::{Result, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Network;
use crate::blocks::{Down, Head, TwoConv, UpCat};
use crate::compute::Compute;
use crate::learning::{Numeric, Pass};
use crate::params::ParamSpec;

/// The size of a teacher.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UNet3dConfig {
    /// Channels of the five encoder levels and of the last decoder level; the paper's are 16, 16, 32, 64, 128, 16.
    pub features: [usize; 6],
}

/// A 3-D U-Net from one image channel to the logits of its classes.
///
/// With the paper's features it has 1,439,006 parameters for 14 classes and 1,438,802 for 2.
pub struct UNet3d {
    conv_0: TwoConv,
    downs: [Down; 4],
    ups: [UpCat; 4],
    head: Head,
}

impl UNet3d {
    /// The network of that size.
    #[must_use]
    pub fn new(config: &UNet3dConfig, classes: usize) -> Self {
        let f = config.features;
        Self {
            conv_0: TwoConv::new("conv_0".into(), 3, 1, f[0]),
            downs: std::array::from_fn(|i| Down::new(&format!("down_{}", i + 1), 3, f[i], f[i + 1])),
            // From the deepest to the last, which keeps its channels in the transposed convolution.
            ups: std::array::from_fn(|i| {
                let level = 4 - i;
                let outputs = if level == 1 { f[5] } else { f[level - 1] };
                UpCat::new(format!("upcat_{level}"), 3, f[level], f[level - 1], outputs, level == 1)
            }),
            head: Head::new("final_conv".into(), 3, f[5], classes),
        }
    }

    /// Image `(b, 1, d, h, w)`, sizes at least 16, to logits `(b, classes, d, h, w)`.
    ///
    /// # Errors
    /// When shapes do not fit or memory runs out.
    pub fn forward<C: Compute>(&self, compute: &C, image: &C::Map) -> Result<C::Map> {
        let mut skips = vec![self.conv_0.forward(compute, &[image])?];
        for down in &self.downs {
            let next = down.forward(compute, &skips[skips.len() - 1])?; // (b, f_i, d/2^i, h/2^i, w/2^i)
            skips.push(next);
        }
        let mut x = skips.swap_remove(4);
        for (up, level) in self.ups.iter().zip((0..4).rev()) {
            x = up.forward(compute, &x, &skips.swap_remove(level))?;
        }
        self.head.forward(compute, &x)
    }

    /// Multiplications of a pass over one image.
    #[must_use]
    pub fn macs(&self, size: [usize; 3]) -> u64 {
        let voxels: [usize; 5] = std::array::from_fn(|level| size.iter().map(|side| side >> level).product());
        let downs = self.downs.iter().zip(&voxels[1..]).map(|(down, voxels)| down.macs(*voxels));
        let ups = self.ups.iter().zip((0..4).rev()).map(|(up, level)| up.macs(voxels[level + 1], voxels[level]));
        self.conv_0.macs(voxels[0]) + downs.chain(ups).sum::<u64>() + self.head.macs(voxels[0])
    }
}

/// Images `(b, 1, d, h, w)`, sizes at least 16, to logits `(b, classes, d, h, w)`.
impl Pass for UNet3d {
    type Answer = Tensor;

    fn take<C: Numeric>(&self, compute: &C, batch: &Tensor) -> Result<Tensor> {
        compute.tensor(&self.forward(compute, &compute.of_tensor(batch))?)
    }
}

impl Network for UNet3d {
    fn parameters(&self) -> Vec<ParamSpec> {
        let mut specs = Vec::new();
        self.conv_0.specs(&mut specs);
        self.downs.iter().for_each(|down| down.specs(&mut specs));
        self.ups.iter().for_each(|up| up.specs(&mut specs));
        self.head.specs(&mut specs);
        specs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_papers_teachers_have_1_439_million_parameters() {
        let config = UNet3dConfig { features: [16, 16, 32, 64, 128, 16] };
        let count = |classes| UNet3d::new(&config, classes).parameters().iter().map(|p| p.shape.iter().product::<usize>()).sum::<usize>();
        assert_eq!((count(14), count(2)), (1_439_006, 1_438_802));
    }
}
