//! What SNOMED CT calls a class, as DICOM segmentations and 3D Slicer ask for it.

/// A concept: its code, and what it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Concept {
    /// The code.
    pub code: &'static str,
    /// Its meaning.
    pub meaning: &'static str,
}

/// A class in SNOMED CT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coded {
    /// What kind of thing it is.
    pub category: Concept,
    /// What it is.
    pub concept: Concept,
    /// On which side, if it has two.
    pub side: Option<Concept>,
}

const ANATOMY: Concept = concept("123037004", "Anatomical Structure");
const ALTERED: Concept = concept("49755003", "Morphologically Altered Structure");
const TISSUE: Concept = concept("85756007", "Tissue");
const NEOPLASM: Concept = concept("108369006", "Neoplasm");
const RIGHT: Concept = concept("24028007", "Right");
const LEFT: Concept = concept("7771000", "Left");

/// Structures by their keys without a side.
const STRUCTURES: [(&str, Concept); 24] = [
    ("adrenal", concept("23451007", "Adrenal gland")),
    ("adrenal_gland", concept("23451007", "Adrenal gland")),
    ("aorta", concept("15825003", "Aorta")),
    ("bladder", concept("89837001", "Urinary bladder")),
    ("urinary_bladder", concept("89837001", "Urinary bladder")),
    ("brain", concept("12738006", "Brain")),
    ("colon", concept("71854001", "Colon")),
    ("duodenum", concept("38848004", "Duodenum")),
    ("esophagus", concept("32849002", "Esophagus")),
    ("gallbladder", concept("28231008", "Gallbladder")),
    ("heart", concept("80891009", "Heart")),
    ("inferior_vena_cava", concept("64131007", "Inferior vena cava")),
    ("kidney", concept("64033007", "Kidney")),
    ("liver", concept("10200004", "Liver")),
    ("lung", concept("39607008", "Lung")),
    ("pancreas", concept("15776009", "Pancreas")),
    ("postcava", concept("64131007", "Inferior vena cava")),
    ("prostate", concept("41216001", "Prostate")),
    ("rectum", concept("34402009", "Rectum")),
    ("small_bowel", concept("30315005", "Small intestine")),
    ("spleen", concept("78961009", "Spleen")),
    ("stomach", concept("69695003", "Stomach")),
    ("trachea", concept("44567001", "Trachea")),
    ("uterus", concept("35039007", "Uterus")),
];

/// Parts of keys that speak of a tumor.
const TUMORS: [&str; 5] = ["tumor", "tumour", "cancer", "lesion", "neoplasm"];

const fn concept(code: &'static str, meaning: &'static str) -> Concept {
    Concept { code, meaning }
}

/// The class of a key, such as `right_kidney` or `kidney_right`. What is not known is a tissue.
#[must_use]
pub fn snomed(key: &str) -> Coded {
    if TUMORS.iter().any(|tumor| key.contains(tumor)) {
        return Coded { category: ALTERED, concept: NEOPLASM, side: None };
    }
    let without =
        |side: &str| key.strip_prefix(side).and_then(|key| key.strip_prefix('_')).or_else(|| key.strip_suffix(side)?.strip_suffix('_'));
    let (name, side) = match (without("right"), without("left")) {
        (Some(name), _) => (name, Some(RIGHT)),
        (None, Some(name)) => (name, Some(LEFT)),
        (None, None) => (key, None),
    };
    let known = STRUCTURES.iter().find(|(structure, _)| *structure == name);
    Coded { category: ANATOMY, concept: known.map_or(TISSUE, |(_, concept)| *concept), side }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_are_told_from_names_and_tumors_from_organs() {
        let right = snomed("right_kidney");
        assert_eq!((right.concept.meaning, right.side), ("Kidney", Some(RIGHT)));
        assert_eq!(snomed("kidney_left"), Coded { side: Some(LEFT), ..right });
        assert_eq!(snomed("liver_tumor"), Coded { category: ALTERED, concept: NEOPLASM, side: None });
        assert_eq!(snomed("left_something"), Coded { category: ANATOMY, concept: TISSUE, side: Some(LEFT) });
        for class in crate::flare23::classes().all() {
            assert_ne!(snomed(&class.key).concept, TISSUE, "{}", class.key);
        }
    }
}
