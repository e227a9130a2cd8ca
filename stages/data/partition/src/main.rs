//! The executable of the stage `partition`.

fn main() -> std::process::ExitCode {
    stage_kit::main::<partition::Partition>()
}
