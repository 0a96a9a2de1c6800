//! Keyspaces as records: the names, kinds and ids that every disk engine keeps in [`Keyspace::META`].
//!
//! ```text
//! partition "keyspaces":  n/NAME   → [format][id u32][kind u8, 0 = hashed, else the ordered partition's bytes]
//!                         i/ID     → NAME                     (ID as u32 BE)
//!                         next     → the next id, u32 BE
//! ```
//!
//! Invariant: an id is given once, in the batch that first stores its name; names are never renamed, ids
//! never reused. Two creators race on `n/NAME` being absent, and the loser reads what the winner wrote.

use std::future::Future;

use bytes::{BufMut, Bytes, BytesMut};

use crate::batch::{Batch, Check, Written};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::KeyspaceId;
use crate::key::{Key, Keyspace, KeyspaceKind};
use crate::limits::KEYSPACE_NAME_BYTES_MAX;
use crate::record::Record;

const PARTITION: &[u8] = b"keyspaces";
const ROW_FORMAT: u8 = 1;
const ROW_BYTES: usize = 6;
const ATTEMPTS: usize = 64;

/// The meta keyspace as an engine reaches it: linearizable reads, and writes that users may not make.
pub trait MetaStore: Sync {
    /// The record under a key of the meta keyspace.
    fn get(&self, key: Key) -> impl Future<Output = Result<Option<Record>>> + Send;

    /// Applies a batch to the meta keyspace.
    fn write(&self, batch: Batch) -> impl Future<Output = Result<Written>> + Send;
}

/// The keyspace of that name, created if it is new.
///
/// Errors: `Invalid` for a bad name or kind, `Conflict` when the name exists with another kind, `Unavailable`
/// when many creators raced, and what `meta` gives.
pub async fn ensure_keyspace(meta: &impl MetaStore, name: &str, kind: KeyspaceKind) -> Result<Keyspace> {
    validate_name(name)?;
    kind.validate()?;
    for _ in 0..ATTEMPTS {
        if let Some(found) = look_up(meta, name).await? {
            return same_kind(name, found, kind);
        }
        let next = meta.get(key(b"next")).await?;
        let (id, guard) = match &next {
            Some(record) => (decode_next(&record.value)?, Check::RevisionIs(record.revision)),
            None => (1, Check::Absent),
        };
        let after =
            id.checked_add(1).ok_or_else(|| Error::new(ErrorKind::ResourceExhausted, "no keyspace id is left"))?;
        let batch = Batch::new()
            .require(name_key(name), Check::Absent)
            .require(key(b"next"), guard)
            .put(name_key(name), encode(id, kind))
            .put(id_key(KeyspaceId(id)), Bytes::copy_from_slice(name.as_bytes()))
            .put(key(b"next"), Bytes::copy_from_slice(&after.to_be_bytes()));
        match meta.write(batch).await {
            Ok(_) => return Ok(Keyspace { id: KeyspaceId(id), kind }),
            // Somebody else made a keyspace, perhaps this one; or an earlier attempt of ours did after all.
            Err(error) if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::OutcomeUnknown) => {}
            Err(error) => return Err(error),
        }
    }
    Err(Error::new(ErrorKind::Unavailable, format!("keyspace {name} could not be created: too many others were")))
}

/// The keyspace of that name, or `UnknownKeyspace`.
pub async fn find_keyspace(meta: &impl MetaStore, name: &str) -> Result<Keyspace> {
    validate_name(name)?;
    let found = look_up(meta, name).await?;
    found.ok_or_else(|| Error::new(ErrorKind::UnknownKeyspace, format!("there is no keyspace {name}")))
}

/// The keyspace of that id, with its name, or `UnknownKeyspace`.
pub async fn keyspace_by_id(meta: &impl MetaStore, id: KeyspaceId) -> Result<(String, Keyspace)> {
    let unknown = || Error::new(ErrorKind::UnknownKeyspace, format!("there is no keyspace with id {id}"));
    let name = meta.get(id_key(id)).await?.ok_or_else(unknown)?.value;
    let name = String::from_utf8(name.to_vec())
        .map_err(|source| Error::corrupt(format!("the name of keyspace {id} is not text")).with_source(source))?;
    let found = look_up(meta, &name).await?.filter(|keyspace| keyspace.id == id);
    let keyspace = found.ok_or_else(|| Error::corrupt(format!("keyspace {id} is named {name}, which is another")))?;
    Ok((name, keyspace))
}

/// The key of the row of a name; the row decodes with [`decode_keyspace`].
pub fn name_key(name: &str) -> Key {
    key([b"n/", name.as_bytes()].concat())
}

/// What the sort keys of all name rows start with, in the partition of any of them.
pub const NAME_PREFIX: &[u8] = b"n/";

/// Decodes the row of a name.
pub fn decode_keyspace(row: &[u8]) -> Result<Keyspace> {
    let (format, rest) = row.split_first().ok_or_else(|| Error::corrupt("a keyspace row is empty"))?;
    if *format > ROW_FORMAT {
        return Err(Error::new(
            ErrorKind::NewerFormat,
            format!("a keyspace row has format {format}; this version reads up to {ROW_FORMAT}"),
        ));
    }
    let wrong = || Error::corrupt("a keyspace row has another layout");
    let (id, kind) = rest.split_first_chunk::<4>().ok_or_else(wrong)?;
    let kind = match (format, kind) {
        (&ROW_FORMAT, [0]) => KeyspaceKind::Hashed,
        (&ROW_FORMAT, &[partition_bytes]) => KeyspaceKind::Ordered { partition_bytes },
        _ => return Err(wrong()),
    };
    kind.validate().map_err(|source| wrong().with_source(source))?;
    Ok(Keyspace { id: KeyspaceId(u32::from_be_bytes(*id)), kind })
}

/// Refuses a name that is empty, too long, or has other bytes than `a-z 0-9 . _ -`.
pub fn validate_name(name: &str) -> Result<()> {
    let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
    if name.is_empty() || name.len() > KEYSPACE_NAME_BYTES_MAX || !name.bytes().all(allowed) {
        return Err(Error::invalid(format!(
            "a keyspace name has 1 to {KEYSPACE_NAME_BYTES_MAX} bytes of a-z 0-9 . _ -, unlike '{}'",
            name.escape_debug()
        )));
    }
    Ok(())
}

/// Refuses the cluster's own keyspace to users: every engine calls it before a user's write.
pub fn refuse_meta(keyspace: Keyspace) -> Result<()> {
    if keyspace.id == Keyspace::META.id {
        return Err(Error::invalid("keyspace 0 belongs to the cluster; users write to keyspaces of their own"));
    }
    Ok(())
}

async fn look_up(meta: &impl MetaStore, name: &str) -> Result<Option<Keyspace>> {
    meta.get(name_key(name)).await?.map(|record| decode_keyspace(&record.value)).transpose()
}

fn same_kind(name: &str, found: Keyspace, kind: KeyspaceKind) -> Result<Keyspace> {
    if found.kind == kind {
        return Ok(found);
    }
    Err(Error::new(ErrorKind::Conflict, format!("keyspace {name} exists as {}, not as {kind}", found.kind)))
}

fn key(sort: impl AsRef<[u8]>) -> Key {
    Keyspace::META.key(PARTITION, Bytes::copy_from_slice(sort.as_ref()))
}

fn id_key(id: KeyspaceId) -> Key {
    key([b"i/".as_slice(), &id.0.to_be_bytes()].concat())
}

fn encode(id: u32, kind: KeyspaceKind) -> Bytes {
    let mut row = BytesMut::with_capacity(ROW_BYTES);
    row.put_u8(ROW_FORMAT);
    row.put_u32(id);
    row.put_u8(match kind {
        KeyspaceKind::Hashed => 0,
        KeyspaceKind::Ordered { partition_bytes } => partition_bytes,
    });
    row.freeze()
}

fn decode_next(value: &[u8]) -> Result<u32> {
    let wrong = |_| Error::corrupt("the next keyspace id does not have 4 bytes");
    Ok(u32::from_be_bytes(value.try_into().map_err(wrong)?))
}

#[cfg(test)]
mod tests;
