//! The stage `pseudo-label` as an executable of its own.

fn main() -> std::process::ExitCode {
    ops::tune_process();
    stage_kit::main::<pseudo_label::PseudoLabel>()
}
