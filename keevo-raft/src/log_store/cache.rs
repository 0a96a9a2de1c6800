//! Which cached entries go first: those that were appended first, whatever their group.
//!
//! Invariant: the bytes counted here are those of all tails; beyond the limit only entries stay that are not
//! yet on disk, and those are bounded by the queue.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::GroupId;

/// An append counts as at least this much, so that the list of appends is bounded too.
const APPEND_BYTES_MIN: usize = 1024;

/// The order and the size of what is cached.
#[derive(Debug)]
pub(super) struct Cache {
    bytes_max: usize,
    bytes: AtomicUsize,
    appends: Mutex<VecDeque<(GroupId, u64)>>,
}

impl Cache {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, bytes: AtomicUsize::new(0), appends: Mutex::default() }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Notes an append of `bytes` up to the index `last`.
    pub(super) fn grew(&self, group: GroupId, last: u64, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.appends().push_back((group, last));
    }

    /// Notes that entries of `bytes` were dropped.
    pub(super) fn shrank(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// While too much is cached, calls `evict` for the oldest append, which drops a group's entries up to an
    /// index and says how many bytes that freed and whether all of them went.
    pub(super) fn trim(&self, evict: impl Fn(GroupId, u64) -> (usize, bool)) {
        loop {
            let mut appends = self.appends();
            let is_full = self.bytes() > self.bytes_max || appends.len() > self.bytes_max / APPEND_BYTES_MIN;
            let Some((group, upto)) = appends.pop_front_if(|_| is_full) else { return };
            drop(appends);
            let (freed, gone) = evict(group, upto);
            self.shrank(freed);
            if !gone {
                self.appends().push_front((group, upto));
                return;
            }
        }
    }

    fn appends(&self) -> std::sync::MutexGuard<'_, VecDeque<(GroupId, u64)>> {
        self.appends.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
