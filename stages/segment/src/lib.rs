//! Segments CT scans with the student (paper 2.2 and 2.3): images to organ and cancer maps on the model grid.

use std::path::PathBuf;

use anyhow::{Context, Result};
use dataset::ImageFile;
use inference::{Student, StudentConfig};
use stage_kit::{Role, Stage, StageIo};
use volume::{LabelVolume, nifti};

/// The stage `segment`.
pub struct Segment;

impl Stage for Segment {
    const NAME: &'static str = "segment";
    const REVISION: u32 = 4;
    const ABOUT: &'static str = "Segments CT scans with the dual-decoding student, both decoders in one pass";
    const READS: &'static [Role] = &[
        Role::required("images", "a folder of CT scans, CASE_0000.nii.gz"),
        Role::required("student", "a folder with weights.safetensors, as train-student writes it"),
    ];
    const WRITES: &'static str = "organs/CASE.nii.gz (0-13) and cancer/CASE.nii.gz (0, 1) on the model grid";
    const PAPER: &'static str = "2.2, 2.3";
    type Config = StudentConfig;

    fn check(config: &StudentConfig) -> Result<()> {
        Ok(config.check()?)
    }

    fn run(config: &StudentConfig, io: &StageIo) -> Result<()> {
        let weights = io.input("student")?.join("weights.safetensors");
        let student = Student::new(config.clone(), &weights, &nets::device(io.device)?)?;
        let cases = dataset::image_files(io.input("images")?)?;
        let folders = [io.output_folder("organs")?, io.output_folder("cancer")?];
        let places = |case: &ImageFile| -> [PathBuf; 2] { folders.each_ref().map(|folder| folder.join(case.label_name())) };
        stage_kit::over_cases(
            io,
            &cases,
            |case| &case.id,
            |case| places(case).iter().all(|path| stage_kit::finished(path)),
            |case| {
                let (image, _) = nifti::read_scalar(&case.path)?;
                let (labels, affine) = student.segment(image).with_context(|| format!("{}", case.path.display()))?;
                let [organs, cancer] = places(case);
                for (path, data) in [(organs, labels.organs), (cancer, labels.cancer)] {
                    nifti::write_labels_on(path, &LabelVolume { data, affine })?;
                }
                Ok(())
            },
        )
    }
}
