//! What this machine has, and what the nodes that run on it have taken.

use std::collections::BTreeMap;

use crate::resources::Resources;

/// The machine's cores, cards and memory. A node that declares nothing takes nothing: `-j` alone bounds such nodes.
pub(crate) struct Machine {
    cpus: usize,
    gpus: usize,
    memory: u64,
    taken: BTreeMap<usize, Resources>,
}

impl Machine {
    /// The machine that this process runs on.
    pub(crate) fn here() -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let pages = rustix::system::sysinfo();
        let memory = u64::from(pages.mem_unit) * pages.totalram;
        Self { cpus, gpus: cards(), memory, taken: BTreeMap::new() }
    }

    /// Takes what a node asks for, if it is free. A node that asks for more than there is may have the machine for itself.
    pub(crate) fn take(&mut self, node: usize, asked: &Resources) -> bool {
        let sum = |amount: fn(&Resources) -> u64| self.taken.values().map(amount).sum::<u64>() + amount(asked);
        let fits = sum(|r| r.cpus.unwrap_or(0) as u64) <= self.cpus as u64
            && sum(|r| r.gpus as u64) <= self.gpus as u64
            && sum(|r| r.memory.unwrap_or(0)) <= self.memory;
        if fits || self.taken.is_empty() {
            self.taken.insert(node, *asked);
            return true;
        }
        false
    }

    /// The node has ended.
    pub(crate) fn give_back(&mut self, node: usize) {
        self.taken.remove(&node);
    }
}

/// NVIDIA's cards, by the names of their devices.
fn cards() -> usize {
    let is_card = |name: &str| name.strip_prefix("nvidia").is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    let entries = std::fs::read_dir("/dev").into_iter().flatten().filter_map(Result::ok);
    entries.filter(|entry| entry.file_name().to_str().is_some_and(is_card)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(cpus: usize, memory: u64) -> Resources {
        Resources { cpus: Some(cpus), memory: Some(memory), ..Resources::default() }
    }

    #[test]
    fn nodes_share_the_machine_and_what_is_too_large_for_it_runs_alone() {
        let mut machine = Machine { cpus: 4, gpus: 0, memory: 100, taken: BTreeMap::new() };
        assert!(machine.take(0, &asks(2, 50)));
        assert!(machine.take(1, &Resources::default()), "nothing asked for, nothing taken");
        assert!(!machine.take(2, &asks(3, 10)), "too few cores");
        assert!(!machine.take(2, &asks(1, 60)), "too little memory");
        assert!(machine.take(2, &asks(2, 50)));
        machine.give_back(0);
        machine.give_back(1);
        assert!(!machine.take(3, &Resources { gpus: 1, ..Resources::default() }), "no card, and another node runs");
        machine.give_back(2);
        assert!(machine.take(3, &Resources { gpus: 1, ..Resources::default() }), "alone it may try");
    }
}
