//! A program with four tiny stages, which shows all that a program with stages needs, and serves the tests.
//!
//! `cargo run -p pipeline --example toy -- run --pipeline FILE`

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::{Context, Result};
use pipeline::cli::{Program, main as program_main};
use pipeline::{Node, NodeView, Snapshot};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use stage_kit::{
    ABOUT, Ahead, ByCase, CaseSpec, CaseStage, Chore, Cost, Entry, Forecast, LeftOut, Look, Lot, Outlook, Role, Stage, StageIo,
    write_atomic_text,
};

/// Writes each word of a text into a file of its own.
struct Words;

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct WordsConfig {
    /// The words, with blanks between them.
    text: String,
    /// Letters that do not count.
    #[serde(default)]
    without: String,
    /// Whether to note when the words were written.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    dated: bool,
}

impl Stage for Words {
    const NAME: &'static str = "words";
    const REVISION: u32 = 1;
    const ABOUT: &'static str = "writes each word into a file";
    const READS: &'static [Role] = &[Role::optional("more", "a file with more words")];
    const WRITES: &'static str = "words/N.txt and count.txt";
    const PAPER: &'static str = "none";
    type Config = WordsConfig;

    fn check(config: &WordsConfig) -> Result<()> {
        anyhow::ensure!(!config.text.is_empty(), "`text` must have a word");
        Ok(())
    }

    /// The words of the parameter, and of the file as many as it has bytes: a guess that is too high.
    fn forecast(config: &WordsConfig, ahead: &Ahead) -> Result<Forecast> {
        let more = ahead.path("more").map(|more| Ok::<_, std::io::Error>(more.metadata()?.len())).transpose()?;
        #[expect(clippy::cast_precision_loss, reason = "files are small")]
        let words = (config.text.split_whitespace().count() as u64 + more.unwrap_or_default()) as f64;
        let outlook = Outlook::of_scans(Lot::of(words, [1.0; 3], [1.0; 3]));
        Ok(Forecast { outlook, bytes: 10.0 * words, ..Forecast::default() })
    }

    fn run(config: &WordsConfig, io: &StageIo) -> Result<()> {
        let mut text = config.text.replace(|letter| config.without.contains(letter), "");
        if let Some(more) = io.input_opt("more")? {
            text.push_str(&read(more)?);
        }
        let words: Vec<&str> = text.split_whitespace().collect();
        let progress = io.report.start(&io.node, "words", words.len() as u64);
        for (index, word) in words.iter().enumerate() {
            write_atomic_text(&io.output.join(format!("words/{index}.txt")), word)?;
            progress.step(word);
        }
        if config.dated {
            write_atomic_text(&io.output.join(ABOUT).join("when.txt"), &format!("{:?}\n", SystemTime::now()))?;
        }
        write_atomic_text(&io.output.join("count.txt"), &words.len().to_string())
    }
}

/// Joins the words of many inputs, slowly if asked to, with a checkpoint after each.
struct Join;

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct JoinConfig {
    /// What stands between two words.
    glue: String,
    /// Milliseconds of work for each word.
    #[serde(default)]
    delay_ms: u64,
    /// The word at which it fails.
    #[serde(default)]
    fails_at: Option<String>,
}

impl Stage for Join {
    const NAME: &'static str = "join";
    const REVISION: u32 = 1;
    const ABOUT: &'static str = "joins the words of many inputs";
    const READS: &'static [Role] = &[Role::many("parts", "folders of words")];
    const WRITES: &'static str = "joined.txt";
    const PAPER: &'static str = "none";
    type Config = JoinConfig;

    fn forecast(config: &JoinConfig, ahead: &Ahead) -> Result<Forecast> {
        let count = ahead.inputs_under("parts").iter().filter_map(|(_, part)| part.all()).map(|lot| lot.cases()).sum();
        let chores = vec![Chore { what: "words", count, sample: serde_json::json!({"delay_ms": config.delay_ms}) }];
        Ok(Forecast { chores, ..Forecast::default() })
    }

    /// A word takes as long as its delay, which a clock would blur.
    fn sample(config: &JoinConfig, _: &Ahead, _: &Chore, io: &StageIo) -> Result<Cost> {
        let delay = std::time::Duration::from_millis(config.delay_ms);
        std::thread::sleep(delay);
        write_atomic_text(&io.work.join("joined-so-far.txt"), "word")?;
        Ok(Cost { seconds: delay.as_secs_f64(), bytes: 5.0 })
    }

    fn run(config: &JoinConfig, io: &StageIo) -> Result<()> {
        let mut words = Vec::new();
        for (_, folder) in io.inputs_under("parts") {
            let list = std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
            let mut files: Vec<_> = list.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
            files.sort();
            files.iter().try_for_each(|file| words.push_read(file))?;
        }
        let checkpoint = io.work.join("joined-so-far.txt");
        let mut joined: Vec<String> =
            if checkpoint.is_file() { read(&checkpoint)?.lines().map(str::to_owned).collect() } else { Vec::new() };
        let progress = io.report.start(&io.node, "words", words.len() as u64);
        io.report.note(&format!("{} of {} words were joined before", joined.len(), words.len()));
        for word in words.iter().skip(joined.len()) {
            anyhow::ensure!(config.fails_at.as_ref() != Some(word), "the word {word} cannot be joined");
            std::thread::sleep(std::time::Duration::from_millis(config.delay_ms));
            joined.push(word.clone());
            write_atomic_text(&checkpoint, &joined.join("\n"))?;
            progress.step(word);
        }
        write_atomic_text(&io.output.join("joined.txt"), &joined.join(&config.glue))
    }
}

trait PushRead {
    fn push_read(&mut self, path: &Path) -> Result<()>;
}

impl PushRead for Vec<String> {
    fn push_read(&mut self, path: &Path) -> Result<()> {
        self.push(read(path)?);
        Ok(())
    }
}

/// Counts the bytes of a file or of the files in a folder.
struct Measure;

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct MeasureConfig {}

impl Stage for Measure {
    const NAME: &'static str = "measure";
    const REVISION: u32 = 1;
    const ABOUT: &'static str = "counts bytes";
    const READS: &'static [Role] = &[Role::required("what", "a file or folder")];
    const WRITES: &'static str = "bytes.md";
    const PAPER: &'static str = "none";
    type Config = MeasureConfig;

    fn run(_: &MeasureConfig, io: &StageIo) -> Result<()> {
        let what = io.input("what")?;
        let mut bytes = 0;
        if what.is_dir() {
            for entry in std::fs::read_dir(what)? {
                bytes += entry?.metadata()?.len();
            }
        } else {
            bytes = what.metadata()?.len();
        }
        write_atomic_text(&io.output.join("bytes.md"), &format!("{bytes} bytes\n"))
    }
}

/// Writes the content of every file of a folder in capitals, each file as a case, slowly if asked to.
struct Shout;

#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ShoutConfig {
    /// What stands after each text.
    #[serde(default)]
    mark: String,
    /// Milliseconds of work for each file.
    #[serde(default)]
    delay_ms: u64,
    /// The file at which it fails.
    #[serde(default)]
    fails_at: Option<String>,
    /// What stands at the head of the list of all, which matters to no single file.
    #[serde(default)]
    title: String,
}

impl Stage for Shout {
    const NAME: &'static str = "shout";
    const REVISION: u32 = 1;
    const ABOUT: &'static str = "writes each file in capitals";
    const READS: &'static [Role] =
        &[Role::required("texts", "a folder of files").by_case(), Role::optional("ending", "a file that is added to each")];
    const WRITES: &'static str = "loud/NAME and list.txt";
    const PAPER: &'static str = "none";
    type Config = ShoutConfig;
    const BY_CASE: Option<ByCase> = Some(ByCase::of::<Self>());

    fn run(config: &ShoutConfig, io: &StageIo) -> Result<()> {
        stage_kit::run_cases::<Self>(config, io)
    }
}

/// A text to shout.
struct Text {
    name: String,
    path: PathBuf,
}

impl CaseStage for Shout {
    type Job = Text;
    type Tools = String;

    fn look(_: &ShoutConfig, io: &StageIo) -> Result<Look<Text>> {
        let folder = io.input("texts")?;
        let list = std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
        let text = |path: PathBuf| Text { name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(), path };
        let mut texts: Vec<Text> = list.map(|entry| Ok(text(entry?.path()))).collect::<std::io::Result<_>>()?;
        texts.sort_by(|a, b| a.name.cmp(&b.name));
        anyhow::ensure!(!texts.is_empty(), "there is nothing in {}", folder.display());
        Ok(Look::of(Ok(texts)))
    }

    fn case(_: &ShoutConfig, text: &Text) -> CaseSpec {
        let name = text.name.split('.').next().unwrap_or_default();
        CaseSpec::of(name).reads("text", &text.path).writes([format!("loud/{}", text.name)]).keeps([text.name.clone()])
    }

    fn case_params(config: &ShoutConfig) -> Result<serde_json::Value> {
        Ok(serde_json::to_value(ShoutConfig { title: String::new(), ..config.clone() })?)
    }

    fn tools(_: &ShoutConfig, io: &StageIo) -> Result<String> {
        io.input_opt("ending")?.map_or(Ok(String::new()), read)
    }

    fn work(config: &ShoutConfig, io: &StageIo, ending: &String, text: &Text) -> Result<()> {
        anyhow::ensure!(config.fails_at.as_ref() != Some(&text.name), "{} cannot be shouted", text.name);
        std::thread::sleep(std::time::Duration::from_millis(config.delay_ms));
        let quiet = read(&text.path)?;
        let loud = quiet.to_uppercase() + &config.mark + ending;
        write_atomic_text(&io.work.join(&text.name), &format!("{}\n", loud.len()))?;
        write_atomic_text(&io.output.join("loud").join(&text.name), &loud)
    }

    fn finish(config: &ShoutConfig, io: &StageIo, texts: &[Text]) -> Result<Vec<LeftOut>> {
        let lengths: Result<Vec<String>> = texts.iter().map(|text| read(&io.work.join(&text.name))).collect();
        write_atomic_text(&io.output.join("list.txt"), &format!("{}\n{}", config.title, lengths?.concat()))?;
        Ok(Vec::new())
    }
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

const STAGES: &[Entry] = &[Entry::of::<Words>(), Entry::of::<Join>(), Entry::of::<Measure>(), Entry::of::<Shout>()];

fn main() -> ExitCode {
    program_main(&Program { name: "toy", about: "A pipeline of tiny stages", version: "toy 1", stages: STAGES, report: page, init })
}

/// A file without nodes.
fn init(_: &[(String, std::path::PathBuf)], _: Option<f64>) -> Result<String> {
    Ok("seed: 1\nnodes: {}\n".to_owned())
}

/// A page that lists the nodes and how they stand.
fn page(seen: &Snapshot<'_>) -> Result<String> {
    let row = |(node, view): (&Node, &NodeView)| format!("<li>{}: {}</li>", node.name, view.state.word());
    Ok(format!("<ul>{}</ul>\n", seen.pipeline.nodes.iter().zip(&seen.nodes).map(row).collect::<String>()))
}
