//! The records of one page of a scan, gathered in one piece of memory.
//!
//! ```text
//! buffer   [key 0][header 0][value 0][key 1][header 1][value 1]…      rows   where each of them begins and ends
//! ```
//!
//! A page of 25 records so costs a few allocations instead of three a record. Its keys and values lie in that memory: who
//! keeps one of them keeps the page. What a record's checksum is of lies side by side in it, so that one pass verifies it.

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::key::{Key, Keyspace};
use crate::record::{Record, RecordHead, StoredRecord, UnverifiedHead, verify_joined};
use crate::scan::{Packed, PackedRow, Records, ScanRange};

/// For how many records like the first one there is room at once.
const ROOM_RECORDS_MAX: usize = 128;

/// The rows of a page that is being read.
#[derive(Debug)]
pub(super) struct PageRows {
    decoder: KeyDecoder,
    limit: usize,
    /// Encoded keys, headers and values.
    buffer: Vec<u8>,
    rows: Vec<PackedRow>,
    /// Bytes of the encoded keys and of the values.
    bytes: usize,
}

impl PageRows {
    /// No rows yet, of a page that holds up to `limit`.
    pub(super) fn new(range: &ScanRange, limit: usize) -> Self {
        Self { decoder: KeyDecoder::new(range), limit, buffer: Vec::new(), rows: Vec::new(), bytes: 0 }
    }

    /// How many rows there are.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Bytes of their encoded keys and values.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Verifies what is stored under an encoded key, and adds it if it `is_visible`, which is told of it without its
    /// value. Tells whether it was added. After an error the rows are good for nothing.
    pub(super) fn add(
        &mut self,
        key: &[u8],
        stored: &[u8],
        is_visible: impl FnOnce(&StoredRecord) -> bool,
    ) -> Result<bool> {
        let UnverifiedHead { head, header, crc, payload } = RecordHead::split(stored)?;
        if self.rows.is_empty() && self.buffer.capacity() == 0 {
            let records = self.limit.min(ROOM_RECORDS_MAX);
            self.rows.reserve(records);
            // One byte more than may be needed: references to a buffer that is full cost more.
            self.buffer.reserve((key.len() + header.len() + payload.len()) * records + 1);
        }
        let start = self.buffer.len();
        self.buffer.extend_from_slice(key);
        let key_end = self.buffer.len();
        self.buffer.extend_from_slice(header);
        let value_at = self.buffer.len();
        self.buffer.extend_from_slice(payload);
        let value_end = self.buffer.len();
        verify_joined(key, crc, self.buffer.get(start..).unwrap_or_default())?;
        let kept_at = start + self.decoder.prefix_bytes;
        if kept_at > key_end {
            return Err(Error::corrupt("a key is shorter than its partition"));
        }
        let stored = head.with_value(Bytes::new());
        let visible = is_visible(&stored);
        if visible {
            self.bytes += key.len() + payload.len();
            let Record { revision, expires_at_ms, .. } = stored.record;
            self.rows.push(PackedRow { revision, expires_at_ms, kept_at, key_end, value_at, value_end });
        } else {
            self.buffer.truncate(start);
        }
        Ok(visible)
    }

    /// The encoded key of the last row.
    pub(super) fn last_key(&self) -> Option<&[u8]> {
        let row = self.rows.last()?;
        self.buffer.get(row.kept_at - self.decoder.prefix_bytes..row.key_end)
    }

    /// The records.
    pub(super) fn into_records(self) -> Result<Records> {
        let buffer = Bytes::from(self.buffer);
        let KeyDecoder { keyspace, partition, .. } = self.decoder;
        if let Some(partition) = partition {
            return Ok(Records::packed(Packed { keyspace, partition, buffer, rows: self.rows }));
        }
        let record = |row: PackedRow| {
            let kind_of = |id| (id == keyspace.id).then_some(keyspace.kind);
            let key = Key::decode(&buffer.slice(row.kept_at..row.key_end), kind_of)?;
            let value = buffer.slice(row.value_at..row.value_end);
            Ok((key, Record { revision: row.revision, expires_at_ms: row.expires_at_ms, value }))
        };
        self.rows.into_iter().map(record).collect()
    }
}

/// How the encoded keys of one scan become keys; within a partition only the sort key is new.
#[derive(Debug)]
struct KeyDecoder {
    keyspace: Keyspace,
    /// The partition that all keys lie in, if they do.
    partition: Option<Bytes>,
    /// The length of its encoding, which is left out of what is kept of a key.
    prefix_bytes: usize,
}

impl KeyDecoder {
    fn new(range: &ScanRange) -> Self {
        match range {
            ScanRange::Partition { keyspace, partition, .. } => {
                let prefix_bytes = keyspace.key(partition.clone(), Bytes::new()).partition_prefix().len();
                Self { keyspace: *keyspace, partition: Some(partition.clone()), prefix_bytes }
            }
            ScanRange::Ordered { keyspace, .. } => Self { keyspace: *keyspace, partition: None, prefix_bytes: 0 },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::ids::{KeyspaceId, Revision};
    use crate::key::KeyspaceKind;

    #[test]
    fn keys_and_values_come_back_as_they_were_and_damage_does_not() {
        let hashed = Keyspace { id: KeyspaceId(7), kind: KeyspaceKind::Hashed };
        let ordered = Keyspace { id: KeyspaceId(8), kind: KeyspaceKind::Ordered { partition_bytes: 1 } };
        let partition = Bytes::from_static(b"p\0q");
        let of_partition = ScanRange::Partition {
            keyspace: hashed,
            partition: partition.clone(),
            start: Bytes::new(),
            end: Bytes::new(),
        };
        let of_keyspace = ScanRange::Ordered { keyspace: ordered, start: Bytes::new(), end: Bytes::new() };
        let record = |number: u64| Record {
            revision: Revision(number),
            expires_at_ms: (number == 2).then_some(9),
            value: vec![b'v'; usize::try_from(number).expect("small") * 100].into(),
        };
        for (range, key) in [
            (
                of_partition,
                Box::new(|number: u64| hashed.key(partition.clone(), number.to_string())) as Box<dyn Fn(u64) -> Key>,
            ),
            (of_keyspace, Box::new(|number: u64| ordered.key(number.to_string(), "s"))),
        ] {
            let mut rows = PageRows::new(&range, 10);
            let mut expected = Vec::new();
            for number in 0..5 {
                let encoded = key(number).encode();
                let stored = StoredRecord::value(record(number)).encode(&encoded);
                let added =
                    rows.add(&encoded, &stored, |stored| stored.record.revision != Revision(3)).expect("intact");
                assert_eq!(added, number != 3);
                if added {
                    expected.push((key(number), record(number)));
                }
                let mut damaged = stored.to_vec();
                *damaged.last_mut().expect("a header at least") ^= 1;
                let refused = PageRows::new(&range, 10).add(&encoded, &damaged, |_| true).expect_err("damaged");
                assert_eq!(refused.kind(), ErrorKind::Corrupt);
            }
            assert_eq!(rows.last_key(), Some(&key(4).encode()[..]));
            assert_eq!(rows.len(), 4);
            let bytes: usize = expected.iter().map(|(key, record)| key.encode().len() + record.value.len()).sum();
            assert_eq!(rows.bytes(), bytes);
            assert_eq!(rows.into_records().expect("decoded").into_vec(), expected);
        }
    }
}
