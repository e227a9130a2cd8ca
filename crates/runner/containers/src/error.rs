//! What can go wrong with images and engines.

use std::path::{Path, PathBuf};

/// Why an image cannot be made, loaded or run.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    /// A file or folder cannot be read or written.
    #[error("cannot {doing} {path}: {reason}")]
    File {
        /// `read`, `write` and the like.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: std::io::Error,
    },
    /// A Dockerfile with something that only an engine understands.
    #[error("{path}, line {line}: {message}")]
    Recipe {
        /// The Dockerfile.
        path: PathBuf,
        /// Where.
        line: usize,
        /// What is wrong and what can be done.
        message: String,
    },
    /// A name that no engine takes.
    #[error("`{0}` cannot be the name of an image; it is made of lower-case letters and digits, with single `.`, `_` or `-` between them")]
    Name(String),
    /// The loader of this machine does not find what a program needs.
    #[error("{program}: {message}")]
    Loader {
        /// The program.
        program: PathBuf,
        /// What is missing and what can be done.
        message: String,
    },
    /// Two different files for one place.
    #[error("the image has two different things at /{0}")]
    Twice(String),
    /// No engine answers.
    #[error("no container engine works here: {0}")]
    NoEngine(String),
    /// An engine has refused.
    #[error("`{command}` failed ({status}): {said}")]
    Engine {
        /// What it was asked.
        command: String,
        /// How it ended.
        status: String,
        /// The end of what it said.
        said: String,
    },
}

impl ContainerError {
    pub(crate) fn file(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |reason| Self::File { doing, path: path.to_owned(), reason }
    }
}
