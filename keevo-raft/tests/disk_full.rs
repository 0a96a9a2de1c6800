//! Nodes whose disks are full: writes are refused with `ResourceExhausted`, reads and elections go on, nothing that
//! was acknowledged is lost, and when space returns so do writes, without a restart.
#![cfg(feature = "rocksdb")]

use std::time::Duration;

use keevo_core::{Batch, Consistency, Engine, Error, ErrorKind, Key, Keyspace, KeyspaceKind, ShardId};
use keevo_raft::testing::cluster::TestCluster;
use keevo_raft::{ClusterEngine, StorageLimits, StorageStatus, Timing};

const MIB: u64 = 1 << 20;
const PLENTY: u64 = 1 << 40;

/// Three nodes with one data shard, whose disks count as full below 64 MiB.
async fn start(dir: &std::path::Path) -> (TestCluster, ShardId) {
    let mut cluster = TestCluster::prepare(dir, 3, 1, Timing::quick());
    cluster.limits = StorageLimits { low_water_bytes: 64 * MIB, ballast_bytes: 8 * MIB, ..StorageLimits::NONE };
    for id in 1..=3 {
        cluster.start_node(id, false).await;
        cluster.disk(id).set_free_bytes(PLENTY);
    }
    cluster.ready().await;
    let shard = cluster.node(1).map().expect("a map").shards.last().expect("a data shard").id;
    (cluster, shard)
}

fn key(keyspace: Keyspace, number: u32) -> Key {
    keyspace.key(format!("p{number}"), "s")
}

async fn put(engine: &ClusterEngine, keyspace: Keyspace, number: u32) -> Result<(), Error> {
    engine.write(Batch::new().put(key(keyspace, number), vec![7; 1_000])).await.map(drop)
}

/// Writes until one is refused; gives how many were taken.
async fn put_until_refused(engine: &ClusterEngine, keyspace: Keyspace, first: u32) -> u32 {
    for number in first..first + 100_000 {
        match put(engine, keyspace, number).await {
            Ok(()) => {}
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error}");
                return number;
            }
        }
    }
    panic!("nothing was refused");
}

/// Waits until a node's storage is as wanted.
async fn until(cluster: &TestCluster, id: u64, wanted: impl Fn(&StorageStatus) -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(30), async {
        while !wanted(&cluster.node(id).storage()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("node {id} stays at {:?}", cluster.node(id).storage()));
}

/// Writes, again and again until it is taken: the leader may pause for a while after its followers refused.
async fn put_when_taken(engine: &ClusterEngine, keyspace: Keyspace, number: u32) {
    let taken = tokio::time::timeout(Duration::from_secs(30), async {
        while let Err(error) = put(engine, keyspace, number).await {
            let passes = [ErrorKind::OutcomeUnknown, ErrorKind::ResourceExhausted, ErrorKind::NoQuorum];
            assert!(passes.contains(&error.kind()), "{error}");
        }
    });
    taken.await.expect("there is space again");
}

async fn read_all(engine: &ClusterEngine, keyspace: Keyspace, count: u32) {
    for number in 0..count {
        let found = engine.get(key(keyspace, number), Consistency::Linearizable).await.expect("reads go on");
        assert!(found.is_some(), "the acknowledged write {number} is gone");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cluster_a_full_leader_refuses_writes_and_serves_reads_until_there_is_space() {
    let dir = tempfile::tempdir().expect("a folder");
    let (cluster, shard) = start(dir.path()).await;
    let leader = cluster.leader(shard).await;
    let engine = cluster.engine(leader);
    let keyspace = engine.keyspace("k", KeyspaceKind::Hashed).await.expect("a keyspace");
    for number in 0..50 {
        put(&engine, keyspace, number).await.expect("there is space");
    }
    cluster.disk(leader).set_free_bytes(10 * MIB);
    let taken = put_until_refused(&engine, keyspace, 50).await;
    until(&cluster, leader, |status| status.disk_full && status.ballast_bytes == 0).await;
    read_all(&engine, keyspace, taken).await;
    let other = cluster.engine(leader % 3 + 1);
    assert_eq!(
        put(&other, keyspace, taken).await.expect_err("the leader refuses").kind(),
        ErrorKind::ResourceExhausted
    );
    let seen = other.cluster_status().await.expect("a status").1;
    let full: Vec<u64> = seen.iter().filter(|node| node.storage.disk_full).map(|node| node.node_id).collect();
    assert_eq!(full, [leader], "every node knows whose disk is full");
    cluster.disk(leader).set_free_bytes(PLENTY);
    until(&cluster, leader, |status| !status.disk_full && status.ballast_bytes == 8 * MIB).await;
    put(&engine, keyspace, taken).await.expect("there is space again");
    read_all(&engine, keyspace, taken + 1).await;
    cluster.hashes_agree(1).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cluster_a_full_follower_keeps_its_leader_and_catches_up_when_there_is_space() {
    let dir = tempfile::tempdir().expect("a folder");
    let (cluster, shard) = start(dir.path()).await;
    let leader = cluster.leader(shard).await;
    let engine = cluster.engine(leader);
    let keyspace = engine.keyspace("k", KeyspaceKind::Hashed).await.expect("a keyspace");
    put(&engine, keyspace, 0).await.expect("there is space");
    let follower = leader % 3 + 1;
    let replica = |id: u64| {
        let found = cluster.node(id).replicas().into_iter().find(|one| one.shard == shard);
        found.expect("a replica of the shard")
    };
    let term = replica(leader).term;
    cluster.disk(follower).set_free_bytes(10 * MIB);
    until(&cluster, follower, |status| status.disk_full).await;
    for number in 1..100 {
        put(&engine, keyspace, number).await.expect("two of three have space");
    }
    until(&cluster, follower, |status| status.refused_for_space > 3).await;
    let behind = replica(follower);
    assert!(behind.applied < replica(leader).applied, "it takes no entries: {behind:?}");
    assert_eq!(behind.leader_node, leader, "heartbeats reach it");
    assert_eq!(replica(leader).term, term, "so nobody stood for election");
    cluster.disk(follower).set_free_bytes(PLENTY);
    cluster.hashes_agree(leader).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cluster_full_disks_keep_nobody_from_electing_a_leader_and_reading_from_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut cluster, shard) = start(dir.path()).await;
    let leader = cluster.leader(shard).await;
    let engine = cluster.engine(leader);
    let keyspace = engine.keyspace("k", KeyspaceKind::Hashed).await.expect("a keyspace");
    for number in 0..20 {
        put(&engine, keyspace, number).await.expect("there is space");
    }
    cluster.hashes_agree(leader).await;
    for id in 1..=3 {
        cluster.disk(id).set_free_bytes(MIB);
        until(&cluster, id, |status| status.disk_full).await;
    }
    // It would keep the stopped node's stores open.
    drop(engine);
    cluster.stop_node(leader).await;
    let survivor = leader % 3 + 1;
    let next = cluster.leader(shard).await;
    assert_ne!(next, leader);
    read_all(&cluster.engine(survivor), keyspace, 20).await;
    let refused = put(&cluster.engine(next), keyspace, 20).await.expect_err("no space anywhere");
    assert_eq!(refused.kind(), ErrorKind::ResourceExhausted);
    for id in (1..=3).filter(|id| *id != leader) {
        cluster.disk(id).set_free_bytes(PLENTY);
        until(&cluster, id, |status| !status.disk_full).await;
    }
    put_when_taken(&cluster.engine(next), keyspace, 20).await;
    cluster.disk(leader).set_free_bytes(PLENTY);
    cluster.start_node(leader, false).await;
    cluster.ready().await;
    cluster.hashes_agree(next).await;
    cluster.stop().await;
}
