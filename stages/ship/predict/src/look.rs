//! What people look at besides the label map: a picture, and volumes and densities.
//!
//! Both read the scan and its label map again, slice by slice.

use std::io::Write;
use std::path::Path;

use anyhow::Result;
use dataset::ImageFile;
use labels::{Class, Classes};
use ndarray::{Array3, ShapeBuilder};
use pictures::{ABDOMEN_WINDOW_HU, Figure, Palette};
use serde_json::{Value, json};
use stage_kit::StageIo;
use volume::nifti::SliceReader;
use volume::{Affine, LabelVolume, ScalarVolume};

use crate::Config;

/// For a picture no more voxels than these are kept along an axis.
const MOST_TO_SEE: [usize; 3] = [512, 512, 256];

/// Writes what was asked for.
pub(crate) fn look(config: &Config, io: &StageIo, classes: &Classes, case: &ImageFile) -> Result<()> {
    let labels = io.output.join(case.label_name());
    if config.statistics {
        let statistics = serde_json::to_vec_pretty(&statistics(&case.path, &labels, classes)?)?;
        stage_kit::write_atomic(&io.output.join(format!("{}.json", case.id)), |file| Ok(file.write_all(&statistics)?))?;
    }
    if config.preview {
        let (image, labels) = thinned(&case.path, &labels)?;
        let mut figure = Figure::new(&case.id, &image, &labels, &Palette::of(classes), ABDOMEN_WINDOW_HU)?;
        figure.add_ct("CT");
        figure.add_labels("predicted", &labels)?;
        figure.write_png(&io.output.join(format!("{}.png", case.id)))?;
    }
    Ok(())
}

/// Goes over a scan and its label map together: slice number, values in HU, labels.
fn each_slice(image: &Path, labels: &Path, mut visit: impl FnMut(usize, &[f32], &[f32])) -> Result<()> {
    let (mut image, mut labels) = (SliceReader::open(image)?, SliceReader::open(labels)?);
    let (mut values, mut classes) = (Vec::new(), Vec::new());
    let mut k = 0;
    while image.next_slice(&mut values)? && labels.next_slice(&mut classes)? {
        visit(k, &values, &classes);
        k += 1;
    }
    Ok(())
}

/// Of every class that is there: voxels, volume in mL, mean and standard deviation in HU.
fn statistics(image: &Path, labels: &Path, classes: &Classes) -> Result<Value> {
    let grid = SliceReader::open(image)?.header().grid();
    let voxel_ml = grid.voxel_mm3() / 1000.0;
    let mut sums = [(0u64, 0.0, 0.0); 256];
    each_slice(image, labels, |_, values, labels| {
        for (&value, &label) in values.iter().zip(labels) {
            if let Some((count, sum, squares)) = sums.get_mut(label as usize) {
                *count += 1;
                *sum += f64::from(value);
                *squares += f64::from(value) * f64::from(value);
            }
        }
    })?;
    let of = |class: &Class| {
        let (count, sum, squares) = sums[usize::from(class.value)];
        let mean = (count > 0).then(|| sum / count as f64);
        json!({
            "label": class.value,
            "name": class.name,
            "voxels": count,
            "volume_ml": count as f64 * voxel_ml,
            "mean_hu": mean,
            "sd_hu": mean.map(|mean| (squares / count as f64 - mean * mean).max(0.0).sqrt()),
        })
    };
    let classes: serde_json::Map<String, Value> = classes.all().into_iter().map(|class| (class.key.clone(), of(class))).collect();
    Ok(json!({"shape": grid.shape, "spacing_mm": grid.spacing_mm(), "classes": classes}))
}

/// The scan and its labels with every n-th voxel along each axis, so that long scans take no more memory than others.
fn thinned(image: &Path, labels: &Path) -> Result<(ScalarVolume, LabelVolume)> {
    let grid = SliceReader::open(image)?.header().grid();
    let steps: [usize; 3] = std::array::from_fn(|axis| grid.shape[axis].div_ceil(MOST_TO_SEE[axis]));
    let shape: [usize; 3] = std::array::from_fn(|axis| grid.shape[axis].div_ceil(steps[axis]));
    let columns = std::array::from_fn(|axis| grid.affine.column(axis).map(|mm| mm * steps[axis] as f64));
    let affine = Affine::from_columns(columns, grid.affine.origin_mm());
    let (mut seen, mut classes) = (Vec::new(), Vec::new());
    each_slice(image, labels, |k, values, labels| {
        for at in (0..grid.shape[1]).step_by(steps[1]).filter(|_| k % steps[2] == 0).map(|y| y * grid.shape[0]) {
            seen.extend(values[at..][..grid.shape[0]].iter().step_by(steps[0]));
            classes.extend(labels[at..][..grid.shape[0]].iter().step_by(steps[0]).map(|&label| label as u8));
        }
    })?;
    let image = ScalarVolume { data: Array3::from_shape_vec(shape.f(), seen)?, affine };
    Ok((image, LabelVolume { data: Array3::from_shape_vec(shape.f(), classes)?, affine }))
}
