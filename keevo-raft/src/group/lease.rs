//! The leader's lease, judged where the read is: without a message to the Raft core.
//!
//! ```text
//! holds? ─▶ read the store ─▶ holds still, in the same term? ─▶ answer
//!   └ no ───────────────────────└ no ─▶ through the read gate, which asks the core and, if need be, a quorum
//! ```
//!
//! Why that is enough: a write is acknowledged by the leader after it is applied here, so what this replica has applied
//! holds every write of its own term that anybody was told of; and once it has applied an entry of its own term, every
//! write of earlier terms too. Nobody else can have acknowledged a write as long as a quorum's promise lasts: a voter
//! that followed this leader at `t` elects nobody else before `t` + election timeout, and the lease used here is shorter
//! by the drift that two clocks may have. The second look is what a pause of the process between the first one and the
//! read is judged by.
//!
//! Invariant: no lease read takes place in a term in which this replica has begun to hand its leadership over: the
//! successor's election does not wait for promises.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::type_config::alias::WatchReceiverOf;
use openraft::{Instant as _, ServerState};

use crate::types::{RaftMetrics, TypeConfig};

/// What is known of the lease of one replica.
pub(super) struct Lease {
    metrics: WatchReceiverOf<TypeConfig, RaftMetrics>,
    /// How old a quorum's acknowledgement may be.
    length: Duration,
    /// The last term in which a transfer was begun here; 0 = none.
    handed_over_in: AtomicU64,
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lease").field("length", &self.length).finish_non_exhaustive()
    }
}

impl Lease {
    pub(super) fn new(metrics: WatchReceiverOf<TypeConfig, RaftMetrics>, length: Duration) -> Self {
        Self { metrics, length, handed_over_in: AtomicU64::new(0) }
    }

    /// The term in which this replica may answer reads from what it has applied, now; `None` if it may not.
    pub(super) fn term(&self) -> Option<u64> {
        let metrics = self.metrics.borrow_watched();
        let term = metrics.current_term;
        let own_is_applied = metrics.last_applied.as_ref().is_some_and(|applied| applied.leader_id.term == term);
        let followed = metrics.last_quorum_acked.as_ref().is_some_and(|at| at.elapsed() < self.length);
        let leads = metrics.state == ServerState::Leader && metrics.running_state.is_ok();
        let stays = self.handed_over_in.load(Ordering::SeqCst) != term;
        (leads && own_is_applied && followed && stays).then_some(term)
    }

    /// Ends lease reads in the current term, before its leadership is handed over.
    pub(super) fn end(&self) {
        let term = self.metrics.borrow_watched().current_term;
        self.handed_over_in.fetch_max(term, Ordering::SeqCst);
    }
}
