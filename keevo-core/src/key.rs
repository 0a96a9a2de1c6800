//! Keys and their encoding, which preserves order.
//!
//! ```text
//! meta     [0x08][partition hash u16 BE][keyspace u32 BE = 0][partition, escaped, terminated][sort key]
//! hashed   [0x10][partition hash u16 BE][keyspace u32 BE][partition, escaped, terminated][sort key]
//! ordered  [0x20][keyspace u32 BE][partition, of the declared length][sort key]
//! system   [0x00][shard u64 BE][tag u8]…            (rows of a shard itself; never a user's)
//! ```
//!
//! The partition is the unit of atomicity: all of its keys are adjacent, and no shard boundary cuts
//! it. The hash spreads partitions, so that sequential ids make no hot shard. Escaping writes `00` as
//! `00 ff` and ends with `00 00`, so that no partition is a prefix of another and order is kept.

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::error::{Error, ErrorKind, Result};
use crate::ids::{KeyspaceId, ShardId};
use crate::limits::{ORDERED_PARTITION_BYTES_MAX, PARTITION_BYTES_MAX, SORT_BYTES_MAX};

/// The first byte of a shard's own rows.
pub const CLASS_SYSTEM: u8 = 0x00;
/// The first byte of keys in the meta keyspace, which shard 0 owns.
pub const CLASS_META: u8 = 0x08;
/// The first byte after the meta keyspace.
pub const CLASS_META_END: u8 = 0x09;
/// The first byte of keys in hashed keyspaces.
pub const CLASS_HASHED: u8 = 0x10;
/// The first byte of keys in ordered keyspaces.
pub const CLASS_ORDERED: u8 = 0x20;
/// The byte after every user key.
pub const CLASS_END: u8 = 0x30;

/// How a keyspace lays out its keys; chosen when it is created and fixed from then on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyspaceKind {
    /// Partitions of any length, spread over the shards by their hash. The default.
    Hashed,
    /// One global order over `partition ++ sort`, for range scans across partitions.
    Ordered {
        /// The length in bytes of every partition, 1 to [`ORDERED_PARTITION_BYTES_MAX`].
        partition_bytes: u8,
    },
}

impl KeyspaceKind {
    /// Refuses an ordered kind with a partition length out of range.
    pub fn validate(self) -> Result<()> {
        match self {
            Self::Ordered { partition_bytes } if !(1..=ORDERED_PARTITION_BYTES_MAX).contains(&partition_bytes) => {
                Err(Error::new(
                    ErrorKind::Invalid,
                    format!(
                        "an ordered keyspace declares a partition length of 1 to {ORDERED_PARTITION_BYTES_MAX} bytes, not {partition_bytes}"
                    ),
                ))
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for KeyspaceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hashed => f.write_str("hashed"),
            Self::Ordered { partition_bytes } => write!(f, "ordered with partitions of {partition_bytes} bytes"),
        }
    }
}

/// A keyspace as the engine knows it: what [`crate::Engine::keyspace`] returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Keyspace {
    /// Its id.
    pub id: KeyspaceId,
    /// Its layout.
    pub kind: KeyspaceKind,
}

impl Keyspace {
    /// The cluster's own keyspace: shard map, nodes, keyspaces, configuration. Not for users.
    pub const META: Self = Self { id: KeyspaceId(0), kind: KeyspaceKind::Hashed };

    /// The key of `sort` in `partition` of this keyspace.
    pub fn key(self, partition: impl Into<Bytes>, sort: impl Into<Bytes>) -> Key {
        Key { keyspace: self, partition: partition.into(), sort: sort.into() }
    }
}

/// A key: keyspace, partition (the unit of atomicity) and sort key (the order within it).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    /// The keyspace.
    pub keyspace: Keyspace,
    /// The partition, 1 to 512 bytes; in an ordered keyspace exactly its declared length.
    pub partition: Bytes,
    /// The sort key within the partition, 0 to 2,048 bytes.
    pub sort: Bytes,
}

impl Key {
    /// Refuses a key whose parts are empty or too long.
    pub fn validate(&self) -> Result<()> {
        validate_partition(self.keyspace, &self.partition)?;
        validate_sort(&self.sort)
    }

    /// Whether both keys lie in the same partition of the same keyspace.
    pub fn same_partition(&self, other: &Self) -> bool {
        self.keyspace == other.keyspace && self.partition == other.partition
    }

    /// The encoded key.
    pub fn encode(&self) -> Bytes {
        let mut out = encode_partition(self.keyspace, &self.partition, self.sort.len());
        out.put_slice(&self.sort);
        out.freeze()
    }

    /// The encoded start of the key's partition: a prefix of all of its keys.
    pub fn partition_prefix(&self) -> Bytes {
        encode_partition(self.keyspace, &self.partition, 0).freeze()
    }

    /// Decodes a user key. `kind_of` gives the layout of a keyspace.
    pub fn decode(encoded: &Bytes, kind_of: impl Fn(KeyspaceId) -> Option<KeyspaceKind>) -> Result<Self> {
        match encoded.first() {
            Some(&(CLASS_HASHED | CLASS_META)) => decode_hashed(encoded),
            Some(&CLASS_ORDERED) => decode_ordered(encoded, kind_of),
            _ => Err(Error::corrupt("a key starts with an unknown class byte")),
        }
    }
}

/// Refuses a partition that is empty or too long for its keyspace.
pub fn validate_partition(keyspace: Keyspace, partition: &[u8]) -> Result<()> {
    match keyspace.kind {
        KeyspaceKind::Hashed if partition.is_empty() || partition.len() > PARTITION_BYTES_MAX => Err(Error::new(
            ErrorKind::KeySize,
            format!("the partition has {} bytes, not 1 to {PARTITION_BYTES_MAX}", partition.len()),
        )),
        KeyspaceKind::Ordered { partition_bytes } if partition.len() != usize::from(partition_bytes) => {
            Err(Error::new(
                ErrorKind::KeySize,
                format!(
                    "the partition has {} bytes; this ordered keyspace declares {partition_bytes}",
                    partition.len()
                ),
            ))
        }
        _ => Ok(()),
    }
}

/// Refuses a sort key that is too long.
pub fn validate_sort(sort: &[u8]) -> Result<()> {
    if sort.len() > SORT_BYTES_MAX {
        return Err(Error::new(
            ErrorKind::KeySize,
            format!("the sort key has {} bytes, more than {SORT_BYTES_MAX}", sort.len()),
        ));
    }
    Ok(())
}

/// The hash that places a partition: stable for ever, since it is part of stored keys.
pub fn partition_hash(partition: &[u8]) -> u16 {
    // CRC-32 is linear; the finaliser of MurmurHash3 breaks that up.
    let mut h = crc32fast::hash(partition);
    h ^= h >> 16;
    h = h.wrapping_mul(0x85eb_ca6b);
    h ^= h >> 13;
    h = h.wrapping_mul(0xc2b2_ae35);
    h ^= h >> 16;
    u16::try_from(h >> 16).expect("the upper half of 32 bits is 16 bits")
}

/// The encoded start of a partition, with room for `sort_bytes` more.
pub fn encode_partition(keyspace: Keyspace, partition: &[u8], sort_bytes: usize) -> BytesMut {
    let plain = !partition.contains(&0);
    // The exact length: what does not fill its buffer is moved to a larger one when it is frozen.
    let frame_bytes = match keyspace.kind {
        KeyspaceKind::Hashed if plain => 9,
        KeyspaceKind::Hashed => 8 + partition.split(|&byte| byte == 0).count(),
        KeyspaceKind::Ordered { .. } => 5,
    };
    let mut out = BytesMut::with_capacity(frame_bytes + partition.len() + sort_bytes);
    match keyspace.kind {
        KeyspaceKind::Hashed => {
            let [high, low] = partition_hash(partition).to_be_bytes();
            let [a, b, c, d] = keyspace.id.0.to_be_bytes();
            let class = if keyspace.id == Keyspace::META.id { CLASS_META } else { CLASS_HASHED };
            out.put_slice(&[class, high, low, a, b, c, d]);
            if plain {
                out.put_slice(partition);
                out.put_slice(&[0, 0]);
                return out;
            }
            for (number, part) in partition.split(|&byte| byte == 0).enumerate() {
                if number > 0 {
                    out.put_slice(&[0, 0xff]);
                }
                out.put_slice(part);
            }
            out.put_slice(&[0, 0]);
        }
        KeyspaceKind::Ordered { .. } => {
            out.put_u8(CLASS_ORDERED);
            out.put_u32(keyspace.id.0);
            out.put_slice(partition);
        }
    }
    out
}

/// The encoded start of an ordered keyspace.
pub fn encode_ordered_prefix(keyspace: KeyspaceId) -> BytesMut {
    let mut out = BytesMut::with_capacity(64);
    out.put_u8(CLASS_ORDERED);
    out.put_u32(keyspace.0);
    out
}

/// The encoded start of a system row of `shard`.
pub fn encode_system(shard: ShardId, tag: u8) -> BytesMut {
    let mut out = BytesMut::with_capacity(40);
    out.put_u8(CLASS_SYSTEM);
    out.put_u64(shard.0);
    out.put_u8(tag);
    out
}

/// The first key after every key that starts with `prefix`; empty when there is none.
pub fn prefix_end(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.last_mut() {
        if *last < 0xff {
            *last += 1;
            return end.into();
        }
        end.pop();
    }
    Bytes::new()
}

fn decode_hashed(encoded: &Bytes) -> Result<Key> {
    let truncated = || Error::corrupt("a hashed key is cut short");
    let mut header = encoded.get(..7).ok_or_else(truncated)?;
    let class = header.get_u8();
    let stored_hash = header.get_u16();
    let id = KeyspaceId(header.get_u32());
    if (class == CLASS_META) != (id == Keyspace::META.id) {
        return Err(Error::corrupt(format!("a key of keyspace {id} has class {class:#04x}")));
    }
    let mut partition = BytesMut::new();
    let mut position = 7;
    loop {
        let byte = *encoded.get(position).ok_or_else(truncated)?;
        position += 1;
        if byte != 0 {
            partition.put_u8(byte);
            continue;
        }
        let escape = *encoded.get(position).ok_or_else(truncated)?;
        position += 1;
        match escape {
            0xff => partition.put_u8(0),
            0 => break,
            _ => return Err(Error::corrupt("a hashed key holds a broken escape")),
        }
    }
    if partition_hash(&partition) != stored_hash {
        return Err(Error::corrupt("a hashed key does not match its partition's hash"));
    }
    let keyspace = Keyspace { id, kind: KeyspaceKind::Hashed };
    Ok(keyspace.key(partition.freeze(), encoded.slice(position..)))
}

fn decode_ordered(encoded: &Bytes, kind_of: impl Fn(KeyspaceId) -> Option<KeyspaceKind>) -> Result<Key> {
    let truncated = || Error::corrupt("an ordered key is cut short");
    let id = KeyspaceId(encoded.get(1..5).ok_or_else(truncated)?.get_u32());
    let Some(kind @ KeyspaceKind::Ordered { partition_bytes }) = kind_of(id) else {
        return Err(Error::corrupt(format!("an ordered key names keyspace {id}, which is not an ordered one")));
    };
    let sort_start = 5 + usize::from(partition_bytes);
    if encoded.len() < sort_start {
        return Err(truncated());
    }
    let keyspace = Keyspace { id, kind };
    Ok(keyspace.key(encoded.slice(5..sort_start), encoded.slice(sort_start..)))
}

#[cfg(test)]
mod tests;
