//! The stage `submission` as an executable of its own.

fn main() -> std::process::ExitCode {
    stage_kit::main::<submission::Submission>()
}
