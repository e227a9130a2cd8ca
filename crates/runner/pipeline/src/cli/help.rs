//! Examples, which teach more than lists of options.

use clap::Command;

/// What stands below the help of each verb: lines of a command (without the program's name) and what it does.
const EXAMPLES: &[(&str, &[(&str, &str)])] = &[
    (
        "run",
        &[
            ("run", "everything that is not fresh"),
            ("run M_c steps", "these nodes and what they read"),
            ("run M_c --only --force", "this node alone, even if nothing has changed"),
            ("run -j 2 --keep-going", "two nodes at once; a failure stops only what depends on it"),
            ("run --set M_c.fit.epochs=30", "with another parameter; dots lead deeper"),
            ("run --dry-run", "only tell what would be run, how long it takes and how much disk; the exit code is 3 when there is work"),
            ("run --dry-run --measure", "measure a little of each kind of work for that; the store keeps what was measured"),
            ("run --dry-run --suppose FLARE23=4000,512x512x240,0.8x0.8x2.5", "for scans that are not here yet: how many, voxels, mm"),
        ],
    ),
    (
        "init",
        &[
            ("init KiTS=/data/kits LiTS=/data/lits", "writes pipeline.yaml: classes merged by name, what is unsure as comments"),
            ("init A=a B=b -o mine.yaml", "another file; then `run -p mine.yaml`"),
            ("init A=a B=b --spacing 3", "voxels of 3 mm: a small model, trained without a GPU"),
        ],
    ),
    (
        "status",
        &[
            ("status", "every node: fresh, stale, missing, running, queued, failed, begun or waiting"),
            ("status scores", "this node and what it reads"),
            ("status --json", "for programs: counts, sizes, times, and the time left"),
        ],
    ),
    (
        "explain",
        &[
            ("explain M_c", "which parameter, input or file has changed since the result was made"),
            ("explain segment[M_4]:FLARE23Ts_0001", "the same of one case"),
            ("explain M_c --set M_c.fit.epochs=30", "what another parameter would come to"),
        ],
    ),
    (
        "graph",
        &[
            ("graph --format svg > graph.svg", "a picture for browsers"),
            ("graph > graph.mmd", "Mermaid, for a Markdown page"),
            ("graph --format dot | dot -Tpdf -o graph.pdf", "with Graphviz"),
        ],
    ),
    (
        "log",
        &[
            ("log M_c", "what the stage said, of a failed attempt too"),
            ("log M_c | tail", "the end of it"),
            ("log segment[M_4]:FLARE23Ts_0001", "what was said of one case"),
        ],
    ),
    (
        "report",
        &[("report", "everything on one page, report.html"), ("report -p pipelines/demo.yaml -o demo.html", "of the demonstration")],
    ),
    ("diff", &[("diff pipelines/without-unlabeled.yaml", "with the file that it extends"), ("diff pipeline.yaml mine.yaml", "two files")]),
    (
        "schema",
        &[("schema > pipelines/schema.json", "then begin a file with"), ("", "# yaml-language-server: $schema=pipelines/schema.json")],
    ),
    (
        "completions",
        &[
            ("completions bash > ~/.local/share/bash-completion/completions/NAME", "for bash"),
            ("completions zsh > ~/.zfunc/_NAME", "for zsh, with ~/.zfunc in fpath"),
            ("completions fish > ~/.config/fish/completions/NAME.fish", "for fish"),
        ],
    ),
    (
        "stage",
        &[
            ("stage overlay --input labels=maps --output out --params p.yaml", "what `params:` of a node holds stands in p.yaml"),
            ("stage overlay --help", "inputs, outputs and parameters of that stage"),
        ],
    ),
    ("gc", &[("gc --dry-run", "what would be removed"), ("gc", "remove what no pipeline file reaches any more")]),
    ("verify", &[("verify", "read the whole store again; the next run makes anew what is damaged")]),
    ("unlock", &[("unlock", "list the locks, and remove those of dead processes"), ("unlock --force", "remove all of them")]),
    ("demo", &[("demo", "about seven minutes on two cores"), ("demo -j 2", "two nodes at once")]),
    (
        "stages",
        &[
            ("stages", "a line for each stage"),
            ("stages preprocess", "its inputs, its output, every parameter, and a node that works"),
            ("stages --markdown", "the list as a page, stages/README.md"),
        ],
    ),
];

/// The command with examples below each verb.
pub(super) fn with_examples(mut command: Command, name: &str) -> Command {
    for (verb, examples) in EXAMPLES {
        let text = text(examples, name);
        command = command.mut_subcommand(verb, |verb| verb.after_help(text));
    }
    command
}

fn text(examples: &[(&str, &str)], name: &str) -> String {
    let lines: Vec<(String, &str)> = examples
        .iter()
        .map(|(line, about)| (if line.is_empty() { String::new() } else { format!("{name} {}", line.replace("NAME", name)) }, *about))
        .collect();
    let width = lines.iter().map(|(line, _)| line.len()).max().unwrap_or(0);
    let line = |(line, about): &(String, &str)| format!("  {line:<width$}  {about}");
    format!("Examples:\n{}", lines.iter().map(line).collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use clap::error::ErrorKind;
    use clap::{CommandFactory as _, Parser as _};

    use super::*;
    use crate::cli::args::Cli;

    #[test]
    fn every_verb_has_examples() {
        let command = Cli::command();
        let verbs = command.get_subcommands().filter(|verb| !verb.is_hide_set()).map(Command::get_name);
        for verb in verbs {
            assert!(EXAMPLES.iter().any(|(known, _)| *known == verb), "give `{verb}` an example");
        }
    }

    #[test]
    fn the_examples_at_the_top_are_commands() {
        let text = crate::cli::args::examples("toy");
        let lines: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("  toy ")).collect();
        assert!(lines.len() >= 8, "{text}");
        for line in lines {
            let command = line.split("  ").next().unwrap_or_default();
            for words in command.split("; toy ") {
                if let Err(error) = Cli::try_parse_from(std::iter::once("toy").chain(words.split_whitespace())) {
                    panic!("{words}: {error}");
                }
            }
        }
    }

    #[test]
    fn every_example_is_a_command() {
        for (line, _) in EXAMPLES.iter().flat_map(|(_, examples)| *examples).filter(|(line, _)| !line.is_empty()) {
            let words = line.split(['>', '|']).next().unwrap_or_default().split_whitespace();
            let parsed = Cli::try_parse_from(std::iter::once("toy").chain(words));
            if let Some(error) = parsed.err().filter(|error| error.kind() != ErrorKind::DisplayHelp) {
                panic!("{line}: {error}");
            }
        }
    }
}
