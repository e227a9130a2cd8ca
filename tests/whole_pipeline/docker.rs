//! A real Docker of one host. Without its package, or without root, the tests on it say so and are skipped.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

/// A Docker that ends with this value, or else with this process, whatever becomes of it.
pub(crate) struct Docker {
    pub(crate) host: String,
    script: Child,
    // The script ends when this is closed.
    stdin: Option<ChildStdin>,
}

impl Docker {
    pub(crate) fn start() -> Option<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/whole_pipeline/one-host-docker.sh");
        let mut script = Command::new(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(script.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let stdin = script.stdin.take();
        match line.trim_end().split_once(' ') {
            Some(("ready", host)) => Some(Self { host: host.to_owned(), script, stdin }),
            Some(("skip:", reason)) => {
                references::skipped(&format!("the tests on Docker: {reason}"));
                None
            }
            _ => panic!("the Docker for tests has not come up: {line}"),
        }
    }

    /// What a call says on standard output.
    #[track_caller]
    pub(crate) fn call(&self, arguments: &[&str]) -> String {
        let output = Command::new("docker").args(arguments).env("DOCKER_HOST", &self.host).output().unwrap();
        assert!(output.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        self.stdin.take();
        let _ = self.script.wait();
    }
}
