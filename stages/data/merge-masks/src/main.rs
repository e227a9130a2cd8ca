//! The stage `merge-masks` as an executable of its own.

fn main() -> std::process::ExitCode {
    stage_kit::main::<merge_masks::MergeMasks>()
}
