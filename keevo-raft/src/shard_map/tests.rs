//! Tests of the shard map.

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
