//! Which parts of an organ are kept, as the winner of FLARE23 keeps them.

use volume::Keep;

/// The share of the largest part that another one needs to have.
const LEAST_SHARE: f64 = 0.1;

/// For the class of a key: liver, spleen, pancreas, both adrenal glands and stomach are one piece; kidneys and gallbladder may be
/// cut in two by what the scan shows of them. Vessels, esophagus, duodenum and classes of other names are left as they are.
pub(crate) fn rule(key: &str) -> Keep {
    match key {
        "liver" | "spleen" | "pancreas" | "right_adrenal" | "left_adrenal" | "stomach" => Keep::Largest,
        "right_kidney" | "left_kidney" | "gallbladder" => Keep::Share(LEAST_SHARE),
        _ => Keep::All,
    }
}
