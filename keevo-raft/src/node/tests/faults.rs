//! Replicas that fail: the others go on, and the failed one comes back when what stopped it has passed.

use keevo_core::{Column, DataStore, Durability, ShardId, Store, StoreBatch, StoreOp, system};

use super::{all_shards_work, eventually};
use crate::node::Node;
use crate::testing::cluster::TestCluster;

const SHARD: ShardId = ShardId(2);

fn fault(node: &Node, shard: ShardId) -> String {
    node.replicas().into_iter().find(|one| one.shard == shard).map(|one| one.fault).unwrap_or_default()
}

fn put_applied_row(store: &DataStore, value: bytes::Bytes) {
    let ops = vec![StoreOp::Put(Column::Data, system::row_key(SHARD, system::APPLIED), value)];
    store.write(StoreBatch { ops }, Durability::Unlogged).expect("written");
    store.flush().expect("flushed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_whose_core_has_stopped_is_opened_again_and_holds_up_no_flush() {
    let dir = tempfile::tempdir().expect("a folder");
    let cluster = TestCluster::start(dir.path(), 1, 3).await;
    let node = cluster.node(1);
    all_shards_work(&cluster.engine(1)).await;
    let stopped = node.inner.group(SHARD).expect("here");
    stopped.shutdown().await;
    node.flush().await.expect("the other shards are flushed and their logs marked");
    eventually("the replica is open again", || {
        node.inner.group(SHARD).is_some_and(|open| !std::sync::Arc::ptr_eq(&open, &stopped) && open.is_leader())
    })
    .await;
    assert_eq!(fault(node, SHARD), "");
    all_shards_work(&cluster.engine(1)).await;
    drop(stopped);
    cluster.stop().await;
}

/// Openraft's issue 2116: a purge and an apply that race end the core by a panic, and on a quorum of the replicas at once
/// the group stays without a leader for good. A core that panics leaves its last metrics behind as if it ran: the node did
/// not see it, and the replica stayed down until a flush met it, or for good where none did. Now it is opened again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cores_that_panic_on_a_quorum_are_opened_again() {
    let dir = tempfile::tempdir().expect("a folder");
    let cluster = TestCluster::start(dir.path(), 3, 3).await;
    all_shards_work(&cluster.engine(1)).await;
    for round in 0..2 {
        for id in [1 + round, 2 + round] {
            let group = cluster.node(id).inner.group(SHARD).expect("here");
            group.panic_core().await;
            eventually("the core has ended", || group.fault().is_some()).await;
        }
        // The others never stopped, and it needs no hand to bring this one back.
        cluster.ready().await;
        for id in 1..=3 {
            eventually("the replica is open again", || fault(cluster.node(id), SHARD).is_empty()).await;
        }
        all_shards_work(&cluster.engine(3).with_deadline(std::time::Duration::from_secs(30))).await;
    }
    assert_eq!(cluster.hashes_agree(1).await, 4);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_replica_keeps_the_others_of_its_node_running_and_says_why_it_is_down() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut cluster = TestCluster::start(dir.path(), 3, 3).await;
    all_shards_work(&cluster.engine(1)).await;
    cluster.node(3).flush().await.expect("flushed");
    cluster.kill_node(3).await;
    let (store, log) = cluster.open_stores(3).await;
    let store = DataStore::from(store);
    let good = store.get(Column::Data, &system::row_key(SHARD, system::APPLIED)).expect("read").expect("applied");
    put_applied_row(&store, bytes::Bytes::from_static(b"\xff damaged"));
    drop((store, log));
    cluster.start_node(3, false).await;
    let node = cluster.node(3);
    assert!(!fault(node, SHARD).is_empty(), "{:?}", node.replicas());
    assert_eq!(node.replicas().iter().filter(|one| one.fault.is_empty()).count(), 3, "{:?}", node.replicas());
    node.flush().await.expect("flushed");
    all_shards_work(&cluster.engine(1)).await;
    let (_, nodes) = cluster.engine(1).cluster_status().await.expect("a status");
    let seen = nodes.iter().find(|one| one.node_id == 3).expect("node 3");
    let down: Vec<_> = seen.replicas.iter().filter(|one| one.role == "stopped").map(|one| one.shard).collect();
    assert_eq!(down, [SHARD], "its peers see which one is down");
    assert_eq!(seen.version, env!("CARGO_PKG_VERSION"));
    // What was damaged is mended: the replica opens by itself.
    put_applied_row(&node.inner.parts.store, good);
    eventually("the replica is open again", || fault(node, SHARD).is_empty()).await;
    cluster.ready().await;
    assert_eq!(cluster.hashes_agree(1).await, 4);
    cluster.stop().await;
}
