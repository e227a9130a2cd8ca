//! Whether a case can be used, and everything that is wrong with it if not.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use stage_kit::LeftOut;
use volume::nifti::SliceReader;
use volume::{Cut, DoubtKind, Found, Grid, Intensities, find_cuts, nifti};

use crate::Config;
use crate::gather::Candidate;

/// What the files of a good case say. What their values mean is asked later, so that another declaration reads no scan again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Facts {
    /// The values of the label map with their voxels, without those that no voxel has.
    pub(crate) values: Vec<(u8, u64)>,
    pub(crate) shape: [usize; 3],
    #[serde(with = "exact")]
    pub(crate) spacing_mm: [f64; 3],
    /// Why the intensities may not be HU, if they may not.
    pub(crate) doubt: Option<String>,
    /// Where labels of both sides of the body are cut in two, and whether there were two parts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) cuts: Vec<(Cut, Found)>,
}

impl Facts {
    /// How many voxels each value has.
    pub(crate) fn voxels(&self) -> [u64; 256] {
        let mut voxels = [0; 256];
        self.values.iter().for_each(|(value, n)| voxels[usize::from(*value)] = *n);
        voxels
    }
}

/// Numbers by their bits: not one may be lost on the way to the manifest.
mod exact {
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    pub(super) fn serialize<S: Serializer>(values: &[f64; 3], serializer: S) -> Result<S::Ok, S::Error> {
        values.map(f64::to_bits).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[f64; 3], D::Error> {
        Ok(<[u64; 3]>::deserialize(deserializer)?.map(f64::from_bits))
    }
}

/// A scan without any voxel above this many HU is air: the paper's window begins here, and nothing would be left to
/// crop to.
const BODY_ABOVE_HU: f32 = -200.0;

/// The facts of a good case, or all findings about a bad one.
pub(crate) fn check(candidate: &Candidate, config: &Config) -> Result<Facts, Vec<LeftOut>> {
    let Candidate { id, root, files, .. } = candidate;
    let mut findings = Findings { case: id, bad: Vec::new() };
    let (grid, doubt) = check_image(root, &files.image, config, &mut findings);
    let values = match &files.label {
        Some(label) => check_label(root, label, candidate.sides(), grid.as_ref(), &mut findings),
        None => Some((Vec::new(), Vec::new())),
    };
    match (grid, values) {
        (Some(grid), Some((values, cuts))) if findings.bad.is_empty() => {
            Ok(Facts { values, shape: grid.shape, spacing_mm: grid.spacing_mm(), doubt, cuts })
        }
        _ => Err(findings.bad),
    }
}

struct Findings<'a> {
    case: &'a str,
    bad: Vec<LeftOut>,
}

impl Findings<'_> {
    fn add(&mut self, file: &Path, found: String, expected: String, remedy: &str) {
        self.bad.push(LeftOut { case: self.case.to_owned(), file: file.to_owned(), found, expected, remedy: remedy.to_owned() });
    }

    fn unreadable(&mut self, file: &Path, error: &nifti::NiftiError) {
        self.add(file, error.problem.to_string(), "a whole NIfTI-1 file of one 3-D volume".into(), "repair the file or remove the case");
    }
}

/// The image's grid, unless it cannot even be told, and a doubt about its intensities.
fn check_image(root: &Path, image: &Path, config: &Config, findings: &mut Findings<'_>) -> (Option<Grid>, Option<String>) {
    let path = root.join(image);
    let grid = match nifti::read_header(&path) {
        Ok(header) => header.grid(),
        Err(error) => {
            findings.unreadable(image, &error);
            return (None, None);
        }
    };
    let [least, most] = config.spacing_mm_range;
    let spacing_mm = grid.spacing_mm();
    if spacing_mm.iter().any(|mm| !(least..=most).contains(mm)) {
        findings.add(
            image,
            format!("spacing {}", in_mm(spacing_mm)),
            format!("every voxel edge from {least} to {most} mm"),
            "correct the header from the DICOM series, or widen spacing_mm_range",
        );
    }
    if !config.check_images {
        return (Some(grid), None);
    }
    let intensities = match intensities(&path) {
        Ok(intensities) => intensities,
        Err(error) => {
            findings.unreadable(image, &error);
            return (Some(grid), None);
        }
    };
    let highest = intensities.range().map_or(f32::NEG_INFINITY, |[_, highest]| highest);
    if highest <= BODY_ABOVE_HU {
        let expected = format!("a body, so voxels above {BODY_ABOVE_HU} HU");
        let remedy = "check the rescale slope and intercept, or remove the case";
        findings.add(image, format!("no voxel above {highest} HU"), expected, remedy);
        return (Some(grid), None);
    }
    match intensities.doubt() {
        Some(doubt) if doubt.kind == DoubtKind::Constant => {
            findings.add(image, doubt.found, doubt.expected.into(), doubt.remedy);
            (Some(grid), None)
        }
        doubt => (Some(grid), doubt.map(|doubt| doubt.to_string())),
    }
}

/// Reads the whole image, in the memory of a slice.
fn intensities(path: &Path) -> Result<Intensities, nifti::NiftiError> {
    let mut reader = SliceReader::open(path)?;
    let (mut intensities, mut slice) = (Intensities::default(), Vec::new());
    while reader.next_slice(&mut slice)? {
        intensities.add(&slice);
    }
    Ok(intensities)
}

/// Values of a label map, each with its voxels.
type Values = Vec<(u8, u64)>;

/// The values that are there, after those of both sides are cut, with the places of these cuts; unless they cannot be told.
fn check_label(
    root: &Path,
    label: &Path,
    sides: &[BTreeMap<u8, u8>],
    image_grid: Option<&Grid>,
    findings: &mut Findings<'_>,
) -> Option<(Values, Vec<(Cut, Found)>)> {
    let path = root.join(label);
    let counted = || {
        let cuts = if sides.is_empty() { Vec::new() } else { find_cuts(&path, sides)? };
        let (counts, header) = nifti::count_labels(&path, &cuts.iter().map(|(cut, _)| *cut).collect::<Vec<_>>())?;
        Ok((counts, header, cuts))
    };
    let (counts, header, cuts) = match counted() {
        Ok(counted) => counted,
        Err(error) => {
            findings.unreadable(label, &error);
            return None;
        }
    };
    if let Some(image_grid) = image_grid {
        check_same_grid(label, &header.grid(), image_grid, findings);
    }
    Some(((0..=u8::MAX).zip(counts).filter(|(_, voxels)| *voxels > 0).collect(), cuts))
}

fn check_same_grid(label: &Path, found: &Grid, expected: &Grid, findings: &mut Findings<'_>) {
    if found.shape != expected.shape {
        findings.add(
            label,
            format!("shape {:?}", found.shape),
            format!("the image's shape {:?}", expected.shape),
            "find the label map that belongs to the image, or resample it to the image's grid",
        );
    } else if !found.approx_eq(expected) {
        findings.add(
            label,
            format!("affine {}", rows(found)),
            format!("the image's affine {}", rows(expected)),
            "copy the image's affine if the voxels overlay, else resample the label map to the image's grid",
        );
    }
}

fn rows(grid: &Grid) -> String {
    let row = |row: &[f64; 4]| format!("[{}]", row.map(|v| format!("{v:.3}")).join(" "));
    grid.affine.0[..3].iter().map(row).collect::<Vec<_>>().join(" ")
}

fn in_mm(spacing_mm: [f64; 3]) -> String {
    // Four significant digits would still hide 0.0000001; the shortest exact form of f32 does not.
    format!("{} mm", spacing_mm.map(|mm| (mm as f32).to_string()).join(" × "))
}
