//! The methods for partial labels, from what is annotated to labels:
//!
//! - `resolve`: what a manifest says of datasets and tasks
//! - `losses`: the losses against PyTorch
//! - `parts`: however a batch is cut, its loss is the same; what each class counts in it
//! - `methods`: the methods as networks, which samples train what, and their rule
//! - `mutual`: deep mutual learning
//! - `overlapping`: classes of three groups of which some contain others
//! - `learning`: what every method learns

mod learning;
mod losses;
mod methods;
mod mutual;
mod overlapping;
mod parts;
mod resolve;

use labels::Classes;
use partial::{Class, Dataset, Datasets};

/// What `D_l2` has annotated.
const FIVE: [&str; 5] = ["liver", "right_kidney", "spleen", "pancreas", "left_kidney"];

/// A kidney and a liver with values above 14, what is in them, and what runs through both.
fn kits() -> Classes {
    let groups = r#"[{"group": "organ", "classes": {"kidney": 200, "liver": 17}}, {"group": "lesion", "classes": {"tumor": 40, "cyst": 3}},
        {"group": "vessel", "classes": {"artery": 90}}]"#;
    serde_json::from_str(groups).unwrap()
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn dataset(name: &str, classes: &[&str]) -> Dataset {
    Dataset { name: name.into(), subset: name.into(), classes: Some(names(classes)) }
}

fn datasets(declared: &[Dataset], classes: &Classes) -> Datasets {
    Datasets::new(declared, classes).unwrap()
}

fn class(classes: &Classes, key: &str) -> Class {
    Class::of(classes, classes.class(key).unwrap().value).unwrap()
}
