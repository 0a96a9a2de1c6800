//! The shard map: which shard owns which range of the encoded key space, and where its replicas live.
//!
//! Invariant: the shards tile `[CLASS_META, CLASS_END)` without gap or overlap, in order; shard 0 owns the meta
//! keyspace. A map is replaced as a whole and carries a version that only grows. Ids of nodes and replicas are used
//! once: what was removed stays on record. The level only grows too.

mod wire;

use std::collections::BTreeMap;

use bytes::Bytes;
use keevo_core::{
    CLASS_END, CLASS_HASHED, CLASS_META, CLASS_META_END, ClusterId, Error, ErrorKind, Levels, Result, ShardId,
};

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

    /// The replicas that count in the quorum.
    pub fn voters(&self) -> impl Iterator<Item = &Replica> {
        self.replicas.iter().filter(|replica| replica.role == ReplicaRole::Voter)
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
    /// The level that the cluster is at: what its nodes may write and say to each other.
    pub level: u32,
    /// How many replicas each shard should have.
    pub replication_factor: u32,
    /// The next replica id to assign.
    pub next_replica_id: u64,
    /// The nodes, by id.
    pub nodes: BTreeMap<u64, NodeInfo>,
    /// The nodes that were removed, with the pair of stores they had: such an id is never given again.
    pub removed: BTreeMap<u64, u128>,
    /// The shards, by start key; the first is the meta shard.
    pub shards: Vec<ShardInfo>,
}

impl ShardMap {
    /// The map of a new cluster: `shard_count` data shards that cut the hash space evenly (the last one also
    /// owns the ordered keyspaces), each with a replica on every one of the first `replication_factor` nodes,
    /// shifted from shard to shard. At the highest level of this release.
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
        let (level, removed) = (Levels::OURS.max, BTreeMap::new());
        Ok(Self { cluster, version: 1, level, replication_factor, next_replica_id, nodes, removed, shards })
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

#[cfg(test)]
mod tests;
