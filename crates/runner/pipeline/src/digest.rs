//! Digests of files and folders, by content alone, and an index that spares hashing what has not changed.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use rayon::prelude::*;
use walkdir::WalkDir;

/// The digest of a file (`file:…`) or a folder (`tree:…`), in hexadecimal digits of BLAKE3.
pub type Digest = String;

/// What a folder holds: relative path → BLAKE3 of the content. Times, modes and empty folders do not count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree(pub BTreeMap<String, String>);

impl Tree {
    /// One line per file, as `b3sum` writes and checks them.
    #[must_use]
    pub fn text(&self) -> String {
        case_store::tree_text(&self.0)
    }

    /// Reads [`Tree::text`].
    #[must_use]
    pub fn parse(text: &str) -> Self {
        Self(text.lines().filter_map(|line| line.split_once("  ")).map(|(hash, path)| (path.to_owned(), hash.to_owned())).collect())
    }

    /// The digest of the whole.
    #[must_use]
    pub fn digest(&self) -> Digest {
        case_store::tree_digest(&self.0)
    }

    /// What stands in an object, taken apart: the result, by which others go, and what only tells about the work.
    #[must_use]
    pub fn split(self) -> (Self, Self) {
        let (about, result) = self.0.into_iter().partition(|(path, _)| Path::new(path).starts_with(stage_kit::ABOUT));
        (Self(result), Self(about))
    }

    /// The digest of the file or folder at `sub`, and its tree if it is a folder; `None` when nothing is there.
    #[must_use]
    pub fn at(&self, sub: &str) -> Option<(Digest, Option<Tree>)> {
        if let Some(hash) = self.0.get(sub) {
            return Some((format!("file:{hash}"), None));
        }
        let inside = |(path, hash): (&String, &String)| Some((path.strip_prefix(sub)?.strip_prefix('/')?.to_owned(), hash.clone()));
        let tree = Tree(self.0.iter().filter_map(inside).collect());
        (!tree.0.is_empty()).then(|| (tree.digest(), Some(tree)))
    }
}

/// What tells that a file is still the one that was hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Stat {
    device: u64,
    inode: u64,
    size: u64,
    modified_ns: i128,
    changed_ns: i128,
}

impl Stat {
    fn of(meta: &std::fs::Metadata) -> Self {
        let ns = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            modified_ns: ns(meta.mtime(), meta.mtime_nsec()),
            changed_ns: ns(meta.ctime(), meta.ctime_nsec()),
        }
    }

    /// A file that changed just now may change again within the resolution of its times.
    fn settled(&self) -> bool {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let age = i128::try_from(now.as_nanos()).unwrap_or(i128::MAX) - self.modified_ns.max(self.changed_ns);
        age > i128::try_from(SETTLED.as_nanos()).unwrap_or(i128::MAX)
    }

    fn line(&self, hash: &str) -> String {
        let Self { device, inode, size, modified_ns, changed_ns } = self;
        format!("{device} {inode} {size} {modified_ns} {changed_ns} {hash}\n")
    }

    fn parse(line: &str) -> Option<(Self, String)> {
        let mut parts = line.split(' ');
        let stat = Self {
            device: parts.next()?.parse().ok()?,
            inode: parts.next()?.parse().ok()?,
            size: parts.next()?.parse().ok()?,
            modified_ns: parts.next()?.parse().ok()?,
            changed_ns: parts.next()?.parse().ok()?,
        };
        let hash = parts.next().filter(|hash| hash.len() == 2 * blake3::OUT_LEN)?;
        Some((stat, hash.to_owned()))
    }
}

const SETTLED: Duration = Duration::from_secs(1);

/// How much hashing calls for a word to the user.
const MUCH_BYTES: u64 = 4 << 30;

/// Hashes of files that were seen before. It spares reading; whether something changed is decided by hashes alone.
pub struct Hasher {
    index: PathBuf,
    trust_index: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// (device, inode) → the file as it was hashed.
    known: HashMap<(u64, u64), (Stat, String)>,
    grown: bool,
}

impl Hasher {
    /// Opens the index at `index`, which need not exist. With `trust_index` false every file is read.
    #[must_use]
    pub fn open(index: &Path, trust_index: bool) -> Self {
        // A missing or damaged index only costs time.
        let text = if trust_index { std::fs::read_to_string(index).unwrap_or_default() } else { String::new() };
        let known = unsealed(&text).lines().filter_map(Stat::parse).map(|(stat, hash)| ((stat.device, stat.inode), (stat, hash))).collect();
        Self { index: index.to_owned(), trust_index, state: Mutex::new(State { known, grown: false }) }
    }

    /// Whether files are read even though the index knows them.
    #[must_use]
    pub fn reads_everything(&self) -> bool {
        !self.trust_index
    }

    /// The digest of a file or folder, and the tree of a folder. `note` is told when much has to be read.
    ///
    /// # Errors
    /// When the file cannot be read, or the folder cannot be listed. What cannot be read in a folder counts as such.
    pub fn digest(&self, path: &Path, note: &dyn Fn(String)) -> Result<(Digest, Option<Tree>)> {
        if path.is_file() {
            return Ok((format!("file:{}", self.file(path)?), None));
        }
        let tree = self.tree(path, note)?;
        Ok((tree.digest(), Some(tree)))
    }

    /// The tree of a folder; links are followed.
    ///
    /// # Errors
    /// As [`Hasher::digest`].
    pub fn tree(&self, folder: &Path, note: &dyn Fn(String)) -> Result<Tree> {
        let files = files_in(folder)?;
        let unread: u64 =
            files.iter().filter_map(|(_, _, stat)| *stat).filter(|stat| self.known(stat).is_none()).map(|stat| stat.size).sum();
        if unread > MUCH_BYTES {
            note(format!("reading {} once, for its digest: {} files, {} GiB not seen before", folder.display(), files.len(), unread >> 30));
        }
        let hash = |path: &Path, stat: Option<Stat>| stat.and_then(|stat| self.hash(path, &stat).ok()).unwrap_or_else(unreadable);
        Ok(Tree(files.into_par_iter().map(|(name, path, stat)| (name, hash(&path, stat))).collect()))
    }

    /// BLAKE3 of one file, in hexadecimal digits.
    ///
    /// # Errors
    /// Names the file that cannot be read.
    pub fn file(&self, path: &Path) -> Result<String> {
        let meta = path.metadata().with_context(|| format!("cannot read {}", path.display()))?;
        self.hash(path, &Stat::of(&meta))
    }

    fn known(&self, stat: &Stat) -> Option<String> {
        let state = self.lock();
        state.known.get(&(stat.device, stat.inode)).filter(|(known, _)| known == stat).map(|(_, hash)| hash.clone())
    }

    fn hash(&self, path: &Path, before: &Stat) -> Result<String> {
        if let Some(hash) = self.known(before) {
            return Ok(hash);
        }
        let read = || -> std::io::Result<(String, Stat)> {
            let file = File::open(path)?;
            let hash = case_store::hash_of(&file)?;
            Ok((hash, Stat::of(&file.metadata()?)))
        };
        let (hash, after) = read().with_context(|| format!("cannot read {}", path.display()))?;
        if after == *before && after.settled() {
            let mut state = self.lock();
            state.known.insert((after.device, after.inode), (after, hash.clone()));
            state.grown = true;
        }
        Ok(hash)
    }

    /// Writes the index, if it has grown.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn save(&self) -> Result<()> {
        let mut state = self.lock();
        if !std::mem::take(&mut state.grown) {
            return Ok(());
        }
        let lines: String = state.known.values().map(|(stat, hash)| stat.line(hash)).collect();
        stage_kit::write_atomic_text(&self.index, &sealed(&lines))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // Entries are inserted whole, so that a panic elsewhere leaves nothing half done.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Lines with a last one that tells whether they are whole: a flipped bit in a hash would pass for another content.
pub(crate) fn sealed(lines: &str) -> String {
    format!("{lines}{}\n", blake3::hash(lines.as_bytes()))
}

/// The lines that [`sealed`] was given; none if any bit of them has changed.
pub(crate) fn unsealed(text: &str) -> &str {
    let Some((lines, seal)) = text.len().checked_sub(2 * blake3::OUT_LEN + 1).and_then(|at| text.split_at_checked(at)) else { return "" };
    if blake3::hash(lines.as_bytes()).to_hex().as_str() == seal.trim_end() { lines } else { "" }
}

/// All files below `folder`: relative name, path and stat. What cannot be read, such as a link that leads nowhere, has no stat: it
/// costs what it concerns, and whoever needs it says so.
fn files_in(folder: &Path) -> Result<Vec<(String, PathBuf, Option<Stat>)>> {
    let mut files = Vec::new();
    for entry in WalkDir::new(folder).follow_links(true) {
        let (path, stat) = match entry {
            Ok(entry) if entry.file_type().is_file() => (entry.path().to_owned(), entry.metadata().ok().map(|meta| Stat::of(&meta))),
            Ok(_) => continue,
            Err(error) => match error.path().filter(|path| *path != folder) {
                Some(path) => (path.to_owned(), None),
                None => return Err(error).with_context(|| format!("cannot list {}", folder.display())),
            },
        };
        files.push((name_in(&path, folder), path, stat));
    }
    Ok(files)
}

/// The relative name as text; bytes that are no text, and line breaks, are written as `\xff`.
fn name_in(path: &Path, folder: &Path) -> String {
    let relative = path.strip_prefix(folder).unwrap_or(path);
    match relative.to_str().filter(|name| !name.contains('\n')) {
        Some(name) => name.to_owned(),
        None => relative.as_os_str().as_encoded_bytes().escape_ascii().to_string(),
    }
}

/// In place of the hash of a file that cannot be read.
fn unreadable() -> String {
    blake3::hash(b"a file that cannot be read").to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quiet(_: String) {}

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("sub")).unwrap();
        std::fs::write(folder.path().join("a.txt"), "one").unwrap();
        std::fs::write(folder.path().join("sub/b.txt"), "two").unwrap();
        folder
    }

    fn hasher(at: &Path) -> Hasher {
        Hasher::open(&at.join("index"), true)
    }

    #[test]
    fn a_digest_depends_on_names_and_contents_alone() {
        let (one, two, store) = (folder(), folder(), tempfile::tempdir().unwrap());
        let digest = |folder: &Path| hasher(store.path()).digest(folder, &quiet).unwrap().0;
        assert_eq!(digest(one.path()), digest(two.path()));
        std::fs::create_dir(two.path().join("empty")).unwrap();
        assert_eq!(digest(one.path()), digest(two.path()), "an empty folder is nothing");
        std::fs::rename(two.path().join("a.txt"), two.path().join("c.txt")).unwrap();
        assert_ne!(digest(one.path()), digest(two.path()));
    }

    #[test]
    fn what_cannot_be_read_costs_itself_and_no_more() {
        use std::os::unix::ffi::OsStrExt as _;
        let (one, two, store) = (folder(), folder(), tempfile::tempdir().unwrap());
        let tree = |folder: &Path| hasher(store.path()).tree(folder, &quiet).unwrap();
        std::os::unix::fs::symlink("/nowhere", one.path().join("gone")).unwrap();
        std::os::unix::fs::symlink(".", one.path().join("sub/circle")).unwrap();
        std::fs::write(one.path().join(std::ffi::OsStr::from_bytes(b"m\xfcller")), "three").unwrap();
        let found = tree(one.path());
        assert_eq!(found.0.keys().collect::<Vec<_>>(), ["a.txt", "gone", "m\\xfcller", "sub/b.txt", "sub/circle"]);
        assert_eq!((&found.0["a.txt"], &found.0["gone"]), (&tree(two.path()).0["a.txt"], &unreadable()));
        std::fs::remove_file(one.path().join("gone")).unwrap();
        assert_ne!(tree(one.path()), found, "that a link leads nowhere is a part of what is there");
    }

    #[test]
    fn a_part_of_a_tree_has_the_digest_that_it_would_have_alone() {
        let (one, store) = (folder(), tempfile::tempdir().unwrap());
        let hasher = hasher(store.path());
        let tree = hasher.tree(one.path(), &quiet).unwrap();
        assert_eq!(tree.at("sub").unwrap().0, hasher.digest(&one.path().join("sub"), &quiet).unwrap().0);
        assert_eq!(tree.at("sub/b.txt").unwrap().0, hasher.digest(&one.path().join("sub/b.txt"), &quiet).unwrap().0);
        assert_eq!(tree.at("su"), None);
        assert_eq!(Tree::parse(&tree.text()), tree);
    }

    #[test]
    fn the_index_is_used_only_for_the_very_file_and_only_once_it_has_settled() {
        let (one, store) = (folder(), tempfile::tempdir().unwrap());
        let path = one.path().join("a.txt");
        let fresh = hasher(store.path());
        let hash = fresh.file(&path).unwrap();
        fresh.save().unwrap();
        assert!(!store.path().join("index").exists(), "a file that was written just now is not trusted to stay");
        std::thread::sleep(SETTLED + Duration::from_millis(100));
        let settled = hasher(store.path());
        settled.file(&path).unwrap();
        settled.save().unwrap();
        // A lie in the index shows when the index is used.
        let text = std::fs::read_to_string(store.path().join("index")).unwrap();
        let lie = unsealed(&text).replace(&hash, &"0".repeat(64));
        std::fs::write(store.path().join("index"), text.replace(&hash, &"0".repeat(64))).unwrap();
        assert_eq!(hasher(store.path()).file(&path).unwrap(), hash, "a damaged index is not believed");
        std::fs::write(store.path().join("index"), sealed(&lie)).unwrap();
        assert_eq!(hasher(store.path()).file(&path).unwrap(), "0".repeat(64));
        assert_eq!(Hasher::open(&store.path().join("index"), false).file(&path).unwrap(), hash, "--verify reads the file");
        std::fs::write(&path, "eno").unwrap();
        assert_ne!(hasher(store.path()).file(&path).unwrap(), "0".repeat(64), "a file of the same size that changed is read");
    }
}
