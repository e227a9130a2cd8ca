//! The manifest as other stages use it.

use std::collections::BTreeMap;

use dataset::{Case, MANIFEST_FILE, Manifest, Split};
use labels::{LabelPattern, Regions, flare23};

fn case(id: &str, subset: &str, shown: &[u8], split: Split) -> Case {
    let pattern: LabelPattern = shown.iter().copied().collect();
    Case {
        id: id.into(),
        dataset: "FLARE23".into(),
        image: format!("images/{id}_0000.nii.gz").into(),
        label: (!shown.is_empty()).then(|| format!("labels/{id}.nii.gz").into()),
        pattern,
        subset: subset.into(),
        annotated: pattern,
        split,
        shape: [512, 512, 134],
        spacing_mm: [0.8, 0.8, 2.5],
        cuts: Vec::new(),
    }
}

fn manifest() -> Manifest {
    let cases = vec![
        case("a", "D_l4", &[14], Split::Training),
        case("b", "D_l3", &[1, 2, 3, 14], Split::Training),
        case("c", "D_l4", &[14], Split::Validation),
        case("d", "D_u", &[], Split::Training),
    ];
    let members = |members: &[&str]| members.iter().map(|name| (*name).to_owned()).collect();
    let subsets: BTreeMap<String, Vec<String>> = [
        ("D_u", members(&["D_u"])),
        ("D_l1", members(&["D_l1"])),
        ("D_l3", members(&["D_l3"])),
        ("D_l4", members(&["D_l4"])),
        ("D_c", members(&["D_l3", "D_l4"])),
        ("D", members(&["D_l1", "D_l3", "D_l4", "D_u"])),
    ]
    .map(|(name, members)| (name.to_owned(), members))
    .into();
    let classes = flare23::classes();
    let regions = [("FLARE23".to_owned(), Regions::plain(classes.pattern()))].into();
    Manifest { classes, regions, subsets, cases }
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
    assert_eq!(ids(manifest.select("D_c", None).unwrap()), ["a", "b", "c"]);
    assert_eq!(ids(manifest.select("D_c", Some(Split::Training)).unwrap()), ["a", "b"]);
    assert_eq!(ids(manifest.select("D_l4", Some(Split::Validation)).unwrap()), ["c"]);
    assert_eq!(ids(manifest.select("D", None).unwrap()), ["a", "b", "c", "d"]);
}

#[test]
fn an_empty_selection_is_an_error_that_tells_what_there_is() {
    let error = manifest().select("D_l1", None).unwrap_err().to_string();
    assert!(error.contains("D_l1 has no cases;") && error.contains("D_l3 1, D_l4 2, D_u 1"), "{error}");
    let error = manifest().select("D_u", Some(Split::Validation)).unwrap_err().to_string();
    assert!(error.contains("D_u has no cases for validation"), "{error}");
    let error = manifest().select("D_l5", None).unwrap_err().to_string();
    assert!(error.contains("there is no subset D_l5, did you mean D_l1?; the manifest has D, D_c, D_l1"), "{error}");
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

#[test]
fn a_label_map_says_something_only_where_somebody_looked_for_a_class() {
    let mut case = case("a", "D_l4", &[14], Split::Training);
    assert!(case.annotated_label().is_some());
    case.annotated = LabelPattern::EMPTY;
    assert_eq!(case.annotated_label(), None);
}
