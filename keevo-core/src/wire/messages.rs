//! The protobuf messages behind log entries, stored outcomes and change rows.
//!
//! Invariant: a tag never changes its meaning. An unknown member of a `oneof` stops the reader; a field
//! that an older reader would skip to another effect needs a new version byte.

use bytes::Bytes;
use prost::{Message, Oneof};

#[derive(Clone, PartialEq, Message)]
pub(crate) struct EntryMessage {
    #[prost(fixed64, tag = "1")]
    pub(crate) hlc: u64,
    /// Tags 7 and 8 are what the entry says of API calls (`call/note.rs`), which apply does not read.
    #[prost(oneof = "CommandMessage", tags = "2, 3, 4, 5, 6, 10, 11, 12")]
    pub(crate) command: Option<CommandMessage>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum CommandMessage {
    #[prost(message, tag = "2")]
    Write(WriteMessage),
    #[prost(message, tag = "3")]
    FanOut(FanOutMessage),
    #[prost(message, tag = "4")]
    OpenSession(ClientMessage),
    #[prost(message, tag = "5")]
    Checksum(Unit),
    #[prost(message, tag = "6")]
    MoveClock(Unit),
    #[prost(message, tag = "10")]
    Restore(RestoreMessage),
    #[prost(message, tag = "11")]
    Archived(ArchivedMessage),
    /// Since level 3.
    #[prost(message, tag = "12")]
    FencedRestore(FencedRestoreMessage),
}

/// Not a field of [`RestoreMessage`]: who does not know of fences would store what is to be refused.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct FencedRestoreMessage {
    #[prost(message, optional, tag = "1")]
    pub(crate) restore: Option<RestoreMessage>,
    #[prost(uint64, tag = "2")]
    pub(crate) number: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) source: u64,
    #[prost(uint64, tag = "4")]
    pub(crate) take: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct RestoreMessage {
    #[prost(uint64, tag = "1")]
    pub(crate) base: u64,
    #[prost(message, repeated, tag = "2")]
    pub(crate) rows: Vec<RestoredRowMessage>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct RestoredRowMessage {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) stored: Bytes,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct ArchivedMessage {
    #[prost(uint64, tag = "1")]
    pub(crate) from: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) upto: u64,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Unit {}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct ClientMessage {
    #[prost(fixed64, tag = "1")]
    pub(crate) high: u64,
    #[prost(fixed64, tag = "2")]
    pub(crate) low: u64,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct KeyspaceMessage {
    #[prost(uint32, tag = "1")]
    pub(crate) id: u32,
    /// The partition length of an ordered keyspace; 0 = hashed.
    #[prost(uint32, tag = "2")]
    pub(crate) partition_bytes: u32,
}

/// A partition: that of a whole batch, or of one key that lies elsewhere.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct PlaceMessage {
    #[prost(message, optional, tag = "1")]
    pub(crate) keyspace: Option<KeyspaceMessage>,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) partition: Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct WriteMessage {
    #[prost(message, optional, tag = "1")]
    pub(crate) place: Option<PlaceMessage>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) preconditions: Vec<PreconditionMessage>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) ops: Vec<OpMessage>,
    #[prost(message, optional, tag = "4")]
    pub(crate) request: Option<RequestMessage>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct RequestMessage {
    #[prost(message, optional, tag = "1")]
    pub(crate) client: Option<ClientMessage>,
    #[prost(uint64, tag = "2")]
    pub(crate) sequence: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) acked_below: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PreconditionMessage {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) sort: Bytes,
    /// Where the key lies, if not in the batch's partition.
    #[prost(message, optional, tag = "2")]
    pub(crate) elsewhere: Option<PlaceMessage>,
    #[prost(oneof = "CheckMessage", tags = "3, 4, 5, 6")]
    pub(crate) check: Option<CheckMessage>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum CheckMessage {
    #[prost(message, tag = "3")]
    Absent(Unit),
    #[prost(message, tag = "4")]
    Exists(Unit),
    #[prost(uint64, tag = "5")]
    RevisionIs(u64),
    #[prost(bytes = "bytes", tag = "6")]
    ValueIs(Bytes),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct OpMessage {
    /// The operation's own sort key: where, the start, or the counter.
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) sort: Bytes,
    /// Where the key lies, if not in the batch's partition.
    #[prost(message, optional, tag = "2")]
    pub(crate) elsewhere: Option<PlaceMessage>,
    #[prost(oneof = "OpKindMessage", tags = "3, 4, 5, 6, 7")]
    pub(crate) kind: Option<OpKindMessage>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum OpKindMessage {
    #[prost(message, tag = "3")]
    Put(PutMessage),
    #[prost(message, tag = "4")]
    Delete(Unit),
    #[prost(bytes = "bytes", tag = "5")]
    DeleteRange(Bytes),
    #[prost(sint64, tag = "6")]
    Merge(i64),
    #[prost(message, tag = "7")]
    Append(AppendMessage),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PutMessage {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) value: Bytes,
    #[prost(uint64, optional, tag = "2")]
    pub(crate) ttl_ms: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct AppendMessage {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) prefix: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) value: Bytes,
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub(crate) index: Option<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct FanOutMessage {
    #[prost(message, optional, tag = "1")]
    pub(crate) keyspace: Option<KeyspaceMessage>,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) sort: Bytes,
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub(crate) guard_sort: Option<Bytes>,
    #[prost(oneof = "ActionMessage", tags = "4, 5")]
    pub(crate) action: Option<ActionMessage>,
    #[prost(message, repeated, tag = "6")]
    pub(crate) targets: Vec<TargetMessage>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum ActionMessage {
    #[prost(message, tag = "4")]
    Put(PutMessage),
    #[prost(uint64, tag = "5")]
    Remove(u64),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TargetMessage {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) partition: Bytes,
    #[prost(uint64, optional, tag = "2")]
    pub(crate) guard: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct OutcomeMessage {
    #[prost(oneof = "OutcomeKindMessage", tags = "1, 2, 3, 4, 5, 6, 7")]
    pub(crate) kind: Option<OutcomeKindMessage>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum OutcomeKindMessage {
    #[prost(message, tag = "1")]
    Written(WrittenMessage),
    #[prost(message, tag = "2")]
    FannedOut(FannedOutMessage),
    #[prost(message, tag = "3")]
    SessionOpened(Unit),
    #[prost(message, tag = "4")]
    Checksum(ChecksumMessage),
    #[prost(message, tag = "5")]
    Refused(RefusedMessage),
    #[prost(message, tag = "6")]
    ClockMoved(Unit),
    #[prost(message, tag = "7")]
    Done(Unit),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct WrittenMessage {
    #[prost(uint64, tag = "1")]
    pub(crate) revision: u64,
    #[prost(sint64, repeated, tag = "2")]
    pub(crate) assigned: Vec<i64>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct FannedOutMessage {
    #[prost(uint64, tag = "1")]
    pub(crate) applied: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) skipped: u64,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct ChecksumMessage {
    #[prost(uint64, tag = "1")]
    pub(crate) revision: u64,
    #[prost(fixed64, tag = "2")]
    pub(crate) hash: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) records: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct RefusedMessage {
    #[prost(string, tag = "1")]
    pub(crate) kind: String,
    #[prost(string, tag = "2")]
    pub(crate) message: String,
}

/// What a session keeps of one request.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct StoredOutcomeMessage {
    #[prost(fixed64, tag = "1")]
    pub(crate) hlc: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) acked_below: u64,
    #[prost(message, optional, tag = "3")]
    pub(crate) outcome: Option<OutcomeMessage>,
    #[prost(uint64, tag = "4")]
    pub(crate) sequence: u64,
}

/// A session's row for the requests of one chunk, in ascending order.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct StoredOutcomesMessage {
    #[prost(message, repeated, tag = "1")]
    pub(crate) outcomes: Vec<StoredOutcomeMessage>,
}

/// The changes of one entry.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ChangesMessage {
    #[prost(message, optional, tag = "1")]
    pub(crate) keyspace: Option<KeyspaceMessage>,
    /// One partition and its changes, or one change and its partitions.
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub(crate) partitions: Vec<Bytes>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) changes: Vec<ChangeMessage>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ChangeMessage {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) sort: Bytes,
    #[prost(oneof = "ChangeKindMessage", tags = "2, 3, 4")]
    pub(crate) kind: Option<ChangeKindMessage>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum ChangeKindMessage {
    #[prost(message, tag = "2")]
    Put(ChangedValueMessage),
    #[prost(message, tag = "3")]
    Delete(Unit),
    #[prost(bytes = "bytes", tag = "4")]
    DeleteRange(Bytes),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ChangedValueMessage {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) value: Bytes,
    #[prost(uint64, optional, tag = "2")]
    pub(crate) expires_at_ms: Option<u64>,
}
