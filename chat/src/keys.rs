//! The keys of chat's rows, both ways: the table in the crate's documentation, as code.
//!
//! Invariant: the version's key sorts before every row that makes an event, and every batch writes it
//! first; so in the order of changes it always opens its batch.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use keevo_core::{Error, Key, Keyspace, Result};

use crate::ids::{AppId, ChannelId, Place};

const PARTITION_CHANNEL: u8 = 0x01;
const PARTITION_USER: u8 = 0x02;
const PARTITION_OUTBOX: u8 = 0x03;

const COUNTERS: u8 = 0x10;
const OWN: u8 = 0x11;
const CHANNEL: u8 = 0x12;
const MEMBER: u8 = 0x20;
const READ: u8 = 0x21;
const INDEX: u8 = 0x30;
const PARENT: u8 = 0x31;
const MESSAGE: u8 = 0x40;
const EDIT: u8 = 0x42;
const STATS: u8 = 0x50;
const REACTION: u8 = 0x51;
const ADJUSTMENT: u8 = 0x60;
const JOB_COUNTER: u8 = 0x70;
const JOB: u8 = 0x71;
const EPOCH: u8 = 0x72;
const LISTING: u8 = 0x10;

const PLACE_CHANNEL: u8 = 0x01;
const PLACE_THREAD: u8 = 0x02;

/// How many partitions the outbox has.
pub(crate) const OUTBOX_BUCKETS: u16 = 16;

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

    pub(crate) fn member(&self, user: &str) -> Key {
        self.key(tagged(MEMBER, user))
    }

    pub(crate) fn read(&self, user: &str) -> Key {
        self.key(tagged(READ, user))
    }

    pub(crate) fn index(&self, id: &str) -> Key {
        self.key(tagged(INDEX, id))
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
            Stat::Replies => sort.put_u8(1),
            Stat::DeletedReplies => sort.put_u8(2),
            Stat::Reactions(kind) => {
                sort.put_u8(3);
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

/// A count that is kept for a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stat<'a> {
    Replies,
    DeletedReplies,
    Reactions(&'a str),
}

/// What a sort key of a channel names, as far as events, counts and checks need to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Row<'a> {
    Version,
    Sequence,
    Countable,
    Own(&'a str),
    Channel,
    Member(&'a str),
    Read(&'a str),
    Index(&'a str),
    Parent(&'a str),
    Message(Place),
    Stat(Place, Stat<'a>),
    Reaction {
        place: Place,
        kind: &'a str,
        user: &'a str,
    },
    Adjustment(u64),
    /// A row that needs no name here, or one of a later version.
    Other,
}

impl<'a> Row<'a> {
    /// Reads a sort key. `Corrupt` where a known tag is followed by nonsense.
    pub(crate) fn parse(sort: &'a [u8]) -> Result<Self> {
        let Some((&tag, rest)) = sort.split_first() else {
            return Ok(Self::Other);
        };
        Ok(match (tag, rest) {
            (COUNTERS, [1]) => Self::Version,
            (COUNTERS, [2]) => Self::Sequence,
            (COUNTERS, [3]) => Self::Countable,
            (OWN, user) => Self::Own(text(user)?),
            (CHANNEL, []) => Self::Channel,
            (MEMBER, user) => Self::Member(text(user)?),
            (READ, user) => Self::Read(text(user)?),
            (INDEX, id) => Self::Index(text(id)?),
            (PARENT, id) => Self::Parent(text(id)?),
            (MESSAGE, place) => match parse_place(place)? {
                (place, []) => Self::Message(place),
                _ => return Err(broken()),
            },
            (STATS, rest) => match parse_place(rest)? {
                (place, [1]) => Self::Stat(place, Stat::Replies),
                (place, [2]) => Self::Stat(place, Stat::DeletedReplies),
                (place, [3, kind @ ..]) => Self::Stat(place, Stat::Reactions(text(kind)?)),
                _ => Self::Other,
            },
            (REACTION, rest) => {
                let (place, rest) = parse_place(rest)?;
                let (kind, user) = text(rest)?.split_once('\0').ok_or_else(broken)?;
                Self::Reaction { place, kind, user }
            }
            (ADJUSTMENT, mut number) if number.len() == 8 => Self::Adjustment(number.get_u64()),
            _ => Self::Other,
        })
    }
}

/// Prefixes of sort keys, for scans.
pub(crate) mod prefix {
    use super::{
        ADJUSTMENT, Bytes, COUNTERS, EDIT, JOB, LISTING, MEMBER, MESSAGE, PLACE_CHANNEL, Place, REACTION, STATS,
        numbered, placed,
    };

    pub(crate) fn counters() -> Bytes {
        Bytes::from_static(&[COUNTERS])
    }

    pub(crate) fn members() -> Bytes {
        Bytes::from_static(&[MEMBER])
    }

    pub(crate) fn messages() -> Bytes {
        Bytes::from_static(&[MESSAGE, PLACE_CHANNEL])
    }

    pub(crate) fn replies(parent: u64) -> Bytes {
        let start = placed(MESSAGE, Place::Thread { parent, reply: 0 }).freeze();
        start.slice(..start.len() - 8)
    }

    pub(crate) fn edits(place: Place) -> Bytes {
        placed(EDIT, place).freeze()
    }

    pub(crate) fn stats(place: Place) -> Bytes {
        placed(STATS, place).freeze()
    }

    pub(crate) fn reactions(place: Place) -> Bytes {
        placed(REACTION, place).freeze()
    }

    pub(crate) fn adjustments_from(sequence: u64) -> Bytes {
        numbered(ADJUSTMENT, sequence)
    }

    pub(crate) fn adjustments() -> Bytes {
        Bytes::from_static(&[ADJUSTMENT])
    }

    pub(crate) fn jobs() -> Bytes {
        Bytes::from_static(&[JOB])
    }

    pub(crate) fn listings() -> Bytes {
        Bytes::from_static(&[LISTING])
    }
}

/// The partition of a user's own rows.
pub(crate) fn user_partition(app: AppId, user: &str) -> Bytes {
    partition(app, PARTITION_USER, user.as_bytes())
}

/// The sort key of a channel in a user's list.
pub(crate) fn listing(channel: &str) -> Bytes {
    tagged(LISTING, channel)
}

/// The channel that the sort key of a listing names.
pub(crate) fn parse_listing(sort: &[u8]) -> Result<ChannelId> {
    match sort.split_first() {
        Some((&LISTING, channel)) => text(channel)?.parse().map_err(|error: Error| broken().with_source(error)),
        _ => Err(broken()),
    }
}

/// The partition of one bucket of the outbox.
pub(crate) fn outbox_partition(app: AppId, bucket: u16) -> Bytes {
    partition(app, PARTITION_OUTBOX, &bucket.to_be_bytes())
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

#[cfg(test)]
mod tests {
    use keevo_core::{KeyspaceId, KeyspaceKind};

    use super::*;

    fn keys() -> ChannelKeys {
        let keyspace = Keyspace { id: KeyspaceId(3), kind: KeyspaceKind::Hashed };
        ChannelKeys::new(keyspace, AppId(7), &ChannelId::new("messaging", "a").expect("a name"))
    }

    #[test]
    fn rows_parse_back() {
        let keys = keys();
        let place = Place::Thread { parent: 4, reply: 2 };
        for (key, row) in [
            (keys.version(), Row::Version),
            (keys.own("u"), Row::Own("u")),
            (keys.member("u"), Row::Member("u")),
            (keys.message(place), Row::Message(place)),
            (keys.stat(place, Stat::Reactions("like")), Row::Stat(place, Stat::Reactions("like"))),
            (keys.reaction(place, "like", "u"), Row::Reaction { place, kind: "like", user: "u" }),
            (keys.adjustment(9), Row::Adjustment(9)),
            (keys.epoch(), Row::Other),
        ] {
            assert_eq!(Row::parse(&key.sort).expect("parses"), row);
        }
        assert!(Row::parse(&[MESSAGE, 1, 0]).is_err());
        assert!(Row::parse(&[MEMBER, 0xff]).is_err());
    }

    #[test]
    fn the_version_sorts_before_every_row_that_makes_an_event() {
        let keys = keys();
        let place = Place::Channel(0);
        for later in [keys.channel(), keys.member(""), keys.read(""), keys.message(place), keys.reaction(place, "", "")]
        {
            assert!(keys.version().sort < later.sort);
        }
    }

    #[test]
    fn the_prefix_of_a_thread_covers_its_replies_only() {
        let keys = keys();
        let prefix = prefix::replies(4);
        assert!(keys.message(Place::Thread { parent: 4, reply: u64::MAX }).sort.starts_with(&prefix));
        assert!(!keys.message(Place::Thread { parent: 5, reply: 1 }).sort.starts_with(&prefix));
        assert!(!keys.message(Place::Channel(4)).sort.starts_with(&prefix));
    }
}
