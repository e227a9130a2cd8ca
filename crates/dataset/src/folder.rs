//! The files of a folder by the challenge's naming: images `CASE_0000.nii.gz`, label maps `CASE.nii.gz`.

use std::path::{Path, PathBuf};

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
    /// A file of another name.
    #[error("{0} is not named CASE_0000.nii.gz; rename it, so that its label map can be called CASE.nii.gz")]
    Name(PathBuf),
}

/// The images `CASE_0000.nii.gz` or `CASE_0000.nii` of a folder, by case.
///
/// # Errors
/// When the folder cannot be listed or has none.
pub fn image_files(folder: &Path) -> Result<Vec<ImageFile>, FolderError> {
    files(folder, "CASE_0000.nii.gz", IMAGE_SUFFIX)
}

/// The images of a folder, or the one image that `path` is.
///
/// # Errors
/// As [`image_files`]; and when the file is not named like an image.
pub fn images_at(path: &Path) -> Result<Vec<ImageFile>, FolderError> {
    if !path.is_file() {
        return image_files(path);
    }
    match case_of(path, IMAGE_SUFFIX) {
        Some(id) => Ok(vec![ImageFile { id, path: path.into() }]),
        None => Err(FolderError::Name(path.into())),
    }
}

/// The label maps `CASE.nii.gz` or `CASE.nii` of a folder, by case.
///
/// # Errors
/// When the folder cannot be listed or has none.
pub fn label_files(folder: &Path) -> Result<Vec<ImageFile>, FolderError> {
    files(folder, "CASE.nii.gz", "")
}

fn files(folder: &Path, expected: &'static str, suffix: &str) -> Result<Vec<ImageFile>, FolderError> {
    let failed = |reason| FolderError::List { path: folder.into(), reason };
    let mut found = 0;
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        found += 1;
        if let Some(id) = case_of(&path, suffix) {
            files.push(ImageFile { id, path });
        }
    }
    if files.is_empty() {
        return Err(FolderError::Empty { path: folder.into(), expected, found });
    }
    files.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(files)
}

/// The case of a file, if it is named like one.
fn case_of(path: &Path, suffix: &str) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let stem = name.strip_suffix(".nii.gz").or_else(|| name.strip_suffix(".nii"))?;
    // Hidden files are the traces of interrupted writers.
    if stem.starts_with('.') { None } else { stem.strip_suffix(suffix).map(str::to_owned) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_listed_by_case_and_other_files_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b_0000.nii.gz", "a_0000.nii", "a.nii.gz", "notes.txt", ".writing-x_0000.nii.gz"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let ids = |files: Vec<ImageFile>| files.into_iter().map(|file| file.id).collect::<Vec<_>>();
        assert_eq!(ids(image_files(folder.path()).unwrap()), ["a", "b"]);
        assert_eq!(ids(label_files(folder.path()).unwrap()), ["a", "a_0000", "b_0000"]);
    }

    #[test]
    fn one_image_is_taken_for_itself() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("a_0000.nii.gz"), "").unwrap();
        std::fs::write(path("a.nii.gz"), "").unwrap();
        assert_eq!(images_at(&path("a_0000.nii.gz")).unwrap(), images_at(folder.path()).unwrap());
        assert!(images_at(&path("a.nii.gz")).unwrap_err().to_string().contains("is not named CASE_0000.nii.gz"));
    }

    #[test]
    fn an_empty_folder_is_an_error_that_tells_what_was_expected() {
        let folder = tempfile::tempdir().unwrap();
        let error = image_files(folder.path()).unwrap_err().to_string();
        assert!(error.contains("holds no CASE_0000.nii.gz files among its 0 entries"), "{error}");
    }
}
