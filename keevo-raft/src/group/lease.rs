//! The leader's lease, judged where the read is: without a message to the Raft core.
//!
//! ```text
//! read begins ─▶ holds? ─ yes ─▶ read the store ─▶ answer
//!                   └─── no ───▶ through the read gate, which asks the core and, if need be, a quorum
//! ```
//!
//! Why that is enough: a write is acknowledged by the leader after it is applied here, so what this replica has applied
//! holds every write of its own term that anybody was told of; and once it has applied an entry of its own term, every
//! write of earlier terms too. Nobody else can have acknowledged a write when the read began, as long as a quorum's
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

    /// Whether a read that begins now may be answered from what this replica has applied.
    pub(super) fn holds(&self) -> bool {
        let start = self.quorum.begin();
        let Some(leader) = self.quorum.settled_leader() else { return false };
        // Looked at after the read began: a transfer that begins later may hide nothing from it.
        self.handed_over_in.load(Ordering::SeqCst) != leader.term
            && self.quorum.is_confirmed(leader, start, self.length)
    }

    /// Ends lease reads in the current term, before its leadership is handed over.
    pub(super) fn end(&self) {
        self.handed_over_in.fetch_max(self.quorum.term(), Ordering::SeqCst);
    }
}
