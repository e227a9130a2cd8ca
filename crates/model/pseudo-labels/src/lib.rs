//! Scans that models write labels for, and what is known of them already: true labels win (paper 2.3, Fig. 1c).

mod filter;
mod found;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use dataset::{Manifest, Naming, Roots, Split};
use labels::{BACKGROUND, Classes, Completion, FULL_TRUST, Group, LabelPattern, Regions};
use serde_json::json;
use stage_kit::{Aside, CaseSpec, Role, StageIo, write_atomic_text};
use volume::Cut;
use volume::nifti::{self, Header, LabelReader, write_label_slices};

pub use filter::{Bounds, Filter, FilterError, Verdict, table};
use filter::{Counts, Judgement};
pub use found::{Found, Weighed};

/// The roles behind [`scans`].
pub const ROLES: [Role; 3] = [
    Role { required: false, ..dataset::DATASETS },
    Role::optional("partition", "the output of partition; with `datasets`").by_case(),
    Role::optional("images", "instead of datasets: a folder of CT scans, CASE_0000.nii.gz, none of them labelled").by_case(),
];

/// A scan to label.
pub struct Scan {
    /// The case.
    pub id: String,
    /// The image file.
    pub image: PathBuf,
    truth: Option<Truth>,
    /// The label map of the dataset that is kept from the models, and written beside theirs.
    held_out: Option<PathBuf>,
}

/// The label map of a dataset, what its values mean, and what its annotators looked for.
struct Truth {
    path: PathBuf,
    regions: Regions,
    annotated: LabelPattern,
    /// Where labels of both sides of the body are cut in two.
    cuts: Vec<Cut>,
}

/// The scans of a folder behind the role `images`, or those of `subsets` behind the roles `datasets` and `partition`; with `held_out`
/// those for validation alone, as if nobody had labelled them.
///
/// # Errors
/// When the roles do not go together, there are no scans, or a file cannot be read.
pub fn scans(subsets: &[String], held_out: bool, io: &StageIo) -> Result<Vec<Scan>> {
    let has_datasets = !io.inputs_under(dataset::DATASETS.name).is_empty();
    match (io.input_opt("images")?, has_datasets, io.input_opt("partition")?) {
        (Some(images), false, None) => {
            ensure!(!held_out, "held_out: the scans of a folder have no label maps to be scored by; give `datasets` and `partition`");
            let scan = |file: dataset::ImageFile| Scan { id: file.id, image: file.path, truth: None, held_out: None };
            Ok(dataset::image_files(images)?.into_iter().map(scan).collect())
        }
        (None, true, Some(partition)) => of_subsets(subsets, held_out, &Manifest::load(partition)?, &Roots::of(io)),
        _ => bail!("give either `images`, or `datasets` together with `partition`"),
    }
}

fn of_subsets(subsets: &[String], held_out: bool, manifest: &Manifest, roots: &Roots) -> Result<Vec<Scan>> {
    let mut scans = Vec::new();
    for subset in subsets {
        for case in manifest.select(subset, held_out.then_some(Split::Validation))? {
            let root = roots.root(&case.dataset)?;
            let regions = manifest.regions.get(&case.dataset).cloned().unwrap_or_default();
            let label = case.annotated_label().map(|label| root.join(label));
            let (truth, held_out) = match held_out {
                true => (None, label),
                false => (label.map(|path| Truth { path, regions, annotated: case.annotated, cuts: case.cuts.clone() }), None),
            };
            scans.push(Scan { id: case.id.clone(), image: root.join(&case.image), truth, held_out });
        }
    }
    Ok(scans)
}

/// What else lies in the folder behind the role `images`.
///
/// # Errors
/// When the folder cannot be listed.
pub fn aside(io: &StageIo) -> Result<Aside> {
    Ok(match io.input_opt("images")? {
        Some(images) => dataset::list(images, Naming::Images)?.aside,
        None => Aside::default(),
    })
}

impl Scan {
    /// The files and facts of the case, and what [`Scan::write`] writes for it: a map for each group.
    #[must_use]
    pub fn spec(&self, classes: &Classes) -> CaseSpec {
        let groups = classes.groups().iter().map(|group| group.key());
        let places: Vec<String> = groups.chain(self.held_out.as_ref().map(|_| TRUTH)).map(|folder| self.place(folder)).collect();
        let spec = CaseSpec::of(&self.id).reads("image", &self.image).writes(places);
        let spec = self.held_out.iter().fold(spec, |spec, label| spec.reads("label", label));
        match &self.truth {
            Some(Truth { path, regions, annotated, cuts }) => {
                let mut facts = json!({"regions": regions, "annotated": annotated, "classes": classes});
                if !cuts.is_empty() {
                    facts["cuts"] = json!(cuts);
                }
                spec.reads("label", path).depends_on(facts)
            }
            None => spec,
        }
    }

    /// The same for [`Scan::write_weighed`].
    #[must_use]
    pub fn weighed_spec(&self, classes: &Classes) -> CaseSpec {
        let of_group = |group: &Group| [self.place(group.key()), self.trust_place(group.key())];
        let places: Vec<String> = classes.groups().iter().flat_map(of_group).collect();
        self.spec(classes).writes(places).keeps([self.verdicts()])
    }

    /// The map of a group, or the one that is held out, in the output folder.
    fn place(&self, group: &str) -> String {
        format!("{group}/{}.nii.gz", self.id)
    }

    /// The trust in it.
    fn trust_place(&self, group: &str) -> String {
        format!("{}/{}.nii.gz", trust_folder(group), self.id)
    }

    /// What became of the labels of each class, in the folder `work`.
    fn verdicts(&self) -> String {
        format!("trust/{}.json", self.id)
    }

    /// Writes for each group the labels that `find` finds, on the grid of the image, with what is truly labelled in their place.
    /// Nobody is asked for a group of which the truth says everything.
    ///
    /// # Errors
    /// Those of `find`; when the label map does not fit the image, or a file cannot be written.
    pub fn write(&self, io: &StageIo, header: &Header, classes: &Classes, mut find: impl FnMut(usize) -> Result<Found>) -> Result<()> {
        self.write_held_out(io)?;
        for (k, group) in classes.groups().iter().enumerate() {
            let (path, truth) = (io.output.join(self.place(group.key())), self.truth_on(header, classes, k)?);
            let found = if truth.as_ref().is_some_and(|truth| truth.rule.needs_no_model()) { None } else { Some(find(k)?) };
            let slices = found.as_ref().map(|found| found.on(&header.grid()));
            let mut merge = Merge::with(truth.as_ref())?;
            write_label_slices(&path, header, |z, labels| {
                match &slices {
                    Some(slices) => slices.write(z, labels),
                    None => labels.fill(BACKGROUND),
                }
                merge.slice(labels)
            })?;
        }
        Ok(())
    }

    /// The same, and beside each map the trust in its labels: full in true ones, and in those of the model what `filter` leaves.
    ///
    /// # Errors
    /// As [`Scan::write`].
    pub fn write_weighed(
        &self,
        io: &StageIo,
        header: &Header,
        classes: &Classes,
        filter: &Filter,
        mut find: impl FnMut(usize) -> Result<Weighed>,
    ) -> Result<()> {
        let mut verdicts = Vec::new();
        for (k, group) in classes.groups().iter().enumerate() {
            let paths = [self.place(group.key()), self.trust_place(group.key())].map(|place| io.output.join(place));
            let truth = self.truth_on(header, classes, k)?;
            if let Some(truth) = truth.as_ref().filter(|truth| truth.rule.needs_no_model()) {
                truth.write_alone(header, &paths)?;
                continue;
            }
            let judge = |counts: &Counts| filter.judge(classes, k, counts);
            verdicts.extend(write_judged(judge, &find(k)?, truth.as_ref(), header, &paths)?);
        }
        write_atomic_text(&io.work.join(self.verdicts()), &serde_json::to_string(&verdicts)?)
    }

    /// What [`Scan::write_weighed`] has found of the labels of each class.
    ///
    /// # Errors
    /// When it has not been done.
    pub fn read_verdicts(&self, io: &StageIo) -> Result<Vec<Verdict>> {
        let path = io.work.join(self.verdicts());
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        serde_json::from_str(&text).with_context(|| format!("{}: delete it and run again", path.display()))
    }

    /// Writes the label map that is kept from the models, as it is.
    fn write_held_out(&self, io: &StageIo) -> Result<()> {
        let Some(path) = &self.held_out else { return Ok(()) };
        let (header, mut reader) = (nifti::read_header(path)?, LabelReader::open(path)?);
        let mut slice = Vec::new();
        write_label_slices(io.output.join(self.place(TRUTH)), &header, |_, labels| {
            reader.next_slice(&mut slice)?;
            labels.copy_from_slice(&slice);
            anyhow::Ok(())
        })
    }

    /// What the label map of the dataset says of a group, if there is one; it must be on the grid of the image.
    fn truth_on(&self, image: &Header, classes: &Classes, group: usize) -> Result<Option<TruthOfGroup<'_>>> {
        let Some(Truth { path, regions, annotated, cuts }) = &self.truth else { return Ok(None) };
        let found = nifti::read_header(path)?.grid();
        ensure!(
            found.approx_eq(&image.grid()),
            "{}: the label map has {:?} voxels and the image {:?}, or their affines differ; correct the header of one of them",
            path.display(),
            found.shape,
            image.grid().shape
        );
        Ok(Some(TruthOfGroup { path, cuts, rule: Completion::of(classes, group, regions, *annotated)? }))
    }
}

/// The folder of the label maps that are held out.
pub const TRUTH: &str = "truth";

/// The folder of the trust in the labels of a group, beside the group's own.
#[must_use]
pub fn trust_folder(group: &str) -> String {
    format!("{group}_trust")
}

/// What the label map of a dataset says of a group, on the grid of the image.
struct TruthOfGroup<'a> {
    path: &'a Path,
    cuts: &'a [Cut],
    rule: Completion,
}

impl TruthOfGroup<'_> {
    /// Writes what is truly labelled and nothing else, and full trust in it.
    fn write_alone(&self, header: &Header, [labels_path, trust_path]: &[PathBuf; 2]) -> Result<()> {
        let mut merge = Merge::with(Some(self))?;
        write_label_slices(labels_path, header, |_, labels| {
            labels.fill(BACKGROUND);
            merge.slice(labels)
        })?;
        write_label_slices(trust_path, header, |_, trust| {
            trust.fill(FULL_TRUST);
            anyhow::Ok(())
        })
    }
}

/// Puts true labels into the place of a model's, slice by slice.
struct Merge<'a> {
    truth: Option<(&'a TruthOfGroup<'a>, LabelReader)>,
    /// The true labels and the model's of the slice that was merged last.
    labels: Vec<u8>,
    found: Vec<u8>,
}

impl<'a> Merge<'a> {
    fn with(truth: Option<&'a TruthOfGroup<'a>>) -> Result<Self> {
        let truth = truth.map(|truth| anyhow::Ok((truth, LabelReader::open(truth.path)?.cut(truth.cuts)))).transpose()?;
        Ok(Self { truth, labels: Vec::new(), found: Vec::new() })
    }

    /// Merges the model's labels of the next slice. Afterwards [`Merge::settled`] answers for it.
    fn slice(&mut self, labels: &mut [u8]) -> Result<()> {
        self.found.clear();
        self.found.extend_from_slice(labels);
        let Some((truth, reader)) = &mut self.truth else { return Ok(()) };
        reader.next_slice(&mut self.labels)?;
        truth.rule.complete(&self.labels, labels).with_context(|| format!("merging with {}", truth.path.display()))
    }

    /// Whether the truth alone has decided a voxel of the slice that was merged last.
    fn settled(&self, at: usize) -> bool {
        self.truth.as_ref().is_some_and(|(truth, _)| truth.rule.is_decided(self.labels[at], self.found[at]))
    }
}

/// Writes labels, merged with the truth, and the trust that is left in them, full where the truth has settled a label.
/// Says what became of each class. Asks for the slices twice, because what is left depends on all of them.
fn write_judged(
    judge: impl Fn(&Counts) -> Judgement,
    weighed: &Weighed,
    truth: Option<&TruthOfGroup<'_>>,
    header: &Header,
    [labels_path, trust_path]: &[PathBuf; 2],
) -> Result<Vec<Verdict>> {
    let grid = header.grid();
    let (mut slice, mut counts) = (weighed.on(&grid), Counts::new());
    let mut merge = Merge::with(truth)?;
    let mut trust = vec![0; grid.shape[0] * grid.shape[1]];
    write_label_slices(labels_path, header, |z, labels| {
        slice(z, labels, &mut trust);
        merge.slice(labels)?;
        let open = merge.found.iter().zip(&trust).enumerate().filter(|(at, _)| !merge.settled(*at));
        open.for_each(|(_, (&label, &trust))| counts.add(label, trust));
        anyhow::Ok(())
    })?;
    let judgement = judge(&counts);
    let mut merge = Merge::with(truth)?;
    let mut labels = vec![0; grid.shape[0] * grid.shape[1]];
    write_label_slices(trust_path, header, |z, trust| {
        slice(z, &mut labels, trust);
        merge.slice(&mut labels)?;
        for (at, (trust, label)) in trust.iter_mut().zip(&merge.found).enumerate() {
            *trust = if merge.settled(at) { FULL_TRUST } else { judgement.trust(*label, *trust) };
        }
        anyhow::Ok(())
    })?;
    Ok(judgement.verdicts())
}
