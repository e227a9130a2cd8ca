//! The executable of the stage [`phantom`].

fn main() -> std::process::ExitCode {
    stage_kit::main::<phantom::Phantom>()
}
