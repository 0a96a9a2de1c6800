//! Consistent scans of a cluster: one view through every node, whoever leads, and a clear end when it is gone.

#![cfg(feature = "rocksdb")]

use std::time::Duration;

use keevo_core::{Batch, Consistency, Engine, ErrorKind, Keyspace, KeyspaceKind, Scan, ScanPage, ScanRange, ShardId};
use keevo_raft::ClusterEngine;
use keevo_raft::testing::cluster::TestCluster;

const RECORDS: u32 = 40;

/// Puts `value` under every number of a partition.
async fn fill(engine: &ClusterEngine, keyspace: Keyspace, value: &'static str) {
    let put = |batch: Batch, at: u32| batch.put(keyspace.key("p", at.to_be_bytes().to_vec()), value);
    engine.write((0..RECORDS).fold(Batch::new(), put)).await.expect("written");
}

fn values(page: &ScanPage) -> Vec<&[u8]> {
    page.records.iter().map(|(_, record)| record.value.as_ref()).collect()
}

/// The shard of the partition, and the node that leads it.
async fn place(cluster: &TestCluster, keyspace: Keyspace) -> (ShardId, u64) {
    let shard = cluster.engine(1).shard_of(&keyspace.key("p", "")).expect("a shard");
    (shard, cluster.leader(shard).await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_serves_pages_through_every_node_and_outlives_its_leader() {
    let dir = tempfile::tempdir().expect("a folder");
    let cluster = TestCluster::start(dir.path(), 3, 2).await;
    let keyspace = cluster.engine(1).keyspace("test", KeyspaceKind::Hashed).await.expect("the keyspace");
    fill(&cluster.engine(1), keyspace, "first").await;
    let (shard, leader) = place(&cluster, keyspace).await;
    for consistency in [Consistency::Linearizable, Consistency::Follower] {
        let other = leader % 3 + 1;
        let scan = Scan { consistency, ..Scan::partition(keyspace, "p", 10).consistent() };
        let mut page = cluster.engine(other).scan(scan.clone()).await.expect("a page");
        let home = scan.clone().after(page.next.clone()).view().expect("a view").home;
        let expected = if consistency == Consistency::Follower { other } else { leader };
        assert_eq!(home, expected, "{consistency:?}: held by whoever served the first page");
        fill(&cluster.engine(1), keyspace, "later").await;
        cluster.engine(1).transfer(shard, other).await.expect("transferred");
        for through in [1, 2, 3] {
            let next = scan.clone().after(page.next);
            page = cluster.engine(through).scan(next).await.expect("a page through any node");
            assert_eq!(values(&page), [b"first"; 10], "{consistency:?} through node {through}");
        }
        assert_eq!(page.next, None);
        fill(&cluster.engine(1), keyspace, "first").await;
        cluster.engine(1).transfer(shard, leader).await.expect("transferred back");
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scan_ends_when_the_node_with_its_view_is_gone_or_has_restarted() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut cluster = TestCluster::start(dir.path(), 3, 2).await;
    let keyspace = cluster.engine(1).keyspace("test", KeyspaceKind::Hashed).await.expect("the keyspace");
    fill(&cluster.engine(1), keyspace, "first").await;
    let (_, leader) = place(&cluster, keyspace).await;
    let through = leader % 3 + 1;
    let scan = Scan::partition(keyspace, "p", 10).consistent();
    let first = cluster.engine(through).scan(scan.clone()).await.expect("a page");
    let next = scan.after(first.next);
    cluster.stop_node(leader).await;
    let engine = cluster.engine(through);
    let error = engine.scan(next.clone()).await.expect_err("its holder does not run");
    assert_eq!(error.kind(), ErrorKind::ScanExpired, "{error}");
    cluster.start_node(leader, false).await;
    cluster.ready().await;
    for id in [through, leader] {
        let error = cluster.engine(id).scan(next.clone()).await.expect_err("its holder has started anew");
        assert_eq!(error.kind(), ErrorKind::ScanExpired, "through node {id}: {error}");
    }
    let again = engine.scan(Scan::partition(keyspace, "p", 10).consistent()).await.expect("a new scan begins");
    assert_eq!(again.records.len(), 10);
    drop(engine);
    cluster.stop().await;
}

/// A snapshot replaces the whole of a shard's data: what a view showed before it is not to be mixed with what comes
/// after.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_ends_the_views_of_its_shard() {
    let dir = tempfile::tempdir().expect("a folder");
    let cluster = TestCluster::start(dir.path(), 3, 1).await;
    let keyspace = cluster.engine(1).keyspace("test", KeyspaceKind::Hashed).await.expect("the keyspace");
    fill(&cluster.engine(1), keyspace, "first").await;
    let (shard, leader) = place(&cluster, keyspace).await;
    let others: Vec<u64> = (1..=3).filter(|id| *id != leader).collect();
    let [behind, other] = others[..] else { panic!("there are three nodes") };
    let scan = Scan { consistency: Consistency::Follower, ..Scan::partition(keyspace, "p", 10).consistent() };
    let first = cluster.engine(behind).scan(scan.clone()).await.expect("a page");
    let next = scan.after(first.next);
    let second = cluster.engine(behind).scan(next.clone()).await.expect("a page");
    assert_eq!(values(&second), [b"first"; 10]);
    for node in [leader, other] {
        cluster.network.cut(node, behind);
        cluster.network.cut(behind, node);
    }
    // More than a log keeps for who lags, so that only a snapshot brings it back.
    for round in 0..3_000_u32 {
        let key = keyspace.key(format!("p{}", round % 7), "k");
        cluster.engine(leader).write(Batch::new().put(key, vec![7; 100])).await.expect("written");
        if round % 500 == 499 {
            cluster.node(leader).flush().await.expect("flushed");
        }
    }
    let purged = |id: u64| {
        let replicas = cluster.node(id).replicas();
        replicas.iter().find(|one| one.shard == shard).map_or(0, |one| one.purged)
    };
    let applied = |id: u64| {
        let replicas = cluster.node(id).replicas();
        replicas.iter().find(|one| one.shard == shard).map_or(0, |one| one.applied)
    };
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while purged(leader) <= applied(behind) {
        assert!(tokio::time::Instant::now() < deadline, "the log is not purged: {}", purged(leader));
        cluster.node(leader).flush().await.expect("flushed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    cluster.network.heal();
    let target = applied(leader);
    while applied(behind) < target {
        assert!(tokio::time::Instant::now() < deadline, "the replica does not come back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let error = cluster.engine(behind).scan(next).await.expect_err("the data under it was replaced");
    assert_eq!(error.kind(), ErrorKind::ScanExpired, "{error}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consistent_scan_across_partitions_finds_everything_both_ways() {
    let dir = tempfile::tempdir().expect("a folder");
    let cluster = TestCluster::start(dir.path(), 3, 3).await;
    let engine = cluster.engine(2);
    let kind = KeyspaceKind::Ordered { partition_bytes: 4 };
    let keyspace = engine.keyspace("ordered", kind).await.expect("the keyspace");
    for at in 0..RECORDS {
        let key = keyspace.key(at.to_be_bytes().to_vec(), "k");
        engine.write(Batch::new().put(key, "first")).await.expect("written");
    }
    let range = ScanRange::Ordered { keyspace, start: bytes::Bytes::new(), end: bytes::Bytes::new() };
    let forward = Scan { range, ..Scan::partition(keyspace, "p", 7).consistent() };
    for scan in [forward.clone(), forward.backward()] {
        let (mut after, mut found, mut pages) = (None, Vec::new(), 0);
        loop {
            let page = engine.scan(scan.clone().after(after)).await.expect("a page");
            found.extend(page.records.into_iter().map(|(key, _)| key.partition));
            after = page.next;
            pages += 1;
            if after.is_none() {
                break;
            }
            let at = RECORDS / 2;
            let key = keyspace.key(at.to_be_bytes().to_vec(), format!("{pages}"));
            engine.write(Batch::new().put(key, "later")).await.expect("written");
        }
        found.dedup();
        assert_eq!(found.len(), usize::try_from(RECORDS).expect("small"), "each partition once");
    }
    drop(engine);
    cluster.stop().await;
}
