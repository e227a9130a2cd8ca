//! Segments CT scans with the student (paper 2.2 and 2.3): images to a label map for each group on the model
//! grid.

mod ahead;

use std::path::PathBuf;

use anyhow::Result;
use dataset::{ImageFile, Naming};
use inference::{Student, StudentParams};
use model_card::WEIGHTS_FILE;
use stage_kit::{Ahead, ByCase, CaseSpec, CaseStage, Chore, Cost, Forecast, Look, Role, Stage, StageIo};
use volume::{Scan, nifti};

/// The stage `segment`.
pub struct Segment;

impl Stage for Segment {
    const NAME: &'static str = "segment";
    const REVISION: u32 = 8;
    const ABOUT: &'static str = "Segments CT scans with the dual-decoding student, all decoders in one pass";
    const READS: &'static [Role] = &[
        Role::required("images", "a folder of CT scans, CASE_0000.nii.gz").by_case(),
        Role::required("student", "a folder with weights.safetensors, as train-student writes it"),
    ];
    const WRITES: &'static str = "GROUP/CASE.nii.gz for each group of the student, in the values of the classes, on the model grid";
    const PAPER: &'static str = "2.2, 2.3";
    const EXAMPLE: &'static str = include_str!("../example.yaml");
    type Config = StudentParams;

    fn check(config: &StudentParams) -> Result<()> {
        Ok(config.check()?)
    }

    const BY_CASE: Option<ByCase> = Some(ByCase::of::<Self>());

    fn forecast(config: &StudentParams, ahead: &Ahead) -> Result<Forecast> {
        ahead::forecast(config, ahead)
    }

    fn sample(config: &StudentParams, _: &Ahead, chore: &Chore, io: &StageIo) -> Result<Cost> {
        ahead::sample(config, chore, io)
    }

    fn run(config: &StudentParams, io: &StageIo) -> Result<()> {
        stage_kit::run_cases::<Self>(config, io)
    }
}

/// A scan, and the groups that the student finds in it.
pub struct Job {
    image: ImageFile,
    groups: Vec<String>,
}

impl Job {
    /// The label map of each group, in the output folder.
    fn places(&self) -> Vec<String> {
        self.groups.iter().map(|group| format!("{group}/{}", self.image.label_name())).collect()
    }
}

impl CaseStage for Segment {
    type Job = Job;
    type Tools = Student;

    fn look(config: &StudentParams, io: &StageIo) -> Result<Look<Job>> {
        let (images, aside) = dataset::list(io.input("images")?, Naming::Images)?.parted(Naming::Images);
        let jobs = || {
            let groups: Vec<String> = config.resolve(&weights(io)?)?.outputs.into_iter().map(|output| output.group).collect();
            Ok(images?.into_iter().map(|image| Job { image, groups: groups.clone() }).collect())
        };
        Ok(Look::of(jobs()).beside(aside))
    }

    fn case(_: &StudentParams, job: &Job) -> CaseSpec {
        CaseSpec::of(&job.image.id).reads("image", &job.image.path).writes(job.places())
    }

    fn tools(config: &StudentParams, io: &StageIo) -> Result<Student> {
        let device = nets::device(io.device)?;
        config.precision.warn(&device, &io.report);
        Ok(Student::load(config, &weights(io)?, &device)?)
    }

    fn work(_: &StudentParams, io: &StageIo, student: &Student, job: &Job) -> Result<()> {
        let scan = Scan::open(&job.image.path, student.grid())?;
        let region = student.region(&scan)?;
        let maps = student.label_maps(&scan, &region, false)?;
        io.report.warn(scan.path(), scan.doubt());
        for (place, runs) in job.places().iter().zip(&maps.maps) {
            nifti::write_labels_on(io.output.join(place), &runs.on(&scan.grid(), &region))?;
        }
        Ok(())
    }
}

fn weights(io: &StageIo) -> Result<PathBuf> {
    Ok(io.input("student")?.join(WEIGHTS_FILE))
}
