//! Rows of the node itself, in the data store beside its shards': the map it followed last, and which
//! incarnation of a replica each shard's data belongs to.
//!
//! They lie under a shard id that no shard has, so that no snapshot and no shard range covers them.

use bytes::{BufMut, Bytes};
use keevo_core::{Column, DataStore, Durability, Error, Result, ShardId, Store, StoreBatch, StoreOp, system};

use crate::shard_map::{ShardInfo, ShardMap};

/// The shard id under which the node's own rows lie.
const NODE: ShardId = ShardId(u64::MAX);
const TAG_MAP: u8 = 0x01;
const TAG_REPLICA: u8 = 0x02;

fn map_key() -> Bytes {
    keevo_core::encode_system(NODE, TAG_MAP).freeze()
}

fn replica_key(shard: ShardId) -> Bytes {
    let mut key = keevo_core::encode_system(NODE, TAG_REPLICA);
    key.put_u64(shard.0);
    key.freeze()
}

/// The map that the node followed last.
pub(super) fn load_map(store: &DataStore) -> Result<Option<ShardMap>> {
    store.get(Column::Data, &map_key())?.map(|row| ShardMap::decode(&row)).transpose()
}

/// Keeps the map, durably.
pub(super) fn save_map(store: &DataStore, map: &ShardMap) -> Result<()> {
    let ops = vec![StoreOp::Put(Column::Data, map_key(), map.encode())];
    store.write(StoreBatch { ops }, Durability::Unlogged)?;
    store.flush()
}

/// The replica that the data of `shard` on this node belongs to.
pub(super) fn load_replica(store: &DataStore, shard: ShardId) -> Result<Option<u64>> {
    let Some(row) = store.get(Column::Data, &replica_key(shard))? else { return Ok(None) };
    let id = <[u8; 8]>::try_from(row.as_ref())
        .map_err(|error| Error::corrupt("a replica row is not 8 bytes").with_source(error))?;
    Ok(Some(u64::from_be_bytes(id)))
}

/// Says which replica the data of `shard` belongs to from now on, durably.
pub(super) fn save_replica(store: &DataStore, shard: ShardId, replica: u64) -> Result<()> {
    let value = Bytes::copy_from_slice(&replica.to_be_bytes());
    let ops = vec![StoreOp::Put(Column::Data, replica_key(shard), value)];
    store.write(StoreBatch { ops }, Durability::Unlogged)?;
    store.flush()
}

/// Removes all data of a shard from this node: records, system rows, changes, in one batch that is flushed.
/// Range deletes cover what is in memtables and files alike, so nothing old can come back.
pub(super) fn destroy(store: &DataStore, shard: &ShardInfo) -> Result<()> {
    let system_start = system::row_key(shard.id, 0);
    let system_end = keevo_core::encode_system(ShardId(shard.id.0 + 1), 0).freeze();
    let changes_start = Bytes::copy_from_slice(&shard.id.0.to_be_bytes());
    let changes_end = Bytes::copy_from_slice(&(shard.id.0 + 1).to_be_bytes());
    let ops = vec![
        StoreOp::DeleteRange(Column::Data, shard.start.clone(), shard.end.clone()),
        StoreOp::DeleteRange(Column::Data, system_start, system_end),
        StoreOp::DeleteRange(Column::Changes, changes_start, changes_end),
        StoreOp::Delete(Column::Data, replica_key(shard.id)),
        StoreOp::Put(Column::Data, system::row_key(shard.id, system::DESTROYED), Bytes::new()),
    ];
    store.write(StoreBatch { ops }, Durability::Unlogged)?;
    store.flush()
}
