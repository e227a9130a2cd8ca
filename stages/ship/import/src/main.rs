//! The stage `import` as an executable of its own.

fn main() -> std::process::ExitCode {
    stage_kit::main::<import::Import>()
}
