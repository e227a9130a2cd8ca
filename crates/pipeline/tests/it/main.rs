//! Whole runs of the example `toy`, a program with four tiny stages.
//!
//! - `files`: what is wrong with a pipeline file is told before any work
//! - `cache`: what is run again, and what is not
//! - `cases`: stages that work case by case
//! - `trouble`: failures, kills, two runners

mod cache;
mod cases;
mod files;
mod lab;
mod trouble;
