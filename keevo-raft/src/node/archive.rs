//! The node's shards as the archive of the log and backups see them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use keevo_core::system::ShardState;
use keevo_core::{Archived, Error, ErrorKind, Result, ShardId, StoreView};

use super::Node;
use crate::group::Group;
use crate::types::{Entry, EntryPayload};
use crate::wire;

/// How long a note of the archive's cursor, and the begin of a copy, may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// What an archived log entry says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoggedKind {
    /// Nothing: a new leader's first entry.
    Blank,
    /// A [`keevo_core::Entry`].
    Command,
    /// Who votes and who learns, as `keevo_raft::wire` writes it.
    Membership,
}

/// A committed entry of a shard's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedEntry {
    /// Its index.
    pub index: u64,
    /// The term of the leader that proposed it.
    pub term: u64,
    /// The replica that was this leader.
    pub replica: u64,
    /// What kind of entry it is.
    pub kind: LoggedKind,
    /// Its bytes.
    pub payload: Bytes,
}

impl From<Entry> for LoggedEntry {
    fn from(entry: Entry) -> Self {
        let (kind, payload) = match &entry.payload {
            EntryPayload::Blank => (LoggedKind::Blank, Bytes::new()),
            EntryPayload::Normal(payload) => (LoggedKind::Command, payload.0.clone()),
            EntryPayload::Membership(_) => (LoggedKind::Membership, wire::encode_entry(&entry)),
        };
        let leader = entry.log_id.leader_id;
        Self { index: entry.log_id.index, term: leader.term, replica: leader.node_id, kind, payload }
    }
}

/// Where the archive of a shard's log stands, at its leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArchiveState {
    /// The shard.
    pub shard: ShardId,
    /// What the archive holds; `None` = nothing yet.
    pub archived: Option<Archived>,
    /// The first index that the log still holds.
    pub first_held: u64,
    /// The index after the last applied one.
    pub applied_to: u64,
    /// Bytes of applied entries that wait for the archive, since the replica started.
    pub waiting_bytes: u64,
}

/// A shard at one moment.
#[derive(Debug, Clone)]
pub struct ShardCopy {
    /// The shard.
    pub shard: ShardId,
    /// Its encoded keys: the first, and the one after the last.
    pub range: (Bytes, Bytes),
    /// Its state machine's state: clock, revision.
    pub state: ShardState,
    /// The term of the last applied entry.
    pub term: u64,
    /// The index of the last applied entry.
    pub index: u64,
    /// Its rows, and those of the node's other shards, which may be of another moment.
    pub view: Arc<dyn StoreView>,
}

impl Node {
    /// The shards that this node leads, with what is archived of their logs. One whose state cannot be read is left out,
    /// with a warning.
    pub fn archive_states(&self) -> Vec<ArchiveState> {
        let state = |group: &Arc<Group>| {
            group.archive_state().unwrap_or_else(|error| {
                tracing::warn!(shard = %group.shard(), %error, "the archive's cursor cannot be read");
                None
            })
        };
        self.inner.groups().iter().filter_map(state).collect()
    }

    /// Committed entries of a shard from index `from` on, up to `bytes_max` bytes and at least one, of those that are
    /// applied here. `NotFound` when the log does not reach back so far; `Unavailable` without a replica here.
    pub async fn applied_entries(&self, shard: ShardId, from: u64, bytes_max: usize) -> Result<Vec<LoggedEntry>> {
        self.replica(shard)?.applied_entries(from, bytes_max).await
    }

    /// Notes in a shard that this node leads how far the archive holds its log. `NotLeader`, `OutcomeUnknown`.
    pub async fn note_archived(&self, shard: ShardId, archived: Archived) -> Result<()> {
        self.replica(shard)?.note_archived(archived, DEADLINE).await
    }

    /// A shard that this node leads, as of now: all that was acknowledged before the call is in it. What it shows stays
    /// on the disk as long as it is held. `NotLeader`, `NoQuorum`.
    pub async fn copy_shard(&self, shard: ShardId) -> Result<ShardCopy> {
        self.replica(shard)?.copy(DEADLINE).await
    }

    fn replica(&self, shard: ShardId) -> Result<Arc<Group>> {
        self.inner.group(shard).ok_or_else(|| {
            let message = format!("node {} holds no replica of shard {shard}", self.id());
            Error::new(ErrorKind::Unavailable, message)
        })
    }
}
