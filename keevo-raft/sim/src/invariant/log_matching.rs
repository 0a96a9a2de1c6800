//! Log matching: two logs that hold an entry with the same id are the same up to it.
//!
//! ```text
//! ∀ shard s, log id i, replicas a, b:  a[i] and b[i] exist  ⇒  content(a[i]) = content(b[i])
//!                                                           ∧  id(predecessor of a[i]) = id(predecessor of b[i])
//! ```
//!
//! With the second part for every entry, equality up to the entry follows by induction. A predecessor that was purged
//! counts by its id; of the first entry of a log that starts late nothing is known.

use std::collections::BTreeMap;

use keevo_raft::types::LogId;

use super::Verdict;
use crate::observe::Place;

#[derive(Debug)]
struct Known {
    hash: u32,
    before: Option<LogId>,
    node: u64,
}

#[derive(Debug, Default)]
pub(crate) struct LogMatching {
    entries: BTreeMap<(u64, LogId), Known>,
    checks: u64,
}

impl LogMatching {
    pub(crate) fn checks(&self) -> u64 {
        self.checks
    }

    /// A replica has appended an entry after `before`.
    pub(crate) fn appended(&mut self, place: Place, before: Option<LogId>, log_id: LogId, hash: u32) -> Verdict {
        let (node, shard) = place;
        let Some(known) = self.entries.get_mut(&(shard, log_id)) else {
            self.entries.insert((shard, log_id), Known { hash, before, node });
            return Ok(());
        };
        self.checks += 1;
        if known.hash != hash {
            return Err(format!(
                "log matching: entry {log_id} of shard {shard} has other content on node {node} than on node {}",
                known.node
            ));
        }
        match (known.before, before) {
            (Some(theirs), Some(ours)) if theirs != ours => Err(format!(
                "log matching: entry {log_id} of shard {shard} follows {ours} on node {node} but {theirs} on node {}",
                known.node
            )),
            (None, Some(_)) => {
                known.before = before;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
