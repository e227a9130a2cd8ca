//! The stage `compare-teachers` as an executable of its own.

fn main() -> std::process::ExitCode {
    stage_kit::main::<compare_teachers::CompareTeachers>()
}
