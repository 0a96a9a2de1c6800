//! How far one replica's log has come here: submitted, flushed, applied; and when, for its newest appends.
//!
//! Invariant: the newest [`APPENDS_KEPT`] appends are kept, in the order of their indexes, without overlaps: what is appended
//! takes the place of what had such indexes before.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use keevo_core::ShardId;
use keevo_core::trace::{Span, SpanKind, TraceContext};
use tokio::time::Instant;

use super::{Stage, Stages};
use crate::types::{Entry, EntryPayload};

/// How many appends are kept.
const APPENDS_KEPT: usize = 256;
/// The most spans that wait for an append to be flushed; more entries of it that are traced have none.
const TRACED_MAX: usize = 64;

/// One append to the log.
#[derive(Debug, Clone, Copy)]
struct Append {
    first: u64,
    last: u64,
    submitted: Instant,
    flushed: Option<Instant>,
    /// When what it brought began to be applied, and ended.
    apply: Option<(Instant, Instant)>,
}

/// What became of an entry, as far as it is known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moments {
    pub(crate) submitted: Instant,
    pub(crate) flushed: Option<Instant>,
    pub(crate) apply: Option<(Instant, Instant)>,
}

/// The progress of one replica's log.
#[derive(Debug)]
pub(crate) struct Progress {
    shard: ShardId,
    stages: Arc<Stages>,
    submitted: AtomicU64,
    flushed: AtomicU64,
    appends: Mutex<VecDeque<Append>>,
}

/// An append on its way to the disk.
#[derive(Debug)]
pub(crate) struct Pending {
    last: u64,
    submitted: Instant,
    traced: Vec<TraceContext>,
}

impl Progress {
    pub(crate) fn new(shard: ShardId, stages: Arc<Stages>) -> Arc<Self> {
        Arc::new(Self {
            shard,
            stages,
            submitted: AtomicU64::new(0),
            flushed: AtomicU64::new(0),
            appends: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Append>> {
        self.appends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the log held when the replica was opened, all of it on the disk.
    pub(crate) fn opened(&self, last: u64) {
        self.submitted.store(last, Ordering::Relaxed);
        self.flushed.store(last, Ordering::Relaxed);
    }

    /// Entries are handed to the log; nothing where there are none.
    pub(crate) fn appended(&self, entries: &[Entry]) -> Option<Pending> {
        let (first, last) = (entries.first()?.log_id.index, entries.last()?.log_id.index);
        let submitted = Instant::now();
        let mut appends = self.lock();
        // A new leader's entries replace those of an old one.
        while appends.pop_back_if(|append| append.last >= first).is_some() {}
        if appends.len() >= APPENDS_KEPT {
            appends.pop_front();
        }
        appends.push_back(Append { first, last, submitted, flushed: None, apply: None });
        drop(appends);
        self.submitted.store(last, Ordering::Relaxed);
        self.flushed.fetch_min(first.saturating_sub(1), Ordering::Relaxed);
        let traced = if self.stages.sink().is_some() { traced(entries) } else { Vec::new() };
        Some(Pending { last, submitted, traced })
    }

    /// An append is durable.
    pub(crate) fn flushed(&self, pending: &Pending) {
        let now = Instant::now();
        self.stages.took(Stage::Flush, now.saturating_duration_since(pending.submitted));
        let mut appends = self.lock();
        let found = appends.iter_mut().rev().find(|one| one.last == pending.last && one.submitted == pending.submitted);
        // One that was replaced meanwhile says nothing of how far the log is on the disk.
        if let Some(append) = found {
            append.flushed = Some(now);
            self.flushed.fetch_max(pending.last, Ordering::Relaxed);
        }
        drop(appends);
        for context in &pending.traced {
            self.span("raft.append", *context, pending.submitted, now);
        }
    }

    /// Entries `first..=last` were applied from `began` to now.
    pub(crate) fn applied(&self, first: u64, last: u64, began: Instant) {
        let now = Instant::now();
        self.stages.took(Stage::Apply, now.saturating_duration_since(began));
        let mut appends = self.lock();
        // They lie in order, and what is applied is among the newest.
        for append in appends.iter_mut().rev().take_while(|one| one.last >= first).filter(|one| one.first <= last) {
            if append.apply.is_none() {
                self.stages.took(Stage::Commit, began.saturating_duration_since(append.submitted));
            }
            let (first_began, _) = append.apply.unwrap_or((began, now));
            append.apply = Some((first_began, now));
        }
    }

    /// An entry that belongs to a trace was applied.
    pub(crate) fn applied_traced(&self, context: TraceContext, began: Instant) {
        self.span("raft.apply", context, began, Instant::now());
    }

    fn span(&self, name: &'static str, parent: TraceContext, began: Instant, ended: Instant) {
        self.stages.span(Span {
            name: name.into(),
            kind: SpanKind::Internal,
            trace_id: parent.trace_id,
            parent: Some(parent.span_id),
            id: None,
            shard: Some(self.shard),
            began,
            ended,
            failed: false,
        });
    }

    /// When the entry at `index` was appended, flushed and applied; `None` where that is too long ago.
    pub(crate) fn moments(&self, index: u64) -> Option<Moments> {
        let appends = self.lock();
        let append = appends.iter().rev().find(|one| one.first <= index && index <= one.last)?;
        Some(Moments { submitted: append.submitted, flushed: append.flushed, apply: append.apply })
    }

    /// The index of the last entry that was handed to the log.
    pub(crate) fn submitted_index(&self) -> u64 {
        self.submitted.load(Ordering::Relaxed)
    }

    /// The index of the last entry that is known to be on the disk.
    pub(crate) fn flushed_index(&self) -> u64 {
        self.flushed.load(Ordering::Relaxed)
    }
}

/// The traces that entries belong to.
fn traced(entries: &[Entry]) -> Vec<TraceContext> {
    let context = |entry: &Entry| match &entry.payload {
        EntryPayload::Normal(payload) => TraceContext::of_entry(&payload.0).filter(|context| context.sampled),
        EntryPayload::Blank | EntryPayload::Membership(_) => None,
    };
    entries.iter().filter_map(context).take(TRACED_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::log_id;

    fn entries(range: std::ops::RangeInclusive<u64>) -> Vec<Entry> {
        range.map(|index| Entry { log_id: log_id(1, 1, index), payload: EntryPayload::Blank }).collect()
    }

    #[test]
    fn an_entry_is_followed_from_the_append_to_the_apply() {
        let progress = Progress::new(ShardId(1), Arc::default());
        progress.opened(4);
        assert_eq!((progress.submitted_index(), progress.flushed_index()), (4, 4));
        let pending = progress.appended(&entries(5..=7)).expect("some");
        assert_eq!((progress.submitted_index(), progress.flushed_index()), (7, 4));
        assert!(progress.moments(6).is_some_and(|one| one.flushed.is_none() && one.apply.is_none()));
        progress.flushed(&pending);
        assert_eq!(progress.flushed_index(), 7);
        progress.applied(5, 6, Instant::now());
        let moments = progress.moments(6).expect("recent");
        assert!(moments.flushed >= Some(moments.submitted) && moments.apply.is_some());
        assert!(progress.moments(4).is_none() && progress.moments(8).is_none());
        let counts: Vec<u64> = progress.stages.times().iter().map(|(_, times)| times.count).collect();
        assert_eq!(counts, [0, 0, 1, 1, 1, 0]);
        assert!(progress.appended(&[]).is_none());
    }

    #[test]
    fn what_replaces_others_is_not_taken_for_them() {
        let progress = Progress::new(ShardId(1), Arc::default());
        let old = progress.appended(&entries(1..=5)).expect("some");
        let new = progress.appended(&entries(4..=5)).expect("some");
        progress.flushed(&old);
        assert_eq!(progress.flushed_index(), 0, "the old one was replaced");
        progress.flushed(&new);
        assert_eq!((progress.submitted_index(), progress.flushed_index()), (5, 5));
        for index in 6..6 + 2 * APPENDS_KEPT as u64 {
            progress.appended(&entries(index..=index));
        }
        assert_eq!(progress.lock().len(), APPENDS_KEPT);
        assert!(progress.moments(6).is_none());
    }
}
