//! Which files belong to which case.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use dataset::{ImageFile, Listing, Naming};
use stage_kit::{Aside, LeftOut};

use crate::Config;
use crate::check::Facts;

/// A case with its files, not yet looked into. Paths are relative to the dataset, which is at `root`.
pub struct Candidate {
    pub(crate) id: String,
    pub(crate) root: PathBuf,
    pub(crate) image: PathBuf,
    pub(crate) label: Option<PathBuf>,
}

impl Candidate {
    /// Where the facts or the findings are kept until all cases are checked, in the folder `work`.
    pub(crate) fn findings(&self) -> String {
        format!("checked/{}.json", self.id)
    }

    /// What the check found.
    pub(crate) fn read_findings(&self, work: &Path) -> Result<Result<Facts, Vec<LeftOut>>> {
        let path = work.join(self.findings());
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} holds no findings; remove it and run again", path.display()))
    }
}

/// All cases that have one image, sorted by id, and what else lies in the folders.
pub(crate) fn gather(root: &Path, config: &Config) -> Result<(Vec<Candidate>, Aside)> {
    let mut found = Gathering { root, config, aside: Aside::default() };
    let images = found.images()?;
    let labels = found.label_maps(&images)?;
    let mut candidates = Vec::new();
    for (id, files) in &images {
        match &files[..] {
            [image] => {
                let Ok(label) = labels.of(id) else { continue };
                candidates.push(Candidate { id: id.clone(), root: root.to_owned(), image: image.clone(), label });
            }
            files => found.several(id, files, "image"),
        }
    }
    exclude(&mut candidates, &mut found.aside, config)?;
    found.aside.left_out.sort();
    Ok((candidates, found.aside))
}

/// Cases that the user wants to do without are no findings.
fn exclude(candidates: &mut Vec<Candidate>, aside: &mut Aside, config: &Config) -> Result<()> {
    let known: BTreeSet<&str> =
        candidates.iter().map(|one| one.id.as_str()).chain(aside.left_out.iter().map(|one| one.case.as_str())).collect();
    let unknown: Vec<&str> = config.exclude.iter().map(String::as_str).filter(|case| !known.contains(case)).collect();
    if let Some(first) = unknown.first() {
        let near = stage_kit::nearest(first, known.iter().copied()).map_or_else(String::new, |near| format!("; did you mean {near}?"));
        bail!("exclude: there is no case {} in the dataset{near}", unknown.join(", "));
    }
    candidates.retain(|one| !config.exclude.contains(&one.id));
    aside.left_out.retain(|one| !config.exclude.contains(&one.case));
    Ok(())
}

/// The label map of each case, and the cases of which nobody knows whether they have one.
struct LabelMaps {
    maps: BTreeMap<String, PathBuf>,
    unclear: BTreeSet<String>,
}

impl LabelMaps {
    /// The label map of a case, or none; an error if that is unclear. A case whose label map is only named wrongly must not count as
    /// unlabelled.
    fn of(&self, case: &str) -> Result<Option<PathBuf>, ()> {
        if self.unclear.contains(case) { Err(()) } else { Ok(self.maps.get(case).cloned()) }
    }
}

struct Gathering<'a> {
    root: &'a Path,
    config: &'a Config,
    aside: Aside,
}

impl Gathering<'_> {
    /// Lists a folder of the dataset; folders within it that the parameters name have their own turn.
    fn list(&mut self, folder: &Path, naming: Naming, what: &'static str) -> Result<Listing> {
        let mut listing = dataset::list(&self.root.join(folder), naming).context(what)?;
        let Config { images, labels, corrected_labels, .. } = self.config;
        for named in images.iter().chain(labels).chain(corrected_labels).filter(|named| *named != folder) {
            listing = listing.apart_from(&self.root.join(named));
        }
        for one in &mut listing.aside.left_out {
            one.file = inside(self.root, &one.file);
        }
        Ok(listing)
    }

    fn images(&mut self) -> Result<BTreeMap<String, Vec<PathBuf>>> {
        let mut images = BTreeMap::<String, Vec<PathBuf>>::new();
        for folder in &self.config.images {
            let listing = self.list(folder, Naming::Images, "images")?;
            self.aside.extend(listing.aside.clone());
            for ImageFile { id, path } in listing.some(Naming::Images).context("images")? {
                images.entry(id).or_default().push(inside(self.root, &path));
            }
        }
        Ok(images)
    }

    fn label_maps(&mut self, images: &BTreeMap<String, Vec<PathBuf>>) -> Result<LabelMaps> {
        let mut labels = LabelMaps { maps: BTreeMap::new(), unclear: BTreeSet::new() };
        if let Some(folder) = &self.config.labels {
            let listing = self.list(folder, Naming::Labels, "labels")?;
            let files = self.labels_of(listing.clone(), images, &mut labels.unclear);
            listing.some(Naming::Labels).context("labels")?;
            labels.maps.extend(files);
        }
        if let Some(folder) = &self.config.corrected_labels {
            let listing = self.list(folder, Naming::Labels, "corrected_labels")?;
            labels.maps.extend(self.labels_of(listing, images, &mut labels.unclear));
        }
        Ok(labels)
    }

    /// The label maps of a listing that belong to an image. All others are findings about the case that they are most likely of.
    fn labels_of(
        &mut self,
        listing: Listing,
        images: &BTreeMap<String, Vec<PathBuf>>,
        unclear: &mut BTreeSet<String>,
    ) -> Vec<(String, PathBuf)> {
        let by_letters: BTreeMap<String, &String> = images.keys().map(|id| (id.to_lowercase(), id)).collect();
        let likely = |name: &Path| by_letters.get(&dataset::likely_case(name).to_lowercase()).map(|id| (*id).clone());
        let mut maps = BTreeMap::new();
        let mut strangers = listing.aside.left_out;
        for ImageFile { id, path } in listing.files {
            let file = inside(self.root, &path);
            if images.contains_key(&id) {
                maps.insert(id, file);
                continue;
            }
            let case = likely(&path);
            let remedy = match &case {
                Some(case) => format!("rename it to {case}.nii.gz if it is the label map of {case}"),
                None => "add the image or remove the label map".into(),
            };
            strangers.push(LeftOut {
                found: "a label map without an image".into(),
                expected: format!("{id}_0000.nii.gz in one of the image folders"),
                remedy,
                case: case.unwrap_or(id),
                file,
            });
        }
        for mut stranger in strangers {
            // A case that has a label map of the right name is clear, whatever else lies beside it.
            if let Some(case) = likely(&stranger.file).or_else(|| images.contains_key(&stranger.case).then(|| stranger.case.clone())) {
                if !maps.contains_key(&case) {
                    unclear.insert(case.clone());
                }
                stranger.case = case;
            }
            self.aside.left_out.push(stranger);
        }
        self.aside.passed_over.extend(listing.aside.passed_over);
        maps.into_iter().collect()
    }

    fn several(&mut self, case: &str, files: &[PathBuf], what: &str) {
        let list = files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", ");
        self.aside.left_out.push(LeftOut {
            case: case.to_owned(),
            file: files.first().cloned().unwrap_or_default(),
            found: format!("{} files: {list}", files.len()),
            expected: format!("one {what}"),
            remedy: "keep one and remove the others".into(),
        });
    }
}

fn inside(root: &Path, path: &Path) -> PathBuf {
    path.strip_prefix(root).unwrap_or(path).to_owned()
}
