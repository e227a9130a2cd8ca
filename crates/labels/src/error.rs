use thiserror::Error;

/// What can be wrong with labels, their patterns and their names.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LabelError {
    /// A label map holds values that FLARE23 does not define.
    #[error(
        "values outside 0..=14: {}; map them to FLARE23's labels or set them to 0",
        describe_counts(.found)
    )]
    OutsideRange {
        /// Each such value with the number of its voxels, ascending by value.
        found: Vec<(u8, u64)>,
    },
    /// A text is not a label pattern.
    #[error("`{text}` is not a label pattern; expected labels from 1 to 14 in braces, such as `{{1,2,3,4,13}}` or `{{}}`")]
    NotAPattern {
        /// The text as given.
        text: String,
    },
    /// A text is not the name of a subset.
    #[error("`{text}` is not a subset; expected one of D, D_u, D_l1, D_l2, D_l3, D_l4, D_other, D_o13, D_o5, D_c")]
    NotASubset {
        /// The text as given.
        text: String,
    },
    /// Two maps that must lie on one grid have different numbers of voxels.
    #[error("{what} has {found} voxels, expected {expected}; resample both onto one grid first")]
    LengthMismatch {
        /// Which map is at fault.
        what: &'static str,
        /// Its number of voxels.
        found: usize,
        /// The number of voxels of the first map.
        expected: usize,
    },
    /// A map holds a value that its role does not allow, such as 14 in an organ map.
    #[error("{what} holds the value {value}, expected at most {highest}")]
    ValueTooHigh {
        /// Which map is at fault.
        what: &'static str,
        /// The highest value found.
        value: u8,
        /// The highest value allowed.
        highest: u8,
    },
}

fn describe_counts(found: &[(u8, u64)]) -> String {
    let parts: Vec<String> = found.iter().map(|(value, voxels)| format!("{value} ({voxels} voxels)")).collect();
    parts.join(", ")
}
