//! Images as `docker load` and `podman load` read them.

use std::fmt;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek as _, Write};
use std::path::Path;
use std::str::FromStr;

use flate2::{Compression, write::GzEncoder};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tar::{Builder, Header};

use crate::error::ContainerError;
use crate::recipe::Recipe;
use crate::root::Root;

/// The name of an image, whose tag is `latest`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag(String);

impl Tag {
    /// The name without the tag.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:latest", self.0)
    }
}

impl FromStr for Tag {
    type Err = ContainerError;

    fn from_str(text: &str) -> Result<Self, ContainerError> {
        let plain = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        let sound = text.len() <= 128 && text.split(['.', '_', '-']).all(plain);
        if sound { Ok(Self(text.to_owned())) } else { Err(ContainerError::Name(text.to_owned())) }
    }
}

/// Something by its size and its digest, as engines write it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digested {
    /// `sha256:…`.
    pub digest: String,
    /// In bytes.
    pub size: u64,
}

/// What an archive holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// `team:latest`.
    pub image: String,
    /// What engines call the image by: the digest of its configuration.
    pub id: String,
    /// The files of the image, packed and not compressed.
    pub layer: Digested,
}

/// Writes the image as a compressed archive. The bytes follow from the files, the recipe and the name alone.
///
/// # Errors
/// Names the file that cannot be read or written.
pub fn write_archive(root: &Root, recipe: &Recipe, tag: &Tag, out: impl Write) -> Result<Manifest, ContainerError> {
    let scratch = |reason| ContainerError::File { doing: "write", path: "the layer of the image".into(), reason };
    // The archive names the layer by its digest before it holds it.
    let mut layer = Hashing::new(BufWriter::new(tempfile::tempfile().map_err(scratch)?));
    root.write_layer(&mut layer)?;
    let (inner, digested) = layer.finish();
    let mut layer = inner.into_inner().map_err(|error| scratch(error.into_error()))?;
    layer.rewind().map_err(scratch)?;

    let config = config(recipe, &digested.digest).to_string();
    let id = format!("sha256:{}", hex(&Sha256::digest(&config)));
    let (config_name, layer_name) = (format!("{}.json", hash(&id)), format!("{}/layer.tar", hash(&digested.digest)));
    let contents = json!([{"Config": config_name, "RepoTags": [tag.to_string()], "Layers": [layer_name]}]).to_string();
    let mut archive = Builder::new(GzEncoder::new(out, Compression::default()));
    let write = || {
        append(&mut archive, &config_name, config.len() as u64, config.as_bytes())?;
        append(&mut archive, &layer_name, digested.size, &mut BufReader::new(layer))?;
        append(&mut archive, "manifest.json", contents.len() as u64, contents.as_bytes())?;
        archive.into_inner()?.finish()?.flush()
    };
    write().map_err(scratch)?;
    Ok(Manifest { image: tag.to_string(), id, layer: digested })
}

fn append<W: Write>(archive: &mut Builder<W>, name: &str, size: u64, data: impl Read) -> std::io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(size);
    header.set_mtime(0);
    archive.append_data(&mut header, name, data)
}

/// The configuration of an image by the OCI's specification, which Docker's archives share.
fn config(recipe: &Recipe, layer: &str) -> serde_json::Value {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    // The time of making would make every image another one.
    let created = "1970-01-01T00:00:00Z";
    json!({
        "architecture": architecture,
        "os": "linux",
        "created": created,
        "config": {"Env": recipe.environment, "User": recipe.user, "WorkingDir": recipe.folder, "Cmd": recipe.command},
        "rootfs": {"type": "layers", "diff_ids": [layer]},
        "history": [{"created": created, "created_by": "COPY root/ /"}],
    })
}

/// The digest of a file.
///
/// # Errors
/// When it cannot be read.
pub fn digest_of(path: &Path) -> Result<Digested, ContainerError> {
    let mut hashing = Hashing::new(std::io::sink());
    File::open(path).and_then(|mut file| std::io::copy(&mut file, &mut hashing)).map_err(ContainerError::file("read", path))?;
    Ok(hashing.finish().1)
}

/// A writer that knows the digest of what went through it.
struct Hashing<W> {
    inner: W,
    hash: Sha256,
    size: u64,
}

impl<W: Write> Hashing<W> {
    fn new(inner: W) -> Self {
        Self { inner, hash: Sha256::new(), size: 0 }
    }

    fn finish(self) -> (W, Digested) {
        let digest = format!("sha256:{}", hex(&self.hash.finalize()));
        (self.inner, Digested { digest, size: self.size })
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hash(digest: &str) -> &str {
    digest.trim_start_matches("sha256:")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn image() -> (Root, Recipe) {
        let mut root = Root::default();
        root.text("/etc/passwd", "nobody").unwrap();
        let recipe = Recipe { user: "1000:1000".into(), command: vec!["/bin/sh".into()], ..Recipe::default() };
        (root, recipe)
    }

    #[test]
    fn an_archive_is_the_same_bytes_each_time_and_its_digests_hold() {
        let (root, recipe) = image();
        let archive = |recipe: &Recipe| {
            let mut bytes = Vec::new();
            let manifest = write_archive(&root, recipe, &"team".parse().unwrap(), &mut bytes).unwrap();
            (manifest, bytes)
        };
        let (manifest, bytes) = archive(&recipe);
        assert!(archive(&recipe) == (manifest.clone(), bytes.clone()));
        assert_ne!(archive(&Recipe::default()).0.id, manifest.id);

        let mut files = BTreeMap::new();
        for entry in tar::Archive::new(flate2::read::GzDecoder::new(&bytes[..])).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            files.insert(entry.path().unwrap().to_str().unwrap().to_owned(), content);
        }
        let list: serde_json::Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
        assert_eq!(list[0]["RepoTags"], json!(["team:latest"]));
        let config = &files[list[0]["Config"].as_str().unwrap()];
        assert_eq!(manifest.id, format!("sha256:{}", hex(&Sha256::digest(config))));
        let layer = &files[list[0]["Layers"][0].as_str().unwrap()];
        let config: serde_json::Value = serde_json::from_slice(config).unwrap();
        assert_eq!(config["rootfs"]["diff_ids"][0], format!("sha256:{}", hex(&Sha256::digest(layer))));
        assert_eq!((manifest.layer.size, config["config"]["User"].as_str()), (layer.len() as u64, Some("1000:1000")));
    }

    #[test]
    fn names_are_those_that_engines_take() {
        for good in ["team", "flare23-team_a.b", "7"] {
            assert_eq!(good.parse::<Tag>().unwrap().to_string(), format!("{good}:latest"));
        }
        for bad in ["", "Team", "a b", "a/b", "-a", "a--b", "a:b", "é"] {
            assert!(bad.parse::<Tag>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_digest_is_sha_256() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, "abc").unwrap();
        let expected = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest_of(&path).unwrap(), Digested { digest: expected.into(), size: 3 });
    }
}
