//! The declaration of a stage, and its untyped form for the runner.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::by_case::{ByCase, CasePlan};
use crate::forecast::{Ahead, Chore, Cost, Forecast};
use crate::io::StageIo;
use crate::nearest::nearest;

/// One named input of a stage.
#[derive(Clone, Copy, Debug)]
pub struct Role {
    /// The name under which `pipeline.yaml` and `--input` give it.
    pub name: &'static str,
    /// What it is, in one line.
    pub about: &'static str,
    /// Whether the stage can run without it.
    pub required: bool,
    /// Whether each case reads its own files of it; the others are read as a whole. For stages that work case by case.
    pub by_case: bool,
    /// Whether it is a map of names to inputs (`predictions.M_1`, `predictions.M_2`, …).
    pub many: bool,
}

impl Role {
    /// An input that must be given.
    #[must_use]
    pub const fn required(name: &'static str, about: &'static str) -> Self {
        Self { name, about, required: true, by_case: false, many: false }
    }

    /// An input that may be left out.
    #[must_use]
    pub const fn optional(name: &'static str, about: &'static str) -> Self {
        Self { name, about, required: false, by_case: false, many: false }
    }

    /// One or more inputs under their own names.
    #[must_use]
    pub const fn many(name: &'static str, about: &'static str) -> Self {
        Self { name, about, required: true, by_case: false, many: true }
    }
}

impl Role {
    /// The name as it is to be given: `NAME` stands for one of the user's choice.
    #[must_use]
    pub fn full_name(&self) -> String {
        if self.many { format!("{}.NAME", self.name) } else { self.name.to_owned() }
    }

    /// The same input, of which each case reads its own files.
    #[must_use]
    pub const fn by_case(self) -> Self {
        Self { by_case: true, ..self }
    }
}

/// The role behind a full name (`dataset`, `predictions.M_1`), if `reads` has it.
#[must_use]
pub fn role(reads: &'static [Role], full: &str) -> Option<&'static Role> {
    let (name, under) = full.split_once('.').map_or((full, None), |(name, under)| (name, Some(under)));
    reads.iter().find(|role| role.name == name && role.many == under.is_some_and(|under| !under.is_empty()))
}

/// A step of the method.
pub trait Stage {
    /// The name of the stage and of its executable, such as `train-teacher`.
    const NAME: &'static str;
    /// Raised whenever the stage's results change for the same inputs and parameters; part of the cache key.
    const REVISION: u32;
    /// What it does, in a sentence.
    const ABOUT: &'static str;
    /// What it reads.
    const READS: &'static [Role];
    /// What it writes into its output folder.
    const WRITES: &'static str;
    /// Where the paper describes it.
    const PAPER: &'static str;
    /// A node that works, as it stands below `nodes:` of a pipeline file.
    const EXAMPLE: &'static str = "";
    /// Its parameters; unknown fields are refused.
    type Config: Serialize + DeserializeOwned + JsonSchema;
    /// How the work falls into cases, if it does: `Some(ByCase::of::<Self>())` for a [`CaseStage`](crate::CaseStage).
    const BY_CASE: Option<ByCase> = None;

    /// Refuses parameters that parse but make no sense, before any work.
    ///
    /// # Errors
    /// Says which parameter, what it is and what it must be.
    fn check(config: &Self::Config) -> Result<()> {
        let _ = config;
        Ok(())
    }

    /// Refuses more processes than can share the work.
    ///
    /// # Errors
    /// Says how many can.
    fn check_processes(config: &Self::Config, processes: usize) -> Result<()> {
        let _ = config;
        ensure!(processes == 1, "stage {} works in one process; leave `processes` out, or take `cpus` for more threads", Self::NAME);
        Ok(())
    }

    /// What the work will come to, told before it and before its inputs are there.
    ///
    /// # Errors
    /// When an input that is there cannot be read.
    fn forecast(config: &Self::Config, ahead: &Ahead) -> Result<Forecast> {
        let _ = (config, ahead);
        Ok(Forecast::unknown("the stage does not foresee its work"))
    }

    /// Does one piece of a chore from [`forecast`](Self::forecast) with the stage's own code, and measures it. It may write into
    /// the folders of `io`, which are dropped.
    ///
    /// # Errors
    /// As [`Stage::run`].
    fn sample(config: &Self::Config, ahead: &Ahead, chore: &Chore, io: &StageIo) -> Result<Cost> {
        let _ = (config, ahead, io);
        bail!("stage {} does not measure its {}", Self::NAME, chore.what)
    }

    /// Does the work.
    ///
    /// # Errors
    /// Names the case, the file, what was found and what was expected. What is already in the output folder stays.
    fn run(config: &Self::Config, io: &StageIo) -> Result<()>;
}

/// A stage without its types, for registries.
#[derive(Clone, Copy)]
pub struct Entry {
    /// [`Stage::NAME`].
    pub name: &'static str,
    /// [`Stage::REVISION`].
    pub revision: u32,
    /// [`Stage::ABOUT`].
    pub about: &'static str,
    /// [`Stage::READS`].
    pub reads: &'static [Role],
    /// [`Stage::WRITES`].
    pub writes: &'static str,
    /// [`Stage::PAPER`].
    pub paper: &'static str,
    /// [`Stage::EXAMPLE`].
    pub example: &'static str,
    by_case: Option<ByCase>,
    resolve: fn(Value) -> Result<Value>,
    check_processes: fn(Value, usize) -> Result<()>,
    schema: fn(&mut SchemaGenerator) -> Schema,
    run: fn(Value, &StageIo) -> Result<()>,
    forecast: fn(Value, &Ahead) -> Result<Forecast>,
    sample: fn(Value, &Ahead, &Chore, &StageIo) -> Result<Cost>,
}

impl Entry {
    /// The entry of `S`.
    #[must_use]
    pub const fn of<S: Stage>() -> Self {
        Self {
            name: S::NAME,
            revision: S::REVISION,
            about: S::ABOUT,
            reads: S::READS,
            writes: S::WRITES,
            paper: S::PAPER,
            example: S::EXAMPLE,
            by_case: S::BY_CASE,
            resolve: resolve::<S>,
            check_processes: |params, processes| S::check_processes(&parse::<S>(params)?, processes),
            schema: <S::Config as JsonSchema>::json_schema,
            run: run::<S>,
            forecast: |params, ahead| S::forecast(&parse::<S>(params)?, ahead),
            sample: |params, ahead, chore, io| S::sample(&parse::<S>(params)?, ahead, chore, io),
        }
    }

    /// Checks raw parameters and returns them complete, with every default filled in.
    ///
    /// # Errors
    /// Names the field and what was expected.
    pub fn resolve(&self, params: Value) -> Result<Value> {
        (self.resolve)(params)
    }

    /// [`Stage::check_processes`] for complete parameters.
    ///
    /// # Errors
    /// As there.
    pub fn check_processes(&self, params: Value, processes: usize) -> Result<()> {
        (self.check_processes)(params, processes)
    }

    /// The JSON schema of the parameters; those of parts with a name go to the generator's definitions.
    pub fn schema(&self, generator: &mut SchemaGenerator) -> Schema {
        (self.schema)(generator)
    }

    /// Whether the stage works case by case.
    #[must_use]
    pub fn is_by_case(&self) -> bool {
        self.by_case.is_some()
    }

    /// Whether its result tells of all cases together, see [`ByCase::gathering`].
    #[must_use]
    pub fn gathers(&self) -> bool {
        self.by_case.is_some_and(|by_case| by_case.gathers)
    }

    /// The cases of a stage that works case by case, for complete parameters; `None` for another stage.
    ///
    /// # Errors
    /// When the inputs do not allow to tell; a run says more.
    pub fn cases(&self, params: Value, io: &StageIo) -> Result<Option<CasePlan>> {
        self.by_case.map(|by_case| (by_case.plan)(params, io)).transpose()
    }

    /// Refuses inputs that the stage does not know, those that are given twice, and the lack of those that it needs.
    ///
    /// # Errors
    /// Names the input, the nearest known one, and all; of those that it needs, each that is missing.
    pub fn check_roles<'a>(&self, given: impl Iterator<Item = &'a str>) -> Result<()> {
        let mut seen = BTreeSet::new();
        for full in given {
            if role(self.reads, full).is_none() {
                let meant = nearest(full.split('.').next().unwrap_or(full), self.reads.iter().map(|role| role.name));
                let meant = meant.and_then(|name| self.reads.iter().find(|role| role.name == name)).map(Role::full_name);
                let meant = meant.map_or_else(String::new, |name| format!(" (did you mean `{name}`?)"));
                let known: Vec<String> = self.reads.iter().map(Role::full_name).collect();
                let known = if known.is_empty() { "it has none".to_owned() } else { format!("its inputs are {}", known.join(", ")) };
                bail!("stage {} has no input `{full}`{meant}; {known}", self.name);
            }
            ensure!(seen.insert(full), "the input `{full}` of stage {} is given twice; give it once", self.name);
        }
        let given = |role: &&Role| seen.iter().any(|full| full.split('.').next() == Some(role.name));
        let missing = self.reads.iter().filter(|role| role.required && !given(role));
        let missing: Vec<String> = missing.map(|role| format!("`--input {}=PATH` ({})", role.full_name(), role.about)).collect();
        ensure!(missing.is_empty(), "stage {} needs {}", self.name, missing.join(" and "));
        Ok(())
    }

    /// [`Stage::forecast`] for complete parameters.
    ///
    /// # Errors
    /// As there.
    pub fn forecast(&self, params: Value, ahead: &Ahead) -> Result<Forecast> {
        (self.forecast)(params, ahead)
    }

    /// [`Stage::sample`] for complete parameters.
    ///
    /// # Errors
    /// As there.
    pub fn sample(&self, params: Value, ahead: &Ahead, chore: &Chore, io: &StageIo) -> Result<Cost> {
        (self.sample)(params, ahead, chore, io)
    }

    /// Checks the parameters and runs the stage.
    ///
    /// # Errors
    /// Those of [`Entry::resolve`] and of [`Stage::run`].
    pub fn run(&self, params: Value, io: &StageIo) -> Result<()> {
        (self.run)(params, io)
    }
}

fn parse<S: Stage>(params: Value) -> Result<S::Config> {
    // A stage without parameters is written as nothing at all.
    let params = if params.is_null() { Value::Object(serde_json::Map::new()) } else { params };
    let config = serde_json::from_value(params).with_context(|| format!("parameters of stage {}", S::NAME))?;
    S::check(&config).with_context(|| format!("parameters of stage {}", S::NAME))?;
    Ok(config)
}

fn resolve<S: Stage>(params: Value) -> Result<Value> {
    Ok(serde_json::to_value(parse::<S>(params)?)?)
}

fn run<S: Stage>(params: Value, io: &StageIo) -> Result<()> {
    let config = parse::<S>(params)?;
    for role in S::READS.iter().filter(|role| role.required) {
        if role.many {
            ensure!(
                !io.inputs_under(role.name).is_empty(),
                "stage {} needs at least one input `{}.NAME`: {}",
                S::NAME,
                role.name,
                role.about
            );
        } else {
            io.input(role.name)?;
        }
    }
    S::run(&config, io)
}
