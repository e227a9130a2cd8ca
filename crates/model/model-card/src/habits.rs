//! What networks that were trained elsewhere are used to.

use serde::{Deserialize, Serialize};
use volume::{Orientation, Resampling};

/// How else than the way round of the model grid, resampled linearly and padded with the window's lower end a network was shown scans in its
/// training. Networks that this project trains have none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Habits {
    /// Along which of x, y and z it was shown scans the other way round than on the model grid: all but the last for LPS.
    pub mirrored: [bool; 3],
    /// The windowed intensity that lies around a scan smaller than a patch; 0 is the window's lower end.
    pub around: f32,
    /// How scans come onto the model grid.
    #[serde(skip_serializing_if = "is_linear")]
    pub resampling: Resampling,
}

fn is_linear(resampling: &Resampling) -> bool {
    *resampling == Resampling::Linear
}

impl Habits {
    /// Whether there are none.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Where the axes of what the network is shown point to.
    #[must_use]
    pub fn orientation(&self) -> Orientation {
        Orientation::RAS.turned(self.mirrored)
    }
}
