//! What a stage will cost, told by the stage itself before it runs.
//!
//! A stage says how much work of which kinds it has ([`Chore`]), and measures a small sample of each kind when it is asked to. What
//! its inputs will be, the stages before it have said ([`Outlook`]).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Cases of one kind, by their mean.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lot {
    /// How many are trained on.
    pub training: f64,
    /// How many are validated on.
    pub validation: f64,
    /// Voxels along x, y, z in RAS orientation.
    pub shape: [f64; 3],
    /// Their size in mm.
    pub spacing_mm: [f64; 3],
}

impl Lot {
    /// Cases of one size, all on the side of training.
    #[must_use]
    pub fn of(cases: f64, shape: [f64; 3], spacing_mm: [f64; 3]) -> Self {
        Self { training: cases, validation: 0.0, shape, spacing_mm }
    }

    /// All cases.
    #[must_use]
    pub fn cases(&self) -> f64 {
        self.training + self.validation
    }

    /// Voxels of a case.
    #[must_use]
    pub fn voxels(&self) -> f64 {
        self.shape.iter().product()
    }

    /// The same cases on a grid of another spacing; `None` keeps that of an axis.
    #[must_use]
    pub fn on(&self, spacing_mm: [Option<f64>; 3]) -> Self {
        let spacing: [f64; 3] = std::array::from_fn(|axis| spacing_mm[axis].unwrap_or(self.spacing_mm[axis]));
        let shape = std::array::from_fn(|axis| (self.shape[axis] * self.spacing_mm[axis] / spacing[axis]).round().max(1.0));
        Self { shape, spacing_mm: spacing, ..*self }
    }

    /// Both together; sizes are the mean over all cases.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let all = self.cases() + other.cases();
        let mean = |a: [f64; 3], b: [f64; 3]| {
            std::array::from_fn(|axis| if all > 0.0 { (a[axis] * self.cases() + b[axis] * other.cases()) / all } else { a[axis] })
        };
        Self {
            training: self.training + other.training,
            validation: self.validation + other.validation,
            shape: mean(self.shape, other.shape),
            spacing_mm: mean(self.spacing_mm, other.spacing_mm),
        }
    }
}

/// What is known of a file or folder before it is there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outlook {
    /// Its cases by subsets, each case in one of them; of a folder of scans all as [`Outlook::ALL`].
    pub lots: BTreeMap<String, Lot>,
    /// The subsets that each name stands for, itself or a union.
    pub members: BTreeMap<String, Vec<String>>,
    /// What a trained model will say of itself, as far as its readers need it for their own forecasts.
    pub model: Option<Model>,
    /// The classes, as the pipeline declares them.
    pub classes: Option<Value>,
    /// The grid of prepared cases: the spacing in mm, `None` where each case keeps its own.
    pub spacing_mm: Option<[Option<f64>; 3]>,
}

impl Outlook {
    /// The name of all cases.
    pub const ALL: &'static str = "D";

    /// A folder of scans.
    #[must_use]
    pub fn of_scans(lot: Lot) -> Self {
        Self { lots: BTreeMap::from([(Self::ALL.to_owned(), lot)]), ..Self::default() }
    }

    /// All cases together, if anything is known of them.
    #[must_use]
    pub fn all(&self) -> Option<Lot> {
        together(self.lots.values().copied().map(Some))
    }

    /// The subsets behind some names, each once.
    #[must_use]
    pub fn subsets_of(&self, names: &[String]) -> BTreeSet<String> {
        let of = |name: &String| self.members.get(name).cloned().unwrap_or_else(|| vec![name.clone()]);
        names.iter().flat_map(of).collect()
    }

    /// The cases of some subsets and unions together, if all of them are known.
    #[must_use]
    pub fn lot(&self, names: &[String]) -> Option<Lot> {
        together(self.subsets_of(names).iter().map(|name| self.lots.get(name).copied()))
    }
}

fn together(mut lots: impl Iterator<Item = Option<Lot>>) -> Option<Lot> {
    let first = lots.next()??;
    lots.try_fold(first, |sum, lot| Some(sum.and(&lot?)))
}

/// A network that will have been trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Model {
    /// Kind and size, as pipeline files declare them.
    pub network: Value,
    /// Channels of each output.
    pub channels: Vec<usize>,
    /// Voxels of a patch along x, y, z, or pixels of a crop along x, y.
    pub patch: Vec<usize>,
    /// The grid that it is shown scans on; `None` where each keeps its own.
    pub spacing_mm: [Option<f64>; 3],
    /// Bytes of its weights.
    pub bytes: f64,
}

/// What a stage can look at to foresee its work.
#[derive(Clone, Debug, Default)]
pub struct Ahead {
    /// Full role → what is known of the input.
    pub inputs: BTreeMap<String, Outlook>,
    /// Full role → the input, where it is there already.
    pub paths: BTreeMap<String, PathBuf>,
    /// The stage's own result, where it is there already.
    pub result: Option<PathBuf>,
}

impl Ahead {
    /// What is known of an input; nothing if nobody has said anything.
    #[must_use]
    pub fn input(&self, role: &str) -> Outlook {
        self.inputs.get(role).cloned().unwrap_or_default()
    }

    /// An input that is there.
    #[must_use]
    pub fn path(&self, role: &str) -> Option<&Path> {
        self.paths.get(role).map(PathBuf::as_path)
    }

    /// The inputs of a role of many, by name.
    #[must_use]
    pub fn inputs_under(&self, role: &str) -> Vec<(&str, &Outlook)> {
        self.inputs.iter().filter_map(|(key, outlook)| Some((key.strip_prefix(role)?.strip_prefix('.')?, outlook))).collect()
    }
}

/// So much work of one kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Chore {
    /// What is counted, such as `steps` or `cases`.
    pub what: &'static str,
    /// How many.
    pub count: f64,
    /// All that the time and the bytes of one of them depend on, beside the machine.
    pub sample: Value,
}

impl Chore {
    /// One case of the size that the sample tells, in `shape` and `spacing_mm`.
    ///
    /// # Errors
    /// When it tells none.
    pub fn lot(&self) -> Result<Lot> {
        let field = |name: &str| serde_json::from_value(self.sample[name].clone());
        Ok(Lot::of(1.0, field("shape")?, field("spacing_mm")?))
    }
}

/// What one of a chore takes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Seconds on this machine, with all its cores.
    pub seconds: f64,
    /// Bytes that stay in the result.
    pub bytes: f64,
}

/// What a stage foresees.
#[derive(Clone, Debug, Default)]
pub struct Forecast {
    /// What it will write.
    pub outlook: Outlook,
    /// Its work.
    pub chores: Vec<Chore>,
    /// Bytes that follow without a measurement, such as those of weights.
    pub bytes: f64,
    /// What it cannot foresee, and what would tell; nothing if it foresees all.
    pub unknown: Vec<String>,
}

impl Forecast {
    /// Nothing is foreseen, for this reason.
    #[must_use]
    pub fn unknown(reason: impl Into<String>) -> Self {
        Self { unknown: vec![reason.into()], ..Self::default() }
    }
}

/// Seconds for each of many cases that are worked on side by side, as [`over_cases`](crate::over_cases) does it: `work` is done once by
/// each worker, by its number.
///
/// # Errors
/// The first of `work`.
pub fn time_cases(work: impl Fn(usize) -> Result<()> + Sync) -> Result<f64> {
    /// More workers than this say nothing more, and would fill the disk.
    const MOST: usize = 8;
    let workers = rayon::current_num_threads().clamp(1, MOST);
    let begun = Instant::now();
    let results: Vec<Result<()>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers)
            .map(|worker| {
                scope.spawn({
                    let work = &work;
                    move || work(worker)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a worker broke off")))).collect()
    });
    results.into_iter().collect::<Result<()>>()?;
    #[expect(clippy::cast_precision_loss, reason = "workers are few")]
    Ok(begun.elapsed().as_secs_f64() / workers as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lot_on_a_finer_grid_has_more_voxels_and_two_lots_have_their_mean() {
        let coarse = Lot::of(1.0, [100.0, 100.0, 50.0], [2.0, 2.0, 5.0]);
        let fine = coarse.on([Some(1.0), Some(1.0), None]);
        assert_eq!((fine.shape, fine.spacing_mm), ([200.0, 200.0, 50.0], [1.0, 1.0, 5.0]));
        let both = coarse.and(&Lot { training: 1.0, validation: 2.0, shape: [200.0, 100.0, 50.0], spacing_mm: [2.0, 2.0, 5.0] });
        assert_eq!((both.training, both.validation, both.shape[0]), (2.0, 2.0, 175.0));
        let members = BTreeMap::from([("u".into(), vec!["a".into(), "b".into()])]);
        let outlook = Outlook { lots: BTreeMap::from([("a".into(), coarse), ("b".into(), fine)]), members, ..Outlook::default() };
        let cases = |names: &[&str]| outlook.lot(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).map(|lot| lot.cases());
        assert_eq!((cases(&["a"]), cases(&["u"]), cases(&["u", "a"])), (Some(1.0), Some(2.0), Some(2.0)), "a case counts once");
        assert_eq!(cases(&["a", "c"]), None);
        assert_eq!(outlook.all().map(|lot| lot.cases()), Some(2.0));
    }
}
