//! How long the rest of a run takes, as far as it is known.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::{NodeCost, Samples, forecast};
use crate::plan::{Planner, State};
use crate::record::Record;

/// A forecast looks at files, and serves so long before there is another one.
const SERVES: Duration = Duration::from_secs(10);

/// So many nodes of a stage must have ended before the mean of their times stands for others.
const ENOUGH: usize = 2;

/// What is known of the nodes that a run has before it: one node after another on this machine.
pub(crate) struct Rest<'a> {
    planner: &'a Planner<'a>,
    samples: Samples<'a>,
    foreseen: Option<Instant>,
    costs: Costs,
}

/// A node that runs.
pub(crate) struct Running {
    pub(crate) index: usize,
    /// How long it has run.
    pub(crate) elapsed: Duration,
    /// How long it takes yet by its own count.
    pub(crate) left: Option<Duration>,
}

impl<'a> Rest<'a> {
    pub(crate) fn new(planner: &'a Planner<'a>) -> Self {
        let samples = Samples::kept_in(planner.store, planner.pipeline.device);
        Self { planner, samples, foreseen: None, costs: Costs::default() }
    }

    /// Foresees the nodes that have no record, unless that was done just now.
    pub(crate) fn foresee(&mut self, wanted: &BTreeSet<usize>, records: &[Option<Record>]) {
        if self.foreseen.is_some_and(|when| when.elapsed() < SERVES) {
            return;
        }
        let state = |&index: &usize| {
            let state = records[index].clone().map_or(State::Waits(Vec::new()), |record| State::Fresh(Box::new(record)));
            (index, state)
        };
        let states = wanted.iter().map(state).collect();
        let costs = forecast(self.planner, &states, &BTreeSet::new(), &BTreeMap::new(), &self.samples);
        self.costs.foreseen = costs.into_iter().map(|cost| (cost.index, cost)).collect();
        self.foreseen = Some(Instant::now());
    }

    /// A node has ended after so many seconds.
    pub(crate) fn ended(&mut self, index: usize, seconds: f64) {
        self.costs.ended.entry(self.stage(index)).or_default().push(seconds);
    }

    /// The time of the nodes that wait, and what is left of the one that runs.
    pub(crate) fn left(&self, waiting: impl Iterator<Item = usize>, running: Option<Running>) -> Time {
        let of = |index: usize| self.costs.of(index, self.stage(index));
        let running = running.map(|running| running.left_of(of(running.index)));
        waiting.map(of).chain(running).fold(Time::NONE, Time::and)
    }

    fn stage(&self, index: usize) -> &'static str {
        self.planner.pipeline.nodes[index].stage.name
    }
}

impl Running {
    /// What is left of a time that was foreseen; the node's own count knows better.
    fn left_of(&self, foreseen: Time) -> Time {
        match self.left {
            Some(left) => Time { seconds: left.as_secs_f64(), is_all: true },
            None => Time { seconds: (foreseen.seconds - self.elapsed.as_secs_f64()).max(0.0), ..foreseen },
        }
    }
}

/// What nodes take.
#[derive(Default)]
struct Costs {
    /// What is foreseen, by node.
    foreseen: BTreeMap<usize, NodeCost>,
    /// The seconds of the nodes that this run has done, by stage.
    ended: BTreeMap<&'static str, Vec<f64>>,
}

impl Costs {
    /// A node's time: what is foreseen of it, or else what others of its stage have taken.
    fn of(&self, index: usize, stage: &str) -> Time {
        let foreseen =
            self.foreseen.get(&index).map_or(Time::UNKNOWN, |cost| Time { seconds: cost.seconds, is_all: cost.unknown.is_empty() });
        match self.ended.get(stage).filter(|ended| !foreseen.is_all && ended.len() >= ENOUGH) {
            #[expect(clippy::cast_precision_loss, reason = "nodes are few")]
            Some(ended) => Time { seconds: ended.iter().sum::<f64>() / ended.len() as f64, is_all: true },
            None => foreseen,
        }
    }
}

/// Seconds, and whether these are all or only what is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Time {
    seconds: f64,
    is_all: bool,
}

impl Time {
    const NONE: Self = Self { seconds: 0.0, is_all: true };
    const UNKNOWN: Self = Self { seconds: 0.0, is_all: false };

    fn and(self, other: Self) -> Self {
        Self { seconds: self.seconds + other.seconds, is_all: self.is_all && other.is_all }
    }

    /// `about 12 min left`, `more than 2.5 h left`; nothing where too little is known.
    pub(crate) fn words(self) -> Option<String> {
        match self {
            Self { seconds, is_all: true } if seconds > 0.0 => Some(format!("about {} left", short(seconds.max(60.0), f64::round))),
            Self { seconds, is_all: false } if seconds >= 60.0 => Some(format!("more than {} left", short(seconds, f64::floor))),
            _ => None,
        }
    }
}

/// Whole minutes, or hours with a digit more.
fn short(seconds: f64, round: fn(f64) -> f64) -> String {
    let minutes = round(seconds / 60.0);
    if minutes < 90.0 { format!("{minutes:.0} min") } else { format!("{:.1} h", round(seconds / 360.0) / 10.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(seconds: f64) -> Time {
        Time { seconds, is_all: true }
    }

    fn part(seconds: f64) -> Time {
        Time { seconds, is_all: false }
    }

    #[test]
    fn words_are_as_exact_as_what_they_tell_of() {
        let words = |time: Time| time.words().unwrap_or_default();
        assert_eq!(
            [1.0, 725.0, 5370.0, 9000.0].map(|s| words(all(s))),
            ["about 1 min left", "about 12 min left", "about 1.5 h left", "about 2.5 h left"]
        );
        assert_eq!([779.0, 9330.0].map(|s| words(part(s))), ["more than 12 min left", "more than 2.5 h left"], "never more than is known");
        assert_eq!([all(0.0), part(0.0), part(59.0)].map(words), [""; 3], "nothing is invented");
    }

    #[test]
    fn a_node_takes_what_is_foreseen_or_what_enough_others_of_its_stage_took() {
        let cost = |index, seconds, unknown: &[&str]| {
            (index, NodeCost { index, seconds, unknown: unknown.iter().map(|&text| text.to_owned()).collect(), ..NodeCost::default() })
        };
        let mut costs = Costs { foreseen: [cost(0, 30.0, &[]), cost(1, 5.0, &["cases"])].into(), ..Costs::default() };
        let of = |costs: &Costs| [0, 1, 2].map(|index| costs.of(index, "join"));
        assert_eq!(of(&costs), [all(30.0), part(5.0), Time::UNKNOWN]);
        costs.ended.insert("join", vec![10.0]);
        assert_eq!(of(&costs), [all(30.0), part(5.0), Time::UNKNOWN], "one node is no measure");
        costs.ended.insert("join", vec![10.0, 20.0]);
        assert_eq!(of(&costs), [all(30.0), all(15.0), all(15.0)]);
        assert_eq!(costs.of(1, "words"), part(5.0), "another stage");
    }

    #[test]
    fn a_running_node_takes_what_its_own_count_says_or_what_is_left_of_its_forecast() {
        let running =
            |elapsed, left: Option<u64>| Running { index: 0, elapsed: Duration::from_secs(elapsed), left: left.map(Duration::from_secs) };
        assert_eq!(running(10, None).left_of(all(30.0)), all(20.0));
        assert_eq!(running(40, None).left_of(part(30.0)), part(0.0));
        assert_eq!(running(10, Some(7)).left_of(part(30.0)), all(7.0));
    }
}
