//! Whether the values of a scan can be Hounsfield units, found while it is read.

use std::fmt;

use crate::ScalarVolume;

/// Every so many values one is counted: a prime, so that it does not stay in the columns of a slice.
const STEP: usize = 7;

/// HU of a bin.
const BIN_HU: i32 = 64;

/// HU where the bins begin and end. What lies beyond belongs to the outermost ones.
const BINNED_HU: [i32; 2] = [-2048, 4096];

const BINS: usize = ((BINNED_HU[1] - BINNED_HU[0]) / BIN_HU) as usize;

/// Below this is what scanners write where they have measured nothing (−2000, −3024): no air, and of no patient.
const PADDING_HU: i32 = -1536;

/// What 16 bits hold, with and without an intercept of −1024 or so: whatever scanners store.
const STORED_HU: [f32; 2] = [-34_000.0, 66_000.0];

/// Scans whose values span no more than this have been normalised: air and water are 1000 apart, and the noise of a single
/// organ spans more.
const LEAST_SPAN_HU: f32 = 16.0;

/// The values of a scan, in the memory of a coarse histogram: their range, and what share of them lies where.
#[derive(Clone, Debug, PartialEq)]
pub struct Intensities {
    voxels: usize,
    least: f32,
    most: f32,
    counted: [u64; BINS],
}

/// What speaks against values being Hounsfield units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DoubtKind {
    /// Every voxel has the same value.
    Constant,
    /// Values in 0..1, or of mean 0 and deviation 1.
    Normalised,
    /// Air at 0 and water at 1024, as scanners store them.
    Offset,
    /// Air is bright.
    Inverted,
    /// Nothing below 0, neither air nor fat: magnetic resonance, or a picture.
    NotCt,
    /// Values that no scanner stores.
    OutOfRange,
    /// Hardly a voxel is as dense as a body.
    NoSoftTissue,
}

/// Why the values of a scan are unlikely to be Hounsfield units: what was found, what was expected, and what to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Doubt {
    /// The kind.
    pub kind: DoubtKind,
    /// What was found.
    pub found: String,
    /// What was expected.
    pub expected: &'static str,
    /// What to do.
    pub remedy: &'static str,
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the values can hardly be Hounsfield units: {}; expected {}; {}", self.found, self.expected, self.remedy)
    }
}

impl Default for Intensities {
    fn default() -> Self {
        Self { voxels: 0, least: f32::INFINITY, most: f32::NEG_INFINITY, counted: [0; BINS] }
    }
}

impl Intensities {
    /// Those of a whole volume.
    #[must_use]
    pub fn of(volume: &ScalarVolume) -> Self {
        let mut all = Self::default();
        all.add(&volume.x_fastest());
        all
    }

    /// Adds the values that come next. The result does not depend on how they are cut into pieces.
    pub fn add(&mut self, values: &[f32]) {
        (self.least, self.most) = values.iter().fold((self.least, self.most), |(least, most), &v| (least.min(v), most.max(v)));
        for value in values.iter().skip(self.voxels.next_multiple_of(STEP) - self.voxels).step_by(STEP) {
            self.counted[bin(*value)] += 1;
        }
        self.voxels += values.len();
    }

    /// The smallest and the largest value, if there is any.
    #[must_use]
    pub fn range(&self) -> Option<[f32; 2]> {
        (self.voxels > 0).then_some([self.least, self.most])
    }

    /// The clearest reason to doubt that the values are Hounsfield units, if there is one. Nothing is said against padding,
    /// metal, contrast agents, and parts of a body without air.
    #[must_use]
    pub fn doubt(&self) -> Option<Doubt> {
        let [least, most] = self.range()?;
        let range = format!("values from {least} to {most}");
        if least == most {
            return Some(Doubt { found: format!("every voxel is {least}"), ..Doubt::of(DoubtKind::Constant) });
        }
        if most - least <= LEAST_SPAN_HU {
            return Some(Doubt { found: range, ..Doubt::of(DoubtKind::Normalised) });
        }
        let kind = self.doubt_of_shares().or_else(|| {
            let stored = STORED_HU[0] <= least && most <= STORED_HU[1];
            (!stored).then_some(DoubtKind::OutOfRange)
        })?;
        let percent = |low, high| format!("{:.1} % from {low} to {high}", 100.0 * self.share(low, high));
        let found = match kind {
            DoubtKind::Offset => format!("{range}, {} and {}", percent(-64, 192), percent(832, 1280)),
            DoubtKind::Inverted => format!("{range}, {} and {}", percent(PADDING_HU, -704), percent(704, 1536)),
            DoubtKind::NotCt => format!("{range}, {}", percent(PADDING_HU, -64)),
            DoubtKind::NoSoftTissue => format!("{range}, {}", percent(-192, 320)),
            _ => range,
        };
        Some(Doubt { found, ..Doubt::of(kind) })
    }

    /// Shares of a body in Hounsfield units: air near −1000, lung and fat up to −64, organs and muscles from −64 to 300, and
    /// of bone and metal above 700 a few hundredths, less than of the spongy bone below.
    fn doubt_of_shares(&self) -> Option<DoubtKind> {
        let most = BINNED_HU[1];
        let nothing_below_water = self.share(PADDING_HU, -64) < 0.001;
        let water_at_1024 = self.share(832, 1280);
        let air_at_0 = self.share(-64, 192) >= 0.02 && water_at_1024 >= 0.1;
        if nothing_below_water && (air_at_0 || (water_at_1024 >= 0.6 && self.share(1600, most) < 0.05)) {
            return Some(DoubtKind::Offset);
        }
        let bright = self.share(704, 1536);
        let no_bone = bright >= 0.04 && bright > 2.0 * self.share(320, 704) || bright >= 0.25;
        if no_bone && self.share(PADDING_HU, -704) < 0.01 {
            return Some(DoubtKind::Inverted);
        }
        if nothing_below_water && (self.least == 0.0 || self.share(320, most) >= 0.02) {
            return Some(DoubtKind::NotCt);
        }
        // Air that an intercept was applied to twice is taken for padding.
        let padded = self.share(BINNED_HU[0], PADDING_HU) >= 0.05;
        (self.share(-192, 320) < if padded { 0.05 } else { 0.002 }).then_some(DoubtKind::NoSoftTissue)
    }

    /// The share of the values from `low` up to `high`, both borders of bins, among those that are no padding.
    fn share(&self, low: i32, high: i32) -> f64 {
        let count = |low: i32, high: i32| self.counted[bin(low as f32)..=bin((high - 1) as f32)].iter().sum::<u64>() as f64;
        count(low, high) / count(PADDING_HU, BINNED_HU[1]).max(1.0)
    }
}

/// The bin of a value. Conversion takes NaN to 0 and holds the others within the numbers there are.
fn bin(value: f32) -> usize {
    (((value - BINNED_HU[0] as f32) * (1.0 / BIN_HU as f32)) as usize).min(BINS - 1)
}

impl Doubt {
    /// What is said of a kind, without what was found.
    fn of(kind: DoubtKind) -> Self {
        const HU: &str = "air near -1000 and soft tissue near 40";
        let (expected, remedy) = match kind {
            DoubtKind::Constant => (HU, "there is no image in the file: write it anew"),
            DoubtKind::Normalised => (HU, "undo the normalisation, or write the scan anew from the DICOM series"),
            DoubtKind::Offset => (
                "air near -1000 and soft tissue near 40, found both higher by about 1024",
                "set the rescale intercept (scl_inter) to -1024",
            ),
            DoubtKind::Inverted => {
                ("air, near -1000, to be the darkest", "turn the values round (a photometric interpretation or a slope of -1)")
            }
            DoubtKind::NotCt => ("a CT scan, of which air, lung and fat are below -64", "leave out what is no CT (MR, PET, a picture)"),
            DoubtKind::OutOfRange => {
                ("what 16 bits and an intercept hold", "check the slope and intercept; replace what marks missing voxels")
            }
            DoubtKind::NoSoftTissue => {
                ("organs and muscles from -192 to 320", "check the rescale intercept: it may have been applied twice")
            }
        };
        Self { kind, found: String::new(), expected, remedy }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A body as CT shows it, in HU: shares of a thousand by value, with noise of ±30.
    fn values(tissues: &[(f32, usize)]) -> Vec<f32> {
        let mut state = 1u32;
        let mut noise = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) as f32 / 65_536.0 * 60.0 - 30.0
        };
        let mut all = Vec::new();
        for _ in 0..100 {
            tissues.iter().for_each(|&(hu, count)| all.extend((0..count).map(|_| hu + noise().round())));
        }
        all
    }

    const TRUNK: &[(f32, usize)] =
        &[(-1000.0, 400), (-850.0, 60), (-100.0, 140), (40.0, 320), (160.0, 50), (450.0, 20), (900.0, 9), (2900.0, 1)];
    const LIVER_AND_FAT: &[(f32, usize)] = &[(-100.0, 100), (60.0, 850), (180.0, 50)];
    const BONE: &[(f32, usize)] = &[(-80.0, 200), (50.0, 400), (400.0, 250), (900.0, 100), (1400.0, 50)];

    fn doubt(values: &[f32]) -> Option<DoubtKind> {
        let mut all = Intensities::default();
        all.add(values);
        all.doubt().map(|doubt| doubt.kind)
    }

    #[test]
    fn ordinary_scans_raise_no_doubt() {
        for tissues in [TRUNK, LIVER_AND_FAT, BONE] {
            assert_eq!(doubt(&values(tissues)), None, "{tissues:?}");
        }
        // A single organ, padding outside of the field of view, and metal in 12, 15 and 16 bits.
        assert_eq!(doubt(&values(&[(60.0, 1000)])), None);
        for odd in [-3024.0, -2000.0, -32_768.0, 3071.0, 32_767.0, 64_511.0] {
            assert_eq!(doubt(&values(&[TRUNK, &[(odd, 300)]].concat())), None, "{odd}");
        }
    }

    #[test]
    fn values_that_are_no_hounsfield_units_are_told_apart() {
        let changed = |change: &dyn Fn(f32) -> f32| {
            [TRUNK, LIVER_AND_FAT].map(|tissues| doubt(&values(tissues).into_iter().map(change).collect::<Vec<_>>()))
        };
        assert_eq!(changed(&|_| 0.0), [Some(DoubtKind::Constant); 2]);
        assert_eq!(changed(&|hu| ((hu + 1000.0) / 2000.0).clamp(0.0, 1.0)), [Some(DoubtKind::Normalised); 2]);
        assert_eq!(changed(&|hu| hu / 400.0), [Some(DoubtKind::Normalised); 2]);
        assert_eq!(changed(&|hu| (hu + 1024.0).max(0.0)), [Some(DoubtKind::Offset); 2]);
        assert_eq!(changed(&|hu| -hu)[0], Some(DoubtKind::Inverted));
        assert_eq!(changed(&|hu| 400.0 - hu)[0], Some(DoubtKind::Inverted));
        assert_eq!(changed(&|hu| (hu + 160.0).clamp(0.0, 400.0) / 400.0 * 255.0)[0], Some(DoubtKind::NotCt));
        assert_eq!(changed(&|hu| 3095.0 - hu)[0], Some(DoubtKind::NotCt));
        assert_eq!(changed(&|hu| hu - 1024.0), [Some(DoubtKind::NoSoftTissue); 2]);
        assert_eq!(doubt(&values(&[TRUNK, &[(70_000.0, 1)]].concat())), Some(DoubtKind::OutOfRange));
        // Magnetic resonance: noise about nothing, and tissues of all brightnesses.
        let mr: &[(f32, usize)] = &[(30.0, 500), (200.0, 150), (420.0, 200), (700.0, 100), (1300.0, 50)];
        assert_eq!(doubt(&values(mr)), Some(DoubtKind::NotCt));
    }

    #[test]
    fn a_doubt_says_what_was_found_and_what_to_do() {
        let mut all = Intensities::default();
        all.add(&values(TRUNK).into_iter().map(|hu| hu + 1024.0).collect::<Vec<_>>());
        let text = all.doubt().unwrap().to_string();
        for part in ["values from -6 to ", "soft tissue near 40", "intercept (scl_inter) to -1024"] {
            assert!(text.contains(part), "{text}");
        }
        assert_eq!(Intensities::default().doubt(), None);
    }

    #[test]
    fn the_result_does_not_depend_on_how_values_are_cut() {
        let values = values(TRUNK);
        let mut whole = Intensities::default();
        whole.add(&values);
        for piece in [1, 3, 7, 100, 1023] {
            let mut pieces = Intensities::default();
            values.chunks(piece).for_each(|piece| pieces.add(piece));
            assert_eq!(pieces, whole, "pieces of {piece}");
        }
    }
}
