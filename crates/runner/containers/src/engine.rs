//! Docker and Podman, by their command lines.

use std::path::Path;
use std::process::{Command, Stdio};

use flate2::read::GzDecoder;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::archive::{Digested, Manifest, Tag};
use crate::error::ContainerError;
use crate::recipe::RECIPE_FILE;

/// Which engine to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EngineChoice {
    /// Docker if it answers, else Podman.
    #[default]
    Auto,
    /// Docker.
    Docker,
    /// Podman.
    Podman,
}

/// A container engine that answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Engine {
    program: &'static str,
    version: String,
}

/// How much of an engine's words goes into a message.
const SHOWN: usize = 2000;

impl Engine {
    /// The engine of this choice.
    ///
    /// # Errors
    /// When none answers: what each said, and what can be done.
    pub fn find(choice: EngineChoice) -> Result<Self, ContainerError> {
        let candidates: &[&'static str] = match choice {
            EngineChoice::Auto => &["docker", "podman"],
            EngineChoice::Docker => &["docker"],
            EngineChoice::Podman => &["podman"],
        };
        let mut said = Vec::new();
        for &program in candidates {
            // Of Docker only the server's answer says that it works.
            let format = if program == "docker" { "{{.Server.Version}}" } else { "{{.Client.Version}}" };
            match asked(Command::new(program).args(["version", "--format", format])) {
                Ok(version) => return Ok(Self { program, version }),
                Err(ContainerError::Engine { said: words, .. }) => said.push(format!("{program}: {words}")),
                Err(error) => said.push(error.to_string()),
            }
        }
        said.push("install docker or podman (Debian: `apt-get install docker.io` or `podman`), and start Docker's service".into());
        Err(ContainerError::NoEngine(said.join("; ")))
    }

    /// `docker 28.2.2`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{} {}", self.program, self.version)
    }

    /// A call of the engine.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.program);
        command.args(arguments);
        command
    }

    fn ask(&self, arguments: &[&str]) -> Result<String, ContainerError> {
        asked(&mut self.command(arguments))
    }

    /// Builds the image from a folder with a Dockerfile.
    ///
    /// # Errors
    /// With the engine's words.
    pub fn build(&self, context: &Path, tag: &Tag) -> Result<(), ContainerError> {
        let recipe = context.join(RECIPE_FILE);
        let (recipe, context, tag) = (recipe.to_string_lossy(), context.to_string_lossy(), self.full_name(tag));
        let mut build = self.command(&["build", "--network", "none", "--tag", &tag, "--file", &recipe, &context]);
        // The builder before BuildKit is in every Docker, and all that is asked of it is one copy.
        build.env("DOCKER_BUILDKIT", "0");
        asked(&mut build).map(drop)
    }

    /// Writes the image as an archive, not compressed.
    ///
    /// # Errors
    /// With the engine's words.
    pub fn save(&self, tag: &Tag, path: &Path) -> Result<(), ContainerError> {
        self.ask(&["save", "--output", &path.to_string_lossy(), &self.full_name(tag)]).map(drop)
    }

    /// Podman would else call it `localhost/team`, by which name Docker would then load it.
    fn full_name(&self, tag: &Tag) -> String {
        if self.program == "podman" { format!("docker.io/library/{tag}") } else { tag.to_string() }
    }

    /// Loads a compressed archive and returns the name of its image.
    ///
    /// # Errors
    /// When it cannot be read, and with the engine's words.
    pub fn load(&self, archive: &Path) -> Result<String, ContainerError> {
        let told = if self.program == "podman" {
            // Podman 4 reads archives of this kind only as they are without compression.
            let plain = unpacked(archive).map_err(ContainerError::file("unpack", archive))?;
            self.ask(&["load", "--input", &plain.path().to_string_lossy()])?
        } else {
            self.ask(&["load", "--input", &archive.to_string_lossy()])?
        };
        let name = told.lines().rev().find_map(|line| line.split_once("Loaded image").and_then(|(_, rest)| rest.split_once(": ")));
        let unclear = || ContainerError::Engine {
            command: format!("{} load --input {}", self.program, archive.display()),
            status: "no name of an image".into(),
            said: told.clone(),
        };
        name.map(|(_, name)| name.trim().to_owned()).ok_or_else(unclear)
    }

    /// What the engine knows of an image.
    ///
    /// # Errors
    /// With the engine's words.
    pub fn manifest(&self, image: &str) -> Result<Manifest, ContainerError> {
        let told = self.ask(&["image", "inspect", "--format", "{{.Id}} {{index .RootFS.Layers 0}} {{.Size}}", image])?;
        let mut words = told.split_whitespace();
        let mut word = || words.next().unwrap_or_default().to_owned();
        // Podman leaves the kind of digest out.
        let digest = |text: String| if text.contains(':') { text } else { format!("sha256:{text}") };
        let (id, layer) = (digest(word()), digest(word()));
        Ok(Manifest { image: image.to_owned(), id, layer: Digested { digest: layer, size: word().parse().unwrap_or(0) } })
    }

    /// The first process of a running container as this machine counts it; `None` before it runs and after, and when it runs on
    /// another machine.
    #[must_use]
    pub fn process(&self, container: &str) -> Option<u32> {
        let told = self.ask(&["container", "inspect", "--format", "{{.State.Pid}} {{.Id}}", container]).ok()?;
        let (process, id) = told.split_once(' ')?;
        // Under this number another machine's engine may mean a stranger here.
        let group = std::fs::read_to_string(format!("/proc/{process}/cgroup")).ok()?;
        process.parse().ok().filter(|_| group.contains(id))
    }

    /// Ends a container that may be running, and removes it.
    pub fn remove(&self, container: &str) {
        // One that has just ended by itself is what was wanted.
        let _ = self.ask(&["container", "rm", "--force", container]);
    }
}

fn unpacked(archive: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    let mut plain = tempfile::NamedTempFile::new()?;
    std::io::copy(&mut GzDecoder::new(std::fs::File::open(archive)?), &mut plain)?;
    Ok(plain)
}

/// What the command says on standard output.
fn asked(command: &mut Command) -> Result<String, ContainerError> {
    let shown = || {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    };
    let shown = shown();
    let failed = |status: String, said: String| ContainerError::Engine { command: shown, status, said };
    match command.stdin(Stdio::null()).output() {
        Err(error) => Err(failed("it cannot be started".into(), error.to_string())),
        Ok(output) if output.status.success() => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            let cut = said.char_indices().rev().nth(SHOWN).map_or(0, |(at, _)| at);
            Err(failed(output.status.to_string(), said[cut..].to_owned()))
        }
    }
}
