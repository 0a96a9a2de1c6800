//! Rows of single features of a channel: polls, locations, retention.

use prost::Message;

/// A poll; its id is in its key, its counts lie beside it.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct PollRow {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, optional, tag = "2")]
    pub(crate) description: Option<String>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) options: Vec<OptionRow>,
    #[prost(string, tag = "4")]
    pub(crate) created_by: String,
    #[prost(uint64, tag = "5")]
    pub(crate) created_at_ms: u64,
    #[prost(uint64, optional, tag = "6")]
    pub(crate) updated_at_ms: Option<u64>,
    #[prost(uint64, optional, tag = "7")]
    pub(crate) closes_at_ms: Option<u64>,
    #[prost(uint64, optional, tag = "8")]
    pub(crate) closed_at_ms: Option<u64>,
    /// The most options that one user votes for; 0 = all.
    #[prost(uint32, tag = "9")]
    pub(crate) votes_max: u32,
    #[prost(bool, tag = "10")]
    pub(crate) anonymous: bool,
    #[prost(bool, tag = "11")]
    pub(crate) suggestions: bool,
    #[prost(bool, tag = "12")]
    pub(crate) answers: bool,
    #[prost(string, optional, tag = "13")]
    pub(crate) custom: Option<String>,
    /// 1 when made, one more with each change.
    #[prost(uint32, tag = "14")]
    pub(crate) version: u32,
    /// Since when it is deleted: nothing of it is shown, and its id is never used again.
    #[prost(uint64, optional, tag = "15")]
    pub(crate) deleted_at_ms: Option<u64>,
    /// Hash of what was first asked: a repeat with the same id must match it.
    #[prost(fixed64, tag = "16")]
    pub(crate) fingerprint: u64,
}

/// An option of a poll.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct OptionRow {
    #[prost(string, tag = "1")]
    pub(crate) id: String,
    #[prost(string, tag = "2")]
    pub(crate) text: String,
    /// Who suggested it; empty = it was there from the start.
    #[prost(string, tag = "3")]
    pub(crate) suggested_by: String,
}

/// What one user voted; the poll and the user are in its key.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct BallotRow {
    /// Sorted, each once.
    #[prost(string, repeated, tag = "1")]
    pub(crate) options: Vec<String>,
    #[prost(string, optional, tag = "2")]
    pub(crate) answer: Option<String>,
    #[prost(uint64, tag = "3")]
    pub(crate) voted_at_ms: u64,
    /// As its poll is, which never changes.
    #[prost(bool, tag = "4")]
    pub(crate) anonymous: bool,
}

impl BallotRow {
    /// Whether it says anything.
    pub(crate) fn votes(&self) -> bool {
        !self.options.is_empty() || self.answer.is_some()
    }
}

/// A location that is or was shared; the message's id is in its key.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct LocationRow {
    #[prost(string, tag = "1")]
    pub(crate) user_id: String,
    /// In units of 10⁻⁷ degrees, north.
    #[prost(sint32, tag = "2")]
    pub(crate) latitude_e7: i32,
    /// In units of 10⁻⁷ degrees, east.
    #[prost(sint32, tag = "3")]
    pub(crate) longitude_e7: i32,
    #[prost(uint64, tag = "4")]
    pub(crate) started_at_ms: u64,
    #[prost(uint64, tag = "5")]
    pub(crate) updated_at_ms: u64,
    #[prost(uint64, tag = "6")]
    pub(crate) ends_at_ms: u64,
    #[prost(uint64, optional, tag = "7")]
    pub(crate) stopped_at_ms: Option<u64>,
    /// 1 when begun, one more with each update.
    #[prost(uint32, tag = "8")]
    pub(crate) version: u32,
    /// As its message's: 1 = only who shares it sees it.
    #[prost(uint32, tag = "9")]
    pub(crate) audience: u32,
}

/// How far retention has come in a channel.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RetainedRow {
    /// Messages of the channel's own sequence up to this number are erased, or passed over.
    #[prost(uint64, tag = "1")]
    pub(crate) position: u64,
}

/// That a channel is deleted, or is being restored, and how far that is done.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct DeletionRow {
    /// The channel's row, until it is restored or erased.
    #[prost(message, optional, tag = "1")]
    pub(crate) channel: Option<super::ChannelRow>,
    #[prost(uint64, tag = "2")]
    pub(crate) deleted_at_ms: u64,
    #[prost(string, tag = "3")]
    pub(crate) deleted_by: String,
    #[prost(bool, tag = "4")]
    pub(crate) erases: bool,
    /// What is done next; see [`crate::channel_delete`].
    #[prost(uint32, tag = "5")]
    pub(crate) stage: u32,
    /// The last row that was done in this stage.
    #[prost(bytes = "bytes", tag = "6")]
    pub(crate) after: bytes::Bytes,
    #[prost(uint64, optional, tag = "7")]
    pub(crate) done_at_ms: Option<u64>,
    /// The channel is there again: this only tells its members' lists.
    #[prost(bool, tag = "8")]
    pub(crate) restores: bool,
}
