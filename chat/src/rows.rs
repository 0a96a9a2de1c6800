//! The values of chat's rows: protobuf messages, and the integers that merges and appends keep.
//!
//! Invariant: a field's number is never reused, and bytes that do not decode are `Corrupt`, never a panic.

mod features;
mod personal;

use bytes::{Bytes, BytesMut};
use keevo_core::{Error, Result};
use prost::Message;

pub(crate) use features::{BallotRow, DeletionRow, LocationRow, OptionRow, PollRow, RetainedRow};
pub(crate) use personal::{DraftRow, ErasureRow, GroupRow, InGroupRow, ReminderRow, TraceRow};

/// A channel.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ChannelRow {
    #[prost(string, tag = "1")]
    pub(crate) created_by: String,
    #[prost(uint64, tag = "2")]
    pub(crate) created_at_ms: u64,
    #[prost(uint64, optional, tag = "3")]
    pub(crate) updated_at_ms: Option<u64>,
    #[prost(string, optional, tag = "4")]
    pub(crate) custom: Option<String>,
    /// 1 when created, one more with each update.
    #[prost(uint32, tag = "5")]
    pub(crate) version: u32,
    #[prost(string, optional, tag = "6")]
    pub(crate) team: Option<String>,
    /// The members that it is the one channel of, sorted; empty = it is none of that kind.
    #[prost(string, repeated, tag = "7")]
    pub(crate) distinct: Vec<String>,
    #[prost(uint64, optional, tag = "8")]
    pub(crate) frozen_at_ms: Option<u64>,
    #[prost(uint64, optional, tag = "9")]
    pub(crate) disabled_at_ms: Option<u64>,
    #[prost(uint64, optional, tag = "10")]
    pub(crate) slow_mode_ms: Option<u64>,
    /// What was said up to this number is not shown any more.
    #[prost(uint64, tag = "11")]
    pub(crate) truncated: u64,
}

/// A ban of a user, from a channel or from the app.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct BanRow {
    #[prost(string, tag = "1")]
    pub(crate) banned_by: String,
    #[prost(uint64, tag = "2")]
    pub(crate) banned_at_ms: u64,
    #[prost(uint64, optional, tag = "3")]
    pub(crate) expires_at_ms: Option<u64>,
    #[prost(string, optional, tag = "4")]
    pub(crate) reason: Option<String>,
    #[prost(bool, tag = "5")]
    pub(crate) shadow: bool,
}

/// What a user wants of a channel; its id is in the key.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct PreferenceRow {
    /// Hidden as long as the channel's newest message has this number.
    #[prost(uint64, optional, tag = "1")]
    pub(crate) hidden_at: Option<u64>,
    #[prost(uint64, optional, tag = "2")]
    pub(crate) archived_at_ms: Option<u64>,
    #[prost(uint64, optional, tag = "3")]
    pub(crate) pinned_at_ms: Option<u64>,
    #[prost(uint64, optional, tag = "4")]
    pub(crate) muted_at_ms: Option<u64>,
    #[prost(uint64, optional, tag = "5")]
    pub(crate) muted_until_ms: Option<u64>,
}

/// A user that is muted or blocked; its id is in the key.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct AgainstRow {
    #[prost(uint64, tag = "1")]
    pub(crate) since_ms: u64,
    #[prost(uint64, optional, tag = "2")]
    pub(crate) until_ms: Option<u64>,
}

/// Up to where a member has got the messages.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ReceiptRow {
    #[prost(uint64, tag = "1")]
    pub(crate) position: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) delivered_at_ms: u64,
}

/// A flag on a message; its place and who flagged it are in its key.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct FlagRow {
    #[prost(string, tag = "1")]
    pub(crate) reason: String,
    #[prost(uint64, tag = "2")]
    pub(crate) flagged_at_ms: u64,
}

/// The last review of a message.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ReviewRow {
    #[prost(string, tag = "1")]
    pub(crate) reviewed_by: String,
    #[prost(uint64, tag = "2")]
    pub(crate) reviewed_at_ms: u64,
    /// See [`crate::review`].
    #[prost(uint32, tag = "3")]
    pub(crate) verdict: u32,
}

/// A user of the app.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct UserRow {
    #[prost(string, tag = "1")]
    pub(crate) role: String,
    /// Sorted.
    #[prost(string, repeated, tag = "2")]
    pub(crate) teams: Vec<String>,
    #[prost(string, optional, tag = "3")]
    pub(crate) custom: Option<String>,
    #[prost(uint64, tag = "4")]
    pub(crate) created_at_ms: u64,
    #[prost(uint64, optional, tag = "5")]
    pub(crate) updated_at_ms: Option<u64>,
    #[prost(uint64, optional, tag = "6")]
    pub(crate) deactivated_at_ms: Option<u64>,
}

/// An invitation.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct InviteRow {
    /// See [`crate::invite`].
    #[prost(uint32, tag = "1")]
    pub(crate) state: u32,
    #[prost(string, tag = "2")]
    pub(crate) role: String,
    #[prost(string, repeated, tag = "3")]
    pub(crate) grants: Vec<String>,
    #[prost(string, optional, tag = "4")]
    pub(crate) custom: Option<String>,
    #[prost(string, tag = "5")]
    pub(crate) invited_by: String,
    #[prost(uint64, tag = "6")]
    pub(crate) invited_at_ms: u64,
    #[prost(uint64, optional, tag = "7")]
    pub(crate) answered_at_ms: Option<u64>,
}

/// A member of a channel. Its unread count starts behind `baseline_position`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct MemberRow {
    #[prost(string, tag = "1")]
    pub(crate) role: String,
    #[prost(uint64, tag = "2")]
    pub(crate) joined_at_ms: u64,
    #[prost(uint32, tag = "3")]
    pub(crate) version: u32,
    #[prost(uint64, tag = "4")]
    pub(crate) baseline_position: u64,
    /// Countable messages of others up to the position.
    #[prost(uint64, tag = "5")]
    pub(crate) baseline_others: u64,
    /// The revision of the write by which it joined; 0 = that of this row, which nothing has changed since.
    #[prost(uint64, tag = "6")]
    pub(crate) joined_revision: u64,
    /// Names of capabilities, sorted.
    #[prost(string, repeated, tag = "7")]
    pub(crate) grants: Vec<String>,
    #[prost(string, optional, tag = "8")]
    pub(crate) custom: Option<String>,
}

/// How far a member has read.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ReadRow {
    #[prost(uint64, tag = "1")]
    pub(crate) position: u64,
    /// Countable messages of others up to the position.
    #[prost(uint64, tag = "2")]
    pub(crate) others: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) read_at_ms: u64,
}

/// A message. Its number is in its key, since the engine assigns it.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct MessageRow {
    #[prost(string, tag = "1")]
    pub(crate) id: String,
    #[prost(string, tag = "2")]
    pub(crate) user_id: String,
    #[prost(string, tag = "3")]
    pub(crate) text: String,
    #[prost(string, optional, tag = "4")]
    pub(crate) custom: Option<String>,
    #[prost(string, optional, tag = "5")]
    pub(crate) parent_id: Option<String>,
    #[prost(bool, tag = "6")]
    pub(crate) system: bool,
    #[prost(bool, tag = "7")]
    pub(crate) silent: bool,
    #[prost(uint64, tag = "8")]
    pub(crate) created_at_ms: u64,
    #[prost(uint64, optional, tag = "9")]
    pub(crate) updated_at_ms: Option<u64>,
    #[prost(uint64, optional, tag = "10")]
    pub(crate) deleted_at_ms: Option<u64>,
    /// 1 when sent, one more with each edit or deletion.
    #[prost(uint32, tag = "11")]
    pub(crate) version: u32,
    /// Hash of what was first sent: a repeated send with the same id must match it.
    #[prost(fixed64, tag = "12")]
    pub(crate) fingerprint: u64,
    /// JSON objects.
    #[prost(string, repeated, tag = "13")]
    pub(crate) attachments: Vec<String>,
    #[prost(string, repeated, tag = "14")]
    pub(crate) mentions: Vec<String>,
    #[prost(bool, tag = "15")]
    pub(crate) mentions_channel: bool,
    #[prost(string, repeated, tag = "16")]
    pub(crate) mentioned_groups: Vec<String>,
    #[prost(string, optional, tag = "17")]
    pub(crate) quoted_id: Option<String>,
    #[prost(message, optional, tag = "18")]
    pub(crate) pinned: Option<PinRow>,
    /// 0 = not deleted or only hidden, 1 = nothing of it is kept.
    #[prost(uint32, tag = "19")]
    pub(crate) erased: u32,
    /// 0 = everybody sees it, 1 = only who sent it. Never changes.
    #[prost(uint32, tag = "20")]
    pub(crate) audience: u32,
    /// The poll that it shows.
    #[prost(string, optional, tag = "21")]
    pub(crate) poll_id: Option<String>,
    /// 1 = it shares a location, which lies in a row of its own.
    #[prost(uint32, tag = "22")]
    pub(crate) location: u32,
}

/// How a message is pinned.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct PinRow {
    #[prost(uint64, tag = "1")]
    pub(crate) pinned_at_ms: u64,
    #[prost(string, tag = "2")]
    pub(crate) pinned_by: String,
    #[prost(uint64, optional, tag = "3")]
    pub(crate) expires_at_ms: Option<u64>,
}

impl MessageRow {
    /// Whether it counted as unread for others when it was sent, in the channel's own sequence.
    pub(crate) fn countable(&self) -> bool {
        self.counts() && self.parent_id.is_none()
    }

    /// Whether it counted as unread for others when it was sent, in the sequence that it is of.
    pub(crate) fn counts(&self) -> bool {
        !self.system && !self.silent && self.audience == 0
    }
}

/// A message, or an edit of one, that is kept back.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct HeldRow {
    /// As it is to be sent, or as it is to be after the edit.
    #[prost(message, optional, tag = "1")]
    pub(crate) message: Option<MessageRow>,
    #[prost(uint64, tag = "2")]
    pub(crate) held_at_ms: u64,
    /// Of an edit: who makes it; else empty.
    #[prost(string, tag = "3")]
    pub(crate) edited_by: String,
    /// Of an edit: when the message was edited before, if it was.
    #[prost(uint64, optional, tag = "4")]
    pub(crate) edit_of_ms: Option<u64>,
}

/// What an edit replaced.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct EditRow {
    #[prost(string, tag = "1")]
    pub(crate) text: String,
    #[prost(string, optional, tag = "2")]
    pub(crate) custom: Option<String>,
    #[prost(uint64, tag = "3")]
    pub(crate) replaced_at_ms: u64,
    #[prost(string, tag = "4")]
    pub(crate) replaced_by: String,
    #[prost(string, repeated, tag = "5")]
    pub(crate) attachments: Vec<String>,
}

/// A reaction; its type and user are in its key.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ReactionRow {
    #[prost(string, tag = "1")]
    pub(crate) message_id: String,
    #[prost(uint64, tag = "2")]
    pub(crate) created_at_ms: u64,
    #[prost(string, optional, tag = "3")]
    pub(crate) custom: Option<String>,
    /// `None` = 1.
    #[prost(sint64, optional, tag = "4")]
    pub(crate) score: Option<i64>,
}

impl ReactionRow {
    /// What it adds to the scores of its type.
    pub(crate) fn points(&self) -> i64 {
        self.score.unwrap_or(1)
    }
}

/// A mention; its number is in its key.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct MentionRow {
    #[prost(string, tag = "1")]
    pub(crate) message_id: String,
}

/// How far a user has read a thread, and whether it has left it.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ThreadReadRow {
    #[prost(uint64, tag = "1")]
    pub(crate) position: u64,
    /// Countable replies of others up to the position.
    #[prost(uint64, tag = "2")]
    pub(crate) others: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) read_at_ms: u64,
    #[prost(bool, tag = "4")]
    pub(crate) unfollowed: bool,
}

/// A countable message that no longer counts; its number is in its key.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct AdjustmentRow {
    /// Who sent the message.
    #[prost(string, tag = "1")]
    pub(crate) user_id: String,
}

/// A job of the outbox: bring these users' lists of channels up to date.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct JobRow {
    #[prost(message, repeated, tag = "1")]
    pub(crate) changes: Vec<JobChange>,
}

/// One user's change of membership.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct JobChange {
    #[prost(string, tag = "1")]
    pub(crate) user_id: String,
    #[prost(string, tag = "2")]
    pub(crate) role: String,
    #[prost(uint64, tag = "3")]
    pub(crate) joined_at_ms: u64,
    #[prost(bool, tag = "4")]
    pub(crate) removed: bool,
    /// Not a member yet: invited.
    #[prost(bool, tag = "5")]
    pub(crate) invited: bool,
}

/// A channel in a user's list, as of the job with this number. A removal stays as a row for a while, so
/// that a late repeat of an older job adds nothing.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ListingRow {
    #[prost(string, tag = "1")]
    pub(crate) role: String,
    #[prost(uint64, tag = "2")]
    pub(crate) joined_at_ms: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) job: u64,
    #[prost(bool, tag = "4")]
    pub(crate) removed: bool,
    /// Not a member yet: invited.
    #[prost(bool, tag = "5")]
    pub(crate) invited: bool,
}

/// What a resume token carries.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct TokenRow {
    #[prost(uint32, tag = "1")]
    pub(crate) app: u32,
    #[prost(string, tag = "2")]
    pub(crate) channel: String,
    #[prost(message, repeated, tag = "3")]
    pub(crate) cursors: Vec<CursorRow>,
    #[prost(uint64, tag = "4")]
    pub(crate) version: u64,
    #[prost(uint32, tag = "5")]
    pub(crate) index: u32,
    #[prost(uint64, tag = "6")]
    pub(crate) seen_sequence: u64,
    #[prost(bool, tag = "7")]
    pub(crate) replaying: bool,
    /// Whose subscription it continues; empty = one that no user is named for.
    #[prost(string, tag = "8")]
    pub(crate) user: String,
}

/// A place in a shard's changes.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct CursorRow {
    #[prost(fixed64, tag = "1")]
    pub(crate) cluster_high: u64,
    #[prost(fixed64, tag = "2")]
    pub(crate) cluster_low: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) shard: u64,
    #[prost(uint64, tag = "4")]
    pub(crate) revision: u64,
    #[prost(uint32, tag = "5")]
    pub(crate) offset: u32,
}

/// Encodes a row.
pub(crate) fn encode(row: &impl Message) -> Bytes {
    let mut out = BytesMut::with_capacity(row.encoded_len());
    row.encode(&mut out).expect("a BytesMut grows as needed");
    out.freeze()
}

/// Decodes a row; `what` names it in the error.
pub(crate) fn decode<T: Message + Default>(value: &Bytes, what: &str) -> Result<T> {
    T::decode(value.clone()).map_err(|error| Error::corrupt(format!("{what} does not decode")).with_source(error))
}

/// Decodes a sum as merges store it.
pub(crate) fn decode_sum(value: &[u8]) -> Result<i64> {
    let bytes = value.try_into().map_err(|error| Error::corrupt("a sum has not 8 bytes").with_source(error))?;
    Ok(i64::from_be_bytes(bytes))
}

/// Decodes an integer as merges and appends store it; counts are never negative.
pub(crate) fn decode_count(value: &[u8]) -> Result<u64> {
    let bytes: [u8; 8] =
        value.try_into().map_err(|error| Error::corrupt("a count has not 8 bytes").with_source(error))?;
    u64::try_from(i64::from_be_bytes(bytes)).map_err(|error| Error::corrupt("a count is negative").with_source(error))
}

/// The number that an append or a merge was assigned, as a count.
pub(crate) fn assigned_count(assigned: Option<&i64>) -> Result<u64> {
    let number = assigned.ok_or_else(|| Error::corrupt("the engine left out an assigned number"))?;
    u64::try_from(*number).map_err(|error| Error::corrupt("an assigned number is negative").with_source(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_bytes_are_corrupt_not_a_panic() {
        assert!(decode::<MessageRow>(&Bytes::from_static(&[0xff, 0xff]), "a message").is_err());
        assert!(decode_count(&[0; 7]).is_err());
        assert!(decode_count(&(-1_i64).to_be_bytes()).is_err());
        assert_eq!(decode_count(&5_i64.to_be_bytes()).expect("a count"), 5);
    }
}
