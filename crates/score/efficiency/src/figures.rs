//! The official figures of a case.

use serde::{Deserialize, Serialize};

use crate::meter::{Outcome, Run, Sample};

/// The file in which a result holds its [`Figures`].
pub const FILE: &str = "efficiency.json";
/// Bytes of an MB, as the challenge counts them: its penalty is an hour at 8192 MB.
pub const MB: f64 = 1_048_576.0;
/// The time between two samples.
pub const SECONDS_PER_SAMPLE: f64 = 0.1;
/// The time of a case that came to nothing.
pub const PENALTY_SECONDS: f64 = 3600.0;
/// The area of a case that came to nothing.
pub const PENALTY_AREA_MB_S: f64 = 29_491_200.0;

/// How a case ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    /// With a label map.
    Labelled,
    /// Without one, or with an error.
    Failed,
    /// Not within its time.
    TimedOut,
}

impl Ended {
    /// In words, for tables.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Labelled => "labelled",
            Self::Failed => "failed",
            Self::TimedOut => "timed out",
        }
    }
}

/// A curve of memory over time in two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// The largest sample, in MB.
    pub max_mb: f64,
    /// The sum of the samples times 0.1 s, rounded to whole MB·s.
    pub area_mb_s: f64,
}

impl Curve {
    fn of(samples: impl Iterator<Item = f64> + Clone) -> Self {
        let area_mb_s = (samples.clone().sum::<f64>() * SECONDS_PER_SAMPLE).round();
        Self { max_mb: samples.fold(0.0, f64::max), area_mb_s }
    }
}

/// What one case cost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CaseFigures {
    /// The case.
    pub case: String,
    /// Voxels of the scan along x, y and z; none if its header cannot be read.
    pub size: Option<[usize; 3]>,
    /// How it ended.
    pub ended: Ended,
    /// What was said of a case that came to nothing.
    pub reason: Option<String>,
    /// From the start to the end, in seconds; the penalty for a case that came to nothing.
    pub seconds: f64,
    /// The time that was measured, whatever came of it.
    pub measured_seconds: f64,
    /// Memory of the processes.
    pub ram: Curve,
    /// Memory of the graphics card, whoever uses it; none without one.
    pub gpu: Option<Curve>,
}

impl CaseFigures {
    /// The figures of a run. `trouble` says why it came to nothing, if it did; then the challenge's penalties stand in
    /// place of time and area.
    #[must_use]
    pub fn of(case: &str, size: Option<[usize; 3]>, run: &Run, trouble: Option<String>) -> Self {
        let ram = Curve::of(run.samples.iter().map(|sample| sample.ram_mb));
        let gpu = run.samples.iter().any(|sample| sample.gpu_mb.is_some());
        let gpu = gpu.then(|| Curve::of(run.samples.iter().filter_map(|sample: &Sample| sample.gpu_mb)));
        let ended = match (&run.outcome, &trouble) {
            (Outcome::TimedOut, _) => Ended::TimedOut,
            (_, Some(_)) => Ended::Failed,
            (_, None) => Ended::Labelled,
        };
        let penalty = ended != Ended::Labelled;
        let fined = |curve: Curve| if penalty { Curve { area_mb_s: PENALTY_AREA_MB_S, ..curve } } else { curve };
        Self {
            case: case.to_owned(),
            size,
            ended,
            reason: trouble,
            seconds: if penalty { PENALTY_SECONDS } else { run.seconds },
            measured_seconds: run.seconds,
            ram: fined(ram),
            gpu: gpu.map(fined),
        }
    }
}

/// What all cases cost, and of what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// What was measured: a program, or an image and its engine.
    pub measured: String,
    /// The machine: processor, cores, and memory.
    pub machine: String,
    /// The graphics card, or why none was looked at.
    pub gpu: String,
    /// The cases, by their number of slices as in the paper.
    pub cases: Vec<CaseFigures>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(outcome: Outcome) -> Run {
        let samples = [(0.0, 10.0), (0.1, 30.0), (0.2, 16.0)];
        let samples = samples.map(|(seconds, ram_mb)| Sample { seconds, ram_mb, gpu_mb: None }).into();
        Run { seconds: 0.25, outcome, samples, said: String::new() }
    }

    #[test]
    fn the_figures_are_the_challenges() {
        let figures = CaseFigures::of("a", None, &run(Outcome::Ended(Some(0))), None);
        assert_eq!(figures.ram, Curve { max_mb: 30.0, area_mb_s: 6.0 }, "5.6 MB·s are rounded");
        assert_eq!((figures.ended, figures.seconds, figures.gpu), (Ended::Labelled, 0.25, None));
    }

    #[test]
    fn a_case_that_comes_to_nothing_costs_an_hour_at_8_gb() {
        assert_eq!(PENALTY_AREA_MB_S, PENALTY_SECONDS * 8192.0);
        for (outcome, trouble, ended) in
            [(Outcome::TimedOut, None, Ended::TimedOut), (Outcome::Ended(Some(1)), Some("no label map".to_owned()), Ended::Failed)]
        {
            let figures = CaseFigures::of("a", Some([1, 2, 3]), &run(outcome), trouble);
            assert_eq!((figures.ended, figures.seconds, figures.measured_seconds), (ended, 3600.0, 0.25));
            assert_eq!(figures.ram, Curve { max_mb: 30.0, area_mb_s: 29_491_200.0 });
        }
    }
}
