//! State dicts that PyTorch has saved: names and tensors, as `torch.load` gives them.
//!
//! A `.pth` file is a program for Python's pickle machine. Here only what `torch.save` writes is understood, nothing is ever executed, and
//! time, memory and stack are bounded by the length of the file: objects refer to each other by number, so that neither deep nesting nor
//! tuples that double with every line cost more than their bytes.
//!
//! ```no_run
//! for (name, tensor) in pth::read("weights.pth".as_ref())? {
//!     println!("{name}: {:?}", tensor.shape);
//! }
//! # Ok::<(), pth::PthError>(())
//! ```

mod archive;
mod error;
mod machine;
mod object;
mod tensor;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use error::PthError;
pub use tensor::Tensor;

use archive::Archive;
use error::Problem;
use object::{Id, Object, Objects};

/// Reads the tensors of a state dict, whatever their layout in the file, as 32-bit floats in C order.
///
/// # Errors
/// When the file is missing or damaged, or holds something else; says what, and what to do.
pub fn read(path: &Path) -> Result<BTreeMap<String, Tensor>, PthError> {
    Saved::read(path)?.tensors(&[], |_| true)
}

/// What `torch.save` has written: a state dict, or a checkpoint that holds one beside other things.
pub struct Saved {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl Saved {
    /// Reads the file. What it holds shows when it is asked for.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(path: &Path) -> Result<Self, PthError> {
        let bytes = std::fs::read(path).map_err(|error| PthError { path: path.to_owned(), problem: Problem::Io(error) })?;
        Ok(Self { path: path.to_owned(), bytes })
    }

    /// The tensors of the state dict, by default that which the file is; if the file is a checkpoint, that under the first of the names
    /// `under` which it has. Only those whose name is `wanted` are read, and what else stands beside them is no error.
    ///
    /// # Errors
    /// As [`read`].
    pub fn tensors(&self, under: &[&str], wanted: impl Fn(&str) -> bool) -> Result<BTreeMap<String, Tensor>, PthError> {
        self.look(|archive| {
            let mut left = tensor::MOST_ELEMENTS;
            let mut tensors = BTreeMap::new();
            for (name, id) in entries(&archive.objects, state_dict(&archive.objects, archive.root, under))? {
                if wanted(&name) {
                    let tensor = tensor::read(archive, id, &mut left).map_err(|reason| Problem::Tensor { name: name.clone(), reason })?;
                    tensors.insert(name, tensor);
                }
            }
            Ok(tensors)
        })
    }

    /// The names of the state dict, those of [`Saved::tensors`] and all others.
    ///
    /// # Errors
    /// As [`read`].
    pub fn names(&self, under: &[&str]) -> Result<Vec<String>, PthError> {
        self.look(|archive| {
            let entries = entries(&archive.objects, state_dict(&archive.objects, archive.root, under))?;
            Ok(entries.into_iter().map(|(name, _)| name).collect())
        })
    }

    /// The text at the end of a way through dicts, if there is one.
    ///
    /// # Errors
    /// When the file is damaged.
    pub fn text(&self, way: &[&str]) -> Result<Option<String>, PthError> {
        self.look(|archive| {
            let objects = &archive.objects;
            let end = way.iter().try_fold(archive.root, |id, key| entry(objects, id, key));
            Ok(end.and_then(|id| objects.text(id)).map(str::to_owned))
        })
    }

    fn look<T>(&self, what: impl FnOnce(&Archive<'_>) -> Result<T, Problem>) -> Result<T, PthError> {
        let found = Archive::open(&self.bytes).and_then(|archive| what(&archive));
        found.map_err(|problem| PthError { path: self.path.clone(), problem })
    }
}

/// What a dict has under a name.
fn entry(objects: &Objects, dict: Id, name: &str) -> Option<Id> {
    let Object::Dict(pairs) = objects.get(dict) else { return None };
    pairs.iter().find(|(key, _)| objects.text(*key) == Some(name)).map(|(_, value)| *value)
}

/// The dict under the first of some names that there is, or the object itself.
fn state_dict(objects: &Objects, root: Id, under: &[&str]) -> Id {
    let mut inside = under.iter().filter_map(|name| entry(objects, root, name));
    inside.find(|id| matches!(objects.get(*id), Object::Dict(_))).unwrap_or(root)
}

/// The names and tensors of a state dict.
fn entries(objects: &Objects, root: Id) -> Result<Vec<(String, Id)>, Problem> {
    let pairs = match objects.get(root) {
        Object::Dict(pairs) => pairs,
        Object::Instance { class, .. } => return Err(Problem::Module { class: class.clone() }),
        other => return Err(Problem::NoStateDict { found: other.kind().into() }),
    };
    let is_tensor = |id: Id| matches!(objects.get(id), Object::Tensor { .. });
    let name = |id: Id| if let Object::Text(name) = objects.get(id) { name.clone() } else { "an entry that has no name".into() };
    if pairs.is_empty() {
        return Err(Problem::NoStateDict { found: "an empty dict".into() });
    }
    if !pairs.iter().any(|(_, value)| is_tensor(*value)) {
        let inside = |id: Id| matches!(objects.get(id), Object::Dict(pairs) if pairs.iter().any(|(_, value)| is_tensor(*value)));
        let nested: Vec<String> = pairs.iter().filter(|(_, value)| inside(*value)).map(|(key, _)| name(*key)).collect();
        let all = pairs.iter().map(|(key, _)| name(*key)).collect();
        return Err(Problem::Nested { all, nested });
    }
    match pairs.iter().find(|(_, value)| !is_tensor(*value)) {
        Some((key, value)) => Err(Problem::NoTensor { name: name(*key), found: objects.get(*value).kind().into() }),
        None => Ok(pairs.iter().map(|(key, value)| (name(*key), *value)).collect()),
    }
}
