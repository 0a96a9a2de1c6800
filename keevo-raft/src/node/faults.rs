//! Replicas that are down: why, and when each is opened again.
//!
//! Invariant: one replica's fault concerns that replica alone. It is tried again for ever, ever more slowly, since
//! what stopped it (a full disk, a peer's bad snapshot) may pass; a fault that stays is seen in the node's status.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use keevo_core::{Error, ShardId};
use tokio::time::Instant;

/// The pause after the first failure; it doubles with every one.
const PAUSE_MIN: Duration = Duration::from_millis(500);
/// The longest pause. A replica that ran for longer begins anew.
const PAUSE_MAX: Duration = Duration::from_mins(1);

#[derive(Debug)]
struct Fault {
    replica: u64,
    /// Why it is down; empty while it runs again.
    error: String,
    /// How often it failed in a row.
    failures: u32,
    /// When it may be opened again, or, while it runs, when it was.
    at: Instant,
}

/// A replica that is down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Down {
    pub(super) shard: ShardId,
    pub(super) replica: u64,
    pub(super) error: String,
}

/// The faults of a node's replicas.
#[derive(Debug, Default)]
pub(super) struct Faults {
    shards: Mutex<BTreeMap<ShardId, Fault>>,
}

impl Faults {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<ShardId, Fault>> {
        self.shards.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A replica has failed, or did not open. Says so in the log when the reason is new.
    pub(super) fn failed(&self, shard: ShardId, replica: u64, error: &Error, now: Instant) {
        let text = error.to_string();
        let mut shards = self.lock();
        let fault = shards.entry(shard).or_insert(Fault { replica, error: String::new(), failures: 0, at: now });
        let recovered = fault.error.is_empty() && now.saturating_duration_since(fault.at) > PAUSE_MAX;
        if recovered || fault.replica != replica {
            fault.failures = 0;
        }
        let pause = PAUSE_MIN.saturating_mul(1 << fault.failures.min(16)).min(PAUSE_MAX);
        if fault.error != text {
            tracing::error!(%shard, replica, error = %text, "a replica is down; it is opened again from disk");
        }
        *fault = Fault { replica, error: text, failures: fault.failures.saturating_add(1), at: now + pause };
    }

    /// Whether the replica may be opened now.
    pub(super) fn may_open(&self, shard: ShardId, replica: u64, now: Instant) -> bool {
        let shards = self.lock();
        shards.get(&shard).is_none_or(|fault| fault.replica != replica || fault.at <= now)
    }

    /// The shard's replica runs.
    pub(super) fn opened(&self, shard: ShardId, now: Instant) {
        if let Some(fault) = self.lock().get_mut(&shard) {
            fault.error.clear();
            fault.at = now;
        }
    }

    /// Forgets the shards that have no replica here any more.
    pub(super) fn keep(&self, is_here: impl Fn(ShardId) -> bool) {
        self.lock().retain(|&shard, _| is_here(shard));
    }

    /// The replicas that are down.
    pub(super) fn down(&self) -> Vec<Down> {
        let shards = self.lock();
        let down = shards.iter().filter(|(_, fault)| !fault.error.is_empty());
        down.map(|(&shard, fault)| Down { shard, replica: fault.replica, error: fault.error.clone() }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pauses_grow_and_a_replica_that_ran_well_begins_anew() {
        let (faults, shard) = (Faults::default(), ShardId(3));
        let error = Error::corrupt("a flipped bit");
        let mut now = Instant::now();
        assert!(faults.may_open(shard, 7, now));
        for pause in [500, 1_000, 2_000] {
            faults.failed(shard, 7, &error, now);
            assert_eq!(faults.down().len(), 1);
            now += Duration::from_millis(pause - 1);
            assert!(!faults.may_open(shard, 7, now));
            now += Duration::from_millis(1);
            assert!(faults.may_open(shard, 7, now));
        }
        faults.opened(shard, now);
        assert_eq!(faults.down(), []);
        now += Duration::from_secs(61);
        faults.failed(shard, 7, &error, now);
        now += Duration::from_millis(500);
        assert!(faults.may_open(shard, 7, now));
        for _ in 0..40 {
            faults.failed(shard, 7, &error, now);
        }
        assert!(!faults.may_open(shard, 7, now + PAUSE_MAX - Duration::from_millis(1)));
        assert!(faults.may_open(shard, 7, now + PAUSE_MAX), "the pause has a limit");
        assert!(faults.may_open(shard, 8, now), "another replica of the shard starts afresh");
    }
}
