//! Which files belong to which case, where folders hold images and label maps.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use stage_kit::{Aside, LeftOut};

use crate::declaration::Folders;
use crate::folder::{ImageFile, Listing, Naming, likely_case, list};
use crate::nnunet::{DatasetList, LIST_FILE, ListedFiles};
use crate::problem::Problem;
use crate::source::CaseFiles;

/// The images and label maps of a dataset by case, and what else was found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) images: BTreeMap<String, Vec<PathBuf>>,
    pub(crate) labels: BTreeMap<String, PathBuf>,
    pub(crate) patients: BTreeMap<String, String>,
    /// Cases of which nobody knows whether they have a label map. A case whose label map is only named wrongly must not count as
    /// unlabelled.
    pub(crate) unclear: BTreeSet<String>,
    pub(crate) aside: Aside,
    /// What to do about an image without a label map, and where that is expected; none if it is an unlabelled case.
    pub(crate) lone_image: Option<(&'static str, String)>,
}

impl Found {
    /// All cases that have one image and, where that is asked for, a label map.
    pub(crate) fn cases(mut self) -> (Vec<CaseFiles>, Aside) {
        let mut cases = Vec::with_capacity(self.images.len());
        for (case, mut files) in std::mem::take(&mut self.images) {
            if files.len() > 1 {
                files.sort();
                self.aside.left_out.push(several(&case, &files, "one image"));
                continue;
            }
            let (Some(image), false) = (files.pop(), self.unclear.contains(&case)) else { continue };
            let (label, patient) = (self.labels.remove(&case), self.patients.remove(&case));
            if let (None, Some((remedy, expected))) = (&label, &self.lone_image) {
                let prefix = patient.as_ref().map_or_else(String::new, |patient| format!("{patient}_"));
                let own = case.strip_prefix(&prefix).unwrap_or(&case);
                self.aside.left_out.push(LeftOut {
                    file: image,
                    found: "an image without a label map".into(),
                    expected: expected.replace("{patient}", patient.as_deref().unwrap_or_default()).replace("{case}", own),
                    remedy: (*remedy).to_owned(),
                    case,
                });
                continue;
            }
            cases.push(CaseFiles { case, image, label, patient });
        }
        self.aside.left_out.sort();
        (cases, self.aside)
    }

    /// The cases by their names in small letters.
    fn by_letters(&self) -> BTreeMap<String, String> {
        self.images.keys().map(|case| (case.to_lowercase(), case.clone())).collect()
    }

    /// Names the files that are no label map of a case, each with the case that it is most likely of. `maps` are the label maps of
    /// the same place.
    pub(crate) fn strangers(&mut self, strangers: Vec<LeftOut>, maps: &BTreeMap<String, PathBuf>) {
        let by_letters = if strangers.is_empty() { BTreeMap::new() } else { self.by_letters() };
        for mut stranger in strangers {
            let likely = by_letters.get(&likely_case(&stranger.file).to_lowercase());
            // A case that has a label map of the right name is clear, whatever else lies beside it.
            if let Some(case) = likely.or_else(|| self.images.get_key_value(&stranger.case).map(|(case, _)| case)).cloned() {
                if stranger.found == WITHOUT_IMAGE && likely.is_some() {
                    stranger.remedy = format!("rename it to {case}.nii.gz if it is the label map of {case}");
                }
                if !maps.contains_key(&case) {
                    self.unclear.insert(case.clone());
                }
                stranger.case = case;
            }
            self.aside.left_out.push(stranger);
        }
    }
}

pub(crate) fn several(case: &str, files: &[PathBuf], expected: &str) -> LeftOut {
    let list = files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", ");
    LeftOut {
        case: case.to_owned(),
        file: files.first().cloned().unwrap_or_default(),
        found: format!("{} files: {list}", files.len()),
        expected: expected.to_owned(),
        remedy: "keep one and remove the others".into(),
    }
}

/// The files that `dataset.json` lists one by one. Nothing else in the folders is looked at, because files of any name and place may
/// be listed. `lone_image` says what to do about a case without a label map; none if it is an unlabelled case.
pub(crate) fn listed(root: &Path, files: &BTreeMap<String, ListedFiles>, lone_image: Option<&'static str>) -> Found {
    let lone_image = lone_image.map(|remedy| (remedy, format!("a `label` of {{case}} in {LIST_FILE}")));
    let mut found = Found { lone_image, ..Found::default() };
    for (case, ListedFiles { images, label }) in files {
        let mut bad = |file: &Path, what: String, expected: &str, remedy: &str| {
            let (case, file) = (case.clone(), file.to_owned());
            found.aside.left_out.push(LeftOut { case, file, found: what, expected: expected.into(), remedy: remedy.into() });
        };
        let lost: Vec<&PathBuf> = images.iter().chain(label).filter(|file| !root.join(file).is_file()).collect();
        if let [image] = &images[..] {
            if lost.is_empty() {
                found.images.insert(case.clone(), vec![image.clone()]);
                found.labels.extend(label.iter().map(|label| (case.clone(), label.clone())));
            }
        } else {
            bad(LIST_FILE.as_ref(), format!("{} images", images.len()), "one image, the CT", "list the CT alone under `images`");
        }
        for file in lost {
            bad(file, format!("{LIST_FILE} lists it, and it is not there"), "a file at that path", "put it there, or take the case out");
        }
    }
    found
}

/// Folders of images and of label maps, relative to the dataset.
pub(crate) struct FolderFiles {
    pub(crate) images: Vec<PathBuf>,
    pub(crate) labels: Option<PathBuf>,
    pub(crate) corrected_labels: Option<PathBuf>,
    /// What to do about an image without a label map; none if it is an unlabelled case.
    pub(crate) lone_image: Option<&'static str>,
    /// What `dataset.json` says, with the layout of nnU-Net.
    pub(crate) list: Option<DatasetList>,
}

impl FolderFiles {
    pub(crate) fn of(folders: &Folders) -> Self {
        let Folders { images, labels, corrected_labels } = folders.clone();
        Self { images, labels, corrected_labels, lone_image: None, list: None }
    }

    pub(crate) fn gather(&self, root: &Path) -> Result<Found, Problem> {
        let lone_image = self.lone_image.zip(self.labels.as_ref().map(|folder| format!("{}/{{case}}.nii.gz", folder.display())));
        let mut found = Found { lone_image, ..Found::default() };
        let naming = self.images(root, &mut found)?;
        self.label_maps(root, naming, &mut found)?;
        if let Some(listed) = self.list.as_ref().and_then(|list| list.training.as_ref()) {
            self.keep_to(listed, &mut found);
        }
        Ok(found)
    }

    /// Lists a folder of the dataset; folders within it that the declaration names have their own turn.
    fn list(&self, root: &Path, folder: &Path, naming: Naming, what: &'static str) -> Result<Listing, Problem> {
        let mut listing = list(&root.join(folder), naming).map_err(|reason| Problem::Folder { what, reason })?;
        for named in self.images.iter().chain(&self.labels).chain(&self.corrected_labels).filter(|named| *named != folder) {
            listing = listing.apart_from(&root.join(named));
        }
        for one in &mut listing.aside.left_out {
            one.file = inside(root, &one.file);
        }
        Ok(listing)
    }

    /// Finds the images, and tells how they are named.
    fn images(&self, root: &Path, found: &mut Found) -> Result<Naming, Problem> {
        let mut naming = Naming::Images;
        for (k, folder) in self.images.iter().enumerate() {
            let mut listing = self.list(root, folder, naming, "images")?;
            if k == 0 && self.list.is_some() && listing.files.is_empty() {
                // The Decathlon's images have no number of a channel.
                let without = self.list(root, folder, Naming::Labels, "images")?;
                if !without.files.is_empty() {
                    (listing, naming) = (without, Naming::Labels);
                }
            }
            self.pass_over_channels(&mut listing);
            found.aside.extend(listing.aside.clone());
            let files = listing.some(naming).map_err(|reason| Problem::Folder { what: "images", reason })?;
            for ImageFile { id, path } in files {
                found.images.entry(id).or_default().push(inside(root, &path));
            }
        }
        Ok(naming)
    }

    /// Only the first of the channels that `dataset.json` declares is read; the files of the others are no findings.
    fn pass_over_channels(&self, listing: &mut Listing) {
        let channels = self.list.as_ref().map_or(1, |list| list.channels);
        let files = &listing.files;
        let is_channel = |one: &LeftOut| {
            let name = one.file.file_name().unwrap_or_default().to_string_lossy();
            let stem = Naming::Labels.case(&name).and_then(|stem| stem.rsplit_once('_'));
            stem.is_some_and(|(case, channel)| {
                let is_declared = channel.len() == 4 && channel.parse::<usize>().is_ok_and(|channel| (1..channels).contains(&channel));
                is_declared && files.binary_search_by(|file| file.id.as_str().cmp(case)).is_ok()
            })
        };
        let others: Vec<LeftOut> = listing.aside.left_out.extract_if(.., |one| is_channel(one)).collect();
        listing.aside.passed_over.extend(others.into_iter().map(|one| one.file));
    }

    fn label_maps(&self, root: &Path, naming: Naming, found: &mut Found) -> Result<(), Problem> {
        for (folder, what) in [(&self.labels, "labels"), (&self.corrected_labels, "corrected_labels")] {
            let Some(folder) = folder else { continue };
            let listing = self.list(root, folder, Naming::Labels, what)?;
            let maps = labels_of(root, &listing, naming, found);
            if what == "labels" {
                listing.some(Naming::Labels).map_err(|reason| Problem::Folder { what, reason })?;
            }
            // Corrected label maps come last and take precedence.
            found.labels.extend(maps);
        }
        Ok(())
    }

    /// Leaves out images that the list `training` of `dataset.json` does not have, and names cases of it that are not there.
    fn keep_to(&self, listed: &BTreeSet<String>, found: &mut Found) {
        let finding = |case: &str, file: PathBuf, found: &str, remedy: &str| LeftOut {
            case: case.to_owned(),
            file,
            found: found.to_owned(),
            expected: format!("the cases that the list `training` of {LIST_FILE} has"),
            remedy: remedy.to_owned(),
        };
        let missing =
            listed.iter().filter(|case| !found.images.contains_key(*case) && !found.aside.left_out.iter().any(|one| one.case == **case));
        let missing = missing.map(|case| {
            finding(case, LIST_FILE.into(), "a case without an image", "put the image into imagesTr, or take the case out of the list")
        });
        let missing: Vec<LeftOut> = missing.collect();
        found.aside.left_out.extend(missing);
        if self.lone_image.is_none() {
            return;
        }
        let remedy =
            "add it to the list with its label map, or say `layout: {nnunet: {unlabeled: true}}` to take such images as unlabelled cases";
        let Found { images, aside, .. } = found;
        images.retain(|case, files| {
            let is_listed = listed.contains(case);
            if !is_listed {
                let strangers = files.iter().map(|file| finding(case, file.clone(), "an image that is not on the list", remedy));
                aside.left_out.extend(strangers);
            }
            is_listed
        });
    }
}

/// The label maps of a listing that belong to an image. All others are findings.
fn labels_of(root: &Path, listing: &Listing, naming: Naming, found: &mut Found) -> BTreeMap<String, PathBuf> {
    let mut maps = BTreeMap::new();
    let mut strangers = listing.aside.left_out.clone();
    for ImageFile { id, path } in &listing.files {
        let file = inside(root, path);
        if found.images.contains_key(id) {
            maps.insert(id.clone(), file);
        } else {
            strangers.push(without_image(id, file, naming));
        }
    }
    found.strangers(strangers, &maps);
    found.aside.passed_over.extend(listing.aside.passed_over.iter().cloned());
    maps
}

pub(crate) const WITHOUT_IMAGE: &str = "a label map without an image";

fn without_image(case: &str, file: PathBuf, naming: Naming) -> LeftOut {
    let suffix = if naming == Naming::Images { "_0000" } else { "" };
    LeftOut {
        case: case.to_owned(),
        file,
        found: WITHOUT_IMAGE.into(),
        expected: format!("{case}{suffix}.nii.gz in one of the image folders"),
        remedy: "add the image or remove the label map".into(),
    }
}

pub(crate) fn inside(root: &Path, path: &Path) -> PathBuf {
    path.strip_prefix(root).unwrap_or(path).to_owned()
}
