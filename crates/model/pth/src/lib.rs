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
use std::path::Path;

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
    let at = |problem| PthError { path: path.to_owned(), problem };
    let bytes = std::fs::read(path).map_err(|error| at(Problem::Io(error)))?;
    state_dict(&bytes).map_err(at)
}

fn state_dict(bytes: &[u8]) -> Result<BTreeMap<String, Tensor>, Problem> {
    let archive = Archive::open(bytes)?;
    let entries = entries(&archive.objects, archive.root)?;
    let mut left = tensor::MOST_ELEMENTS;
    let mut tensors = BTreeMap::new();
    for (name, id) in entries {
        let tensor = tensor::read(&archive, id, &mut left).map_err(|reason| Problem::Tensor { name: name.clone(), reason })?;
        tensors.insert(name, tensor);
    }
    Ok(tensors)
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
