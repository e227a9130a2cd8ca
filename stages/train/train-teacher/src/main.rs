//! The stage `train-teacher` as an executable of its own.

fn main() -> std::process::ExitCode {
    ops::tune_process();
    stage_kit::main::<train_teacher::TrainTeacher>()
}
