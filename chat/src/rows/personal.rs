//! Rows of what belongs to one user alone, and of groups.

use prost::Message;

/// A draft; its user, channel and thread are in its key.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct DraftRow {
    #[prost(string, tag = "1")]
    pub(crate) text: String,
    #[prost(string, optional, tag = "2")]
    pub(crate) custom: Option<String>,
    #[prost(string, repeated, tag = "3")]
    pub(crate) attachments: Vec<String>,
    #[prost(string, repeated, tag = "4")]
    pub(crate) mentions: Vec<String>,
    #[prost(string, repeated, tag = "5")]
    pub(crate) mentioned_groups: Vec<String>,
    #[prost(bool, tag = "6")]
    pub(crate) mentions_channel: bool,
    #[prost(string, optional, tag = "7")]
    pub(crate) quoted_id: Option<String>,
    #[prost(uint64, tag = "8")]
    pub(crate) created_at_ms: u64,
    #[prost(uint64, tag = "9")]
    pub(crate) updated_at_ms: u64,
}

/// A reminder; its user, channel and message are in its key.
#[derive(Clone, PartialEq, Message)]
#[allow(clippy::struct_field_names, reason = "all of it is times")]
pub(crate) struct ReminderRow {
    #[prost(uint64, optional, tag = "1")]
    pub(crate) remind_at_ms: Option<u64>,
    #[prost(uint64, tag = "2")]
    pub(crate) created_at_ms: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) updated_at_ms: u64,
    /// When it came due; set once, by whoever found it due first.
    #[prost(uint64, optional, tag = "4")]
    pub(crate) fired_at_ms: Option<u64>,
}

/// A group of users that can be mentioned; its id is in its partition.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct GroupRow {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, optional, tag = "2")]
    pub(crate) custom: Option<String>,
    #[prost(uint64, tag = "3")]
    pub(crate) created_at_ms: u64,
    #[prost(uint64, optional, tag = "4")]
    pub(crate) updated_at_ms: Option<u64>,
    #[prost(string, optional, tag = "5")]
    pub(crate) team: Option<String>,
    /// Since when it is deleted: its id is never used again.
    #[prost(uint64, optional, tag = "6")]
    pub(crate) deleted_at_ms: Option<u64>,
}

/// A user in a group, on either side: in the group's partition and in the user's.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct InGroupRow {
    #[prost(uint64, tag = "1")]
    pub(crate) since_ms: u64,
}

/// The job that erases a user, and how far it has come.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ErasureRow {
    /// Who stands in the user's place from then on.
    #[prost(string, tag = "1")]
    pub(crate) stand_in: String,
    /// Whether what the user wrote stays, under the stand-in's name.
    #[prost(bool, tag = "2")]
    pub(crate) keep_texts: bool,
    #[prost(uint64, tag = "3")]
    pub(crate) asked_at_ms: u64,
    #[prost(message, optional, tag = "4")]
    pub(crate) at: Option<TraceRow>,
    #[prost(uint64, tag = "5")]
    pub(crate) channels: u64,
    #[prost(uint64, tag = "6")]
    pub(crate) messages: u64,
    /// Rows besides messages.
    #[prost(uint64, tag = "7")]
    pub(crate) others: u64,
    #[prost(uint64, optional, tag = "8")]
    pub(crate) done_at_ms: Option<u64>,
}

/// A place in a walk over everything that a user has left in channels.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct TraceRow {
    /// The bucket of the directory of channels.
    #[prost(uint32, tag = "1")]
    pub(crate) bucket: u32,
    /// The last channel of the bucket that is done; empty = none.
    #[prost(string, tag = "2")]
    pub(crate) channel: String,
    /// The channel that is being walked, and the last sort key that is done there; empty = none.
    #[prost(string, tag = "3")]
    pub(crate) within: String,
    #[prost(bytes = "bytes", tag = "4")]
    pub(crate) sort: bytes::Bytes,
    /// All channels are done.
    #[prost(bool, tag = "5")]
    pub(crate) through: bool,
}
