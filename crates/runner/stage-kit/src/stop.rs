//! How work is asked to end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

/// Sets the returned flag when the process is asked to end; a second signal ends it at once. SIGUSR1 asks as well, however often: it is
/// what launchers of several processes hand on to them.
///
/// # Errors
/// When the kernel refuses the handlers.
pub fn stop_on_signals() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&stop))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)))
            .context("cannot listen for signals")?;
    }
    signal_hook::flag::register(SIGUSR1, Arc::clone(&stop)).context("cannot listen for signals")?;
    Ok(stop)
}

/// Has a process that is asked to end remove the files that it has not finished, and then end as it would have. For work
/// that has nothing to save at its end.
///
/// # Errors
/// When the kernel refuses the handlers.
pub(crate) fn tidy_on_signals() -> Result<()> {
    static LISTENS: AtomicBool = AtomicBool::new(false);
    if LISTENS.swap(true, Ordering::Relaxed) {
        return Ok(());
    }
    let mut signals = Signals::new([SIGINT, SIGTERM]).context("cannot listen for signals")?;
    std::thread::spawn(move || {
        for signal in signals.forever() {
            whole_files::remove_unfinished();
            let _ = emulate_default_handler(signal);
        }
    });
    Ok(())
}
