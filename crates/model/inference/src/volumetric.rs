//! Trained 3-D networks, ready for scans: one or several together.

use std::path::Path;

use candle_core::{Device, Result, Tensor};
use labels::Classes;
use model_card::{Answer, KeepParts, KeptParts, Kind, ModelCard, Output};
use ndarray::{Array3, ShapeBuilder as _};
use nets::{Network as _, Params, Precision, Teacher, TeacherConfig, Trained};
use random::Streams;
use volume::{Box3, Scaling, Scan};

use crate::error::ModelError;
use crate::graphs::TrainedGraph;
use crate::image::{Image, ShownScan};
use crate::maps::LabelMaps;
use crate::mirrors::{Mirrors, mirrored};
use crate::slab::Wanted;
use crate::together::{output_of, scaled};
use crate::view::{View, ViewParams};
use crate::window::{SlidingWindow, segment};

/// A network that is shown windows of a volume.
pub trait VolumeNetwork: Send + Sync {
    /// What it finds: one group each.
    fn outputs(&self) -> &[Output];

    /// For each output, scores `(channels, d, h, w)` of a patch `(1, 1, d, h, w)`, the greatest of which names the class.
    ///
    /// # Errors
    /// When memory runs out.
    fn logits(&self, patch: &Tensor) -> Result<Vec<Tensor>>;

    /// The same as probabilities, whose mean is taken over models and mirror images: the softmax of the scores, unless a network knows
    /// better.
    ///
    /// # Errors
    /// As [`VolumeNetwork::logits`].
    fn probabilities(&self, patch: &Tensor) -> Result<Vec<Tensor>> {
        self.logits(patch)?.iter().map(|logits| candle_nn::ops::softmax(logits, 0)).collect()
    }
}

/// How a 3-D model is used, as far as a pipeline file says it. What it leaves out, the model says of itself; what contradicts the
/// model is refused.
#[derive(Clone, Debug, Default)]
pub struct VolumeParams {
    /// Kind and size of a teacher; needed for weights that do not say it.
    pub network: Option<TeacherConfig>,
    /// The classes, which may be more than the model finds; needed for weights that do not say them, and then of one group.
    pub classes: Option<Classes>,
    /// How scans are shown to it.
    pub view: ViewParams,
    /// The numbers that it computes with on a CPU.
    pub precision: Precision,
}

/// Another look at a volume than that which makes labels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Look {
    /// How windows are laid.
    pub window: SlidingWindow,
    /// What the network is shown is multiplied by this, as in the augmentation of training.
    pub scale: f64,
    /// What is added to it.
    pub shift: f64,
}

/// One trained 3-D model, or several whose mean counts.
pub struct Volumetric {
    members: Vec<Member>,
    classes: Classes,
    outputs: Vec<Output>,
    view: View,
    mirrors: Mirrors,
    kept: KeptParts,
    device: Device,
}

struct Member {
    network: Box<dyn VolumeNetwork>,
    scaling: Scaling,
}

impl Volumetric {
    /// The teacher behind weights that `train-teacher` has written, or others of which the parameters say enough.
    ///
    /// # Errors
    /// When the file is missing or damaged, is of another kind of model, says too little, or contradicts the parameters.
    pub fn load(params: &VolumeParams, weights: &Path, device: &Device) -> std::result::Result<Self, ModelError> {
        let (teacher, answer, view) = TrainedTeacher::load(params, weights, device)?;
        let model = Self::new(Box::new(teacher), answer.classes, answer.scaling, view, device);
        model.keeping(&answer.keep_parts)
    }

    /// A model of a network of any kind, which finds these classes and was trained on windowed intensities in this scaling.
    #[must_use]
    pub fn new(network: Box<dyn VolumeNetwork>, classes: Classes, scaling: Scaling, view: View, device: &Device) -> Self {
        let outputs = network.outputs().to_vec();
        let (members, mirrors, kept) = (vec![Member { network, scaling }], Mirrors::none(), KeptParts::default());
        Self { members, classes, outputs, view, mirrors, kept, device: device.clone() }
    }

    /// A model of a network of any kind, of which all else stands on its card.
    ///
    /// # Errors
    /// When the card keeps parts of what it does not find.
    pub fn of_card(network: Box<dyn VolumeNetwork>, card: ModelCard, view: View, device: &Device) -> std::result::Result<Self, ModelError> {
        Self::new(network, card.classes, card.input.scaling, view, device).keeping(&card.keep_parts)
    }

    /// A graph from another program, of which its card and the parameters say the rest.
    ///
    /// # Errors
    /// As [`TrainedGraph::load`], and when the parameters contradict the card.
    pub fn of_graph(params: &ViewParams, card: ModelCard, path: &Path, device: &Device) -> std::result::Result<Self, ModelError> {
        let view = params.of(&card, path)?;
        let graph = TrainedGraph::load(&card, &view.window, path, device)?;
        Self::of_card(Box::new(graph), card, view, device)
    }

    /// With the connected parts of what it finds removed that are not to be kept.
    fn keeping(self, keep_parts: &KeepParts) -> std::result::Result<Self, ModelError> {
        Ok(Self { kept: keep_parts.of(&self.classes)?, ..self })
    }

    /// Which connected parts of what it finds are kept; whoever calls [`Volumetric::segment`] removes the others.
    #[must_use]
    pub fn kept(&self) -> &KeptParts {
        &self.kept
    }

    /// With `flips`, takes the mean over a window and its seven mirror images, in those from left to right with left and right classes
    /// exchanged.
    ///
    /// # Errors
    /// When it finds a class of one side without that of the other.
    pub fn with_flips(self, flips: bool) -> std::result::Result<Self, ModelError> {
        let mirrors = if flips { Mirrors::all(3, &self.outputs, &self.classes).map_err(ModelError::Flips)? } else { Mirrors::none() };
        Ok(Self { mirrors, ..self })
    }

    /// Takes other models along, of which the mean counts then. `path` names them in messages.
    ///
    /// # Errors
    /// When they are shown scans otherwise.
    pub(crate) fn join(&mut self, other: Self, first: &Path, path: &Path) -> std::result::Result<(), ModelError> {
        let mut found = self.view.differences(&other.view);
        found.add("keep_parts", &self.kept, &other.kept);
        if !found.0.is_empty() {
            return Err(ModelError::Disagreement { first: first.into(), path: path.into(), found: found.0 });
        }
        self.members.extend(other.members);
        Ok(())
    }

    /// The classes that it finds.
    #[must_use]
    pub fn classes(&self) -> &Classes {
        &self.classes
    }

    /// What its label maps stand for, in their order.
    #[must_use]
    pub fn outputs(&self) -> &[Output] {
        &self.outputs
    }

    /// How scans are shown to it.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.view
    }

    /// The place of the output that tells all classes of a group apart. `path` names the model in messages.
    ///
    /// # Errors
    /// [`CardError::Classes`](model_card::CardError::Classes).
    pub fn output_of(&self, group: usize, classes: &Classes, path: &Path) -> std::result::Result<usize, ModelError> {
        output_of(&self.outputs, &self.classes, group, classes, path)
    }

    /// Bytes of the scores that are held while a volume of `shape` is labelled, with `weighed` the weights beside them.
    #[must_use]
    pub fn held_bytes(&self, shape: [usize; 3], weighed: bool) -> usize {
        self.outputs.iter().map(|output| self.view.window.held_bytes(shape, output.channels(), weighed)).sum()
    }

    /// The labels of an image for each output, in output values, with all their parts.
    ///
    /// # Errors
    /// Those of the network.
    pub fn segment(&self, image: &impl Image) -> Result<Vec<Array3<u8>>> {
        self.segment_skipping(image, false)
    }

    /// The same; with `skip_air`, windows without anything above the window's lower end are background.
    fn segment_skipping(&self, image: &impl Image, skip_air: bool) -> Result<Vec<Array3<u8>>> {
        let values: Vec<Vec<u8>> = self.outputs.iter().map(Output::value_of_channel).collect();
        let mut maps: Vec<Array3<u8>> = values.iter().map(|_| Array3::zeros(image.shape().f())).collect();
        let mut wanted: Vec<_> = maps.iter_mut().map(|map| Wanted::Labels(map.view_mut())).collect();
        segment(image, &self.view.window, self.view.habits.around, &values, &mut wanted, skip_air, &self.device, |patch| {
            self.scores(patch, None)
        })?;
        Ok(maps)
    }

    /// The labels of one output, and beside them the probability of each in 255ths: by the softmax of the weighted mean of the scores.
    ///
    /// # Errors
    /// Those of the network.
    pub fn segment_with_confidence(&self, image: &impl Image, output: usize) -> Result<[Array3<u8>; 2]> {
        let [mut labels, mut confidence] = [(); 2].map(|()| Array3::zeros(image.shape().f()));
        let wanted = Wanted::Confidence { labels: labels.view_mut(), confidence: confidence.view_mut() };
        self.one(image, output, &self.view.window, None, wanted)?;
        Ok([labels, confidence])
    }

    /// How likely the model finds given labels, in output values, at another look: in 255ths; 0 for those that it does not know.
    ///
    /// # Errors
    /// Those of the network.
    pub fn belief_in(&self, labels: &Array3<u8>, image: &impl Image, output: usize, look: &Look) -> Result<Array3<u8>> {
        let mut belief = Array3::zeros(image.shape().f());
        let wanted = Wanted::Belief { labels: labels.view(), belief: belief.view_mut() };
        self.one(image, output, &look.window, Some(look), wanted)?;
        Ok(belief)
    }

    fn one(&self, image: &impl Image, output: usize, window: &SlidingWindow, look: Option<&Look>, wanted: Wanted<'_>) -> Result<()> {
        let values = [self.outputs[output].value_of_channel()];
        let scores = |patch: &Tensor| Ok(vec![self.scores(patch, look)?.swap_remove(output)]);
        segment(image, window, self.view.habits.around, &values, &mut [wanted], false, &self.device, scores)
    }

    /// All labels of a part of a scan. A large part goes into a file in `folder`.
    pub(crate) fn label_maps(
        &self,
        scan: &Scan,
        region: &Box3,
        skip_air: bool,
        folder: &Path,
    ) -> std::result::Result<LabelMaps, ModelError> {
        let shown = ShownScan::read_part(scan, *region, folder)?;
        Ok(LabelMaps::of(*region, &self.segment_skipping(&shown, skip_air)?).keeping(&self.kept, scan))
    }

    /// What is largest where a class is most likely: scores of a single network, probabilities of several or with flips.
    fn scores(&self, patch: &Tensor, look: Option<&Look>) -> Result<Vec<Tensor>> {
        let shown = |member: &Member, patch: &Tensor| {
            let patch = scaled(patch, &member.scaling)?;
            look.map_or(Ok(patch.clone()), |look| patch.affine(look.scale, look.shift))
        };
        // The axes that the networks know the other way round, counted from the last.
        let turned: Vec<usize> = (0..3).filter(|from_last| self.view.habits.mirrored[2 - from_last]).collect();
        let back = |found: Vec<Tensor>| found.iter().map(|found| mirrored(found, &turned)).collect::<Result<Vec<_>>>();
        let shown = |member: &Member, patch: &Tensor| mirrored(&shown(member, patch)?, &turned);
        if let ([member], true) = (&self.members[..], self.mirrors.is_none()) {
            return back(member.network.logits(&shown(member, patch)?)?);
        }
        self.mirrors.sum(patch, &self.members, |member, patch| back(member.network.probabilities(&shown(member, patch)?)?))
    }
}

/// A teacher with its weights.
pub struct TrainedTeacher {
    network: Teacher,
    weights: Trained,
    outputs: [Output; 1],
}

impl TrainedTeacher {
    /// The teacher behind weights as [`Volumetric::load`] takes them, what they say of themselves, and how scans are shown to it.
    ///
    /// # Errors
    /// As there.
    pub fn load(params: &VolumeParams, weights: &Path, device: &Device) -> std::result::Result<(Self, Answer, View), ModelError> {
        let card = ModelCard::of(&nets::metadata(weights)?, weights)?;
        card.as_ref().map_or(Ok(()), |card| card.must_be(Kind::Teacher, weights))?;
        let unreadable = |error: serde_json::Error| {
            let reason = format!("holds a network that cannot be read ({error})");
            ModelError::NotAModel { path: weights.into(), reason }
        };
        let network = params.network.as_ref().map(serde_json::to_value).transpose().map_err(unreadable)?;
        let (answer, view) = params.view.resolve(network, params.classes.as_ref(), card.as_ref(), weights)?;
        let config: TeacherConfig = serde_json::from_value(answer.network.clone()).map_err(unreadable)?;
        let of_file = |reason: String| ModelError::NetworkOf { path: weights.into(), reason };
        config.check(view.window.patch).map_err(of_file)?;
        let [output] = <[Output; 1]>::try_from(answer.outputs.clone()).map_err(|outputs| {
            let groups = outputs.into_iter().map(|output| output.group).collect();
            ModelError::ManyGroups { path: weights.into(), groups }
        })?;
        let network = Teacher::new(&config, output.channels());
        let values = Params::init(&network.parameters(), Streams::new(0), device)?;
        values.load(weights)?;
        let weights = Trained::new(values, params.precision);
        Ok((Self { network, weights, outputs: [output] }, answer, view))
    }

    /// Its structure.
    #[must_use]
    pub fn network(&self) -> &Teacher {
        &self.network
    }

    /// Its parameters.
    #[must_use]
    pub fn params(&self) -> &Params {
        self.weights.params()
    }
}

impl VolumeNetwork for TrainedTeacher {
    fn outputs(&self) -> &[Output] {
        &self.outputs
    }

    fn logits(&self, patch: &Tensor) -> Result<Vec<Tensor>> {
        Ok(vec![self.weights.run(&self.network, patch)?.squeeze(0)?])
    }
}
