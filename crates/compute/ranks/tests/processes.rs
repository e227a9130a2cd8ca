//! Ranks that are processes, started by `mpirun`: each test starts itself as so many.
#![cfg(feature = "mpi")]

use std::process::Output;

use ranks::Ranks;

/// Starts a test of this file as so many processes, if there is an `mpirun`.
fn started(test: &str, processes: usize) -> Option<Output> {
    match ranks::mpirun(processes, &std::env::current_exe().unwrap()) {
        Ok(mut command) => Some(command.args(["--exact", test, "--nocapture"]).output().unwrap()),
        Err(error) => {
            references::skipped(&format!("{test}: {error}"));
            None
        }
    }
}

#[test]
fn what_is_sent_arrives_in_the_order_of_the_ranks() {
    if !ranks::is_launched() {
        let Some(output) = started("what_is_sent_arrives_in_the_order_of_the_ranks", 3) else { return };
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    let ranks = ranks::join().unwrap();
    assert_eq!((ranks.size(), ranks.on_this_machine()), (3, 3));
    let to: Vec<Vec<f32>> = (0..3).map(|other| vec![(10 * ranks.rank() + other) as f32; other * 1000]).collect();
    let found = ranks.exchange(&to.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap();
    let expected: Vec<Vec<f32>> = (0..3).map(|other| vec![(10 * other + ranks.rank()) as f32; ranks.rank() * 1000]).collect();
    assert_eq!(found, expected);
    assert_eq!(ranks.gather(&vec![ranks.rank() as u8; ranks.rank()]).unwrap(), [vec![], vec![1], vec![2, 2]]);
}

#[test]
fn a_rank_that_panics_ends_the_others() {
    if !ranks::is_launched() {
        let Some(output) = started("a_rank_that_panics_ends_the_others", 3) else { return };
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && told.contains("rank 1 gives up"), "{told}");
        return;
    }
    let ranks: Ranks = ranks::join().unwrap();
    assert!(ranks.rank() != 1, "rank 1 gives up");
    // The others wait for rank 1, and would for ever.
    let _ = ranks.gather(&[0_u8]);
}
