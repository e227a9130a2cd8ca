//! The stage `tabulate-teachers` as an executable of its own.

fn main() -> std::process::ExitCode {
    stage_kit::main::<tabulate_teachers::CompareTeachers>()
}
