//! The memory of this process, where Linux tells. That of graphics cards is no part of it.

use crate::StageIo;

/// The memory for a scan that no worker of a stage should exceed.
const MOST_FOR_A_SCAN: usize = 1 << 30;

/// Reports the case that takes more memory than a worker should, and what to do.
pub fn note_memory(io: &StageIo, case: &str, what: &str, bytes: usize, remedy: &str) {
    if bytes > MOST_FOR_A_SCAN {
        let (found, most) = (bytes >> 20, MOST_FOR_A_SCAN >> 20);
        io.report.note(&format!("{}: case {case}: {what} take {found} MiB, more than the {most} MiB of other cases; {remedy}", io.node));
    }
}

/// The most bytes that the process has held at once since it began, or since [`forget_peak_memory`].
#[must_use]
pub fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

/// Lets the peak begin anew from what the process holds now. Returns whether the system did so.
#[must_use]
pub fn forget_peak_memory() -> bool {
    std::fs::write("/proc/self/clear_refs", "5").is_ok()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_peak_stays_until_it_is_forgotten() {
        const SIZE: u64 = 400 << 20;
        let held = vec![1_u8; SIZE as usize];
        assert!(held.iter().step_by(4096).all(|&byte| byte == 1));
        drop(held);
        let peak = peak_memory().unwrap();
        assert!(peak >= SIZE, "{peak}");
        if forget_peak_memory() {
            let left = peak_memory().unwrap();
            assert!(left + SIZE / 2 < peak, "{left} of {peak}");
        }
    }
}
