//! Making one case and writing its files.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use flate2::{Compression, write::GzEncoder};
use labels::flare23;
use ndarray::Zip;
use random::Streams;
use serde::{Deserialize, Serialize};
use stage_kit::{StageIo, write_atomic, write_atomic_text};
use volume::{LabelVolume, ScalarVolume, Volume, nifti};

use crate::Config;
use crate::acquire::{Acquisition, Coverage};
use crate::case::{Case, Kind};
use crate::collection::Dataset;
use crate::draw::Draw;
use crate::scene::{Patient, Scene};
use crate::subset::Subset;
use crate::tumor::{self, Tumors};

/// What `cases.json` tells of a case.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Description {
    id: String,
    /// A training subset, `validation`, or a dataset of the collection.
    subset: String,
    image: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    correction: Option<PathBuf>,
    truth: PathBuf,
    shape: [usize; 3],
    spacing_mm: [f64; 3],
    orientation: String,
    tilt_deg: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    cropped: Option<String>,
    noise_hu: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    padding_hu: Option<f32>,
    /// Whether the image is stored with a slope and an intercept.
    scaled_storage: bool,
    /// Volume of each label in the truth, in mL.
    volumes_ml: BTreeMap<String, f64>,
    tumors: Vec<tumor::Description>,
}

/// A patient and the scan of it, before anything is written.
pub(crate) struct Made {
    pub(crate) image: ScalarVolume,
    pub(crate) truth: LabelVolume,
    /// The truth as if there were no tumors.
    organs: LabelVolume,
    pub(crate) acquisition: Acquisition,
    coverage: Coverage,
    pub(crate) tumors: Vec<tumor::Description>,
}

/// Makes the patient of `case` and scans it.
pub(crate) fn make(config: &Config, streams: &Streams, case: &Case) -> Result<Made> {
    let draw = |purpose: &str| Draw::new(streams.stream(purpose, &case.place));
    let mut scan = draw("phantom scan");
    // A scan that ends amid the kidneys may have no room for a tumor of theirs.
    let needs_all = case.kind == Kind::Collection(Dataset::KidneyTumors);
    let coverage = Coverage::draw(&mut scan, if needs_all { 0.0 } else { config.cropped_fraction });
    let tumors = tumors(config, case.kind, &mut scan);
    let patient = Patient { body_width_mm: config.body_width_mm, variation: config.variation, tumors, z_mm: coverage.z_mm };
    let scene = Scene::draw(&mut draw("phantom anatomy"), &mut draw("phantom tumors"), &patient);
    ensure!(
        tumors == Tumors::None || !scene.tumors.is_empty(),
        "the scanned part of the patient has no room for a tumor; give body_width_mm more, or cropped_fraction less"
    );
    let acquisition = Acquisition::draw(&mut scan, config, &scene, &coverage)?;
    let (image, truth, organs) = acquisition.scan(&scene, &mut draw("phantom noise"))?;
    Ok(Made { image, truth, organs, acquisition, coverage, tumors: scene.tumors })
}

/// Which tumors a patient has.
fn tumors(config: &Config, kind: Kind, scan: &mut Draw) -> Tumors {
    match kind {
        Kind::Training(Subset::FiveOrgansAndTumor | Subset::Tumor | Subset::OrgansAndTumor) => Tumors::Anywhere,
        Kind::Training(Subset::Organs | Subset::FiveOrgans) => Tumors::None,
        Kind::Collection(Dataset::KidneyTumors) => Tumors::InKidneys,
        Kind::Training(Subset::Unlabeled) | Kind::Validation | Kind::Collection(_) => {
            if scan.chance(config.tumor_fraction) {
                Tumors::Anywhere
            } else {
                Tumors::None
            }
        }
    }
}

/// Makes a case and writes image, labels, correction, truth and, last of all, its description.
pub(crate) fn write(config: &Config, streams: &Streams, io: &StageIo, case: &Case) -> Result<()> {
    let made = make(config, streams, case)?;
    let place = |relative: &Path| -> Result<PathBuf> {
        let path = io.output.join(relative);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
        }
        Ok(path)
    };
    write_image(&place(&case.image())?, &made, &io.work, &case.id)?;
    nifti::write_labels_on(place(&case.truth())?, &made.truth)?;
    if let Some(path) = case.label() {
        let annotate = case.annotated();
        let data = Zip::from(&made.truth.data).and(&made.organs.data).map_collect(|&class, &organ| annotate(class, organ));
        let annotated = Volume { data, affine: made.truth.affine };
        match case.correction() {
            Some(correction) => {
                nifti::write_labels_on(place(&correction)?, &annotated)?;
                nifti::write_labels_on(place(&path)?, &mirrored(&annotated))?;
            }
            None => nifti::write_labels_on(place(&path)?, &annotated)?,
        }
    }
    let description = serde_json::to_string_pretty(&describe(case, &made))?;
    write_atomic_text(&io.work.join(self::description(&case.id)), &description)
}

/// The description that [`write`] left.
pub(crate) fn read_description(io: &StageIo, case: &Case) -> Result<Description> {
    let path = io.work.join(description(&case.id));
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is not a case's description; remove it and run again", path.display()))
}

/// Where the description is kept until all cases are made, in the folder `work`.
pub(crate) fn description(id: &str) -> String {
    format!("{id}.json")
}

/// Label maps that were saved left for right: a mistake that keeps the pattern and is seen at a glance.
fn mirrored(labels: &LabelVolume) -> LabelVolume {
    let mut data = labels.data.clone();
    let orientation = labels.affine.orientation();
    let axis = (0..3).find(|&axis| orientation.world_axis(axis) == 0).unwrap_or(0);
    data.invert_axis(ndarray::Axis(axis));
    Volume { data, affine: labels.affine }
}

fn describe(case: &Case, made: &Made) -> Description {
    let grid = made.truth.grid();
    let spacing_mm = grid.spacing_mm();
    let voxel_ml = grid.voxel_mm3() / 1000.0;
    let mut voxels = [0u32; 256];
    for &label in &made.truth.data {
        voxels[usize::from(label)] += 1;
    }
    let of = |value: u8| f64::from(voxels[usize::from(value)]);
    let classes = flare23::classes();
    let seen = classes.all().into_iter().filter(|class| of(class.value) > 0.0);
    let volumes_ml = seen.map(|class| (class.key.clone(), rounded(of(class.value) * voxel_ml))).collect();
    Description {
        id: case.id.clone(),
        subset: case.kind.name().to_owned(),
        image: case.image(),
        label: case.label(),
        correction: case.correction(),
        truth: case.truth(),
        shape: grid.shape,
        spacing_mm: spacing_mm.map(rounded),
        orientation: grid.orientation().to_string(),
        tilt_deg: made.acquisition.tilt_deg,
        cropped: made.coverage.cropped.map(str::to_owned),
        noise_hu: made.acquisition.noise_hu,
        padding_hu: made.acquisition.padding_hu,
        scaled_storage: made.acquisition.scaling.is_some(),
        volumes_ml,
        tumors: made.tumors.clone(),
    }
}

/// Two decimals are enough to read.
fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// Writes the image as 16-bit integers, in some cases behind a slope and an intercept as some scanners do.
fn write_image(path: &Path, made: &Made, work: &Path, id: &str) -> Result<()> {
    const SCL_SLOPE_AT: usize = 112;
    let Some([slope, intercept]) = made.acquisition.scaling else {
        return Ok(nifti::write_scalar_i16(path, &made.image)?);
    };
    let stored = Volume { data: made.image.data.mapv(|hu| (hu - intercept) / slope), affine: made.image.affine };
    let plain = work.join(format!("{id}.nii"));
    nifti::write_scalar_i16(&plain, &stored)?;
    let mut bytes = std::fs::read(&plain).with_context(|| format!("cannot read {}", plain.display()))?;
    bytes[SCL_SLOPE_AT..SCL_SLOPE_AT + 4].copy_from_slice(&slope.to_le_bytes());
    bytes[SCL_SLOPE_AT + 4..SCL_SLOPE_AT + 8].copy_from_slice(&intercept.to_le_bytes());
    write_atomic(path, |file| {
        let mut gzip = GzEncoder::new(file, Compression::fast());
        gzip.write_all(&bytes)?;
        gzip.finish()?;
        Ok(())
    })?;
    std::fs::remove_file(&plain).with_context(|| format!("cannot remove {}", plain.display()))
}
