//! Processes and their memory, as the kernel tells them in /proc.

use std::collections::BTreeMap;
use std::fs;

use rustix::process::{Pid, Signal, kill_process};

/// A process and all that descend from it, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    /// Their numbers, the first one's first.
    pub processes: Vec<u32>,
    /// The memory that they have in use, in bytes. Pages that several of them share count for each.
    pub resident: u64,
}

/// What /proc says of one process.
struct Status {
    parent: u32,
    resident: u64,
}

impl Tree {
    /// The processes below `first`, and itself; empty when it is gone.
    #[must_use]
    pub fn below(first: u32) -> Self {
        let Ok(list) = fs::read_dir("/proc") else { return Self::default() };
        let numbers = list.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
        // A process may end while it is looked at; then it has no memory.
        let all: BTreeMap<u32, Status> = numbers.filter_map(|number| Some((number, status(number)?))).collect();
        let mut processes: Vec<u32> = all.contains_key(&first).then_some(first).into_iter().collect();
        let mut next = 0;
        while let Some(&parent) = processes.get(next) {
            processes
                .extend(all.iter().filter(|(number, status)| status.parent == parent && **number != parent).map(|(&number, _)| number));
            next += 1;
        }
        let resident = processes.iter().map(|number| all[number].resident).sum();
        Self { processes, resident }
    }
}

/// The lines `PPid:` and `VmRSS:` (in kB, missing for a process that has ended and was not waited for).
fn status(number: u32) -> Option<Status> {
    let text = fs::read_to_string(format!("/proc/{number}/status")).ok()?;
    let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse::<u64>().ok());
    let parent = u32::try_from(value("PPid:")?).ok()?;
    Some(Status { parent, resident: value("VmRSS:").unwrap_or(0) * 1024 })
}

/// Ends a process and all that descend from it.
pub fn end_tree(first: u32) {
    // Whoever is ended last cannot start others meanwhile: the first ones go first.
    for number in Tree::below(first).processes {
        if let Some(process) = i32::try_from(number).ok().and_then(Pid::from_raw) {
            // One that has just ended is what was wanted.
            let _ = kill_process(process, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn children_of_children_belong_to_the_tree_and_end_with_it() {
        let mut child = Command::new("sh").args(["-c", "sh -c 'sleep 60; true'; true"]).stdin(Stdio::null()).spawn().unwrap();
        let tree = loop {
            let tree = Tree::below(child.id());
            if tree.processes.len() == 3 {
                break tree;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        };
        assert_eq!(tree.processes[0], child.id());
        assert!(tree.resident > 0);
        end_tree(child.id());
        assert!(!child.wait().unwrap().success());
        for process in &tree.processes[1..] {
            while status(*process).is_some_and(|status| status.resident > 0) {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        }
    }

    #[test]
    fn what_is_gone_has_no_memory() {
        assert_eq!(Tree::below(u32::MAX), Tree::default());
    }
}
