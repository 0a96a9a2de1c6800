//! Keys of users, collections, reactions and what is counted of them.
//!
//! Invariant: names that stand inside a key end with a zero byte, which no name holds.

use bytes::{BufMut, Bytes};
use keevo_core::{Error, Key, Result};

use super::{Layout, join};

/// Sort key of an entity in its partition.
pub(crate) const ENTITY: &[u8] = b"a";
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

    /// A row of an audit log, newest first.
    pub(crate) fn audit(self, partition: Bytes, at_us: u64, number: u64) -> Key {
        self.key(partition, join(AUDIT, &[(!at_us).to_be_bytes(), number.to_be_bytes()].concat()))
    }
}

/// The time and number of a row of an audit log.
pub(crate) fn parse_audit(sort: &[u8]) -> Result<(u64, u64)> {
    let bad = || Error::corrupt("an audit row's key is malformed");
    let rest = sort.strip_prefix(AUDIT).ok_or_else(bad)?;
    let (at, number) = rest.split_first_chunk::<8>().ok_or_else(bad)?;
    let number = number.try_into().map_err(|_error| bad())?;
    Ok((!u64::from_be_bytes(*at), u64::from_be_bytes(number)))
}
