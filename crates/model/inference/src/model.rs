//! One way from files of models to labels, whatever the models are.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::Device;
use labels::Classes;
use model_card::{KeptParts, Kind, ModelCard, Output};
use nets::Precision;
use volume::{Box3, ModelGrid, Resampling, RunMap, Scan, Source};

use crate::error::{ModelError, single_alone};
use crate::maps::{LabelMaps, LabelledPlane};
use crate::student::{Student, exported_params};
use crate::together::{Differences, found_by};
use crate::view::ViewParams;
use crate::volumetric::{VolumeNetwork, VolumeParams, Volumetric};

/// How a model of `train-partial` is had from its file.
pub type OpenPartial = fn(&Path, &ModelCard, Precision, &Device) -> Result<Box<dyn VolumeNetwork>, Box<dyn Error + Send + Sync>>;

/// How inference is to go, where the models leave it open.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manner {
    /// The numbers to compute with, in place of what the models say.
    pub precision: Option<Precision>,
    /// Takes the mean over what a network is shown and its mirror images.
    pub flips: bool,
    /// What opens models of `train-partial`; without it they are refused.
    pub partial: Option<OpenPartial>,
}

/// One model, or several: the mean of those that find the same counts, and those of different groups complement each other.
pub struct Model {
    parts: Vec<Part>,
    classes: Classes,
    /// The outputs of all parts, by the order of the groups.
    outputs: Vec<Output>,
    /// For each of them its place among the outputs of the parts, one part after another.
    places: Vec<usize>,
}

enum Part {
    Student(Student),
    Volumetric(Volumetric),
}

impl Model {
    /// The models in files that trainings or [`Student::export`] have written. The groups of later files lie over those of earlier
    /// ones.
    ///
    /// # Errors
    /// When there is none, a file is missing or damaged or does not say how it is used, or they do not go together.
    pub fn open(models: &[PathBuf], manner: &Manner, device: &Device) -> Result<Self, ModelError> {
        let mut parts: Vec<(&Path, Part)> = Vec::new();
        for model in models {
            let part = Part::open(model, manner, device)?;
            let same = parts.iter_mut().find(|(_, other)| other.found() == part.found());
            match same {
                Some((first, other)) => other.join(part, first, model)?,
                None => parts.push((model, part)),
            }
        }
        let Some((first, rest)) = parts.split_first() else { return Err(ModelError::NoModel) };
        for (k, (path, part)) in rest.iter().enumerate() {
            parts[..=k].iter().try_for_each(|(before, other)| other.must_complement(part, before, path))?;
        }
        let (mut classes, of_first) = (first.1.classes().clone(), first.0);
        for (path, part) in rest {
            let failed = |reason| ModelError::Classes { first: of_first.into(), path: path.to_path_buf(), reason: Box::new(reason) };
            classes = classes.and(part.classes()).map_err(failed)?;
        }
        Ok(Self::of(parts.into_iter().map(|(_, part)| part).collect(), classes))
    }

    fn of(parts: Vec<Part>, classes: Classes) -> Self {
        let all: Vec<&Output> = parts.iter().flat_map(Part::outputs).collect();
        let mut places: Vec<usize> = (0..all.len()).collect();
        places.sort_by_key(|&place| classes.groups().iter().position(|group| group.key() == all[place].group));
        let outputs = places.iter().map(|&place| all[place].clone()).collect();
        Self { outputs, parts, classes, places }
    }

    /// The classes that are found.
    #[must_use]
    pub fn classes(&self) -> &Classes {
        &self.classes
    }

    /// What the label maps stand for, in their order.
    #[must_use]
    pub fn outputs(&self) -> &[Output] {
        &self.outputs
    }

    /// Which connected parts of what is found are kept.
    #[must_use]
    pub fn kept(&self) -> KeptParts {
        self.parts.iter().fold(KeptParts::default(), |all, part| {
            all.and(match part {
                Part::Student(student) => &student.config.kept,
                Part::Volumetric(model) => model.kept(),
            })
        })
    }

    /// The grid that scans are brought onto.
    #[must_use]
    pub fn grid(&self) -> &ModelGrid {
        self.parts[0].grid()
    }

    /// A scan as it is shown to the models.
    ///
    /// # Errors
    /// When it has no place on the model grid.
    pub fn scan(&self, source: Arc<dyn Source>) -> Result<Scan, ModelError> {
        Ok(Scan::resampled(source, self.grid(), self.parts[0].resampling())?)
    }

    /// The part of a scan that the models are shown, the foreground or all of it, as in their trainings.
    ///
    /// # Errors
    /// When the scan cannot be read, or shows no body.
    pub fn region(&self, scan: &Scan) -> Result<Box3, ModelError> {
        Ok(if self.parts[0].crop_foreground() { scan.foreground()? } else { scan.whole() })
    }

    /// Bytes of the scores that are held while a region is labelled; students hold none that grow with it.
    #[must_use]
    pub fn held_bytes(&self, region: &Box3) -> usize {
        let of_part = |part: &Part| match part {
            Part::Student(_) => 0,
            Part::Volumetric(part) => part.held_bytes(region.shape, false),
        };
        self.parts.iter().map(of_part).max().unwrap_or_default()
    }

    /// Whether [`Model::label`] gives planes as they are labelled; otherwise it holds the label maps, and perhaps the scan.
    #[must_use]
    pub fn streams(&self) -> bool {
        matches!(&self.parts[..], [Part::Student(student)] if !student.needs_all_planes())
    }

    /// Labels the planes of a scan inside `region` and gives them to `sink`, in the order in which the file holds them. With
    /// `skip_air`, what shows nothing above the window's lower end is background. A scan that does not fit the memory goes into a
    /// file in `folder`.
    ///
    /// # Errors
    /// When the scan cannot be read, those of the networks, and those of `sink`.
    pub fn label<E: From<ModelError> + Send>(
        &self,
        scan: &Scan,
        region: &Box3,
        skip_air: bool,
        folder: &Path,
        sink: impl FnMut(LabelledPlane) -> Result<(), E> + Send,
    ) -> Result<(), E> {
        match &self.parts[..] {
            [Part::Student(student)] if self.streams() => student.label(scan, region, skip_air, sink),
            _ => self.label_maps(scan, region, skip_air, folder)?.each_plane(scan.runs_down(), sink),
        }
    }

    /// All labels of a scan, as [`Model::label`] gives them.
    ///
    /// # Errors
    /// As [`Model::label`].
    pub fn label_maps(&self, scan: &Scan, region: &Box3, skip_air: bool, folder: &Path) -> Result<LabelMaps, ModelError> {
        let mut all: Vec<Option<RunMap>> = Vec::new();
        for part in &self.parts {
            let found = match part {
                Part::Student(student) => student.label_maps(scan, region, skip_air)?,
                Part::Volumetric(part) => part.label_maps(scan, region, skip_air, folder)?,
            };
            all.extend(found.maps.into_iter().map(Some));
        }
        Ok(LabelMaps { region: *region, maps: self.places.iter().filter_map(|&place| all[place].take()).collect() })
    }
}

impl Part {
    fn open(path: &Path, manner: &Manner, device: &Device) -> Result<Self, ModelError> {
        let Some(card) = ModelCard::of(&nets::metadata(path)?, path)? else {
            if exported_params(path)?.is_none() {
                return Err(ModelError::NotAModel { path: path.into(), reason: "does not say what it is".into() });
            }
            return Ok(Self::Student(Student::open(path, manner, device)?));
        };
        let precision = manner.precision.unwrap_or_default();
        if card.kind == Kind::Graph {
            single_alone(precision, device, path)?;
        }
        let model = match card.kind {
            Kind::Student => return Ok(Self::Student(Student::open(path, manner, device)?)),
            Kind::Teacher => {
                let params = VolumeParams { precision, ..VolumeParams::default() };
                Volumetric::load(&params, path, device)?
            }
            Kind::Graph => Volumetric::of_graph(&ViewParams::default(), card, path, device)?,
            Kind::Partial => {
                let open = manner.partial.ok_or_else(|| ModelError::Partial { path: path.into() })?;
                let network =
                    open(path, &card, precision, device).map_err(|reason| ModelError::OpenPartial { path: path.into(), reason })?;
                let view = ViewParams::default().of(&card, path)?;
                Volumetric::of_card(network, card, view, device)?
            }
        };
        Ok(Self::Volumetric(model.with_flips(manner.flips)?))
    }

    fn outputs(&self) -> &[Output] {
        match self {
            Self::Student(student) => student.outputs(),
            Self::Volumetric(model) => model.outputs(),
        }
    }

    fn classes(&self) -> &Classes {
        match self {
            Self::Student(student) => student.classes(),
            Self::Volumetric(model) => model.classes(),
        }
    }

    fn grid(&self) -> &ModelGrid {
        match self {
            Self::Student(student) => student.grid(),
            Self::Volumetric(model) => &model.view().grid,
        }
    }

    fn resampling(&self) -> Resampling {
        match self {
            Self::Student(_) => Resampling::Linear,
            Self::Volumetric(model) => model.view().habits.resampling,
        }
    }

    fn crop_foreground(&self) -> bool {
        match self {
            Self::Student(student) => student.config.crop_foreground,
            Self::Volumetric(model) => model.view().crop_foreground,
        }
    }

    fn found(&self) -> String {
        found_by(self.outputs(), self.classes())
    }

    /// Takes another model along that finds the same.
    fn join(&mut self, other: Self, first: &Path, path: &Path) -> Result<(), ModelError> {
        match (self, other) {
            (Self::Student(one), Self::Student(other)) => one.join(other, first, path),
            (Self::Volumetric(one), Self::Volumetric(other)) => one.join(other, first, path),
            (Self::Student(_), Self::Volumetric(_)) => Err(unlike(first, path, ["slices", "volumes"])),
            (Self::Volumetric(_), Self::Student(_)) => Err(unlike(first, path, ["volumes", "slices"])),
        }
    }

    /// Refuses another model that has a group in common, or is shown other parts of a scan.
    fn must_complement(&self, other: &Self, first: &Path, path: &Path) -> Result<(), ModelError> {
        let (first, path) = (first.to_owned(), path.to_owned());
        if self.outputs().iter().any(|own| other.outputs().iter().any(|output| output.group == own.group)) {
            return Err(ModelError::Outputs { first, path, a: self.found(), b: other.found() });
        }
        let mut found = Differences::of_grids(self.grid(), other.grid());
        found.add("crop_foreground", &self.crop_foreground(), &other.crop_foreground());
        found.add("resampling", &self.resampling(), &other.resampling());
        if found.0.is_empty() { Ok(()) } else { Err(ModelError::Disagreement { first, path, found: found.0 }) }
    }
}

fn unlike(first: &Path, path: &Path, [a, b]: [&str; 2]) -> ModelError {
    ModelError::Disagreement { first: first.into(), path: path.into(), found: vec![format!("{a} and {b}")] }
}
