//! How intensities are distributed, whatever the number of voxels.

use crate::write::scale_of;

/// How often each stored intensity occurs among some voxels. All that is said of them is exact but for a last rounding.
#[derive(Clone, Debug)]
pub struct Intensities {
    /// The stored value of the upper end of the window.
    pub(crate) scale: u16,
    counts: Vec<u64>,
}

impl Intensities {
    /// Those of no voxels, of cases that are prepared with this window in HU.
    #[must_use]
    pub fn of_window(window_hu: [f32; 2]) -> Self {
        Self { scale: scale_of(window_hu), counts: vec![0; 1 << 16] }
    }

    /// Counts one more voxel of a stored intensity.
    pub(crate) fn add(&mut self, stored: u16) {
        self.counts[usize::from(stored)] += 1;
    }

    /// Those of both, which are of one window.
    #[must_use]
    pub fn and(mut self, others: &Self) -> Self {
        self.counts.iter_mut().zip(&others.counts).for_each(|(count, other)| *count += other);
        self
    }

    /// The number of voxels.
    #[must_use]
    pub fn voxels(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The mean and the standard deviation (of all of them, not of a sample) of the windowed intensities; none without voxels.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "the last rounding")]
    pub fn mean_and_deviation(&self) -> Option<[f64; 2]> {
        let voxels = u128::from(self.voxels());
        let sum_of = |power: u32| (0u128..).zip(&self.counts).map(|(value, &count)| value.pow(power) * u128::from(count)).sum::<u128>();
        let (sum, squares) = (sum_of(1), sum_of(2));
        let deviation = ((voxels * squares - sum * sum) as f64).sqrt();
        (voxels > 0).then(|| [sum as f64, deviation].map(|value| value / voxels as f64 / f64::from(self.scale)))
    }

    /// The windowed intensity below which `share` of the voxels lie, from 0 to 1, between two voxels as NumPy's `percentile` takes
    /// it; none without voxels.
    #[must_use]
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "voxels are below 2^53")]
    pub fn percentile(&self, share: f64) -> Option<f64> {
        let last = self.voxels().checked_sub(1)?;
        let place = share.clamp(0.0, 1.0) * last as f64;
        let [below, above] = [place.floor(), place.ceil()].map(|place| self.at(place as u64));
        Some((below + (above - below) * place.fract()) / f64::from(self.scale))
    }

    /// The stored value of the voxel at a place of the ascending order.
    fn at(&self, place: u64) -> f64 {
        let mut before = 0;
        let of_voxel = self.counts.iter().position(|&count| {
            before += count;
            before > place
        });
        of_voxel.map_or(f64::from(self.scale), |value| value as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[u16]) -> Intensities {
        let mut intensities = Intensities { scale: u16::MAX, counts: vec![0; 1 << 16] };
        values.iter().for_each(|&value| intensities.add(value));
        intensities
    }

    /* The expected values, NumPy 2.4.6:
    v = np.array([3, 65535, 200, 200, 0, 7, 40000]) / 65535
    print(v.mean(), v.std(), np.percentile(v, [0.5, 50, 99.5]))
    */
    #[test]
    fn mean_deviation_and_percentiles_are_those_of_numpy() {
        let some = of(&[3, 65535, 200, 200, 0, 7, 40000]);
        let found =
            [some.mean_and_deviation().unwrap().to_vec(), [0.005, 0.5, 0.995].map(|share| some.percentile(share).unwrap()).to_vec()];
        let expected = [0.23094529640650036, 0.37781494521386716, 1.3733119707026778e-06, 0.0030518043793392844, 0.9883108262760356];
        for (found, expected) in found.concat().iter().zip(expected) {
            assert!((found - expected).abs() < 1e-14, "{found} instead of {expected}");
        }
    }

    #[test]
    fn ends_are_the_least_and_the_greatest_and_nothing_has_none() {
        let some = of(&[9, 2, 2]);
        assert_eq!([0.0, 1.0].map(|share| some.percentile(share).unwrap() * 65535.0), [2.0, 9.0]);
        assert_eq!(some.and(&of(&[7])).counts, of(&[2, 2, 7, 9]).counts);
        assert_eq!(of(&[5]).percentile(0.3).unwrap() * 65535.0, 5.0);
        assert_eq!((of(&[]).percentile(0.5), of(&[]).mean_and_deviation()), (None, None));
    }
}
