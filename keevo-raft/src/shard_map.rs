//! The shard map: which shard owns which range of the encoded key space, and where its replicas live.
//!
//! Invariant: the shards tile `[CLASS_META, CLASS_END)` without gap or overlap, in order; shard 0 owns the meta
//! keyspace. A map is replaced as a whole and carries a version that only grows.

use std::collections::BTreeMap;

use bytes::Bytes;
use keevo_core::{CLASS_END, CLASS_HASHED, CLASS_META, CLASS_META_END, ClusterId, Error, ErrorKind, Result, ShardId};
use prost::Message;

/// The format of the encoded map.
const FORMAT: u32 = 1;
/// The most shards that a static split makes: one per value of the partition hash, divided by 16.
pub const SHARDS_MAX: u32 = 4_096;

/// A replica's part in its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplicaRole {
    /// Counts in the quorum.
    Voter,
    /// Receives the log, does not count yet.
    Learner,
}

/// One copy of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replica {
    /// Its Raft id: an incarnation, assigned once and never reused.
    pub id: u64,
    /// The node it lives on.
    pub node_id: u64,
    /// Its part in the group.
    pub role: ReplicaRole,
}

/// The epoch of a shard: a stale client is told `ShardMoved`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Epoch {
    /// Grows with every split or merge.
    pub version: u64,
    /// Grows with every membership change.
    pub conf_version: u64,
}

/// One shard: its range and its replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardInfo {
    /// Its id.
    pub id: ShardId,
    /// The first encoded key.
    pub start: Bytes,
    /// The encoded key after the last.
    pub end: Bytes,
    /// Its epoch.
    pub epoch: Epoch,
    /// Its replicas.
    pub replicas: Vec<Replica>,
}

impl ShardInfo {
    /// Whether the encoded key lies in the shard.
    pub fn contains(&self, encoded: &[u8]) -> bool {
        self.start.as_ref() <= encoded && encoded < self.end.as_ref()
    }

    /// The replica on a node.
    pub fn replica_on(&self, node_id: u64) -> Option<&Replica> {
        self.replicas.iter().find(|replica| replica.node_id == node_id)
    }
}

/// A node of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeInfo {
    /// Its id.
    pub id: u64,
    /// Where its peers and clients reach it: `host:port`.
    pub address: String,
    /// The id of its pair of stores: a wiped node comes back with another one.
    pub pair: u128,
}

/// The shard map with the nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardMap {
    /// The cluster.
    pub cluster: ClusterId,
    /// Grows with every change.
    pub version: u64,
    /// How many replicas each shard should have.
    pub replication_factor: u32,
    /// The next replica id to assign.
    pub next_replica_id: u64,
    /// The nodes, by id.
    pub nodes: BTreeMap<u64, NodeInfo>,
    /// The shards, by start key; the first is the meta shard.
    pub shards: Vec<ShardInfo>,
}

impl ShardMap {
    /// The map of a new cluster: `shard_count` data shards that cut the hash space evenly (the last one also
    /// owns the ordered keyspaces), each with a replica on every one of the first `replication_factor` nodes,
    /// shifted from shard to shard.
    pub fn bootstrap(
        cluster: ClusterId,
        nodes: Vec<NodeInfo>,
        shard_count: u32,
        replication_factor: u32,
    ) -> Result<Self> {
        if shard_count == 0 || shard_count > SHARDS_MAX {
            return Err(Error::new(ErrorKind::Config, format!("shards is 1 to {SHARDS_MAX}, not {shard_count}")));
        }
        if nodes.is_empty() {
            return Err(Error::new(ErrorKind::Config, "a cluster needs at least one node"));
        }
        let width = usize::try_from(replication_factor).unwrap_or(usize::MAX).clamp(1, nodes.len());
        let mut next_replica_id = 1;
        let mut shards = Vec::new();
        for number in 0..=u64::from(shard_count) {
            let (start, end) = static_range(number, u64::from(shard_count));
            let first = usize::try_from(number).unwrap_or(0);
            let replicas = nodes
                .iter()
                .cycle()
                .skip(first % nodes.len())
                .take(width)
                .map(|node| {
                    let id = next_replica_id;
                    next_replica_id += 1;
                    Replica { id, node_id: node.id, role: ReplicaRole::Voter }
                })
                .collect();
            let epoch = Epoch { version: 1, conf_version: 1 };
            shards.push(ShardInfo { id: ShardId(number), start, end, epoch, replicas });
        }
        let nodes = nodes.into_iter().map(|node| (node.id, node)).collect();
        Ok(Self { cluster, version: 1, replication_factor, next_replica_id, nodes, shards })
    }

    /// The shard that owns an encoded key.
    pub fn locate(&self, encoded: &[u8]) -> Result<&ShardInfo> {
        let after = self.shards.partition_point(|shard| shard.start.as_ref() <= encoded);
        after
            .checked_sub(1)
            .and_then(|position| self.shards.get(position))
            .filter(|shard| shard.contains(encoded))
            .ok_or_else(|| Error::new(ErrorKind::ShardMoved, "no shard of the map owns the key"))
    }

    /// The shard with this id.
    pub fn shard(&self, id: ShardId) -> Option<&ShardInfo> {
        self.shards.iter().find(|shard| shard.id == id)
    }

    /// The shard with this id, to be changed.
    pub fn shard_mut(&mut self, id: ShardId) -> Option<&mut ShardInfo> {
        self.shards.iter_mut().find(|shard| shard.id == id)
    }

    /// The node that holds a replica.
    pub fn node_of_replica(&self, shard: ShardId, replica: u64) -> Option<&NodeInfo> {
        let replica = self.shard(shard)?.replicas.iter().find(|one| one.id == replica)?;
        self.nodes.get(&replica.node_id)
    }

    /// The map as bytes.
    pub fn encode(&self) -> Bytes {
        let nodes = self
            .nodes
            .values()
            .map(|node| NodeWire { id: node.id, address: node.address.clone(), pair: pack(node.pair) })
            .collect();
        let shards = self.shards.iter().map(ShardWire::from).collect();
        MapWire {
            format: FORMAT,
            cluster: pack(self.cluster.0),
            version: self.version,
            replication_factor: self.replication_factor,
            next_replica_id: self.next_replica_id,
            nodes,
            shards,
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
        let shards = wire.shards.into_iter().map(ShardInfo::try_from).collect::<Result<Vec<_>>>()?;
        let map = Self {
            cluster: ClusterId(unpack(&wire.cluster)?),
            version: wire.version,
            replication_factor: wire.replication_factor,
            next_replica_id: wire.next_replica_id,
            nodes,
            shards,
        };
        map.check()?;
        Ok(map)
    }

    fn check(&self) -> Result<()> {
        let mut expected = Bytes::from_static(&[CLASS_META]);
        for shard in &self.shards {
            if shard.start != expected || shard.end <= shard.start {
                return Err(Error::corrupt(format!("the shard map has a gap or an overlap at shard {}", shard.id)));
            }
            // The bytes between the meta class and the hashed class hold no keys.
            expected = if shard.id == ShardId::META { Bytes::from_static(&[CLASS_HASHED]) } else { shard.end.clone() };
        }
        if expected.as_ref() != [CLASS_END] {
            return Err(Error::corrupt("the shard map does not reach the end of the key space"));
        }
        Ok(())
    }
}

/// The range of shard `number` of a static split into `count` data shards.
fn static_range(number: u64, count: u64) -> (Bytes, Bytes) {
    if number == 0 {
        return (Bytes::from_static(&[CLASS_META]), Bytes::from_static(&[CLASS_META_END]));
    }
    let cut = |position: u64| -> Bytes {
        if position == 0 {
            return Bytes::from_static(&[CLASS_HASHED]);
        }
        if position == count {
            return Bytes::from_static(&[CLASS_END]);
        }
        let hash = u16::try_from(65_536 * position / count).unwrap_or(u16::MAX);
        [&[CLASS_HASHED][..], &hash.to_be_bytes()].concat().into()
    };
    (cut(number - 1), cut(number))
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

#[cfg(test)]
mod tests {
    use super::*;
    use keevo_core::{Key, Keyspace, KeyspaceId, KeyspaceKind};

    fn nodes(count: u64) -> Vec<NodeInfo> {
        (1..=count).map(|id| NodeInfo { id, address: format!("127.0.0.1:{id}"), pair: id.into() }).collect()
    }

    #[test]
    fn every_key_has_exactly_one_shard_and_partitions_are_whole() {
        let map = ShardMap::bootstrap(ClusterId(7), nodes(3), 8, 3).expect("valid");
        assert_eq!(ShardMap::decode(&map.encode()).expect("round trip"), map);
        let keyspace = Keyspace { id: KeyspaceId(20), kind: KeyspaceKind::Hashed };
        let mut seen = std::collections::BTreeSet::new();
        for number in 0..2_000 {
            let partition = format!("user{number}");
            let first: Key = keyspace.key(partition.clone(), "");
            let last = keyspace.key(partition, vec![0xff; 40]);
            let shard = map.locate(&first.encode()).expect("owned").id;
            assert_eq!(shard, map.locate(&last.encode()).expect("owned").id);
            seen.insert(shard);
        }
        assert_eq!(seen.len(), 8, "2,000 partitions reach all shards");
        assert_eq!(map.locate(&Keyspace::META.key("map", "").encode()).expect("owned").id, ShardId::META);
        let ordered = Keyspace { id: KeyspaceId(21), kind: KeyspaceKind::Ordered { partition_bytes: 4 } };
        assert_eq!(map.locate(&ordered.key("abcd", "x").encode()).expect("owned").id, ShardId(8));
    }

    #[test]
    fn a_map_with_a_gap_is_refused() {
        let mut map = ShardMap::bootstrap(ClusterId(7), nodes(3), 4, 3).expect("valid");
        map.shards.remove(2);
        assert_eq!(ShardMap::decode(&map.encode()).expect_err("a gap").kind(), ErrorKind::Corrupt);
        assert_eq!(ShardMap::bootstrap(ClusterId(7), nodes(3), 0, 3).expect_err("no shards").kind(), ErrorKind::Config);
    }

    #[test]
    fn first_replicas_spread_over_the_nodes() {
        let map = ShardMap::bootstrap(ClusterId(7), nodes(3), 9, 3).expect("valid");
        for node in 1..=3 {
            let led = map.shards.iter().skip(1).filter(|shard| shard.replicas[0].node_id == node).count();
            assert_eq!(led, 3);
        }
        let ids: std::collections::BTreeSet<u64> =
            map.shards.iter().flat_map(|shard| shard.replicas.iter().map(|one| one.id)).collect();
        assert_eq!(ids.len(), 30, "no replica id is used twice");
    }
}
