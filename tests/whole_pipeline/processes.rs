//! Trainings in several processes: the bits of one, whatever dies. Those that start processes need a program with the feature `mpi`.

#[cfg(not(feature = "mpi"))]
use crate::lab::Lab;

#[test]
#[cfg(not(feature = "mpi"))]
fn a_program_without_mpi_says_how_to_get_one_before_anything_runs() {
    references::skipped("trainings in several processes; build with `--features flare/mpi`");
    let lab = Lab::new("nodes: {M_1: {resources: {processes: 2}}}\n");
    let told = lab.run(&["M_1"]);
    told.must_fail(2, &["M_1: `processes: 2`", "built without MPI", "--features mpi", "libopenmpi-dev"]);
    assert!(told.ran().is_empty(), "{}", told.stderr);
}

#[test]
#[cfg(not(feature = "mpi"))]
fn what_cannot_be_shared_out_is_a_mistake_of_the_file() {
    let told = |more: &str| Lab::new(more).call(&["status"]);
    told("nodes: {volumes: {resources: {processes: 2}}}\n").must_fail(2, &["resources.processes", "stage preprocess works in one process"]);
    told("nodes: {M_c: {resources: {processes: 2}}}\n").must_fail(2, &["processes is 2", "1 part to share out", "`fit.micro_batch`"]);
    told("nodes: {M_1: {resources: {processes: 2, gpus: 1}}}\n").must_fail(2, &["several processes compute on the CPU alone"]);
}

#[cfg(feature = "mpi")]
mod started {
    use std::collections::BTreeMap;
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::process::{Command, Stdio};

    use crate::lab::{Lab, await_that};

    /// A training whose batches have four parts, by so many processes. M_2 is like it, and has batches of two.
    fn training(epochs: u64, processes: usize) -> String {
        format!(
            "nodes: {{M_1: {{params: {{fit: {{micro_batch: 1, epochs: {epochs}}}}}, resources: {{processes: {processes}, cpus: 1}}}}, M_2: {{resources: {{processes: 1}}}}}}\n"
        )
    }

    /// Whether there is an `mpirun`; a word about it if not.
    fn is_possible(what: &str) -> bool {
        ranks::check().inspect_err(|error| references::skipped(&format!("{what}: {error}"))).is_ok()
    }

    /// The files that the training has written, without the folder `about/`.
    fn results(lab: &Lab) -> BTreeMap<PathBuf, Vec<u8>> {
        let files = lab.files("store/results/lab").into_iter();
        files.filter(|(path, _)| path.iter().any(|part| part == "M_1") && !path.iter().any(|part| part == "about")).map(relative).collect()
    }

    fn relative((path, bytes): (PathBuf, Vec<u8>)) -> (PathBuf, Vec<u8>) {
        (path.file_name().unwrap().into(), bytes)
    }

    fn alone(epochs: u64) -> BTreeMap<PathBuf, Vec<u8>> {
        let lab = Lab::new(&training(epochs, 1));
        lab.run(&["M_1"]).must_succeed();
        let results = results(&lab);
        assert!(results.contains_key(Path::new("weights.safetensors")) && results.contains_key(Path::new("curve.csv")));
        results
    }

    /// The processes that a launcher has started for an attempt, by rank.
    fn ranks_of(attempt: &Path) -> BTreeMap<usize, u32> {
        let needle = attempt.display().to_string();
        let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
        let text =
            |pid: u32, file: &str| String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default()).into_owned();
        let rank = |pid: u32| {
            let rank = text(pid, "environ").split('\0').find_map(|word| word.strip_prefix("OMPI_COMM_WORLD_RANK=")?.parse().ok())?;
            text(pid, "cmdline").contains(&needle).then_some((rank, pid))
        };
        pids.filter_map(rank).collect()
    }

    fn send(signal: &str, pid: u32) {
        assert!(Command::new("kill").args([signal, &pid.to_string()]).status().unwrap().success());
    }

    /// Epochs that a training has put on record.
    fn epochs(attempt: &Path) -> u64 {
        let state = fs::read_to_string(attempt.join("work/checkpoint/state.json")).unwrap_or_default();
        let state: serde_json::Value = serde_json::from_str(&state).unwrap_or_default();
        state["state"]["position"]["epoch"].as_u64().unwrap_or(0)
    }

    #[test]
    fn processes_train_to_the_bytes_of_one_and_what_is_there_stays_fresh() {
        if !is_possible("trainings in several processes") {
            return;
        }
        let expected = alone(2);
        for size in [2, 3] {
            let lab = Lab::new(&training(2, size));
            let told = lab.run(&["M_1"]).must_succeed();
            assert!(results(&lab) == expected, "{size} processes");
            assert_eq!(
                told.stderr.lines().filter(|line| line.contains("M_1: epoch 1/2")).count(),
                1,
                "one process speaks: {}",
                told.stderr
            );
            lab.write_pipeline("lab.yaml", &training(2, 4));
            assert!(lab.run(&["M_1"]).must_succeed().ran().is_empty(), "`processes` is no part of the key");
        }
    }

    #[test]
    fn a_killed_rank_ends_the_training_by_its_number_and_costs_no_bit() {
        if !is_possible("the end of a rank") {
            return;
        }
        let expected = alone(40);
        let lab = Lab::new(&training(40, 3));
        let mut reached = 0;
        for killed in [1, 0, 2] {
            let runner = lab.command(&["run", "M_1"]).stderr(Stdio::piped()).spawn().unwrap();
            let attempt = lab.attempt("M_1");
            let pid = await_that("epochs", || ranks_of(&attempt).get(&killed).copied().filter(|_| epochs(&attempt) >= reached + 2));
            send("-KILL", pid);
            let output = runner.wait_with_output().unwrap();
            let told = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.code() == Some(1) && told.contains(&format!("rank {killed}")), "{told}");
            await_that("the end of the others", || ranks_of(&attempt).is_empty().then_some(()));
            reached = epochs(&attempt);
        }
        assert!(reached < 40, "the kills came too late to tell anything");
        let last = lab.run(&["M_1"]).must_succeed();
        assert!(last.stderr.contains("M_1: goes on where it was interrupted"), "{}", last.stderr);
        assert!(results(&lab) == expected);
    }

    #[test]
    fn a_runner_that_dies_or_is_asked_to_end_takes_its_processes_along() {
        if !is_possible("the end of a runner") {
            return;
        }
        let expected = alone(40);
        let lab = Lab::new(&training(40, 2));
        let mut reached = 0;
        for (signal, code) in [("-INT", Some(130)), ("-KILL", None)] {
            let mut runner = lab.command(&["run", "M_1"]).stderr(Stdio::null()).spawn().unwrap();
            let attempt = lab.attempt("M_1");
            await_that("epochs", || (epochs(&attempt) >= reached + 2 && ranks_of(&attempt).len() == 2).then_some(()));
            send(signal, runner.id());
            assert_eq!(runner.wait().unwrap().code(), code);
            await_that("the end of the ranks", || ranks_of(&attempt).is_empty().then_some(()));
            reached = epochs(&attempt);
        }
        assert!(reached < 40, "the ends came too late to tell anything");
        lab.run(&["M_1"]).must_succeed();
        assert!(results(&lab) == expected);
    }
}
