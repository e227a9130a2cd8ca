//! Lays the label maps of groups over each other, such as the cancer map over the organ map (paper 2.4).

mod ahead;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use dataset::{ImageFile, Naming};
use labels::{BACKGROUND, Classes, LabelPattern};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use stage_kit::{Ahead, ByCase, CaseSpec, CaseStage, Chore, Cost, Forecast, Look, Role, Stage, StageIo};
use volume::nifti::{Header, LabelReader, LabelWriter};

/// The parameters of `overlay`. The rule has none: it is the paper's.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The classes, in groups; later groups lie over earlier ones.
    pub classes: Classes,
    /// The groups whose maps are taken, in whatever order they stand here; by default all. A student whose cancer decoder was never
    /// trained would say anything of cancer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<Vec<String>>,
}

impl Config {
    /// The groups whose maps are taken, by their places.
    fn places(&self) -> Result<Vec<usize>> {
        let Some(groups) = &self.groups else { return Ok((0..self.classes.groups().len()).collect()) };
        let mut places: Vec<usize> = groups.iter().map(|group| self.classes.group(group)).collect::<Result<_, _>>().context("groups")?;
        places.sort_unstable();
        places.dedup();
        ensure!(!places.is_empty(), "groups: names no group; name one at least, or leave it out for all");
        Ok(places)
    }
}

/// The stage `overlay`.
pub struct Overlay;

impl Stage for Overlay {
    const NAME: &'static str = "overlay";
    const REVISION: u32 = 2;
    const ABOUT: &'static str = "Lays the label maps of groups over each other, such as cancer over organs: one label map of all classes";
    const READS: &'static [Role] =
        &[Role::required("labels", "a folder with GROUP/CASE.nii.gz for each group, in the values of the classes, on the same grid")
            .by_case()];
    const WRITES: &'static str = "labels/CASE.nii.gz on the same grid";
    const PAPER: &'static str = "2.4";
    const EXAMPLE: &'static str = include_str!("../example.yaml");
    type Config = Config;

    fn check(config: &Config) -> Result<()> {
        config.places().map(drop)
    }

    const BY_CASE: Option<ByCase> = Some(ByCase::of::<Self>());

    fn forecast(config: &Config, ahead: &Ahead) -> Result<Forecast> {
        ahead::forecast(config, ahead)
    }

    fn sample(config: &Config, _: &Ahead, chore: &Chore, io: &StageIo) -> Result<Cost> {
        ahead::sample(config, chore, io)
    }

    fn run(config: &Config, io: &StageIo) -> Result<()> {
        stage_kit::run_cases::<Self>(config, io)
    }
}

/// The maps of a case.
pub struct Maps {
    /// That of the lowest group.
    lowest: ImageFile,
    /// All, the lowest first.
    maps: Vec<Map>,
}

/// The map of a group.
struct Map {
    group: String,
    classes: LabelPattern,
    path: PathBuf,
}

impl Maps {
    fn place(&self) -> String {
        format!("labels/{}", self.lowest.label_name())
    }
}

impl CaseStage for Overlay {
    type Job = Maps;
    type Tools = ();

    fn look(config: &Config, io: &StageIo) -> Result<Look<Maps>> {
        let labels = io.input("labels")?;
        let groups: Vec<_> = config.places()?.into_iter().map(|place| &config.classes.groups()[place]).collect();
        for folder in groups.iter().map(|group| labels.join(group.key())) {
            ensure!(
                folder.is_dir(),
                "there is no folder {} with label maps of that group; make it, or name the `groups` to take",
                folder.display()
            );
        }
        let maps = |lowest: ImageFile| {
            let map = |(k, group): (usize, &&labels::Group)| {
                let path = if k == 0 { lowest.path.clone() } else { labels.join(group.key()).join(lowest.label_name()) };
                Map { group: group.key().to_owned(), classes: group.pattern(), path }
            };
            Maps { maps: groups.iter().enumerate().map(map).collect(), lowest }
        };
        let (files, aside) = dataset::list(&labels.join(groups[0].key()), Naming::Labels)?.parted(Naming::Labels);
        Ok(Look::of(files.map(|files| files.into_iter().map(maps).collect()).map_err(Into::into)).beside(aside))
    }

    fn case(_: &Config, maps: &Maps) -> CaseSpec {
        let spec = CaseSpec::of(&maps.lowest.id).writes([maps.place()]);
        maps.maps.iter().fold(spec, |spec, map| spec.reads(&map.group, &map.path))
    }

    fn tools(_: &Config, _: &StageIo) -> Result<()> {
        Ok(())
    }

    fn work(_: &Config, io: &StageIo, (): &(), maps: &Maps) -> Result<()> {
        write_overlaid(&io.output.join(maps.place()), &maps.maps)
    }
}

/// Writes the lowest map with the others on top, slice by slice.
fn write_overlaid(output: &Path, maps: &[Map]) -> Result<()> {
    let Some((lowest, others)) = maps.split_first() else { return Ok(()) };
    let mut reader = LabelReader::open(&lowest.path)?;
    let mut upper = others.iter().map(|map| anyhow::Ok((map, map.open_on(reader.header(), lowest)?))).collect::<Result<Vec<_>>>()?;
    let mut writer = LabelWriter::create(output, reader.header())?;
    let (mut labels, mut over) = (Vec::new(), Vec::new());
    while reader.next_slice(&mut labels)? {
        lowest.check(&labels)?;
        for (map, reader) in &mut upper {
            reader.next_slice(&mut over)?;
            map.check(&over)?;
            labels::overlay(&mut labels, &over).with_context(|| format!("{} over {}", map.path.display(), lowest.path.display()))?;
        }
        writer.add(&labels)?;
    }
    Ok(writer.finish()?)
}

impl Map {
    /// The map, if it lies on the grid of the lowest one.
    fn open_on(&self, header: &Header, lowest: &Self) -> Result<LabelReader> {
        let map = LabelReader::open(&self.path)?;
        ensure!(
            header.grid().approx_eq(&map.header().grid()),
            "{} and {} are on different grids ({:?} and {:?} voxels); make both with the same stage",
            lowest.path.display(),
            self.path.display(),
            header.grid().shape,
            map.header().grid().shape
        );
        Ok(map)
    }

    /// Refuses values of other groups, which would lie in the wrong order.
    fn check(&self, labels: &[u8]) -> Result<()> {
        let other = labels.iter().find(|&&label| label != BACKGROUND && !self.classes.contains(label));
        let Some(value) = other else { return Ok(()) };
        anyhow::bail!(
            "{}: value {value}, expected 0 and the classes {} of the group `{}`; write the map in the values of the classes",
            self.path.display(),
            self.classes,
            self.group
        );
    }
}
