//! Container images of one layer, made from nothing but files of this machine, and the engines that load and run them.
//!
//! A [`Recipe`] is a Dockerfile that begins with `FROM scratch` and copies one folder, `root/`; a [`Root`] is that folder before
//! it is anywhere. [`write_archive`] makes of both what `docker load` and `podman load` read, the same bytes wherever it runs;
//! an [`Engine`] can build the same image by itself.

mod archive;
mod engine;
mod error;
mod loader;
mod recipe;
mod root;

pub use archive::{Digested, Manifest, Tag, digest_of, write_archive};
pub use engine::{Engine, EngineChoice};
pub use error::ContainerError;
pub use loader::libraries;
pub use recipe::{RECIPE_FILE, Recipe};
pub use root::Root;
