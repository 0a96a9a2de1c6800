//! The clockwork of the groups: heartbeats, elections, leases.

use std::time::Duration;

use keevo_core::{Error, ErrorKind, Result, ShardId};
use openraft::{Config, SnapshotPolicy};

/// How long things may take. All nodes of a cluster use the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// How often a leader is heard of, in milliseconds.
    pub heartbeat_ms: u64,
    /// The shortest time without a leader before an election, in milliseconds.
    pub election_ms_min: u64,
    /// The longest, in milliseconds. Also the leader's lease.
    pub election_ms_max: u64,
    /// How far two nodes' clocks may drift apart during a lease, in milliseconds.
    pub drift_ms_max: u64,
    /// How many flushed entries a group's log keeps for followers that lag.
    pub log_entries_kept: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat_ms: 200,
            election_ms_min: 1_000,
            election_ms_max: 2_000,
            drift_ms_max: 200,
            log_entries_kept: 10_000,
        }
    }
}

impl Timing {
    /// For tests on one machine: quick elections.
    pub fn quick() -> Self {
        Self { heartbeat_ms: 60, election_ms_min: 300, election_ms_max: 600, drift_ms_max: 60, log_entries_kept: 100 }
    }

    /// Openraft's configuration of one group.
    pub(crate) fn config(&self, shard: ShardId) -> Result<Config> {
        Config {
            cluster_name: format!("shard {shard}"),
            heartbeat_interval: self.heartbeat_ms,
            election_timeout_min: self.election_ms_min,
            election_timeout_max: self.election_ms_max,
            install_snapshot_timeout: 600_000,
            max_payload_entries: 1_024,
            replication_lag_threshold: self.log_entries_kept.max(1_000),
            snapshot_policy: SnapshotPolicy::Never,
            max_in_snapshot_log_to_keep: self.log_entries_kept,
            purge_batch_size: 256,
            enable_pre_vote: Some(true),
            // A restarted leader's log may lack what its followers had made durable: it must win an election again.
            enable_leader_restore: Some(false),
            quorum_loss_probe_interval: Some(2 * self.election_ms_max + self.election_ms_max / 2),
            backoff: "100ms 200ms 400ms ..1000ms".to_owned(),
            ..Config::default()
        }
        .validate()
        .map_err(|error| Error::new(ErrorKind::Config, "the Raft timing does not fit together").with_source(error))
    }

    /// The longest time for which a replica may have promised not to elect another leader.
    pub(crate) fn lease_max(&self) -> Duration {
        Duration::from_millis(self.election_ms_max + self.drift_ms_max)
    }

    /// How long an append may stay unanswered. A full one takes longer than the pause between two heartbeats.
    pub(crate) fn append_timeout(&self) -> Duration {
        Duration::from_millis(self.election_ms_max)
    }

    /// How long a quorum may take to confirm its leader, before the reads that wait for it are told.
    pub(crate) fn confirmation_timeout(&self) -> Duration {
        Duration::from_millis(self.election_ms_max)
    }

    /// How old a quorum's acknowledgement may be for a lease read. A follower that acknowledged elects nobody else for
    /// `election_ms_max` after that by its own clock: the difference is how much slower the leader's clock may run
    /// meanwhile. With `drift_ms_max` at or above `election_ms_min` it is zero: every read then asks a quorum.
    pub(crate) fn lease_for_reads(&self) -> Duration {
        Duration::from_millis(self.election_ms_min.saturating_sub(self.drift_ms_max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A leader whose clock runs slow by the allowed drift still ends its reads before its followers' promise ends.
    #[test]
    fn a_lease_read_ends_before_the_promise_behind_it() {
        for timing in [Timing::default(), Timing::quick()] {
            let promise = Duration::from_millis(timing.election_ms_max);
            let drift = Duration::from_millis(timing.drift_ms_max);
            assert!(timing.lease_for_reads() > Duration::from_millis(2 * timing.heartbeat_ms), "{timing:?}");
            assert!(timing.lease_for_reads() + drift < promise, "{timing:?}");
            assert!(timing.lease_max() >= promise + drift, "a restarted replica waits for the promise it forgot");
        }
        let doubtful = Timing { drift_ms_max: 5_000, ..Timing::default() };
        assert_eq!(doubtful.lease_for_reads(), Duration::ZERO);
    }
}
