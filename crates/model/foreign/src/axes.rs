//! From the axes that a network was trained on to x, y and z of the model grid.
//!
//! Kernels are laid along the grid's axes once and for all: a network whose axes have changed places computes the same. One that is
//! turned round does not, since a convolution with steps starts at one end. So directions are not changed in the weights; they are
//! what the network is used to ([`model_card::Habits`]).

use candle_core::{Result, Tensor};
use volume::Orientation;

/// Where the axes of the model grid are found among those of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Axes {
    /// For x, y and z of the grid the network's axis.
    from: [usize; 3],
    /// Whether the network knows them the other way round.
    pub(crate) mirrored: [bool; 3],
}

impl Axes {
    /// Those of a network that takes the voxel axes of scans in this orientation, `order` telling the place of each of its axes among
    /// slices, rows and columns. None if these are no three places.
    pub(crate) fn of(trained_on: Orientation, order: [usize; 3]) -> Option<Self> {
        let mut axes = Self { from: [0; 3], mirrored: [false; 3] };
        for voxel in 0..3 {
            let world = trained_on.world_axis(voxel);
            axes.from[world] = order.iter().position(|place| *place == 2 - voxel)?;
            axes.mirrored[world] = !trained_on.is_positive(voxel);
        }
        Some(axes)
    }

    /// Those of a network that takes x, y, z in this orientation, whose axes must be in this order.
    pub(crate) fn in_order(trained_on: Orientation) -> Option<Self> {
        let ordered = (0..3).all(|axis| trained_on.world_axis(axis) == axis);
        ordered.then(|| Self { from: [0, 1, 2], mirrored: std::array::from_fn(|axis| !trained_on.is_positive(axis)) })
    }

    /// What the network has for each of its axes, for each of the grid's.
    pub(crate) fn of_grid<T: Copy>(&self, of_network: [T; 3]) -> [T; 3] {
        self.from.map(|axis| of_network[axis])
    }

    /// The other way.
    pub(crate) fn of_network<T: Copy>(&self, of_grid: [T; 3]) -> [T; 3] {
        let mut of_network = of_grid;
        for (axis, value) in self.from.into_iter().zip(of_grid) {
            of_network[axis] = value;
        }
        of_network
    }

    /// The shape that kernels of this shape had before.
    pub(crate) fn shape_before(&self, shape: &[usize]) -> Vec<usize> {
        match *shape {
            [outputs, inputs, x, y, z] => [&[outputs, inputs], &self.of_network([x, y, z])[..]].concat(),
            _ => shape.to_vec(),
        }
    }

    /// Kernels along the axes of the grid. What are no kernels stays as it is.
    pub(crate) fn kernels(&self, weights: &Tensor) -> Result<Tensor> {
        if weights.rank() != 5 {
            return Ok(weights.clone());
        }
        let [x, y, z] = self.from.map(|axis| axis + 2);
        weights.permute([0, 1, x, y, z])?.contiguous()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_orientation_and_order_comes_back() {
        for trained_on in Orientation::all() {
            for order in [[0, 1, 2], [1, 2, 0], [2, 1, 0]] {
                let axes = Axes::of(trained_on, order).unwrap();
                assert_eq!(axes.of_grid(axes.of_network(['x', 'y', 'z'])), ['x', 'y', 'z']);
                for (place, voxel) in order.map(|place| 2 - place).into_iter().enumerate() {
                    let world = trained_on.world_axis(voxel);
                    assert_eq!(axes.of_grid([0, 1, 2])[world], place);
                    assert_eq!(axes.mirrored[world], !trained_on.is_positive(voxel));
                }
            }
        }
        assert_eq!(Axes::of(Orientation::RAS, [0, 0, 1]), None);
        assert_eq!(Axes::of(Orientation::RAS, [7, 1, 2]), None);
    }

    #[test]
    fn scans_as_dicom_has_them_are_slices_by_rows_by_columns() {
        let axes = Axes::of(Orientation::LPS, [0, 1, 2]).unwrap();
        assert_eq!(axes.of_grid([5.0, 0.8, 0.7]), [0.7, 0.8, 5.0]);
        assert_eq!(axes.mirrored, [true, true, false]);
        assert_eq!(axes.shape_before(&[8, 4, 3, 3, 1]), [8, 4, 1, 3, 3]);
    }
}
