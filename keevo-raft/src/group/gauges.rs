//! How far a replica has come and what waits in its queues, as numbers for metrics.

use keevo_core::ShardId;

use super::{Group, PROPOSALS_MAX};

/// The numbers of one replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaGauges {
    /// The shard.
    pub shard: ShardId,
    /// The index of the last entry that was handed to the log.
    pub submitted: u64,
    /// The index of the last entry that is known to be on this node's disk.
    pub flushed: u64,
    /// Proposals under way, and the most that there may be.
    pub proposals: (u64, u64),
    /// Appends that wait for the replica's core, and the most that may.
    pub appends: (u64, u64),
    /// By node, how many entries each other replica is known to lack; at the leader only.
    pub lags: Vec<(u64, u64)>,
}

impl Group {
    /// The numbers as of now.
    pub(crate) fn gauges(&self) -> ReplicaGauges {
        let metrics = self.metrics();
        let (progress, purged) = (&self.shared.progress, metrics.purged.map_or(0, |purged| purged.index));
        let last = metrics.last_log_index.unwrap_or(0);
        let lags = metrics.replication.iter().flatten().filter(|(replica, _)| **replica != self.replica);
        let lags = lags.filter_map(|(replica, matched)| {
            let node = metrics.membership_config.membership().get_node(replica)?.node_id;
            Some((node, last.saturating_sub(matched.as_ref().map_or(0, |log_id| log_id.index))))
        });
        let proposals = PROPOSALS_MAX.saturating_sub(self.proposals.available_permits());
        ReplicaGauges {
            shard: self.shard,
            submitted: progress.submitted_index().max(purged),
            flushed: progress.flushed_index().max(purged),
            proposals: (to_u64(proposals), to_u64(PROPOSALS_MAX)),
            appends: self.inbound.queued(),
            lags: lags.collect(),
        }
    }
}

fn to_u64(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
