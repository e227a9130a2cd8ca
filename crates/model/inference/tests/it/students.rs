//! Students of any number of decoders.

use candle_core::Device;
use inference::{Student, StudentParams};
use labels::Classes;
use nets::{DualUNet2d, DualUNet2dConfig};
use serde_json::{Value, json};
use volume::{ModelGrid, Scaling};

use crate::bench::{Bench, FEATURES, Said, declared, grid, three_groups, values};

fn params(params: Value) -> StudentParams {
    serde_json::from_value(params).unwrap()
}

/// Every map of a student as planes, x fastest.
fn planes(bench: &Bench, student: &Student) -> Vec<Vec<u8>> {
    let scan = bench.scan();
    let maps = student.label_maps(&scan, &student.region(&scan).unwrap(), false).unwrap();
    let mut planes = vec![Vec::new(); maps.maps.len()];
    maps.each_plane(false, |plane| {
        planes.iter_mut().zip(plane.labels.maps).for_each(|(all, plane)| all.extend(plane));
        Ok::<_, ()>(())
    })
    .unwrap();
    planes
}

fn load(student: &StudentParams, path: &std::path::Path) -> Student {
    Student::load(student, path, &Device::Cpu).unwrap()
}

#[test]
fn each_of_three_decoders_writes_the_values_of_its_group() {
    let bench = Bench::new();
    let classes = three_groups();
    let path = bench.student("s", 3, &classes, Said::default());
    let student = load(&StudentParams::default(), &path);
    let groups: Vec<_> = student.outputs().iter().map(|output| output.group.as_str()).collect();
    assert_eq!(groups, ["organ", "cancer", "growth"]);
    for size in [json!([32, 32]), json!(null)] {
        let student = load(&params(json!({"window": {"size": size}})), &path);
        let maps = planes(&bench, &student);
        for (map, of_group) in maps.iter().zip([&[0, 1, 200][..], &[0, 14], &[0, 15, 255]]) {
            let found = values(map);
            assert!(found.iter().all(|value| of_group.contains(value)), "{found:?} of {of_group:?}");
        }
        assert!(maps.iter().flatten().any(|&value| value > 14), "the weights tell voxels apart");
    }
    // A decoder of random weights is that of its name, whatever stands beside it.
    let cancer = classes.only(classes.groups()[1].pattern());
    let alone = load(&StudentParams::default(), &bench.student("c", 3, &cancer, Said::default()));
    assert_eq!(planes(&bench, &alone), planes(&bench, &student)[1..2]);
}

#[test]
fn what_contradicts_a_student_is_refused_with_both_values() {
    let bench = Bench::new();
    let path = bench.student("s", 3, &three_groups(), Said::default());
    let other = json!([{"group": "organ", "classes": {"liver": 1, "kidney": 2}}]);
    for (asked, both) in [
        (json!({"grid": {"spacing_mm": [2, 3, 5], "window_hu": [-200, 300]}}), ["grid.spacing_mm [2, 2, 5]", "say [2, 3, 5]"]),
        (json!({"grid": {"spacing_mm": [2, 2, 5], "window_hu": [-100, 300]}}), ["[-200.0, 300.0]", "say [-100.0, 300.0]"]),
        (json!({"crop_foreground": false}), ["crop_foreground true", "say false"]),
        (json!({"network": {"features": [8, 4, 4, 8, 8, 4]}}), ["[4,4,4,8,8,4]", "[8,4,4,8,8,4]"]),
        (json!({ "classes": other }), ["kidney: 200}, cancer {tumor: 14}", "say organ {liver: 1, kidney: 2}"]),
    ] {
        let error = params(asked).resolve(&path).unwrap_err().to_string();
        assert!(error.contains("s.safetensors") && both.iter().all(|part| error.contains(part)), "{both:?}: {error}");
    }
    let known = params(json!({"classes": three_groups(), "grid": grid()})).resolve(&path).unwrap();
    assert_eq!(known.window.size, Some([32, 32]));
    let teacher = bench.teacher("t", 3, &one_group(), Said::default());
    assert!(StudentParams::default().resolve(&teacher).unwrap_err().to_string().contains("is a teacher"));
}

fn one_group() -> Classes {
    declared(&json!([{"group": "organ", "classes": {"liver": 1}}]))
}

#[test]
fn weights_that_say_nothing_are_used_as_the_parameters_say() {
    let bench = Bench::new();
    let said = bench.student("s", 3, &three_groups(), Said::default());
    let decoders: Vec<_> = [("organ", 3), ("cancer", 2), ("growth", 3)].map(|(group, n)| (format!("{group}_decoder"), n)).into();
    let silent = bench.save("w", 3, &DualUNet2d::new(&DualUNet2dConfig { features: FEATURES }, &decoders), None);
    let missing = StudentParams::default().resolve(&silent).unwrap_err().to_string();
    assert!(missing.contains("give network, classes, grid, crop_foreground, the size of the window"), "{missing}");
    let params = params(json!({
        "classes": three_groups(), "network": {"features": FEATURES}, "grid": grid(), "crop_foreground": true,
        "window": {"size": [32, 32]},
    }));
    assert_eq!(planes(&bench, &load(&params, &silent)), planes(&bench, &load(&StudentParams::default(), &said)));
}

#[test]
fn small_parts_go_of_the_groups_and_classes_that_are_named() {
    let bench = Bench::new();
    let path = bench.student("s", 3, &three_groups(), Said::default());
    let all = planes(&bench, &load(&StudentParams::default(), &path));
    let kept = |parts: Value| planes(&bench, &load(&params(json!({ "keep_parts": parts })), &path));
    let ml = |ml: f64| json!({ "ml": ml });
    // A voxel has 0.02 mL.
    assert_eq!(kept(json!({"organ": ml(0.02), "cancer": ml(0.02), "growth": ml(0.02)})), all);
    let emptied = |k: usize| kept(json!({["organ", "cancer", "growth"][k]: ml(1e6)}));
    for k in 0..3 {
        let mut expected = all.clone();
        expected[k].fill(0);
        assert_eq!(emptied(k), expected);
    }
    let (class, key) = if all[0].contains(&200) { (200, "kidney") } else { (1, "liver") };
    let found = kept(json!({key: ml(1e6), "growth": "all"}));
    assert_eq!(found[0], all[0].iter().map(|&value| if value == class { 0 } else { value }).collect::<Vec<_>>());
    assert_eq!(kept(json!({"organ": ml(1e6), "liver": "all", "kidney": "all"}))[0], all[0], "a class goes before its group");
    let unknown = params(json!({"keep_parts": {"aorta": ml(1.0)}})).resolve(&path).unwrap_err().to_string();
    assert!(unknown.contains("keep_parts: there is no class `aorta`"), "{unknown}");
    assert!(params(json!({"keep_parts": {"tumor": ml(-1.0)}})).check().unwrap_err().to_string().contains("keep_parts.tumor: Ml(-1.0)"));
}

#[test]
fn a_student_is_shown_what_its_training_made_of_the_window() {
    let bench = Bench::new();
    let plain = bench.student("plain", 3, &three_groups(), Said::default());
    // The same weights; what a network with instance norms makes of scaled values is the same but for zeros around the scan.
    let scaling = Scaling { clip: [0.2, 0.8], shift: 0.5, scale: 0.1 };
    let scaled = bench.student("scaled", 3, &three_groups(), Said { scaling, ..Said::default() });
    let clipped =
        bench.student("clipped", 3, &three_groups(), Said { scaling: Scaling { clip: [0.0, 1e-9], ..scaling }, ..Said::default() });
    let [plain, scaled, clipped] = [plain, scaled, clipped].map(|path| planes(&bench, &load(&StudentParams::default(), &path)));
    assert_ne!(plain, scaled);
    assert_ne!(scaled, clipped);
}

#[test]
fn an_exported_student_needs_no_parameters() {
    let bench = Bench::new();
    let input = ModelGrid { spacing_mm: [Some(2.0), Some(2.0), None], window_hu: [-200.0, 300.0] };
    let path = bench.student("s", 3, &three_groups(), Said { grid: input, ..Said::default() });
    let asked = params(json!({"grid": grid(), "window": {"size": [16, 48]}, "keep_parts": {"cancer": {"ml": 1e6}}}));
    let model = bench.path("model.safetensors");
    Student::export(&asked, &path, &model).unwrap();
    let opened = bench.open(&[&model]).unwrap();
    assert_eq!((opened.grid(), opened.classes()), (&grid(), &three_groups()));
    assert!(!opened.streams(), "small parts depend on all planes");
    let maps = bench.maps(&opened);
    assert!(maps.maps[1].bounds().is_none() && maps.maps[0].bounds().is_some());
    let expected = planes(&bench, &load(&asked, &path));
    let mut found = vec![Vec::new(); 3];
    maps.each_plane(false, |plane| {
        found.iter_mut().zip(plane.labels.maps).for_each(|(all, plane)| all.extend(plane));
        Ok::<_, ()>(())
    })
    .unwrap();
    assert_eq!(found, expected);
    let contradicting = params(json!({"grid": {"spacing_mm": [3, 3, 3], "window_hu": [-200, 300]}}));
    assert!(Student::export(&contradicting, &path, &model).is_err());
}
