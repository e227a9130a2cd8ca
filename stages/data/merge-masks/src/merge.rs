//! The masks of a case, laid over each other slice by slice.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use volume::nifti::{self, LabelReader, LabelWriter};

/// A mask, and the value that it gets.
pub(crate) struct Mask {
    pub(crate) value: u8,
    pub(crate) path: PathBuf,
}

/// How much of a mask is in the label map.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Share {
    /// The voxels of the mask.
    pub(crate) voxels: u64,
    /// Those of them that a later mask has taken.
    pub(crate) hidden: u64,
}

/// Writes the label map of masks on the grid of an image. Returns the share of each mask, in their order. Holds a slice of each.
pub(crate) fn merge(image: &Path, masks: &[Mask], output: &Path) -> Result<Vec<Share>> {
    let header = nifti::read_header(image)?;
    let mut readers = masks.iter().map(|mask| open_on(&header, image, mask)).collect::<Result<Vec<_>>>()?;
    let mut writer = LabelWriter::create(output, &header)?;
    let [width, height, slices] = header.grid().shape;
    let mut shares = vec![Share::default(); masks.len()];
    let mut place_of = [0; 256];
    masks.iter().enumerate().for_each(|(place, mask)| place_of[usize::from(mask.value)] = place);
    let (mut labels, mut mask) = (Vec::new(), Vec::new());
    for _ in 0..slices {
        labels.clear();
        labels.resize(width * height, labels::BACKGROUND);
        for (place, reader) in readers.iter_mut().enumerate() {
            ensure!(reader.next_slice(&mut mask)?, "{} ends before its last slice", masks[place].path.display());
            for (label, _) in labels.iter_mut().zip(&mask).filter(|(_, inside)| **inside != labels::BACKGROUND) {
                if *label != labels::BACKGROUND {
                    shares[place_of[usize::from(*label)]].hidden += 1;
                }
                shares[place].voxels += 1;
                *label = masks[place].value;
            }
        }
        writer.add(&labels)?;
    }
    writer.finish()?;
    Ok(shares)
}

fn open_on(header: &nifti::Header, image: &Path, mask: &Mask) -> Result<LabelReader> {
    let reader = LabelReader::open(&mask.path)?;
    let (found, expected) = (reader.header().grid(), header.grid());
    ensure!(
        found.approx_eq(&expected),
        "{} has {:?} voxels, and its image {} has {:?}, or they lie elsewhere; resample the mask onto its image",
        mask.path.display(),
        found.shape,
        image.display(),
        expected.shape
    );
    Ok(reader)
}

/// Copies an image as it is.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    let mut image = File::open(from).with_context(|| format!("cannot read {}", from.display()))?;
    stage_kit::write_atomic(to, |file| {
        std::io::copy(&mut image, file).with_context(|| format!("cannot copy {}", from.display()))?;
        Ok(())
    })
}
