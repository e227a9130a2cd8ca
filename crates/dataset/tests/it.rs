//! The manifest as other stages use it.

use dataset::{Case, MANIFEST_FILE, Manifest, Split};
use labels::{LabelPattern, SubsetName};

fn case(id: &str, labels: &[u8], split: Split) -> Case {
    let pattern = LabelPattern::from_labels(labels.iter().copied()).unwrap();
    Case {
        id: id.into(),
        image: format!("images/{id}_0000.nii.gz").into(),
        label: (!labels.is_empty()).then(|| format!("labels/{id}.nii.gz").into()),
        pattern,
        subset: pattern.subset(),
        split,
        shape: [512, 512, 134],
        spacing_mm: [0.8, 0.8, 2.5],
    }
}

fn manifest() -> Manifest {
    let cases = vec![
        case("a", &[14], Split::Training),
        case("b", &[1, 2, 3, 14], Split::Training),
        case("c", &[14], Split::Validation),
        case("d", &[], Split::Training),
    ];
    Manifest { cases }
}

fn ids(cases: Vec<&Case>) -> Vec<&str> {
    cases.into_iter().map(|case| case.id.as_str()).collect()
}

#[test]
fn a_manifest_comes_back_as_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(MANIFEST_FILE), serde_json::to_string(&manifest()).unwrap()).unwrap();
    assert_eq!(Manifest::load(folder.path()).unwrap(), manifest());
}

#[test]
fn a_union_selects_the_cases_of_its_members_on_the_side_asked_for() {
    let manifest = manifest();
    assert_eq!(ids(manifest.select(SubsetName::Dc, None).unwrap()), ["a", "b", "c"]);
    assert_eq!(ids(manifest.select(SubsetName::Dc, Some(Split::Training)).unwrap()), ["a", "b"]);
    assert_eq!(ids(manifest.select(SubsetName::Dl4, Some(Split::Validation)).unwrap()), ["c"]);
    assert_eq!(ids(manifest.select(SubsetName::All, None).unwrap()), ["a", "b", "c", "d"]);
}

#[test]
fn an_empty_selection_is_an_error_that_tells_what_there_is() {
    let error = manifest().select(SubsetName::Do13, None).unwrap_err().to_string();
    assert!(error.contains("D_o13 has no cases;") && error.contains("D_l3 1, D_l4 2, D_u 1"), "{error}");
    let error = manifest().select(SubsetName::Du, Some(Split::Validation)).unwrap_err().to_string();
    assert!(error.contains("D_u has no cases for validation"), "{error}");
}

#[test]
fn a_missing_or_foreign_manifest_is_named_with_the_stage_that_writes_it() {
    let folder = tempfile::tempdir().unwrap();
    let error = Manifest::load(folder.path()).unwrap_err().to_string();
    assert!(error.contains("manifest.json") && error.contains("`partition`"), "{error}");
    for foreign in ["{", "[]", r#"{"cases": [], "more": 1}"#] {
        std::fs::write(folder.path().join(MANIFEST_FILE), foreign).unwrap();
        let error = Manifest::load(folder.path()).unwrap_err().to_string();
        assert!(error.contains("is not a manifest of cases"), "{error}");
    }
}
