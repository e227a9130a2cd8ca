//! The classes of FLARE23, which phantoms are made of and the paper's tables ask for by name. Pipelines declare their own.

use crate::Classes;

/// The 13 organs in the group `organ`, and the tumor in the group `cancer`.
///
/// # Panics
/// Never: the declaration is checked by a test.
#[must_use]
pub fn classes() -> Classes {
    #[expect(clippy::expect_used, reason = "a constant, which a test reads")]
    serde_json::from_str(include_str!("flare23.json")).expect("the declaration of FLARE23")
}

/// The organs annotated in `D_l2` and `D_l3`: liver, right kidney, spleen, pancreas, left kidney.
pub const FIVE_ORGANS: [u8; 5] = [1, 2, 3, 4, 13];

/// The value of tumors of every kind.
pub const TUMOR: u8 = 14;
