//! The files of a case: their names and formats, and labels that are kept to be looked at.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, bail, ensure};
use clap::ValueEnum;
use dataset::ScanCase;
use formats::Format;
use labels::Class;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use stage_kit::StageIo;
use volume::{LabelSink, SourceError};

use crate::Config;

/// A format of label maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LabelFormat {
    /// `CASE.nii.gz`.
    Nifti,
    /// `CASE.seg.nrrd`, a segmentation of 3D Slicer.
    Nrrd,
    /// `CASE.mha`, without names of classes.
    Mha,
    /// `CASE.dcm`, a DICOM segmentation; for DICOM series alone.
    Dicom,
}

impl From<LabelFormat> for Format {
    fn from(format: LabelFormat) -> Self {
        match format {
            LabelFormat::Nifti => Self::Nifti,
            LabelFormat::Nrrd => Self::Nrrd,
            LabelFormat::Mha => Self::MetaImage,
            LabelFormat::Dicom => Self::Dicom,
        }
    }
}

/// The format of a case's label map: the one that is asked for, by name or by the ending of its file, or that of its scan.
pub(crate) fn format(config: &Config, case: &ScanCase) -> Format {
    let of_name = || Format::of_name(config.label.as_deref()?);
    config.format.map(Format::from).or_else(of_name).unwrap_or_else(|| case.scan.format())
}

/// Refuses a name of a label map that says another format than is asked for, or none.
pub(crate) fn check_label(config: &Config, label: &str) -> Result<()> {
    let Some(found) = Format::of_name(label) else {
        bail!("{label} does not end as a label map; expected an ending such as .nii.gz, .seg.nrrd, .mha or .dcm");
    };
    let asked = config.format.map_or(found, Format::from);
    ensure!(found == asked, "{label} is a file in the format {found}, and {asked} is asked for; leave one of the two out");
    Ok(())
}

pub(crate) fn label_name(config: &Config, case: &ScanCase) -> String {
    config.label.clone().unwrap_or_else(|| format!("{}{}", case.id, format(config, case).label_ending()))
}

/// Everything that is written for a case.
pub(crate) fn outputs(config: &Config, case: &ScanCase) -> Vec<String> {
    let more: [(bool, &[&str]); 3] =
        [(config.preview, &["png"]), (config.statistics, &["json", "csv"]), (config.tables, &["label", "ctbl"])];
    let more = more.into_iter().filter(|(asked, _)| *asked).flat_map(|(_, endings)| endings);
    std::iter::once(label_name(config, case)).chain(more.map(|ending| format!("{}.{ending}", case.id))).collect()
}

/// Writes names and colours of the classes for ITK-SNAP and 3D Slicer.
pub(crate) fn write_tables(classes: &[&Class], case: &ScanCase, io: &StageIo) -> Result<()> {
    for (ending, text) in [("label", formats::itk_snap_labels(classes)), ("ctbl", formats::slicer_colors(classes))] {
        stage_kit::write_atomic_text(&io.output.join(format!("{}.{ending}", case.id)), &text)?;
    }
    Ok(())
}

/// Labels that were written, slice by slice, in a file without a name: no format has to be read again.
pub(crate) struct Kept(Arc<Mutex<BufWriter<File>>>);

impl Kept {
    /// A sink that writes into `file` and keeps the labels in `folder`.
    pub(crate) fn beside(file: Box<dyn LabelSink>, folder: &Path) -> Result<(Box<dyn LabelSink>, Option<Self>)> {
        let kept = tempfile::tempfile_in(folder).with_context(|| format!("cannot make a file in {}", folder.display()))?;
        let kept = Arc::new(Mutex::new(BufWriter::with_capacity(1 << 18, kept)));
        Ok((Box::new(Keeping { file, kept: Arc::clone(&kept) }), Some(Self(kept))))
    }

    /// Gives each slice of `voxels` labels to `visit`.
    pub(crate) fn each_slice(&self, voxels: usize, mut visit: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.flush()?;
        let file = kept.get_mut();
        let count = file.seek(SeekFrom::End(0))? / voxels.max(1) as u64;
        file.seek(SeekFrom::Start(0))?;
        let (mut file, mut slice) = (BufReader::with_capacity(1 << 18, file), vec![0; voxels]);
        for _ in 0..count {
            file.read_exact(&mut slice)?;
            visit(&slice)?;
        }
        Ok(())
    }
}

struct Keeping {
    file: Box<dyn LabelSink>,
    kept: Arc<Mutex<BufWriter<File>>>,
}

impl LabelSink for Keeping {
    fn add(&mut self, labels: &[u8]) -> Result<(), SourceError> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).write_all(labels)?;
        self.file.add(labels)
    }

    fn finish(self: Box<Self>) -> Result<(), SourceError> {
        self.file.finish()
    }
}
