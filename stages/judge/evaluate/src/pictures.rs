//! Which cases are drawn, and what stands in their pictures.

use std::path::{Path, PathBuf};

use ::pictures::{ABDOMEN_WINDOW_HU, Figure, Palette};
use anyhow::{Context, Result};
use labels::{BACKGROUND, LabelPattern};
use metrics::{CaseScores, Protocol, Scored, ScoredGroup, Scoring};
use stage_kit::{Case, StageIo};
use volume::nifti::NiftiError;
use volume::{Grid, SlicedFile, Slices};

use crate::{Config, Job};

/// The picture of one case.
struct Drawing<'a> {
    case: &'a str,
    image: PathBuf,
    truth: &'a Path,
    /// The models' jobs for the case, in the order of the panels.
    models: Vec<&'a Job>,
    file: PathBuf,
}

/// Draws cases into the folder `pictures` of the output.
pub(crate) fn write(config: &Config, jobs: &[Job], io: &StageIo) -> Result<()> {
    let scoring = config.scoring()?;
    let groups = ScoredGroup::of(scoring.classes().iter().map(|scored| &scored.class));
    let chosen = choose(config.pictures, jobs, &groups, &io.work)?;
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
    let legend = Legend::of(config, &scoring);
    stage_kit::over_cases(io, &pictures, |drawing| drawing.draw(&legend, &groups, &io.work))
}

/// The jobs of the last model with the best and the worst classes of the lowest group, half and half. A case without any has no
/// rank.
fn choose<'a>(count: usize, jobs: &'a [Job], groups: &[ScoredGroup], work: &Path) -> Result<Vec<&'a Job>> {
    let Some(lowest) = groups.first() else { return Ok(Vec::new()) };
    let of_last_model = jobs.chunk_by(|a, b| a.model == b.model).next_back().unwrap_or_default();
    let mut ranked = Vec::new();
    for job in of_last_model {
        let (_, scores) = job.read(Protocol::Plain, work)?;
        if let Some(dsc) = scores.mean_dsc(&lowest.key) {
            ranked.push((dsc, job));
        }
    }
    ranked.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    let count = count.min(ranked.len());
    let (best, worst) = (count.div_ceil(2), ranked.len() - count / 2);
    Ok(ranked[..best].iter().chain(&ranked[worst..]).map(|(_, job)| *job).collect())
}

impl Drawing<'_> {
    /// Holds a slice of the scan or of a label map at a time.
    fn draw(&self, legend: &Legend, groups: &[ScoredGroup], work: &Path) -> Result<()> {
        let mut figure = self.begin(legend).with_context(|| format!("{} with {}", self.image.display(), self.truth.display()))?;
        for job in &self.models {
            let (_, scores) = job.read(Protocol::Plain, work)?;
            let prediction = Shown { map: SlicedFile::<u8>::open(&job.prediction)?, value_of: &legend.prediction };
            let caption = format!("{}, DSC in %\n{}", job.model, reached(groups, &scores));
            figure.add_labels(&caption, &prediction).with_context(|| job.prediction.display().to_string())?;
        }
        Ok(figure.write_png(&self.file)?)
    }

    fn begin(&self, legend: &Legend) -> Result<Figure> {
        let image = SlicedFile::<f32>::open(&self.image)?;
        let truth = Shown { map: SlicedFile::<u8>::open(self.truth)?, value_of: &legend.truth };
        let mut figure = Figure::new(self.case, &image, &truth, &legend.palette, ABDOMEN_WINDOW_HU)?;
        figure.add_ct("CT");
        figure.add_labels("ground truth", &truth)?;
        Ok(figure)
    }
}

/// `organs 91.2, tumor -`: the mean of each group.
fn reached(groups: &[ScoredGroup], scores: &CaseScores) -> String {
    let percent = |dsc: Option<f64>| dsc.map_or_else(|| "-".to_owned(), |dsc| format!("{:.1}", 100.0 * dsc));
    let of_group = |group: &ScoredGroup| format!("{} {}", group.words(), percent(scores.mean_dsc(&group.key)));
    groups.iter().map(of_group).collect::<Vec<_>>().join(", ")
}

/// What the values of both label maps are drawn as: the value of the uppermost class that they show and that is scored, or
/// background.
struct Legend {
    palette: Palette,
    prediction: [u8; 256],
    truth: [u8; 256],
}

impl Legend {
    fn of(config: &Config, scoring: &Scoring) -> Self {
        let mut palette = Palette::of(&config.classes);
        let single: LabelPattern = scoring.classes().iter().filter_map(|scored| scored.class.label).collect();
        for Scored { class, prediction, .. } in scoring.classes().iter().filter(|scored| scored.class.label.is_none()) {
            // A union is drawn as its first class, under its own name unless that class is scored too.
            if let Some(first) = prediction.iter().next().filter(|first| !single.contains(*first)) {
                palette.rename(first, &class.name);
            }
        }
        let drawn_as = |shows: fn(&Scored) -> LabelPattern| {
            let mut drawn_as = [BACKGROUND; 256];
            for scored in scoring.classes() {
                for value in shows(scored).iter() {
                    let place = &mut drawn_as[usize::from(value)];
                    match scored.class.label {
                        Some(label) => *place = label,
                        // What shows a class by itself is drawn as that.
                        None if *place == BACKGROUND => *place = scored.prediction.iter().next().unwrap_or(BACKGROUND),
                        None => {}
                    }
                }
            }
            drawn_as
        };
        Self { prediction: drawn_as(|scored| scored.prediction), truth: drawn_as(|scored| scored.truth), palette }
    }
}

/// A label map with other values in place of its own.
struct Shown<'a> {
    map: SlicedFile<u8>,
    value_of: &'a [u8; 256],
}

impl Slices<u8> for Shown<'_> {
    fn grid(&self) -> Grid {
        self.map.grid()
    }

    fn each_slice(&self, sink: &mut dyn FnMut(usize, &[u8])) -> Result<(), NiftiError> {
        let mut shown = Vec::new();
        self.map.each_slice(&mut |k, slice| {
            shown.clear();
            shown.extend(slice.iter().map(|value| self.value_of[usize::from(*value)]));
            sink(k, &shown);
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn maps_are_drawn_as_the_uppermost_class_that_is_scored_and_unions_as_their_first() {
        let classes = json!([
            {"group": "organ", "classes": {"kidney": 20, "left_lung": 21, "right_lung": 22, "colon": 23}},
            {"group": "cancer", "classes": {"tumor": 200}}
        ]);
        let truth = json!({"kidney": [1, 2], "tumor": [2], "lungs": [3]});
        let unions = json!({"kidney": ["kidney", "tumor"], "lungs": ["left_lung", "right_lung"]});
        let config: Config = serde_json::from_value(json!({"classes": classes, "truth": truth, "unions": unions, "ignore": [4]})).unwrap();
        let legend = Legend::of(&config, &config.scoring().unwrap());
        assert_eq!(legend.truth[..6], [0, 20, 200, 21, 0, 0]);
        assert_eq!([20, 21, 22, 23, 200].map(|value| legend.prediction[value]), [20, 21, 21, 0, 200]);
    }

    #[test]
    fn a_caption_has_the_mean_of_each_group() {
        let classes = labels::flare23::classes();
        let map = ndarray::Array3::from_elem((2, 2, 2), 3);
        let scoring = Scoring::of(&classes);
        let scores = metrics::evaluate_case(map.view(), map.view(), [1.0; 3], &scoring, Protocol::Plain).unwrap();
        let groups = ScoredGroup::of(scoring.classes().iter().map(|scored| &scored.class));
        assert_eq!(reached(&groups, &scores), "organs 100.0, tumor -");
    }
}
