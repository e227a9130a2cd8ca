//! The networks of the methods: one structure for all of them, heads that say yes or no to classes.

use std::ops::Range;

use candle_core::{DType, Tensor};
use nets::{DoDNet, Network, ParamSpec, Params, ParamsError, Trunk};

use crate::annotation::{Class, Datasets, PartialError};
use crate::method::{MethodConfig, ModelConfig, heads};

/// A group of outputs: those of a task, or those of a dataset.
#[derive(Clone, Debug, PartialEq)]
pub struct Head {
    /// The name of the task or dataset.
    pub name: String,
    /// The classes, one output each.
    pub classes: Vec<Class>,
    /// The only dataset that trains it; any that has a class of it annotated, when there is none.
    pub dataset: Option<usize>,
}

/// What a channel of logits is about.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Channel {
    /// The head.
    pub head: usize,
    /// The class.
    pub class: Class,
}

/// A row of a batch of logits.
#[derive(Clone, Debug)]
pub struct Row {
    /// The sample of the input.
    pub sample: usize,
    /// What each channel is about; nothing where it is not wanted.
    pub channels: Vec<Option<Channel>>,
}

/// Logits `(rows, channels, d, h, w)` and what they are about.
pub struct Output {
    /// At full resolution, or a part of it with deep supervision.
    pub logits: Tensor,
    /// One for each row.
    pub rows: Vec<Row>,
    /// How much it counts in the loss.
    pub weight: f64,
    /// The last decoder map behind the logits, where each head has a network of its own.
    pub features: Option<Tensor>,
}

/// A method as a network.
pub struct Model {
    heads: Vec<Head>,
    kind: Kind,
}

enum Kind {
    Dodnet(Box<DoDNet>),
    Shared {
        trunk: Trunk,
        levels: usize,
    },
    Exclusive(Trunk),
    Decoders(Trunk),
    Conditional(Trunk),
    Networks {
        trunk: Trunk,
        /// Whether every sample is shown to every network.
        mutual: bool,
    },
}

impl Model {
    /// The network of a declaration.
    ///
    /// # Errors
    /// Says what contradicts itself.
    pub fn new(config: &ModelConfig, datasets: &Datasets) -> Result<Self, PartialError> {
        let heads = heads(config, datasets)?;
        let most = heads.iter().map(|head| head.classes.len()).max().unwrap_or(0);
        let kind = match &config.method {
            MethodConfig::Dodnet { network, head } => Kind::Dodnet(Box::new(DoDNet::new(network, head, heads.len(), most))),
            MethodConfig::Multitalent { network, deep_supervision } => {
                let trunk = Trunk::new(network, 1);
                // The lowest level has the weight 0, and so needs no output.
                let levels = if *deep_supervision { (trunk.decoded_channels().len() - 1).max(1) } else { 1 };
                Kind::Shared { trunk, levels }
            }
            MethodConfig::MultiHead { network } => Kind::Decoders(Trunk::new(network, 1)),
            MethodConfig::Conditional { network } => Kind::Conditional(Trunk::new(network, 1 + heads.len())),
            MethodConfig::TargetAdaptive { network } => Kind::Exclusive(Trunk::new(network, 1)),
            MethodConfig::PerDataset { network } => Kind::Networks { trunk: Trunk::new(network, 1), mutual: false },
            MethodConfig::MutualPartial { network, .. } | MethodConfig::MutualFull { network, .. } => {
                Kind::Networks { trunk: Trunk::new(network, 1), mutual: true }
            }
        };
        Ok(Self { heads, kind })
    }

    /// The heads.
    #[must_use]
    pub fn heads(&self) -> &[Head] {
        &self.heads
    }

    /// The classes that the model finds, each once, in the order of labels.
    #[must_use]
    pub fn class_names(&self) -> Vec<&'static str> {
        let classes: std::collections::BTreeSet<Class> = self.heads.iter().flat_map(|head| head.classes.iter().copied()).collect();
        classes.into_iter().map(Class::key).collect()
    }

    /// Whether the classes exclude each other: then channel 0 is background and channel `l` the label `l`.
    #[must_use]
    pub fn is_exclusive(&self) -> bool {
        matches!(self.kind, Kind::Exclusive(_))
    }

    /// Whether every class must be labelled in every case, truly or by a model.
    #[must_use]
    pub fn needs_all_labels(&self) -> bool {
        matches!(self.kind, Kind::Networks { mutual: true, .. }) && self.heads.iter().all(|head| head.classes == Class::all())
    }

    /// Whether a batch may reach only some of the parameters.
    #[must_use]
    pub fn has_separate_parts(&self) -> bool {
        matches!(self.kind, Kind::Decoders(_) | Kind::Networks { .. })
    }

    /// The heads that samples of a dataset train.
    #[must_use]
    pub fn trained_by(&self, datasets: &Datasets, dataset: usize) -> Vec<usize> {
        let mutual = matches!(self.kind, Kind::Networks { mutual: true, .. });
        let trains = |head: &Head| match head.dataset {
            _ if mutual => true,
            Some(own) => own == dataset,
            None => head.classes.iter().any(|class| datasets.classes(dataset).contains(class)),
        };
        (0..self.heads.len()).filter(|&head| trains(&self.heads[head])).collect()
    }

    /// Logits of images `(b, 1, d, h, w)`, for each sample those of the heads wanted of it, in ascending order; with
    /// `levels`, of the decoder's lower levels too.
    ///
    /// # Errors
    /// When shapes do not fit or memory runs out.
    pub fn forward(&self, params: &Params, image: &Tensor, wanted: &[Vec<usize>], levels: bool) -> candle_core::Result<Vec<Output>> {
        match &self.kind {
            Kind::Dodnet(network) => self.dodnet(network, params, image, wanted),
            Kind::Shared { trunk, levels: all } => self.shared(trunk, if levels { *all } else { 1 }, params, image, wanted),
            Kind::Exclusive(trunk) => self.exclusive(trunk, params, image),
            Kind::Decoders(trunk) => {
                let encoded = trunk.encode(params, "", image)?;
                self.one_by_one(wanted, |head, samples| {
                    let prefix = self.prefix(head);
                    let encoded = encoded.iter().map(|map| select(map, samples)).collect::<candle_core::Result<Vec<_>>>()?;
                    let decoded = trunk.decode(params, &prefix, &encoded)?;
                    Ok((trunk.head(params, &prefix, 0, &decoded[0])?, None))
                })
            }
            Kind::Conditional(trunk) => self.one_by_one(wanted, |head, samples| {
                let told = self.told(&select(image, samples)?, head)?;
                let decoded = trunk.decode(params, "", &trunk.encode(params, "", &told)?)?;
                Ok((trunk.head(params, "", 0, &decoded[0])?, None))
            }),
            Kind::Networks { trunk, .. } => self.one_by_one(wanted, |head, samples| {
                let prefix = self.prefix(head);
                let encoded = trunk.encode(params, &prefix, &select(image, samples)?)?;
                let last = trunk.decode(params, &prefix, &encoded)?.swap_remove(0);
                Ok((trunk.head(params, &prefix, 0, &last)?, Some(last)))
            }),
        }
    }

    fn dodnet(&self, network: &DoDNet, params: &Params, image: &Tensor, wanted: &[Vec<usize>]) -> candle_core::Result<Vec<Output>> {
        let pairs: Vec<(usize, usize)> =
            wanted.iter().enumerate().flat_map(|(sample, heads)| heads.iter().map(move |&head| (sample, head))).collect();
        let logits = network.logits(params, &network.features(params, image)?, &pairs)?;
        let channels = logits.dim(1)?;
        let rows = pairs.iter().map(|&(sample, head)| Row { sample, channels: self.channels(head, channels) }).collect();
        Ok(vec![Output { logits, rows, weight: 1.0, features: None }])
    }

    fn shared(
        &self,
        trunk: &Trunk,
        levels: usize,
        params: &Params,
        image: &Tensor,
        wanted: &[Vec<usize>],
    ) -> candle_core::Result<Vec<Output>> {
        let decoded = trunk.decode(params, "", &trunk.encode(params, "", image)?)?;
        let row = |(sample, wanted): (usize, &Vec<usize>)| {
            let of_head = |head: usize| {
                let channels = self.channels(head, self.heads[head].classes.len());
                channels.into_iter().map(move |channel| channel.filter(|_| wanted.contains(&head)))
            };
            Row { sample, channels: (0..self.heads.len()).flat_map(of_head).collect() }
        };
        let rows: Vec<Row> = wanted.iter().enumerate().map(row).collect();
        let output = |level: usize| {
            let logits = trunk.head(params, "", level, &decoded[level])?;
            Ok(Output { logits, rows: rows.clone(), weight: level_weight(level, levels), features: None })
        };
        (0..levels).map(output).collect()
    }

    fn exclusive(&self, trunk: &Trunk, params: &Params, image: &Tensor) -> candle_core::Result<Vec<Output>> {
        let logits = trunk.head(params, "", 0, &trunk.decode(params, "", &trunk.encode(params, "", image)?)?[0])?;
        let channels: Vec<_> = std::iter::once(None).chain(self.channels(0, self.heads[0].classes.len())).collect();
        let rows = (0..image.dim(0)?).map(|sample| Row { sample, channels: channels.clone() }).collect();
        Ok(vec![Output { logits, rows, weight: 1.0, features: None }])
    }

    /// One output for every head that is wanted of any sample, of the samples of which it is.
    fn one_by_one(
        &self,
        wanted: &[Vec<usize>],
        logits: impl Fn(usize, &[usize]) -> candle_core::Result<(Tensor, Option<Tensor>)>,
    ) -> candle_core::Result<Vec<Output>> {
        let n_rows: usize = wanted.iter().map(Vec::len).sum();
        let mut outputs = Vec::new();
        for head in 0..self.heads.len() {
            let samples: Vec<usize> = (0..wanted.len()).filter(|&sample| wanted[sample].contains(&head)).collect();
            if samples.is_empty() {
                continue;
            }
            let (logits, features) = logits(head, &samples)?;
            let channels = self.channels(head, logits.dim(1)?);
            #[expect(clippy::cast_precision_loss, reason = "batches are small")]
            let weight = samples.len() as f64 / n_rows as f64;
            let rows = samples.into_iter().map(|sample| Row { sample, channels: channels.clone() }).collect();
            outputs.push(Output { logits, rows, weight, features });
        }
        Ok(outputs)
    }

    /// Moves the biases behind all outputs, so that a class is found as likely as `prior` in every voxel before anything is
    /// learnt. Random weights alone say one half; the first steps then only teach that most voxels show nothing, so hard that
    /// small classes may not come back (Lin et al., Focal loss, ICCV 2017, 4.1).
    ///
    /// # Errors
    /// When the parameters are not this model's.
    pub fn start_near(&self, params: &Params, prior: f64) -> Result<(), ParamsError> {
        #[expect(clippy::cast_possible_truncation, reason = "odds")]
        let shift = (prior / (1.0 - prior)).ln() as f32;
        for (name, channels) in self.biases() {
            let bias = params.get(&name)?;
            let mut values = bias.to_vec1::<f32>()?;
            values[channels].iter_mut().for_each(|value| *value += shift);
            params.set(&name, &Tensor::from_vec(values, bias.shape(), bias.device())?)?;
        }
        Ok(())
    }

    /// The biases behind the outputs: names, and which of their values; all but the background's.
    fn biases(&self) -> Vec<(String, Range<usize>)> {
        let classes = |head: usize| self.heads[head].classes.len();
        let all = 0..self.heads.len();
        match &self.kind {
            Kind::Dodnet(network) => vec![network.output_biases()],
            Kind::Shared { levels, .. } => {
                let total = all.map(classes).sum();
                (0..*levels).map(|level| (Trunk::head_bias("", level), 0..total)).collect()
            }
            Kind::Exclusive(_) => vec![(Trunk::head_bias("", 0), 1..classes(0) + 1)],
            Kind::Conditional(_) => vec![(Trunk::head_bias("", 0), 0..all.map(classes).max().unwrap_or(0))],
            Kind::Decoders(_) | Kind::Networks { .. } => {
                all.map(|head| (Trunk::head_bias(&self.prefix(head), 0), 0..classes(head))).collect()
            }
        }
    }

    /// The channels of a head, filled up to a number.
    fn channels(&self, head: usize, number: usize) -> Vec<Option<Channel>> {
        let class = |k: usize| self.heads[head].classes.get(k).map(|&class| Channel { head, class });
        (0..number).map(class).collect()
    }

    fn prefix(&self, head: usize) -> String {
        format!("{}.", self.heads[head].name)
    }

    /// The image with a channel for each task, ones for the task that is asked for.
    fn told(&self, image: &Tensor, head: usize) -> candle_core::Result<Tensor> {
        let channel = |k: usize| if k == head { image.ones_like() } else { image.zeros_like() };
        let mut channels = vec![image.clone()];
        for k in 0..self.heads.len() {
            channels.push(channel(k)?);
        }
        Tensor::cat(&channels, 1)?.to_dtype(DType::F32)
    }
}

impl Network for Model {
    fn parameters(&self) -> Vec<ParamSpec> {
        let whole = |trunk: &Trunk, prefix: &str, classes: usize| {
            let parts = [trunk.encoder_parameters(prefix), trunk.decoder_parameters(prefix), trunk.head_parameters(prefix, 0, classes)];
            parts.concat()
        };
        let classes = |head: usize| self.heads[head].classes.len();
        let all = 0..self.heads.len();
        match &self.kind {
            Kind::Dodnet(network) => network.parameters(),
            Kind::Shared { trunk, levels } => {
                let total = all.map(classes).sum();
                let mut specs = [trunk.encoder_parameters(""), trunk.decoder_parameters("")].concat();
                specs.extend((0..*levels).flat_map(|level| trunk.head_parameters("", level, total)));
                specs
            }
            Kind::Exclusive(trunk) => whole(trunk, "", classes(0) + 1),
            Kind::Conditional(trunk) => whole(trunk, "", all.map(classes).max().unwrap_or(0)),
            Kind::Networks { trunk, .. } => all.flat_map(|head| whole(trunk, &self.prefix(head), classes(head))).collect(),
            Kind::Decoders(trunk) => {
                let decoder = |head: usize| {
                    let prefix = self.prefix(head);
                    [trunk.decoder_parameters(&prefix), trunk.head_parameters(&prefix, 0, classes(head))].concat()
                };
                [trunk.encoder_parameters(""), all.flat_map(decoder).collect()].concat()
            }
        }
    }
}

/// Half the weight from each level to the next; all together 1.
fn level_weight(level: usize, levels: usize) -> f64 {
    let weight = |level: usize| 0.5_f64.powi(level as i32);
    weight(level) / (0..levels).map(weight).sum::<f64>()
}

/// Some samples of a batch.
fn select(x: &Tensor, samples: &[usize]) -> candle_core::Result<Tensor> {
    if samples.len() == x.dim(0)? {
        return Ok(x.clone());
    }
    let rows = samples.iter().map(|&sample| x.narrow(0, sample, 1)).collect::<candle_core::Result<Vec<_>>>()?;
    Tensor::cat(&rows, 0)
}
