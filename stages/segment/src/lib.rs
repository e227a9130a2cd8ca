//! Segments CT scans with the student (paper 2.2 and 2.3): images to organ and cancer maps on the model grid.

use anyhow::Result;
use dataset::{ImageFile, Naming};
use inference::{Student, StudentParams};
use stage_kit::{Aside, ByCase, CaseSpec, CaseStage, Role, Stage, StageIo};
use volume::{Scan, nifti};

/// The stage `segment`.
pub struct Segment;

impl Stage for Segment {
    const NAME: &'static str = "segment";
    const REVISION: u32 = 7;
    const ABOUT: &'static str = "Segments CT scans with the dual-decoding student, both decoders in one pass";
    const READS: &'static [Role] = &[
        Role::required("images", "a folder of CT scans, CASE_0000.nii.gz").by_case(),
        Role::required("student", "a folder with weights.safetensors, as train-student writes it"),
    ];
    const WRITES: &'static str = "organs/CASE.nii.gz (0-13) and cancer/CASE.nii.gz (0, 1) on the model grid";
    const PAPER: &'static str = "2.2, 2.3";
    type Config = StudentParams;

    fn check(config: &StudentParams) -> Result<()> {
        Ok(config.check()?)
    }

    const BY_CASE: Option<ByCase> = Some(ByCase::of::<Self>());

    fn run(config: &StudentParams, io: &StageIo) -> Result<()> {
        stage_kit::run_cases::<Self>(config, io)
    }
}

impl CaseStage for Segment {
    type Job = ImageFile;
    type Tools = Student;

    fn jobs(_: &StudentParams, io: &StageIo) -> Result<Vec<ImageFile>> {
        Ok(dataset::image_files(io.input("images")?)?)
    }

    fn aside(_: &StudentParams, io: &StageIo) -> Result<Aside> {
        Ok(dataset::list(io.input("images")?, Naming::Images)?.aside)
    }

    fn case(_: &StudentParams, case: &ImageFile) -> CaseSpec {
        CaseSpec::of(&case.id).reads("image", &case.path).writes(places(case))
    }

    fn tools(config: &StudentParams, io: &StageIo) -> Result<Student> {
        let weights = io.input("student")?.join("weights.safetensors");
        Ok(Student::load(config, &weights, &nets::device(io.device)?)?)
    }

    fn work(_: &StudentParams, io: &StageIo, student: &Student, case: &ImageFile) -> Result<()> {
        let scan = Scan::open(&case.path, student.grid())?;
        let region = student.region(&scan)?;
        let maps = student.label_maps(&scan, &region, false)?;
        io.report.warn(scan.path(), scan.doubt());
        for (place, runs) in places(case).iter().zip([&maps.organs, &maps.cancer]) {
            nifti::write_labels_on(io.output.join(place), &runs.on(&scan.grid(), &region))?;
        }
        Ok(())
    }
}

/// The organ map and the cancer map of a case, in the output folder.
fn places(case: &ImageFile) -> [String; 2] {
    ["organs", "cancer"].map(|folder| format!("{folder}/{}", case.label_name()))
}
