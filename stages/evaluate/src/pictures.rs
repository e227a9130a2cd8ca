//! Which cases are drawn, and what stands in their pictures.

use std::path::{Path, PathBuf};

use ::pictures::{ABDOMEN_WINDOW_HU, Figure};
use anyhow::{Context, Result};
use labels::TUMOR;
use metrics::{CaseScores, Protocol};
use stage_kit::{Case, StageIo};
use volume::SlicedFile;

use crate::Job;

/// The picture of one case.
struct Drawing<'a> {
    case: &'a str,
    image: PathBuf,
    truth: &'a Path,
    /// The models' jobs for the case, in the order of the panels.
    models: Vec<&'a Job>,
    file: PathBuf,
}

/// Draws up to `count` cases into the folder `pictures` of the output.
pub(crate) fn write(count: usize, jobs: &[Job], io: &StageIo) -> Result<()> {
    let chosen = choose(count, jobs, &io.work)?;
    let drawings: Vec<Drawing<'_>> = chosen
        .into_iter()
        .filter_map(|chosen| {
            let image = chosen.image.clone()?;
            let models = jobs.iter().filter(|job| job.case == chosen.case).collect();
            let file = io.output.join("pictures").join(format!("{}.png", chosen.case));
            Some(Drawing { case: &chosen.case, image, truth: &chosen.truth, models, file })
        })
        .collect();
    // A picture that is there may be of other label maps, and is soon drawn again.
    let pictures: Vec<Case<'_, Drawing<'_>>> =
        drawings.iter().map(|drawing| Case { id: drawing.case, done: false, what: drawing }).collect();
    stage_kit::over_cases(io, &pictures, |drawing| drawing.draw(&io.work))
}

/// The jobs of the last model with the best and the worst organs, half and half. A case without any organ has no rank.
fn choose<'a>(count: usize, jobs: &'a [Job], work: &Path) -> Result<Vec<&'a Job>> {
    let of_last_model = jobs.chunk_by(|a, b| a.model == b.model).next_back().unwrap_or_default();
    let mut ranked = Vec::new();
    for job in of_last_model {
        let (_, scores) = job.read(Protocol::Plain, work)?;
        if let Some(dsc) = mean_organ_dsc(&scores) {
            ranked.push((dsc, job));
        }
    }
    ranked.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    let count = count.min(ranked.len());
    let (best, worst) = (count.div_ceil(2), ranked.len() - count / 2);
    Ok(ranked[..best].iter().chain(&ranked[worst..]).map(|(_, job)| *job).collect())
}

/// The mean over the organs that the case or its prediction has.
fn mean_organ_dsc(scores: &CaseScores) -> Option<f64> {
    let dsc: Vec<f64> = scores.classes.iter().filter(|class| class.label != TUMOR).filter_map(|class| class.dsc).collect();
    (!dsc.is_empty()).then(|| dsc.iter().sum::<f64>() / dsc.len() as f64)
}

impl Drawing<'_> {
    /// Holds a slice of the scan or of a label map at a time.
    fn draw(&self, work: &Path) -> Result<()> {
        let mut figure = self.begin().with_context(|| format!("{} with {}", self.image.display(), self.truth.display()))?;
        for job in &self.models {
            let (_, scores) = job.read(Protocol::Plain, work)?;
            let prediction = SlicedFile::<u8>::open(&job.prediction)?;
            let percent = |dsc: Option<f64>| dsc.map_or_else(|| "-".to_owned(), |dsc| format!("{:.1}", 100.0 * dsc));
            let (organs, tumor) = (percent(mean_organ_dsc(&scores)), percent(scores.class(TUMOR).and_then(|class| class.dsc)));
            let caption = format!("{}, DSC in %\norgans {organs}, tumor {tumor}", job.model);
            figure.add_labels(&caption, &prediction).with_context(|| job.prediction.display().to_string())?;
        }
        Ok(figure.write_png(&self.file)?)
    }

    fn begin(&self) -> Result<Figure> {
        let (image, truth) = (SlicedFile::<f32>::open(&self.image)?, SlicedFile::<u8>::open(self.truth)?);
        let mut figure = Figure::new(self.case, &image, &truth, ABDOMEN_WINDOW_HU)?;
        figure.add_ct("CT");
        figure.add_labels("ground truth", &truth)?;
        Ok(figure)
    }
}
