//! Compactions drop what has expired, on each node when it happens to compact, and the replicas stay equal.
#![cfg(feature = "rocksdb")]

use std::ops::ControlFlow;
use std::time::Duration;

use keevo_core::{Batch, Column, Consistency, Direction, Engine, KeyspaceKind, Op, Store, StoredRecord};
use keevo_raft::testing::cluster::TestCluster;

/// How many values with a TTL lie in a node's store, seen or not.
fn stored_with_ttl(cluster: &TestCluster, id: u64) -> usize {
    let mut count = 0;
    let mut visit = |key: &[u8], value: &[u8]| {
        count +=
            usize::from(key.first() == Some(&keevo_core::CLASS_HASHED) && StoredRecord::peek_expiry(value).is_some());
        Ok(ControlFlow::Continue(()))
    };
    cluster.store(id).scan(Column::Data, b"", b"", Direction::Forward, &mut visit).expect("a scan");
    count
}

#[tokio::test(flavor = "multi_thread")]
async fn cluster_a_node_that_compacts_drops_what_has_expired_and_its_hashes_stay_equal() {
    let dir = tempfile::tempdir().expect("a folder");
    let cluster = TestCluster::start(dir.path(), 3, 2).await;
    for id in 1..=3 {
        cluster.store(id).spare_disk(true).expect("compactions wait for this test");
    }
    let engine = cluster.engine(1);
    let keyspace = engine.keyspace("k", KeyspaceKind::Hashed).await.expect("a keyspace");
    let put = |number: u32, ttl_ms: Option<u64>| {
        let key = keyspace.key(format!("p{number}"), "s");
        Batch { ops: vec![Op::Put { key, value: vec![7; 200].into(), ttl_ms }], ..Batch::default() }
    };
    for number in 0..60 {
        engine.write(put(number, Some(if number % 2 == 0 { 50 } else { 600_000 }))).await.expect("written");
    }
    cluster.hashes_agree(1).await;
    for id in 1..=3 {
        assert_eq!(stored_with_ttl(&cluster, id), 60, "node {id} has all of them");
    }
    // A read of one that has expired moves the clock of its shard.
    let end = tokio::time::Instant::now() + Duration::from_secs(20);
    for number in (0..60).step_by(2) {
        let key = keyspace.key(format!("p{number}"), "s");
        while engine.get(key.clone(), Consistency::Linearizable).await.expect("read").is_some() {
            assert!(tokio::time::Instant::now() < end, "record {number} does not expire");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    cluster.hashes_agree(1).await;
    // One node compacts, the others keep what nobody sees.
    cluster.node(2).flush().await.expect("flushed");
    cluster.store(2).compact().expect("compacted");
    assert_eq!(stored_with_ttl(&cluster, 2), 30, "those that expired are gone");
    assert_eq!((stored_with_ttl(&cluster, 1), stored_with_ttl(&cluster, 3)), (60, 60), "the others did not compact");
    cluster.hashes_agree(1).await;
    for number in (1..60).step_by(2) {
        let key = keyspace.key(format!("p{number}"), "s");
        assert!(engine.get(key, Consistency::Linearizable).await.expect("read").is_some(), "record {number} lives");
    }
    cluster.stop().await;
}
