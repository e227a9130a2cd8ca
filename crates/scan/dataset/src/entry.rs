//! Guesses from the name of a file whether it is a scan.

/// What an entry may be, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// NIfTI, perhaps with an ending in other letters.
    Nifti,
    /// A scan in another format, or one that is not whole; in words.
    OtherScan(&'static str),
    /// What systems, people and programs leave beside scans.
    Junk,
    /// Anything else.
    Unknown,
}

/// Endings of scans that are not read here.
const OTHER_SCANS: [(&str, &str); 25] = [
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
    (".nrrd", "an NRRD file"),
    (".nhdr", "an NRRD header"),
    (".mha", "a MetaImage file"),
    (".mhd", "a MetaImage header"),
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
    let is_hidden = lower.starts_with('.') && lower != ".nii.gz" && lower != ".nii";
    if is_hidden || lower == "__macosx" || lower.starts_with('@') {
        return Kind::Junk;
    }
    if lower.ends_with(".nii.gz") || lower.ends_with(".nii") {
        return Kind::Nifti;
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
        let known =
            ending == ".nii" || OTHER_SCANS.iter().any(|(other, _)| *other == ending) || matches!(&*ending, ".bz2" | ".xz" | ".zst");
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
        for name in ["case7.nii.gz", "a_0001.NII.GZ", "a.Nii", "_0000.nii.gz", ".nii.gz"] {
            assert_eq!(kind(name), Kind::Nifti, "{name}");
        }
        for name in ["a.nrrd", "a_0000.nii.gz.part", "a_0000.nii.bz2", "A.DCM", "a.mha", "a.tar", "b.gz"] {
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
