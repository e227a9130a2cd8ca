//! The stage `convert` as an executable of its own.

fn main() -> std::process::ExitCode {
    stage_kit::main::<convert::Convert>()
}
