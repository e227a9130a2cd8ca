//! What a node on the cluster has to tell, and where it is kept.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::PathBuf;
use std::time::SystemTime;

use stage_kit::Update;

use super::{Course, Task, n_cases};
use crate::attempt::{FAILED, kept_log, part_folder};
use crate::child::Word;
use crate::executor::Failure;
use crate::job::Part;
use crate::progress::Progress;
use crate::slurm::commands::Listing;
use crate::slurm::submission::InQueue;
use crate::text::utc;

/// How many of the last lines of a job for a part are told when it has failed.
const LAST_LINES: usize = 20;

impl Course<'_> {
    pub(super) fn say(&self, text: &str) {
        (self.tell)(Word::Line(format!("{}: {text}", self.job.node)));
    }

    /// Says what stands in the way, once.
    pub(super) fn complain(&mut self, text: &str) {
        if self.trouble != text {
            self.say(text);
            text.clone_into(&mut self.trouble);
        }
    }

    /// The jobs that it knows of.
    pub(super) fn ids(&self) -> String {
        let ids: Vec<&str> = self.tasks.iter().take(5).map(|task| task.id.as_str()).collect();
        let more = if self.tasks.len() > ids.len() { format!(" and {} more", self.tasks.len() - ids.len()) } else { String::new() };
        ids.join(", ") + &more
    }

    /// What Slurm has caught of what a job says.
    pub(super) fn output(&self, task: &Task) -> PathBuf {
        self.told_by(task, "out")
    }

    /// A file of a job.
    pub(super) fn told_by(&self, task: &Task, extension: &str) -> PathBuf {
        task.submission.folder(&self.folder).join(format!("{}.{extension}", task.index))
    }

    /// The log of the node.
    pub(super) fn log(&self) -> PathBuf {
        self.store.attempt(&self.job.key).join("log.txt")
    }

    /// Passes on what a job has said since the last time. The many jobs for parts are silent as long as they do well.
    pub(super) fn relay(&self, task: &mut Task) {
        if matches!(task.due.part, Part::Cases(_)) {
            return;
        }
        let mut text = String::new();
        let read = || -> std::io::Result<Vec<u8>> {
            let mut file = File::open(self.output(task))?;
            file.seek(SeekFrom::Start(task.told))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        // Not there yet, or not to be read now: next time.
        let bytes = read().unwrap_or_default();
        // The rest of a line is still to come.
        let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        task.told += whole as u64;
        text.push_str(&String::from_utf8_lossy(&bytes[..whole]));
        text.lines().for_each(|line| (self.tell)(Word::Line(line.to_owned())));
    }

    /// Passes on the end of what a job for a part has said.
    pub(super) fn say_end_of(&self, task: &Task) {
        if !matches!(task.due.part, Part::Cases(_)) {
            return;
        }
        let text = fs::read(self.output(task)).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LAST_LINES)..].iter().for_each(|line| (self.tell)(Word::Line((*line).to_owned())));
    }

    /// Adds the log of a part to the node's, where people look for it.
    pub(super) fn gather(&self, part: &Part) {
        if !matches!(part, Part::Cases(_)) {
            return;
        }
        let folder = part_folder(self.store, &self.job.key, part);
        for log in [kept_log(&folder), folder.join("log.txt")] {
            let move_over = || -> std::io::Result<()> {
                let text = fs::read(&log)?;
                File::options().append(true).create(true).open(self.log())?.write_all(&text)?;
                fs::remove_file(&log)
            };
            // One of the two is there, if any; and a log that cannot be written does not hold the work up.
            let _ = move_over();
        }
    }

    /// Lets `status` know.
    pub(super) fn mark_failed(&self, failure: &Failure) {
        if let Failure::Stage { how, .. } = failure {
            let path = self.store.attempt(&self.job.key).join(FAILED);
            let _ = stage_kit::write_atomic_text(&path, &format!("{} the stage {how}\n", utc(SystemTime::now())));
        }
    }

    /// Lets `status` know how many jobs wait, if that has changed. A job that the queue does not show yet waits too.
    pub(super) fn note_queue(&mut self, listing: &Listing) {
        let mut now = InQueue { pending: self.waiting.len(), ..InQueue::default() };
        for task in &self.tasks {
            match listing.jobs.get(&task.id) {
                Some(listed) if !listed.is_pending => now.running += 1,
                listed => {
                    now.pending += 1;
                    if let Some(listed) = listed.filter(|_| now.reason.is_empty()) {
                        now.reason.clone_from(&listed.reason);
                    }
                }
            }
        }
        if self.noted.as_ref() != Some(&now) {
            // That it cannot be written is no reason to stop.
            let _ = now.save(&self.folder);
            self.noted = Some(now);
        }
    }

    /// Tells how far the node is, if that has changed.
    pub(super) fn show_progress(&mut self) {
        let progress = |part: &Part| Progress::of(&part_folder(self.store, &self.job.key, part)).map(|progress| progress.update);
        let by_parts = self.tasks.iter().any(|task| matches!(task.due.part, Part::Cases(_)));
        let update = if by_parts {
            let done = |task: &Task| progress(&task.due.part).map_or(0, |update| update.done.min(n_cases(&task.due.part) as u64));
            let done = self.cases.0 as u64 + self.tasks.iter().map(done).sum::<u64>();
            let message = format!("{} jobs in the queue", self.tasks.len());
            Some(Update { what: "cases".into(), done, total: self.cases.1 as u64, message })
        } else {
            self.tasks.first().and_then(|task| progress(&task.due.part))
        };
        if update != self.shown {
            update.iter().for_each(|update| (self.tell)(Word::Update(update.clone())));
            self.shown = update;
        }
    }
}
