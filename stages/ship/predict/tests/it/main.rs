//! `predict` as a user calls it, with a student of random weights.

mod bench;
mod files;
mod formats;
mod labels;
mod looks;
mod models;
