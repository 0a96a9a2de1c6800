//! Prefixes of sort keys, for scans.

use super::{
    ADJUSTMENT, BAN, BLOCK, BufMut, Bytes, BytesMut, COUNTERS, EDIT, FLAG, FOLLOWED, HELD, INVITE, JOB, LISTING,
    MEMBER, MENTION, MESSAGE, MUTE, Mentioned, ONLY_REACTION, PARTICIPANT, PIN, PLACE_CHANNEL, Place, REACTION, READ,
    RECEIPT, STATS, THREAD_ADJUSTMENT, mentions, numbered, placed,
};

/// The counters of a thread: replies that count, all replies, deleted ones.
pub(crate) fn thread_counters(parent: u64) -> (Bytes, Bytes) {
    let at = |tag: u8| {
        let mut sort = placed(STATS, Place::Channel(parent));
        sort.put_u8(tag);
        sort.freeze()
    };
    (at(0), at(3))
}

pub(crate) fn participants(parent: u64) -> Bytes {
    numbered(PARTICIPANT, parent)
}

pub(crate) fn followed(user: &str) -> Bytes {
    let mut sort = BytesMut::with_capacity(10 + user.len());
    sort.put_u8(FOLLOWED);
    sort.put_slice(user.as_bytes());
    sort.put_u8(0);
    sort.freeze()
}

pub(crate) fn only_reactions(place: Place) -> Bytes {
    placed(ONLY_REACTION, place).freeze()
}

pub(crate) fn thread_adjustments(parent: u64) -> Bytes {
    numbered(THREAD_ADJUSTMENT, parent)
}

/// The mentions of somebody, in the order of the messages.
pub(crate) fn mentions_of(whom: Mentioned<'_>, parent: Option<u64>) -> Bytes {
    mentions(MENTION, whom, parent)
}

pub(crate) fn pins() -> Bytes {
    Bytes::from_static(&[PIN])
}

pub(crate) fn counters() -> Bytes {
    Bytes::from_static(&[COUNTERS])
}

pub(crate) fn held() -> Bytes {
    Bytes::from_static(&[HELD])
}

/// What sorts right behind all that is held.
pub(crate) fn after_held() -> Bytes {
    Bytes::from_static(&[HELD + 1])
}

pub(crate) fn members() -> Bytes {
    Bytes::from_static(&[MEMBER])
}

pub(crate) fn receipts() -> Bytes {
    Bytes::from_static(&[RECEIPT])
}

pub(crate) fn reads() -> Bytes {
    Bytes::from_static(&[READ])
}

pub(crate) fn bans() -> Bytes {
    Bytes::from_static(&[BAN])
}

pub(crate) fn flags(place: Place) -> Bytes {
    placed(FLAG, place).freeze()
}

pub(crate) fn mutes() -> Bytes {
    Bytes::from_static(&[MUTE])
}

pub(crate) fn blocks() -> Bytes {
    Bytes::from_static(&[BLOCK])
}

pub(crate) fn invites() -> Bytes {
    Bytes::from_static(&[INVITE])
}

/// Messages of the channel's own sequence, then those of its threads.
pub(crate) fn all_messages() -> Bytes {
    Bytes::from_static(&[MESSAGE])
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
