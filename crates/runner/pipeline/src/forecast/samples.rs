//! What one of a kind of work takes on this machine: measured once, and kept in the store.

use std::cell::RefCell;
use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use stage_kit::{Ahead, Chore, Cost, DeviceChoice, Progress, Report, StageIo};

use crate::graph::Node;
use crate::store::Store;

/// Measured samples.
pub(crate) struct Samples<'a> {
    store: &'a Store,
    device: DeviceChoice,
    /// If what is not known is measured now, how far that is.
    measuring: Option<Progress>,
    /// The machine's load for each core, before anything was measured.
    load: f64,
    /// What was looked up or measured already, and what could not be.
    known: RefCell<BTreeMap<String, Result<Option<Cost>, String>>>,
}

/// A sample as it is kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    /// All that its key is made of, for people.
    of: Value,
    cost: Cost,
    /// The machine's load for each core at that time.
    load: f64,
}

/// A machine with more load than this for each core has other work to do, and what is measured takes too long.
const BUSY: f64 = 0.5;

/// The machine's load for each core in the last minute; none where the kernel does not tell.
fn load() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: f64 = text.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or_default();
    #[expect(clippy::cast_precision_loss, reason = "cores are few")]
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as f64;
    load / cores
}

impl<'a> Samples<'a> {
    /// What was measured before, and nothing else.
    pub(crate) fn kept_in(store: &'a Store, device: DeviceChoice) -> Self {
        Self { store, device, measuring: None, load: load(), known: RefCell::default() }
    }

    /// The same, measuring what was asked for and is not known, or was measured on a machine that was busier than it is now.
    pub(crate) fn measured_now(self) -> Self {
        let known = self.known.take();
        let missing = known.keys().filter(|key| !self.kept(key).is_some_and(|kept| self.serves(&kept))).count() as u64;
        if missing == 0 {
            return self;
        }
        let measuring = Report::default().start("measuring", "kinds of work", missing);
        if self.load > BUSY {
            measuring.note(&format!(
                "this machine is busy, with a load of {:.1} for each core: what is measured takes too long now; `--measure` measures it \
                 again when the machine is at rest",
                self.load
            ));
        }
        Self { measuring: Some(measuring), ..self }
    }

    /// What was measured on a busy machine is measured again on one that is less busy.
    fn serves(&self, kept: &Kept) -> bool {
        kept.load <= BUSY || kept.load <= self.load
    }

    /// What one of a chore takes; nothing if nobody has measured it on this machine.
    ///
    /// # Errors
    /// When it cannot be measured.
    pub(crate) fn of(&self, node: &Node, ahead: &Ahead, chore: &Chore) -> Result<Option<Cost>> {
        let of = json!({
            "stage": node.stage.name,
            "revision": node.stage.revision,
            "what": chore.what,
            "sample": chore.sample,
            "device": self.device,
            "host": rustix::system::uname().nodename().to_string_lossy(),
            "cores": std::thread::available_parallelism().map_or(1, usize::from),
        });
        let key = blake3::hash(of.to_string().as_bytes()).to_hex()[..32].to_owned();
        if let Some(known) = self.known.borrow().get(&key) {
            return known.clone().map_err(anyhow::Error::msg);
        }
        let found = match (self.kept(&key), &self.measuring) {
            (kept, None) => Ok(kept.map(|kept| kept.cost)),
            (Some(kept), Some(_)) if self.serves(&kept) => Ok(Some(kept.cost)),
            (_, Some(progress)) => {
                progress.note(&format!("{}: measuring one of its {}", node.name, chore.what));
                let measured = self.measured(node, ahead, chore, &key, of);
                progress.step("");
                measured.map(Some)
            }
        };
        let told = found.map_err(|error| format!("{error:#}"));
        self.known.borrow_mut().insert(key, told.clone());
        told.map_err(anyhow::Error::msg)
    }

    fn kept(&self, key: &str) -> Option<Kept> {
        let text = std::fs::read_to_string(self.store.sample(key)).ok()?;
        serde_json::from_str(&text).ok()
    }

    fn measured(&self, node: &Node, ahead: &Ahead, chore: &Chore, key: &str, of: Value) -> Result<Cost> {
        let path = self.store.sample(key);
        let folder = path.parent().context("a sample lies in a folder")?;
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
        let scratch = tempfile::tempdir_in(folder).with_context(|| format!("cannot make a folder in {}", folder.display()))?;
        let (output, work) = (scratch.path().join("output"), scratch.path().join("work"));
        [&output, &work].into_iter().try_for_each(std::fs::create_dir)?;
        let io = StageIo { device: self.device, planned: true, ..StageIo::new(&node.name, &ahead.paths, output, work, node.seed) };
        let cost = node.stage.sample(node.params.clone(), ahead, chore, &io)?;
        stage_kit::write_atomic_text(&path, &(serde_json::to_string_pretty(&Kept { of, cost, load: self.load })? + "\n"))?;
        Ok(cost)
    }
}
