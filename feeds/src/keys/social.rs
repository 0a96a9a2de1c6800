//! Keys of users, collections, reactions and what is counted of them.
//!
//! Invariant: names that stand inside a key end with a zero byte, which no name holds.

use bytes::{BufMut, Bytes};
use keevo_core::{Error, Key, Result};

use super::{Layout, join, newest_first, split_id};
use crate::ids::ActivityId;

/// Sort key of an entity in its partition.
pub(crate) const ENTITY: &[u8] = b"a";
/// Sort key of the tally of a subject.
pub(crate) const TALLY: &[u8] = b"s";
/// Start of all reactions on a subject, newest first.
pub(crate) const REACTIONS: &[u8] = b"t";
/// Start of what a user left, newest first: in the user's partition.
pub(crate) const LEFT: &[u8] = b"r";
/// Start of the activities whose actor a user is, newest first: in the user's partition.
pub(crate) const ACTED: &[u8] = b"h";
/// Start of the flags of an entity.
pub(crate) const FLAG: &[u8] = b"f";
/// Start of the audit log of an entity, in its partition.
pub(crate) const AUDIT: &[u8] = b"l";

impl Layout {
    /// A user: what is kept about it and what it did.
    pub(crate) fn user(self, id: &str) -> Bytes {
        self.partition(b'u', id.as_bytes()).freeze()
    }

    /// An entry of a collection.
    pub(crate) fn entry(self, collection: &str, id: &str) -> Bytes {
        let mut out = self.partition(b'c', collection.as_bytes());
        out.put_u8(0);
        out.put_slice(id.as_bytes());
        out.freeze()
    }

    /// A reaction: itself, its jobs.
    pub(crate) fn reaction(self, id: &str) -> Bytes {
        self.partition(b'x', id.as_bytes()).freeze()
    }

    /// What reactions are on: their tally and index. `tag` tells activities from reactions.
    pub(crate) fn subject(self, tag: u8, id: &str) -> Bytes {
        let mut out = self.partition(b's', &[tag]);
        out.put_slice(id.as_bytes());
        out.freeze()
    }

    /// The flags of an entity.
    pub(crate) fn flags(self, entity_type: &str, id: &str) -> Bytes {
        let mut out = self.partition(b'g', entity_type.as_bytes());
        out.put_u8(0);
        out.put_slice(id.as_bytes());
        out.freeze()
    }

    /// That a user is the actor of an activity.
    pub(crate) fn acted(self, user: &str, id: ActivityId) -> Key {
        self.key(self.user(user), join(ACTED, &newest_first(id)))
    }

    /// A row of an audit log, newest first.
    pub(crate) fn audit(self, partition: Bytes, at_us: u64, number: u64) -> Key {
        self.key(partition, join(AUDIT, &[(!at_us).to_be_bytes(), number.to_be_bytes()].concat()))
    }
}

/// The start of the reactions of a kind on a subject.
pub(crate) fn of_kind(kind: &str) -> Bytes {
    [b"k", kind.as_bytes(), &[0]].concat().into()
}

/// The start of a user's reactions on a subject.
pub(crate) fn of_user(user: &str) -> Bytes {
    [b"m", user.as_bytes(), &[0]].concat().into()
}

/// The start of a user's reactions of a kind on a subject.
pub(crate) fn of_user_and_kind(user: &str, kind: &str) -> Bytes {
    [b"n", user.as_bytes(), &[0], kind.as_bytes(), &[0]].concat().into()
}

/// The tally of a user's reactions on a subject.
pub(crate) fn own_tally(user: &str) -> Bytes {
    join(b"o", user.as_bytes())
}

/// What a subject has seen of a reaction.
pub(crate) fn seen(reaction: &str) -> Bytes {
    join(b"v", reaction.as_bytes())
}

/// The start of what a user left of one kind: in the user's partition.
pub(crate) fn left_of_kind(kind: &str) -> Bytes {
    [b"q", kind.as_bytes(), &[0]].concat().into()
}

/// A reaction's place behind the start of a list: newest first, then by id.
pub(crate) fn reaction_place(start: &[u8], created_us: u64, id: &str) -> Bytes {
    [start, &(!created_us).to_be_bytes(), id.as_bytes()].concat().into()
}

/// The time and id of a reaction in a list that begins with `start`.
pub(crate) fn parse_reaction_place(sort: &[u8], start: &[u8]) -> Result<(u64, String)> {
    let bad = || Error::corrupt("a reaction's place in a list is malformed");
    let rest = sort.strip_prefix(start).ok_or_else(bad)?;
    let (created, id) = rest.split_first_chunk::<8>().ok_or_else(bad)?;
    let id = std::str::from_utf8(id).map_err(|_error| bad())?;
    Ok((!u64::from_be_bytes(*created), id.to_owned()))
}

/// The activity in a row made by [`Layout::acted`].
pub(crate) fn parse_acted(sort: &[u8]) -> Result<ActivityId> {
    let bad = || Error::corrupt("the row of a user's activity has a malformed key");
    let (id, rest) = split_id(sort.strip_prefix(ACTED).ok_or_else(bad)?)?;
    if rest.is_empty() { Ok(id) } else { Err(bad()) }
}

/// The time and number of a row of an audit log.
pub(crate) fn parse_audit(sort: &[u8]) -> Result<(u64, u64)> {
    let bad = || Error::corrupt("an audit row's key is malformed");
    let rest = sort.strip_prefix(AUDIT).ok_or_else(bad)?;
    let (at, number) = rest.split_first_chunk::<8>().ok_or_else(bad)?;
    let number = number.try_into().map_err(|_error| bad())?;
    Ok((!u64::from_be_bytes(*at), u64::from_be_bytes(number)))
}
