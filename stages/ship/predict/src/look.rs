//! What people look at besides the label map: a picture, and volumes and densities.
//!
//! Both read the scan again, slice by slice, with the labels that were written.

use std::io::Write;

use anyhow::Result;
use dataset::ScanCase;
use labels::{Class, Classes};
use ndarray::{Array3, ShapeBuilder};
use pictures::{ABDOMEN_WINDOW_HU, Figure, Palette};
use serde_json::{Value, json};
use stage_kit::StageIo;
use volume::{Affine, LabelVolume, ScalarVolume, Source};

use crate::Config;
use crate::files::Kept;

/// For a picture no more voxels than these are kept along an axis.
const MOST_TO_SEE: [usize; 3] = [512, 512, 256];

/// A scan with its labels.
pub(crate) struct Look<'a> {
    pub(crate) case: &'a ScanCase,
    pub(crate) source: &'a dyn Source,
    pub(crate) labels: &'a Kept,
    /// The classes that were asked for.
    pub(crate) classes: &'a [&'a Class],
    /// All classes of the model.
    pub(crate) all: &'a Classes,
}

impl Look<'_> {
    /// Writes what was asked for.
    pub(crate) fn write(&self, config: &Config, io: &StageIo) -> Result<()> {
        let place = |ending: &str| io.output.join(format!("{}.{ending}", self.case.id));
        if config.statistics {
            let found = self.statistics()?;
            let text = serde_json::to_vec_pretty(&self.as_json(&found))?;
            stage_kit::write_atomic(&place("json"), |file| Ok(file.write_all(&text)?))?;
            stage_kit::write_atomic_text(&place("csv"), &as_csv(&found))?;
        }
        if config.preview {
            let (image, labels) = self.thinned()?;
            let mut figure = Figure::new(&self.case.id, &image, &labels, &Palette::of(self.all), ABDOMEN_WINDOW_HU)?;
            figure.add_ct("CT");
            figure.add_labels("predicted", &labels)?;
            figure.write_png(&place("png"))?;
        }
        Ok(())
    }

    /// Goes over the scan and its labels together: slice number, values in HU, labels.
    fn each_slice(&self, mut visit: impl FnMut(usize, &[f32], &[u8])) -> Result<()> {
        let [nx, ny, _] = self.source.grid().shape;
        let (mut image, mut values, mut k) = (self.source.slices().map_err(anyhow::Error::from_boxed)?, Vec::new(), 0);
        self.labels.each_slice(nx * ny, |labels| {
            if image.next_slice(&mut values).map_err(anyhow::Error::from_boxed)? {
                visit(k, &values, labels);
                k += 1;
            }
            Ok(())
        })
    }

    fn statistics(&self) -> Result<Vec<Statistics>> {
        let voxel_ml = self.source.grid().voxel_mm3() / 1000.0;
        let mut sums = [(0u64, 0.0, 0.0); 256];
        self.each_slice(|_, values, labels| {
            for (&value, &label) in values.iter().zip(labels) {
                let (count, sum, squares) = &mut sums[usize::from(label)];
                *count += 1;
                *sum += f64::from(value);
                *squares += f64::from(value) * f64::from(value);
            }
        })?;
        let of = |class: &&Class| {
            let (voxels, sum, squares) = sums[usize::from(class.value)];
            let mean_hu = (voxels > 0).then(|| sum / voxels as f64);
            let sd_hu = mean_hu.map(|mean| (squares / voxels as f64 - mean * mean).max(0.0).sqrt());
            let (key, name) = (class.key.clone(), class.name.clone());
            Statistics { key, name, label: class.value, voxels, volume_ml: voxels as f64 * voxel_ml, mean_hu, sd_hu }
        };
        Ok(self.classes.iter().map(of).collect())
    }

    fn as_json(&self, found: &[Statistics]) -> Value {
        let of = |one: &Statistics| {
            json!({
                "label": one.label,
                "name": one.name,
                "voxels": one.voxels,
                "volume_ml": one.volume_ml,
                "mean_hu": one.mean_hu,
                "sd_hu": one.sd_hu,
            })
        };
        let classes: serde_json::Map<String, Value> = found.iter().map(|one| (one.key.clone(), of(one))).collect();
        let grid = self.source.grid();
        json!({"shape": grid.shape, "spacing_mm": grid.spacing_mm(), "classes": classes})
    }

    /// The scan and its labels with every n-th voxel along each axis, so that long scans take no more memory than others.
    fn thinned(&self) -> Result<(ScalarVolume, LabelVolume)> {
        let grid = self.source.grid();
        let steps: [usize; 3] = std::array::from_fn(|axis| grid.shape[axis].div_ceil(MOST_TO_SEE[axis]));
        let shape: [usize; 3] = std::array::from_fn(|axis| grid.shape[axis].div_ceil(steps[axis]));
        let columns = std::array::from_fn(|axis| grid.affine.column(axis).map(|mm| mm * steps[axis] as f64));
        let affine = Affine::from_columns(columns, grid.affine.origin_mm());
        let (mut seen, mut classes) = (Vec::new(), Vec::new());
        self.each_slice(|k, values, labels| {
            for at in (0..grid.shape[1]).step_by(steps[1]).filter(|_| k % steps[2] == 0).map(|y| y * grid.shape[0]) {
                seen.extend(values[at..][..grid.shape[0]].iter().step_by(steps[0]));
                classes.extend(labels[at..][..grid.shape[0]].iter().step_by(steps[0]));
            }
        })?;
        let image = ScalarVolume { data: Array3::from_shape_vec(shape.f(), seen)?, affine };
        Ok((image, LabelVolume { data: Array3::from_shape_vec(shape.f(), classes)?, affine }))
    }
}

/// What is known of a class in a scan.
struct Statistics {
    key: String,
    name: String,
    label: u8,
    voxels: u64,
    volume_ml: f64,
    mean_hu: Option<f64>,
    sd_hu: Option<f64>,
}

fn as_csv(found: &[Statistics]) -> String {
    let names = ["class", "name", "label", "voxels", "volume_ml", "mean_hu", "sd_hu"].map(str::to_owned).to_vec();
    let number = |number: Option<f64>| number.map_or_else(String::new, |number| format!("{number:.1}"));
    let row = |one: &Statistics| {
        let (label, voxels, volume) = (one.label.to_string(), one.voxels.to_string(), format!("{:.3}", one.volume_ml));
        vec![one.key.clone(), one.name.clone(), label, voxels, volume, number(one.mean_hu), number(one.sd_hu)]
    };
    tables::to_csv(std::iter::once(names).chain(found.iter().map(row)))
}
