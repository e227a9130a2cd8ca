//! Runs what is not fresh, each node as soon as what it reads is there.

mod course;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::Scope;
use std::time::Duration;

use anyhow::Result;
use stage_kit::{LeftOut, Update};

use crate::child::Word;
use crate::display::{Display, NodeDisplay, RunDisplay};
use crate::executor::{Executor, Failure};
use crate::forecast::Rest;
use crate::job::Job;
use crate::lock::Lease;
use crate::machine::Machine;
use crate::plan::{Planner, Work};
use crate::record::Record;
use crate::store::Store;

/// What to run, and how.
pub struct Options {
    /// The nodes to bring up to date, with everything that they read.
    pub wanted: BTreeSet<usize>,
    /// Nodes to run even if they are fresh.
    pub forced: BTreeSet<usize>,
    /// The only nodes that may be run; others must be fresh.
    pub allowed: BTreeSet<usize>,
    /// After a failure go on with what does not depend on it.
    pub keep_going: bool,
    /// How many nodes may run at once.
    pub jobs: usize,
    /// The program's version, for the records.
    pub version: String,
}

/// What came of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// How many nodes had their result already.
    pub fresh: usize,
    /// The nodes that were run.
    pub done: Vec<String>,
    /// The nodes that failed, with what is known of each failure.
    pub failed: Vec<(String, String)>,
    /// The nodes that another runner is working on.
    pub locked: Vec<String>,
    /// What nodes have left out of their results, of those that were done and those that were fresh.
    pub left_out: Vec<(String, Vec<LeftOut>)>,
    /// How many nodes were left because of others.
    pub left: usize,
    /// Whether the user (or the machine) asked to stop.
    pub interrupted: bool,
}

enum Message {
    Update(usize, Update),
    Ended(usize, Box<Result<Record, Failure>>),
}

#[derive(Clone, PartialEq, Eq)]
enum Status {
    Pending,
    /// Under this key.
    Running(String),
    Finished,
    /// Failed, locked, stopped, or left because of one that did.
    Lost,
}

/// Runs the nodes that `options` ask for.
///
/// # Errors
/// When outside data or the store cannot be read or written. That a stage failed is told in the summary.
pub fn run(planner: &Planner<'_>, options: &Options, executor: &dyn Executor, display: &Display, stop: &AtomicBool) -> Result<Summary> {
    std::thread::scope(|scope| {
        let (sender, receiver) = channel();
        let n_nodes = planner.pipeline.nodes.len();
        let mut runner = Runner {
            planner,
            options,
            display,
            screen: display.run(),
            // Nodes that run side by side share the machine in a way that nobody has measured, and those elsewhere have another one.
            rest: (executor.is_local() && options.jobs == 1).then(|| Rest::new(planner)),
            stop,
            executor,
            machine: Machine::here(),
            scope,
            sender,
            status: vec![Status::Pending; n_nodes],
            records: vec![None; n_nodes],
            running: BTreeMap::new(),
            planned: BTreeMap::new(),
            summary: Summary::default(),
        };
        let ran = runner.run(&receiver);
        runner.screen.finish();
        ran.map(|()| runner.summary)
    })
}

struct Runner<'scope, 'env> {
    planner: &'env Planner<'env>,
    options: &'env Options,
    display: &'env Display,
    /// The line of the run as a whole.
    screen: RunDisplay<'env>,
    /// What is known of the nodes to come; nothing where that cannot be told.
    rest: Option<Rest<'env>>,
    stop: &'env AtomicBool,
    executor: &'env dyn Executor,
    machine: Machine,
    scope: &'scope Scope<'scope, 'env>,
    sender: Sender<Message>,
    status: Vec<Status>,
    records: Vec<Option<Record>>,
    running: BTreeMap<usize, NodeDisplay<'env>>,
    /// The work of nodes that could be started but for want of room.
    planned: BTreeMap<usize, Work>,
    summary: Summary,
}

impl<'scope, 'env> Runner<'scope, 'env> {
    fn run(&mut self, receiver: &Receiver<Message>) -> Result<()> {
        // What can be started changes when something has ended, and not with each step of progress.
        let mut changed = true;
        loop {
            let has_ended = std::mem::take(&mut changed);
            let scheduled = if has_ended { self.schedule() } else { Ok(()) };
            if let Err(error) = scheduled {
                // Those that run already may finish; what they write is worth keeping.
                self.drain(receiver);
                return Err(error);
            }
            if self.running.is_empty() {
                break;
            }
            self.tell_course(has_ended);
            match receiver.recv_timeout(Duration::from_millis(100)) {
                Ok(message) => {
                    changed = matches!(message, Message::Ended(..));
                    self.handle(message);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if self.stop.load(Ordering::Relaxed) && !self.summary.interrupted {
                self.summary.interrupted = true;
                self.display.note("stopping: the running stages are asked to end; once more ends them at once");
            }
        }
        self.summary.interrupted |= self.stop.load(Ordering::Relaxed);
        let lost = self.options.wanted.iter().filter(|&&index| self.status[index] != Status::Finished).count();
        self.summary.left = lost - self.summary.failed.len() - self.summary.locked.len();
        Ok(())
    }

    fn drain(&mut self, receiver: &Receiver<Message>) {
        while !self.running.is_empty() {
            let Ok(message) = receiver.recv() else { break };
            self.handle(message);
        }
    }

    fn may_start(&self) -> bool {
        let troubled = !self.summary.failed.is_empty() || !self.summary.locked.is_empty();
        !self.stop.load(Ordering::Relaxed) && (self.options.keep_going || !troubled)
    }

    /// Starts whatever can be started. One pass is enough, since parents come before their children.
    fn schedule(&mut self) -> Result<()> {
        for &index in &self.options.wanted {
            if self.status[index] != Status::Pending {
                continue;
            }
            let parents = self.planner.pipeline.nodes[index].parents();
            if parents.iter().any(|&parent| self.status[parent] == Status::Lost) {
                self.status[index] = Status::Lost;
            } else if parents.iter().all(|&parent| self.status[parent] == Status::Finished) && self.may_start() {
                self.consider(index)?;
            }
        }
        Ok(())
    }

    /// A node whose parents are finished: fresh, or to be started.
    fn consider(&mut self, index: usize) -> Result<()> {
        let node = &self.planner.pipeline.nodes[index];
        // What the parents have written does not change any more; a node that waits for its turn is planned once.
        let planned = match self.planned.remove(&index) {
            Some(work) => Some(work),
            None => self.planner.work(index, &self.records)?,
        };
        let Some(work) = planned else {
            // It was there when the run began.
            anyhow::bail!("{}: lacks {}; make it available and run again", node.name, self.planner.absent(index).join(" and "));
        };
        let forced = self.options.forced.contains(&index);
        let record = if forced { None } else { self.planner.record(&node.name, &work)? };
        if let Some(record) = record {
            self.planner.store.link_result(&self.planner.result_name(index), &record.key)?;
            drop_leftover(self.planner.store, &record.key, &node.name);
            self.finish(index, record);
            self.summary.fresh += 1;
            return Ok(());
        }
        if !self.options.allowed.contains(&index) {
            self.display.note(&format!("{}: must be run first, which --only forbids; leave out --only", node.name));
            self.summary.failed.push((node.name.clone(), "must be run first, which --only forbids".into()));
            self.status[index] = Status::Lost;
            return Ok(());
        }
        // Another node may be doing the very same work; this one will find its result.
        let twin = self.status.contains(&Status::Running(work.key.clone()));
        if self.running.len() < self.options.jobs && !twin && (!self.executor.is_local() || self.machine.take(index, &node.resources)) {
            if self.planner.hasher.reads_everything() && !forced {
                // A record that did not pass the check above stands in the way of the work, and what was made from its files is in doubt.
                self.withdraw_damaged(&work.key)?;
            }
            self.start(index, work, forced)?;
        } else {
            self.planned.insert(index, work);
        }
        Ok(())
    }

    fn withdraw_damaged(&self, key: &str) -> Result<()> {
        let (store, hasher) = (self.planner.store, self.planner.hasher);
        let Some(record) = store.record(key) else { return store.withdraw(key) };
        let found = hasher.tree(&store.object(key), &|text| self.display.note(&text))?;
        for node in crate::taint::withdraw(store, &record, &found.split().0)? {
            self.display.note(&format!("{node}: was made from damaged files, before or after; its result is taken back"));
        }
        Ok(())
    }

    fn start(&mut self, index: usize, work: Work, forced: bool) -> Result<()> {
        let pipeline = self.planner.pipeline;
        let node = &pipeline.nodes[index];
        let name = self.planner.result_name(index);
        for case in work.cases.iter().filter(|_| forced).flat_map(|cases| &cases.list) {
            // The node's earlier result stays until the new one is there.
            self.planner.store.cases().withdraw(&case.key)?;
        }
        let cards = self.machine.cards_of(index);
        let job = Job { cards, ..Job::new(self.planner, node, &work, &self.options.version, forced)? };
        job.save(self.planner.store)?;
        self.status[index] = Status::Running(work.key);
        self.running.insert(index, self.display.start(&node.name));
        let (store, executor, stop, display, sender) = (self.planner.store, self.executor, self.stop, self.display, self.sender.clone());
        self.scope.spawn(move || {
            let words = sender.clone();
            let ended = executor.execute(
                store,
                &job,
                &|word| match word {
                    Word::Line(line) => display.note(&line),
                    Word::Update(update) => {
                        // The receiver lives as long as anything runs.
                        let _ = words.send(Message::Update(index, update));
                    }
                },
                stop,
            );
            let result = ended.and_then(|()| published(store, &job, &name));
            let _ = sender.send(Message::Ended(index, Box::new(result)));
        });
        Ok(())
    }

    fn handle(&mut self, message: Message) {
        match message {
            Message::Update(index, update) => {
                if let Some(display) = self.running.get(&index) {
                    display.update(&update);
                }
            }
            Message::Ended(index, result) => {
                if let Some(display) = self.running.remove(&index) {
                    display.finish();
                }
                self.ended(index, *result);
            }
        }
    }

    fn ended(&mut self, index: usize, result: Result<Record, Failure>) {
        self.machine.give_back(index);
        let name = &self.planner.pipeline.nodes[index].name;
        let failure = match result {
            Ok(record) => {
                self.display.note(&format!("{name}: done in {}", crate::text::duration(Duration::from_secs_f64(record.seconds))));
                self.summary.done.push(name.clone());
                self.rest.iter_mut().for_each(|rest| rest.ended(index, record.seconds));
                self.finish(index, record);
                return;
            }
            Err(failure) => failure,
        };
        self.status[index] = Status::Lost;
        self.display.note(&format!("{name}: {failure}"));
        match &failure {
            Failure::Locked(_) => self.summary.locked.push(name.clone()),
            Failure::Stopped => {}
            Failure::Stage { .. } | Failure::Runner(_) => self.summary.failed.push((name.clone(), failure.to_string())),
        }
    }

    fn finish(&mut self, index: usize, record: Record) {
        let left_out = stage_kit::read_left_out(&self.planner.store.object(&record.key));
        if !left_out.is_empty() {
            self.summary.left_out.push((self.planner.pipeline.nodes[index].name.clone(), left_out));
        }
        self.status[index] = Status::Finished;
        self.records[index] = Some(record);
    }
}

/// Removes the attempt of a piece of work that is finished, which a kill right after its record has left.
fn drop_leftover(store: &Store, key: &str, node: &str) {
    let attempt = store.attempt(key);
    // Under the lock: somebody may be doing the work once more, by force. What cannot be removed does no harm.
    if attempt.exists()
        && let Ok(Ok(_lease)) = Lease::try_take(&store.lock(key), node)
    {
        let _ = std::fs::remove_dir_all(&attempt);
    }
}

/// The record of a job that has ended, which says more than its executor does.
fn published(store: &Store, job: &Job, name: &str) -> Result<Record, Failure> {
    let missing = || anyhow::anyhow!("the work has ended without a record; its log: {}", store.attempt(&job.key).join("log.txt").display());
    let record = store.record(&job.key).ok_or_else(missing)?;
    store.link_result(name, &record.key)?;
    Ok(record)
}
