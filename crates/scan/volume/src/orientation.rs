//! Which way the voxel axes run through the patient.

use std::fmt;
use std::str::FromStr;

/// Letters of the patient's axes: toward the negative and the positive end of RAS+.
const LETTERS: [[char; 2]; 3] = [['L', 'R'], ['P', 'A'], ['I', 'S']];

/// A signed permutation of the patient's axes: where each voxel axis points, in three letters such as "RAS" or "LPS".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Orientation {
    world: [u8; 3],
    positive: [bool; 3],
}

/// A text that does not name an orientation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an orientation: expected one letter each of R/L, A/P and S/I, such as RAS or LPS")]
pub struct OrientationError {
    text: String,
}

impl Orientation {
    /// Right, Anterior, Superior: the orientation of the world frame, in which the networks see every scan.
    pub const RAS: Self = Self { world: [0, 1, 2], positive: [true; 3] };

    /// Left, Posterior, Superior: the usual orientation of CT written from DICOM.
    pub const LPS: Self = Self { world: [0, 1, 2], positive: [false, false, true] };

    /// The patient's axis (0 left-right, 1 posterior-anterior, 2 inferior-superior) that voxel axis `axis` runs along.
    #[must_use]
    pub fn world_axis(&self, axis: usize) -> usize {
        usize::from(self.world[axis])
    }

    /// Whether voxel axis `axis` runs toward Right, Anterior or Superior.
    #[must_use]
    pub fn is_positive(&self, axis: usize) -> bool {
        self.positive[axis]
    }

    /// The same with some of the voxel axes the other way round.
    #[must_use]
    pub fn turned(self, round: [bool; 3]) -> Self {
        Self { positive: std::array::from_fn(|axis| self.positive[axis] != round[axis]), ..self }
    }

    /// All 48 orientations.
    pub fn all() -> impl Iterator<Item = Self> {
        const PERMUTATIONS: [[u8; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
        PERMUTATIONS
            .into_iter()
            .flat_map(|world| (0..8).map(move |bits| Self { world, positive: [bits & 1 == 0, bits & 2 == 0, bits & 4 == 0] }))
    }

    /// The orientation nearest to a rotation in rows. The column with the clearest direction takes its row first, so
    /// that the answer does not depend on the order of the voxel axes.
    pub(crate) fn closest_to(rotation: &[[f64; 3]; 3]) -> Self {
        let clearness = |axis: usize| (0..3).map(|row| rotation[row][axis].abs()).fold(0.0, f64::max);
        let mut order = [0, 1, 2];
        order.sort_by(|&a, &b| clearness(b).total_cmp(&clearness(a)));
        let mut found = Self::RAS;
        let mut free = vec![0usize, 1, 2];
        for axis in order {
            let mut best = 0;
            for candidate in 1..free.len() {
                if rotation[free[candidate]][axis].abs() > rotation[free[best]][axis].abs() {
                    best = candidate;
                }
            }
            let row = free.remove(best);
            found.world[axis] = row as u8;
            found.positive[axis] = rotation[row][axis] >= 0.0;
        }
        found
    }

    /// How to get from `self` to `target`: for each axis of the target, the axis of `self` it is taken from, and
    /// whether it runs the other way.
    pub(crate) fn axes_to(&self, target: Self) -> [(usize, bool); 3] {
        std::array::from_fn(|axis| {
            let source = (0..3).find(|&a| self.world[a] == target.world[axis]).unwrap_or(axis);
            (source, self.positive[source] != target.positive[axis])
        })
    }
}

impl fmt::Display for Orientation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = |axis: usize| LETTERS[self.world_axis(axis)][usize::from(self.positive[axis])];
        write!(f, "{}{}{}", letter(0), letter(1), letter(2))
    }
}

impl FromStr for Orientation {
    type Err = OrientationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || OrientationError { text: text.to_owned() };
        let mut found = Self::RAS;
        let mut seen = [false; 3];
        if text.chars().count() != 3 {
            return Err(error());
        }
        for (axis, letter) in text.chars().enumerate() {
            let letter = letter.to_ascii_uppercase();
            let world = LETTERS.iter().position(|pair| pair.contains(&letter)).ok_or_else(error)?;
            if std::mem::replace(&mut seen[world], true) {
                return Err(error());
            }
            found.world[axis] = world as u8;
            found.positive[axis] = LETTERS[world][1] == letter;
        }
        Ok(found)
    }
}
