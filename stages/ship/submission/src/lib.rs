//! Packs the program `predict` and a model as the challenge takes them: TEAM.tar.gz, for `docker load`.

mod contents;

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use containers::{Engine, EngineChoice, Manifest, Tag, digest_of, write_archive};
use flate2::{Compression, write::GzEncoder};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use stage_kit::{ByCase, CaseSpec, CaseStage, Look, Role, Stage, StageIo, write_atomic, write_atomic_text};

use contents::Contents;

/// The parameters of `submission`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The name of the image and of its file: lower-case letters and digits, with single `.`, `_` or `-` between them.
    pub team: String,
    /// What packs the image.
    #[serde(default)]
    pub builder: Builder,
    /// Files of `libraries` that the program loads by itself, such as `libcudnn.so.9`. What they are linked to comes along.
    #[serde(default)]
    pub libraries: Vec<String>,
}

/// What packs an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Builder {
    /// This program: it needs no engine, and the same files give the same bytes.
    #[default]
    Own,
    /// Docker: its images differ by the time of making.
    Docker,
    /// Podman: likewise.
    Podman,
}

/// The stage `submission`.
pub struct Submission;

impl Stage for Submission {
    const NAME: &'static str = "submission";
    const REVISION: u32 = 1;
    const ABOUT: &'static str = "Packs `predict` and a model as the challenge takes them: a container image for `docker load`";
    const READS: &'static [Role] = &[
        Role::required("recipe", "a folder with Dockerfile and predict.sh, such as docker/"),
        Role::required("program", "the executable `predict`"),
        Role::required("model", "a file as `export` or a training writes it, or the folder that it is in"),
        Role::optional("libraries", "a folder of libraries that are loaded at run time, such as CUDA's"),
    ];
    const WRITES: &'static str = "TEAM.tar.gz; manifest.json: digests and sizes, and what is in the image";
    const PAPER: &'static str = "4.3; the challenge's rules";
    const EXAMPLE: &'static str = include_str!("../example.yaml");
    type Config = Config;

    const BY_CASE: Option<ByCase> = Some(ByCase::of::<Self>());

    fn check(config: &Config) -> Result<()> {
        config.team.parse::<Tag>().context("team")?;
        Ok(())
    }

    fn run(config: &Config, io: &StageIo) -> Result<()> {
        stage_kit::run_cases::<Self>(config, io)
    }
}

/// The image is one piece of work, and not a stage's whole, because what this machine adds to it (the C library, the shell) belongs
/// to its key.
impl CaseStage for Submission {
    type Job = Contents;
    type Tools = ();

    fn look(config: &Config, io: &StageIo) -> Result<Look<Contents>> {
        Ok(Look::of(Ok(vec![Contents::of(config, io)?])))
    }

    fn case(config: &Config, contents: &Contents) -> CaseSpec {
        let spec = CaseSpec::of(&config.team).depends_on(contents.of_this_machine.clone());
        spec.writes([archive_name(config), MANIFEST.to_owned()])
    }

    fn tools(_: &Config, _: &StageIo) -> Result<()> {
        Ok(())
    }

    fn work(config: &Config, io: &StageIo, (): &(), contents: &Contents) -> Result<()> {
        ensure_predict(io.input("program")?)?;
        let archive = io.output.join(archive_name(config));
        let (manifest, builder) = pack(config, io, contents, &archive)?;
        let file = digest_of(&archive)?;
        io.report.note(&format!("{}: {} of {:.1} MB, as a file {:.1} MB", io.node, manifest.image, mb(manifest.layer.size), mb(file.size)));
        let page = json!({
            "image": manifest.image,
            "id": manifest.id,
            "builder": builder,
            "base": "scratch",
            "layer": manifest.layer,
            "archive": {"file": archive_name(config), "digest": file.digest, "size": file.size},
            "files": contents.root.places().collect::<Vec<_>>(),
        });
        write_atomic_text(&io.output.join(MANIFEST), &(serde_json::to_string_pretty(&page)? + "\n"))
    }
}

/// Asks a program who it is: an image of another one would be packed all the same, and fail at its first scan.
fn ensure_predict(program: &Path) -> Result<()> {
    let path = fs::canonicalize(program).with_context(|| program.display().to_string())?;
    let failed = || format!("cannot start {}; expected is `predict`, built for this machine", program.display());
    let output = Command::new(path).arg("--version").stdin(Stdio::null()).output().with_context(failed)?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(
        said.starts_with("predict "),
        "{} --version prints `{}`, and expected is `predict VERSION`; give the program that `cargo build --release -p predict` makes",
        program.display(),
        said.lines().next().unwrap_or_default()
    );
    Ok(())
}

const MANIFEST: &str = "manifest.json";

fn archive_name(config: &Config) -> String {
    format!("{}.tar.gz", config.team)
}

fn mb(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Writes the archive, and tells who has done it.
fn pack(config: &Config, io: &StageIo, contents: &Contents, archive: &Path) -> Result<(Manifest, String)> {
    let tag: Tag = config.team.parse()?;
    let choice = match config.builder {
        Builder::Docker => EngineChoice::Docker,
        Builder::Podman => EngineChoice::Podman,
        Builder::Own => {
            let mut manifest = None;
            write_atomic(archive, |file| {
                manifest = Some(write_archive(&contents.root, &contents.recipe, &tag, file)?);
                Ok(())
            })?;
            return Ok((
                manifest.context("internal error: an archive without contents")?,
                concat!("own ", env!("CARGO_PKG_VERSION")).into(),
            ));
        }
    };
    let engine = Engine::find(choice).context("the parameter `builder` asks for an engine; with `own` it goes without")?;
    let context = tempfile::tempdir_in(&io.work).context("cannot make a folder for the engine")?;
    fs::copy(contents.recipe_file(), context.path().join(containers::RECIPE_FILE)).context("cannot copy the recipe")?;
    let root = context.path().join("root");
    fs::create_dir(&root).context("cannot make a folder for the engine")?;
    contents.root.lay_out(&root)?;
    engine.build(context.path(), &tag)?;
    let saved = context.path().join("image.tar");
    engine.save(&tag, &saved)?;
    write_atomic(archive, |file| {
        let mut packed = GzEncoder::new(file, Compression::default());
        std::io::copy(&mut fs::File::open(&saved)?, &mut packed)?;
        Ok(packed.finish()?.flush()?)
    })?;
    Ok((engine.manifest(&tag.to_string())?, engine.name()))
}
