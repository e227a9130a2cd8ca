//! All stages, in the order of the method.

use stage_kit::Entry;

/// Every stage that a pipeline file may name.
pub(crate) const STAGES: &[Entry] = &[
    Entry::of::<phantom::Phantom>(),
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
    Entry::of::<compare_teachers::CompareTeachers>(),
    Entry::of::<export::Export>(),
    Entry::of::<predict::Predict>(),
    Entry::of::<submission::Submission>(),
    Entry::of::<measure::Measure>(),
    Entry::of::<train_partial::TrainPartial>(),
    Entry::of::<label_partial::LabelPartial>(),
    Entry::of::<compare::Compare>(),
];

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use pipeline::{Overrides, Pipeline};

    use super::STAGES;

    fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
    }

    #[test]
    fn every_pipeline_file_of_the_project_is_sound() {
        let pipelines = std::fs::read_dir(root().join("pipelines")).unwrap().map(|entry| entry.unwrap().path());
        let yaml = pipelines.filter(|path| path.extension().is_some_and(|extension| extension == "yaml"));
        let mut n_files = 0;
        for path in yaml.chain([root().join("pipeline.yaml")]) {
            if let Err(error) = Pipeline::load(&path, &Overrides::default(), STAGES) {
                panic!("{error}");
            }
            n_files += 1;
        }
        assert!(n_files >= 2, "pipeline.yaml and at least the demonstration");
    }

    #[test]
    fn the_page_about_the_stages_is_what_the_stages_say() {
        let page = std::fs::read_to_string(root().join("stages/README.md")).unwrap_or_default();
        assert!(page == pipeline::stage_table("flare", STAGES), "write it anew: cargo run -p flare -- stages > stages/README.md");
    }

    #[test]
    fn the_schema_for_editors_is_what_the_stages_say() {
        let file = std::fs::read_to_string(root().join("pipelines/schema.json")).unwrap_or_default();
        let stale = "write it anew: cargo run -p flare -- schema > pipelines/schema.json";
        assert!(file == pipeline::schema_text("flare", STAGES), "{stale}");
    }

    #[test]
    fn no_two_stages_have_one_name() {
        let mut names: Vec<&str> = STAGES.iter().map(|stage| stage.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), STAGES.len());
    }
}
