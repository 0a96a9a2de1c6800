//! Keys of what belongs to one user alone, of groups, and of the queues that lead to both.

use bytes::{BufMut, Bytes, BytesMut};
use keevo_core::{Error, Result, partition_hash};

use super::{broken, partition, tagged, text};
use crate::ids::{AppId, ChannelId};

const PARTITION_CHANNELS: u8 = 0x06;
const PARTITION_GROUP: u8 = 0x07;
const PARTITION_DUE: u8 = 0x08;

const LISTING: u8 = 0x10;
const USER: u8 = 0x11;
const PREFERENCE: u8 = 0x12;
const MUTE: u8 = 0x13;
const BLOCK: u8 = 0x14;
const APP_BAN: u8 = 0x15;
const DRAFT: u8 = 0x16;
const REMINDER: u8 = 0x17;
const IN_GROUP: u8 = 0x18;
const COUNTERS: u8 = 0x19;
const ERASURE: u8 = 0x1a;

const GROUP: u8 = 0x12;
const GROUP_COUNTER: u8 = 0x10;
const GROUP_MEMBER: u8 = 0x20;

/// How many partitions the directory of channels has.
pub(crate) const CHANNEL_BUCKETS: u16 = 16;
/// How many partitions the queue of reminders has.
pub(crate) const DUE_BUCKETS: u16 = 16;

/// What a sort key of a user's partition names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Personal<'a> {
    Listing(&'a str),
    User,
    Preference(&'a str),
    Mute(&'a str),
    Block(&'a str),
    AppBan,
    /// A channel, and the message whose thread it is for.
    Draft(&'a str, Option<&'a str>),
    Reminder(&'a str, &'a str),
    InGroup(&'a str),
    Erasure,
    /// A row that needs no name here, or one of a later version.
    Other,
}

impl<'a> Personal<'a> {
    /// Reads a sort key. `Corrupt` where a known tag is followed by nonsense.
    pub(crate) fn parse(sort: &'a [u8]) -> Result<Self> {
        let Some((&tag, rest)) = sort.split_first() else {
            return Ok(Self::Other);
        };
        Ok(match (tag, rest) {
            (LISTING, channel) => Self::Listing(text(channel)?),
            (USER, []) => Self::User,
            (PREFERENCE, channel) => Self::Preference(text(channel)?),
            (MUTE, user) => Self::Mute(text(user)?),
            (BLOCK, user) => Self::Block(text(user)?),
            (APP_BAN, []) => Self::AppBan,
            (DRAFT, rest) => {
                let (channel, parent) = pair(rest)?;
                Self::Draft(channel, Some(parent).filter(|parent| !parent.is_empty()))
            }
            (REMINDER, rest) => {
                let (channel, message) = pair(rest)?;
                Self::Reminder(channel, message)
            }
            (IN_GROUP, group) => Self::InGroup(text(group)?),
            (ERASURE, []) => Self::Erasure,
            _ => Self::Other,
        })
    }
}

/// The channel that a stored name names; `Corrupt` where it is none.
pub(crate) fn stored_channel(name: &str) -> Result<ChannelId> {
    name.parse().map_err(|error: Error| broken().with_source(error))
}

/// The sort key of a user's draft in a channel, or in a thread of it.
pub(crate) fn draft(channel: &str, parent: Option<&str>) -> Bytes {
    joined(DRAFT, channel, parent.unwrap_or_default())
}

/// What a user's drafts begin with.
pub(crate) fn drafts() -> Bytes {
    Bytes::from_static(&[DRAFT])
}

/// The sort key of a user's reminder of a message.
pub(crate) fn reminder(channel: &str, message: &str) -> Bytes {
    joined(REMINDER, channel, message)
}

/// What a user's reminders begin with.
pub(crate) fn reminders() -> Bytes {
    Bytes::from_static(&[REMINDER])
}

/// The sort key of a group that a user is in.
pub(crate) fn in_group(group: &str) -> Bytes {
    tagged(IN_GROUP, group)
}

/// What the groups that a user is in begin with.
pub(crate) fn in_groups() -> Bytes {
    Bytes::from_static(&[IN_GROUP])
}

/// The sort key of how many drafts a user has.
pub(crate) fn draft_count() -> Bytes {
    Bytes::from_static(&[COUNTERS, 1])
}

/// The sort key of how many reminders a user has.
pub(crate) fn reminder_count() -> Bytes {
    Bytes::from_static(&[COUNTERS, 2])
}

/// The sort key of how many groups a user is in.
pub(crate) fn in_group_count() -> Bytes {
    Bytes::from_static(&[COUNTERS, 3])
}

/// The sort key of the job that erases the user.
pub(crate) fn erasure() -> Bytes {
    Bytes::from_static(&[ERASURE])
}

/// The bucket of the directory that names a channel.
pub(crate) fn channel_bucket_of(channel: &ChannelId) -> u16 {
    partition_hash(channel.as_str().as_bytes()) % CHANNEL_BUCKETS
}

/// The channel that an entry of the directory names.
pub(crate) fn parse_directory(sort: &[u8]) -> Result<ChannelId> {
    stored_channel(text(sort)?)
}

/// The partition of one bucket of the directory of channels; there, a channel's name is the sort key.
pub(crate) fn channel_bucket(app: AppId, bucket: u16) -> Bytes {
    partition(app, PARTITION_CHANNELS, &bucket.to_be_bytes())
}

/// The partition of a group of users.
pub(crate) fn group_partition(app: AppId, group: &str) -> Bytes {
    partition(app, PARTITION_GROUP, group.as_bytes())
}

/// The sort key of a group, in its partition.
pub(crate) fn group() -> Bytes {
    Bytes::from_static(&[GROUP])
}

/// The sort key of how many members a group has.
pub(crate) fn group_count() -> Bytes {
    Bytes::from_static(&[GROUP_COUNTER])
}

/// The sort key of a member of a group.
pub(crate) fn group_member(user: &str) -> Bytes {
    tagged(GROUP_MEMBER, user)
}

/// What the members of a group begin with.
pub(crate) fn group_members() -> Bytes {
    Bytes::from_static(&[GROUP_MEMBER])
}

/// The partition of one bucket of the queue of reminders.
pub(crate) fn due_partition(app: AppId, bucket: u16) -> Bytes {
    partition(app, PARTITION_DUE, &bucket.to_be_bytes())
}

/// The bucket of a user's reminders.
pub(crate) fn due_bucket(user: &str) -> u16 {
    partition_hash(user.as_bytes()) % DUE_BUCKETS
}

/// The sort key of an entry of that queue: when, whose, and which message.
pub(crate) fn due(at_ms: u64, user: &str, channel: &str, message: &str) -> Bytes {
    let mut sort = BytesMut::with_capacity(10 + user.len() + channel.len() + message.len());
    sort.put_u64(at_ms);
    for name in [user, channel] {
        sort.put_slice(name.as_bytes());
        sort.put_u8(0);
    }
    sort.put_slice(message.as_bytes());
    sort.freeze()
}

/// What an entry of that queue says: when, whose, the channel and the message.
pub(crate) fn parse_due(sort: &[u8]) -> Result<(u64, &str, ChannelId, &str)> {
    let (at_ms, rest) = sort.split_first_chunk::<8>().ok_or_else(broken)?;
    let (user, rest) = text(rest)?.split_once('\0').ok_or_else(broken)?;
    let (channel, message) = rest.split_once('\0').ok_or_else(broken)?;
    let channel = stored_channel(channel)?;
    Ok((u64::from_be_bytes(*at_ms), user, channel, message))
}

/// The first sort key of that queue that is later than a time.
pub(crate) fn due_after(at_ms: u64) -> Bytes {
    Bytes::copy_from_slice(&at_ms.saturating_add(1).to_be_bytes())
}

fn joined(tag: u8, first: &str, second: &str) -> Bytes {
    let mut sort = BytesMut::with_capacity(2 + first.len() + second.len());
    sort.put_u8(tag);
    sort.put_slice(first.as_bytes());
    sort.put_u8(0);
    sort.put_slice(second.as_bytes());
    sort.freeze()
}

fn pair(rest: &[u8]) -> Result<(&str, &str)> {
    text(rest)?.split_once('\0').ok_or_else(broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_users_rows_parse_back() {
        for (sort, row) in [
            (draft("team:a", None), Personal::Draft("team:a", None)),
            (draft("team:a", Some("m")), Personal::Draft("team:a", Some("m"))),
            (reminder("team:a", "m"), Personal::Reminder("team:a", "m")),
            (in_group("ops"), Personal::InGroup("ops")),
            (erasure(), Personal::Erasure),
            (draft_count(), Personal::Other),
            (super::super::listing("team:a"), Personal::Listing("team:a")),
            (super::super::user(), Personal::User),
            (super::super::app_ban(), Personal::AppBan),
            (super::super::mute("u"), Personal::Mute("u")),
            (super::super::block("u"), Personal::Block("u")),
            (super::super::preference("team:a"), Personal::Preference("team:a")),
        ] {
            assert_eq!(Personal::parse(&sort).expect("parses"), row);
        }
        assert!(Personal::parse(&[DRAFT, 0xff]).is_err());
        assert!(Personal::parse(&[REMINDER, b'x']).is_err(), "no message");
    }

    #[test]
    fn entries_of_the_queue_lie_in_the_order_of_time() {
        let channel: ChannelId = "team:a".parse().expect("a name");
        let sort = due(7, "ada", "team:a", "m");
        assert_eq!(parse_due(&sort).expect("parses"), (7, "ada", channel, "m"));
        assert!(sort < due_after(7) && due_after(7) <= due(8, "", "", ""));
        assert!(parse_due(&sort[..9]).is_err());
    }
}
