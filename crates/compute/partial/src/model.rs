//! The networks of the methods: one structure for all of them, heads that say yes or no to classes.

mod parameters;

use candle_core::Tensor;
use labels::{Classes, LabelPattern};
use nets::{DoDNet, Layers, Trunk};

use crate::annotation::Datasets;
use crate::class::Class;
use crate::error::PartialError;
use crate::method::{MethodConfig, ModelConfig, Told, heads};

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
pub struct Output<M = Tensor> {
    /// At full resolution, or a part of it with deep supervision.
    pub logits: M,
    /// One for each row.
    pub rows: Vec<Row>,
    /// How much its level counts in the loss.
    pub weight: f64,
    /// The last decoder map behind the logits, where each head has a network of its own.
    pub features: Option<M>,
}

impl<M> Output<M> {
    /// The same of what `other` makes of its maps.
    pub(crate) fn map<N>(self, other: impl Fn(&M) -> candle_core::Result<N>) -> candle_core::Result<Output<N>> {
        let features = self.features.as_ref().map(&other).transpose()?;
        Ok(Output { logits: other(&self.logits)?, rows: self.rows, weight: self.weight, features })
    }
}

impl Output {
    /// The same without the graph that it comes from.
    #[must_use]
    pub fn detached(self) -> Self {
        Self { logits: self.logits.detach(), features: self.features.map(|features| features.detach()), ..self }
    }

    /// The voxels of each channel.
    pub(crate) fn voxels(&self) -> usize {
        self.logits.dims()[2..].iter().product()
    }
}

/// A method as a network.
pub struct Model {
    classes: Classes,
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
    Conditional {
        trunk: Trunk,
        told: Told,
    },
    Networks {
        trunk: Trunk,
        /// Whether every sample is shown to every network.
        mutual: bool,
    },
}

impl Model {
    /// The network of a resolved declaration.
    ///
    /// # Errors
    /// Says what contradicts itself.
    pub fn new(config: &ModelConfig, datasets: &Datasets, classes: &Classes) -> Result<Self, PartialError> {
        let heads = heads(config, datasets, classes)?;
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
            MethodConfig::Conditional { network, told } => {
                let trunk = match told {
                    Told::Input => Trunk::new(network, 1 + heads.len()),
                    Told::Decoder => Trunk::new(network, 1).told(heads.len()),
                    Told::Nowhere => Trunk::new(network, 1),
                };
                Kind::Conditional { trunk, told: *told }
            }
            MethodConfig::TargetAdaptive { network } => Kind::Exclusive(Trunk::new(network, 1)),
            MethodConfig::PerDataset { network } => Kind::Networks { trunk: Trunk::new(network, 1), mutual: false },
            MethodConfig::MutualPartial { network, .. } | MethodConfig::MutualFull { network, .. } => {
                Kind::Networks { trunk: Trunk::new(network, 1), mutual: true }
            }
        };
        Ok(Self { classes: classes.clone(), heads, kind })
    }

    /// The heads.
    #[must_use]
    pub fn heads(&self) -> &[Head] {
        &self.heads
    }

    /// The declared classes, of which the model knows [`Model::pattern`].
    #[must_use]
    pub fn classes(&self) -> &Classes {
        &self.classes
    }

    /// The classes that the model finds.
    #[must_use]
    pub fn pattern(&self) -> LabelPattern {
        self.heads.iter().flat_map(|head| &head.classes).map(|class| class.value()).collect()
    }

    /// What the model finds, group by group.
    #[must_use]
    pub fn outputs(&self) -> Vec<model_card::Output> {
        let known = self.classes.only(self.pattern());
        (0..known.groups().len()).map(|group| model_card::Output::of_group(&known, group)).collect()
    }

    /// Whether the classes exclude each other: then channel 0 is background and channel `k` the class at `k - 1`.
    #[must_use]
    pub fn is_exclusive(&self) -> bool {
        matches!(self.kind, Kind::Exclusive(_))
    }

    /// Whether every class must be labelled in every case, truly or by a model.
    #[must_use]
    pub fn needs_all_labels(&self) -> bool {
        let known = self.pattern();
        matches!(self.kind, Kind::Networks { mutual: true, .. }) && self.heads.iter().all(|head| head.classes.len() == known.len())
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
    pub fn forward<C: Layers>(
        &self,
        compute: &C,
        image: &C::Map,
        wanted: &[Vec<usize>],
        levels: bool,
    ) -> candle_core::Result<Vec<Output<C::Map>>> {
        let own = |head: usize| self.heads[head].classes.len();
        match &self.kind {
            Kind::Dodnet(network) => self.dodnet(network, compute, image, wanted),
            Kind::Shared { trunk, levels: all } => self.shared(trunk, if levels { *all } else { 1 }, compute, image, wanted),
            Kind::Exclusive(trunk) => self.exclusive(trunk, compute, image, wanted.len()),
            Kind::Decoders(trunk) => {
                let encoded = trunk.encode(compute, "", image)?;
                self.one_by_one(wanted, own, |head, samples| {
                    let prefix = self.prefix(head);
                    let encoded = encoded.iter().map(|map| compute.select(map, samples)).collect::<candle_core::Result<Vec<_>>>()?;
                    let decoded = trunk.decode(compute, &prefix, &encoded)?;
                    Ok((trunk.head(compute, &prefix, 0, &decoded[0])?, None))
                })
            }
            Kind::Conditional { trunk, told } => self.conditional(trunk, *told, compute, image, wanted),
            Kind::Networks { trunk, .. } => self.one_by_one(wanted, own, |head, samples| {
                let prefix = self.prefix(head);
                let encoded = trunk.encode(compute, &prefix, &compute.select(image, samples)?)?;
                let last = trunk.decode(compute, &prefix, &encoded)?.swap_remove(0);
                Ok((trunk.head(compute, &prefix, 0, &last)?, Some(last)))
            }),
        }
    }

    fn dodnet<C: Layers>(
        &self,
        network: &DoDNet,
        compute: &C,
        image: &C::Map,
        wanted: &[Vec<usize>],
    ) -> candle_core::Result<Vec<Output<C::Map>>> {
        let pairs: Vec<(usize, usize)> =
            wanted.iter().enumerate().flat_map(|(sample, heads)| heads.iter().map(move |&head| (sample, head))).collect();
        let logits = network.logits(compute, &network.features(compute, image)?, &pairs)?;
        let row = |&(sample, head): &(usize, usize)| Row { sample, channels: self.channels(head, self.most_classes()) };
        let rows = pairs.iter().map(row).collect();
        Ok(vec![Output { logits, rows, weight: 1.0, features: None }])
    }

    fn shared<C: Layers>(
        &self,
        trunk: &Trunk,
        levels: usize,
        compute: &C,
        image: &C::Map,
        wanted_of_all: &[Vec<usize>],
    ) -> candle_core::Result<Vec<Output<C::Map>>> {
        let decoded = trunk.decode(compute, "", &trunk.encode(compute, "", image)?)?;
        let row = |(sample, wanted): (usize, &Vec<usize>)| {
            let of_head = |head: usize| {
                let channels = self.channels(head, self.heads[head].classes.len());
                channels.into_iter().map(move |channel| channel.filter(|_| wanted.contains(&head)))
            };
            Row { sample, channels: (0..self.heads.len()).flat_map(of_head).collect() }
        };
        let rows: Vec<Row> = wanted_of_all.iter().enumerate().map(row).collect();
        let output = |level: usize| {
            let logits = trunk.head(compute, "", level, &decoded[level])?;
            Ok(Output { logits, rows: rows.clone(), weight: level_weight(level, levels), features: None })
        };
        (0..levels).map(output).collect()
    }

    fn exclusive<C: Layers>(&self, trunk: &Trunk, compute: &C, image: &C::Map, samples: usize) -> candle_core::Result<Vec<Output<C::Map>>> {
        let logits = trunk.head(compute, "", 0, &trunk.decode(compute, "", &trunk.encode(compute, "", image)?)?[0])?;
        let channels: Vec<_> = std::iter::once(None).chain(self.channels(0, self.heads[0].classes.len())).collect();
        let rows = (0..samples).map(|sample| Row { sample, channels: channels.clone() }).collect();
        Ok(vec![Output { logits, rows, weight: 1.0, features: None }])
    }

    fn conditional<C: Layers>(
        &self,
        trunk: &Trunk,
        told: Told,
        compute: &C,
        image: &C::Map,
        wanted: &[Vec<usize>],
    ) -> candle_core::Result<Vec<Output<C::Map>>> {
        // What does not know the task is computed once.
        let encoded = if told == Told::Input { Vec::new() } else { trunk.encode(compute, "", image)? };
        let most = self.most_classes();
        self.one_by_one(
            wanted,
            |_| most,
            |head, samples| {
                let code = self.code(head);
                let encoded = match told {
                    Told::Input => trunk.encode(compute, "", &compute.beside(compute.select(image, samples)?, &code)?)?,
                    _ => encoded.iter().map(|map| compute.select(map, samples)).collect::<candle_core::Result<_>>()?,
                };
                let decoded = trunk.decode_told(compute, "", &encoded, if told == Told::Decoder { &code } else { &[] })?;
                Ok((trunk.head(compute, "", 0, &decoded[0])?, None))
            },
        )
    }

    /// One output for every head that is wanted of any sample, of the samples of which it is; its logits have so many channels.
    fn one_by_one<M>(
        &self,
        wanted: &[Vec<usize>],
        channels: impl Fn(usize) -> usize,
        logits: impl Fn(usize, &[usize]) -> candle_core::Result<(M, Option<M>)>,
    ) -> candle_core::Result<Vec<Output<M>>> {
        let mut outputs = Vec::new();
        for head in 0..self.heads.len() {
            let samples: Vec<usize> = (0..wanted.len()).filter(|&sample| wanted[sample].contains(&head)).collect();
            if samples.is_empty() {
                continue;
            }
            let (logits, features) = logits(head, &samples)?;
            let channels = self.channels(head, channels(head));
            let row = |sample: usize| Row { sample, channels: channels.clone() };
            let rows = samples.into_iter().map(row).collect();
            outputs.push(Output { logits, rows, weight: 1.0, features });
        }
        Ok(outputs)
    }

    /// The channels of a head, filled up to a number. Where tasks share channels, one for each group, a task without a class of a
    /// group leaves its channel free (as DoDNet's authors do with organs and tumors).
    fn channels(&self, head: usize, number: usize) -> Vec<Option<Channel>> {
        let classes = &self.heads[head].classes;
        let mut groups: Vec<usize> = self.heads.iter().flat_map(|head| &head.classes).map(|class| class.group()).collect();
        groups.sort_unstable();
        groups.dedup();
        let of_group = |group: &usize| classes.iter().find(|class| class.group() == *group);
        let one_each = |head: &Head| groups.iter().all(|group| head.classes.iter().filter(|class| class.group() == *group).count() <= 1);
        let class: Vec<Option<&Class>> = match groups.len() == number && self.heads.iter().all(one_each) {
            true => groups.iter().map(of_group).collect(),
            false => (0..number).map(|k| classes.get(k)).collect(),
        };
        class.into_iter().map(|class| class.map(|&class| Channel { head, class })).collect()
    }

    fn prefix(&self, head: usize) -> String {
        format!("{}.", self.heads[head].name)
    }

    /// The code of a task: one for itself and zero for the others.
    fn code(&self, head: usize) -> Vec<f32> {
        (0..self.heads.len()).map(|k| f32::from(u8::from(k == head))).collect()
    }

    /// The channels of heads that share their last layer.
    fn most_classes(&self) -> usize {
        self.heads.iter().map(|head| head.classes.len()).max().unwrap_or(0)
    }
}

/// Half the weight from each level to the next; all together 1.
fn level_weight(level: usize, levels: usize) -> f64 {
    let weight = |level: usize| 0.5_f64.powi(level as i32);
    weight(level) / (0..levels).map(weight).sum::<f64>()
}
