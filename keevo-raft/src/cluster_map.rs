//! The shard map as a record of the meta keyspace: read where a meta replica is at hand, changed by
//! compare-and-set through the meta group, by whoever holds the ticket of a membership change.

use std::time::Duration;

use keevo_core::{Batch, Check, Command, Error, ErrorKind, Key, Keyspace, Outcome, Result, Revision, ShardId};

use crate::cluster_engine::ClusterEngine;
use crate::node::NodeInner;
use crate::shard_map::ShardMap;

const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// Where the map lies.
pub(crate) fn map_key() -> Key {
    Keyspace::META.key("cluster", "map")
}

/// The map as the meta replica of this node has it, if there is one.
pub(crate) fn read_local(node: &NodeInner) -> Result<Option<ShardMap>> {
    let Some(group) = node.group(ShardId::META) else { return Ok(None) };
    group.reader().get(&map_key())?.map(|record| ShardMap::decode(&record.value)).transpose()
}

/// Whether the first map is in the meta group, as far as this node can see.
pub(crate) fn meta_is_written(node: &NodeInner) -> bool {
    node.group(ShardId::META).is_none() || matches!(read_local(node), Ok(Some(_)))
}

/// Writes the first map into a new meta group. Repeatable: it never replaces one.
pub(crate) async fn write_first(node: &NodeInner, map: &ShardMap) -> Result<()> {
    if map.version != 1 || meta_is_written(node) {
        return Ok(());
    }
    let Some(group) = node.group(ShardId::META) else { return Ok(()) };
    if !group.is_leader() {
        return Ok(());
    }
    let batch = Batch::new().put(map_key(), map.encode()).require(map_key(), Check::Absent);
    match group.propose(Command::Write(batch), WRITE_TIMEOUT).await? {
        Outcome::Refused(error) if error.kind() != ErrorKind::Conflict => Err(error),
        _ => Ok(()),
    }
}

/// The map as the meta group has it now, and its revision.
pub(crate) async fn read(engine: &ClusterEngine) -> Result<(ShardMap, Revision)> {
    let record = engine.get_unchecked(map_key()).await?;
    let record = record.ok_or_else(|| Error::new(ErrorKind::Unavailable, "the cluster has no shard map yet"))?;
    Ok((ShardMap::decode(&record.value)?, record.revision))
}

/// Adds to a batch that `map` takes the place of the one of `revision`.
pub(crate) fn replace(batch: Batch, map: &ShardMap, revision: Revision) -> Batch {
    batch.put(map_key(), map.encode()).require(map_key(), Check::RevisionIs(revision))
}
