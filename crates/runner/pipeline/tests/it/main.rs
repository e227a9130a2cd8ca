//! Whole runs of the example `toy`, a program with four tiny stages.
//!
//! - `files`: what is wrong with a pipeline file is told before any work
//! - `usage`: options, exit codes, and what can be told without data
//! - `forecast`: what a run will take
//! - `cache`: what is run again, and what is not
//! - `looks`: graph, diff, report, completions
//! - `cases`: stages that work case by case
//! - `trouble`: failures, kills, two runners
//! - `crash`: kills at random moments, and the ways in which other runners are known to break
//! - `care`: damage in the store, cleaning it up, locks of the dead
//! - `places`: disks that are full, read-only or gone
//! - `slurm`: the same on a real Slurm, where its packages are installed

mod cache;
mod care;
mod cases;
mod crash;
mod files;
mod forecast;
mod lab;
mod looks;
mod places;
mod slurm;
mod trouble;
mod usage;
