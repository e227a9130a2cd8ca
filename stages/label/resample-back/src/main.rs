//! The stage `resample-back` as an executable of its own.

fn main() -> std::process::ExitCode {
    stage_kit::main::<resample_back::ResampleBack>()
}
