//! Folders and files that are damaged, or say what cannot be.

use std::path::Path;

use foreign::monai::import;
use foreign::nnunet::{Choice, Results};
use serde_json::{Value, json};

use crate::monai::declared;
use crate::{copy_of, fixture};

/// Why a folder is refused.
fn refused(folder: &Path, choice: &Choice) -> String {
    let fold = |results: Results| results.fold(&results.folds()[0].clone());
    Results::read(folder, choice).and_then(fold).err().expect("it is taken").to_string()
}

/// Why the folder `name` is refused with another value in one of its files.
fn with(name: &str, file: &str, pointer: &str, value: Value) -> String {
    let folder = copy_of(name);
    let path = folder.path().join(file);
    let mut content: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    match (content.pointer_mut(pointer), pointer.rsplit_once('/')) {
        (Some(place), _) => *place = value,
        (None, Some((parent, key))) => drop(content.pointer_mut(parent).unwrap().as_object_mut().unwrap().insert(key.to_owned(), value)),
        (None, None) => panic!("{pointer}"),
    }
    std::fs::write(&path, content.to_string()).unwrap();
    refused(folder.path(), &Choice::default())
}

#[test]
fn plans_of_what_this_program_has_no_form_for_are_refused_by_name() {
    let configuration = "/configurations/3d_fullres";
    let network = format!("{configuration}/architecture/arch_kwargs");
    for (pointer, value, parts) in [
        ("/transpose_forward".to_owned(), json!([0, 0, 2]), &["transpose_forward is [0, 0, 2]"][..]),
        ("/image_reader_writer".into(), json!("NaturalImage2DIO"), &["image_reader_writer is NaturalImage2DIO"]),
        ("/foreground_intensity_properties_per_channel".into(), json!({}), &["no channel 0"]),
        ("/foreground_intensity_properties_per_channel/0/std".into(), json!(0), &["deviation 0"]),
        ("/foreground_intensity_properties_per_channel/0/std".into(), json!(null), &["plans.json", "null"]),
        (
            format!("{configuration}/normalization_schemes"),
            json!(["ZScoreNormalization"]),
            &["ZScoreNormalization", "expected CTNormalization"],
        ),
        (format!("{configuration}/normalization_schemes"), json!(["CTNormalization", "CTNormalization"]), &["of one channel"]),
        (
            format!("{configuration}/previous_stage"),
            json!("3d_lowres"),
            &["goes on from what 3d_lowres has found", "cascades are not taken"],
        ),
        (format!("{configuration}/patch_size"), json!([32, 32]), &["configuration 3d_fullres", "slices one by one"]),
        (format!("{configuration}/patch_size"), json!([9, 16, 12]), &["sides must be multiples of"]),
        (format!("{configuration}/patch_size"), json!([8, 16, 1_u64 << 40]), &["a side of 1099511627776"]),
        (format!("{configuration}/spacing"), json!([2.0, -1.0, 1.0]), &["-1 is not a length"]),
        (format!("{configuration}/inherits_from"), json!("3d_fullres"), &["inherit from each other: 3d_fullres"]),
        (format!("{configuration}/architecture/network_class_name"), json!("a.b.PrimusM"), &["the network is a PrimusM"]),
        (format!("{network}/stem_channels"), json!(8), &["configuration 3d_fullres: unknown field `stem_channels`"]),
        (format!("{network}/conv_op"), json!("torch.nn.Conv2d"), &["conv_op is torch.nn.Conv2d", "expected Conv3d"]),
        (format!("{network}/norm_op"), json!("torch.nn.BatchNorm3d"), &["norm_op is torch.nn.BatchNorm3d"]),
        (format!("{network}/norm_op_kwargs"), json!({"affine": false}), &["expected an affine norm"]),
        (format!("{network}/dropout_op"), json!("torch.nn.Dropout3d"), &["dropout_op is torch.nn.Dropout3d"]),
        (format!("{network}/nonlin_kwargs"), json!({"negative_slope": 0.2}), &["negative_slope 0.2"]),
        (format!("{network}/n_stages"), json!(1_u64 << 60), &["one for each of n_stages"]),
        (format!("{network}/features_per_stage"), json!([4, 6]), &["strides"]),
        (format!("{network}/strides"), json!([[2, 2, 2], [2, 2, 2], [2, 2, 2]]), &["the first stage has the stride [2, 2, 2]"]),
        (format!("{network}/kernel_sizes"), json!([[1, 2, 3], [3, 3, 3], [3, 3, 3]]), &["layers.kernels"]),
        (format!("{network}/n_conv_per_stage"), json!([2, 1_000_000_000, 2]), &["layers.convs", "1 to 64"]),
    ] {
        let error = with("plain", "plans.json", &pointer, value);
        assert!(error.contains("plans.json"), "{pointer}: {error}");
        parts.iter().for_each(|part| assert!(error.contains(part), "{pointer}: {error}"));
    }
    for field in ["transpose_forward", "image_reader_writer", "foreground_intensity_properties_per_channel", "configurations"] {
        let folder = copy_of("plain");
        let path = folder.path().join("plans.json");
        let mut plans: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        plans.as_object_mut().unwrap().remove(field);
        std::fs::write(&path, plans.to_string()).unwrap();
        let error = refused(folder.path(), &Choice::default());
        assert!(error.contains(&format!("missing field `{field}`")) && error.contains("plans.json"), "{error}");
    }
}

#[test]
fn datasets_of_what_this_program_has_no_form_for_are_refused_by_name() {
    for (name, pointer, value, part) in [
        ("plain", "/channel_names", json!({"0": "CT", "1": "PET"}), "scans have 2 channels (CT, PET)"),
        ("plain", "/labels", json!({"background": 0, "liver": 1, "spleen": 3}), "liver is 1, spleen is 3"),
        ("plain", "/labels", json!({"background": 0}), "expected values from 1 on"),
        ("plain", "/labels", json!({"background": 0, "a b": 1, "a_b": 2, "c": 3}), "rename one of them"),
        ("plain", "/labels", json!(["liver"]), "dataset.json"),
        (
            "plain",
            "/labels",
            json!({"background": 0, "liver": 1}),
            "`decoder.seg_layers.1.weight` has shape [4, 4, 1, 1, 1] instead of [2, 4, 1, 1, 1]",
        ),
        ("regions", "/regions_class_order", json!([1, 1, 2]), "regions_class_order is [1, 1, 2] for 3 regions"),
        ("regions", "/regions_class_order", json!(null), "regions_class_order is [] for 3 regions"),
        ("regions", "/regions_class_order", json!([1, 300, 2]), "from 1 to 255"),
    ] {
        let error = with(name, "dataset.json", pointer, value);
        assert!(error.contains(part), "{pointer}: {error}");
    }
}

#[test]
fn weights_that_do_not_fit_are_all_named_at_once() {
    let network = "/configurations/3d_fullres/architecture/arch_kwargs";
    let error = with("plain", "plans.json", &format!("{network}/features_per_stage"), json!([4, 6, 10]));
    assert_eq!(error.matches(" has shape ").count(), 7, "{error}");
    assert!(
        error.contains("checkpoint_final.pth") && error.contains("Take plans.json, dataset.json and checkpoints of one training"),
        "{error}"
    );
    let error = with("plain", "plans.json", &format!("{network}/n_conv_per_stage"), json!([1, 1, 3]));
    for part in ["`encoder.stages.2.0.convs.2.conv.weight` is missing", "`encoder.stages.0.0.convs.1.norm.weight` is no parameter of it"] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn folders_without_a_training_say_what_is_missing() {
    let plain = fixture("plain");
    let error = refused(&plain.join("fold_0"), &Choice::default());
    assert!(error.contains("plans.json") && error.contains("give the folder of a configuration"), "{error}");
    let error = refused(&plain, &Choice { folds: vec!["0".into(), "3".into()], ..Choice::default() });
    assert!(error.contains("no checkpoint_final.pth of the folds 3; the folds 0 have one"), "{error}");
    let error = refused(&plain, &Choice { checkpoint: "checkpoint_best.pth".into(), ..Choice::default() });
    assert!(error.contains("no checkpoint_best.pth; no fold has one"), "{error}");
    let error = refused(&plain, &Choice { configuration: Some("2d".into()), ..Choice::default() });
    assert!(error.contains("no configuration 2d; expected one of 3d_fullres"), "{error}");
    let error = refused(&plain, &Choice { trained_on: Some("north".into()), ..Choice::default() });
    assert!(error.contains("trained_on: \"north\" is not an orientation"), "{error}");
    let error = refused(&fixture("regions"), &Choice { trained_on: Some("LPS".into()), ..Choice::default() });
    assert!(error.contains("its reader turns every scan to RAS, and `trained_on` says LPS"), "{error}");
}

#[test]
fn damaged_checkpoints_end_in_a_message() {
    let folder = copy_of("plain");
    let path = folder.path().join("fold_0/checkpoint_final.pth");
    let whole = std::fs::read(&path).unwrap();
    for length in (0..whole.len()).step_by(997) {
        std::fs::write(&path, &whole[..length]).unwrap();
        let error = refused(folder.path(), &Choice::default());
        assert!(error.contains("checkpoint_final.pth"), "{length}: {error}");
    }
    for at in (0..whole.len()).step_by(211) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x55;
        std::fs::write(&path, &damaged).unwrap();
        // It may go unnoticed in a weight, and must not panic anywhere.
        drop(Results::read(folder.path(), &Choice::default()).and_then(|results| results.fold("0")));
    }
    for text in ["", "{", "[]", "{\"configurations\": 3}"] {
        std::fs::write(folder.path().join("plans.json"), text).unwrap();
        let error = refused(folder.path(), &Choice::default());
        assert!(error.contains("plans.json"), "{text}: {error}");
    }
}

#[test]
fn state_dicts_of_other_networks_are_refused_with_all_that_does_not_fit() {
    let error = |file: &str, network: Value, patch| match import(&fixture(file), &declared(&network, patch)) {
        Ok(_) => panic!("{file} is taken"),
        Err(error) => error.to_string(),
    };
    let wider = error("monai/basic_unet.pt", json!({"features": [4, 4, 6, 8, 16, 4]}), [32; 3]);
    assert!(wider.contains("`down_4.convs.conv_0.conv.weight` has shape [8, 8, 3, 3, 3] instead of [16, 8, 3, 3, 3]"), "{wider}");
    assert!(wider.matches(" has shape ").count() > 5 && wider.contains("Declare the network as it was trained"), "{wider}");
    let other = error("monai/unetr.pth", json!({"features": [4, 4, 6, 8, 8, 4]}), [32; 3]);
    assert!(other.contains("`conv_0.conv_0.conv.weight` is missing") && other.contains("`vit.norm.bias` is no parameter of it"), "{other}");
    let absent = error("monai/nothing.pt", json!({"features": [4, 4, 6, 8, 8, 4]}), [32; 3]);
    assert!(absent.contains("nothing.pt"), "{absent}");
    let ending = error("monai/swin_unetr.json", json!({"features": [4, 4, 6, 8, 8, 4]}), [32; 3]);
    assert!(ending.contains("its ending is neither"), "{ending}");
}
