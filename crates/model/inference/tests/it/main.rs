//! From files of models to labels: students and 3-D networks of random weights, alone and together.

mod bench;
mod students;
mod together;
mod volumes;
