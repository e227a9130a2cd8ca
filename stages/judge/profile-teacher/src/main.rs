//! The stage `profile-teacher` as an executable of its own.

fn main() -> std::process::ExitCode {
    ops::tune_process();
    stage_kit::main::<profile_teacher::ProfileTeacher>()
}
