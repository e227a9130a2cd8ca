//! The files of an image.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use tar::{Builder, EntryType, Header};

use crate::error::ContainerError;

/// Folders, files and links by their path in the image, without the leading `/`. All belong to root.
#[derive(Clone, Debug, Default)]
pub struct Root {
    entries: BTreeMap<String, Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    Folder { mode: u32 },
    File { mode: u32, from: Source },
    Link { to: String },
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    Path(PathBuf),
    Text(String),
}

const READABLE: u32 = 0o644;
const EXECUTABLE: u32 = 0o755;

impl Root {
    fn insert(&mut self, place: &Path, entry: Entry) -> Result<(), ContainerError> {
        let mut parents: Vec<&Path> = place.ancestors().skip(1).filter(|parent| parent.file_name().is_some()).collect();
        parents.reverse();
        for parent in parents {
            self.entries.entry(key(parent)).or_insert(Entry::Folder { mode: EXECUTABLE });
        }
        let name = key(place);
        match self.entries.get(&name) {
            Some(there) if *there != entry && !matches!((there, &entry), (Entry::Folder { .. }, Entry::Folder { .. })) => {
                Err(ContainerError::Twice(name))
            }
            _ => {
                self.entries.insert(name, entry);
                Ok(())
            }
        }
    }

    /// A folder with its permissions.
    ///
    /// # Errors
    /// When something else is there.
    pub fn folder(&mut self, place: &str, mode: u32) -> Result<(), ContainerError> {
        self.insert(Path::new(place), Entry::Folder { mode })
    }

    /// A file with this content that everybody may read.
    ///
    /// # Errors
    /// When something else is there.
    pub fn text(&mut self, place: &str, text: &str) -> Result<(), ContainerError> {
        self.insert(Path::new(place), Entry::File { mode: READABLE, from: Source::Text(text.to_owned()) })
    }

    /// A copy of a file that everybody may read.
    ///
    /// # Errors
    /// When something else is there.
    pub fn file(&mut self, place: &Path, from: &Path) -> Result<(), ContainerError> {
        self.insert(place, Entry::File { mode: READABLE, from: Source::Path(from.to_owned()) })
    }

    /// A copy of a file that everybody may run.
    ///
    /// # Errors
    /// When something else is there.
    pub fn program(&mut self, place: &Path, from: &Path) -> Result<(), ContainerError> {
        self.insert(place, Entry::File { mode: EXECUTABLE, from: Source::Path(from.to_owned()) })
    }

    /// A symbolic link.
    ///
    /// # Errors
    /// When something else is there.
    pub fn link(&mut self, place: &str, to: &str) -> Result<(), ContainerError> {
        self.insert(Path::new(place), Entry::Link { to: to.to_owned() })
    }

    /// The path of everything, in order.
    pub fn places(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Everything as a tar archive, in which only names, permissions and contents tell one from another.
    ///
    /// # Errors
    /// Names the file that cannot be read; or that `out` cannot be written.
    pub fn write_layer(&self, out: impl Write) -> Result<(), ContainerError> {
        let mut layer = Builder::new(out);
        for (place, entry) in &self.entries {
            let write = |layer: &mut Builder<_>| match entry {
                Entry::Folder { mode } => {
                    layer.append_data(&mut header(EntryType::Directory, *mode, 0), format!("{place}/"), std::io::empty())
                }
                Entry::File { mode, from: Source::Text(text) } => {
                    layer.append_data(&mut header(EntryType::Regular, *mode, text.len() as u64), place, text.as_bytes())
                }
                Entry::File { mode, from: Source::Path(path) } => {
                    let file = File::open(path)?;
                    layer.append_data(&mut header(EntryType::Regular, *mode, file.metadata()?.len()), place, file)
                }
                Entry::Link { to } => layer.append_link(&mut header(EntryType::Symlink, 0o777, 0), place, to),
            };
            write(&mut layer).map_err(ContainerError::file("pack", &entry.shown(place)))?;
        }
        layer.into_inner().map(drop).map_err(ContainerError::file("pack", Path::new("the layer")))
    }

    /// Everything as a folder, for an engine to copy.
    ///
    /// # Errors
    /// Names what cannot be read or written.
    pub fn lay_out(&self, folder: &Path) -> Result<(), ContainerError> {
        for (place, entry) in &self.entries {
            let path = folder.join(place);
            let write = || match entry {
                Entry::Folder { mode } => {
                    fs::create_dir_all(&path).and_then(|()| fs::set_permissions(&path, Permissions::from_mode(*mode)))
                }
                Entry::File { mode, from } => match from {
                    Source::Text(text) => fs::write(&path, text),
                    Source::Path(from) => fs::copy(from, &path).map(drop),
                }
                .and_then(|()| fs::set_permissions(&path, Permissions::from_mode(*mode))),
                Entry::Link { to } => symlink(to, &path),
            };
            write().map_err(ContainerError::file("lay out", &path))?;
        }
        Ok(())
    }
}

impl Entry {
    /// The file to name when something is wrong with it.
    fn shown(&self, place: &str) -> PathBuf {
        match self {
            Self::File { from: Source::Path(path), .. } => path.clone(),
            _ => Path::new("/").join(place),
        }
    }
}

fn key(place: &Path) -> String {
    place.to_string_lossy().trim_matches('/').to_owned()
}

/// A header that tells nothing of when and by whom it was made.
fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_files_give_the_same_bytes_in_whatever_order_they_come() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a");
        fs::write(&file, "one").unwrap();
        let layer = |swapped: bool| {
            let mut root = Root::default();
            if swapped {
                root.text("/etc/passwd", "x").unwrap();
                root.program(Path::new("/bin/a"), &file).unwrap();
            } else {
                root.program(Path::new("/bin/a"), &file).unwrap();
                root.text("/etc/passwd", "x").unwrap();
            }
            root.folder("/tmp", 0o1777).unwrap();
            root.link("/bin/sh", "a").unwrap();
            let mut bytes = Vec::new();
            root.write_layer(&mut bytes).unwrap();
            (root, bytes)
        };
        let (root, before) = layer(false);
        assert_eq!(root.places().collect::<Vec<_>>(), ["bin", "bin/a", "bin/sh", "etc", "etc/passwd", "tmp"]);
        // Another time and other permissions on this machine are nothing to the image.
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        File::options().write(true).open(&file).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
        assert!(layer(true).1 == before);

        let mut entries = Vec::new();
        for entry in tar::Archive::new(&before[..]).entries().unwrap() {
            let entry = entry.unwrap();
            entries.push((
                entry.path().unwrap().to_str().unwrap().to_owned(),
                entry.header().mode().unwrap(),
                entry.header().uid().unwrap(),
            ));
        }
        assert_eq!(entries[1], ("bin/a".to_owned(), 0o755, 0));
        assert_eq!(entries[5], ("tmp/".to_owned(), 0o1777, 0));

        let out = folder.path().join("out");
        fs::create_dir(&out).unwrap();
        root.lay_out(&out).unwrap();
        assert_eq!(fs::read_to_string(out.join("bin/sh")).unwrap(), "one");
        assert_eq!(fs::metadata(out.join("bin/a")).unwrap().permissions().mode() & 0o7777, 0o755);
    }

    #[test]
    fn one_place_holds_one_thing() {
        let mut root = Root::default();
        root.text("/etc/passwd", "x").unwrap();
        root.text("/etc/passwd", "x").unwrap();
        assert!(root.text("/etc/passwd", "y").is_err());
        assert!(root.folder("/etc/passwd", 0o755).is_err());
        root.folder("/etc", 0o700).unwrap();
    }

    #[test]
    fn a_file_that_is_gone_is_named() {
        let mut root = Root::default();
        root.file(Path::new("/a"), Path::new("/absent/file")).unwrap();
        let error = root.write_layer(Vec::new()).unwrap_err().to_string();
        assert!(error.contains("/absent/file"), "{error}");
    }
}
