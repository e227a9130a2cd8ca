//! The files of a folder by the challenge's naming: images `CASE_0000.nii.gz`, label maps `CASE.nii.gz`. NRRD and MetaImage files are
//! taken in the same way, with their own endings.
//!
//! Every entry of a folder is taken, left out by name, or passed over because it cannot be a scan. A file that somebody meant as
//! input and named otherwise must not vanish: a label map that is not seen makes a labelled case an unlabelled one.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::path::{Path, PathBuf};

use stage_kit::{Aside, LeftOut, name_of};
use walkdir::WalkDir;

use crate::entry::{Kind, SCANS, ending, kind, of_scan, without_endings};

const IMAGE_SUFFIX: &str = "_0000";

/// An image or a label map and the case that it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageFile {
    /// The case, such as `FLARE23Ts_0001`.
    pub id: String,
    /// The file.
    pub path: PathBuf,
}

impl ImageFile {
    /// The file name of the case's label map, `CASE.nii.gz`.
    #[must_use]
    pub fn label_name(&self) -> String {
        format!("{}.nii.gz", self.id)
    }
}

/// Why a folder has no cases to offer.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The folder is missing or unreadable.
    #[error("cannot list {path}: {reason}")]
    List {
        /// The folder.
        path: PathBuf,
        /// The reason.
        reason: std::io::Error,
    },
    /// No file has the form asked for.
    #[error("{path} holds no {expected} files among its {found} entries; check the folder and the naming")]
    Empty {
        /// The folder.
        path: PathBuf,
        /// The form of name.
        expected: &'static str,
        /// How many other entries there are.
        found: usize,
    },
    /// No path fits a template.
    #[error("{path} holds no files {template}, but {found} others; check the folder and the pattern")]
    None {
        /// The folder.
        path: PathBuf,
        /// The template.
        template: String,
        /// How many other files there are where some were expected.
        found: usize,
    },
    /// No entry is a scan.
    #[error("{path} {}; expected NIfTI, NRRD, MetaImage or DICOM files", if *.found == 0 { "is empty".to_owned() } else { format!("holds no scan among its {found} entries") })]
    NoScans {
        /// The folder.
        path: PathBuf,
        /// How many entries there are.
        found: usize,
    },
    /// A file that is not a scan.
    #[error("{0} is no scan by its name or its first bytes; expected a NIfTI, NRRD, MetaImage or DICOM file")]
    NoScan(PathBuf),
    /// Label maps of one case, of which nobody knows which one counts.
    #[error("{folder} holds several label maps of case {case}: {names}; keep one")]
    Several {
        /// The folder.
        folder: PathBuf,
        /// The case.
        case: String,
        /// The names of the files.
        names: String,
    },
    /// A file of another name.
    #[error("{0} is not named CASE_0000.nii.gz; rename it, so that its label map can be called CASE.nii.gz")]
    Name(PathBuf),
}

/// The form of the names that a folder is listed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// `CASE_0000.nii.gz`, `.nii`, `.nrrd` or `.mha`.
    Images,
    /// `CASE.nii.gz`, `.nii`, `.nrrd`, `.seg.nrrd` or `.mha`.
    Labels,
}

impl Naming {
    fn form(self) -> &'static str {
        match self {
            Self::Images => "CASE_0000.nii.gz",
            Self::Labels => "CASE.nii.gz",
        }
    }

    fn suffix(self) -> &'static str {
        match self {
            Self::Images => IMAGE_SUFFIX,
            Self::Labels => "",
        }
    }

    /// The case of a file of this form.
    pub(crate) fn case(self, name: &str) -> Option<&str> {
        of_scan(name)?.strip_suffix(self.suffix()).filter(|case| !case.is_empty() && !case.starts_with('.'))
    }
}

/// Everything in a folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The files of the form asked for, by case; each case once.
    pub files: Vec<ImageFile>,
    /// All others.
    pub aside: Aside,
    path: PathBuf,
}

impl Listing {
    /// The files, of which there must be some.
    ///
    /// # Errors
    /// [`FolderError::Empty`].
    pub fn some(self, naming: Naming) -> Result<Vec<ImageFile>, FolderError> {
        if self.files.is_empty() {
            let found = self.aside.left_out.len() + self.aside.passed_over.len();
            return Err(FolderError::Empty { path: self.path, expected: naming.form(), found });
        }
        Ok(self.files)
    }

    /// The files, of which there must be some, and all others.
    pub fn parted(self, naming: Naming) -> (Result<Vec<ImageFile>, FolderError>, Aside) {
        let aside = self.aside.clone();
        (self.some(naming), aside)
    }

    /// The same without what lies in or below `folder`, which has another part to play.
    #[must_use]
    pub fn apart_from(mut self, folder: &Path) -> Self {
        let place = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let folder = place(folder);
        if folder != place(&self.path) {
            self.aside.left_out.retain(|one| !place(&one.file).starts_with(&folder));
        }
        self
    }
}

/// Lists a folder.
///
/// # Errors
/// When the folder cannot be listed. What is wrong with an entry costs that entry.
pub fn list(folder: &Path, naming: Naming) -> Result<Listing, FolderError> {
    let failed = |reason| FolderError::List { path: folder.into(), reason };
    let mut cases = BTreeMap::<String, Vec<PathBuf>>::new();
    let mut aside = Aside::default();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        match look_at(&path, naming) {
            Found::Taken(case) => cases.entry(case).or_default().push(path),
            Found::Else(Some(left_out)) => aside.left_out.push(left_out),
            Found::Else(None) => aside.passed_over.push(path),
            Found::Folder(inside) => aside.left_out.extend(inside),
        }
    }
    let mut files = Vec::with_capacity(cases.len());
    for (id, mut paths) in cases {
        if let [path] = &mut paths[..] {
            files.push(ImageFile { id, path: std::mem::take(path) });
        } else {
            paths.sort();
            aside.left_out.extend(several(&id, &paths));
        }
    }
    if naming == Naming::Images {
        // The label map of a case may lie beside its image, as it does in many datasets and where IN is OUT.
        let is_label = |one: &LeftOut| {
            let case = Naming::Labels.case(&name_of(&one.file)).map(str::to_owned);
            case.is_some_and(|case| files.binary_search_by(|file| file.id.cmp(&case)).is_ok())
        };
        aside.passed_over.extend(aside.left_out.extract_if(.., |one| is_label(one)).map(|one| one.file));
    }
    aside.left_out.sort();
    aside.passed_over.sort();
    Ok(Listing { files, aside, path: folder.into() })
}

/// Files of one case, of which nobody knows which one counts.
pub(crate) fn several(case: &str, paths: &[PathBuf]) -> impl Iterator<Item = LeftOut> {
    let names: Vec<String> = paths.iter().map(|path| name_of(path)).collect();
    paths.iter().map(move |path| LeftOut {
        case: case.to_owned(),
        file: path.clone(),
        found: format!("{} files for one case: {}", names.len(), names.join(", ")),
        expected: "one file a case".into(),
        remedy: "keep one and remove the others".into(),
    })
}

pub(crate) enum Found {
    /// For this case.
    Taken(String),
    /// Left out with a reason, or passed over.
    Else(Option<LeftOut>),
    /// A folder, with what in it looks like input.
    Folder(Vec<LeftOut>),
}

pub(crate) fn look_at(path: &Path, naming: Naming) -> Found {
    let left_out = |found: String, expected: String, remedy: String| {
        let name = name_of(path);
        let case = naming.case(&name).unwrap_or_else(|| without_endings(&name)).to_owned();
        Found::Else(Some(LeftOut { case, file: path.to_owned(), found, expected, remedy }))
    };
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
        return left_out("a name that is not UTF-8".into(), format!("a name such as {}", naming.form()), "rename the file".into());
    };
    let kind = kind(name);
    if kind == Kind::Junk {
        return Found::Else(None);
    }
    // Follows links, and opens nothing: a pipe would wait for a writer for ever.
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) => return left_out(unreadable(path, &error), "a file".into(), PUT.into()),
    };
    if metadata.is_dir() {
        // Some programs unpack `a.nii.gz` to `a.nii.gz/a.nii`.
        return match naming.case(name) {
            Some(_) => left_out("a directory".into(), "a file".into(), "put the file in its place, or rename the directory".into()),
            None => Found::Folder(inside(path, naming)),
        };
    }
    if !metadata.is_file() {
        return left_out(special(&metadata).into(), "a file".into(), PUT.into());
    }
    match (naming.case(name), kind) {
        (Some(case), _) => Found::Taken(case.to_owned()),
        (None, Kind::Scan) => {
            let case = without_endings(name);
            let remedy = match case {
                "" => format!("rename it to {}", naming.form()),
                case => format!("rename it to {case}{}{} if it is case {case}", naming.suffix(), ending(name)),
            };
            left_out(format!("the name {name}"), format!("a name of the form {}", naming.form()), remedy)
        }
        (None, Kind::OtherScan(format)) => left_out(
            format.to_owned(),
            format!("{} (or .nii, .nrrd, .mha)", naming.form()),
            format!("convert it to {}{}.nii.gz", without_endings(name), naming.suffix()),
        ),
        (None, Kind::Unknown) => left_out(
            "a file of unknown kind".into(),
            format!("{} (or .nii, .nrrd, .mha)", naming.form()),
            format!("convert it to {}, or move it out of the folder", naming.form()),
        ),
        (None, Kind::Junk) => Found::Else(None),
    }
}

const PUT: &str = "put the file there, or remove the entry";

/// What keeps an entry that is no folder from being read as a file, and what to do.
pub(crate) fn trouble(path: &Path) -> Option<(String, &'static str)> {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => None,
        Ok(metadata) => Some((special(&metadata).to_owned(), PUT)),
        Err(error) => Some((unreadable(path, &error), PUT)),
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> String {
    if path.is_symlink() { format!("a link that leads nowhere ({error})") } else { format!("unreadable ({error})") }
}

fn special(metadata: &Metadata) -> &'static str {
    use std::os::unix::fs::FileTypeExt as _;
    let kind = metadata.file_type();
    if kind.is_fifo() {
        "a named pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

/// How many entries of a folder within a folder are looked at, and how deep.
const MOST_INSIDE: usize = 10_000;
const DEEPEST: usize = 4;

/// What in a folder within the folder looks like input.
fn inside(folder: &Path, naming: Naming) -> Vec<LeftOut> {
    let walk = WalkDir::new(folder).min_depth(1).max_depth(DEEPEST).into_iter();
    let visible = walk.filter_entry(|entry| kind(&entry.file_name().to_string_lossy()) != Kind::Junk);
    let entries = visible.filter_map(Result::ok).take(MOST_INSIDE).filter(|entry| !entry.file_type().is_dir());
    too_deep(entries.map(walkdir::DirEntry::into_path), |name| naming.case(name).is_some() || matches!(kind(name), Kind::OtherScan(_)))
}

/// Those of `files` that look like input: one finding for each folder of such files.
pub(crate) fn too_deep(files: impl Iterator<Item = PathBuf>, looks_like_input: impl Fn(&str) -> bool) -> Vec<LeftOut> {
    let mut found = BTreeMap::<PathBuf, (usize, String)>::new();
    for file in files {
        let name = name_of(&file);
        if let Some(parent) = file.parent().filter(|_| looks_like_input(&name)) {
            found.entry(parent.to_owned()).or_insert((0, name)).0 += 1;
        }
    }
    let finding = |(folder, (files, first)): (PathBuf, (usize, String))| LeftOut {
        case: without_endings(&first).to_owned(),
        found: format!("a folder with {files} files such as {first}"),
        expected: "files in the folder itself".into(),
        remedy: "move the files up, or name their folder as an input of its own".into(),
        file: folder,
    };
    found.into_iter().map(finding).collect()
}

/// The images of a folder, or the one image that `path` is.
///
/// # Errors
/// When the folder cannot be listed; and when the file is not named like an image.
pub fn images_at(path: &Path) -> Result<Listing, FolderError> {
    if !path.is_file() {
        return list(path, Naming::Images);
    }
    match Naming::Images.case(&name_of(path)) {
        Some(id) => Ok(Listing { files: vec![ImageFile { id: id.into(), path: path.into() }], ..Listing::default() }),
        None => Err(FolderError::Name(path.into())),
    }
}

/// The case of the image or label map `name`, whatever the letters of its ending and the number of its channel: for names that
/// are not of the form asked for.
#[must_use]
pub fn likely_case(name: &Path) -> String {
    without_endings(&name_of(name)).to_owned()
}

/// The label map of a case in a folder, whatever its format; `CASE.nii.gz` if there is none.
///
/// # Errors
/// When there are several.
pub fn label_in(folder: &Path, case: &str) -> Result<PathBuf, FolderError> {
    let names: Vec<String> = SCANS.iter().map(|ending| format!("{case}{ending}")).filter(|name| folder.join(name).exists()).collect();
    match &names[..] {
        [] => Ok(folder.join(format!("{case}.nii.gz"))),
        [name] => Ok(folder.join(name)),
        _ => Err(FolderError::Several { folder: folder.to_owned(), case: case.to_owned(), names: names.join(", ") }),
    }
}

/// The images of a folder, by case, of which there must be some.
///
/// # Errors
/// When the folder cannot be listed or has none.
pub fn image_files(folder: &Path) -> Result<Vec<ImageFile>, FolderError> {
    list(folder, Naming::Images)?.some(Naming::Images)
}

/// The label maps of a folder, by case, of which there must be some.
///
/// # Errors
/// When the folder cannot be listed or has none.
pub fn label_files(folder: &Path) -> Result<Vec<ImageFile>, FolderError> {
    list(folder, Naming::Labels)?.some(Naming::Labels)
}
