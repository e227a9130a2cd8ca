//! How far a run is, in a line.

use super::{Runner, Status};
use crate::forecast::Running;

impl Runner<'_, '_> {
    /// Tells how far the run is, if there is anything to tell. What is foreseen changes when a node has ended.
    pub(super) fn tell_course(&mut self, has_ended: bool) {
        if has_ended && let Some(rest) = &mut self.rest {
            rest.foresee(&self.options.wanted, &self.records);
        }
        if (has_ended || self.screen.is_due())
            && let Some(course) = self.course()
        {
            self.screen.tell(course);
        }
    }

    /// `3 of 11 nodes done, about 12 min left`.
    fn course(&self) -> Option<String> {
        let wanted = &self.options.wanted;
        let done = wanted.iter().filter(|&&index| self.status[index] == Status::Finished).count();
        let waiting = wanted.iter().copied().filter(|&index| self.status[index] == Status::Pending);
        let running = self.running.iter().next();
        let running = running.map(|(&index, display)| Running { index, elapsed: display.elapsed(), left: display.left() });
        let left = self.rest.as_ref().and_then(|rest| rest.left(waiting, running).words());
        let left = left.map_or_else(String::new, |left| format!(", {left}"));
        (done > 0 || !left.is_empty()).then(|| format!("{done} of {} nodes done{left}", wanted.len()))
    }
}
