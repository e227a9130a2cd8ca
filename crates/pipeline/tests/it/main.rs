//! Whole runs of the example `toy`, a program with three tiny stages.
//!
//! - `files`: what is wrong with a pipeline file is told before any work
//! - `cache`: what is run again, and what is not
//! - `looks`: graph, diff, report, completions
//! - `trouble`: failures, kills, two runners

mod cache;
mod files;
mod lab;
mod looks;
mod trouble;
