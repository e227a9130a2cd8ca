//! Which format a file is in.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::str::FromStr;

/// By so many of its first bytes a file is told.
const START: usize = 132;

/// A format of scans and label maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Format {
    /// NIfTI: `.nii`, `.nii.gz`.
    Nifti,
    /// NRRD: `.nrrd`, `.nhdr`; label maps as 3D Slicer has them, `.seg.nrrd`.
    Nrrd,
    /// MetaImage: `.mha`, `.mhd`.
    MetaImage,
    /// DICOM: series of CT; label maps as DICOM segmentations.
    Dicom,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Nifti, Self::Nrrd, Self::MetaImage, Self::Dicom];

    /// The word for it in parameters.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Nifti => "nifti",
            Self::Nrrd => "nrrd",
            Self::MetaImage => "mha",
            Self::Dicom => "dicom",
        }
    }

    /// How the names of label maps end.
    #[must_use]
    pub fn label_ending(self) -> &'static str {
        match self {
            Self::Nifti => ".nii.gz",
            Self::Nrrd => ".seg.nrrd",
            Self::MetaImage => ".mha",
            Self::Dicom => ".dcm",
        }
    }

    /// The format that the ending of a name stands for.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        let lower = name.to_ascii_lowercase();
        let ends = |endings: &[&str]| endings.iter().any(|ending| lower.ends_with(ending));
        match () {
            () if ends(&[".nii", ".nii.gz"]) => Some(Self::Nifti),
            () if ends(&[".nrrd", ".nhdr"]) => Some(Self::Nrrd),
            () if ends(&[".mha", ".mhd"]) => Some(Self::MetaImage),
            () if ends(&[".dcm", ".ima"]) => Some(Self::Dicom),
            () => None,
        }
    }

    /// The format of a file by its name, or else by its first bytes.
    #[must_use]
    pub fn of_file(path: &Path) -> Option<Self> {
        // A pipe would wait for a writer for ever.
        let read = || {
            let mut start = Vec::new();
            path.is_file().then(|| File::open(path).ok()).flatten()?.take(START as u64).read_to_end(&mut start).ok()?;
            Some(start)
        };
        Self::of_path(path).or_else(|| Self::of_start(&read()?))
    }

    pub(crate) fn of_path(path: &Path) -> Option<Self> {
        Self::of_name(&path.file_name().unwrap_or_default().to_string_lossy())
    }

    /// The format of a file that begins so.
    pub(crate) fn of_start(start: &[u8]) -> Option<Self> {
        match start {
            _ if start.starts_with(b"NRRD000") => Some(Self::Nrrd),
            _ if start.starts_with(b"ObjectType") || start.starts_with(b"NDims") => Some(Self::MetaImage),
            _ if start.starts_with(&348i32.to_le_bytes()) || start.starts_with(&348i32.to_be_bytes()) => Some(Self::Nifti),
            _ if start.get(128..START) == Some(b"DICM") => Some(Self::Dicom),
            _ => None,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let known = || Self::ALL.map(Self::word).join(", ");
        Self::ALL.into_iter().find(|format| format.word() == word).ok_or_else(|| format!("expected one of {}", known()))
    }
}
