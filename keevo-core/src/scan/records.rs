//! The records of one page of a scan.
//!
//! ```text
//! packed   buffer  [key 0][header 0][value 0][key 1]…     rows  where each of them begins and ends
//! owned    a list of keys and records, each of them with references to the memory it lies in
//! ```
//!
//! A page of one partition comes packed from the engine that reads it. [`Records::views`] borrow from it and cost nothing a
//! record; as a slice, or by value, it is the owned list, which is made when it is first asked for and costs three
//! references a record.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::OnceLock;

use bytes::Bytes;

use crate::ids::Revision;
use crate::key::{Key, Keyspace};
use crate::record::Record;

/// The records of a page, in the order of the scan. They may share memory: who keeps one of them for long copies it.
#[derive(Clone, Default)]
pub struct Records {
    /// Where the records come from, while `owned` is not made of it.
    packed: Option<Packed>,
    owned: OnceLock<Vec<(Key, Record)>>,
}

/// A record that borrows from its page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordView<'a> {
    /// The keyspace.
    pub keyspace: Keyspace,
    /// The partition of its key.
    pub partition: &'a [u8],
    /// The sort key.
    pub sort: &'a [u8],
    /// The revision of the write that stored it.
    pub revision: Revision,
    /// When it expires, by the shard's clock in milliseconds since the epoch; `None` = never.
    pub expires_at_ms: Option<u64>,
    /// The value.
    pub value: &'a [u8],
}

/// Records of one partition, in one piece of memory.
#[derive(Debug, Clone)]
pub(crate) struct Packed {
    pub(crate) keyspace: Keyspace,
    pub(crate) partition: Bytes,
    pub(crate) buffer: Bytes,
    pub(crate) rows: Vec<PackedRow>,
}

/// Where in the buffer a record's parts lie, and the rest of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PackedRow {
    pub(crate) revision: Revision,
    pub(crate) expires_at_ms: Option<u64>,
    /// Where what is kept of the key begins: its sort key.
    pub(crate) kept_at: usize,
    pub(crate) key_end: usize,
    pub(crate) value_at: usize,
    pub(crate) value_end: usize,
}

impl Packed {
    fn view(&self, row: &PackedRow) -> RecordView<'_> {
        let part = |from, to| self.buffer.get(from..to).unwrap_or_default();
        RecordView {
            keyspace: self.keyspace,
            partition: &self.partition,
            sort: part(row.kept_at, row.key_end),
            revision: row.revision,
            expires_at_ms: row.expires_at_ms,
            value: part(row.value_at, row.value_end),
        }
    }

    fn owned(&self) -> Vec<(Key, Record)> {
        let owned = |row: &PackedRow| {
            let key = self.keyspace.key(self.partition.clone(), self.buffer.slice(row.kept_at..row.key_end));
            let value = self.buffer.slice(row.value_at..row.value_end);
            (key, Record { revision: row.revision, expires_at_ms: row.expires_at_ms, value })
        };
        self.rows.iter().map(owned).collect()
    }
}

impl Records {
    /// Records of one partition. The places of `rows` lie within its buffer.
    pub(crate) fn packed(packed: Packed) -> Self {
        Self { packed: Some(packed), owned: OnceLock::new() }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match &self.packed {
            Some(packed) => packed.rows.len(),
            None => self.owned.get().map_or(0, Vec::len),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Each record, borrowed from the page: for who reads a page and keeps little of it.
    pub fn views(&self) -> impl DoubleEndedIterator<Item = RecordView<'_>> {
        let packed = self.packed.iter().flat_map(|packed| packed.rows.iter().map(|row| packed.view(row)));
        let owned = if self.packed.is_some() { None } else { self.owned.get() };
        packed.chain(owned.into_iter().flatten().map(|(key, record)| RecordView {
            keyspace: key.keyspace,
            partition: &key.partition,
            sort: &key.sort,
            revision: record.revision,
            expires_at_ms: record.expires_at_ms,
            value: &record.value,
        }))
    }

    /// The records as a list.
    pub fn into_vec(mut self) -> Vec<(Key, Record)> {
        self.unpack();
        self.owned.take().unwrap_or_default()
    }

    /// The records as a slice.
    pub fn as_slice(&self) -> &[(Key, Record)] {
        self.owned.get_or_init(|| self.packed.as_ref().map_or_else(Vec::new, Packed::owned))
    }

    /// Makes the list the only form.
    fn unpack(&mut self) -> &mut Vec<(Key, Record)> {
        if let Some(packed) = self.packed.take()
            && self.owned.get().is_none()
        {
            self.owned = OnceLock::from(packed.owned());
        }
        if self.owned.get().is_none() {
            self.owned = OnceLock::from(Vec::new());
        }
        self.owned.get_mut().expect("it was just made")
    }
}

impl Deref for Records {
    type Target = [(Key, Record)];

    fn deref(&self) -> &Self::Target {
        self.as_slice()
    }
}

impl DerefMut for Records {
    fn deref_mut(&mut self) -> &mut Self::Target {
        self.unpack()
    }
}

impl From<Vec<(Key, Record)>> for Records {
    fn from(records: Vec<(Key, Record)>) -> Self {
        Self { packed: None, owned: OnceLock::from(records) }
    }
}

impl FromIterator<(Key, Record)> for Records {
    fn from_iter<I: IntoIterator<Item = (Key, Record)>>(records: I) -> Self {
        records.into_iter().collect::<Vec<_>>().into()
    }
}

impl Extend<(Key, Record)> for Records {
    fn extend<I: IntoIterator<Item = (Key, Record)>>(&mut self, records: I) {
        self.unpack().extend(records);
    }
}

impl IntoIterator for Records {
    type Item = (Key, Record);
    type IntoIter = std::vec::IntoIter<(Key, Record)>;

    fn into_iter(self) -> Self::IntoIter {
        self.into_vec().into_iter()
    }
}

impl<'a> IntoIterator for &'a Records {
    type Item = &'a (Key, Record);
    type IntoIter = std::slice::Iter<'a, (Key, Record)>;

    fn into_iter(self) -> Self::IntoIter {
        self.as_slice().iter()
    }
}

impl PartialEq for Records {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.views().eq(other.views())
    }
}

impl Eq for Records {}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.views()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::KeyspaceId;
    use crate::key::KeyspaceKind;

    #[test]
    fn packed_records_are_the_same_in_every_form() {
        let keyspace = Keyspace { id: KeyspaceId(7), kind: KeyspaceKind::Hashed };
        let record = |number: u64, value: &'static str| Record {
            revision: Revision(number),
            expires_at_ms: (number == 2).then_some(9),
            value: Bytes::from_static(value.as_bytes()),
        };
        let expected = vec![
            (keyspace.key("part", "a"), record(1, "one")),
            (keyspace.key("part", "bb"), record(2, "")),
            (keyspace.key("part", ""), record(3, "three")),
        ];
        let row = |number, expires_at_ms, kept_at, key_end, value_end| PackedRow {
            revision: Revision(number),
            expires_at_ms,
            kept_at,
            key_end,
            value_at: key_end,
            value_end,
        };
        let packed = Records::packed(Packed {
            keyspace,
            partition: Bytes::from_static(b"part"),
            buffer: Bytes::from_static(b"aone.bbthree"),
            rows: vec![row(1, None, 0, 1, 4), row(2, Some(9), 5, 7, 7), row(3, None, 7, 7, 12)],
        });
        let owned = Records::from(expected.clone());
        assert_eq!((packed.len(), packed.is_empty()), (3, false));
        assert_eq!(packed, owned);
        assert_eq!(packed.views().rev().map(|view| view.value).collect::<Vec<_>>(), [&b"three"[..], b"", b"one"]);
        let mut changed = packed.clone();
        assert_eq!(packed.as_slice(), expected);
        assert_eq!(packed.clone().into_vec(), expected);
        changed.extend([(keyspace.key("q", "r"), record(4, "four"))]);
        assert_eq!(
            (changed.len(), changed.first(), changed.last().map(|(key, _)| &key.sort[..])),
            (4, expected.first(), Some(&b"r"[..]))
        );
        assert_ne!(changed, packed);
        if let Some((_, first)) = changed.first_mut() {
            first.value = Bytes::from_static(b"eno");
        }
        assert_eq!(changed.views().next().map(|view| view.value), Some(&b"eno"[..]));
        assert!(Records::default().is_empty() && Records::default().views().next().is_none());
        assert_eq!(Records::default().into_vec(), []);
    }
}
