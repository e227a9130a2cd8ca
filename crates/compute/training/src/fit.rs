//! The training loop that all trainings of the method share (paper 3.2, Tables 2 and 3).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use anyhow::{Context as _, Result};
use candle_core::{DType, Tensor};
use nets::Params;
use ranks::Ranks;
use stage_kit::{ABOUT, Progress};

use crate::batch::{Batch, BatchSource};
use crate::checkpoint::{Best, Checkpoint, CheckpointFolder, Tensors, TrainingState};
use crate::curves::{CurveRow, Validation, write_curves};
use crate::loader::{Loader, Position};
use crate::optim::{Accumulator, Optimizer};
use crate::parts::{Cut, Parts};
use crate::protocol::FitConfig;
use crate::run::{Diverged, Interrupted, Run};
use crate::standstill::UntilStill;
use crate::tensorboard::EventFile;

/// The event file, in the folder [`stage_kit::ABOUT`] of the output folder: TensorBoard lays values over the time of day too.
pub const EVENT_FILE: &str = "events.out.tfevents.training";

/// A model in training. Freeze its parameters ([`crate::FreezePlan::apply`]) before it is handed to [`fit`].
pub trait Trainable {
    /// The parameters, live and frozen.
    fn params(&self) -> &Params;

    /// The loss of a batch: a scalar.
    ///
    /// # Errors
    /// Those of the network.
    fn loss(&self, batch: &Batch) -> Result<Tensor>;

    /// The losses of this rank's parts of a batch, each handed on as soon as it is there, so that one graph is held at a time, with a
    /// factor. The products of all parts sum to the loss of the batch, however it is cut, and so do their gradients. This one serves
    /// losses that are means over the samples; all others need their own.
    ///
    /// # Errors
    /// Those of the network, and of `take`.
    fn losses(&self, parts: &Parts<'_>, take: &mut dyn FnMut(&Tensor, f64) -> Result<()>) -> Result<()> {
        let samples = parts.samples().len();
        parts.own().iter().try_for_each(|part| take(&self.loss(part)?, part.len() as f64 / samples as f64))
    }

    /// Whether a batch may leave live parameters without a gradient, as where each dataset has a head of its own. Their
    /// gradient then is zero; elsewhere such a parameter is a mistake, and training stops.
    fn may_leave_parameters_out(&self) -> bool {
        false
    }

    /// How good the present weights are: the same on every rank, which share the work. Must depend on nothing but the weights.
    ///
    /// # Errors
    /// Those of the network and of the validation data.
    fn validate(&self, ranks: &Ranks) -> Result<Validation>;
}

/// A finished training.
#[derive(Debug)]
pub struct Fitted {
    /// All parameters as they were after the best epoch. The model itself has these, too.
    pub weights: Tensors,
    /// The best epoch.
    pub best: Best,
    /// All epochs.
    pub curve: Vec<CurveRow>,
    /// Along which of x, y and z samples may have been mirrored.
    pub mirrored: [bool; 3],
}

/// Trains `model` on the batches of `source`, from the beginning or from the checkpoint in `run`, and leaves it with
/// the weights of its best epoch. A training that is killed and resumed ends with the same bits as one that is not, and one in several
/// processes with those of one process. All but the first process get nothing: what is left to do is the first one's.
///
/// # Errors
/// When a case cannot be read, the loss diverges, the checkpoint is of another training, or a file cannot be written; and
/// when it is asked to end.
pub fn fit(config: &FitConfig, model: &dyn Trainable, source: BatchSource, run: &Run) -> Result<Option<Fitted>> {
    config.check()?;
    config.check_processes(run.ranks.size())?;
    for folder in [&run.output.join(ABOUT), &run.checkpoints] {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    let mirrored = source.mirrored();
    let mut fitting = Fitting::begin(config, model, source, run)?;
    while fitting.state.position.epoch < fitting.epochs() {
        if let Some(interrupted) = fitting.epoch()? {
            return if run.ranks.is_first() { Err(interrupted.into()) } else { Ok(None) };
        }
    }
    if run.ranks.is_first() { fitting.end(mirrored).map(Some) } else { Ok(None) }
}

/// A training under way.
struct Fitting<'a> {
    config: &'a FitConfig,
    model: &'a dyn Trainable,
    run: &'a Run,
    steps_per_epoch: u64,
    loader: Loader,
    optimizer: Optimizer,
    checkpoints: CheckpointFolder,
    state: TrainingState,
    /// Of the first rank.
    events: Option<EventFile>,
    progress: Progress,
    last_save: Instant,
}

impl<'a> Fitting<'a> {
    fn begin(config: &'a FitConfig, model: &'a dyn Trainable, source: BatchSource, run: &'a Run) -> Result<Self> {
        let live: Vec<&str> = model.params().live().map(|(name, _)| name).collect();
        let identity = serde_json::json!({ "fit": config, "live": live, "of": run.identity }).to_string();
        let mut optimizer = Optimizer::new(config.optimizer, config.weight_decay, model.params())?;
        let (checkpoints, found) = CheckpointFolder::open(&run.checkpoints, &identity)?;
        let state = match found {
            None => TrainingState::start(),
            Some(Checkpoint { state, weights, optimizer: moments }) => {
                set_all(model.params(), &weights)?;
                optimizer.restore(state.optimizer_steps, &moments)?;
                run.report.note(&format!("{}: going on at epoch {}, step {}", run.node, state.position.epoch + 1, state.position.step + 1));
                state
            }
        };
        let ranks = &run.ranks;
        if ranks.size() > 1 {
            let standing = [serde_json::to_vec(&(state.position, state.best))?, fingerprint(model.params(), &optimizer)?].concat();
            ranks.agree(
                &standing,
                "the checkpoint or weights that it starts from",
                "all must see the same files; wait a moment and try again",
            )?;
        }
        let steps_per_epoch = source.sampler().steps_per_epoch();
        let progress = run.report.start(&run.node, "steps", config.epochs * steps_per_epoch);
        progress.resume_from(state.position.epoch * steps_per_epoch + state.position.step);
        let events = || EventFile::resume(&run.output.join(ABOUT).join(EVENT_FILE), state.event_bytes);
        let events = ranks.is_first().then(events).transpose()?;
        let loader = Loader::start(Arc::new(source), Cut::new(config.micro_batch, ranks), state.position, config.epochs)?;
        let last_save = Instant::now();
        let fitting = Self { config, model, run, steps_per_epoch, loader, optimizer, checkpoints, state, events, progress, last_save };
        fitting.tell_standstill();
        Ok(fitting)
    }

    /// How many epochs the training takes, as far as is known by now.
    fn epochs(&self) -> u64 {
        self.standstill().map_or(self.config.epochs, |(still, from)| from + still.cool_down)
    }

    /// After how many epochs the learning rate begins to fall, once that is known. Follows from the curve alone, so that a resumed training
    /// ends alike.
    fn standstill(&self) -> Option<(UntilStill, u64)> {
        let still = self.config.until_still?;
        Some((still, still.cools_from(self.config.select, &self.state.curve, self.config.epochs)?))
    }

    /// Says that the validation stands still, if it does.
    fn tell_standstill(&self) {
        let Some((_, from)) = self.standstill() else { return };
        self.progress.set_total(self.epochs() * self.steps_per_epoch);
        let why = match self.epochs() == self.config.epochs {
            true => "`epochs` is reached, and its validation may not stand still; `epochs` can be raised",
            false => "its validation stands still",
        };
        self.progress.note(&format!("{}: {why}; the learning rate falls from epoch {} to {}", self.run.node, from + 1, self.epochs()));
    }

    /// The rest of an epoch, unless it is asked to end within it.
    fn epoch(&mut self) -> Result<Option<Interrupted>> {
        let mut begun = Instant::now();
        while self.state.position.step < self.steps_per_epoch {
            let loss = self.step()?;
            self.progress.step(&format!("epoch {}/{}, loss {loss:.4}", self.state.position.epoch + 1, self.epochs()));
            let (asked_to_end, is_due) = self.asked()?;
            if asked_to_end || is_due {
                self.ensure_finite_weights()?;
                self.state.seconds += begun.elapsed().as_secs_f64();
                begun = Instant::now();
                self.save(false)?;
            }
            if asked_to_end {
                let Position { epoch, step } = self.state.position;
                return Ok(Some(Interrupted { epoch: epoch + 1, step, checkpoints: self.run.checkpoints.clone() }));
            }
        }
        self.ensure_finite_weights()?;
        let validation =
            self.model.validate(&self.run.ranks).with_context(|| format!("validation of epoch {}", self.state.position.epoch + 1))?;
        self.state.seconds += begun.elapsed().as_secs_f64();
        self.close_epoch(validation)?;
        Ok(None)
    }

    /// Whether any rank was asked to end, and whether a checkpoint is due by the first one's clock.
    fn asked(&self) -> Result<(bool, bool)> {
        let is_due = self.last_save.elapsed() >= self.run.checkpoint_interval;
        let all = self.run.ranks.gather(&[u8::from(self.run.stop.load(Ordering::Relaxed)), u8::from(is_due)])?;
        Ok((all.iter().any(|flags| flags[0] > 0), all[0][1] > 0))
    }

    /// One step of the optimizer; returns the loss of its batch.
    fn step(&mut self) -> Result<f64> {
        let params = self.model.params();
        let batch = self.loader.next_batch()?.context("internal error: the loader ended before the epoch did")?;
        let parts = batch.into_parts(&params.device(), &self.run.ranks)?;
        let lr = self.learning_rate(self.state.position.step);
        let mut accumulator = match self.model.may_leave_parameters_out() {
            true => Accumulator::unreached_are_zero(),
            false => Accumulator::default(),
        }
        .among(&self.run.ranks);
        let mut losses = Vec::new();
        self.model.losses(&parts, &mut |loss, share| {
            let value = f64::from(loss.to_dtype(DType::F32)?.to_scalar::<f32>()?);
            self.ensure_finite(|| "the loss".into(), value, self.state.position.step)?;
            accumulator.add(params, loss, share)?;
            losses.push(vec![value * share]);
            Ok(())
        })?;
        for _ in losses.len()..parts.rounds() {
            accumulator.pass(params)?;
        }
        accumulator.gather(params)?;
        let batch_loss: f64 = parts.gather(&losses)?.concat().iter().sum();
        if let Some(longest) = self.config.clip_gradient {
            accumulator.clip(params, longest)?;
        }
        self.optimizer.step(&accumulator.into_gradients(), lr)?;
        self.tell(&[("train/loss", batch_loss), ("train/learning_rate", lr)])?;
        let samples = parts.samples().len();
        self.state.loss_sum += batch_loss * samples as f64;
        self.state.samples += samples as u64;
        self.state.position.step += 1;
        Ok(batch_loss)
    }

    fn learning_rate(&self, step: u64) -> f64 {
        let iteration = self.state.position.epoch * self.steps_per_epoch + step;
        let fall =
            self.standstill().map_or(1.0, |(still, from)| still.factor(iteration - from * self.steps_per_epoch, self.steps_per_epoch));
        self.config.learning_rate * fall * self.config.schedule.factor(iteration, self.steps_per_epoch, self.config.epochs)
    }

    /// Books the epoch that ended: curve, best weights, checkpoint.
    fn close_epoch(&mut self, validation: Validation) -> Result<()> {
        let epoch = self.state.position.epoch + 1;
        let score = self.config.select.score(&validation);
        let is_best = self.config.select.is_better(score, self.state.best);
        if is_best {
            self.state.best = Some(Best { epoch, score });
        }
        let mut scalars = vec![("validation/loss".to_owned(), validation.loss), ("validation/dice".to_owned(), validation.dice)];
        scalars.retain(|(_, value)| !value.is_nan());
        scalars.extend(validation.details.iter().map(|detail| (format!("validation/{}", detail.name), detail.value)));
        let scalars: Vec<(&str, f64)> = scalars.iter().map(|(tag, value)| (tag.as_str(), *value)).collect();
        self.tell(&scalars)?;
        let row = CurveRow {
            epoch,
            learning_rate: self.learning_rate(self.steps_per_epoch - 1),
            training_loss: self.state.loss_sum / self.state.samples as f64,
            validation,
            seconds: self.state.seconds,
            peak_mib: stage_kit::peak_memory().map(|bytes| bytes >> 20),
        };
        self.progress.note(&self.summary(&row));
        self.state.curve.push(row);
        self.state.position = Position { epoch, step: 0 };
        if self.standstill().is_some_and(|(_, from)| from == epoch) {
            self.tell_standstill();
        }
        (self.state.loss_sum, self.state.samples, self.state.seconds) = (0.0, 0, 0.0);
        self.save(is_best)?;
        if self.run.ranks.is_first() { write_curves(&self.run.output, &self.state.curve) } else { Ok(()) }
    }

    /// Adds values to the event file.
    fn tell(&mut self, scalars: &[(&str, f64)]) -> Result<()> {
        let step = self.optimizer.steps();
        Ok(self.events.as_mut().map_or(Ok(()), |events| events.scalars(step, scalars))?)
    }

    fn summary(&self, row: &CurveRow) -> String {
        let best = self.state.best.map_or("no best yet".into(), |best| format!("best epoch {}", best.epoch));
        let dice = row.validation.dice;
        let dice = if dice.is_nan() { String::new() } else { format!(" Dice {dice:.4},") };
        format!(
            "{}: epoch {}/{}: training loss {:.4}, validation loss {:.4},{dice} {best}",
            self.run.node,
            row.epoch,
            self.epochs(),
            row.training_loss,
            row.validation.loss
        )
    }

    /// `step` is the step that `value` comes from.
    fn ensure_finite(&self, what: impl FnOnce() -> String, value: f64, step: u64) -> Result<(), Diverged> {
        if value.is_finite() {
            return Ok(());
        }
        Err(Diverged { what: what(), value, epoch: self.state.position.epoch + 1, step: step + 1, learning_rate: self.learning_rate(step) })
    }

    /// A loss may be finite while a gradient is not; such weights must not replace the good ones of the checkpoint.
    fn ensure_finite_weights(&self) -> Result<()> {
        let last_step = self.state.position.step.saturating_sub(1);
        for (name, var) in self.model.params().live() {
            let sum = var.as_detached_tensor().sqr()?.sum_all()?.to_dtype(DType::F32)?.to_scalar::<f32>()?;
            self.ensure_finite(|| format!("the parameter `{name}`"), f64::from(sum), last_step)?;
        }
        Ok(())
    }

    fn save(&mut self, is_best: bool) -> Result<()> {
        self.last_save = Instant::now();
        if self.run.ranks.size() > 1 {
            let held = fingerprint(self.model.params(), &self.optimizer)?;
            self.run.ranks.agree(&held, "its weights after the same steps", "give all ranks machines with the same kind of processor")?;
        }
        let Some(events) = &mut self.events else { return Ok(()) };
        self.state.optimizer_steps = self.optimizer.steps();
        self.state.event_bytes = events.sync()?;
        let weights: Tensors = self.model.params().all().map(|(name, var)| (name.to_owned(), var.as_detached_tensor())).collect();
        Ok(self.checkpoints.save(&self.state, &weights, &self.optimizer.moments(), is_best)?)
    }

    fn end(self, mirrored: [bool; 3]) -> Result<Fitted> {
        let found = self.checkpoints.best()?.zip(self.state.best);
        let (weights, best) = found.with_context(|| {
            format!("no epoch had a validation score that is a number; look at {} for where it went wrong", self.run.output.display())
        })?;
        set_all(self.model.params(), &weights)?;
        // An attempt that ended right after the last checkpoint may not have come to write these.
        write_curves(&self.run.output, &self.state.curve)?;
        Ok(Fitted { weights, best, curve: self.state.curve, mirrored })
    }
}

/// A checksum of all parameters and of what the optimizer keeps.
fn fingerprint(params: &Params, optimizer: &Optimizer) -> Result<Vec<u8>> {
    let mut sum = 0;
    for tensor in params.all().map(|(_, var)| var.as_detached_tensor()).chain(optimizer.moments().into_values()) {
        for value in tensor.flatten_all()?.to_vec1::<f32>()? {
            sum = crc32c::crc32c_append(sum, &value.to_le_bytes());
        }
    }
    Ok(sum.to_le_bytes().to_vec())
}

fn set_all(params: &Params, values: &Tensors) -> Result<()> {
    for (name, var) in params.all() {
        let value = values.get(name).with_context(|| format!("the checkpoint lacks the parameter `{name}`"))?;
        params.set(name, &value.to_device(var.device())?).with_context(|| format!("the checkpoint's parameter `{name}`"))?;
    }
    Ok(())
}
