//! Which parts of an organ are kept, as the winner of FLARE23 keeps them.

use volume::Keep;

/// The share of the largest part that another one needs to have.
const LEAST_SHARE: f64 = 0.1;

/// Liver, spleen, pancreas, both adrenal glands and stomach are one piece; kidneys and gallbladder may be cut in two by
/// what the scan shows of them. Vessels, esophagus and duodenum are left as they are.
pub(crate) fn rule(label: u8) -> Keep {
    match label {
        1 | 3 | 4 | 7 | 8 | 11 => Keep::Largest,
        2 | 9 | 13 => Keep::Share(LEAST_SHARE),
        _ => Keep::All,
    }
}
