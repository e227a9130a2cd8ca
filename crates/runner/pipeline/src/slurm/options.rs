//! What a site says of its Slurm: `slurm: {partition: cpu, account: lab, gpu_args: [--partition=gpu]}`.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::resources::{TIME, amount};

/// How to use the Slurm of a site. Nothing of it is part of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlurmOptions {
    /// The partition; Slurm's default without it.
    pub partition: Option<String>,
    /// The account.
    pub account: Option<String>,
    /// More arguments of `sbatch`, for all jobs.
    pub args: Vec<String>,
    /// More arguments of `sbatch`, after `args`, for jobs that ask for a card.
    pub gpu_args: Vec<String>,
    /// The most jobs in one array.
    pub array: usize,
    /// The most jobs of a run in the queue.
    pub queue: usize,
    /// How often the queue is looked at.
    pub poll: Duration,
    /// How long a file that was written on another machine may take until it is seen on this one.
    pub latency: Duration,
    /// How often the jobs of a node are submitted again after the cluster has lost them.
    pub resubmit: usize,
}

const KEYS: [&str; 9] = ["partition", "account", "args", "gpu_args", "array", "queue", "poll", "latency", "resubmit"];

impl Default for SlurmOptions {
    fn default() -> Self {
        Self {
            partition: None,
            account: None,
            args: Vec::new(),
            gpu_args: Vec::new(),
            // Slurm's own default is a MaxArraySize of 1001.
            array: 1000,
            queue: 1000,
            poll: Duration::from_secs(10),
            latency: Duration::from_secs(10),
            resubmit: 3,
        }
    }
}

impl SlurmOptions {
    /// Reads what stands under `slurm:`; on failure tells the key at fault, if it is one, and the reason.
    pub(crate) fn parse(value: Option<&Value>) -> Result<Self, (Option<String>, String)> {
        let map = match value {
            None | Some(Value::Null) => &Map::new(),
            Some(Value::Object(map)) => map,
            Some(_) => return Err((None, "must be a map, such as `{partition: cpu, account: lab}`".into())),
        };
        let mut options = Self::default();
        for (key, value) in map {
            let refuse = |expected: &str| (Some(key.clone()), format!("{value} is no {expected}"));
            let text = || value.as_str().map(str::to_owned).ok_or_else(|| refuse("text"));
            let count = || value.as_u64().and_then(|n| usize::try_from(n).ok());
            let at_least_one = || count().filter(|&n| n > 0).ok_or_else(|| refuse("whole number from 1"));
            let time = || amount(value, &TIME).map(Duration::from_secs_f64).ok_or_else(|| refuse("time, such as `10 s`"));
            match key.as_str() {
                "partition" => options.partition = Some(text()?),
                "account" => options.account = Some(text()?),
                "args" => options.args = texts(value).ok_or_else(|| refuse("list of arguments, such as `[--qos=long]`"))?,
                "gpu_args" => options.gpu_args = texts(value).ok_or_else(|| refuse("list of arguments, such as `[--partition=gpu]`"))?,
                "array" => options.array = at_least_one()?,
                "queue" => options.queue = at_least_one()?,
                "poll" => options.poll = time()?,
                "latency" => options.latency = time()?,
                "resubmit" => options.resubmit = count().ok_or_else(|| refuse("whole number"))?,
                _ => return Err((Some(key.clone()), format!("`slurm` has no `{key}`; it has {}", KEYS.join(", ")))),
            }
        }
        Ok(options)
    }
}

fn texts(value: &Value) -> Option<Vec<String>> {
    value.as_array()?.iter().map(|item| item.as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_not_said_has_a_default_and_what_makes_no_sense_is_refused_with_its_key() {
        assert_eq!(SlurmOptions::parse(None), Ok(SlurmOptions::default()));
        let read = SlurmOptions::parse(Some(&json!({"partition": "cpu", "poll": "0.2 s", "gpu_args": ["--partition=gpu"], "resubmit": 0})));
        let expected = SlurmOptions {
            partition: Some("cpu".into()),
            poll: Duration::from_millis(200),
            gpu_args: vec!["--partition=gpu".into()],
            resubmit: 0,
            ..SlurmOptions::default()
        };
        assert_eq!(read, Ok(expected));
        for (key, value) in
            [("partition", json!(1)), ("args", json!("--qos=long")), ("array", json!(0)), ("poll", json!(10)), ("queues", json!(1))]
        {
            assert_eq!(SlurmOptions::parse(Some(&json!({ key: value }))).unwrap_err().0.as_deref(), Some(key));
        }
    }
}
