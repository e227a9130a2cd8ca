//! A stage that works by case and runs without a runner: an output counts as done only if it is what was asked for.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use stage_kit::{ByCase, CaseSpec, CaseStage, DeviceChoice, Entry, Look, Role, Stage, StageIo, write_atomic_text};

/// Writes texts between two others.
struct Frame;

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    before: String,
    /// Writes two files for each text.
    #[serde(default)]
    twice: bool,
}

impl Stage for Frame {
    const NAME: &'static str = "frame";
    const REVISION: u32 = 1;
    const ABOUT: &'static str = "Writes texts between two others";
    const READS: &'static [Role] = &[Role::required("texts", "texts").by_case(), Role::required("after", "what comes after")];
    const WRITES: &'static str = "NAME.txt";
    const PAPER: &'static str = "none";
    type Config = Config;
    const BY_CASE: Option<ByCase> = Some(ByCase::of::<Self>());

    fn run(config: &Config, io: &StageIo) -> Result<()> {
        stage_kit::run_cases::<Self>(config, io)
    }
}

impl CaseStage for Frame {
    type Job = PathBuf;
    type Tools = String;

    fn look(_: &Config, io: &StageIo) -> Result<Look<PathBuf>> {
        let mut files: Vec<PathBuf> = fs::read_dir(io.input("texts")?)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        files.retain(|path| path.extension().is_some_and(|extension| extension == "in" || extension == "In"));
        files.sort();
        Ok(Look::of(Ok(files)))
    }

    fn case(config: &Config, text: &PathBuf) -> CaseSpec {
        let id = text.file_stem().unwrap().to_str().unwrap();
        // A text that is named `out.` asks for the name of another one.
        let name = id.strip_prefix("as_").map_or_else(|| format!("{id}.txt"), str::to_owned);
        let files = if config.twice { vec![name.clone(), format!("{name}.2")] } else { vec![name] };
        CaseSpec::of(id).reads("text", text).writes(files)
    }

    fn tools(_: &Config, io: &StageIo) -> Result<String> {
        Ok(fs::read_to_string(io.input("after")?)?)
    }

    fn work(config: &Config, io: &StageIo, after: &String, text: &PathBuf) -> Result<()> {
        let read = fs::read_to_string(text).with_context(|| format!("cannot read {}", text.display()))?;
        match read.strip_prefix("change ") {
            // Somebody replaces the file while it is being read.
            Some(rest) => fs::write(text, rest)?,
            None => anyhow::ensure!(read != "bad", "{} is bad", text.display()),
        }
        for file in Self::case(config, text).output {
            write_atomic_text(&io.output.join(file), &format!("{}{read}{after}", config.before))?;
        }
        Ok(())
    }
}

/// A folder with the inputs, and what the stage last made of them.
struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let bench = Self { folder: tempfile::tempdir().unwrap() };
        fs::create_dir(bench.path("texts")).unwrap();
        for (name, text) in [("texts/a.in", "a"), ("texts/b.in", "b"), ("after", ".")] {
            bench.put(name, text);
        }
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn put(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn io(&self, output: &str) -> StageIo {
        let inputs = ["texts", "after"].map(|role| (role, self.path(role)));
        StageIo { device: DeviceChoice::Cpu, ..StageIo::new("frame", inputs, self.path(output), self.path("work"), 1) }
    }

    fn run_with(&self, before: &str, io: &StageIo) -> Result<()> {
        Entry::of::<Frame>().run(json!({"before": before}), io)
    }

    /// Runs the stage; gives the names of the files that were written anew.
    #[track_caller]
    fn run(&self, before: &str) -> Vec<String> {
        let earlier = self.inodes();
        self.run_with(before, &self.io("out")).unwrap();
        let new = |(name, inode): (String, u64)| (earlier.get(&name) != Some(&inode)).then_some(name);
        self.inodes().into_iter().filter_map(new).collect()
    }

    fn inodes(&self) -> BTreeMap<String, u64> {
        let entries = fs::read_dir(self.path("out")).into_iter().flatten().flatten();
        entries.map(|entry| (entry.file_name().into_string().unwrap(), entry.path().symlink_metadata().unwrap().ino())).collect()
    }

    fn out(&self, name: &str) -> String {
        fs::read_to_string(self.path("out").join(name)).unwrap()
    }
}

#[test]
fn what_was_made_from_the_same_is_not_made_again() {
    let bench = Bench::new();
    assert_eq!(bench.run("-"), ["a.txt", "b.txt"]);
    assert_eq!(bench.run("-"), [""; 0]);
    // Another time of writing and another place are no other input.
    bench.put("texts/a.in", "a");
    fs::rename(bench.path("texts"), bench.path("texts2")).unwrap();
    symlink("texts2", bench.path("texts")).unwrap();
    assert_eq!(bench.run("-"), [""; 0]);
    assert_eq!(bench.inodes().len(), 2, "no file is added to the folder");
}

#[test]
fn what_was_made_from_something_else_is_made_anew() {
    let bench = Bench::new();
    bench.run("-");
    assert_eq!(bench.run("+"), ["a.txt", "b.txt"], "another parameter");
    bench.put("after", "!");
    assert_eq!(bench.run("+"), ["a.txt", "b.txt"], "another shared input");
    bench.put("texts/a.in", "A");
    assert_eq!(bench.run("+"), ["a.txt"], "another file of one case");
    assert_eq!((bench.out("a.txt"), bench.out("b.txt")), ("+A!".into(), "+b!".into()));
    let other_seed = StageIo { seed: 2, ..bench.io("out") };
    let before = bench.inodes();
    bench.run_with("+", &other_seed).unwrap();
    assert!(bench.inodes().iter().all(|(name, inode)| before[name] != *inode), "another seed");
    let before = bench.inodes();
    bench.run_with("+", &StageIo { device: DeviceChoice::Auto, ..other_seed }).unwrap();
    assert!(bench.inodes().iter().all(|(name, inode)| before[name] != *inode), "another device");
    bench.run("+");
    bench.put("texts/c.in", "c");
    assert_eq!(bench.run("+"), ["c.txt"], "another case more");
}

#[test]
fn whatever_else_lies_under_the_name_of_an_output_is_made_anew() {
    let bench = Bench::new();
    bench.run("-");
    let path = bench.path("out/a.txt");
    let changes: [(&str, &dyn Fn()); 7] = [
        ("empty", &|| drop(fs::File::create(&path).unwrap())),
        ("cut", &|| fs::write(&path, "-").unwrap()),
        ("edited", &|| fs::write(&path, "-a,").unwrap()),
        ("a copy that says nothing of itself", &|| {
            let bytes = fs::read(&path).unwrap();
            fs::remove_file(&path).unwrap();
            fs::write(&path, bytes).unwrap();
        }),
        ("that of another case", &|| {
            fs::remove_file(&path).unwrap();
            fs::hard_link(bench.path("out/b.txt"), &path).unwrap();
        }),
        ("a link that leads nowhere", &|| {
            fs::remove_file(&path).unwrap();
            symlink("/nonexistent/x", &path).unwrap();
        }),
        ("a pipe", &|| {
            fs::remove_file(&path).unwrap();
            assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        }),
    ];
    for (what, change) in changes {
        change();
        assert_eq!(bench.run("-"), ["a.txt"].map(str::to_owned), "{what}: b stays and a is made");
        assert_eq!((bench.out("a.txt"), bench.out("b.txt")), ("-a.".into(), "-b.".into()), "{what}");
    }
}

#[test]
fn a_case_of_several_files_is_done_when_all_are_of_it() {
    let bench = Bench::new();
    let run = || Entry::of::<Frame>().run(json!({"before": "-", "twice": true}), &bench.io("out")).unwrap();
    run();
    let whole = bench.inodes();
    run();
    assert_eq!(bench.inodes(), whole);
    fs::remove_file(bench.path("out/a.txt.2")).unwrap();
    run();
    let again = bench.inodes();
    assert_eq!(again.len(), 4);
    assert!(again["b.txt"] == whole["b.txt"] && again["a.txt"] != whole["a.txt"]);
}

#[test]
fn a_folder_in_the_place_of_an_output_costs_its_case() {
    let bench = Bench::new();
    fs::create_dir_all(bench.path("out/a.txt")).unwrap();
    let error = bench.run_with("-", &bench.io("out")).unwrap_err().to_string();
    assert!(error.starts_with("1 of 2 cases failed") && error.contains("out/a.txt is a folder"), "{error}");
    assert_eq!(bench.out("b.txt"), "-b.");
}

#[test]
fn an_output_of_a_file_that_changed_while_it_was_read_is_named_and_does_not_count() {
    let bench = Bench::new();
    bench.put("texts/a.in", "change a");
    let error = bench.run_with("-", &bench.io("out")).unwrap_err().to_string();
    assert!(error.contains("case a: ") && error.contains("a.in was changed while it was read"), "{error}");
    assert_eq!(bench.run("-"), ["a.txt"]);
    assert_eq!(bench.out("a.txt"), "-a.");
}

#[test]
fn no_output_takes_the_place_of_an_input_or_of_another_output() {
    let bench = Bench::new();
    bench.put("texts/as_b.in.in", "x");
    // The folder of the outputs is that of the inputs, by another name.
    symlink("texts", bench.path("out")).unwrap();
    let error = bench.run_with("-", &bench.io("out")).unwrap_err().to_string();
    assert!(error.contains("case as_b.in: its output") && error.contains("out/b.in is an input of case b"), "{error}");
    assert_eq!(fs::read_to_string(bench.path("texts/b.in")).unwrap(), "b");

    let bench = Bench::new();
    bench.put("texts/a.In", "x");
    let error = bench.run_with("-", &bench.io("out")).unwrap_err().to_string();
    assert!(error.contains("texts/a.In and ") && error.contains("texts/a.in have the same output"), "{error}");
    assert!(!bench.path("out/a.txt").exists() && bench.out("b.txt") == "-b.");
}

#[test]
fn leftovers_of_the_killed_are_swept_even_if_nothing_is_left_to_do() {
    let bench = Bench::new();
    bench.run("-");
    bench.put("out/.writing-1-17-0", "half");
    assert_eq!(bench.run("-"), [""; 0]);
    assert_eq!(bench.inodes().len(), 2);
}

#[test]
fn unknown_inputs_are_refused_with_the_nearest_known_one() {
    let refused = |given: &[&str]| Entry::of::<Frame>().check_roles(given.iter().copied()).unwrap_err().to_string();
    assert_eq!(refused(&["txets"]), "stage frame has no input `txets` (did you mean `texts`?); its inputs are texts, after");
    assert_eq!(refused(&["texts", "weights"]), "stage frame has no input `weights`; its inputs are texts, after");
    assert_eq!(refused(&["texts.one"]), "stage frame has no input `texts.one` (did you mean `texts`?); its inputs are texts, after");
    assert_eq!(refused(&["after", "after"]), "the input `after` of stage frame is given twice; give it once");
    assert!(refused(&["after"]).starts_with("stage frame needs `--input texts=PATH` ("), "{}", refused(&["after"]));
    Entry::of::<Frame>().check_roles(["texts", "after"].into_iter()).unwrap();
}

#[test]
fn what_two_runs_write_at_once_carries_the_record_of_its_own_run() {
    let bench = Bench::new();
    let many: Vec<String> = (0..200).map(|n| format!("texts/{n}.in")).collect();
    many.iter().for_each(|name| bench.put(name, name));
    std::thread::scope(|scope| {
        for before in ["-", "+"] {
            let bench = &bench;
            scope.spawn(move || bench.run_with(before, &bench.io("out")).unwrap());
        }
    });
    // Whatever a run takes for its own is its own.
    bench.run("-");
    let all = |file: &Path| fs::read_to_string(file).unwrap().starts_with('-');
    assert!(fs::read_dir(bench.path("out")).unwrap().all(|entry| all(&entry.unwrap().path())));
}
