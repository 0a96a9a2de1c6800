//! Keyspaces, keys, records, cursors and request ids.

use keevo_core::{
    ClientId, ClusterId, Cursor, Error, Key, Keyspace, KeyspaceId, KeyspaceKind, Record, RequestId, Result, Revision,
    ShardId,
};

use super::{id_bytes, id_from_bytes, required};
use crate::kv::v1 as pb;

fn kind_to_wire(kind: KeyspaceKind) -> u32 {
    match kind {
        KeyspaceKind::Hashed => 0,
        KeyspaceKind::Ordered { partition_bytes } => partition_bytes.into(),
    }
}

fn kind_from_wire(ordered_partition_bytes: u32) -> Result<KeyspaceKind> {
    if ordered_partition_bytes == 0 {
        return Ok(KeyspaceKind::Hashed);
    }
    let partition_bytes = u8::try_from(ordered_partition_bytes).map_err(|error| {
        Error::invalid(format!("ordered_partition_bytes is {ordered_partition_bytes}, which is too large"))
            .with_source(error)
    })?;
    let kind = KeyspaceKind::Ordered { partition_bytes };
    kind.validate()?;
    Ok(kind)
}

impl From<KeyspaceKind> for pb::KeyspaceKind {
    fn from(kind: KeyspaceKind) -> Self {
        Self { ordered_partition_bytes: kind_to_wire(kind) }
    }
}

impl TryFrom<pb::KeyspaceKind> for KeyspaceKind {
    type Error = Error;

    fn try_from(wire: pb::KeyspaceKind) -> Result<Self> {
        kind_from_wire(wire.ordered_partition_bytes)
    }
}

impl From<Keyspace> for pb::KeyspaceRef {
    fn from(keyspace: Keyspace) -> Self {
        Self { id: keyspace.id.0, ordered_partition_bytes: kind_to_wire(keyspace.kind) }
    }
}

impl TryFrom<pb::KeyspaceRef> for Keyspace {
    type Error = Error;

    fn try_from(wire: pb::KeyspaceRef) -> Result<Self> {
        Ok(Self { id: KeyspaceId(wire.id), kind: kind_from_wire(wire.ordered_partition_bytes)? })
    }
}

impl From<Key> for pb::Key {
    fn from(key: Key) -> Self {
        Self { keyspace: Some(key.keyspace.into()), partition: key.partition, sort: key.sort }
    }
}

impl TryFrom<pb::Key> for Key {
    type Error = Error;

    fn try_from(wire: pb::Key) -> Result<Self> {
        let keyspace = required(wire.keyspace, "key.keyspace")?.try_into()?;
        Ok(Self { keyspace, partition: wire.partition, sort: wire.sort })
    }
}

impl From<Record> for pb::Record {
    fn from(record: Record) -> Self {
        Self { revision: record.revision.0, expires_at_ms: record.expires_at_ms, value: record.value }
    }
}

impl From<pb::Record> for Record {
    fn from(wire: pb::Record) -> Self {
        Self { revision: Revision(wire.revision), expires_at_ms: wire.expires_at_ms, value: wire.value }
    }
}

impl From<Cursor> for pb::Cursor {
    fn from(cursor: Cursor) -> Self {
        Self {
            cluster: id_bytes(cursor.cluster.0),
            shard: cursor.shard.0,
            revision: cursor.revision.0,
            offset: cursor.offset,
        }
    }
}

impl TryFrom<pb::Cursor> for Cursor {
    type Error = Error;

    fn try_from(wire: pb::Cursor) -> Result<Self> {
        Ok(Self {
            cluster: ClusterId(id_from_bytes(&wire.cluster, "cursor.cluster")?),
            shard: ShardId(wire.shard),
            revision: Revision(wire.revision),
            offset: wire.offset,
        })
    }
}

impl From<RequestId> for pb::RequestId {
    fn from(request: RequestId) -> Self {
        Self { client: id_bytes(request.client.0), sequence: request.sequence, acked_below: request.acked_below }
    }
}

impl TryFrom<pb::RequestId> for RequestId {
    type Error = Error;

    fn try_from(wire: pb::RequestId) -> Result<Self> {
        Ok(Self {
            client: ClientId(id_from_bytes(&wire.client, "request.client")?),
            sequence: wire.sequence,
            acked_below: wire.acked_below,
        })
    }
}
