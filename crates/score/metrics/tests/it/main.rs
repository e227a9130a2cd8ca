//! Scores against reference values, their laws, and the tables made of them.

mod classes;
mod golden;
mod laws;
mod tables;
