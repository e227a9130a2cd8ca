//! Why a file cannot be read.

use std::path::PathBuf;

/// A file that cannot be read, and why.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct PthError {
    /// The file.
    pub path: PathBuf,
    pub(crate) problem: Problem,
}

/// What was found, what was expected, and what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Problem {
    #[error("cannot read the file: {0}")]
    Io(std::io::Error),
    #[error("{0}; expected a PyTorch state dict as torch.save writes it; copy or save the file again")]
    Damaged(String),
    #[error("the file holds {0}; expected a PyTorch state dict: torch.save(model.state_dict(), FILE)")]
    Foreign(&'static str),
    #[error("the file holds a whole module ({class}); expected its state dict: torch.save(model.state_dict(), FILE)")]
    Module { class: String },
    #[error("the file holds {found}; expected a state dict, names with tensors: torch.save(model.state_dict(), FILE)")]
    NoStateDict { found: String },
    #[error(
        "the file holds a checkpoint with the entries {}; expected a state dict alone{}", .all.join(", "), remedy(nested)
    )]
    Nested { all: Vec<String>, nested: Vec<String> },
    #[error("`{name}` is {found}; expected nothing but tensors in a state dict: leave it out")]
    NoTensor { name: String, found: String },
    #[error("`{name}`: {reason}")]
    Tensor { name: String, reason: String },
}

fn remedy(nested: &[String]) -> String {
    match nested {
        [] => ": torch.save(model.state_dict(), FILE)".into(),
        [one, ..] => format!(", which is under `{one}`: torch.save(torch.load(FILE)[\"{one}\"], OTHER)"),
    }
}
