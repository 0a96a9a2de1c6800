//! Crashes between the steps of a cluster's beginning, and maps that arrive at the same time.

use std::path::Path;
use std::sync::Arc;

use keevo_core::{ClusterId, DataStore, ErrorKind};

use super::{all_shards_work, eventually};
use crate::ShardMap;
use crate::node::{Identity, rows};
use crate::shard_map::NodeInfo;
use crate::testing::cluster::TestCluster;
use crate::timing::Timing;

const CLUSTER: ClusterId = ClusterId(77);

/// Three nodes with their identities, none of which has been started, and the map that node 1 has drawn.
fn before_the_first_step(dir: &Path, shards: u32) -> (TestCluster, ShardMap) {
    let mut cluster = TestCluster::prepare(dir, 3, shards, Timing::quick());
    let mut nodes = Vec::new();
    for id in 1..=3 {
        let pair = u128::from(id) + 100;
        cluster.identity(id).save(&Identity { node_id: id, pair, cluster: None }).expect("saved");
        nodes.push(NodeInfo { id, address: format!("node-{id}:7000"), pair });
    }
    let map = ShardMap::bootstrap(CLUSTER, nodes, shards, 3).expect("a map");
    (cluster, map)
}

/// What node 1 has on its disk after the first steps.
async fn after_steps(cluster: &mut TestCluster, map: &ShardMap, identity: bool, replica: bool) {
    let (store, _log) = cluster.open_stores(1).await;
    let store = DataStore::from(store);
    rows::save_map(&store, map).expect("saved");
    if identity {
        let drawn = Identity { node_id: 1, pair: 101, cluster: Some(CLUSTER) };
        cluster.identity(1).save(&drawn).expect("saved");
    }
    if replica {
        let shard = map.shards.first().expect("shard 0");
        let first = shard.replica_on(1).expect("the founder has one").id;
        rows::begin(&store, shard, first).expect("begun");
    }
}

/// Starts the nodes that do not run yet; one working cluster comes of it, the one that was begun.
async fn it_becomes_a_cluster(mut cluster: TestCluster, to_start: &[u64]) {
    for &id in to_start {
        cluster.start_node(id, false).await;
    }
    cluster.ready().await;
    for id in 1..=3 {
        assert_eq!(cluster.node(id).cluster(), Some(CLUSTER), "node {id}");
    }
    all_shards_work(&cluster.engine(3)).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_between_map_and_identity_is_mended_by_the_next_start() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut cluster, map) = before_the_first_step(dir.path(), 2);
    after_steps(&mut cluster, &map, false, false).await;
    cluster.start_node(1, false).await;
    assert_eq!(cluster.node(1).cluster(), Some(CLUSTER), "the map says which cluster it is");
    it_becomes_a_cluster(cluster, &[2, 3]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_before_or_after_the_first_replica_is_mended_by_the_next_start() {
    for replica in [false, true] {
        let dir = tempfile::tempdir().expect("a folder");
        let (mut cluster, map) = before_the_first_step(dir.path(), 2);
        after_steps(&mut cluster, &map, true, replica).await;
        it_becomes_a_cluster(cluster, &[1, 2, 3]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_founder_that_dies_before_anybody_has_heard_of_its_groups_starts_them_again() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut cluster, map) = before_the_first_step(dir.path(), 2);
    after_steps(&mut cluster, &map, true, false).await;
    cluster.start_node(1, false).await;
    eventually("the founder starts its groups though no other node is up", || {
        cluster.node(1).replicas().iter().any(|one| one.shard == keevo_core::ShardId::META && one.term > 0)
    })
    .await;
    cluster.kill_node(1).await;
    it_becomes_a_cluster(cluster, &[1, 2, 3]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_begins_though_a_listed_node_is_down_and_takes_it_in_later() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut cluster, map) = before_the_first_step(dir.path(), 1);
    after_steps(&mut cluster, &map, true, false).await;
    // Node 3 is the first of no shard.
    cluster.start_node(1, false).await;
    cluster.start_node(2, false).await;
    cluster.ready().await;
    all_shards_work(&cluster.engine(1)).await;
    for id in [1, 2] {
        cluster.kill_node(id).await;
    }
    it_becomes_a_cluster(cluster, &[1, 2, 3]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_map_of_another_cluster_than_the_identity_is_refused_at_the_start() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut cluster, map) = before_the_first_step(dir.path(), 2);
    after_steps(&mut cluster, &map, true, false).await;
    cluster.start_node(1, false).await;
    let other = ShardMap { cluster: ClusterId(5), version: 9, ..map.clone() };
    let inner = Arc::clone(&cluster.node(1).inner);
    assert_eq!(inner.resume(other.clone()).expect_err("another cluster").kind(), ErrorKind::WrongCluster);
    assert_eq!(inner.adopt(other).await.expect_err("another cluster").kind(), ErrorKind::WrongCluster);
    let mut swapped = ShardMap { version: 9, ..map };
    swapped.nodes.get_mut(&1).expect("node 1").pair = 5;
    assert_eq!(inner.adopt(swapped).await.expect_err("other stores").kind(), ErrorKind::WrongCluster);
    drop(inner);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_maps_that_arrive_together_the_newest_stays() {
    let dir = tempfile::tempdir().expect("a folder");
    let cluster = TestCluster::start(dir.path(), 1, 1).await;
    let inner = Arc::clone(&cluster.node(1).inner);
    let map = cluster.node(1).map().expect("a map");
    for round in 0..25_u64 {
        let start = Arc::new(tokio::sync::Barrier::new(3));
        let adopts: Vec<_> = (1..=3)
            .map(|step| {
                let map = ShardMap { version: map.version + round * 3 + step, ..map.as_ref().clone() };
                let (inner, start) = (Arc::clone(&inner), Arc::clone(&start));
                tokio::spawn(async move {
                    start.wait().await;
                    inner.adopt(map).await
                })
            })
            .collect();
        for adopt in adopts {
            adopt.await.expect("no panic").expect("adopted");
        }
        let newest = map.version + round * 3 + 3;
        let kept = rows::load_map(&inner.parts.store).expect("readable").expect("there");
        assert_eq!((kept.version, inner.map().expect("a map").version), (newest, newest), "round {round}");
    }
    drop(inner);
    cluster.stop().await;
}
