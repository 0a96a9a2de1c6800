//! Leader completeness: what was committed is in the log of every later leader.
//!
//! ```text
//! ∀ shard s, entry e committed in s under leader k, leader l > k:  e ∈ log(l) when l begins to lead
//! ```
//!
//! By log matching it is enough to look for the newest such entry. An entry that the leader has purged was committed
//! and applied there.

use std::collections::BTreeMap;

use keevo_raft::types::LogId;

use super::Verdict;
use super::election_safety::Leader;
use crate::observe::{Mirror, Place};

#[derive(Debug, Default)]
pub(crate) struct LeaderCompleteness {
    /// The newest committed entry of each shard, by the leader that proposed it.
    committed: BTreeMap<(u64, Leader), LogId>,
    checks: u64,
}

impl LeaderCompleteness {
    pub(crate) fn checks(&self) -> u64 {
        self.checks
    }

    /// A replica has learned that an entry is committed.
    pub(crate) fn committed(&mut self, (_, shard): Place, log_id: LogId) {
        let leader = (log_id.leader_id.term, log_id.leader_id.node_id);
        let newest = self.committed.entry((shard, leader)).or_insert(log_id);
        *newest = (*newest).max(log_id);
    }

    /// A replica begins to lead.
    pub(crate) fn leads(&mut self, place: Place, leader: Leader, log: &Mirror) -> Verdict {
        let (node, shard) = place;
        let Some((_, &newest)) = self.committed.range((shard, (0, 0))..(shard, leader)).next_back() else {
            return Ok(());
        };
        self.checks += 1;
        let is_purged = log.purged.is_some_and(|purged| purged.index >= newest.index);
        if is_purged || log.entries.get(&newest.index) == Some(&newest) {
            return Ok(());
        }
        Err(format!(
            "leader completeness: node {node} leads shard {shard} in term {} without the committed entry {newest}; at \
             that index it has {:?}",
            leader.0,
            log.entries.get(&newest.index).map(ToString::to_string)
        ))
    }
}
