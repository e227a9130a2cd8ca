//! What a node may take of a machine: `resources: {cpus: 4, gpus: 1, memory: 16 GB, time: 8 h, processes: 4, batch: 50}`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What a node asks for. It is no part of the node's key: results do not depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Cores of each process, which are also its threads; without it the nodes that run at once share the cores.
    pub cpus: Option<usize>,
    /// Processes that share the work of one training.
    #[serde(default = "one")]
    pub processes: usize,
    /// Graphics cards.
    pub gpus: usize,
    /// Memory, in bytes.
    pub memory: Option<u64>,
    /// The longest that it may take, in seconds, for schedulers that want to know.
    pub time: Option<u64>,
    /// How many cases one job of a cluster does, for stages that work case by case.
    pub batch: Option<usize>,
}

/// A job that an earlier version has prepared is for one process.
fn one() -> usize {
    1
}

impl Default for Resources {
    fn default() -> Self {
        Self { cpus: None, processes: one(), gpus: 0, memory: None, time: None, batch: None }
    }
}

const KEYS: [&str; 6] = ["cpus", "processes", "gpus", "memory", "time", "batch"];

impl Resources {
    /// Reads what stands under `resources:`; on failure tells the key at fault, if it is one, and the reason.
    pub(crate) fn parse(value: &Value) -> Result<Self, (Option<String>, String)> {
        let map = match value {
            Value::Null => &Map::new(),
            Value::Object(map) => map,
            _ => return Err((None, "must be a map, such as `{cpus: 4, memory: 16 GB}`".into())),
        };
        let mut resources = Self::default();
        for (key, value) in map {
            let refuse = |expected: &str| (Some(key.clone()), format!("{value} is no {expected}"));
            let count = || value.as_u64().and_then(|n| usize::try_from(n).ok());
            let at_least_one = || count().filter(|&n| n > 0).ok_or_else(|| refuse("whole number from 1"));
            match key.as_str() {
                "cpus" => resources.cpus = Some(at_least_one()?),
                "processes" => resources.processes = at_least_one()?,
                "gpus" => resources.gpus = count().ok_or_else(|| refuse("whole number"))?,
                "memory" => resources.memory = Some(quantity(value, &MEMORY).ok_or_else(|| refuse("memory, such as `16 GB` or `500 MB`"))?),
                "time" => resources.time = Some(quantity(value, &TIME).ok_or_else(|| refuse("time, such as `8 h` or `90 min`"))?),
                "batch" => resources.batch = Some(at_least_one()?),
                _ => {
                    return Err((Some(key.clone()), format!("`resources` has no `{key}`; {}", crate::text::instead(key, "it has", &KEYS))));
                }
            }
        }
        if resources.processes > 1 && resources.gpus > 0 {
            let message = "several processes compute on the CPU alone, and would share one graphics card; leave `gpus` or `processes` out";
            return Err((Some("processes".into()), message.into()));
        }
        Ok(resources)
    }

    /// All cores that it takes, as far as it says.
    pub(crate) fn all_cpus(&self) -> Option<usize> {
        self.cpus.map(|cpus| cpus.saturating_mul(self.processes))
    }
}

const MEMORY: [(&str, u64); 4] = [("kB", 1_000), ("MB", 1_000_000), ("GB", 1_000_000_000), ("TB", 1_000_000_000_000)];
pub(crate) const TIME: [(&str, u64); 4] = [("s", 1), ("min", 60), ("h", 3_600), ("d", 86_400)];

/// A number with one of the `units`, in the smallest of them.
pub(crate) fn amount(value: &Value, units: &[(&str, u64)]) -> Option<f64> {
    let text = value.as_str()?;
    let at = text.find(|c: char| c.is_alphabetic())?;
    let factor = units.iter().find(|(unit, _)| *unit == &text[at..])?.1;
    let number: f64 = text[..at].trim().parse().ok().filter(|&number| number > 0.0 && number < 1e9)?;
    #[expect(clippy::cast_precision_loss, reason = "the units are far below 2^53")]
    Some(number * factor as f64)
}

/// The same as a whole number.
fn quantity(value: &Value, units: &[(&str, u64)]) -> Option<u64> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive and below 1e21")]
    let whole = amount(value, units)?.round() as u64;
    Some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn amounts_have_units() {
        let read = Resources::parse(&json!({"cpus": 4, "gpus": 1, "memory": "1.5 GB", "time": "90min", "batch": 20})).unwrap();
        let expected = Resources { cpus: Some(4), processes: 1, gpus: 1, memory: Some(1_500_000_000), time: Some(5400), batch: Some(20) };
        assert_eq!(read, expected);
        let several = Resources::parse(&json!({"cpus": 4, "processes": 3})).unwrap();
        assert_eq!((several.processes, several.all_cpus()), (3, Some(12)));
        assert_eq!(Resources::parse(&Value::Null), Ok(Resources::default()));
    }

    #[test]
    fn what_is_no_amount_is_refused_with_its_key() {
        for (key, value) in [
            ("cpus", json!(0)),
            ("processes", json!(0)),
            ("memory", json!("16")),
            ("memory", json!(16)),
            ("time", json!("1 year")),
            ("ram", json!(1)),
        ] {
            assert_eq!(Resources::parse(&json!({ key: value })).unwrap_err().0.as_deref(), Some(key));
        }
    }
}
