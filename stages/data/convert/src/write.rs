//! Scans, label maps and lists, as they are written.

use std::path::Path;

use anyhow::{Error, Result};
use dicom_series::{Painter, Series};
use stage_kit::{ABOUT, StageIo, write_atomic_text};
use volume::Source as _;
use volume::nifti::{LabelWriter, ScalarWriter};

use crate::Config;
use crate::tree::Job;

/// Writes a scan as integers of 16 bits, as CT is stored. If a value is none of these, all become floats.
pub(crate) fn image(series: &Series, path: &Path) -> Result<()> {
    let header = series.header().map_err(Error::from_boxed)?;
    if !copied(series, ScalarWriter::integers(path, &header)?, ScalarWriter::are_integers)? {
        copied(series, ScalarWriter::floats(path, &header)?, |_| true)?;
    }
    Ok(())
}

/// Writes all slices; whether they are what the writer takes.
fn copied(series: &Series, mut writer: ScalarWriter, takes: impl Fn(&[f32]) -> bool) -> Result<bool> {
    let (mut slices, mut values) = (series.slices().map_err(Error::from_boxed)?, Vec::new());
    while slices.next_slice(&mut values).map_err(Error::from_boxed)? {
        if !takes(&values) {
            return Ok(false);
        }
        writer.add(&values)?;
    }
    writer.finish()?;
    Ok(true)
}

/// Writes the labels of all files of a case, each over the others where its value is higher.
pub(crate) fn labels(job: &Job, path: &Path) -> Result<()> {
    let header = job.series.header().map_err(Error::from_boxed)?;
    let on_series = |labels: &crate::labels::Labels| labels.annotation.on(&job.series, &labels.values);
    let mut painters: Vec<Painter> = job.labels.iter().map(on_series).collect::<Result<_, _>>()?;
    let [columns, rows, count] = job.series.grid().shape;
    let (mut writer, mut slice) = (LabelWriter::create(path, &header)?, vec![0; columns * rows]);
    for z in 0..count {
        slice.fill(0);
        painters.iter_mut().try_for_each(|painter| painter.paint(z, &mut slice))?;
        writer.add(&slice)?;
    }
    Ok(writer.finish()?)
}

/// Writes which series each case is, and `dataset.json`.
pub(crate) fn lists(config: &Config, io: &StageIo, jobs: &[Job]) -> Result<()> {
    let names = ["case", "patient", "study", "series", "description", "slices", "labels", "folder"].map(str::to_owned);
    let scans = io.input("scans")?;
    let row = |job: &Job| {
        let folder = job.series.folder();
        let folder = folder.strip_prefix(scans).unwrap_or(folder).display().to_string();
        job.row().into_iter().chain([folder]).collect::<Vec<_>>()
    };
    let rows = std::iter::once(names.to_vec()).chain(jobs.iter().map(row));
    write_atomic_text(&io.output.join(ABOUT).join("series.csv"), &tables::to_csv(rows))?;
    let labelled = jobs.iter().filter(|job| !job.labels.is_empty()).count();
    let mut segments: Vec<_> = config.segments.iter().map(|(name, segment)| (segment.value(), name.as_str())).collect();
    segments.sort_unstable();
    let segments = segments.into_iter().filter(|_| labelled > 0).map(|(value, name)| (name, value));
    dataset::write_list(&io.output, segments, jobs.len())?;
    io.report.note(&format!("{}: {} cases, {labelled} of them with labels", io.node, jobs.len()));
    Ok(())
}
