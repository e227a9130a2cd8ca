//! The models that label, and which of them answers for which group.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use candle_core::Device;
use dataset::Manifest;
use inference::{Student, StudentParams, VolumeParams, Volumetric};
use labels::Classes;
use model_card::{KeptParts, Kind, ModelCard, model_file};
use partial::TrainedModel;
use stage_kit::StageIo;

use crate::Config;

/// A trained model.
pub(crate) enum Teacher {
    /// A 3-D network.
    Solid(Box<Volumetric>),
    /// A student, slice by slice.
    Flat(Box<Student>),
}

/// All models, and who answers for which group.
pub struct Teachers {
    pub(crate) teachers: Vec<Teacher>,
    /// For each group the teacher and which of its outputs.
    pub(crate) of_group: Vec<(usize, usize)>,
    /// Which parts are kept besides what the teachers say.
    pub(crate) kept: KeptParts,
}

/// The classes to label: those of the partition; without one, and of cases that are held out, all that the models find, in the order of the parameters' classes or else
/// of the models' names.
pub(crate) fn classes(config: &Config, io: &StageIo) -> Result<Classes> {
    // What is held out is labelled by the models alone, whatever else there is.
    if let Some(partition) = io.input_opt("partition")?.filter(|_| !config.held_out) {
        return Ok(Manifest::load(partition)?.classes);
    }
    let mut found: Option<Classes> = None;
    for (name, path) in weights(io)? {
        let card = ModelCard::of(&nets::metadata(&path)?, &path)?;
        let of_model = match (card, &config.classes) {
            (Some(card), _) => card.classes,
            (None, Some(classes)) => classes.clone(),
            (None, None) => bail!("{} does not say which classes it finds; give `classes`", path.display()),
        };
        found = Some(match (found, &config.classes) {
            (None, _) => of_model,
            (Some(found), Some(declared)) => declared.only(found.pattern().union(of_model.pattern())),
            (Some(found), None) => found.and(&of_model).with_context(|| format!("teachers.{name} ({})", path.display()))?,
        });
    }
    found.context("teachers: none was given; give one at least")
}

/// The files of weights behind the role `teachers`, by the names of the teachers.
fn weights(io: &StageIo) -> Result<Vec<(String, PathBuf)>> {
    let file = |(name, path): (&str, &Path)| {
        let path = model_file(path);
        ensure!(
            path.is_file(),
            "teachers.{name}: there is no {}; give a trained model, a file or the folder that it is in",
            path.display()
        );
        Ok((name.to_owned(), path))
    };
    io.inputs_under("teachers").into_iter().map(file).collect()
}

impl Teachers {
    pub(crate) fn load(config: &Config, io: &StageIo) -> Result<Self> {
        let (device, classes) = (nets::device(io.device)?, classes(config, io)?);
        config.precision.warn(&device, &io.report);
        let files = weights(io)?;
        let unknown = config.networks.keys().find(|name| !files.iter().any(|(known, _)| known == *name));
        if let Some(name) = unknown {
            bail!("networks.{name}: there is no such teacher; the teachers are {}", names(&files).join(", "));
        }
        if let Some(trust) = &config.trust {
            trust.filter.check_classes(&classes).context("trust.filter")?;
        }
        let unknown = config.classes.iter().flat_map(|declared| declared.keys_of(declared.pattern().minus(classes.pattern())));
        let unknown: Vec<String> = unknown.collect();
        if !unknown.is_empty() {
            io.report.note(&format!("{}: no teacher finds {}: nothing is written of it", io.node, unknown.join(", ")));
        }
        for (_, path) in files.iter().filter(|_| config.flips) {
            io.report.warn(path, inference::unseen_mirrors(path)?);
        }
        let teachers = files.iter().map(|(name, path)| Teacher::load(name, path, config, &device)).collect::<Result<Vec<_>>>()?;
        let of_group = (0..classes.groups().len()).map(|group| answering(group, &classes, &teachers, &files)).collect::<Result<_>>()?;
        Ok(Self { teachers, of_group, kept: config.keep_parts.of(&classes)? })
    }
}

fn names(files: &[(String, PathBuf)]) -> Vec<&str> {
    files.iter().map(|(name, _)| name.as_str()).collect()
}

/// The teacher that finds all classes of a group, and which of its outputs says so.
fn answering(group: usize, classes: &Classes, teachers: &[Teacher], files: &[(String, PathBuf)]) -> Result<(usize, usize)> {
    let key = classes.groups()[group].key();
    let has_group = |teacher: &Teacher| teacher.outputs().iter().any(|output| output.group == key);
    let found: Vec<usize> = (0..teachers.len()).filter(|&k| has_group(&teachers[k])).collect();
    match found[..] {
        [k] => Ok((k, teachers[k].output_of(group, classes, &files[k].1)?)),
        [] => bail!(
            "teachers: none of {} finds the group `{key}` ({}); give a model that does, or leave the group out of the classes",
            names(files).join(", "),
            classes.keys_of(classes.groups()[group].pattern()).join(", ")
        ),
        _ => {
            let several: Vec<&str> = found.iter().map(|&k| files[k].0.as_str()).collect();
            bail!("teachers: {} all find the group `{key}`; give one of them", several.join(", "))
        }
    }
}

impl Teacher {
    fn load(name: &str, path: &Path, config: &Config, device: &Device) -> Result<Self> {
        let card = ModelCard::of(&nets::metadata(path)?, path)?;
        let kind = card.as_ref().map(|card| card.kind);
        if kind == Some(Kind::Graph) {
            inference::single_alone(config.precision, device, path)?;
        }
        let model = match kind {
            Some(Kind::Student) => {
                let params = StudentParams { precision: config.precision, ..StudentParams::default() };
                return Ok(Self::Flat(Box::new(Student::load(&params, path, device)?.with_flips(config.flips)?)));
            }
            Some(Kind::Partial) => {
                let model = TrainedModel::load(path, config.precision, device)?.labelling_by(config.rule.clone())?;
                let (card, view) = (model.card.clone(), config.view().of(&model.card, path)?);
                model.config.method.check(view.window.patch).context("window")?;
                Volumetric::of_card(Box::new(model), card, view, device)?
            }
            Some(Kind::Graph) => {
                let card = card.context("a model without a card")?;
                Volumetric::of_graph(&config.view(), card, path, device)?
            }
            Some(Kind::Teacher) | None => {
                let params = VolumeParams {
                    network: config.networks.get(name).cloned(),
                    classes: config.classes.clone(),
                    view: config.view(),
                    precision: config.precision,
                };
                Volumetric::load(&params, path, device)?
            }
        };
        Ok(Self::Solid(Box::new(model.with_flips(config.flips)?)))
    }

    pub(crate) fn outputs(&self) -> &[model_card::Output] {
        match self {
            Self::Solid(model) => model.outputs(),
            Self::Flat(student) => student.outputs(),
        }
    }

    /// The output that finds all classes of a group.
    fn output_of(&self, group: usize, classes: &Classes, path: &Path) -> Result<usize> {
        Ok(match self {
            Self::Solid(model) => model.output_of(group, classes, path),
            Self::Flat(student) => student.output_of(group, classes, path),
        }?)
    }
}
