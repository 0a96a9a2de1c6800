//! What a node's moderation has counted.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::policy::Action;
use crate::verdict::Verdict;

/// Counters of one node since it started, and what its last sweep found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ModerationMetrics {
    /// Verdicts stored here first, by action, in the order of [`Action::ALL`].
    pub verdicts: [u64; Action::ALL.len()],
    /// Texts of which callers did not hear in time: they were left to the pipeline.
    pub late: u64,
    /// Texts that the change stream brought without a verdict.
    pub caught_up: u64,
    /// Texts that could not be judged, and were set aside for a person.
    pub set_aside: u64,
    /// Sweeps that ended since no worker answered.
    pub stalled: u64,
    /// Times that the change stream had gone on further than it is kept.
    pub gaps: u64,
    /// Records of queues that were dealt with.
    pub queued: u64,
    /// Those of them that are no texts.
    pub unreadable: u64,
    /// Texts that the last sweep found waiting; at least, where there were more than it looked at.
    pub pending: u64,
    /// The age of the oldest of them, in milliseconds.
    pub lag_ms: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    verdicts: [AtomicU64; Action::ALL.len()],
    pub(crate) late: AtomicU64,
    pub(crate) caught_up: AtomicU64,
    set_aside: AtomicU64,
    pub(crate) stalled: AtomicU64,
    pub(crate) gaps: AtomicU64,
    pub(crate) queued: AtomicU64,
    pub(crate) unreadable: AtomicU64,
    pub(crate) pending: AtomicU64,
    pub(crate) lag_ms: AtomicU64,
}

pub(crate) fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Ordering::Relaxed);
}

impl Counters {
    /// Counts a verdict that was stored here first.
    pub(crate) fn stored(&self, verdict: &Verdict) {
        if let Some(counter) = Action::ALL.iter().zip(&self.verdicts).find(|(one, _)| **one == verdict.action) {
            add(counter.1, 1);
        }
        add(&self.set_aside, usize::from(verdict.is_set_aside()));
    }

    pub(crate) fn read(&self) -> ModerationMetrics {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ModerationMetrics {
            verdicts: self.verdicts.each_ref().map(of),
            late: of(&self.late),
            caught_up: of(&self.caught_up),
            set_aside: of(&self.set_aside),
            stalled: of(&self.stalled),
            gaps: of(&self.gaps),
            queued: of(&self.queued),
            unreadable: of(&self.unreadable),
            pending: of(&self.pending),
            lag_ms: of(&self.lag_ms),
        }
    }
}
