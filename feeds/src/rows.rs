//! What is stored under the keys: protobuf messages, custom fields as JSON inside.
//!
//! Invariant: a field number is never used again for something else.

use bytes::Bytes;
use keevo_core::{Error, Record, Result};
use prost::Message;

use crate::merge::MergeRow;

/// An activity in its home partition.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ActivityRow {
    /// Microseconds since the epoch.
    #[prost(sint64, tag = "1")]
    pub(crate) time_us: i64,
    #[prost(string, tag = "2")]
    pub(crate) actor: String,
    #[prost(string, tag = "3")]
    pub(crate) verb: String,
    #[prost(string, tag = "4")]
    pub(crate) object: String,
    /// Empty = absent.
    #[prost(string, tag = "5")]
    pub(crate) target: String,
    /// Empty = absent: the content is the identity.
    #[prost(string, tag = "6")]
    pub(crate) foreign_id: String,
    /// A JSON object; empty = no custom fields.
    #[prost(bytes = "bytes", tag = "7")]
    pub(crate) custom: Bytes,
    /// Where it is now. Empty, and not `kept` = removed: the row only keeps `last_gen`, `source_version` and
    /// `foreign_id`, for a while.
    #[prost(message, repeated, tag = "8")]
    pub(crate) entries: Vec<EntryRow>,
    /// The generation given last; it only grows.
    #[prost(uint64, tag = "9")]
    pub(crate) last_gen: u64,
    /// The version of the reaction that this activity tells of: steps of older ones are refused. 0 = of none.
    #[prost(uint64, tag = "15")]
    pub(crate) source_version: u64,
    /// Whether it was made by an update: then it is there also while no feed has it.
    #[prost(bool, tag = "10")]
    pub(crate) kept: bool,
}

/// One placement of an activity: a feed that holds it directly.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct EntryRow {
    #[prost(string, tag = "1")]
    pub(crate) feed: String,
    /// The feed whose `to` brought it; empty = added to this feed itself.
    #[prost(string, tag = "2")]
    pub(crate) via: String,
    /// Sets it apart from an earlier placement that was removed.
    #[prost(uint64, tag = "3")]
    pub(crate) generation: u64,
}

/// An activity's outbox job, in the activity's home partition.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct JobRow {
    /// Whether the entries are taken out; else they are put in.
    #[prost(bool, tag = "1")]
    pub(crate) remove: bool,
    /// What to put in or take out.
    #[prost(message, repeated, tag = "2")]
    pub(crate) entries: Vec<EntryRow>,
    /// When the operation began, in microseconds.
    #[prost(uint64, tag = "3")]
    pub(crate) began_us: u64,
    /// The activity's foreign id, for the index of each feed.
    #[prost(string, tag = "4")]
    pub(crate) foreign_id: String,
    /// Whether the feeds of the entries have their own rows already.
    #[prost(bool, tag = "5")]
    pub(crate) placed: bool,
    /// Progress: the entry that is being fanned out.
    #[prost(uint32, tag = "6")]
    pub(crate) entry: u32,
    /// Progress: the bucket of its followers.
    #[prost(uint32, tag = "7")]
    pub(crate) bucket: u32,
    /// Progress: the last follower served in that bucket; empty = none.
    #[prost(string, tag = "8")]
    pub(crate) after: String,
    /// The instance that is driving it, so that others leave it alone until `claimed_until_ms`.
    #[prost(uint64, tag = "9")]
    pub(crate) claimed_by: u64,
    /// See `claimed_by`.
    #[prost(uint64, tag = "10")]
    pub(crate) claimed_until_ms: u64,
    /// With `placed`: a time, in microseconds, by which all of them had their own rows; 0 = not known.
    #[prost(uint64, tag = "11")]
    pub(crate) placed_us: u64,
    /// Whether the followers of the feeds get nothing of it.
    #[prost(bool, tag = "12")]
    pub(crate) quiet: bool,
    /// The user that is the activity's actor, whose list gets it or, where it is gone, loses it; empty = none.
    #[prost(string, tag = "16")]
    pub(crate) actor: String,
    /// Progress: the slots whose followers were left out since the walk began, as a mask; `apart.rs` says which they are.
    #[prost(fixed64, tag = "17")]
    pub(crate) missed: u64,
    /// Progress: the buckets of followers that were left out as a whole, as a mask.
    #[prost(fixed64, tag = "18")]
    pub(crate) missed_lists: u64,
    /// What was `missed` by the walk before this one, which is for it alone.
    #[prost(fixed64, tag = "19")]
    pub(crate) only: u64,
    /// As `only`, of `missed_lists`. Where neither has any the walk is the first, and for all followers.
    #[prost(fixed64, tag = "20")]
    pub(crate) only_lists: u64,
}

impl JobRow {
    /// Whether followers were left out before, and the walk is for these alone.
    pub(crate) fn is_again(&self) -> bool {
        (self.only, self.only_lists) != (0, 0)
    }

    /// Begins the walk over the followers anew for those that were left out. False when there are none.
    pub(crate) fn walk_again(&mut self) -> bool {
        if (self.missed, self.missed_lists) == (0, 0) {
            return false;
        }
        (self.only, self.only_lists) = (std::mem::take(&mut self.missed), std::mem::take(&mut self.missed_lists));
        (self.entry, self.bucket, self.after) = (0, 0, String::new());
        true
    }
}

/// A feed's own row for an activity that it holds directly.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct OwnRow {
    /// When the operation that placed it began, in microseconds.
    #[prost(uint64, tag = "1")]
    pub(crate) began_us: u64,
    /// Whether those who followed then got nothing of it.
    #[prost(bool, tag = "2")]
    pub(crate) quiet: bool,
}

/// What gathers an activity in a feed that does so; nothing in a flat one.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct TimelineRow {
    /// The text that gathers it.
    #[prost(string, tag = "1")]
    pub(crate) group: String,
    /// A hash of its actor.
    #[prost(fixed64, tag = "2")]
    pub(crate) actor: u64,
}

/// Up to which arrival, by revision, something is seen and read.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct MarkRow {
    #[prost(uint64, tag = "1")]
    pub(crate) seen: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) read: u64,
}

/// A follow edge, in the follower's partition. Its revision is the edge's epoch.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct EdgeRow {
    #[prost(uint64, tag = "1")]
    pub(crate) created_us: u64,
    /// The bucket of the target's followers that lists the follower.
    #[prost(uint32, tag = "2")]
    pub(crate) bucket: u32,
}

/// What a follow copied, for verification.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct CopyRow {
    /// Whether all that the target held was copied.
    #[prost(bool, tag = "1")]
    pub(crate) everything: bool,
    /// The inverted order key of the oldest activity copied; empty = none was.
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) oldest: Bytes,
    /// From when on the follower was listed, in microseconds.
    #[prost(uint64, tag = "3")]
    pub(crate) listed_us: u64,
}

/// The job of a follow edge, in the follower's partition; at most one an edge.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct EdgeJobRow {
    /// Whether the edge was deleted; else it was made.
    #[prost(bool, tag = "1")]
    pub(crate) unfollow: bool,
    /// The epoch of the deleted edge.
    #[prost(uint64, tag = "2")]
    pub(crate) epoch: u64,
    /// As in the edge.
    #[prost(uint32, tag = "3")]
    pub(crate) bucket: u32,
    /// As in the edge.
    #[prost(uint64, tag = "4")]
    pub(crate) created_us: u64,
    /// How many of the target's newest activities to copy.
    #[prost(uint32, tag = "5")]
    pub(crate) copy_limit: u32,
    /// Whether what was received stays.
    #[prost(bool, tag = "6")]
    pub(crate) keep_history: bool,
    /// Progress of a withdrawal: the last of the target's own sort keys that was handled.
    #[prost(bytes = "bytes", tag = "7")]
    pub(crate) after: Bytes,
    /// Whether the edge was made in the batch that wrote this job: then nothing was copied before.
    #[prost(bool, tag = "8")]
    pub(crate) fresh: bool,
    /// With `keep_history`: what of it readers merge until then has yet to be written.
    #[prost(message, optional, tag = "9")]
    pub(crate) kept: Option<MergeRow>,
    /// The target's round of merging when it was written to its followers, before this one was listed; absent = it was
    /// not, or nobody looked.
    #[prost(uint64, optional, tag = "10")]
    pub(crate) written_round: Option<u64>,
}

/// A follower in one bucket of the target's followers.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct FollowerRow {
    /// The epoch of the edge.
    #[prost(uint64, tag = "1")]
    pub(crate) epoch: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) created_us: u64,
    /// It has unfollowed: kept for a while, so that a late step of the follow does not list it again.
    #[prost(bool, tag = "3")]
    pub(crate) gone: bool,
    /// A time right before it was listed, in microseconds; 0 = not known.
    #[prost(uint64, tag = "4")]
    pub(crate) listed_us: u64,
}

/// A pointer in the outbox: where a job lies.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct PointerRow {
    /// The activity whose home holds the job named by the pointer's number.
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) activity: Bytes,
    /// Or the feed whose partition holds jobs of follow edges.
    #[prost(string, tag = "2")]
    pub(crate) feed: String,
    /// Or the reaction whose home holds the job named by the pointer's number.
    #[prost(string, tag = "3")]
    pub(crate) reaction: String,
    /// Or the feed whose way to reach its followers is being changed.
    #[prost(string, tag = "4")]
    pub(crate) source: String,
}

/// The bytes of a row.
pub(crate) fn encode(row: &impl Message) -> Bytes {
    row.encode_to_vec().into()
}

/// Decodes a row; bytes that are none are `Corrupt`.
pub(crate) fn decode<M: Message + Default>(record: &Record) -> Result<M> {
    M::decode(record.value.clone())
        .map_err(|error| Error::corrupt(format!("a {} does not decode", short_name::<M>())).with_source(error))
}

/// Decodes a counter; absent counts as zero.
pub(crate) fn decode_count(record: Option<&Record>) -> Result<u64> {
    let Some(record) = record else { return Ok(0) };
    let bytes: [u8; 8] = record
        .value
        .as_ref()
        .try_into()
        .map_err(|_error| Error::corrupt("a follow counter does not have eight bytes"))?;
    Ok(u64::try_from(i64::from_be_bytes(bytes)).unwrap_or(0))
}

fn short_name<M>() -> &'static str {
    let name = std::any::type_name::<M>();
    name.rsplit("::").next().unwrap_or(name)
}
