//! The shard map as a client sees it.
//!
//! Invariant: shards are in key order and do not overlap; a map that is not so is refused.

use bytes::Bytes;
use keevo_core::{ClusterId, Error, ErrorKind, Result, ShardId};
use keevo_proto::admin::v1 as pb;
use keevo_proto::id_from_bytes;

/// Where every key is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardMap {
    /// The cluster.
    pub cluster: ClusterId,
    /// Grows with every change of the map; leaders change without it.
    pub version: u64,
    /// The shards, by start key.
    pub shards: Vec<Shard>,
}

/// Where one shard is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    /// Its id.
    pub id: ShardId,
    /// The first encoded key.
    pub start: Bytes,
    /// The encoded key after the last; empty = no end.
    pub end: Bytes,
    /// The address of its leader, if known.
    pub leader: Option<String>,
    /// The addresses of all its replicas; at least one.
    pub replicas: Vec<String>,
}

impl Shard {
    /// Whether the encoded key lies in the shard.
    pub fn contains(&self, encoded: &[u8]) -> bool {
        self.start.as_ref() <= encoded && (self.end.is_empty() || encoded < self.end.as_ref())
    }
}

impl ShardMap {
    /// The shard that owns an encoded key; `ShardMoved` when none does.
    pub fn locate(&self, encoded: &[u8]) -> Result<&Shard> {
        self.before(|start| start <= encoded)
            .filter(|shard| shard.contains(encoded))
            .ok_or_else(|| Error::new(ErrorKind::ShardMoved, "no shard of the map owns the key"))
    }

    /// The last shard that owns keys before `end`; an empty `end` means no end.
    pub(crate) fn last_before(&self, end: &[u8]) -> Option<&Shard> {
        self.before(|start| end.is_empty() || start < end)
    }

    /// The last shard whose start is on the near side.
    fn before(&self, near: impl Fn(&[u8]) -> bool) -> Option<&Shard> {
        let count = self.shards.partition_point(|shard| near(&shard.start));
        count.checked_sub(1).and_then(|last| self.shards.get(last))
    }

    /// The map that a node at `address` answered with.
    pub(crate) fn from_wire(wire: pb::ShardMapResponse, address: &str) -> Result<Self> {
        let cluster = ClusterId(id_from_bytes(&wire.cluster_id, "map.cluster_id")?);
        let shards: Vec<Shard> = wire.shards.into_iter().map(|route| shard_from_wire(route, address)).collect();
        let in_order = shards.is_sorted_by(|a, b| !a.end.is_empty() && a.end <= b.start);
        if shards.is_empty() || !in_order {
            return Err(Error::invalid(format!("the shard map of {address} is empty or overlaps")));
        }
        Ok(Self { cluster, version: wire.version, shards })
    }
}

/// Empty addresses stand for the node that was called.
fn shard_from_wire(route: pb::ShardRoute, address: &str) -> Shard {
    let alone = route.replica_addresses.is_empty();
    let leader = if !route.leader_address.is_empty() {
        Some(route.leader_address)
    } else if alone || route.leader_node_id != 0 {
        Some(address.to_owned())
    } else {
        None
    };
    let replicas = if alone { vec![address.to_owned()] } else { route.replica_addresses };
    Shard { id: ShardId(route.id), start: route.start_key, end: route.end_key, leader, replicas }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keevo_proto::id_bytes;

    fn route(id: u64, start: &'static str, end: &'static str) -> pb::ShardRoute {
        pb::ShardRoute {
            id,
            start_key: Bytes::from_static(start.as_bytes()),
            end_key: Bytes::from_static(end.as_bytes()),
            ..pb::ShardRoute::default()
        }
    }

    fn map(shards: Vec<pb::ShardRoute>) -> Result<ShardMap> {
        ShardMap::from_wire(pb::ShardMapResponse { cluster_id: id_bytes(7), version: 3, shards }, "here:1")
    }

    #[test]
    fn keys_are_located_and_gaps_are_moved() {
        let map = map(vec![route(1, "b", "d"), route(2, "d", "f"), route(3, "h", "")]).expect("in order");
        for (key, shard) in [("b", 1), ("czz", 1), ("d", 2), ("h", 3), ("zzz", 3)] {
            assert_eq!(map.locate(key.as_bytes()).expect("owned").id, ShardId(shard), "{key}");
        }
        for key in ["a", "f", "g"] {
            assert_eq!(map.locate(key.as_bytes()).expect_err("a gap").kind(), ErrorKind::ShardMoved, "{key}");
        }
        assert_eq!(map.last_before(b"d").map(|shard| shard.id), Some(ShardId(1)));
        assert_eq!(map.last_before(b"d\0").map(|shard| shard.id), Some(ShardId(2)));
        assert_eq!(map.last_before(b"").map(|shard| shard.id), Some(ShardId(3)));
        assert_eq!(map.last_before(b"a"), None);
    }

    #[test]
    fn a_map_that_overlaps_or_is_empty_is_refused() {
        for shards in [vec![], vec![route(1, "a", "c"), route(2, "b", "d")], vec![route(1, "a", ""), route(2, "b", "")]]
        {
            assert_eq!(map(shards).expect_err("refused").kind(), ErrorKind::Invalid);
        }
    }

    #[test]
    fn empty_addresses_stand_for_the_node_that_was_called() {
        let mut known = route(1, "a", "b");
        known.replica_addresses = vec!["x:1".into(), "y:1".into()];
        let mut led_here = route(2, "b", "c");
        led_here.replica_addresses = vec!["x:1".into(), "here:1".into()];
        led_here.leader_node_id = 4;
        let map = map(vec![known, led_here, route(3, "c", "")]).expect("in order");
        let leaders: Vec<_> = map.shards.iter().map(|shard| shard.leader.as_deref()).collect();
        assert_eq!(leaders, [None, Some("here:1"), Some("here:1")]);
        assert_eq!(map.shards[2].replicas, ["here:1"]);
    }
}
