//! Files that appear whole under their name, or not at all.
//!
//! A [`WholeFile`] is written under a temporary name in the same folder, and gets its own name when it is finished. Whoever is
//! killed meanwhile leaves the temporary file behind. Its writer holds a lock on it, which ends with the process however that
//! ends: a temporary file whose lock can be had is dead, and [`sweep`] removes it. So does everybody who begins to write into a
//! folder.

mod manner;
mod temporary;

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

pub use manner::{Finished, durable_later, gathered};
pub use temporary::{PREFIX, remove_unfinished, sweep};

use temporary::Temporary;

/// A file in the making; it is removed unless it is [finished](WholeFile::finish).
#[derive(Debug)]
pub struct WholeFile {
    path: PathBuf,
    temporary: Temporary,
    file: File,
}

impl WholeFile {
    /// Begins the file that is to be at `path`, in a folder that is there.
    ///
    /// # Errors
    /// When the system does not let us write there.
    pub fn create(path: &Path) -> io::Result<Self> {
        let (temporary, file) = Temporary::beside(path)?;
        Ok(Self { path: path.to_owned(), temporary, file })
    }

    /// The file itself, for those who write at places of their choice.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Brings the file to the disk and gives it its name, in place of what is there.
    ///
    /// # Errors
    /// When the system does not let us.
    pub fn finish(self) -> io::Result<()> {
        let Self { path, temporary, file } = self;
        let durable = !manner::is_durable_later();
        if durable {
            file.sync_all()?;
        }
        temporary.rename(&path)?;
        if durable {
            // The name itself reaches the disk with its folder. Not every file system lets a folder be synced; the file is
            // whole either way.
            let _ = File::open(folder_of(&path)).and_then(|folder| folder.sync_all());
        }
        manner::gather(path, file);
        Ok(())
    }
}

impl Write for WholeFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// The folder that a file is in.
fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_when_it_is_finished_and_not_at_all_when_it_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        let names = || std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
        let mut whole = WholeFile::create(&path).unwrap();
        whole.write_all(b"one").unwrap();
        assert!(!path.exists() && names().len() == 1);
        drop(whole);
        assert!(names().is_empty());
        for text in ["one", "two"] {
            let mut whole = WholeFile::create(&path).unwrap();
            whole.write_all(text.as_bytes()).unwrap();
            whole.finish().unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(names(), ["a.txt"]);
    }

    #[test]
    fn files_that_a_thread_finishes_are_gathered_with_what_is_in_them() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str| {
            let mut whole = WholeFile::create(&folder.path().join(name)).unwrap();
            whole.write_all(name.as_bytes()).unwrap();
            whole.finish().unwrap();
        };
        let ((), files) = gathered(|| ["a", "b"].into_iter().for_each(write));
        write("c");
        // What others put into its place later is another file.
        write("a");
        let read = |Finished { path, mut file }: Finished| {
            use std::io::{Read as _, Seek as _};
            let mut text = String::new();
            file.rewind().unwrap();
            file.read_to_string(&mut text).unwrap();
            (path.file_name().unwrap().to_owned(), text, std::os::unix::fs::MetadataExt::nlink(&file.metadata().unwrap()))
        };
        let found: Vec<_> = files.into_iter().map(read).collect();
        assert_eq!(found, [("a".into(), "a".into(), 0), ("b".into(), "b".into(), 1)]);
    }
}
