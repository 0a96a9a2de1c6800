//! Keys and values of the log store on disk.
//!
//! ```text
//! entries  [group u64 BE][index u64 BE]   value of an entry
//! state    [group u64 BE][tag u8]         value of a vote, a committed mark, a purged mark
//! state    "stamp"                        value of the stamp
//! value    [crc32 u32 BE][version u8 = 1][body]
//! ```
//!
//! Invariant: the checksum covers key, version and body, so that a value is refused when one of its bits
//! has changed or when it lies under another key.

use bytes::Bytes;
use keevo_core::{Error, ErrorKind, Result};

use super::GroupId;

/// The version of values that this code writes.
const VERSION: u8 = 1;
const HEADER_BYTES: usize = 5;

/// The key of the stamp; five bytes, which no other key has.
pub(super) const STAMP_KEY: &[u8] = b"stamp";

/// What a row of a group in the state column says, in the order of the tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tag {
    Vote = 1,
    Committed = 2,
    Purged = 3,
}

impl Tag {
    /// Every tag.
    pub(super) const ALL: [Self; 3] = [Self::Vote, Self::Committed, Self::Purged];
}

/// The key of an entry.
pub(super) fn entry_key(group: GroupId, index: u64) -> [u8; 16] {
    ((u128::from(group) << 64) | u128::from(index)).to_be_bytes()
}

/// The key after that of an entry: the end of a range that holds it.
pub(super) fn entry_key_after(group: GroupId, index: u64) -> Vec<u8> {
    let mut key = entry_key(group, index).to_vec();
    key.push(0);
    key
}

/// Group and index of an entry's key.
pub(super) fn parse_entry_key(key: &[u8]) -> Result<(GroupId, u64)> {
    let (group, index) = key.split_first_chunk::<8>().ok_or_else(bad_key)?;
    let index: &[u8; 8] = index.try_into().map_err(|_wrong_length| bad_key())?;
    Ok((u64::from_be_bytes(*group), u64::from_be_bytes(*index)))
}

/// The key of a row of a group in the state column.
pub(super) fn state_key(group: GroupId, tag: Tag) -> [u8; 9] {
    let mut key = [0; 9];
    let [id @ .., last] = &mut key;
    *id = group.to_be_bytes();
    *last = tag as u8;
    key
}

/// Group and tag of a row in the state column. An unknown tag is `NewerFormat`.
pub(super) fn parse_state_key(key: &[u8]) -> Result<(GroupId, Tag)> {
    let (group, tag) = key.split_first_chunk::<8>().ok_or_else(bad_key)?;
    let [tag] = tag else { return Err(bad_key()) };
    let known = Tag::ALL.into_iter().find(|known| *known as u8 == *tag);
    let unknown = || Error::new(ErrorKind::NewerFormat, format!("the log store has a row with unknown tag {tag}"));
    Ok((u64::from_be_bytes(*group), known.ok_or_else(unknown)?))
}

fn bad_key() -> Error {
    Error::corrupt("the log store has a key of a wrong length")
}

/// Wraps a body, which `write` appends to the buffer, as the value of `key`. The buffer is overwritten.
pub(super) fn encode_value(key: &[u8], buffer: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    buffer.clear();
    buffer.extend_from_slice(&[0, 0, 0, 0, VERSION]);
    write(buffer);
    if let Some((crc, rest)) = buffer.split_first_chunk_mut::<4>() {
        *crc = checksum(key, rest).to_be_bytes();
    }
}

/// The body of the value of `key`. Errors: `Corrupt`, `NewerFormat`.
pub(super) fn decode_value(key: &[u8], value: &Bytes) -> Result<Bytes> {
    let Some((crc, rest)) = value.split_first_chunk::<4>() else {
        return Err(Error::corrupt("the log store has a value that is too short"));
    };
    if checksum(key, rest) != u32::from_be_bytes(*crc) {
        return Err(Error::corrupt("the log store has a value that fails its checksum"));
    }
    match rest.first() {
        Some(&VERSION) => Ok(value.slice(HEADER_BYTES..)),
        Some(version) => {
            Err(Error::new(ErrorKind::NewerFormat, format!("the log store has a value of version {version}")))
        }
        None => Err(Error::corrupt("the log store has a value that is too short")),
    }
}

fn checksum(key: &[u8], rest: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(rest);
    hasher.finalize()
}

/// Whether these bytes are a row of the log: sixteen bytes of key, then the value under it.
#[cfg(all(feature = "fuzzing", feature = "rocksdb"))]
pub(crate) fn is_row(input: &[u8]) -> bool {
    let Some((key, value)) = input.split_at_checked(16) else { return false };
    let value = Bytes::copy_from_slice(value);
    let is_mark = key.get(..9).is_some_and(|key| parse_state_key(key).is_ok());
    match parse_entry_key(key).and_then(|_| decode_value(key, &value)) {
        Ok(body) => crate::wire::decode_entry(&body).is_ok() || crate::wire::decode_vote(&body).is_ok(),
        Err(_) => is_mark,
    }
}

/// An entry and a vote under their keys.
#[cfg(all(feature = "fuzzing", feature = "rocksdb"))]
pub(crate) fn sample_rows() -> Vec<Vec<u8>> {
    use crate::types::{Entry, EntryPayload, Vote, log_id};
    let key = entry_key(3, 400);
    let row = |write: &dyn Fn(&mut Vec<u8>)| {
        let mut value = Vec::new();
        encode_value(&key, &mut value, write);
        [&key[..], &value].concat()
    };
    let entry = Entry { log_id: log_id(3, 12, 400), payload: EntryPayload::Blank };
    vec![
        row(&|buffer| crate::wire::encode_entry_into(&entry, buffer)),
        row(&|buffer| buffer.extend_from_slice(&crate::wire::encode_vote(&Vote::new(7, 12)))),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(key: &[u8], body: &[u8]) -> Bytes {
        let mut buffer = vec![9; 100];
        encode_value(key, &mut buffer, |buffer| buffer.extend_from_slice(body));
        buffer.into()
    }

    #[test]
    fn keys_sort_by_group_then_index() {
        let keys = [(0, 0), (0, u64::MAX), (1, 0), (1, 255), (1, 256), (u64::MAX, u64::MAX)];
        let encoded: Vec<_> = keys.iter().map(|(group, index)| entry_key(*group, *index)).collect();
        assert!(encoded.is_sorted());
        for ((group, index), key) in keys.into_iter().zip(encoded) {
            assert_eq!(parse_entry_key(&key).unwrap(), (group, index));
            assert!(entry_key_after(group, index).as_slice() > &key[..]);
        }
        assert!(entry_key_after(1, u64::MAX).as_slice() < &entry_key(2, 0)[..]);
        for tag in Tag::ALL {
            assert_eq!(parse_state_key(&state_key(300, tag)).unwrap(), (300, tag));
        }
        assert_eq!(parse_state_key(&[0; 9]).unwrap_err().kind(), ErrorKind::NewerFormat);
        assert_eq!(parse_entry_key(&[0; 15]).unwrap_err().kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn every_flipped_bit_and_every_other_key_is_found() {
        let key = entry_key(1, 2);
        let good = value(&key, b"body");
        assert_eq!(decode_value(&key, &good).unwrap(), Bytes::from_static(b"body"));
        assert_eq!(decode_value(&entry_key(1, 3), &good).unwrap_err().kind(), ErrorKind::Corrupt);
        for bit in 0..good.len() * 8 {
            let mut bad = good.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode_value(&key, &bad.into()).unwrap_err().kind(), ErrorKind::Corrupt, "bit {bit}");
        }
        for length in 0..good.len() {
            assert!(decode_value(&key, &good.slice(..length)).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn a_value_of_a_newer_version_is_told_apart_from_damage() {
        let key = entry_key(1, 2);
        let mut newer = value(&key, b"body").to_vec();
        newer[4] = 2;
        let crc = checksum(&key, &newer[4..]).to_be_bytes();
        newer[..4].copy_from_slice(&crc);
        assert_eq!(decode_value(&key, &newer.into()).unwrap_err().kind(), ErrorKind::NewerFormat);
    }
}
