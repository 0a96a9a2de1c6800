//! Rows of the node itself, in the data store beside its shards': the map it followed last, and which
//! incarnation of a replica each shard's data belongs to.
//!
//! They lie under a shard id that no shard has, so that no snapshot and no shard range covers them.

use std::ops::ControlFlow;

use bytes::{BufMut, Bytes};
use keevo_core::{
    Column, DataStore, Direction, Durability, Error, Result, ShardId, Store, StoreBatch, StoreOp, system,
};

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
    store.get(Column::Data, &replica_key(shard))?.map(|row| number(&row)).transpose()
}

/// The shards that this node keeps data of, with the replica each belongs to.
pub(super) fn replicas(store: &DataStore) -> Result<Vec<(ShardId, u64)>> {
    let lower = keevo_core::encode_system(NODE, TAG_REPLICA).freeze();
    let upper = keevo_core::encode_system(NODE, TAG_REPLICA + 1).freeze();
    let mut found = Vec::new();
    store.scan(Column::Data, &lower, &upper, Direction::Forward, &mut |key, row| {
        let shard = key.strip_prefix(lower.as_ref()).unwrap_or_default();
        found.push((ShardId(number(shard)?), number(row)?));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(found)
}

fn number(bytes: &[u8]) -> Result<u64> {
    let bytes = <[u8; 8]>::try_from(bytes)
        .map_err(|error| Error::corrupt("a replica row is not 8 bytes").with_source(error))?;
    Ok(u64::from_be_bytes(bytes))
}

/// Begins a replica of a shard on this node: without any data, whatever was left from another one, and with the
/// row that says whose it is from now on. One batch, flushed.
pub(super) fn begin(store: &DataStore, shard: &ShardInfo, replica: u64) -> Result<()> {
    let mut ops = removal(shard);
    ops.push(StoreOp::Put(Column::Data, replica_key(shard.id), Bytes::copy_from_slice(&replica.to_be_bytes())));
    store.write(StoreBatch { ops }, Durability::Unlogged)?;
    store.flush()
}

/// Removes all data of a shard from this node: records, system rows, changes, and last the row that says whose
/// they are, in one batch that is flushed.
pub(super) fn destroy(store: &DataStore, shard: &ShardInfo) -> Result<()> {
    let mut ops = removal(shard);
    ops.push(StoreOp::Delete(Column::Data, replica_key(shard.id)));
    ops.push(StoreOp::Put(Column::Data, system::row_key(shard.id, system::DESTROYED), Bytes::new()));
    store.write(StoreBatch { ops }, Durability::Unlogged)?;
    store.flush()
}

/// Range deletes cover what is in memtables and files alike, so nothing old can come back.
fn removal(shard: &ShardInfo) -> Vec<StoreOp> {
    let system_start = system::row_key(shard.id, 0);
    let system_end = keevo_core::encode_system(ShardId(shard.id.0 + 1), 0).freeze();
    let changes_start = Bytes::copy_from_slice(&shard.id.0.to_be_bytes());
    let changes_end = Bytes::copy_from_slice(&(shard.id.0 + 1).to_be_bytes());
    vec![
        StoreOp::DeleteRange(Column::Data, shard.start.clone(), shard.end.clone()),
        StoreOp::DeleteRange(Column::Data, system_start, system_end),
        StoreOp::DeleteRange(Column::Changes, changes_start, changes_end),
    ]
}
