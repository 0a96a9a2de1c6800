//! The log store: the Raft logs and votes of all groups of a node, in one place, so that one `fsync`
//! serves many groups.
//!
//! ```text
//!  group 1 ─ append, vote ──┐                        ┌─ callbacks of group 1
//!  group 2 ─ append, purge ─┼─► one bounded queue ─► one writer: one batch, one sync ─┤
//!  group n ─ truncate ──────┘   (order of the calls)                                  └─ callbacks of group n
//! ```
//!
//! Invariants, which `keevo_raft::testing::log_store` checks:
//!
//! * What a group writes reaches the disk in the order of its calls; after a crash the disk holds a prefix
//!   of them. A vote therefore never overtakes an append, nor the other way round.
//! * A vote is durable when [`LogStore::save_vote`] returns. An append is durable when its callback gets
//!   `Ok`; it is readable from the moment [`LogStore::append`] returns.
//! * The entries of a group have no holes. What cannot be kept so is refused, and damage is `Corrupt`.
//! * After a failed write or sync every later call fails with `Io`: what the disk holds is not known any
//!   more, and a later success would hide the gap.

use std::fmt::Debug;
use std::ops::Range;

use bytes::Bytes;
use futures::future::BoxFuture;
use keevo_core::Result;

use crate::types::{Entry, LogId, LogState, Vote};

mod adapter;
mod cache;
#[cfg(feature = "rocksdb")]
pub(crate) mod codec;
mod group;
#[cfg(test)]
mod histories;
mod memory;
mod op;
mod pipeline;
#[cfg(feature = "rocksdb")]
mod rocks;
mod scrub;
pub(crate) mod segmented;
mod writer;

pub use adapter::{GroupLog, io_error, keevo_error};
pub use memory::{MemoryDisk, MemoryLogStore};
#[cfg(feature = "rocksdb")]
pub use rocks::{RocksLogOptions, open_rocks_log_store};
pub use scrub::{LogScrubbed, copy_group, scrub};
pub use segmented::{SegmentedLogOptions, open_segmented_log_store};

/// A Raft group as the log store knows it: the number of its shard.
pub type GroupId = u64;

/// Called once, when an append is durable or has failed. Runs on the store's writer: keep it short.
pub type Done = Box<dyn FnOnce(Result<()>) + Send>;

/// The logs and votes of all groups of a node.
///
/// Calls for one group come one after the other, as openraft makes them; calls for different groups may run
/// at the same time. The futures may be dropped: then the call either took place in full or not at all.
///
/// Errors of every call: `Io` after a failed write, `Closed` when the store is closed, and `Corrupt` for
/// a group that was found damaged, which only [`LogStore::destroy`] repairs. Writes wait while the queue
/// is full.
pub trait LogStore: Debug + Send + Sync + 'static {
    /// Appends entries, whose indexes follow each other and the last one of the group; an empty log starts
    /// anywhere, a purged one after what was purged. Entries that would leave a hole or overwrite others
    /// are `Invalid`: truncate first.
    ///
    /// On return the entries can be read. `done` is called when they are durable, once and in the order of
    /// the appends of the group, maybe before this returns; if this fails it is dropped instead.
    fn append(&self, group: GroupId, entries: Vec<Entry>, done: Done) -> BoxFuture<'_, Result<()>>;

    /// The entries of the group with an index in `range`, as of one moment, without holes: those that the
    /// log holds, cut off before the one that would exceed `bytes_max`. The first one comes in any case.
    fn read(&self, group: GroupId, range: Range<u64>, bytes_max: usize) -> BoxFuture<'_, Result<Vec<Entry>>>;

    /// As [`LogStore::read`], but from the disk alone, whatever memory holds: for a scrub. `range` must be held by the
    /// log. What is not on the disk yet is written first.
    fn read_stored(&self, group: GroupId, range: Range<u64>, bytes_max: usize) -> BoxFuture<'_, Result<Vec<Entry>>> {
        self.read(group, range, bytes_max)
    }

    /// Saves the group's vote. It is durable on return.
    fn save_vote(&self, group: GroupId, vote: Vote) -> BoxFuture<'_, Result<()>>;

    /// The last vote saved.
    fn vote(&self, group: GroupId) -> Result<Option<Vote>>;

    /// Notes up to where the log is committed. Buffered: a power cut may bring back an older note.
    fn save_committed(&self, group: GroupId, committed: Option<LogId>) -> BoxFuture<'_, Result<()>>;

    /// The last note of [`LogStore::save_committed`].
    fn committed(&self, group: GroupId) -> Result<Option<LogId>>;

    /// Removes every entry after `keep`; all entries if there is none. Buffered, but ordered.
    fn truncate_after(&self, group: GroupId, keep: Option<LogId>) -> BoxFuture<'_, Result<()>>;

    /// Removes the entries up to and with `upto`, which may lie beyond the last one; then the log goes on
    /// after `upto`. Purging less than before does nothing. Buffered, but ordered.
    fn purge(&self, group: GroupId, upto: LogId) -> BoxFuture<'_, Result<()>>;

    /// What was purged last, and the last entry, or what was purged if there is no entry.
    fn log_state(&self, group: GroupId) -> Result<LogState>;

    /// Every group that has a vote, an entry or a mark, in order; damaged ones too.
    fn groups(&self) -> Result<Vec<GroupId>>;

    /// Forgets everything of a group, its vote too. Durable on return. Only for replicas that left their
    /// group, since a forgotten vote could be cast twice.
    fn destroy(&self, group: GroupId) -> BoxFuture<'_, Result<()>>;

    /// Durable on return: everything that was called before, buffered writes too.
    fn sync(&self) -> BoxFuture<'_, Result<()>>;

    /// Saves the store's stamp, which says to whom it belongs (cluster, pair). Durable on return.
    fn save_stamp(&self, stamp: Bytes) -> BoxFuture<'_, Result<()>>;

    /// The store's stamp.
    fn stamp(&self) -> Result<Option<Bytes>>;

    /// Gives the space of purged entries back to a disk that is nearly full, if that itself takes well below
    /// `free_bytes` of it.
    fn reclaim(&self, free_bytes: u64) -> BoxFuture<'_, Result<()>> {
        let _ = free_bytes;
        Box::pin(std::future::ready(Ok(())))
    }

    /// What the store has done since it was opened.
    fn counters(&self) -> LogCounters;
}

/// What a log store has done since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogCounters {
    /// Calls of [`LogStore::append`] that reached the disk.
    pub appends: u64,
    /// Entries in them.
    pub entries: u64,
    /// Batches written, synced or not.
    pub batches: u64,
    /// Batches synced: each is one `fsync`.
    pub syncs: u64,
    /// Bytes of keys and values written.
    pub bytes: u64,
    /// Reads that had to go to the disk.
    pub disk_reads: u64,
    /// Calls that wait for the writer at the moment.
    pub queued: u64,
    /// Bytes of entries held in the cache at the moment.
    pub cached_bytes: u64,
    /// Bytes of calls that wait for the writer at the moment.
    pub queued_bytes: u64,
    /// The most that there may be before callers wait.
    pub queued_bytes_max: u64,
    /// The number of the oldest key that entries may be sealed with; 0 = some may not be sealed.
    pub oldest_key: u32,
}
