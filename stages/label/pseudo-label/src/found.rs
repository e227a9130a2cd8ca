//! What the teachers find in one scan.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, bail};
use inference::{ShownScan, View, Volumetric};
use ndarray::{Array3, Axis, ShapeBuilder as _, s};
use pseudo_labels::{Found, Scan, Weighed};
use stage_kit::StageIo;
use volume::ScanFile;
use volume::nifti::Header;

use crate::Config;
use crate::teachers::{Teacher, Teachers};
use crate::trust::{Opinion, TrustConfig};

/// One scan before all teachers. Groups are asked for one after another; what several need is read and computed once.
pub(crate) struct Session<'a> {
    teachers: &'a Teachers,
    config: &'a Config,
    io: &'a StageIo,
    scan: &'a Scan,
    header: Header,
    /// The scan as the latest teacher was shown it.
    shown: Option<(View, ShownScan)>,
    /// Labels of the latest teacher for groups that are yet to be asked for, by its number and output.
    waiting: Vec<(usize, usize, Found)>,
}

impl<'a> Session<'a> {
    pub(crate) fn new(teachers: &'a Teachers, config: &'a Config, io: &'a StageIo, scan: &'a Scan) -> Result<Self> {
        let header = volume::nifti::read_header(&scan.image)?;
        Ok(Self { teachers, config, io, scan, header, shown: None, waiting: Vec::new() })
    }

    /// The header of the scan.
    pub(crate) fn header(&self) -> Header {
        self.header.clone()
    }

    /// The labels of a group.
    pub(crate) fn find(&mut self, group: usize) -> Result<Found> {
        let (teacher, output) = self.teachers.of_group[group];
        if let Some(place) = self.waiting.iter().position(|waiting| (waiting.0, waiting.1) == (teacher, output)) {
            return Ok(self.waiting.swap_remove(place).2);
        }
        let found = match &self.teachers.teachers[teacher] {
            Teacher::Solid(model) => {
                let kept = model.kept().clone().and(&self.teachers.kept);
                let shown = self.shown(model)?;
                let mut maps = model.segment(shown)?;
                maps.iter_mut().for_each(|map| kept.keep_in(map, shown.grid.voxel_mm3() / 1000.0));
                maps.into_iter().map(|map| Found::inside(map, shown.region, shown.grid, 0)).collect()
            }
            Teacher::Flat(student) => {
                let image = volume::Scan::open(&self.scan.image, student.grid())?;
                self.io.report.warn(&self.scan.image, image.doubt());
                let region = student.region(&image)?;
                let maps = student.label_maps(&image, &region, false)?.keeping(&self.teachers.kept, &image);
                let place = |map: &volume::RunMap| Found::inside(whole(map, region.shape), region, image.grid(), 0);
                maps.maps.iter().map(place).collect::<Vec<_>>()
            }
        };
        let is_asked_for = |output: usize| self.teachers.of_group.contains(&(teacher, output));
        let asked_for = found.into_iter().enumerate().filter(|(output, _)| is_asked_for(*output));
        self.waiting.extend(asked_for.map(|(output, found)| (teacher, output, found)));
        self.find(group)
    }

    /// The labels of a group and the trust in them.
    pub(crate) fn weigh(&mut self, group: usize, trust: &TrustConfig, opinion: Option<&Opinion>) -> Result<Weighed> {
        let (teacher, output) = self.teachers.of_group[group];
        let Teacher::Solid(model) = &self.teachers.teachers[teacher] else {
            bail!("trust: a student looks at slices, and only 3-D models say how far their labels can be trusted; leave `trust` out");
        };
        let opinion = opinion.map(|opinion| opinion.maps[group].as_path());
        trust.weigh(&Asked { model, output, shown: self.shown(model)? }, opinion)
    }

    /// The scan as a model is to be shown it; read anew only if the one before was shown it otherwise.
    fn shown(&mut self, model: &Volumetric) -> Result<&ShownScan> {
        let view = *model.view();
        let read = |view: &View| (view.grid, view.crop_foreground, view.habits.resampling);
        let same = |other: &View| read(other) == read(&view);
        if !self.shown.as_ref().is_some_and(|(other, _)| same(other)) {
            self.shown = None;
            let image = view.scan(Arc::new(ScanFile::open(&self.scan.image)?))?;
            let shown = ShownScan::read(&image, view.crop_foreground, &self.io.work)?;
            self.io.report.warn(&self.scan.image, image.doubt());
            self.shown = Some((view, shown));
        }
        let Some((_, shown)) = &self.shown else { bail!("the scan was not read") };
        let bytes = model.held_bytes(shown.region.shape, self.config.trust.is_some());
        stage_kit::note_memory(self.io, &self.scan.id, inference::HELD, bytes, inference::LESS);
        Ok(shown)
    }
}

/// A map of runs voxel by voxel.
fn whole(map: &volume::RunMap, shape: [usize; 3]) -> Array3<u8> {
    let mut labels = Array3::zeros(shape.f());
    let mut plane = vec![0; shape[0] * shape[1]];
    for (z, labels) in labels.axis_iter_mut(Axis(2)).enumerate() {
        map.plane(z, &mut plane);
        labels.reversed_axes().iter_mut().zip(&plane).for_each(|(label, value)| *label = *value);
    }
    labels
}

/// An output of a 3-D model before a scan.
pub(crate) struct Asked<'a> {
    pub(crate) model: &'a Volumetric,
    pub(crate) output: usize,
    pub(crate) shown: &'a ShownScan,
}

impl Asked<'_> {
    /// The part that is shown of labels.
    pub(crate) fn of(&self, labels: &Found) -> Array3<u8> {
        let (slices, region, [nx, ny, _]) = (labels.on(&self.shown.grid), self.shown.region, self.shown.grid.shape);
        let (mut part, mut plane) = (Array3::zeros(region.shape.f()), Array3::zeros([nx, ny, 1].f()));
        for (z, mut part) in part.axis_iter_mut(Axis(2)).enumerate() {
            slices.write(region.start[2] + z, plane.as_slice_memory_order_mut().unwrap_or_default());
            let [x, y, _] = region.start;
            part.assign(&plane.slice(s![x..x + region.shape[0], y..y + region.shape[1], 0]));
        }
        part
    }

    /// A map of the part that is shown; `outside` elsewhere.
    pub(crate) fn found(&self, map: Array3<u8>, outside: u8) -> Found {
        Found::inside(map, self.shown.region, self.shown.grid, outside)
    }

    /// Whether a label is one that the output may give.
    pub(crate) fn check(&self, labels: &Array3<u8>, path: &Path) -> Result<()> {
        let known = self.model.outputs()[self.output].pattern();
        match labels.iter().find(|&&label| label != 0 && !known.contains(label)) {
            Some(label) => bail!("{}: value {label}, expected 0 or one of {known}; correct the label map", path.display()),
            None => Ok(()),
        }
    }
}
