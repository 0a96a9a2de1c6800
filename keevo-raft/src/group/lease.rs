//! The leader's lease, judged where the read is: without a message to the Raft core.
//!
//! ```text
//! read begins ─▶ holds? ─ yes ─▶ read the store ─▶ answer
//!                   └─── no ───▶ through the read gate, which asks the core and, if need be, a quorum
//! ```
//!
//! Why that is enough: a write is acknowledged by the leader after it is applied here, and shown by a follower after that
//! was told that it is committed. So once this replica has applied all that it told anybody to be committed, it holds
//! every write of its own term that anybody can know of; and once it has applied an entry of its own term, every write of
//! earlier terms too. Nobody else can have acknowledged a write when the read began, as long as a quorum's
//! promise lasted then. How long after that the store is read makes no difference, as in `read_gate.rs`.
//!
//! Invariant: no lease read takes place in a term in which this replica has begun to hand its leadership over: the
//! successor's election does not wait for promises.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::quorum::QuorumClock;

/// What is known of the lease of one replica.
#[derive(Debug)]
pub(super) struct Lease {
    quorum: Arc<QuorumClock>,
    /// How old a quorum's acknowledgement may be; zero = there are no leases.
    length: Duration,
    /// The last term in which a transfer was begun here; 0 = none.
    handed_over_in: AtomicU64,
}

impl Lease {
    pub(super) fn new(quorum: Arc<QuorumClock>, length: Duration) -> Self {
        Self { quorum, length, handed_over_in: AtomicU64::new(0) }
    }

    /// Whether a read that begins now may be answered from what this replica has applied, which is what comes before the
    /// index `applied_to`.
    pub(super) fn holds(&self, applied_to: u64) -> bool {
        let start = self.quorum.begin();
        // A follower may have applied, and shown, what is committed before it is applied here.
        if applied_to < self.quorum.told() {
            return false;
        }
        let Some(leader) = self.quorum.settled_leader() else { return false };
        // Looked at after the read began: a transfer that begins later may hide nothing from it. A leader that has lost its
        // vote is made to hand over by openraft itself.
        self.handed_over_in.load(Ordering::SeqCst) != leader.term
            && self.quorum.has_vote()
            && self.quorum.is_confirmed(leader, start, self.length)
    }

    /// Ends lease reads in the current term, before its leadership is handed over.
    pub(super) fn end(&self) {
        self.handed_over_in.fetch_max(self.quorum.term(), Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use openraft::ServerState;

    use super::*;
    use crate::quorum::tests::{Bench, LEASE, leader};

    const APPLIED: u64 = 6;

    fn lease(bench: &Bench) -> Lease {
        Lease::new(Arc::clone(&bench.quorum), LEASE)
    }

    #[tokio::test]
    async fn a_lease_holds_while_a_quorum_follows_and_ends_with_a_transfer() {
        let bench = Bench::new(&[&[1, 2, 3]]);
        let lease = lease(&bench);
        assert!(!lease.holds(APPLIED), "nobody has followed yet");
        bench.quorum.followed(leader(1), 2, bench.quorum.sending());
        assert!(lease.holds(APPLIED));
        lease.end();
        assert!(!lease.holds(APPLIED));
    }

    /// A follower that hears early that an entry is committed can show it before the leader has applied it.
    #[tokio::test]
    async fn what_a_peer_may_show_is_applied_first() {
        let bench = Bench::new(&[&[1, 2, 3]]);
        let lease = lease(&bench);
        bench.quorum.followed(leader(1), 2, bench.quorum.sending());
        bench.quorum.telling(APPLIED - 1);
        assert!(lease.holds(APPLIED));
        bench.quorum.telling(APPLIED);
        assert!(!lease.holds(APPLIED));
        bench.quorum.telling(APPLIED - 1);
        assert!(!lease.holds(APPLIED), "what was told once stays told");
        assert!(lease.holds(APPLIED + 1));
    }

    /// A leader that was taken out of the voters goes on until openraft makes another one lead, before any promise has
    /// run out.
    #[tokio::test]
    async fn a_leader_without_a_vote_has_no_lease() {
        let memberships: [&[&[u64]]; 2] = [&[&[2, 3]], &[&[1, 2, 3], &[2, 3]]];
        for configs in memberships {
            let bench = Bench::new(configs);
            for replica in [2, 3] {
                bench.quorum.followed(leader(1), replica, bench.quorum.sending());
            }
            assert!(!lease(&bench).holds(APPLIED), "{configs:?}");
        }
    }

    /// A sole voter that restarts finds its own vote and what it had flushed, and nobody else's promise to ask for: it
    /// would read, as a leader, a state that lacks what it had acknowledged since the last flush.
    #[tokio::test]
    async fn a_restarted_replica_does_not_read_by_the_vote_that_it_finds() {
        let mut bench = Bench::new(&[&[1]]);
        assert!(lease(&bench).holds(APPLIED), "a sole voter that leads");
        bench.set(|metrics| metrics.state = ServerState::Follower);
        assert!(!lease(&bench).holds(APPLIED), "it has not been elected again");
    }
}
