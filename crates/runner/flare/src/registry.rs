//! All stages, in the order of the method.

use stage_kit::Entry;

/// Every stage that a pipeline file may name.
pub(crate) const STAGES: &[Entry] = &[
    Entry::of::<phantom::Phantom>(),
    Entry::of::<convert::Convert>(),
    Entry::of::<merge_masks::MergeMasks>(),
    Entry::of::<partition::Partition>(),
    Entry::of::<preprocess::Preprocess>(),
    Entry::of::<pretrain_encoder::PretrainEncoder>(),
    Entry::of::<train_teacher::TrainTeacher>(),
    Entry::of::<pseudo_label::PseudoLabel>(),
    Entry::of::<train_student::TrainStudent>(),
    Entry::of::<segment::Segment>(),
    Entry::of::<overlay::Overlay>(),
    Entry::of::<resample_back::ResampleBack>(),
    Entry::of::<evaluate::Evaluate>(),
    Entry::of::<profile_teacher::ProfileTeacher>(),
    Entry::of::<tabulate_teachers::CompareTeachers>(),
    Entry::of::<import::Import>(),
    Entry::of::<export::Export>(),
    Entry::of::<predict::Predict>(),
    Entry::of::<submission::Submission>(),
    Entry::of::<measure::Measure>(),
    Entry::of::<train_partial::TrainPartial>(),
    Entry::of::<compare::Compare>(),
];

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use pipeline::{Overrides, Pipeline};
    use serde_json::{Value, json};

    use super::STAGES;

    fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..")
    }

    #[test]
    fn every_pipeline_file_of_the_project_is_sound() {
        let pipelines = std::fs::read_dir(root().join("pipelines")).unwrap().map(|entry| entry.unwrap().path());
        let yaml = pipelines.filter(|path| path.extension().is_some_and(|extension| extension == "yaml"));
        let loaded: Vec<_> =
            yaml.chain([root().join("pipeline.yaml")]).map(|path| Pipeline::load(&path, &Overrides::default(), STAGES)).collect();
        assert!(loaded.len() >= 2, "pipeline.yaml and at least the demonstration");
        let errors: Vec<String> = loaded.into_iter().filter_map(|loaded| Some(loaded.err()?.to_string())).collect();
        assert!(errors.is_empty(), "{}", errors.join("\n"));
    }

    #[test]
    fn the_method_looks_for_the_classes_of_the_challenge() {
        let pipeline =
            Pipeline::load(&root().join("pipeline.yaml"), &Overrides::default(), STAGES).unwrap_or_else(|error| panic!("{error}"));
        let expected = serde_json::to_value(labels::flare23::classes()).unwrap();
        let given: Vec<_> =
            pipeline.nodes.iter().filter_map(|node| node.params.get("classes").filter(|classes| !classes.is_null())).collect();
        assert!(!given.is_empty() && given.iter().all(|classes| **classes == expected), "{given:?}");
    }

    #[test]
    fn the_page_about_the_stages_is_what_the_stages_say() {
        let page = std::fs::read_to_string(root().join("stages/README.md")).unwrap_or_default();
        assert!(
            page == pipeline::stage_table("flare", STAGES),
            "write it anew: cargo run -p flare -- stages --markdown > stages/README.md"
        );
    }

    #[test]
    fn the_schema_for_editors_is_what_the_stages_say() {
        let file = std::fs::read_to_string(root().join("pipelines/schema.json")).unwrap_or_default();
        let stale = "write it anew: cargo run -p flare -- schema > pipelines/schema.json";
        assert!(file == pipeline::schema_text("flare", STAGES), "{stale}");
    }

    /// The nodes and data that a value refers to.
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::String(text) => found.push(text.split('/').next().unwrap_or_default().to_owned()),
            Value::Object(map) => map.values().for_each(|value| references(value, found)),
            _ => {}
        }
    }

    #[test]
    fn the_example_of_every_stage_is_a_node_that_works() {
        let folder = tempfile::tempdir().unwrap();
        let mut sound = Vec::new();
        for stage in STAGES {
            let nodes: Value = serde_yaml::from_str(stage.example).unwrap_or_else(|error| panic!("{}: {error}", stage.name));
            let (name, node) = nodes.as_object().and_then(|nodes| nodes.iter().next()).unwrap();
            assert_eq!(node["stage"], stage.name, "{name}");
            let mut known = Vec::new();
            references(&node["inputs"], &mut known);
            // A file from outside stands for every node that the example reads.
            let mut whole = json!({"seed": 1, "classes": labels::flare23::classes(), "data": {}, "nodes": nodes});
            for reference in &known {
                match reference.strip_prefix("data.") {
                    Some(data) => whole["data"][data] = json!("somewhere"),
                    None => {
                        whole["nodes"][reference] =
                            json!({"stage": "resample-back", "inputs": {"labels": "data.any", "images": "data.any"}});
                    }
                }
            }
            whole["data"]["any"] = json!("somewhere");
            let path = folder.path().join(format!("{}.yaml", stage.name));
            std::fs::write(&path, serde_yaml::to_string(&whole).unwrap()).unwrap();
            match Pipeline::load(&path, &Overrides::default(), STAGES) {
                Ok(_) => sound.push(stage.name),
                Err(error) => panic!("{}: {error}", stage.name),
            }
        }
        assert_eq!(sound.len(), STAGES.len());
    }

    #[test]
    fn no_two_stages_have_one_name() {
        let mut names: Vec<&str> = STAGES.iter().map(|stage| stage.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), STAGES.len());
    }
}
