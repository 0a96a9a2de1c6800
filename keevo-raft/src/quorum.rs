//! When a quorum last followed this leader, counted by Keevo itself: what leases, read indexes and the age of stale
//! reads rest on.
//!
//! openraft keeps such a time too, but credits it too generously. It notes requests by their last log id, so the late
//! answer to one request acknowledges every younger request with the same last log id as well, among them the empty
//! ones that carry a new commit index:
//!
//! ```text
//! leader    entries up to 10 ──▶ … (stopped) …  up to 10 again, empty ──▶   answer to the first: "quorum as of now"
//! follower         └─ followed here; its promise not to elect another runs from here
//! ```
//!
//! Invariants:
//! * An answer counts from the moment at which the very request that it answers was handed to the transport.
//! * Nothing from before the machine was suspended counts after it: the monotonic clock stood, the peers' did not.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use keevo_core::machine::ShardReader;
use keevo_core::{Clock, Revision, Store};
use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::type_config::alias::WatchReceiverOf;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::types::{LeaderId, Membership, RaftMetrics, TypeConfig};

/// A moment of this replica; later ones are greater, even where the clock has not moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stamp {
    number: u64,
    at: Instant,
}

/// How current a follower is that has applied everything up to `revision`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Freshness {
    /// What had been acknowledged when the quorum followed is at or below this revision.
    pub(crate) revision: Revision,
    /// The leader's wall clock at that moment, in milliseconds; 0 = there is no such moment yet.
    pub(crate) as_of_ms: u64,
    /// How long ago that was by the leader's monotonic clock when it said so, in milliseconds.
    pub(crate) age_ms: u64,
}

/// Who followed this replica as its leader, and when.
pub(crate) struct QuorumClock {
    replica: u64,
    clock: Arc<dyn Clock>,
    suspension_ms_max: u64,
    metrics: OnceLock<WatchReceiverOf<TypeConfig, RaftMetrics>>,
    state: Mutex<State>,
    followed_tx: watch::Sender<()>,
    /// The index after the last one that a peer may know to be committed.
    told: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    last: u64,
    /// The leadership that was followed.
    leader: Option<LeaderId>,
    /// By replica, the newest request that it answered.
    followed: BTreeMap<u64, Stamp>,
    /// How far the wall clock was ahead of the monotonic one, in milliseconds.
    ahead_ms: Option<i128>,
    /// The number after which something must have been sent to count.
    trusted_after: u64,
}

impl fmt::Debug for QuorumClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuorumClock").field("replica", &self.replica).finish_non_exhaustive()
    }
}

impl State {
    fn stamp(&mut self) -> Stamp {
        self.last += 1;
        Stamp { number: self.last, at: Instant::now() }
    }
}

impl QuorumClock {
    /// The clock of one replica. A wall clock that gets ahead of the monotonic one by more than `suspension_ms_max` at
    /// once means that the machine was suspended.
    pub(crate) fn new(replica: u64, clock: Arc<dyn Clock>, suspension_ms_max: u64) -> Arc<Self> {
        let (followed_tx, _) = watch::channel(());
        Arc::new(Self {
            replica,
            clock,
            suspension_ms_max,
            metrics: OnceLock::new(),
            state: Mutex::default(),
            followed_tx,
            told: AtomicU64::new(0),
        })
    }

    /// Where the group's metrics come from; before that nobody follows.
    pub(crate) fn set(&self, metrics: WatchReceiverOf<TypeConfig, RaftMetrics>) {
        // A group has one source for its life.
        drop(self.metrics.set(metrics));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The moment just before a request is handed to the transport.
    pub(crate) fn sending(&self) -> Stamp {
        self.state().stamp()
    }

    /// A peer is about to be told that everything up to `index` is committed: it may apply and show that before this
    /// replica does.
    pub(crate) fn telling(&self, index: u64) {
        self.told.fetch_max(index.saturating_add(1), Ordering::SeqCst);
    }

    /// The index after the last one that a peer may have been told to be committed.
    pub(crate) fn told(&self) -> u64 {
        self.told.load(Ordering::SeqCst)
    }

    /// A replica answered the request of `leader` that was sent at `sent`, and follows it.
    pub(crate) fn followed(&self, leader: LeaderId, replica: u64, sent: Stamp) {
        let mut state = self.state();
        if state.leader.is_some_and(|known| known > leader) {
            return;
        }
        if state.leader != Some(leader) {
            state.leader = Some(leader);
            state.followed.clear();
        }
        let newest = state.followed.entry(replica).or_insert(sent);
        *newest = sent.max(*newest);
        drop(state);
        self.followed_tx.send_replace(());
    }

    /// The moment at which a read begins. Notices that the machine was suspended since the last one.
    pub(crate) fn begin(&self) -> Stamp {
        let mut state = self.state();
        let stamp = state.stamp();
        let monotonic_ms = i128::try_from(self.clock.monotonic().as_millis()).unwrap_or(i128::MAX);
        let ahead_ms = i128::from(self.clock.now_ms()) - monotonic_ms;
        let before = state.ahead_ms.replace(ahead_ms);
        if before.is_some_and(|before| ahead_ms > before + i128::from(self.suspension_ms_max)) {
            state.trusted_after = stamp.number;
        }
        stamp
    }

    /// Whether nobody but `leader` can have led at `start`: a quorum followed it after that, or so shortly before that
    /// it still keeps its promise to elect nobody else. `lease` is how long an answer counts; zero = not at all.
    pub(crate) fn is_confirmed(&self, leader: LeaderId, start: Stamp, lease: Duration) -> bool {
        self.quorum(leader).is_some_and(|quorum| quorum > start || start.at < quorum.at + lease)
    }

    /// Waits until [`Self::is_confirmed`].
    pub(crate) async fn confirmed(&self, leader: LeaderId, start: Stamp, lease: Duration) {
        let mut followed_rx = self.followed_tx.subscribe();
        while !self.is_confirmed(leader, start, lease) {
            // The sender lives as long as this.
            if followed_rx.changed().await.is_err() {
                return;
            }
        }
    }

    /// The latest moment at which a quorum, this replica among it, followed `leader`.
    fn quorum(&self, leader: LeaderId) -> Option<Stamp> {
        let metrics = self.metrics.get()?;
        let membership = Arc::clone(&metrics.borrow_watched().membership_config);
        let mut state = self.state();
        let now = state.stamp();
        let empty = BTreeMap::new();
        let followed = if state.leader == Some(leader) { &state.followed } else { &empty };
        let at = |replica: &u64| if *replica == self.replica { Some(now) } else { followed.get(replica).copied() };
        quorum_of(membership.membership(), at).filter(|quorum| quorum.number > state.trusted_after)
    }

    /// How current a follower is that has applied what `reader` shows, as far as this leader can promise. Nothing is
    /// promised before the leader has applied an entry of its own: until then it may not know what its predecessor
    /// had acknowledged.
    pub(crate) fn freshness<S: Store>(&self, reader: &ShardReader<S>) -> Freshness {
        self.promise(|| reader.applied()).unwrap_or_default()
    }

    fn promise(&self, applied: impl Fn() -> Revision) -> Option<Freshness> {
        let leader = self.settled_leader()?;
        let quorum = self.quorum(leader)?;
        // Read after the moment: whatever had been acknowledged by then is applied here.
        let revision = applied();
        let age_ms = u64::try_from(quorum.at.elapsed().as_millis()).unwrap_or(u64::MAX);
        Some(Freshness { revision, as_of_ms: self.clock.now_ms().saturating_sub(age_ms), age_ms })
    }

    /// The term that this replica is in; 0 before it has told.
    pub(crate) fn term(&self) -> u64 {
        let term = |metrics: &RaftMetrics| metrics.current_term.max(metrics.vote.leader_id.term);
        self.metrics.get().map_or(0, |metrics| term(&metrics.borrow_watched()))
    }

    /// Whether this replica is a voter, of all configurations of its newest membership.
    pub(crate) fn has_vote(&self) -> bool {
        self.metrics.get().is_some_and(|metrics| {
            let metrics = metrics.borrow_watched();
            let configs = metrics.membership_config.membership().get_joint_config();
            configs.iter().all(|voters| voters.contains(&self.replica))
        })
    }

    /// The leadership of this replica, once it has applied an entry of its own. Its vote alone does not say that it
    /// leads: a replica that restarts finds the vote by which it led, and has yet to apply again what it had applied.
    pub(crate) fn settled_leader(&self) -> Option<LeaderId> {
        let metrics = self.metrics.get()?.borrow_watched();
        let applied = metrics.last_applied.as_ref()?.leader_id;
        let leads = metrics.state == ServerState::Leader && metrics.running_state.is_ok();
        let own = metrics.vote.committed && metrics.vote.leader_id == applied && applied.node_id == self.replica;
        (leads && own).then_some(applied)
    }
}

/// The latest moment that a majority of each of the membership's configurations has reached.
fn quorum_of(membership: &Membership, at: impl Fn(&u64) -> Option<Stamp>) -> Option<Stamp> {
    let of = |voters: &BTreeSet<u64>| {
        let mut reached: Vec<Stamp> = voters.iter().filter_map(&at).collect();
        reached.sort_unstable_by(|one, other| other.cmp(one));
        reached.get(voters.len() / 2).copied()
    };
    membership.get_joint_config().iter().map(of).try_fold(None, |least: Option<Stamp>, one| {
        let one = one?;
        Some(Some(least.map_or(one, |least| least.min(one))))
    })?
}

#[cfg(test)]
pub(crate) mod tests;
