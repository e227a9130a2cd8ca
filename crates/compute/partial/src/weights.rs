//! How much each class counts in the loss of DoDNet and of the methods that its paper compares it with.

use crate::annotation::Datasets;
use crate::class::Class;
use crate::model::Model;

/// What each class of each sample counts. DoDNet's authors have two channels, one for the organ and one for the tumor of a task. They
/// average each over the samples that have it annotated, and then the two. Groups of classes take the place of their channels here, so
/// that tumors count as much as organs do, however the classes are cut into tasks and whatever their number: the classes of a
/// group that a sample has annotated count alike, samples that have some of a group annotated count alike, and groups count alike.
/// All weights of a batch sum to 1.
pub(crate) struct Weights {
    /// For each dataset and group the outputs of a sample that are annotated.
    outputs: Vec<Vec<usize>>,
    /// For each group the samples of the batch that have some of it annotated.
    samples: Vec<usize>,
}

impl Weights {
    /// Those of a batch whose samples are of these datasets.
    pub(crate) fn of(model: &Model, datasets: &Datasets, batch: &[usize]) -> Self {
        let of_dataset = |dataset: usize| {
            let annotated = datasets.classes(dataset);
            let trained = model.trained_by(datasets, dataset);
            let classes = trained.iter().flat_map(|&head| &model.heads()[head].classes).filter(|class| annotated.contains(class));
            counts(model, classes.copied())
        };
        let outputs: Vec<Vec<usize>> = (0..datasets.len()).map(of_dataset).collect();
        let has = |group: usize| batch.iter().filter(|&&dataset| outputs[dataset][group] > 0).count();
        let samples = (0..model.classes().groups().len()).map(has).collect();
        Self { outputs, samples }
    }

    /// What a class counts that is annotated in a sample of a dataset.
    #[expect(clippy::cast_precision_loss, reason = "few groups, samples and classes")]
    pub(crate) fn weight(&self, dataset: usize, class: Class) -> f64 {
        let groups = self.samples.iter().filter(|&&samples| samples > 0).count();
        1.0 / (groups * self.samples[class.group()] * self.outputs[dataset][class.group()]) as f64
    }
}

/// The same for the classes of one output of one sample, of which some are annotated.
#[expect(clippy::cast_precision_loss, reason = "few groups and classes")]
pub(crate) fn of_answer(model: &Model, classes: &[Class], annotated: &[Class]) -> Vec<f64> {
    let counts = counts(model, classes.iter().copied().filter(|class| annotated.contains(class)));
    let groups = counts.iter().filter(|&&classes| classes > 0).count();
    let weight = |class: &Class| if annotated.contains(class) { 1.0 / (groups * counts[class.group()]) as f64 } else { 0.0 };
    classes.iter().map(weight).collect()
}

/// How many classes there are of each group.
fn counts(model: &Model, classes: impl Iterator<Item = Class>) -> Vec<usize> {
    let mut counts = vec![0; model.classes().groups().len()];
    classes.for_each(|class| counts[class.group()] += 1);
    counts
}
