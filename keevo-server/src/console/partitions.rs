//! The partitions of a hashed keyspace, found in the store of this node.
//!
//! ```text
//! key       [10][hash u16][keyspace u32][partition, escaped]…
//! a page    hash 0: seek the keyspace ─▶ found: take the partition, go behind it; else ─▶ the next hash that has any key
//! ```
//!
//! Hashed keys lie by the hash of their partition, so no scan of the engine lists them; this walk skips from one partition
//! to the next, whatever else lies between. It sees the replicas of this node as they are, which is good enough to look
//! around; rows are then read through the engine.
//!
//! Invariant: a page ends after [`SEEKS_MAX`] seeks, with the place to go on from, whether it found anything or not.

use std::ops::ControlFlow;

use bytes::Bytes;
use keevo_core::{
    CLASS_HASHED, Column, Direction, Error, Key, Keyspace, Result, Store, StoredRecord, encode_partition, prefix_end,
};

/// The most seeks of a page; there are 65,536 hashes.
const SEEKS_MAX: usize = 8_192;
/// The most rows of a partition that are looked at for one that is not expired.
const ROWS_MAX: usize = 64;
/// How many hashes there are.
const HASHES: u32 = 1 << 16;
/// Where the hash lies in a key, and where the keyspace begins.
const HASH: std::ops::Range<usize> = 1..3;

/// A page of partitions.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Page {
    /// The partitions, by hash.
    pub(super) partitions: Vec<Bytes>,
    /// Where the next page begins; `None` = everything was seen.
    pub(super) next: Option<Bytes>,
    /// How far the walk has come, in thousandths of all hashes.
    pub(super) done_permille: u32,
}

/// The walk through one keyspace.
struct Walk {
    /// `[class][hash = 0][keyspace][prefix, escaped]`: with another hash, where that hash's partitions begin.
    start: Vec<u8>,
}

impl Walk {
    fn new(keyspace: Keyspace, prefix: &[u8]) -> Self {
        let mut start = encode_partition(keyspace, prefix, 0).to_vec();
        // Without the end of the partition: longer ones that begin with the prefix follow.
        start.truncate(start.len().saturating_sub(2));
        Self { start }
    }

    /// Where the partitions with a hash begin; `None` behind the last hash.
    fn at(&self, hash: u32) -> Option<Bytes> {
        let hash = u16::try_from(hash).ok()?;
        let mut start = self.start.clone();
        start.get_mut(HASH)?.copy_from_slice(&hash.to_be_bytes());
        Some(start.into())
    }
}

fn hash_of(key: &[u8]) -> u32 {
    key.get(HASH).and_then(|hash| hash.try_into().ok()).map_or(HASHES, |hash| u32::from(u16::from_be_bytes(hash)))
}

/// Up to `limit` partitions of a hashed keyspace that begin with `prefix`, from the place that a page before gave. Blocks.
///
/// Errors: `Invalid` for a place that no page gave; those of the store.
pub(super) fn list(
    store: &impl Store,
    keyspace: Keyspace,
    prefix: &[u8],
    after: Option<&[u8]>,
    (limit, now_ms): (usize, u64),
) -> Result<Page> {
    let walk = Walk::new(keyspace, prefix);
    if after.is_some_and(|place| place.first() != Some(&CLASS_HASHED) || place.len() < HASH.end) {
        return Err(Error::invalid("the page begins where no page before has ended"));
    }
    let mut from = after.map(Bytes::copy_from_slice).or_else(|| walk.at(0));
    let mut page = Page::default();
    for _ in 0..SEEKS_MAX {
        let Some(lower) = &from else { break };
        if page.partitions.len() >= limit {
            break;
        }
        let Some(found) = first(store, lower, now_ms)? else {
            from = None;
            break;
        };
        let hash = hash_of(&found.key);
        let Some(start) = walk.at(hash) else {
            from = None;
            break;
        };
        from = if found.key < start {
            Some(start)
        } else if found.key.starts_with(&start) {
            let key = Key::decode(&found.key, |_| Some(keyspace.kind))?;
            if found.lives {
                page.partitions.push(key.partition.clone());
            }
            Some(prefix_end(&key.partition_prefix()))
        } else {
            walk.at(hash + 1)
        };
    }
    page.done_permille = from.as_ref().map_or(1_000, |from| hash_of(from) * 1_000 / HASHES);
    page.next = from;
    Ok(page)
}

/// The first key from a place on, and whether it or one of the next few in its partition is there to be seen.
struct Found {
    key: Bytes,
    lives: bool,
}

fn first(store: &impl Store, lower: &[u8], now_ms: u64) -> Result<Option<Found>> {
    let mut found: Option<Found> = None;
    let mut looked = 0;
    store.scan(Column::Data, lower, &[CLASS_HASHED + 1], Direction::Forward, &mut |key, value| {
        let lives = StoredRecord::decode(key, &Bytes::copy_from_slice(value)).is_ok_and(|one| one.is_visible(now_ms));
        looked += 1;
        let first = found.get_or_insert_with(|| Found { key: Bytes::copy_from_slice(key), lives: false });
        if !same_partition(&first.key, key) {
            return Ok(ControlFlow::Break(()));
        }
        first.lives |= lives;
        Ok(if first.lives || looked >= ROWS_MAX { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    Ok(found)
}

/// Whether two hashed keys lie in the same partition: an escaped partition ends with the first `00 00`.
fn same_partition(one: &[u8], other: &[u8]) -> bool {
    let mut at = HASH.end + 4;
    while let Some(pair) = one.get(at..at + 2) {
        match pair {
            [0, 0] => return other.starts_with(one.get(..at + 2).unwrap_or(one)),
            [0, _] => at += 2,
            _ => at += 1,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use keevo_core::{Durability, KeyspaceId, KeyspaceKind, MemoryStore, Record, Revision, StoreBatch, StoreOp};

    const MINE: Keyspace = Keyspace { id: KeyspaceId(7), kind: KeyspaceKind::Hashed };
    const LOWER: Keyspace = Keyspace { id: KeyspaceId(3), kind: KeyspaceKind::Hashed };
    const HIGHER: Keyspace = Keyspace { id: KeyspaceId(9), kind: KeyspaceKind::Hashed };

    fn put(store: &MemoryStore, keyspace: Keyspace, partition: &[u8], sort: &[u8], expires_at_ms: Option<u64>) {
        let key = keyspace.key(partition.to_vec(), sort.to_vec()).encode();
        let record = Record { revision: Revision(1), expires_at_ms, value: Bytes::from_static(b"v") };
        let value = StoredRecord::value(record).encode(&key);
        let ops = vec![StoreOp::Put(Column::Data, key, value)];
        store.write(StoreBatch { ops }, Durability::Sync).expect("written");
    }

    /// All partitions, page by page, and how many pages that took.
    fn all(store: &MemoryStore, prefix: &[u8], limit: usize) -> (Vec<Bytes>, usize) {
        let (mut found, mut pages, mut after) = (Vec::new(), 0, None::<Bytes>);
        loop {
            let page = list(store, MINE, prefix, after.as_deref(), (limit, 1_000)).expect("a page");
            assert!(page.partitions.len() <= limit && page.done_permille <= 1_000);
            pages += 1;
            found.extend(page.partitions);
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        found.sort();
        (found, pages)
    }

    #[test]
    fn each_partition_is_listed_once_whatever_lies_between() {
        let store = MemoryStore::new();
        let mut expected: Vec<Bytes> = Vec::new();
        for number in 0..300_u32 {
            let partition = if number % 3 == 0 { format!("a\0{number}") } else { format!("p{number}") };
            expected.push(partition.clone().into());
            for sort in ["", "1", "2"] {
                put(&store, MINE, partition.as_bytes(), sort.as_bytes(), None);
            }
            put(&store, LOWER, format!("l{number}").as_bytes(), b"", None);
            put(&store, HIGHER, format!("h{number}").as_bytes(), b"", None);
        }
        expected.sort();
        let (found, pages) = all(&store, b"", 50);
        assert_eq!(found, expected);
        assert!(pages >= 6);
        let begins: Vec<Bytes> = expected.iter().filter(|one| one.starts_with(b"a\0")).cloned().collect();
        assert_eq!((begins.len(), all(&store, b"a\0", 200).0), (100, begins));
        let ones: Vec<Bytes> = expected.iter().filter(|one| one.starts_with(b"p1")).cloned().collect();
        assert_eq!(all(&store, b"p1", 7).0, ones);
        assert!(all(&store, b"nobody", 10).0.is_empty());
    }

    #[test]
    fn what_has_expired_is_no_partition() {
        let store = MemoryStore::new();
        put(&store, MINE, b"gone", b"1", Some(10));
        put(&store, MINE, b"half", b"1", Some(10));
        put(&store, MINE, b"half", b"2", None);
        put(&store, MINE, b"later", b"1", Some(2_000));
        assert_eq!(all(&store, b"", 10).0, ["half", "later"]);
    }

    #[test]
    fn a_place_that_no_page_gave_is_refused() {
        let store = MemoryStore::new();
        for bad in [&b""[..], b"\x20\0\0", b"\x10"] {
            assert!(list(&store, MINE, b"", Some(bad), (1, 0)).is_err(), "{bad:?}");
        }
        let page = list(&store, MINE, b"", Some(b"\x10\xff\xff\xff"), (1, 0)).expect("an end");
        assert_eq!(page, Page { done_permille: 1_000, ..Page::default() });
    }
}
