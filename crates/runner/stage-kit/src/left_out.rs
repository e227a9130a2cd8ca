//! Files and cases that a stage leaves out: each is named with its reason, and the others go on.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::files::write_atomic_text;
use crate::io::{ABOUT, StageIo};
use crate::shown::some_of;

/// One reason to leave a case or a file out. A case can have several.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LeftOut {
    /// The case, or what can be told of its name.
    pub case: String,
    /// The file at fault.
    pub file: PathBuf,
    /// What was found.
    pub found: String,
    /// What was expected.
    pub expected: String,
    /// What to do.
    pub remedy: String,
}

impl LeftOut {
    /// Names some, in order.
    pub fn tell(left_out: &mut [Self], io: &StageIo) {
        if !left_out.is_empty() {
            left_out.sort();
            io.report.note(&format!("{}: {}", io.node, left_out_text(left_out)));
        }
    }
}

/// The list of what a stage left out, in the folder [`ABOUT`] of its output; also as `.md`. It is no part of the result: the
/// result is what was taken.
pub const LEFT_OUT_FILE: &str = "left_out.json";

/// What a stage left out, after it has done everything else.
#[derive(Debug, thiserror::Error)]
#[error("everything else is done, but {0} findings left cases out, as named above")]
pub(crate) struct SomeLeftOut(usize);

/// What is said of the entries of the folders that a stage lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Aside {
    /// What might have been meant as input, and is not used.
    pub left_out: Vec<LeftOut>,
    /// What has no part in it, such as `.DS_Store`.
    pub passed_over: Vec<PathBuf>,
}

impl Aside {
    /// Adds what was found in another folder.
    pub fn extend(&mut self, other: Self) {
        self.left_out.extend(other.left_out);
        self.passed_over.extend(other.passed_over);
    }

    /// For stages that do not work case by case: names everything, and keeps the list of what is left out beside the result.
    ///
    /// # Errors
    /// When the list cannot be written.
    pub fn tell_and_keep(&self, io: &StageIo) -> Result<()> {
        self.tell(io);
        write(io, &self.left_out)
    }

    /// Names everything.
    pub(crate) fn tell(&self, io: &StageIo) {
        if let Some(text) = self.passed_over_text() {
            io.report.note(&format!("{}: {text}", io.node));
        }
        if !self.left_out.is_empty() {
            let mut left_out = self.left_out.clone();
            left_out.sort();
            io.report.note(&format!("{}: {}", io.node, left_out_text(&left_out)));
        }
    }

    /// What was passed over, in a line; nothing if that is nothing.
    fn passed_over_text(&self) -> Option<String> {
        const SHOWN: usize = 4;
        let names: Vec<String> = self.passed_over.iter().map(|path| name_of(path)).collect();
        let entries = if names.len() == 1 { "other entry" } else { "other entries" };
        (!names.is_empty()).then(|| format!("passes over {} {entries}, which cannot be a scan: {}", names.len(), some_of(&names, SHOWN)))
    }
}

/// The last part of a path, for people.
#[must_use]
pub fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// The list as lines for a terminal: `left out 2 cases:` and a line for each reason.
#[must_use]
pub fn left_out_text(left_out: &[LeftOut]) -> String {
    let cases = left_out.iter().map(|one| one.case.as_str()).collect::<BTreeSet<_>>().len();
    let mut text = format!("left out {cases} {}:", if cases == 1 { "case" } else { "cases" });
    for LeftOut { case, file, found, expected, remedy } in left_out {
        // Writing to a String cannot fail.
        let _ = write!(text, "\n  case {case}: {}: {found}; expected {expected}; {remedy}", file.display());
    }
    text
}

fn markdown(left_out: &[LeftOut]) -> String {
    let mut text = String::from(
        "# Left out\n\nThese cases are in no list.\n\n| case | file | found | expected | what to do |\n|---|---|---|---|---|\n",
    );
    for LeftOut { case, file, found, expected, remedy } in left_out {
        let cells = [case, &file.display().to_string(), found, expected, remedy].map(|cell| cell.replace('|', "\\|").replace('\n', " "));
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    }
    text
}

/// Writes the list beside the result, if there is anything on it.
pub(crate) fn write(io: &StageIo, left_out: &[LeftOut]) -> Result<()> {
    let path = io.output.join(ABOUT).join(LEFT_OUT_FILE);
    for path in [&path, &path.with_extension("md")] {
        // An earlier attempt may have left more out.
        if path.exists() {
            std::fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    if left_out.is_empty() {
        return Ok(());
    }
    write_atomic_text(&path, &(serde_json::to_string_pretty(left_out)? + "\n"))?;
    write_atomic_text(&path.with_extension("md"), &markdown(left_out))
}

/// What the stage behind the result in `output` left out; nothing if it left nothing out, or keeps no such list.
#[must_use]
pub fn read_left_out(output: &Path) -> Vec<LeftOut> {
    let text = std::fs::read_to_string(output.join(ABOUT).join(LEFT_OUT_FILE)).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

/// As the end of a stage that runs alone: an error if anything was left out.
pub(crate) fn none(left_out: &[LeftOut]) -> Result<()> {
    if left_out.is_empty() { Ok(()) } else { Err(SomeLeftOut(left_out.len()).into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_passed_over_is_counted_with_examples() {
        let aside = |n: usize| Aside { passed_over: (0..n).map(|n| PathBuf::from(format!("in/.x{n}"))).collect(), ..Aside::default() };
        assert_eq!(aside(0).passed_over_text(), None);
        assert_eq!(aside(1).passed_over_text().unwrap(), "passes over 1 other entry, which cannot be a scan: .x0");
        assert_eq!(
            aside(6).passed_over_text().unwrap(),
            "passes over 6 other entries, which cannot be a scan: .x0, .x1, .x2, .x3 and 2 more"
        );
    }

    #[test]
    fn a_case_with_two_reasons_is_one_case() {
        let one = |file: &str| LeftOut { case: "a".into(), file: file.into(), found: "x".into(), expected: "y".into(), remedy: "z".into() };
        let text = left_out_text(&[one("f"), one("g")]);
        assert_eq!(text, "left out 1 case:\n  case a: f: x; expected y; z\n  case a: g: x; expected y; z");
    }
}
