//! Watch: committed changes in order, resumable.
//!
//! Each shard keeps its recent changes in the order they were applied; a watch reads from there, so a
//! slow watcher costs nothing but its own lag. It delivers at least once: after a resume a watcher drops
//! what it has seen by comparing cursors.

use bytes::Bytes;
use futures::stream::BoxStream;

use crate::error::{Error, Result};
use crate::ids::{ClusterId, Revision, ShardId};
use crate::key::{Key, Keyspace};

/// A place in a shard's sequence of changes: after the change at `revision`, `offset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cursor {
    /// The cluster the cursor belongs to.
    pub cluster: ClusterId,
    /// The shard.
    pub shard: ShardId,
    /// The revision of the change.
    pub revision: Revision,
    /// The position within that write: a fan-out is thousands of changes at one revision.
    pub offset: u32,
}

/// What a watch covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchRange {
    /// The sort keys of one partition that start with `prefix` (empty = all).
    Partition {
        /// The keyspace.
        keyspace: Keyspace,
        /// The partition.
        partition: Bytes,
        /// What the sort keys start with.
        prefix: Bytes,
    },
    /// A whole keyspace, all shards. Order holds within each shard.
    Keyspace(Keyspace),
}

/// Where a watch starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchFrom {
    /// With the first change applied after the call returned.
    Now,
    /// After these cursors, one per shard; a shard without a cursor starts now.
    After(Vec<Cursor>),
    /// After these cursors, one per shard; a shard without a cursor is not watched, and not asked. `Invalid` without cursors,
    /// `CursorCompacted` where a shard is none of the range's.
    Only(Vec<Cursor>),
}

/// What happened to a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It holds this value.
    Put {
        /// The value.
        value: Bytes,
        /// When it expires, by the shard's clock; `None` = never.
        expires_at_ms: Option<u64>,
    },
    /// It was removed.
    Delete,
    /// Every key of the partition from the event's sort key to `end` was removed (empty = the partition's end).
    DeleteRange {
        /// The sort key after the last.
        end: Bytes,
    },
}

/// One committed change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitEvent {
    /// Resume after this to continue behind the event.
    pub cursor: Cursor,
    /// The key.
    pub key: Key,
    /// What happened to it.
    pub change: Change,
}

impl CommitEvent {
    /// About how many bytes it takes: those of its key, its value, and some more.
    pub fn bytes(&self) -> usize {
        let said = match &self.change {
            Change::Put { value, .. } => value.len(),
            Change::Delete => 0,
            Change::DeleteRange { end } => end.len(),
        };
        self.key.partition.len() + self.key.sort.len() + said + 64
    }
}

/// The changes of a watch. Ends only with an error.
pub type Watch = BoxStream<'static, Result<CommitEvent>>;

/// Some changes of one shard, and how far they reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// The changes, in order.
    pub events: Vec<CommitEvent>,
    /// Everything up to here is among `events` or not of the range: whoever has dealt with them goes on after it. It moves on
    /// in a shard whose changes concern others only.
    pub reached: Cursor,
}

/// The refusal of [`WatchFrom::Only`] without cursors.
pub fn watches_nothing() -> Error {
    Error::invalid("a watch of the shards of its cursors alone needs a cursor")
}
