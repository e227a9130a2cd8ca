//! Guesses from the name of a file whether it is a scan.

/// What an entry may be, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A scan in one file of a format that is read, perhaps with an ending in other letters.
    Scan,
    /// A scan in another format, in several files, or one that is not whole; in words.
    OtherScan(&'static str),
    /// What systems, people and programs leave beside scans.
    Junk,
    /// Anything else.
    Unknown,
}

/// Endings of scans that are read: NIfTI, NRRD and MetaImage. A longer one comes before that which it ends with.
pub(crate) const SCANS: [&str; 5] = [".nii.gz", ".nii", ".seg.nrrd", ".nrrd", ".mha"];

/// The name without the ending of a scan, if it has one that is read.
pub(crate) fn of_scan(name: &str) -> Option<&str> {
    SCANS.iter().find_map(|ending| name.strip_suffix(ending))
}

/// How the name of a scan ends, in small letters; otherwise as that of a NIfTI file.
#[must_use]
pub fn ending(name: &str) -> &'static str {
    let lower = name.to_lowercase();
    SCANS.into_iter().find(|ending| lower.ends_with(ending)).unwrap_or(SCANS[0])
}

/// Whether a name, or a template of names, ends as that of a scan.
pub(crate) fn is_scan(name: &str) -> bool {
    of_scan(name).is_some()
}

/// Endings of scans that are not read here.
const OTHER_SCANS: [(&str, &str); 23] = [
    (".nii.bz2", "a NIfTI file packed by bzip2"),
    (".nii.xz", "a NIfTI file packed by xz"),
    (".nii.zst", "a NIfTI file packed by zstd"),
    (".nii.zip", "a NIfTI file in a ZIP archive"),
    (".part", "a file that is not whole (.part)"),
    (".partial", "a file that is not whole (.partial)"),
    (".crdownload", "a file that is not whole (.crdownload)"),
    (".filepart", "a file that is not whole (.filepart)"),
    (".download", "a file that is not whole (.download)"),
    (".tmp", "a file that is not whole (.tmp)"),
    (".nhdr", "an NRRD header with its voxels in another file"),
    (".mhd", "a MetaImage header with its voxels in another file"),
    (".dcm", "a DICOM file"),
    (".ima", "a DICOM file"),
    (".hdr", "an Analyze header"),
    (".img", "an Analyze image"),
    (".mgz", "an MGH file"),
    (".mnc", "a MINC file"),
    (".npz", "a NumPy file"),
    (".npy", "a NumPy file"),
    (".zip", "a ZIP archive"),
    (".tar", "a tar archive"),
    (".gz", "a gzip file that does not say what is in it"),
];

/// Endings of texts, tables and pictures.
const NO_SCANS: [&str; 22] = [
    ".json", ".jsonl", ".yaml", ".yml", ".txt", ".md", ".csv", ".tsv", ".xlsx", ".xls", ".log", ".pdf", ".png", ".jpg", ".jpeg", ".svg",
    ".html", ".xml", ".py", ".sh", ".db", ".ini",
];

/// Names of files without an ending that people leave.
const TEXTS: [&str; 4] = ["readme", "license", "changelog", "makefile"];

pub(crate) fn kind(name: &str) -> Kind {
    let lower = name.to_lowercase();
    // A hidden file is no input, however it ends: macOS writes `._NAME` beside NAME, and interrupted writers `.writing-…`. What has no
    // more to its name than the ending lost its case.
    let is_hidden = lower.starts_with('.') && !SCANS.contains(&lower.as_str());
    if is_hidden || lower == "__macosx" || lower.starts_with('@') {
        return Kind::Junk;
    }
    if is_scan(&lower) {
        return Kind::Scan;
    }
    if let Some((_, format)) = OTHER_SCANS.iter().find(|(ending, _)| lower.ends_with(ending)) {
        return Kind::OtherScan(format);
    }
    if NO_SCANS.iter().any(|ending| lower.ends_with(ending)) || TEXTS.contains(&lower.as_str()) {
        return Kind::Junk;
    }
    Kind::Unknown
}

/// The name without the endings of a scan and without a number of a channel, whatever their letters: most likely the case.
pub(crate) fn without_endings(name: &str) -> &str {
    let stem = stem(name);
    match stem.rsplit_once('_') {
        Some((case, channel)) if channel.len() == 4 && channel.bytes().all(|byte| byte.is_ascii_digit()) => case,
        _ => stem,
    }
}

/// The name without the endings of a scan.
pub(crate) fn stem(name: &str) -> &str {
    let mut stem = name;
    while let Some((rest, ending)) = stem.rsplit_once('.') {
        let ending = format!(".{}", ending.to_lowercase());
        let known = SCANS.contains(&&*ending)
            || OTHER_SCANS.iter().any(|(other, _)| *other == ending)
            || matches!(&*ending, ".bz2" | ".xz" | ".zst");
        if !known {
            break;
        }
        stem = rest;
    }
    stem
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_might_be_a_scan_is_told_from_what_cannot() {
        for name in ["case7.nii.gz", "a_0001.NII.GZ", "a.Nii", "_0000.nii.gz", ".nii.gz", "a.nrrd", "a.Mha", "a.seg.nrrd"] {
            assert_eq!(kind(name), Kind::Scan, "{name}");
        }
        for name in ["a.nhdr", "a_0000.nii.gz.part", "a_0000.nii.bz2", "A.DCM", "a.mhd", "a.tar", "b.gz"] {
            assert!(matches!(kind(name), Kind::OtherScan(_)), "{name}");
        }
        for name in [
            ".DS_Store",
            "._a_0000.nii.gz",
            "Thumbs.db",
            "desktop.ini",
            "__MACOSX",
            "dataset.json",
            "README",
            ".writing-1_a.nii.gz",
            "@eaDir",
        ] {
            assert_eq!(kind(name), Kind::Junk, "{name}");
        }
        for name in ["IM000001", "a.dat"] {
            assert_eq!(kind(name), Kind::Unknown, "{name}");
        }
    }

    #[test]
    fn the_case_is_guessed_from_any_name() {
        for name in ["a_0000.nii.gz", "a.nii", "a.NII.GZ", "a_0001.nii.gz", "a_0000.nrrd", "a_0000.nii.gz.part", "a_0000.nii.bz2"] {
            assert_eq!(without_endings(name), "a", "{name}");
        }
        assert_eq!(without_endings("1.2.840.113619_0000.nii.gz"), "1.2.840.113619");
        assert_eq!(without_endings("FLARE23_0903_0000.nii.gz"), "FLARE23_0903");
    }
}
