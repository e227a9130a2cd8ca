//! Which parts of an organ are kept, as the winner of FLARE23 keeps them.

use volume::Keep;

/// The share of the largest part that another one needs to have.
const LEAST_SHARE: f64 = 0.1;

/// For the class of a key: liver, spleen, pancreas, each adrenal gland and stomach are one piece; kidneys and gallbladder may be
/// cut in two by what the scan shows of them. Vessels, esophagus, duodenum and classes of other names are left as they are. The side
/// may stand before the name or behind it: `left_kidney`, `kidney_left`.
pub(crate) fn rule(key: &str) -> Keep {
    let without = |side: &str| key.strip_prefix(&format!("{side}_")).or_else(|| key.strip_suffix(&format!("_{side}")));
    match (without("right").or_else(|| without("left")), key) {
        (_, "liver" | "spleen" | "pancreas" | "stomach") | (Some("adrenal" | "adrenal_gland"), _) => Keep::Largest,
        (Some("kidney"), _) | (_, "gallbladder") => Keep::Share(LEAST_SHARE),
        _ => Keep::All,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_side_may_stand_before_a_name_or_behind_it() {
        for key in ["liver", "right_adrenal", "adrenal_gland_left"] {
            assert!(matches!(rule(key), Keep::Largest), "{key}");
        }
        for key in ["left_kidney", "kidney_right", "gallbladder"] {
            assert!(matches!(rule(key), Keep::Share(_)), "{key}");
        }
        for key in ["aorta", "mass", "adrenal_glands", "kidney_tumor"] {
            assert!(matches!(rule(key), Keep::All), "{key}");
        }
    }
}
