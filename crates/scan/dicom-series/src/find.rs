//! The series of CT in a folder and the folders in it.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use walkdir::WalkDir;

use crate::elements::looks_like_dicom;
use crate::instance::Instance;
use crate::pixels::Packing;
use crate::series::Series;
use crate::stack::{Irregular, Slice, Stack};

/// A folder with more files than this is not looked through: a thousand scans of a thousand slices lie in folders of their own.
const MOST_FILES: usize = 200_000;

/// Folders within folders are looked at so deep.
const DEEPEST: usize = 16;

/// What a folder holds.
#[derive(Debug, Default)]
pub struct Found {
    /// Scans, by the folders that they lie in and their numbers.
    pub series: Vec<Series>,
    /// What might have been meant as a scan, and is none.
    pub bad: Vec<Finding>,
    /// Segmentations and structure sets, which [`Annotation`](crate::Annotation) reads.
    pub annotations: Vec<PathBuf>,
    /// Other DICOM files that cannot be a scan, such as reports and localisers.
    pub passed_over: Vec<PathBuf>,
    /// Files that are not DICOM.
    pub others: Vec<PathBuf>,
}

/// Why files are no scan.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("{}: {series}: {found}; expected {expected}; {remedy}", path.display())]
pub struct Finding {
    /// The file, or the folder of the series.
    pub path: PathBuf,
    /// The series, in words.
    pub series: String,
    /// What was found.
    pub found: String,
    /// What was expected.
    pub expected: String,
    /// What to do.
    pub remedy: String,
}

/// Looks through a folder, or at one file. `skip` names entries that are not gone into.
#[must_use]
pub fn find(root: &Path, skip: impl Fn(&Path) -> bool) -> Found {
    let mut found = Found::default();
    let walk = WalkDir::new(root).follow_links(true).max_depth(DEEPEST).sort_by_file_name().into_iter();
    let visible = walk.filter_entry(|entry| entry.depth() == 0 || !skip(entry.path())).filter_map(Result::ok);
    let mut files: Vec<PathBuf> =
        visible.filter(|entry| entry.file_type().is_file()).map(|entry| entry.into_path()).take(MOST_FILES + 1).collect();
    if files.len() > MOST_FILES {
        found.bad.push(Finding {
            path: root.to_owned(),
            series: name_of(root),
            found: format!("more than {MOST_FILES} files"),
            expected: "a folder of scans".into(),
            remedy: "name a folder within it".into(),
        });
        return found;
    }
    found.others = files.par_iter().filter(|path| !looks_like_dicom(path)).cloned().collect();
    let others: HashSet<&PathBuf> = found.others.iter().collect();
    files.retain(|path| !others.contains(path));
    let read: Vec<_> = files.par_iter().map(|path| Instance::read(path)).collect();
    let mut by_series = BTreeMap::<String, Vec<Instance>>::new();
    for (path, instance) in files.into_iter().zip(read) {
        match instance {
            Ok(instance) if instance.is_image() => by_series.entry(instance.series.clone()).or_default().push(instance),
            Ok(instance) if instance.is_annotation() => found.annotations.push(path),
            Ok(_) => found.passed_over.push(path),
            Err(error) => found.bad.push(Finding {
                series: name_of(&path),
                path,
                found: error.problem.to_string(),
                expected: "a DICOM file that is whole".into(),
                remedy: "export it again, or remove it".into(),
            }),
        }
    }
    by_series.into_values().for_each(|instances| found.add(instances));
    found.series.sort_by(|a, b| (&a.folder, a.number, a.part, &a.uid).cmp(&(&b.folder, b.number, b.part, &b.uid)));
    found.bad.sort();
    found.passed_over.sort();
    found
}

impl Found {
    /// Makes scans of the images of one series.
    fn add(&mut self, mut instances: Vec<Instance>) {
        let folder = common_folder(&instances);
        let mut seen = HashSet::new();
        // The same image twice is a copy.
        instances.retain(|instance| instance.uid.is_empty() || seen.insert(instance.uid.clone()));
        let Some(first) = instances.first() else { return };
        let words = format!("series {}", first.number.map_or_else(|| first.series.clone(), |number| number.to_string()));
        let mut finding = |path: &Path, irregular: Irregular| {
            let Irregular { found, expected, remedy } = irregular;
            let (path, series) = (path.to_owned(), words.clone());
            self.bad.push(Finding { path, series, found, expected: expected.into(), remedy: remedy.into() });
        };
        let trouble = |instance: &Instance| instance.trouble().or_else(|| Packing::of(&instance.layout.syntax).err());
        if let Some((instance, problem)) = instances.iter().find_map(|instance| Some((instance, trouble(instance)?))) {
            // One image for all: a series of another kind has the same in each.
            let found = format!("{} images, of which one says: {problem}", instances.len());
            finding(
                &instance.path,
                Irregular { found, expected: "a series of CT that can be read", remedy: "leave the series out if it is none" },
            );
            return;
        }
        let stacks = match stacks(&instances) {
            Ok(stacks) => stacks,
            Err(irregular) => return finding(&folder, irregular),
        };
        let is_scan = |stack: &&Stack| stack.slices.len() > 1;
        let scans = stacks.iter().filter(is_scan).count();
        let mut part = 0;
        for stack in &stacks {
            let image = &instances[stack.slices[0].file];
            if stack.slices.len() == 1 && (scans > 0 || image.image_type.contains("LOCALIZER")) {
                self.passed_over.push(image.path.clone());
                continue;
            }
            part += usize::from(scans > 1);
            match Series::of(folder.clone(), part, &instances, stack) {
                Ok(series) => self.series.push(series),
                Err(irregular) => finding(&folder, irregular),
            }
        }
    }
}

/// The frames of a series by what can lie on each other. Several images at a place are told apart by their acquisition, if that does.
fn stacks(instances: &[Instance]) -> Result<Vec<Stack>, Irregular> {
    let mut stacks = Vec::<Stack>::new();
    let add = |stacks: &mut Vec<Stack>, one: Stack, slice: Slice, apart: bool| {
        let same = |stack: &&mut Stack| stack.takes(&one) && (!apart || stack.acquisition == one.acquisition);
        match stacks.iter_mut().find(same) {
            Some(stack) => stack.slices.push(slice),
            None => stacks.push(Stack { slices: vec![slice], ..one }),
        }
    };
    for apart in [false, true] {
        stacks.clear();
        for (file, instance) in instances.iter().enumerate() {
            for (frame, of) in (0..).zip(&instance.frames) {
                let one = Stack::of(of, [instance.pixels.rows, instance.pixels.columns], instance.acquisition)?;
                let slice = Slice {
                    file,
                    frame,
                    position: of.position.unwrap_or_default(),
                    scaling: [of.slope.unwrap_or(1.0), of.intercept.unwrap_or(0.0)],
                };
                add(&mut stacks, one, slice, apart);
            }
        }
        stacks.iter_mut().for_each(Stack::sort);
        if !stacks.iter().any(Stack::has_doubles) {
            break;
        }
    }
    Ok(stacks)
}

/// The folder that all files lie in or below.
fn common_folder(instances: &[Instance]) -> PathBuf {
    let mut folders = instances.iter().filter_map(|instance| instance.path.parent());
    let mut common = folders.next().unwrap_or(Path::new("")).to_owned();
    for folder in folders {
        while !folder.starts_with(&common) && common.pop() {}
    }
    common
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
