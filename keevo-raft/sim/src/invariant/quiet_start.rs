//! Quiet start: a replica that has restarted gives no vote to anybody, itself included, within the old leader's lease.
//!
//! ```text
//! ∀ replica r restarted at t, vote v saved by r at u ≥ t:   v not of an established leader  ⇒  u ≥ t + lease
//! ```
//!
//! The vote on disk does not say until when its lease lasts, so the whole lease must pass. Evaluated where no fault
//! transfers leadership or changes members: a transfer is allowed to ask for a vote at once.

use std::collections::BTreeMap;

use keevo_raft::types::Vote;

use super::Verdict;
use crate::observe::Place;

#[derive(Debug, Default)]
pub(crate) struct QuietStart {
    /// How long a replica must be quiet, in milliseconds of the world, drift of its clock allowed for; 0 = not judged.
    quiet_ms: u64,
    /// When each restarted replica was started.
    started: BTreeMap<Place, u64>,
    checks: u64,
}

impl QuietStart {
    /// For leases of `lease_ms`.
    pub(crate) fn new(lease_ms: u64) -> Self {
        Self { quiet_ms: lease_ms - lease_ms / 10, ..Self::default() }
    }

    pub(crate) fn checks(&self) -> u64 {
        self.checks
    }

    /// A node has started; these are the shards that it had voted in.
    pub(crate) fn started(&mut self, node: u64, shards: impl IntoIterator<Item = u64>, now_ms: u64) {
        self.started.retain(|(owner, _), _| *owner != node);
        self.started.extend(shards.into_iter().map(|shard| ((node, shard), now_ms)));
    }

    /// A replica's log was destroyed: what takes its place has promised nothing.
    pub(crate) fn destroyed(&mut self, place: Place) {
        self.started.remove(&place);
    }

    /// A replica has saved a vote.
    pub(crate) fn voted(&mut self, place: Place, vote: Vote, now_ms: u64) -> Verdict {
        let Some(&started_ms) = self.started.get(&place).filter(|_| self.quiet_ms > 0 && !vote.committed) else {
            return Ok(());
        };
        self.checks += 1;
        let quiet = now_ms.saturating_sub(started_ms);
        if quiet >= self.quiet_ms {
            return Ok(());
        }
        let (node, shard) = place;
        Err(format!(
            "quiet start: node {node} has voted {vote} in shard {shard} {quiet} ms after its start, within the lease of \
             {} ms that it may have granted before",
            self.quiet_ms
        ))
    }
}
