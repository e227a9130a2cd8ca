//! The stage `measure` as an executable of its own.

fn main() -> std::process::ExitCode {
    stage_kit::main::<measure::Measure>()
}
