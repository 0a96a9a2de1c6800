//! What a node's search has counted.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of one node since it started, and how its index is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SearchMetrics {
    /// Messages that can be found.
    pub documents: u64,
    /// Messages that were taken in, new or changed.
    pub indexed: u64,
    /// Messages that were taken out.
    pub removed: u64,
    /// Times that what was taken in was made durable and found.
    pub commits: u64,
    /// Times that the index was made anew, since it was of no use or the changes that it lacked were gone.
    pub rebuilds: u64,
    /// Searches that were answered.
    pub queries: u64,
    /// The time that they took, in microseconds.
    pub query_micros: u64,
    /// Searches that failed, or were turned away since too many were under way.
    pub query_failures: u64,
    /// Searches that met a bound.
    pub partial: u64,
    /// The age of the oldest change that was read and is not found yet, in milliseconds.
    pub lag_ms: u64,
    /// How the index is.
    pub state: IndexState,
}

/// How far an index has come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IndexState {
    /// Whether it is known to lag: it is being opened or rebuilt, has many changes to read, or is paused.
    pub catching_up: bool,
    /// Whether it takes nothing in, since the disk has no room for it.
    pub paused: bool,
    /// The revision of the last change that can be found, by shard.
    pub applied: Vec<(u64, u64)>,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) documents: AtomicU64,
    pub(crate) indexed: AtomicU64,
    pub(crate) removed: AtomicU64,
    pub(crate) commits: AtomicU64,
    pub(crate) rebuilds: AtomicU64,
    pub(crate) queries: AtomicU64,
    pub(crate) query_micros: AtomicU64,
    pub(crate) query_failures: AtomicU64,
    pub(crate) partial: AtomicU64,
}

pub(crate) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

impl Counters {
    pub(crate) fn read(&self) -> SearchMetrics {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        SearchMetrics {
            documents: of(&self.documents),
            indexed: of(&self.indexed),
            removed: of(&self.removed),
            commits: of(&self.commits),
            rebuilds: of(&self.rebuilds),
            queries: of(&self.queries),
            query_micros: of(&self.query_micros),
            query_failures: of(&self.query_failures),
            partial: of(&self.partial),
            ..SearchMetrics::default()
        }
    }
}
