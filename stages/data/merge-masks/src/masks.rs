//! Where the masks of a case lie.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use volume::Format;

const CASE: &str = "{case}";
const PATIENT: &str = "{patient}";
const CLASS: &str = "{class}";

/// The paths of masks, such as `{case}/segmentations/{class}.nii.gz`.
pub(crate) struct MaskPaths<'a> {
    folder: &'a str,
    /// What stands before and after the class in the name of a file.
    around: [&'a str; 2],
}

impl<'a> MaskPaths<'a> {
    /// Reads the parameter `masks`.
    pub(crate) fn of(template: &'a str) -> Result<Self> {
        let (folder, name) = template.rsplit_once('/').unwrap_or(("", template));
        let around = name.split_once(CLASS).map(<[&str; 2]>::from);
        let is_clear = !folder.contains(CLASS) && !template.contains('*') && template.contains(CASE);
        let Some(around) = around.filter(|around| is_clear && !around[1].contains(CLASS)) else {
            anyhow::bail!(
                "masks: `{template}` is found, and expected is a path with `{{case}}`, with `{{class}}` once, in the name of the file, and without `*`, \
                 such as `{{case}}/segmentations/{{class}}.nii.gz`"
            );
        };
        ensure!(
            Format::of_name(around[1]).is_some_and(|format| format != Format::Dicom),
            "masks: `{template}` does not end with `.nii.gz`, `.nii`, `.nrrd` or `.mha`; convert masks of other formats"
        );
        Ok(Self { folder, around })
    }

    /// The path of a mask, relative to the dataset.
    pub(crate) fn path(&self, case: &Named<'_>, class: &str) -> PathBuf {
        let [before, after] = self.around.map(|part| case.put_into(part));
        Path::new(&case.put_into(self.folder)).join(format!("{before}{class}{after}"))
    }

    /// The classes that a case has masks of.
    pub(crate) fn found(&self, root: &Path, case: &Named<'_>) -> BTreeSet<String> {
        let [before, after] = self.around.map(|part| case.put_into(part));
        // A folder that is not there, or cannot be read, has no masks: each that is missed is named.
        let entries = std::fs::read_dir(root.join(case.put_into(self.folder))).into_iter().flatten();
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names
            .filter_map(|name| Some(name.strip_prefix(&before)?.strip_suffix(&after)?.to_owned()))
            .filter(|name| !name.is_empty())
            .collect()
    }

    /// The masks as a layout of images beside them has to name them, so that they are no strangers there.
    pub(crate) fn as_others(template: &str) -> String {
        template.replace(CLASS, "*")
    }
}

/// The names in the paths of a case.
pub(crate) struct Named<'a> {
    case: &'a str,
    patient: &'a str,
}

impl<'a> Named<'a> {
    /// Those of a case, which is called `PATIENT_CASE` if the dataset tells the patient.
    pub(crate) fn of(id: &'a str, patient: Option<&'a str>) -> Self {
        let own = patient.and_then(|patient| id.strip_prefix(patient)?.strip_prefix('_'));
        Self { case: own.unwrap_or(id), patient: patient.unwrap_or_default() }
    }

    fn put_into(&self, text: &str) -> String {
        text.replace(CASE, self.case).replace(PATIENT, self.patient)
    }
}
