//! The scans that `predict` is given: files of any name and format, and series of DICOM files, in a folder or alone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use formats::{Format, ScanFiles};
use stage_kit::{Aside, LeftOut, name_of};

use crate::entry::{Kind, kind, stem};
#[cfg(feature = "dicom")]
use crate::folder::too_deep;
use crate::folder::{FolderError, Found, Naming, look_at, several};

/// A scan and the case that its results are named by.
#[derive(Clone, Debug)]
pub struct ScanCase {
    /// The case: the name of the file without its endings, or that of the folder of a series.
    pub id: String,
    /// The scan.
    pub scan: ScanFiles,
}

/// The scans of a folder, and everything else in it.
#[derive(Clone, Debug, Default)]
pub struct Scans {
    /// The scans, by case.
    pub cases: Vec<ScanCase>,
    /// All else.
    pub aside: Aside,
    path: PathBuf,
}

impl Scans {
    /// The scans, of which there must be some.
    ///
    /// # Errors
    /// [`FolderError::NoScans`].
    pub fn some(self) -> Result<Vec<ScanCase>, FolderError> {
        if self.cases.is_empty() {
            let found = self.aside.left_out.len() + self.aside.passed_over.len();
            return Err(FolderError::NoScans { path: self.path, found });
        }
        Ok(self.cases)
    }
}

/// The scans in a folder, or the one that `path` is. What lies in or below the folder `apart` has another part to play.
///
/// # Errors
/// When the folder cannot be listed. What is wrong with an entry costs that entry.
pub fn scans_at(path: &Path, apart: &Path) -> Result<Scans, FolderError> {
    let mut scans = Scans { path: path.to_owned(), ..Scans::default() };
    let mut cases = BTreeMap::<String, Vec<ScanFiles>>::new();
    let mut inside = Vec::new();
    let mut add = |path: &Path, format: Format| {
        let name = name_of(path);
        cases.entry(case_of(&name).to_owned()).or_default().push(ScanFiles::at(path, format));
    };
    if path.is_file() {
        match Format::of_file(path) {
            Some(Format::Dicom) => {}
            Some(format) => add(path, format),
            None => return Err(FolderError::NoScan(path.to_owned())),
        }
    } else {
        let failed = |reason| FolderError::List { path: path.into(), reason };
        for entry in std::fs::read_dir(path).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let name = name_of(&path);
            match look_at(&path, Naming::Images) {
                Found::Taken(_) => add(&path, Format::of_name(&name).unwrap_or(Format::Nifti)),
                Found::Else(left_out) => match scan_format(&path, &name) {
                    // The search for series names every such file.
                    Some(Format::Dicom) if READS_DICOM => {}
                    Some(format) => add(&path, format),
                    None if is_part(&name) => scans.aside.passed_over.push(path),
                    None => match left_out {
                        Some(left_out) => scans.aside.left_out.push(left_out),
                        None => scans.aside.passed_over.push(path),
                    },
                },
                Found::Folder(found) => inside.extend(found),
            }
        }
    }
    let apart = place(apart);
    if path.is_dir() || Format::of_file(path) == Some(Format::Dicom) {
        scans.add_series(&mut cases, &mut inside, &apart);
    }
    if path.is_dir() && apart != place(path) {
        inside.retain(|one| !place(&one.file).starts_with(&apart));
    }
    scans.aside.left_out.extend(inside);
    scans.settle(cases);
    Ok(scans)
}

/// A path by which others are known again.
fn place(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// Whether series of DICOM files are looked for.
const READS_DICOM: bool = cfg!(feature = "dicom");

impl Scans {
    /// Takes the one scan of each case.
    fn settle(&mut self, cases: BTreeMap<String, Vec<ScanFiles>>) {
        let first_channels: Vec<String> = cases.keys().cloned().collect();
        for (id, mut scans) in cases {
            let is_image = |scan: &ScanFiles| Naming::Images.case(&name_of(scan.path())).is_some();
            if scans.len() > 1 && scans.iter().filter(|scan| is_image(scan)).count() == 1 {
                // The label map of a case may lie beside its image, as it does in many datasets and where IN is OUT.
                let is_label =
                    |scan: &mut ScanFiles| !is_image(scan) && Naming::Labels.case(&name_of(scan.path())).is_some_and(|case| case == id);
                self.aside.passed_over.extend(scans.extract_if(.., |scan| is_label(scan)).map(|scan| scan.path().to_owned()));
            }
            if let Some(first) = channel_of(&id).filter(|first| first_channels.binary_search_by(|id| id.as_str().cmp(first)).is_ok()) {
                self.aside.left_out.extend(scans.iter().map(|scan| other_channel(&id, first, scan.path())));
                continue;
            }
            if let [scan] = &mut scans[..] {
                self.cases.push(ScanCase { id, scan: scan.clone() });
            } else {
                let mut paths: Vec<PathBuf> = scans.iter().map(|scan| scan.path().to_owned()).collect();
                paths.sort();
                self.aside.left_out.extend(several(&id, &paths));
            }
        }
        // The voxels of a header may be in a file of any name.
        let parts: Vec<PathBuf> =
            self.cases.iter().filter(|case| case.scan.format() != Format::Dicom).flat_map(|case| case.scan.files()).collect();
        self.aside.passed_over.extend(self.aside.left_out.extract_if(.., |one| parts.contains(&one.file)).map(|one| one.file));
        self.aside.left_out.sort();
        self.aside.passed_over.sort();
    }

    #[cfg(not(feature = "dicom"))]
    fn add_series(&mut self, _: &mut BTreeMap<String, Vec<ScanFiles>>, _: &mut Vec<LeftOut>, _: &Path) {}

    /// Finds the series of DICOM files, each of which is a case.
    #[cfg(feature = "dicom")]
    fn add_series(&mut self, cases: &mut BTreeMap<String, Vec<ScanFiles>>, inside: &mut Vec<LeftOut>, apart: &Path) {
        let root = self.path.clone();
        let is_apart = |path: &Path| path.file_name() == apart.file_name() && place(path) == apart;
        let found = dicom_series::find(&root, |path| kind(&name_of(path)) == Kind::Junk || is_apart(path));
        // The search has seen all files of the tree.
        let is_deep = |path: &&PathBuf| path.parent() != Some(&root);
        let looks_like_scan = |name: &str| matches!(kind(name), Kind::Scan | Kind::OtherScan(_));
        *inside = too_deep(found.others.iter().filter(is_deep).cloned(), looks_like_scan);
        let is_named = |path: &&PathBuf| !is_deep(path) && Format::of_name(&name_of(path)) == Some(Format::Dicom);
        self.aside.left_out.extend(found.others.iter().filter(is_named).map(|path| LeftOut {
            case: case_of(&name_of(path)).to_owned(),
            file: path.clone(),
            found: "no DICOM file, though its name says so".into(),
            expected: "DICM after 128 bytes".into(),
            remedy: "export it again, or remove it".into(),
        }));
        for series in &found.series {
            let beside = || found.series.iter().filter(|other| other.folder() == series.folder());
            let mut id = folder_name(&root, series.folder());
            if beside().count() > 1 {
                id = format!("{id}_{}", series.name());
            }
            if beside().filter(|other| other.name() == series.name()).count() > 1 {
                id = format!("{id}_{}", series.uid().rsplit('.').next().unwrap_or_default());
            }
            cases.entry(id).or_default().push(ScanFiles::of_series(series));
        }
        self.aside.passed_over.extend(found.annotations.into_iter().chain(found.passed_over));
        self.aside.left_out.extend(found.bad.into_iter().map(|bad| LeftOut {
            case: if bad.path.is_dir() { format!("{} ({})", folder_name(&root, &bad.path), bad.series) } else { bad.series },
            file: bad.path,
            found: bad.found,
            expected: bad.expected,
            remedy: bad.remedy,
        }));
    }
}

/// The name of a folder below `root`, as a name of a case.
#[cfg(feature = "dicom")]
fn folder_name(root: &Path, folder: &Path) -> String {
    if root.is_file() {
        return case_of(&name_of(root)).to_owned();
    }
    let below: Vec<String> = folder.strip_prefix(root).unwrap_or(folder).iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if below.is_empty() {
        return name_of(&place(root));
    }
    below.join("_")
}

/// The format of a file that may have any name; none of a label map, or of what is no scan.
fn scan_format(path: &Path, name: &str) -> Option<Format> {
    let lower = name.to_lowercase();
    let is_label = lower.ends_with(".seg.nrrd") || lower.ends_with(".seg.nhdr");
    let may_be = match kind(name) {
        Kind::Scan | Kind::Unknown => true,
        Kind::OtherScan(_) => Format::of_name(name).is_some(),
        Kind::Junk => false,
    };
    let is_named = !case_of(name).is_empty() && path.file_name().is_some_and(|name| name.to_str().is_some());
    if may_be && is_named && !is_label && path.is_file() { Format::of_file(path) } else { None }
}

/// Whether a file holds the voxels of a header beside it, or a label map.
fn is_part(name: &str) -> bool {
    let lower = name.to_lowercase();
    [".raw", ".zraw", ".raw.gz", ".seg.nrrd", ".seg.nhdr"].iter().any(|ending| lower.ends_with(ending))
}

/// The case of a file of any name: the name without the endings of a scan and the number of its first channel.
fn case_of(name: &str) -> &str {
    let stem = stem(name);
    stem.strip_suffix("_0000").unwrap_or(stem)
}

/// The case that a name with the number of a later channel is of.
fn channel_of(id: &str) -> Option<&str> {
    let (case, channel) = id.rsplit_once('_')?;
    (channel.len() == 4 && channel != "0000" && channel.bytes().all(|byte| byte.is_ascii_digit())).then_some(case)
}

fn other_channel(id: &str, first: &str, path: &Path) -> LeftOut {
    LeftOut {
        case: id.to_owned(),
        file: path.to_owned(),
        found: format!("another channel of {first}"),
        expected: "one CT a case".into(),
        remedy: "remove it, or rename it if it is a case of its own".into(),
    }
}
