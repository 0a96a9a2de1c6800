//! The bytes of one replica's log that are committed but not applied yet.
//!
//! ```text
//! appended ──▶ waiting ── the leader says that it is committed ──▶ committed ── applied ──▶ gone
//! ```
//!
//! Invariant: only committed bytes count. They are applied without any further append, so an append that is refused
//! for them succeeds later; were uncommitted ones to count, the append that commits them could be the one refused.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What one append brought.
#[derive(Debug, Clone, Copy)]
struct Part {
    /// Its last log index.
    last: u64,
    bytes: u64,
}

#[derive(Debug, Default)]
struct Parts {
    waiting: VecDeque<Part>,
    committed: VecDeque<Part>,
    /// The last index known to be committed.
    commit: u64,
}

/// The backlog of one replica; adds what it has to the sum of its node.
#[derive(Debug)]
pub(crate) struct Backlog {
    parts: Mutex<Parts>,
    node_bytes: Arc<AtomicU64>,
}

impl Backlog {
    /// An empty one; `node_bytes` is the sum over the node's replicas.
    pub(crate) fn new(node_bytes: Arc<AtomicU64>) -> Self {
        Self { parts: Mutex::default(), node_bytes }
    }

    fn lock(&self) -> MutexGuard<'_, Parts> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Entries `first..=last` of `bytes` bytes were appended, in place of those that had such indexes before.
    pub(crate) fn appended(&self, first: u64, last: u64, bytes: u64) {
        let mut parts = self.lock();
        while parts.waiting.back().is_some_and(|part| part.last >= first) {
            parts.waiting.pop_back();
        }
        parts.waiting.push_back(Part { last, bytes });
        let commit = parts.commit;
        self.settle(&mut parts, commit);
    }

    /// The entries up to `index` are committed.
    pub(crate) fn committed(&self, index: u64) {
        let mut parts = self.lock();
        if index > parts.commit {
            self.settle(&mut parts, index);
        }
    }

    fn settle(&self, parts: &mut Parts, commit: u64) {
        parts.commit = commit;
        while let Some(part) = parts.waiting.front().copied().filter(|part| part.last <= commit) {
            parts.waiting.pop_front();
            parts.committed.push_back(part);
            self.node_bytes.fetch_add(part.bytes, Ordering::SeqCst);
        }
    }

    /// The entries up to `index` are applied.
    pub(crate) fn applied(&self, index: u64) {
        let mut parts = self.lock();
        while parts.waiting.front().is_some_and(|part| part.last <= index) {
            parts.waiting.pop_front();
        }
        while let Some(part) = parts.committed.front().copied().filter(|part| part.last <= index) {
            parts.committed.pop_front();
            self.node_bytes.fetch_sub(part.bytes, Ordering::SeqCst);
        }
    }
}

impl Drop for Backlog {
    fn drop(&mut self) {
        let parts = self.parts.get_mut().unwrap_or_else(PoisonError::into_inner);
        let left: u64 = parts.committed.iter().map(|part| part.bytes).sum();
        self.node_bytes.fetch_sub(left, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backlog() -> (Backlog, Arc<AtomicU64>) {
        let sum = Arc::new(AtomicU64::new(0));
        (Backlog::new(Arc::clone(&sum)), sum)
    }

    #[test]
    fn bytes_count_from_their_commit_to_their_application() {
        let (backlog, sum) = backlog();
        let sum = || sum.load(Ordering::SeqCst);
        backlog.appended(1, 3, 30);
        backlog.appended(4, 6, 60);
        assert_eq!(sum(), 0, "nothing is committed");
        backlog.committed(3);
        assert_eq!(sum(), 30);
        backlog.committed(5);
        assert_eq!(sum(), 30, "an append counts once all of it is committed");
        backlog.committed(6);
        backlog.committed(2);
        assert_eq!(sum(), 90);
        backlog.applied(3);
        assert_eq!(sum(), 60);
        backlog.applied(6);
        assert_eq!(sum(), 0);
        backlog.appended(7, 7, 5);
        backlog.applied(7);
        backlog.committed(7);
        assert_eq!(sum(), 0, "applied before the word came that it is committed");
    }

    #[test]
    fn entries_that_replace_others_do_not_count_twice() {
        let (backlog, sum) = backlog();
        backlog.appended(1, 4, 40);
        backlog.appended(5, 8, 40);
        backlog.appended(5, 6, 7);
        backlog.committed(8);
        assert_eq!(sum.load(Ordering::SeqCst), 47);
    }

    #[test]
    fn a_replica_that_closes_takes_its_bytes_along() {
        let (one, sum) = backlog();
        let other = Backlog::new(Arc::clone(&sum));
        one.appended(1, 1, 10);
        one.committed(1);
        other.appended(1, 1, 7);
        other.committed(1);
        drop(one);
        assert_eq!(sum.load(Ordering::SeqCst), 7);
    }
}
