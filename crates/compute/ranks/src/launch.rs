//! How ranks are started, and how a process finds out that it is one.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Ranks;

/// Why ranks cannot be started or do not find each other.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The program cannot do it.
    #[error(
        "this program is built without MPI, and computes in one process alone; build it with `--features mpi`, which needs Open MPI and libclang \
         (on Debian: apt-get install libopenmpi-dev openmpi-bin libclang-dev), or leave `processes` out"
    )]
    NotBuilt,
    /// There is no launcher.
    #[error(
        "there is no `mpirun` on the PATH, which starts the processes; install it (on Debian: apt-get install openmpi-bin), or leave `processes` out"
    )]
    NoMpirun,
    /// The launcher did not start.
    #[error("cannot start mpirun: {reason}")]
    NotStarted {
        /// What the system says.
        reason: std::io::Error,
    },
    /// Processes that do not know each other would do the same work and write the same files.
    #[error(
        "the launcher has started {launched} processes, and MPI has joined {joined}; start them with the `mpirun` of the MPI library that \
         this program is built with, or with `srun --mpi=pmix`"
    )]
    Strangers {
        /// As the launcher says.
        launched: usize,
        /// As MPI says.
        joined: usize,
    },
    /// A library without what is needed.
    #[error(
        "the MPI library is built without support for threads (MPI_THREAD_SERIALIZED); install another, such as Debian's libopenmpi-dev"
    )]
    Threading,
    /// A mistake of the program.
    #[error("internal error: MPI is joined twice")]
    Twice,
}

/// By these, launchers tell a process how many it is one of: Open MPI, MPICH and its kin, and Slurm's `srun`.
const SIZES: [&str; 3] = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"];

/// How many processes a launcher has started this one among, if more than one.
fn launched() -> Option<usize> {
    let size = |name: &&str| std::env::var(name).ok()?.parse::<usize>().ok();
    SIZES.iter().filter_map(size).find(|&size| size > 1)
}

/// Whether a launcher has started this process among others.
#[must_use]
pub fn is_launched() -> bool {
    launched().is_some()
}

/// This process among those that a launcher has started with it; alone if none has.
///
/// # Errors
/// When the program is built without MPI, or the processes do not find each other.
pub fn join() -> Result<Ranks, LaunchError> {
    launched().map_or(Ok(Ranks::Alone), joined)
}

#[cfg(feature = "mpi")]
fn joined(launched: usize) -> Result<Ranks, LaunchError> {
    Ok(Ranks::Mpi(std::sync::Arc::new(crate::mpi::Process::join(launched)?)))
}

#[cfg(not(feature = "mpi"))]
fn joined(_: usize) -> Result<Ranks, LaunchError> {
    Err(LaunchError::NotBuilt)
}

/// Whether this program can compute in several processes.
///
/// # Errors
/// [`LaunchError::NotBuilt`], which says how to build it.
pub fn check_built() -> Result<(), LaunchError> {
    if cfg!(feature = "mpi") { Ok(()) } else { Err(LaunchError::NotBuilt) }
}

/// The launcher for several processes, if this program and this machine can do that.
///
/// # Errors
/// [`LaunchError::NotBuilt`] and [`LaunchError::NoMpirun`], which say what to do.
pub fn check() -> Result<PathBuf, LaunchError> {
    check_built()?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|folder| folder.join("mpirun")).find(|file| file.is_file()).ok_or(LaunchError::NoMpirun)
}

/// The launcher of so many processes of a program.
///
/// Processes may move over the cores of their machine, since each has threads of its own, and may be more than there are cores. Whoever is
/// root already, as in a container, may start them as root. All this is told by variables, which the launchers of other MPI libraries
/// pass over.
///
/// # Errors
/// As [`check`].
pub fn mpirun(processes: usize, program: &Path) -> Result<Command, LaunchError> {
    let mut command = Command::new(check()?);
    command.args(["-n", &processes.to_string()]).arg(program);
    let mut set = vec![
        ("OMPI_MCA_hwloc_base_binding_policy", "none"),
        ("PRTE_MCA_hwloc_default_binding_policy", "none"),
        ("OMPI_MCA_rmaps_base_oversubscribe", "1"),
        ("PRTE_MCA_rmaps_default_mapping_policy", ":oversubscribe"),
    ];
    if rustix::process::geteuid().is_root() {
        for name in ["OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "PRTE_ALLOW_RUN_AS_ROOT", "PRTE_ALLOW_RUN_AS_ROOT_CONFIRM"]
        {
            set.push((name, "1"));
        }
    }
    // What the site has set stands.
    command.envs(set.into_iter().filter(|(name, _)| std::env::var_os(name).is_none()));
    Ok(command)
}

/// Becomes the launcher of so many processes of this program with these arguments. It returns when that fails.
#[must_use]
pub fn launch(processes: usize) -> LaunchError {
    let not_started = |reason| LaunchError::NotStarted { reason };
    let command = std::env::current_exe().map_err(not_started).and_then(|own| mpirun(processes, &own));
    match command {
        Ok(mut command) => not_started(command.args(std::env::args_os().skip(1)).exec()),
        Err(error) => error,
    }
}
