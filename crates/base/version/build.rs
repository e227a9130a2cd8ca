//! Finds out the commit that a program is built from.

use std::path::Path;
use std::process::Command;

/// What programs are made of, from the top of the repository.
const SOURCES: [&str; 4] = ["crates", "stages", "Cargo.toml", "Cargo.lock"];

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..");
    for source in SOURCES {
        println!("cargo:rerun-if-changed={}", root.join(source).display());
    }
    let git = |arguments: &[&str]| {
        let output = Command::new("git").arg("-C").arg(&root).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    // Of sources without a repository nothing is known.
    let commit = git(&["rev-parse", "--short=12", "HEAD"]).map_or_else(String::new, |commit| {
        if let Some(log) = git(&["rev-parse", "--path-format=absolute", "--git-path", "logs/HEAD"]).filter(|log| Path::new(log).exists()) {
            println!("cargo:rerun-if-changed={log}");
        }
        let changed = git(&[&["status", "--porcelain", "--"][..], &SOURCES].concat()).is_none_or(|changes| !changes.is_empty());
        format!(" ({commit}{})", if changed { ", changed" } else { "" })
    });
    println!("cargo:rustc-env=VERSION={}{commit}", env!("CARGO_PKG_VERSION"));
}
