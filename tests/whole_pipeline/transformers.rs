//! The transformer teachers: encoders learnt from images, frozen in all that follows, and Table 5.

use std::fs;

use crate::lab::Lab;
use crate::method::parameters;

/// A lab whose pipeline is `tiny-transformers.yaml` and `more`, laid over it.
pub(crate) fn lab(more: &str) -> Lab {
    let lab = Lab::new("");
    let tiny = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../tests/whole_pipeline/tiny-transformers.yaml");
    fs::write(lab.path("lab.yaml"), format!("extends: {tiny}\nstore: store\n{more}")).unwrap();
    lab
}

#[test]
fn frozen_encoders_stay_and_table_5_has_every_teacher() {
    let lab = lab("");
    let run = lab.run(&["table_5"]).must_succeed();
    for (network, encoder) in [("unetr", "vit."), ("swin_unetr", "swinViT.")] {
        let pretrained = parameters(&lab.result(&format!("encoder_{network}")));
        assert!(pretrained.keys().all(|name| name.starts_with(encoder)), "the encoder alone is kept");
        let png = fs::read(lab.result(&format!("encoder_{network}")).join("reconstructions.png")).unwrap();
        assert!(png.starts_with(b"\x89PNG"));
        let [cancer, five, organs] = ["M_c", "M_o1", "M_o2"].map(|step| parameters(&lab.result(&format!("{step}_{network}"))));
        for (name, bytes) in &pretrained {
            for trained in [&cancer, &five, &organs] {
                assert!(trained[name] == *bytes, "{name} of the frozen encoder has changed");
            }
        }
        let lengths = [&cancer, &five, &organs].map(|trained| trained["out.conv.conv.bias"].len());
        assert_eq!(lengths, [2, 6, 14].map(|classes| 4 * classes));
        let moved = five.iter().filter(|(name, bytes)| !pretrained.contains_key(*name) && organs[*name] != **bytes).count();
        assert_eq!(moved, five.len() - pretrained.len(), "everything else has learnt");
        let taken = format!("M_c_{network}: {} parameters come from", pretrained.len());
        assert!(run.stderr.contains(&taken), "{taken}: {}", run.stderr);
    }
    let table = fs::read_to_string(lab.result("table_5").join("teachers.md")).unwrap();
    for part in
        ["3D_U-Net DSC (%)", "Swin_UNETR NSD (%)", "UNETR DSC (%)", "| Parameters (M) |", "| Training step (s) |", "| Liver |", "| Tumor |"]
    {
        assert!(table.contains(part), "{part}: {table}");
    }
    let second = lab.run(&["table_5"]).must_succeed();
    assert_eq!(second.ran(), [""; 0]);
}

#[test]
fn mistakes_in_networks_are_told_with_the_field() {
    for (node, complaint) in [
        ("encoder_unetr: {params: {network: {unetr: null, features: [4, 4, 8, 8, 8, 4]}}}", "has no encoder to pre-train"),
        ("encoder_swin_unetr: {params: {patch: [32, 32, 32], hidden: 0.75}}", "would hide"),
        ("M_c_unetr: {params: {patch: [48, 48, 48]}}", "img_size"),
        ("M_c_unetr: {params: {network: {swin_unetr: {}}}}", "exactly one of features"),
        ("M_c_swin_unetr: {params: {patch: [48, 32, 32]}}", "multiple of 32"),
    ] {
        lab(&format!("nodes: {{{node}}}\n")).run(&["--dry-run"]).must_fail(2, &["lab.yaml", complaint]);
    }
}
