//! Declared datasets at their places: which files belong to which case, and what values mean. No scan is opened, so files are empty.

use std::path::Path;

use dataset::{CaseFiles, DatasetConfig, Source};
use labels::Classes;
use serde_json::{Value, json};
use stage_kit::Aside;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new(files: &[&str]) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        files.iter().for_each(|file| folder.write(file, ""));
        folder
    }

    fn nnunet(labels: &Value, files: &[&str]) -> Self {
        let folder = Self::new(files);
        folder.write("dataset.json", &json!({"labels": labels}).to_string());
        folder
    }

    fn write(&self, file: &str, text: &str) {
        let path = self.0.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn open(&self, declaration: &Value) -> Result<(Opened, Vec<CaseFiles>, Aside), String> {
        let config: DatasetConfig = serde_json::from_value(declaration.clone()).map_err(|error| error.to_string())?;
        config.check("set", &classes()).map_err(|error| error.to_string())?;
        let source = Source::open("set", &config, self.0.path(), &classes()).map_err(|error| error.to_string())?;
        let (cases, aside) = source.cases().map_err(|error| error.to_string())?;
        Ok((Opened(classes().all().into_iter().map(|class| source.regions().of_class(class.value).to_string()).collect()), cases, aside))
    }

    fn cases(&self, declaration: &Value) -> (Vec<CaseFiles>, Aside) {
        let (_, cases, aside) = self.open(declaration).unwrap();
        (cases, aside)
    }

    /// The values of liver, spleen, left kidney, tumor.
    fn values(&self, declaration: &Value) -> Vec<String> {
        self.open(declaration).unwrap().0.0
    }

    fn error(&self, declaration: &Value) -> String {
        match self.open(declaration) {
            Ok(_) => panic!("{declaration} is taken"),
            Err(error) => error,
        }
    }
}

struct Opened(Vec<String>);

fn classes() -> Classes {
    let groups = json!([
        {"group": "organ", "classes": {"liver": 1, "spleen": 2, "left_kidney": 3}},
        {"group": "cancer", "classes": {"tumor": 14}},
    ]);
    serde_json::from_value(groups).unwrap()
}

fn names(cases: &[CaseFiles]) -> Vec<&str> {
    cases.iter().map(|case| case.case.as_str()).collect()
}

/// Image and label map of each case.
fn files(cases: &[CaseFiles]) -> Vec<(&str, Option<&str>)> {
    cases.iter().map(|case| (case.image.to_str().unwrap(), case.label.as_deref().and_then(Path::to_str))).collect()
}

/// Case and finding.
fn left_out(aside: &Aside) -> Vec<(&str, &str)> {
    aside.left_out.iter().map(|one| (one.case.as_str(), one.found.as_str())).collect()
}

fn pattern(pattern: &Value) -> Value {
    json!({"layout": {"pattern": pattern}})
}

fn nnunet() -> Value {
    json!({"layout": "nnunet"})
}

fn liver() -> Value {
    json!({"background": 0, "liver": 1})
}

mod nnunet {
    use super::*;

    #[test]
    fn images_and_label_maps_are_found_by_case() {
        let folder = Folder::nnunet(&liver(), &["imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz", "imagesTr/b_0000.nii", "labelsTr/b.nii"]);
        let (cases, aside) = folder.cases(&nnunet());
        assert_eq!(files(&cases), [("imagesTr/a_0000.nii.gz", Some("labelsTr/a.nii.gz")), ("imagesTr/b_0000.nii", Some("labelsTr/b.nii"))]);
        assert_eq!(aside, Aside::default());
    }

    #[test]
    fn an_image_without_a_label_map_is_unlabelled_only_if_the_layout_says_so() {
        let names_of =
            ["imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz", "imagesTr/b_0000.nii.gz", "imagesTs/c_0000.nii.gz", "labelsTs/c.nii.gz"];
        let folder = Folder::nnunet(&liver(), &names_of);
        let (cases, aside) = folder.cases(&nnunet());
        assert_eq!(names(&cases), ["a"]);
        assert_eq!(left_out(&aside), [("b", "an image without a label map")]);
        assert_eq!(aside.left_out[0].expected, "labelsTr/b.nii.gz");
        assert!(aside.left_out[0].remedy.contains("{nnunet: {unlabeled: true}}"));
        let (cases, aside) = folder.cases(&json!({"layout": {"nnunet": {"unlabeled": true}}}));
        assert_eq!(names(&cases), ["a", "b", "c"]);
        assert_eq!(cases[2].label, None, "label maps of the test are not for training");
        assert_eq!(left_out(&aside), []);
    }

    #[test]
    fn a_label_map_of_another_name_does_not_make_its_case_an_unlabelled_one() {
        let names_of = ["imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz", "imagesTr/b_0000.nii.gz", "labelsTr/B.nii.gz"];
        let (cases, aside) = Folder::nnunet(&liver(), &names_of).cases(&json!({"layout": {"nnunet": {"unlabeled": true}}}));
        assert_eq!(names(&cases), ["a"]);
        assert_eq!(left_out(&aside), [("b", "a label map without an image")]);
    }

    #[test]
    fn a_dataset_without_labels_is_unlabelled() {
        let folder = Folder::nnunet(&json!({"background": 0}), &["imagesTr/a_0000.nii.gz"]);
        let (cases, _) = folder.cases(&nnunet());
        assert_eq!(files(&cases), [("imagesTr/a_0000.nii.gz", None)]);
        assert_eq!(folder.values(&nnunet()), ["{}", "{}", "{}", "{}"]);
        let forgotten = Folder::nnunet(&liver(), &["imagesTr/a_0000.nii.gz"]);
        let error = forgotten.error(&nnunet());
        assert!(error.contains("dataset.json declares labels, and there is no folder") && error.contains("labelsTr"), "{error}");
        assert_eq!(names(&forgotten.cases(&json!({"layout": {"nnunet": {"unlabeled": true}}})).0), ["a"]);
    }

    #[test]
    fn files_may_be_listed_one_by_one_wherever_they_lie() {
        let folder =
            Folder::new(&["set/dataset.json", "scans/p1/ct.nii.gz", "scans/p1/seg.nii.gz", "scans/p2/ct.nii.gz", "scans/p3/ct.nii.gz"]);
        let files_of = json!({
            "p1": {"images": ["../scans/p1/ct.nii.gz"], "label": "../scans/p1/seg.nii.gz"},
            "p2": {"images": ["../scans/p2/ct.nii.gz"], "label": "../scans/p2/seg.nii.gz"},
            "p3": {"images": ["../scans/p3/ct.nii.gz"]},
            "p4": {"images": ["../scans/p3/ct.nii.gz", "../scans/p3/pet.nii.gz"]},
        });
        folder.write("set/dataset.json", &json!({"labels": liver(), "file_ending": ".nii.gz", "dataset": files_of}).to_string());
        let config: DatasetConfig = serde_json::from_value(nnunet()).unwrap();
        let (cases, aside) = Source::open("set", &config, &folder.0.path().join("set"), &classes()).unwrap().cases().unwrap();
        assert_eq!(files(&cases), [("../scans/p1/ct.nii.gz", Some("../scans/p1/seg.nii.gz"))]);
        let found = left_out(&aside);
        let expected = [
            ("p2", "dataset.json lists it, and it is not there"),
            ("p3", "an image without a label map"),
            ("p4", "dataset.json lists it, and it is not there"),
            ("p4", "2 images"),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn the_layout_of_the_decathlon_needs_no_channels_and_lists_its_cases() {
        let names_of = [
            "imagesTr/liver_1.nii.gz",
            "labelsTr/liver_1.nii.gz",
            "imagesTr/._liver_1.nii.gz",
            "imagesTr/liver_2.nii.gz",
            "labelsTr/liver_2.nii.gz",
        ];
        let folder = Folder::nnunet(&json!({"0": "background", "1": "liver", "2": "Left-Kidney"}), &names_of);
        let (cases, aside) = folder.cases(&nnunet());
        assert_eq!(files(&cases)[0], ("imagesTr/liver_1.nii.gz", Some("labelsTr/liver_1.nii.gz")));
        assert_eq!((cases.len(), aside.left_out.len()), (2, 0));
        assert_eq!(folder.values(&nnunet()), ["{1}", "{}", "{2}", "{}"]);
        let entry = |case: &str| json!({"image": format!("./imagesTr/{case}.nii.gz"), "label": format!("./labelsTr/{case}.nii.gz")});
        let list = |cases: &[&str]| {
            let training: Vec<Value> = cases.iter().map(|case| entry(case)).collect();
            folder.write(
                "dataset.json",
                &json!({"labels": {"0": "background", "1": "liver"}, "modality": {"0": "CT"}, "training": training}).to_string(),
            );
        };
        list(&["liver_1", "liver_2"]);
        assert_eq!(folder.cases(&nnunet()).0, cases);
        list(&["liver_1", "liver_3"]);
        let (cases, aside) = folder.cases(&nnunet());
        assert_eq!(names(&cases), ["liver_1"]);
        assert_eq!(left_out(&aside), [("liver_2", "an image that is not on the list"), ("liver_3", "a case without an image")]);
    }

    #[test]
    fn the_first_nnunet_lists_images_without_the_number_of_their_channel() {
        let folder = Folder::new(&["imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz"]);
        let training = json!([{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}]);
        folder.write("dataset.json", &json!({"labels": {"0": "background", "1": "liver"}, "training": training}).to_string());
        assert_eq!(files(&folder.cases(&nnunet()).0), [("imagesTr/a_0000.nii.gz", Some("labelsTr/a.nii.gz"))]);
    }

    #[test]
    fn further_channels_are_passed_over_if_they_are_declared() {
        let folder = Folder::nnunet(&liver(), &["imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz", "labelsTr/a.nii.gz"]);
        let (_, aside) = folder.cases(&nnunet());
        assert_eq!(left_out(&aside), [("a", "the name a_0001.nii.gz")]);
        folder.write("dataset.json", &json!({"labels": liver(), "channel_names": {"0": "CT", "1": "PET"}}).to_string());
        let (cases, aside) = folder.cases(&nnunet());
        assert_eq!((names(&cases), aside.left_out.len(), aside.passed_over.len()), (vec!["a"], 0, 1));
    }

    #[test]
    fn what_is_no_list_is_named_with_what_to_do() {
        let folder = Folder::new(&["imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz"]);
        let error = folder.error(&nnunet());
        assert!(
            error.contains("dataset set: ") && error.contains("dataset.json: cannot read it") && error.contains("`folders` or `pattern`"),
            "{error}"
        );
        for (list, expected) in [
            (json!([]), "write it as nnU-Net's documentation says"),
            (json!({"labels": {"liver": 300}}), "labels: `liver` has the value 300, expected a number from 0 to 255"),
            (json!({"labels": {"liver": [0, 1]}}), "a label has at least one value and not that of background"),
            (json!({"labels": {"one": "liver"}}), "labels: `one` leads to `liver`, and one of the two must be a number"),
            (json!({"labels": {"1": "liver", "2": "liver"}}), "`liver` stands there twice"),
            (json!({"labels": liver(), "file_ending": ".png"}), "file_ending is .png; files .nii.gz, .nii, .nrrd and .mha are read"),
            (json!({"labels": liver(), "dataset": {"a": {"label": "a.nii.gz"}}}), "missing field `images`"),
            (json!({"labels": liver(), "training": ["a.nii.gz"]}), "has no `image`"),
            (
                json!({"labels": liver(), "training": [{"image": "elsewhere/a.nii.gz", "label": "labelsTr/a.nii.gz"}]}),
                "does not lie in imagesTr",
            ),
            (json!({"labels": liver(), "training": [{"image": "imagesTr/a.nii.gz", "label": "labelsTr/b.nii.gz"}]}), "are not of one case"),
        ] {
            folder.write("dataset.json", &list.to_string());
            let error = folder.error(&nnunet());
            assert!(error.contains(expected), "{list}: {error}; expected {expected}");
        }
    }
}

mod values {
    use super::*;

    fn folder(labels: &Value) -> Folder {
        Folder::nnunet(labels, &["imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz"])
    }

    #[test]
    fn classes_are_known_by_their_names_whatever_capitals_and_hyphens() {
        let folder = folder(&json!({"background": 0, "Liver": 7, "left kidney": 5, "SPLEEN": 255, "Tumor": [3, 4]}));
        assert_eq!(folder.values(&nnunet()), ["{7}", "{255}", "{5}", "{3,4}"]);
    }

    #[test]
    fn the_declaration_comes_before_the_names() {
        let folder = folder(&json!({"background": 0, "liver": 1, "kidney_left": 2, "lesion": 3, "spleen": 4}));
        let declared = json!({"layout": "nnunet", "values": {"left_kidney": "kidney_left", "tumor": 3}, "ignore": "spleen"});
        assert_eq!(folder.values(&declared), ["{1}", "{}", "{2}", "{3}"]);
        let twice = json!({"layout": "nnunet", "values": {"left_kidney": "kidney_left", "tumor": [3, "liver"]}, "ignore": 4});
        assert_eq!(folder.values(&twice), ["{}", "{}", "{2}", "{1,3}"], "the label liver is a tumor here");
    }

    #[test]
    fn an_organ_may_contain_its_tumor() {
        let folder = folder(&json!({"background": 0, "left_kidney": [1, 2, 3], "tumor": 2, "cyst": 3}));
        assert_eq!(folder.values(&json!({"layout": "nnunet", "ignore": "cyst"})), ["{}", "{}", "{1,2,3}", "{2}"]);
        let error = folder.error(&nnunet());
        assert!(error.contains("labels that are no class of the pipeline: cyst 3;"), "{error}");
    }

    #[test]
    fn a_label_that_nobody_speaks_of_is_an_error_with_the_class_that_may_be_meant() {
        let folder = folder(&json!({"background": 0, "liver": 1, "kidney_left": 2, "spleeen": 3, "aorta": 4, "ignore": 5}));
        let error = folder.error(&nnunet());
        for part in [
            "kidney_left 2 (did you mean left_kidney?)",
            "spleeen 3 (did you mean spleen?)",
            "aorta 4,",
            "nnU-Net's `ignore` marks voxels that nobody annotated",
        ] {
            assert!(error.contains(part), "{error}; expected {part}");
        }
    }

    #[test]
    fn what_contradicts_the_list_is_an_error_that_names_both() {
        let folder = folder(&json!({"background": 0, "liver": 1, "lesions": 2}));
        for (values, ignore, expected) in [
            (
                json!({"tumor": 3}),
                json!([]),
                "values: tumor: the value 3 is declared here, and dataset.json has no label of that value; its labels are liver 1, lesions 2",
            ),
            (json!({"tumor": "lesion"}), json!([]), "values: tumor: dataset.json has no label `lesion`, did you mean `lesions`?"),
            (json!({}), json!(["lesion"]), "ignore: dataset.json has no label `lesion`, did you mean `lesions`?"),
            (json!({"tumor": 2, "liver": [1, 2]}), json!([1]), "the value 1 is one of `liver` and is ignored too"),
        ] {
            let error = folder.error(&json!({"layout": "nnunet", "values": values, "ignore": ignore}));
            assert!(error.contains(expected), "{error}; expected {expected}");
        }
        let twice = super::values::folder(&json!({"background": 0, "liver": 1, "Liver": 2}));
        assert!(
            twice.error(&nnunet()).contains("the labels `liver` and `Liver`, which are both the class `liver`"),
            "{}",
            twice.error(&nnunet())
        );
        let shared = super::values::folder(&json!({"background": 0, "liver": [1, 2], "spleen": 2}));
        assert!(shared.error(&nnunet()).contains("the value 2 is one of `liver` and of `spleen`"), "{}", shared.error(&nnunet()));
    }
}

mod patterns {
    use super::*;

    #[test]
    fn files_are_found_where_the_pattern_says() {
        let names_of =
            ["x/ct/a.nii.gz", "x/ct/b.nii.gz", "x/seg/a-label.nii.gz", "x/seg/b-label.nii.gz", "x/notes/c.nii.gz", "other.nii.gz"];
        let (cases, aside) =
            Folder::new(&names_of).cases(&pattern(&json!({"images": "*/ct/{case}.nii.gz", "labels": "*/seg/{case}-label.nii.gz"})));
        assert_eq!(files(&cases), [("x/ct/a.nii.gz", Some("x/seg/a-label.nii.gz")), ("x/ct/b.nii.gz", Some("x/seg/b-label.nii.gz"))]);
        assert_eq!(aside, Aside::default(), "folders that no pattern names have no part");
    }

    #[test]
    fn a_case_may_have_a_folder_of_its_own_and_of_its_patient() {
        let own =
            Folder::new(&["case_1/imaging.nii.gz", "case_1/segmentation.nii.gz", "case_2/imaging.nii.gz", "case_2/segmentation.nii.gz"]);
        let (cases, _) = own.cases(&pattern(&json!({"images": "{case}/imaging.nii.gz", "labels": "{case}/segmentation.nii.gz"})));
        assert_eq!(names(&cases), ["case_1", "case_2"]);
        let of_patient = Folder::new(&["p/1.nii", "p/2.nii", "q/1.nii"]);
        let (cases, _) = of_patient.cases(&pattern(&json!({"images": "{patient}/{case}.nii"})));
        assert_eq!(names(&cases), ["p_1", "p_2", "q_1"]);
        assert_eq!(cases.iter().map(|case| case.patient.as_deref().unwrap()).collect::<Vec<_>>(), ["p", "p", "q"]);
        let (cases, aside) = of_patient.cases(&pattern(&json!({"images": "*/{case}.nii"})));
        assert_eq!(names(&cases), ["2"]);
        assert_eq!(left_out(&aside), [("1", "2 files: p/1.nii, q/1.nii")]);
    }

    #[test]
    fn of_two_patterns_that_fit_the_one_that_says_more_is_meant() {
        let folder = Folder::new(&["a.nii.gz", "a_seg.nii.gz", "a_pet.nii.gz", "b_0.nii.gz", "b_0_seg.nii.gz", "readme.txt", "._a.nii.gz"]);
        let declared = pattern(&json!({"images": "{case}.nii.gz", "labels": "{case}_seg.nii.gz", "others": ["{case}_pet.nii.gz"]}));
        let (cases, aside) = folder.cases(&declared);
        assert_eq!(files(&cases), [("a.nii.gz", Some("a_seg.nii.gz")), ("b_0.nii.gz", Some("b_0_seg.nii.gz"))]);
        assert_eq!((aside.left_out.len(), aside.passed_over.len()), (0, 3));
    }

    #[test]
    fn everything_else_where_input_is_expected_is_left_out_by_name() {
        let names_of =
            ["ct/a.nii.gz", "seg/a.nii.gz", "ct/b.nii.gz", "seg/B.nii.gz", "ct/c.nrrd", "ct/d.nii.gz", "seg/e.nii.gz", "ct/f.nii.gz/f.nii"];
        let folder = Folder::new(&names_of);
        std::os::unix::fs::symlink("/nowhere", folder.0.path().join("ct/g.nii.gz")).unwrap();
        let (cases, aside) = folder.cases(&pattern(&json!({"images": "ct/{case}.nii.gz", "labels": "seg/{case}.nii.gz"})));
        assert_eq!(names(&cases), ["a"]);
        let found = left_out(&aside);
        let expected = [
            ("b", "a label map without an image"),
            ("c", "a name that no pattern has"),
            ("d", "an image without a label map"),
            ("e", "a label map without an image"),
            ("f", "a directory"),
            ("g", "a link that leads nowhere"),
        ];
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        assert!(found.iter().zip(expected).all(|(found, expected)| found.0 == expected.0 && found.1.starts_with(expected.1)), "{found:#?}");
        assert_eq!(aside.left_out[2].expected, "seg/d.nii.gz");
    }

    #[test]
    fn a_name_that_can_be_read_in_several_ways_is_left_out() {
        let (cases, aside) = Folder::new(&["a_b.nii", "a_b_c.nii"]).cases(&pattern(&json!({"images": "*_{case}.nii"})));
        assert_eq!(names(&cases), ["b"]);
        assert_eq!(left_out(&aside), [("a_b_c", "a name that can be read in several ways")]);
    }

    #[test]
    fn a_pattern_that_no_file_has_is_an_error_with_what_there_is() {
        let error = Folder::new(&["ct/a.nii", "ct/b.nii"]).error(&pattern(&json!({"images": "ct/{case}.nii.gz"})));
        assert!(error.contains("holds no files ct/{case}.nii.gz, but 2 others"), "{error}");
    }
}

mod sides {
    use super::*;

    fn both() -> Classes {
        let groups = json!([
            {"group": "organ", "classes": {"left_kidney": 1, "right_kidney": 2}},
            {"group": "cancer", "classes": {"tumor": 14}},
        ]);
        serde_json::from_value(groups).unwrap()
    }

    fn check(values: &Value) -> Result<(), String> {
        let layout = json!({"folders": {"images": ["images"], "labels": "labels"}});
        let config: DatasetConfig =
            serde_json::from_value(json!({"layout": layout, "values": values})).map_err(|error| error.to_string())?;
        assert_eq!(serde_json::to_value(&config).unwrap()["values"]["tumor"], json!([2]), "what is written is what was read");
        config.check("set", &both()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_left_part_of_a_label_gets_a_value_that_nothing_else_has() {
        let folder = Folder::new(&["images/a_0000.nii.gz", "labels/a.nii.gz"]);
        let config: DatasetConfig = serde_json::from_value(json!({
            "layout": {"folders": {"images": ["images"], "labels": "labels"}},
            "values": {"left_kidney": {"left": [1, 2]}, "right_kidney": {"right": [1, 2]}, "tumor": 2},
            "ignore": 255,
        }))
        .unwrap();
        let source = Source::open("set", &config, folder.0.path(), &both()).unwrap();
        let regions = source.regions();
        assert_eq!(serde_json::to_value(regions.sides()).unwrap(), json!([{"1": 254, "2": 253}]));
        assert_eq!(["{253,254}", "{1,2}"], [1, 2].map(|class| regions.of_class(class).to_string()).each_ref().map(String::as_str));
        assert_eq!(regions.of_class(14).to_string(), "{2,253}", "the tumor may lie on either side");
    }

    #[test]
    fn a_side_without_the_other_is_refused() {
        check(&json!({"left_kidney": {"left": 1}, "right_kidney": {"right": 1}, "tumor": [2]})).unwrap();
        let refused = [
            (
                json!({"left_kidney": {"left": 1}, "tumor": [2]}),
                "the left part of the value 1 is given to a class, and the right part to none",
            ),
            (json!({"left_kidney": {"left": 1}, "right_kidney": 1, "tumor": [2]}), "the left part of the value 1"),
            (json!({"left_kidney": {"upper": 1}, "tumor": [2]}), "unknown field `upper`"),
            (json!({"left_kidney": {"left": 1, "right": 1}, "tumor": [2]}), "expected one of `{left: …}` and `{right: …}`"),
            (json!({"left_kidney": {"left": {"left": 1}}, "tumor": [2]}), "a side of a side"),
        ];
        for (values, message) in refused {
            let error = check(&values).unwrap_err();
            assert!(error.contains(message), "{values}: {error}");
        }
    }
}
