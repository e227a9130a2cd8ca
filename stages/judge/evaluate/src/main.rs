//! The stage `evaluate` as an executable of its own.

fn main() -> std::process::ExitCode {
    stage_kit::main::<evaluate::Evaluate>()
}
