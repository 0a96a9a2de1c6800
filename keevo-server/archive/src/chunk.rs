//! Chunks: runs of rows in key order, whose borders depend on the rows beside them alone.
//!
//! ```text
//! contents   ([key bytes u32][value bytes u32][key][value])…       name   SHA-256 of the contents
//! border     after a row whose key's CRC32C is low enough for its size, from 128 KiB on; at 4 MiB in any case
//! ```
//!
//! So a row that changes moves the borders near it at most, and the chunks of the next backup that nothing changed in have
//! names that are there already.
//!
//! Invariant: the keys of a chunk ascend.

use aws_lc_rs::digest::{SHA256, digest};
use bytes::{Buf, BufMut, Bytes};
use keevo_core::{Error, Result};

/// No border before so many bytes, but at the end.
const BYTES_MIN: usize = 128 << 10;
/// How many bytes lie between two borders on average, beyond the least.
const BYTES_MEAN: u64 = 512 << 10;
/// A border at the latest after so many bytes: one row more may come.
const BYTES_MAX: usize = 4 << 20;
const ROW_HEAD_BYTES: usize = 8;

/// The SHA-256 of a chunk's contents: its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkId(pub [u8; 32]);

impl ChunkId {
    /// The id of contents.
    pub fn of(contents: &[u8]) -> Self {
        let mut id = [0; 32];
        for (to, from) in id.iter_mut().zip(digest(&SHA256, contents).as_ref()) {
            *to = *from;
        }
        Self(id)
    }

    /// Reads an id of 32 bytes: `Corrupt`.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let wrong = |_| Error::corrupt("the id of a chunk does not have 32 bytes");
        bytes.try_into().map(Self).map_err(wrong)
    }

    /// Its digits.
    pub fn hex(&self) -> String {
        self.0
            .iter()
            .flat_map(|byte| [byte >> 4, byte & 15])
            .filter_map(|digit| char::from_digit(digit.into(), 16))
            .collect()
    }
}

/// Rows in key order, cut off at a border.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// The rows as they lie in the contents.
    pub(crate) contents: Bytes,
    /// How many they are.
    pub(crate) rows: u64,
}

/// Cuts rows into chunks.
#[derive(Debug, Default)]
pub(crate) struct Cutter {
    contents: Vec<u8>,
    rows: u64,
}

impl Cutter {
    /// Adds a row; gives the chunk that ends with it, if one does.
    pub(crate) fn push(&mut self, key: &[u8], value: &[u8]) -> Option<Chunk> {
        let size = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        self.contents.put_u32(size(key.len()));
        self.contents.put_u32(size(value.len()));
        self.contents.put_slice(key);
        self.contents.put_slice(value);
        self.rows += 1;
        let bytes = u64::from(size(ROW_HEAD_BYTES + key.len() + value.len()));
        let low_enough = u64::from(crc32c::crc32c(key)) * BYTES_MEAN < u64::from(u32::MAX) * bytes;
        let ends = self.contents.len() >= BYTES_MAX || (self.contents.len() >= BYTES_MIN && low_enough);
        if ends { self.finish() } else { None }
    }

    /// The rest.
    pub(crate) fn finish(&mut self) -> Option<Chunk> {
        let Self { contents, rows } = std::mem::take(self);
        (rows > 0).then(|| Chunk { contents: contents.into(), rows })
    }
}

/// The rows of a chunk's contents. `Corrupt` where they do not come apart, or their keys do not ascend.
pub(crate) fn rows(mut contents: Bytes) -> Result<Vec<(Bytes, Bytes)>> {
    let cut_short = || Error::corrupt("a row is cut short");
    let mut rows: Vec<(Bytes, Bytes)> = Vec::new();
    while !contents.is_empty() {
        if contents.len() < ROW_HEAD_BYTES {
            return Err(cut_short());
        }
        let size = |bytes: u32| usize::try_from(bytes).unwrap_or(usize::MAX);
        let (key_bytes, value_bytes) = (size(contents.get_u32()), size(contents.get_u32()));
        if key_bytes.saturating_add(value_bytes) > contents.len() {
            return Err(cut_short());
        }
        let (key, value) = (contents.split_to(key_bytes), contents.split_to(value_bytes));
        if rows.last().is_some_and(|(before, _)| *before >= key) {
            return Err(Error::corrupt("its rows are out of order"));
        }
        rows.push((key, value));
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn cut(rows: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>) -> Vec<Chunk> {
        let mut cutter = Cutter::default();
        let mut chunks: Vec<Chunk> = rows.into_iter().filter_map(|(key, value)| cutter.push(&key, &value)).collect();
        chunks.extend(cutter.finish());
        chunks
    }

    fn row(number: u32, value: u8) -> (Vec<u8>, Vec<u8>) {
        (number.to_be_bytes().to_vec(), vec![value; 150])
    }

    #[test]
    fn a_changed_row_changes_few_chunks() {
        let before = cut((0..60_000).map(|number| row(number, 1)));
        let after = cut((0..60_000).map(|number| row(number, if number == 30_000 { 2 } else { 1 })));
        let more = cut((0..60_001).map(|number| if number == 20_000 { row(number, 9) } else { row(number, 1) }));
        let ids = |chunks: &[Chunk]| chunks.iter().map(|one| ChunkId::of(&one.contents)).collect::<BTreeSet<_>>();
        assert!(before.len() > 5, "{} chunks", before.len());
        assert_eq!(ids(&after).difference(&ids(&before)).count(), 1);
        assert!(ids(&more).difference(&ids(&before)).count() <= 2);
        assert!(before.iter().all(|chunk| chunk.contents.len() <= BYTES_MAX + 200));
    }

    #[test]
    fn rows_that_do_not_come_apart_are_corrupt() {
        let chunk = cut([row(1, 1), row(2, 2)]).remove(0);
        assert_eq!(rows(chunk.contents.clone()).expect("good").len(), 2);
        for length in (1..chunk.contents.len()).filter(|length| *length != chunk.contents.len() / 2) {
            assert!(rows(chunk.contents.slice(..length)).is_err(), "cut to {length}");
        }
        let swapped = cut([row(2, 1), row(1, 2)]).remove(0);
        assert!(rows(swapped.contents).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_cut_comes_back(
            input in proptest::collection::btree_map(
                proptest::collection::vec(any::<u8>(), 1..40),
                proptest::collection::vec(any::<u8>(), 0..40_000),
                0..60,
            ),
        ) {
            let chunks = cut(input.clone());
            let mut back = Vec::new();
            for chunk in chunks {
                let rows = rows(chunk.contents).unwrap();
                prop_assert_eq!(u64::try_from(rows.len()).unwrap(), chunk.rows);
                back.extend(rows.into_iter().map(|(key, value)| (key.to_vec(), value.to_vec())));
            }
            prop_assert_eq!(back, input.into_iter().collect::<Vec<_>>());
        }
    }
}
