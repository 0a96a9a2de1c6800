//! The shard map as bytes: protobuf, so that fields can be added, and a format that a reader refuses if it is newer.

use std::collections::BTreeMap;

use bytes::Bytes;
use keevo_core::{ClusterId, Error, ErrorKind, Levels, Result, ShardId};
use prost::Message;

use super::{Epoch, NodeInfo, Replica, ReplicaRole, ShardInfo, ShardMap};

/// The format of the encoded map.
const FORMAT: u32 = 1;

impl ShardMap {
    /// The map as bytes.
    pub fn encode(&self) -> Bytes {
        let nodes = self
            .nodes
            .values()
            .map(|node| NodeWire { id: node.id, address: node.address.clone(), pair: pack(node.pair) })
            .collect();
        let shards = self.shards.iter().map(ShardWire::from).collect();
        let removed = self.removed.iter().map(|(&id, &pair)| RemovedWire { id, pair: pack(pair) }).collect();
        MapWire {
            format: FORMAT,
            cluster: pack(self.cluster.0),
            version: self.version,
            replication_factor: self.replication_factor,
            next_replica_id: self.next_replica_id,
            nodes,
            shards,
            removed,
            level: self.level,
        }
        .encode_to_vec()
        .into()
    }

    /// Decodes and checks a map.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let wire = MapWire::decode(bytes)
            .map_err(|error| Error::corrupt("the shard map does not decode").with_source(error))?;
        if wire.format != FORMAT {
            return Err(Error::new(ErrorKind::NewerFormat, format!("the shard map has format {}", wire.format)));
        }
        let mut nodes = BTreeMap::new();
        for node in wire.nodes {
            nodes.insert(node.id, NodeInfo { id: node.id, address: node.address, pair: unpack(&node.pair)? });
        }
        let mut removed = BTreeMap::new();
        for node in wire.removed {
            removed.insert(node.id, unpack(&node.pair)?);
        }
        let shards = wire.shards.into_iter().map(ShardInfo::try_from).collect::<Result<Vec<_>>>()?;
        let map = Self {
            cluster: ClusterId(unpack(&wire.cluster)?),
            version: wire.version,
            // A map from before levels were told.
            level: wire.level.max(Levels::FIRST),
            replication_factor: wire.replication_factor,
            next_replica_id: wire.next_replica_id,
            nodes,
            removed,
            shards,
        };
        map.check()?;
        Ok(map)
    }
}

fn pack(id: u128) -> Bytes {
    Bytes::copy_from_slice(&id.to_be_bytes())
}

fn unpack(bytes: &[u8]) -> Result<u128> {
    let array =
        <[u8; 16]>::try_from(bytes).map_err(|error| Error::corrupt("an id is not 16 bytes").with_source(error))?;
    Ok(u128::from_be_bytes(array))
}

#[derive(Clone, PartialEq, Message)]
struct MapWire {
    #[prost(uint32, tag = "1")]
    format: u32,
    #[prost(bytes = "bytes", tag = "2")]
    cluster: Bytes,
    #[prost(uint64, tag = "3")]
    version: u64,
    #[prost(uint32, tag = "4")]
    replication_factor: u32,
    #[prost(uint64, tag = "5")]
    next_replica_id: u64,
    #[prost(message, repeated, tag = "6")]
    nodes: Vec<NodeWire>,
    #[prost(message, repeated, tag = "7")]
    shards: Vec<ShardWire>,
    #[prost(message, repeated, tag = "8")]
    removed: Vec<RemovedWire>,
    #[prost(uint32, tag = "9")]
    level: u32,
}

#[derive(Clone, PartialEq, Message)]
struct RemovedWire {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(bytes = "bytes", tag = "2")]
    pair: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct NodeWire {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(string, tag = "2")]
    address: String,
    #[prost(bytes = "bytes", tag = "3")]
    pair: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct ShardWire {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(bytes = "bytes", tag = "2")]
    start: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    end: Bytes,
    #[prost(uint64, tag = "4")]
    version: u64,
    #[prost(uint64, tag = "5")]
    conf_version: u64,
    #[prost(message, repeated, tag = "6")]
    replicas: Vec<ReplicaWire>,
}

#[derive(Clone, PartialEq, Message)]
struct ReplicaWire {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(uint64, tag = "2")]
    node_id: u64,
    #[prost(bool, tag = "3")]
    learner: bool,
}

impl From<&ShardInfo> for ShardWire {
    fn from(shard: &ShardInfo) -> Self {
        Self {
            id: shard.id.0,
            start: shard.start.clone(),
            end: shard.end.clone(),
            version: shard.epoch.version,
            conf_version: shard.epoch.conf_version,
            replicas: shard
                .replicas
                .iter()
                .map(|one| ReplicaWire { id: one.id, node_id: one.node_id, learner: one.role == ReplicaRole::Learner })
                .collect(),
        }
    }
}

impl TryFrom<ShardWire> for ShardInfo {
    type Error = Error;

    fn try_from(wire: ShardWire) -> Result<Self> {
        let replicas = wire
            .replicas
            .into_iter()
            .map(|one| Replica {
                id: one.id,
                node_id: one.node_id,
                role: if one.learner { ReplicaRole::Learner } else { ReplicaRole::Voter },
            })
            .collect();
        Ok(Self {
            id: ShardId(wire.id),
            start: wire.start,
            end: wire.end,
            epoch: Epoch { version: wire.version, conf_version: wire.conf_version },
            replicas,
        })
    }
}
