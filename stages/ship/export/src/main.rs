//! The stage `export` as an executable of its own.

fn main() -> std::process::ExitCode {
    stage_kit::main::<export::Export>()
}
