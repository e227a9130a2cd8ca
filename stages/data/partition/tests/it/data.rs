//! Datasets of tiny scans, in folders that live as long as a test.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dataset::{Manifest, Split};
use partition::Partition;
use serde_json::{Value, json};
use stage_kit::{Entry, LeftOut, StageIo};
use volume::{Affine, Grid, ScalarVolume, Volume, nifti};

pub(crate) const FIVE: [u8; 5] = labels::flare23::FIVE_ORGANS;
pub(crate) const GRID: Grid =
    Grid { shape: [4, 2, 2], affine: Affine([[-0.8, 0.0, 0.0, 1.0], [0.0, 0.8, 0.0, 2.0], [0.0, 0.0, 2.5, 3.0], [0.0, 0.0, 0.0, 1.0]]) };

/// A folder with datasets. Files of the same contents are links to one.
pub(crate) struct Data {
    root: tempfile::TempDir,
    made: BTreeMap<Vec<u8>, PathBuf>,
}

impl Data {
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("made")).unwrap();
        Self { root, made: BTreeMap::new() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// The place of a file, in a folder that is there.
    fn place(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    pub(crate) fn image(&self, name: &str) {
        self.image_on(name, &GRID, 40.0);
    }

    pub(crate) fn image_on(&self, name: &str, grid: &Grid, hu: f32) {
        let kept = self.path(&format!("made/{grid:?} {hu}.nii"));
        if !kept.exists() {
            nifti::write_scalar_i16(&kept, &body(grid, hu)).unwrap();
        }
        std::fs::hard_link(kept, self.place(name)).unwrap();
    }

    /// A label map on a grid of its own.
    pub(crate) fn label_on(&self, name: &str, grid: &Grid, values: Vec<u8>) {
        nifti::write_labels_on(self.place(name), &Volume::from_x_fastest(grid, values).unwrap()).unwrap();
    }

    /// A label map that shows these values.
    pub(crate) fn label(&mut self, name: &str, labels: &[u8]) {
        let next = self.path(&format!("made/labels {}.nii", self.made.len()));
        let kept = self.made.entry(labels.to_vec()).or_insert(next).clone();
        if !kept.exists() {
            let mut values = labels.to_vec();
            values.resize(GRID.voxels(), 0);
            nifti::write_labels_on(&kept, &Volume::from_x_fastest(&GRID, values).unwrap()).unwrap();
        }
        std::fs::hard_link(kept, self.place(name)).unwrap();
    }

    pub(crate) fn text(&self, name: &str, text: &str) {
        std::fs::write(self.place(name), text).unwrap();
    }

    /// A case of nnU-Net's layout.
    pub(crate) fn nnunet(&mut self, dataset: &str, case: &str, labels: &[u8]) {
        self.image(&format!("{dataset}/imagesTr/{case}_0000.nii"));
        self.label(&format!("{dataset}/labelsTr/{case}.nii"), labels);
    }

    pub(crate) fn dataset_json(&self, dataset: &str, labels: &Value) {
        let text = json!({"channel_names": {"0": "CT"}, "labels": labels, "numTraining": 1, "file_ending": ".nii.gz"}).to_string();
        self.text(&format!("{dataset}/dataset.json"), &text);
    }

    /// Runs the stage; the inputs are the folders named like the datasets of the parameters.
    pub(crate) fn partition(&self, params: &Value) -> anyhow::Result<Done> {
        self.partition_with(params, 2023)
    }

    pub(crate) fn partition_with(&self, params: &Value, seed: u64) -> anyhow::Result<Done> {
        let names: Vec<&str> = params["datasets"].as_object().unwrap().keys().map(String::as_str).collect();
        self.partition_of(params, &names, seed)
    }

    pub(crate) fn partition_of(&self, params: &Value, inputs: &[&str], seed: u64) -> anyhow::Result<Done> {
        let output = tempfile::tempdir().unwrap();
        let inputs = inputs.iter().map(|name| (format!("datasets.{name}"), self.path(name)));
        let io = StageIo::new("partition", inputs, output.path().join("out"), output.path().join("work"), seed);
        let run = Entry::of::<Partition>().run(params.clone(), &io);
        // A stage that runs alone ends with an error if cases were left out, after it has done everything else.
        run.or_else(|error| if format!("{error:#}").contains("everything else is done") { Ok(()) } else { Err(error) })?;
        let manifest = Manifest::load(&io.output)?;
        Ok(Done { output, manifest })
    }

    pub(crate) fn error(&self, params: &Value) -> String {
        match self.partition(params) {
            Ok(_) => panic!("no error"),
            Err(error) => format!("{error:#}"),
        }
    }
}

/// A body of about `hu`, with air around it.
pub(crate) fn body(grid: &Grid, hu: f32) -> ScalarVolume {
    let values = (0..grid.voxels()).map(|i| if i == 0 { -1000.0 } else { hu + (i % 5) as f32 });
    Volume::from_x_fastest(grid, values.collect()).unwrap()
}

/// What a run wrote.
pub(crate) struct Done {
    output: tempfile::TempDir,
    pub(crate) manifest: Manifest,
}

impl Done {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.output.path().join("out").join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        let path = self.path(name);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    pub(crate) fn lines(&self, name: &str) -> Vec<String> {
        self.text(name).lines().map(str::to_owned).collect()
    }

    pub(crate) fn left_out(&self) -> Vec<LeftOut> {
        stage_kit::read_left_out(&self.path(""))
    }

    /// The cases that were left out, with what was found.
    pub(crate) fn findings(&self) -> Vec<(String, String)> {
        self.left_out().into_iter().map(|one| (one.case, one.found)).collect()
    }

    pub(crate) fn ids(&self) -> Vec<&str> {
        self.manifest.cases.iter().map(|case| case.id.as_str()).collect()
    }

    /// Case and subset.
    pub(crate) fn subsets(&self) -> Vec<(&str, &str)> {
        self.manifest.cases.iter().map(|case| (case.id.as_str(), case.subset.as_str())).collect()
    }

    pub(crate) fn case(&self, id: &str) -> &dataset::Case {
        self.manifest.cases.iter().find(|case| case.id == id).unwrap_or_else(|| panic!("no case {id}"))
    }

    /// What a case shows, by name.
    pub(crate) fn shown(&self, id: &str) -> String {
        self.manifest.classes.keys_of(self.case(id).pattern).join(" ")
    }

    /// What was looked for in a case, by name.
    pub(crate) fn annotated(&self, id: &str) -> String {
        self.manifest.classes.keys_of(self.case(id).annotated).join(" ")
    }

    pub(crate) fn validation(&self) -> Vec<&str> {
        self.manifest.cases.iter().filter(|case| case.split == Split::Validation).map(|case| case.id.as_str()).collect()
    }
}

/// Overwrites fields of parameters.
pub(crate) fn with(params: &Value, more: &Value) -> Value {
    let mut params = params.clone();
    params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    params
}

pub(crate) fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}
