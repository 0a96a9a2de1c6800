//! Data that does not belong to a replica of this node: what must go, and what must stay.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use keevo_core::{Column, DataStore, Durability, ShardId, Store, StoreBatch, StoreOp};

use super::eventually;
use crate::log_store::LogStore;
use crate::node::rows;
use crate::shard_map::ShardInfo;
use crate::testing::cluster::TestCluster;
use crate::types::Vote;

const SHARD: ShardId = ShardId(1);

fn leftover_key(shard: &ShardInfo) -> Bytes {
    let key = [shard.start.as_ref(), b"\0\0leftover"].concat();
    assert!(shard.contains(&key), "the hash 0 is in the first shard");
    key.into()
}

/// Leaves a record, a vote and, if told so, the replica's row of a shard on a node that does not run.
async fn leave_behind(cluster: &TestCluster, node: u64, shard: &ShardInfo, row: Option<u64>) {
    let (store, log) = cluster.open_stores(node).await;
    let store = DataStore::from(store);
    if let Some(replica) = row {
        rows::begin(&store, shard, replica).expect("written");
    }
    let ops = vec![StoreOp::Put(Column::Data, leftover_key(shard), Bytes::from_static(b"x"))];
    store.write(StoreBatch { ops }, Durability::Unlogged).expect("written");
    store.flush().expect("flushed");
    log.save_vote(shard.id.0, Vote::new(9_000, 99)).await.expect("saved");
}

fn voted(log: &Arc<dyn LogStore>) -> Option<u64> {
    log.vote(SHARD.0).expect("readable").map(|vote| vote.leader_id.term)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removal_that_was_cut_off_is_finished_and_never_shines_through_a_new_replica() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut cluster = TestCluster::start(dir.path(), 4, 3).await;
    let map = cluster.node(1).map().expect("a map");
    let shard = map.shard(SHARD).expect("shard 1").clone();
    assert!(shard.replica_on(1).is_none(), "node 1 has no replica of it");
    // The replica's row is still there.
    cluster.stop_node(1).await;
    leave_behind(&cluster, 1, &shard, Some(99)).await;
    cluster.start_node(1, false).await;
    let store = cluster.node(1).inner.parts.store.clone();
    let found = |store: &DataStore| store.get(Column::Data, &leftover_key(&shard)).expect("readable").is_some();
    eventually("the leftovers go", || !found(&store) && voted(cluster.log(1)).is_none()).await;
    assert_eq!(rows::load_replica(&store, SHARD).expect("readable"), None);
    drop(store);
    // The row is gone already, the rest is not.
    cluster.stop_node(1).await;
    leave_behind(&cluster, 1, &shard, None).await;
    cluster.start_node(1, false).await;
    cluster.ready().await;
    let admin = cluster.engine(2).with_deadline(Duration::from_secs(30));
    admin.remove(4).await.expect("removed");
    admin.join(1, "node-1:7000").await.expect("node 1 takes the place");
    assert!(!found(&cluster.node(1).inner.parts.store), "a new replica begins empty");
    assert!(voted(cluster.log(1)).is_none_or(|term| term < 9_000), "and without a vote");
    cluster.stop_node(4).await;
    assert_eq!(cluster.hashes_agree(2).await, 4);
    drop(admin);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_map_destroys_no_newer_replica() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut cluster = TestCluster::start(dir.path(), 1, 2).await;
    let shard = cluster.node(1).map().expect("a map").shard(SHARD).expect("shard 1").clone();
    cluster.stop_node(1).await;
    leave_behind(&cluster, 1, &shard, Some(99)).await;
    cluster.start_node(1, false).await;
    let node = cluster.node(1);
    let down = node.replicas().into_iter().find(|one| one.shard == SHARD).expect("reported");
    assert!(down.fault.contains("newer map"), "{down:?}");
    // Several rounds later nothing has been destroyed, and the other shards run.
    tokio::time::sleep(Duration::from_millis(800)).await;
    assert_eq!(rows::load_replica(&node.inner.parts.store, SHARD).expect("readable"), Some(99));
    assert_eq!(voted(cluster.log(1)), Some(9_000));
    assert!(node.inner.group(ShardId(2)).is_some());
    cluster.stop().await;
}
