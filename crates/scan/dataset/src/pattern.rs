//! Which files belong to which case, where paths with places for names say so.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use stage_kit::LeftOut;

use crate::declaration::Pattern;
use crate::entry::{Kind, is_scan, kind, without_endings};
use crate::files::{Found, WITHOUT_IMAGE, several};
use crate::folder::{FolderError, trouble};
use crate::problem::Problem;
use crate::template::{Names, Template};

/// The templates of a layout, in the form in which paths are compared with them.
pub(crate) struct Templates {
    kinds: Vec<(Role, Template)>,
    /// What to do about an image without a label map, and where that is expected; none if it is an unlabelled case.
    lone_image: Option<(&'static str, String)>,
    images: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Image,
    Label,
    Other,
}

impl Templates {
    /// Those of a declaration.
    pub(crate) fn of(pattern: &Pattern) -> Result<Self, Problem> {
        let template = |field: &'static str, text: &str| {
            let failed = |reason| Problem::Template { field, template: text.to_owned(), reason };
            let template = Template::parse(text).map_err(failed)?;
            if field != OTHERS && !template.names_case() {
                return Err(failed("has no `{case}`, so that all files would be of one case"));
            }
            if field != OTHERS && !is_scan(text) {
                return Err(failed("does not end with `.nii.gz`, `.nii`, `.nrrd` or `.mha`; convert scans of other formats"));
            }
            Ok(template)
        };
        let images = template("layout: pattern: images", &pattern.images)?;
        let mut kinds = Vec::new();
        if let Some(text) = &pattern.labels {
            let labels = template("layout: pattern: labels", text)?;
            if labels.names_patient() != images.names_patient() {
                let reason = "must name the `{patient}` if `images` does, and must not otherwise";
                return Err(Problem::Template { field: "layout: pattern: labels", template: text.clone(), reason });
            }
            kinds.push((Role::Label, labels));
        }
        kinds.push((Role::Image, images));
        for text in &pattern.others {
            kinds.push((Role::Other, template(OTHERS, text)?));
        }
        let remedy = "add the label map, or say `unlabeled: true` beside `labels` in the pattern to take such images as unlabelled cases";
        let lone_image = pattern.labels.clone().filter(|_| !pattern.unlabeled).map(|labels| (remedy, labels));
        Ok(Self { kinds, lone_image, images: pattern.images.clone() })
    }

    /// Walks through the folders that the templates can mean.
    pub(crate) fn gather(&self, root: &Path) -> Result<Found, Problem> {
        let mut walk = Walk { root, templates: self, labels: BTreeMap::new(), strangers: Vec::new(), found: Found::default() };
        walk.folder(&mut Vec::new()).map_err(|reason| Problem::Folder { what: "layout: pattern", reason })?;
        let Walk { labels, mut strangers, mut found, .. } = walk;
        if found.images.is_empty() {
            let found = labels.len() + strangers.len() + found.aside.passed_over.len();
            let reason = FolderError::None { path: root.to_owned(), template: self.images.clone(), found };
            return Err(Problem::Folder { what: "layout: pattern: images", reason });
        }
        for (case, mut files) in labels {
            match (&mut files[..], found.images.contains_key(&case)) {
                ([file], true) => drop(found.labels.insert(case, std::mem::take(file))),
                (_, true) => {
                    files.sort();
                    found.unclear.insert(case.clone());
                    found.aside.left_out.push(several(&case, &files, "one label map"));
                }
                (_, false) => strangers.extend(files.into_iter().map(|file| self.without_image(&case, file))),
            }
        }
        let maps = found.labels.clone();
        found.strangers(strangers, &maps);
        found.lone_image = self.lone_image.clone();
        Ok(found)
    }

    fn without_image(&self, case: &str, file: PathBuf) -> LeftOut {
        LeftOut {
            case: case.to_owned(),
            file,
            found: WITHOUT_IMAGE.into(),
            expected: format!("an image {}", self.images),
            remedy: "add the image, or remove the label map".into(),
        }
    }

    /// Whether files that are meant can lie in or below a folder.
    fn reach(&self, folder: &[&str]) -> bool {
        self.kinds.iter().any(|(_, template)| template.depth() > folder.len() && !template.readings(folder).is_empty())
    }

    /// Whether images or label maps can lie in a folder itself.
    fn has_input(&self, folder: &[&str]) -> bool {
        let mut input = self.kinds.iter().filter(|(role, _)| *role != Role::Other);
        input.any(|(_, template)| template.depth() == folder.len() + 1 && !template.readings(folder).is_empty())
    }

    /// What a file is, by the templates that fix most of its path; several if they fix equally much.
    fn meanings(&self, path: &[&str]) -> Vec<(Role, Vec<Names>)> {
        let mut best = 0;
        let mut meanings = Vec::new();
        for (role, template) in self.kinds.iter().filter(|(_, template)| template.depth() == path.len()) {
            let readings: Vec<Names> = template.readings(path).into_iter().collect();
            if readings.is_empty() || template.fixed() < best {
                continue;
            }
            if template.fixed() > best {
                meanings.clear();
            }
            best = template.fixed();
            meanings.push((*role, readings));
        }
        meanings
    }
}

const OTHERS: &str = "layout: pattern: others";

struct Walk<'a> {
    root: &'a Path,
    templates: &'a Templates,
    labels: BTreeMap<String, Vec<PathBuf>>,
    strangers: Vec<LeftOut>,
    found: Found,
}

impl Walk<'_> {
    /// Looks at each entry of a folder, given by the names that lead to it.
    fn folder(&mut self, above: &mut Vec<String>) -> Result<(), FolderError> {
        let folder = above.iter().fold(self.root.to_owned(), |path, name| path.join(name));
        let failed = |reason| FolderError::List { path: folder.clone(), reason };
        for entry in std::fs::read_dir(&folder).map_err(failed)? {
            let entry = entry.map_err(failed)?.file_name();
            let Some(name) = entry.to_str() else {
                if self.templates.has_input(&borrowed(above)) {
                    let name = entry.to_string_lossy().into_owned();
                    self.left_out(above, &name, "a name that is not UTF-8", "a name in UTF-8", "rename the file");
                }
                continue;
            };
            above.push(name.to_owned());
            let looked_at = self.entry(above);
            above.pop();
            looked_at?;
        }
        Ok(())
    }

    fn entry(&mut self, path: &mut Vec<String>) -> Result<(), FolderError> {
        let full = path.iter().fold(self.root.to_owned(), |full, name| full.join(name));
        let Some((name, above)) = path.split_last().map(|(name, above)| (name.clone(), above.to_vec())) else { return Ok(()) };
        let is_input_here = self.templates.has_input(&borrowed(&above));
        let kind = kind(&name);
        let meanings = self.templates.meanings(&borrowed(path));
        if full.is_dir() {
            let is_hidden = kind == Kind::Junk && name.starts_with(['.', '@', '_']);
            if !is_hidden && self.templates.reach(&borrowed(path)) {
                return self.folder(path);
            }
            if !meanings.is_empty() && !is_hidden {
                self.left_out(&above, &name, "a directory", "a file", "put the file in its place, or rename the directory");
            }
            return Ok(());
        }
        if kind == Kind::Junk {
            self.found.aside.passed_over.extend(is_input_here.then_some(full));
            return Ok(());
        }
        if meanings.iter().any(|(role, _)| *role == Role::Other) {
            self.found.aside.passed_over.push(full);
            return Ok(());
        }
        if meanings.is_empty() && !is_input_here {
            return Ok(());
        }
        if let Some((found, remedy)) = trouble(&full) {
            self.left_out(&above, &name, &found, "a file", remedy);
            return Ok(());
        }
        match &meanings[..] {
            [(role, readings)] if readings.len() == 1 => self.take(*role, &readings[0], path),
            [] => {
                let remedy = "rename it, correct the patterns, or name it under `others` of the layout";
                self.left_out(
                    &above,
                    &name,
                    "a name that no pattern has",
                    &format!("a name of the form {}", self.templates.images),
                    remedy,
                );
            }
            _ => {
                let remedy = "make the patterns of the layout tell images, label maps and cases apart";
                self.left_out(&above, &name, "a name that can be read in several ways", "one case and one part", remedy);
            }
        }
        Ok(())
    }

    fn take(&mut self, role: Role, names: &Names, path: &[String]) {
        let file: PathBuf = path.iter().collect();
        let case = names.case.clone().unwrap_or_default();
        let case = match &names.patient {
            None => case,
            Some(patient) => {
                let joined = format!("{patient}_{case}");
                self.found.patients.insert(joined.clone(), patient.clone());
                joined
            }
        };
        let files = if role == Role::Image { &mut self.found.images } else { &mut self.labels };
        files.entry(case).or_default().push(file);
    }

    fn left_out(&mut self, above: &[String], name: &str, found: &str, expected: &str, remedy: &str) {
        let file = above.iter().map(String::as_str).chain([name]).collect();
        let case = without_endings(name).to_owned();
        let (found, expected, remedy) = (found.to_owned(), expected.to_owned(), remedy.to_owned());
        self.strangers.push(LeftOut { case, file, found, expected, remedy });
    }
}

fn borrowed(path: &[String]) -> Vec<&str> {
    path.iter().map(String::as_str).collect()
}
