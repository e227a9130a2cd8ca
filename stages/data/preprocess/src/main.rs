//! The executable of the stage `preprocess`.

fn main() -> std::process::ExitCode {
    stage_kit::main::<preprocess::Preprocess>()
}
