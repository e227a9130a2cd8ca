//! What this machine has, and what the nodes that run on it have taken.

use std::collections::BTreeMap;

use crate::attempt::CARDS;
use crate::resources::Resources;

/// The machine's cores, cards and memory. A node that declares nothing takes nothing: `-j` alone bounds such nodes.
pub(crate) struct Machine {
    cpus: usize,
    /// The names of its graphics cards.
    cards: Vec<String>,
    memory: u64,
    taken: BTreeMap<usize, Taken>,
}

struct Taken {
    resources: Resources,
    cards: Vec<String>,
}

impl Machine {
    /// The machine that this process runs on.
    pub(crate) fn here() -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let pages = rustix::system::sysinfo();
        let memory = u64::from(pages.mem_unit) * pages.totalram;
        Self { cpus, cards: cards(), memory, taken: BTreeMap::new() }
    }

    /// Takes what a node asks for, if it is free. A node that asks for more than there is may have the machine for itself.
    pub(crate) fn take(&mut self, node: usize, asked: &Resources) -> bool {
        let sum = |amount: fn(&Resources) -> u64| self.taken.values().map(|t| amount(&t.resources)).sum::<u64>() + amount(asked);
        let used: Vec<&String> = self.taken.values().flat_map(|taken| &taken.cards).collect();
        let free: Vec<String> = self.cards.iter().filter(|card| !used.contains(card)).cloned().collect();
        let fits = sum(|r| r.all_cpus().unwrap_or(0) as u64) <= self.cpus as u64
            && sum(|r| r.memory.unwrap_or(0)) <= self.memory
            && asked.gpus <= free.len();
        if !fits && !self.taken.is_empty() {
            return false;
        }
        let cards = free.into_iter().take(asked.gpus).collect();
        self.taken.insert(node, Taken { resources: *asked, cards });
        true
    }

    /// The graphics cards that a node has taken, as a process is told of them; `None` if it has asked for none.
    pub(crate) fn cards_of(&self, node: usize) -> Option<String> {
        self.taken.get(&node).map(|taken| taken.cards.join(",")).filter(|cards| !cards.is_empty())
    }

    /// The node has ended.
    pub(crate) fn give_back(&mut self, node: usize) {
        self.taken.remove(&node);
    }
}

/// NVIDIA's cards: those that this process may use, or else all of the machine's.
fn cards() -> Vec<String> {
    if let Ok(allowed) = std::env::var(CARDS) {
        return allowed.split(',').map(|card| card.trim().to_owned()).filter(|card| !card.is_empty()).collect();
    }
    let number =
        |name: String| name.strip_prefix("nvidia").filter(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit())).map(str::to_owned);
    let entries = std::fs::read_dir("/dev").into_iter().flatten().filter_map(Result::ok);
    let mut cards: Vec<String> = entries.filter_map(|entry| number(entry.file_name().into_string().ok()?)).collect();
    cards.sort_by_key(|card| card.parse::<u32>().unwrap_or(u32::MAX));
    cards
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(cpus: usize, memory: u64) -> Resources {
        Resources { cpus: Some(cpus), memory: Some(memory), ..Resources::default() }
    }

    #[test]
    fn nodes_share_the_machine_and_what_is_too_large_for_it_runs_alone() {
        let mut machine = Machine { cpus: 4, cards: Vec::new(), memory: 100, taken: BTreeMap::new() };
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

    #[test]
    fn each_node_has_cards_of_its_own() {
        let cards = ["0", "1", "2"].map(str::to_owned).to_vec();
        let mut machine = Machine { cpus: 4, cards, memory: 100, taken: BTreeMap::new() };
        let asks = |gpus| Resources { gpus, ..Resources::default() };
        assert!(machine.take(0, &asks(1)) && machine.take(1, &asks(2)) && machine.take(2, &asks(0)));
        assert_eq!([0, 1, 2].map(|node| machine.cards_of(node)), [Some("0".into()), Some("1,2".into()), None]);
        assert!(!machine.take(3, &asks(1)));
        machine.give_back(0);
        assert!(machine.take(3, &asks(1)));
        assert_eq!(machine.cards_of(3), Some("0".into()));
    }
}
