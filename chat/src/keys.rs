//! The keys of chat's rows, both ways: the table in the crate's documentation, as code.
//!
//! Invariant: the version's key sorts before every row that makes an event, and every batch writes it
//! first; so in the order of changes it always opens its batch.

mod apart;
mod features;
mod personal;
pub(crate) mod prefix;
mod row;
#[cfg(test)]
mod tests;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use keevo_core::{Error, Key, Keyspace, Result};

use crate::ids::{AppId, ChannelId, Place};

pub(crate) use apart::{
    app_ban, block, directory_bucket, directory_partition, listing, mute, outbox_partition, parse_listing,
    parse_queued, parse_user, preference, queue_partition, queued, trailing_name, user, user_partition,
};
pub(crate) use features::{all_passed_over, ballots, locations, poll_counts, polls};
pub(crate) use personal::{
    CHANNEL_BUCKETS, DUE_BUCKETS, Personal, channel_bucket, channel_bucket_of, draft, draft_count, drafts, due,
    due_after, due_bucket, due_partition, erasure, group, group_count, group_member, group_members, group_partition,
    in_group, in_group_count, in_groups, parse_directory, parse_due, reminder, reminder_count, reminders,
    stored_channel,
};
pub(crate) use row::{Mentioned, PollCount, Row, Setting, Stat};

const PARTITION_CHANNEL: u8 = 0x01;

const COUNTERS: u8 = 0x10;
const OWN: u8 = 0x11;
const CHANNEL: u8 = 0x12;
const SETTING: u8 = 0x13;
const DELETION: u8 = 0x14;
const MEMBER: u8 = 0x20;
const READ: u8 = 0x21;
const INVITE: u8 = 0x22;
const BAN: u8 = 0x23;
const COOLDOWN: u8 = 0x24;
const RECEIPT: u8 = 0x25;
const RETAINED: u8 = 0x28;
const PASSED_OVER: u8 = 0x29;
const HELD: u8 = 0x2a;
const INDEX: u8 = 0x30;
const PARENT: u8 = 0x31;
const MESSAGE: u8 = 0x40;
const EDIT: u8 = 0x42;
const STATS: u8 = 0x50;
const REACTION: u8 = 0x51;
const THREAD_READ: u8 = 0x52;
const PARTICIPANT: u8 = 0x53;
const FOLLOWED: u8 = 0x54;
const ONLY_REACTION: u8 = 0x58;
const FLAG: u8 = 0x59;
const REVIEW: u8 = 0x5a;
const ADJUSTMENT: u8 = 0x60;
const THREAD_ADJUSTMENT: u8 = 0x61;
const MENTION: u8 = 0x62;
const MENTION_COUNTER: u8 = 0x63;
const PIN: u8 = 0x65;
const POLL: u8 = 0x66;
const POLL_COUNTS: u8 = 0x67;
const BALLOT: u8 = 0x68;
const LOCATION: u8 = 0x69;
const JOB_COUNTER: u8 = 0x70;
const JOB: u8 = 0x71;
const EPOCH: u8 = 0x72;
const LISTING: u8 = 0x10;
const MUTE: u8 = 0x13;
const BLOCK: u8 = 0x14;

const PLACE_CHANNEL: u8 = 0x01;
const PLACE_THREAD: u8 = 0x02;

/// How many partitions the outbox has.
pub(crate) const OUTBOX_BUCKETS: u16 = 16;
/// How many partitions the queue of what is to be reviewed has.
pub(crate) const QUEUE_BUCKETS: u16 = 16;
/// How many partitions the directory of users has.
pub(crate) const USER_BUCKETS: u16 = 16;

/// The keys of one channel.
#[derive(Debug, Clone)]
pub(crate) struct ChannelKeys {
    pub(crate) keyspace: Keyspace,
    pub(crate) partition: Bytes,
}

impl ChannelKeys {
    pub(crate) fn new(keyspace: Keyspace, app: AppId, channel: &ChannelId) -> Self {
        Self { keyspace, partition: partition(app, PARTITION_CHANNEL, channel.as_str().as_bytes()) }
    }

    fn key(&self, sort: Bytes) -> Key {
        self.keyspace.key(self.partition.clone(), sort)
    }

    pub(crate) fn version(&self) -> Key {
        self.key(Bytes::from_static(&[COUNTERS, 1]))
    }

    pub(crate) fn sequence(&self) -> Key {
        self.key(Bytes::from_static(&[COUNTERS, 2]))
    }

    pub(crate) fn countable(&self) -> Key {
        self.key(Bytes::from_static(&[COUNTERS, 3]))
    }

    pub(crate) fn own(&self, user: &str) -> Key {
        self.key(tagged(OWN, user))
    }

    pub(crate) fn channel(&self) -> Key {
        self.key(Bytes::from_static(&[CHANNEL]))
    }

    /// A restriction of the channel; absent where there is none, so that writes can demand just that.
    pub(crate) fn setting(&self, setting: Setting) -> Key {
        self.key(Bytes::copy_from_slice(&[SETTING, setting.number()]))
    }

    pub(crate) fn ban(&self, user: &str) -> Key {
        self.key(tagged(BAN, user))
    }

    pub(crate) fn receipt(&self, user: &str) -> Key {
        self.key(tagged(RECEIPT, user))
    }

    pub(crate) fn cooldown(&self, user: &str) -> Key {
        self.key(tagged(COOLDOWN, user))
    }

    pub(crate) fn flag(&self, place: Place, user: &str) -> Key {
        let mut sort = BytesMut::from(prefix::flags(place).as_ref());
        sort.put_slice(user.as_bytes());
        self.key(sort.freeze())
    }

    pub(crate) fn review(&self, place: Place) -> Key {
        self.key(placed(REVIEW, place).freeze())
    }

    pub(crate) fn member(&self, user: &str) -> Key {
        self.key(tagged(MEMBER, user))
    }

    pub(crate) fn read(&self, user: &str) -> Key {
        self.key(tagged(READ, user))
    }

    pub(crate) fn invite(&self, user: &str) -> Key {
        self.key(tagged(INVITE, user))
    }

    pub(crate) fn index(&self, id: &str) -> Key {
        self.key(tagged(INDEX, id))
    }

    /// A message, or an edit of one, that is kept back.
    pub(crate) fn held(&self, id: &str) -> Key {
        self.key(tagged(HELD, id))
    }

    pub(crate) fn parent_of(&self, id: &str) -> Key {
        self.key(tagged(PARENT, id))
    }

    pub(crate) fn message(&self, place: Place) -> Key {
        self.key(placed(MESSAGE, place).freeze())
    }

    pub(crate) fn edit(&self, place: Place, number: u32) -> Key {
        let mut sort = placed(EDIT, place);
        sort.put_u32(number);
        self.key(sort.freeze())
    }

    pub(crate) fn stat(&self, place: Place, stat: Stat<'_>) -> Key {
        let mut sort = placed(STATS, place);
        match stat {
            Stat::CountableReplies => sort.put_u8(0),
            Stat::Replies => sort.put_u8(1),
            Stat::DeletedReplies => sort.put_u8(2),
            Stat::Reactions(kind) => {
                sort.put_u8(3);
                sort.put_slice(kind.as_bytes());
            }
            Stat::Scores(kind) => {
                sort.put_u8(4);
                sort.put_slice(kind.as_bytes());
            }
        }
        self.key(sort.freeze())
    }

    pub(crate) fn reaction(&self, place: Place, kind: &str, user: &str) -> Key {
        let mut sort = placed(REACTION, place);
        sort.put_slice(kind.as_bytes());
        sort.put_u8(0);
        sort.put_slice(user.as_bytes());
        self.key(sort.freeze())
    }

    /// Names the one reaction of a user who may have only one on the message.
    pub(crate) fn only_reaction(&self, place: Place, user: &str) -> Key {
        let mut sort = placed(ONLY_REACTION, place);
        sort.put_slice(user.as_bytes());
        self.key(sort.freeze())
    }

    pub(crate) fn thread_read(&self, parent: u64, user: &str) -> Key {
        self.key(numbered_name(THREAD_READ, parent, user))
    }

    pub(crate) fn participant(&self, parent: u64, user: &str) -> Key {
        self.key(numbered_name(PARTICIPANT, parent, user))
    }

    pub(crate) fn followed(&self, user: &str, parent: u64) -> Key {
        let mut sort = BytesMut::from(prefix::followed(user).as_ref());
        sort.put_u64(parent);
        self.key(sort.freeze())
    }

    /// Counts the mentions of somebody in the channel's own sequence, or in a thread.
    pub(crate) fn mention_counter(&self, whom: Mentioned<'_>, parent: Option<u64>) -> Key {
        self.key(mentions(MENTION_COUNTER, whom, parent))
    }

    pub(crate) fn pin(&self, place: Place) -> Key {
        self.key(placed(PIN, place).freeze())
    }

    pub(crate) fn thread_adjustment(&self, parent: u64, reply: u64) -> Key {
        let mut sort = BytesMut::from(prefix::thread_adjustments(parent).as_ref());
        sort.put_u64(reply);
        self.key(sort.freeze())
    }

    pub(crate) fn adjustment(&self, sequence: u64) -> Key {
        self.key(numbered(ADJUSTMENT, sequence))
    }

    pub(crate) fn job_counter(&self) -> Key {
        self.key(Bytes::from_static(&[JOB_COUNTER]))
    }

    pub(crate) fn job(&self, number: u64) -> Key {
        self.key(numbered(JOB, number))
    }

    pub(crate) fn epoch(&self) -> Key {
        self.key(Bytes::from_static(&[EPOCH]))
    }
}

/// The number at the end of a numbered row's sort key.
pub(crate) fn trailing_number(sort: &[u8]) -> Result<u64> {
    sort.last_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes)).ok_or_else(broken)
}

/// The app and channel of a channel's partition; `None` for a partition of another kind.
pub(crate) fn parse_channel(partition: &[u8]) -> Option<(AppId, ChannelId)> {
    let (app, rest) = partition.split_first_chunk::<4>()?;
    let name = std::str::from_utf8(rest.strip_prefix(&[PARTITION_CHANNEL])?).ok()?;
    Some((AppId(u32::from_be_bytes(*app)), name.parse().ok()?))
}

/// What the names of all partitions of an app begin with, and those of no other app: for whoever watches the keyspace of all chats,
/// and wants one.
pub fn partitions_of(app: AppId) -> Bytes {
    Bytes::copy_from_slice(&app.0.to_be_bytes())
}

fn partition(app: AppId, tag: u8, name: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(5 + name.len());
    out.put_u32(app.0);
    out.put_u8(tag);
    out.put_slice(name);
    out.freeze()
}

fn tagged(tag: u8, name: &str) -> Bytes {
    let mut out = BytesMut::with_capacity(1 + name.len());
    out.put_u8(tag);
    out.put_slice(name.as_bytes());
    out.freeze()
}

fn numbered(tag: u8, number: u64) -> Bytes {
    let mut out = BytesMut::with_capacity(9);
    out.put_u8(tag);
    out.put_u64(number);
    out.freeze()
}

fn numbered_name(tag: u8, number: u64, name: &str) -> Bytes {
    let mut out = BytesMut::from(numbered(tag, number).as_ref());
    out.put_slice(name.as_bytes());
    out.freeze()
}

fn named_number(bytes: &[u8]) -> Result<(u64, &str)> {
    let (number, name) = bytes.split_first_chunk::<8>().ok_or_else(broken)?;
    Ok((u64::from_be_bytes(*number), text(name)?))
}

/// `whom`, 00, and which sequence: names hold no 00, so none is the start of another.
fn mentions(tag: u8, whom: Mentioned<'_>, parent: Option<u64>) -> Bytes {
    let (kind, name) = match whom {
        Mentioned::Everybody => (1, ""),
        Mentioned::User(user) => (2, user),
        Mentioned::Group(group) => (3, group),
    };
    let mut out = BytesMut::with_capacity(20 + name.len());
    out.put_u8(tag);
    out.put_u8(kind);
    out.put_slice(name.as_bytes());
    out.put_u8(0);
    match parent {
        None => out.put_u8(PLACE_CHANNEL),
        Some(parent) => {
            out.put_u8(PLACE_THREAD);
            out.put_u64(parent);
        }
    }
    out.freeze()
}

/// What follows the tag of a mention: whom, which sequence, and the rest.
fn parse_mentioned(rest: &[u8]) -> Result<(Mentioned<'_>, Option<u64>, &[u8])> {
    let (&kind, rest) = rest.split_first().ok_or_else(broken)?;
    let end = rest.iter().position(|byte| *byte == 0).ok_or_else(broken)?;
    let (name, rest) = rest.split_at_checked(end).ok_or_else(broken)?;
    let name = text(name)?;
    let whom = match kind {
        1 if name.is_empty() => Mentioned::Everybody,
        2 => Mentioned::User(name),
        3 => Mentioned::Group(name),
        _ => return Err(broken()),
    };
    match rest {
        [0, PLACE_CHANNEL, rest @ ..] => Ok((whom, None, rest)),
        [0, PLACE_THREAD, rest @ ..] => {
            let (parent, rest) = rest.split_first_chunk::<8>().ok_or_else(broken)?;
            Ok((whom, Some(u64::from_be_bytes(*parent)), rest))
        }
        _ => Err(broken()),
    }
}

fn placed(tag: u8, place: Place) -> BytesMut {
    let mut out = BytesMut::with_capacity(32);
    out.put_u8(tag);
    match place {
        Place::Channel(number) => {
            out.put_u8(PLACE_CHANNEL);
            out.put_u64(number);
        }
        Place::Thread { parent, reply } => {
            out.put_u8(PLACE_THREAD);
            out.put_u64(parent);
            out.put_u64(reply);
        }
    }
    out
}

fn parse_place(bytes: &[u8]) -> Result<(Place, &[u8])> {
    let number = |bytes: &mut &[u8]| bytes.try_get_u64().map_err(|error| broken().with_source(error));
    let mut rest = bytes;
    match rest.try_get_u8() {
        Ok(PLACE_CHANNEL) => Ok((Place::Channel(number(&mut rest)?), rest)),
        Ok(PLACE_THREAD) => Ok((Place::Thread { parent: number(&mut rest)?, reply: number(&mut rest)? }, rest)),
        _ => Err(broken()),
    }
}

fn text(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|error| broken().with_source(error))
}

fn broken() -> Error {
    Error::corrupt("a key of a chat row does not decode")
}
