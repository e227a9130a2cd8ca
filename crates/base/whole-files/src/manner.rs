//! How this thread finishes its files.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::path::PathBuf;

thread_local! {
    static DURABLE_LATER: Cell<bool> = const { Cell::new(false) };
    static GATHERED: RefCell<Option<Vec<Finished>>> = const { RefCell::new(None) };
}

/// A finished file: its name, and the file itself, whatever has been put in its place since.
#[derive(Debug)]
pub struct Finished {
    /// The name that it was given.
    pub path: PathBuf,
    /// The file, open for reading and writing.
    pub file: File,
}

/// Runs `work`, whose files need not be on the disk for good when they are renamed: whoever calls this sees to it for all of
/// them at once, before anybody is told of them. Files that `work` writes on other threads are not spared.
pub fn durable_later<T>(work: impl FnOnce() -> T) -> T {
    struct Before(bool);
    impl Drop for Before {
        fn drop(&mut self) {
            DURABLE_LATER.set(self.0);
        }
    }
    let _before = Before(DURABLE_LATER.replace(true));
    work()
}

pub(crate) fn is_durable_later() -> bool {
    DURABLE_LATER.get()
}

/// Runs `work`, and hands out the files that it has finished on this thread.
pub fn gathered<T>(work: impl FnOnce() -> T) -> (T, Vec<Finished>) {
    struct Before(Option<Vec<Finished>>);
    impl Drop for Before {
        fn drop(&mut self) {
            GATHERED.set(self.0.take());
        }
    }
    let before = Before(GATHERED.replace(Some(Vec::new())));
    let made = work();
    let files = GATHERED.take().unwrap_or_default();
    drop(before);
    (made, files)
}

pub(crate) fn gather(path: PathBuf, file: File) {
    GATHERED.with_borrow_mut(|files| files.as_mut().map(|files| files.push(Finished { path, file })));
}
