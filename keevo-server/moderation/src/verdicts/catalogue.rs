//! The catalogue: the names of all texts that were judged while a store was fed. Partitions of texts lie where their hashes are,
//! so without it nobody could go through them.
//!
//! Invariant: a text is in it before its first verdict is written, and goes out of it after its last one.

use keevo_core::{Key, Keyspace};

/// How many partitions hold it.
pub(crate) const BUCKETS: u16 = 256;

/// One bucket.
pub(crate) fn bucket(number: u16) -> Vec<u8> {
    let [_, low] = number.to_be_bytes();
    vec![b't', low]
}

/// Where a text is, by the partition of its verdicts.
pub(crate) fn key(keyspace: Keyspace, partition: &[u8]) -> Key {
    let number = partition.iter().fold(0_u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(*byte));
    keyspace.key(bucket(u16::from(number)), partition.to_vec())
}
