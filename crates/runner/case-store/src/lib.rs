//! Results of single cases, kept for good under keys of what they were made from.
//!
//! A stage that works case by case publishes each case as soon as it is finished: its files become *blobs*, named by their
//! content, and a small sealed record tells which blobs belong to the case. The next run that needs the same case, for
//! whatever node of whatever pipeline, links them into place. A record is written after its blobs are on the disk for good,
//! so that what is recorded is there; [`seal()`] tells a whole record from a torn or altered one. Cases that end at the same
//! time wait for the disk together ([`Publisher`]).
//!
//! ```text
//! blobs/ab/HASH        the content of a file, read-only; results link to it
//! cases/ab/KEY.json    what one case was made from, and its files
//! locks/case-KEY       held while somebody works on the case
//! ```

mod claim;
mod key;
mod list;
mod publish;
mod record;
mod seal;
mod store;

pub use claim::{Claim, Claimed};
pub use key::{Common, hash_of, sorted, tree_digest, tree_text};
pub use list::{CaseEntry, CaseList, Seen};
pub use publish::{Finished, Publisher};
pub use record::{CaseRecord, FileRecord};
pub use seal::{open, seal};
pub use store::CaseStore;
