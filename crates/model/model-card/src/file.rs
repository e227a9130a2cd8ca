//! Where models lie.

use std::path::{Path, PathBuf};

/// The name under which a model is exported and looked for.
pub const MODEL_FILE: &str = "model.safetensors";

/// The name under which trainings write their models.
pub const WEIGHTS_FILE: &str = "weights.safetensors";

/// The file of a model: itself, or the one in a folder that `export` or a training has written.
#[must_use]
pub fn model_file(path: &Path) -> PathBuf {
    if !path.is_dir() {
        return path.to_owned();
    }
    let [exported, trained] = [MODEL_FILE, WEIGHTS_FILE].map(|name| path.join(name));
    if trained.is_file() && !exported.is_file() { trained } else { exported }
}
