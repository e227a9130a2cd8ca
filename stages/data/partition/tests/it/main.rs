//! Tiny datasets of several makes, with everything that can be wrong in them.

mod data;
mod flare;
mod refused;
mod several;
mod splits;
