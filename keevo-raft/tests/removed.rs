//! A node that is removed while it lives: it learns of it, lets go of everything, and never comes back under its id.

#![cfg(feature = "rocksdb")]

use std::time::Duration;

use futures::StreamExt;
use keevo_core::{Batch, Consistency, Engine, ErrorKind, Keyspace, KeyspaceKind, WatchFrom, WatchRange};
use keevo_raft::testing::cluster::TestCluster;

async fn keyspace(engine: &impl Engine) -> Keyspace {
    engine.keyspace("test", KeyspaceKind::Hashed).await.expect("the keyspace")
}

/// Waits until a node holds nothing any more.
async fn lets_go(cluster: &TestCluster, id: u64) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !cluster.node(id).replicas().is_empty() || cluster.node(id).serving_map().is_ok() {
        assert!(tokio::time::Instant::now() < deadline, "node {id} holds {:?}", cluster.node(id).replicas());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_node_lets_go_says_so_and_stays_out() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut cluster = TestCluster::start(dir.path(), 3, 2).await;
    let keyspace = keyspace(&cluster.engine(1)).await;
    let key = keyspace.key("p", "k");
    cluster.engine(3).write(Batch::new().put(key.clone(), "x")).await.expect("written");
    let mut watch = cluster.engine(3).watch(WatchRange::Keyspace(keyspace), WatchFrom::Now).await.expect("a watch");
    let admin = cluster.engine(1).with_deadline(Duration::from_secs(30));
    admin.remove(3).await.expect("removed");
    lets_go(&cluster, 3).await;
    let ended = tokio::time::timeout(Duration::from_secs(10), watch.next()).await.expect("the watch does not stall");
    assert!(ended.is_none_or(|event| event.is_err()));
    drop(watch);
    let refused = cluster.engine(3).get(key.clone(), Consistency::Linearizable).await.expect_err("it is no member");
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    assert!(refused.message().contains("node 3 was removed") && refused.message().contains("node-1:7000"), "{refused}");
    assert!(cluster.engine(1).get(key, Consistency::Linearizable).await.expect("read").is_some());
    // Neither with its old stores nor with new ones does it come back under its id.
    cluster.stop_node(3).await;
    cluster.start_node(3, true).await;
    assert!(cluster.node(3).serving_map().is_err());
    assert_eq!(admin.join(3, "node-3:7000").await.expect_err("removed").kind(), ErrorKind::Conflict);
    cluster.stop_node(3).await;
    cluster.wipe_node(3);
    cluster.start_node(3, true).await;
    assert_eq!(admin.join(3, "node-3:7000").await.expect_err("removed").kind(), ErrorKind::Conflict);
    assert_eq!(cluster.node(3).cluster(), None);
    // The refusals left nothing behind: another node may come.
    cluster.start_node(4, true).await;
    admin.join(4, "node-4:7000").await.expect("joined");
    drop(admin);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_cut_off_while_it_was_removed_learns_of_it_from_any_peer() {
    let dir = tempfile::tempdir().expect("a folder");
    let cluster = TestCluster::start(dir.path(), 3, 2).await;
    let admin = cluster.engine(1).with_deadline(Duration::from_secs(30));
    for other in [1, 2] {
        cluster.network.cut(3, other);
        cluster.network.cut(other, 3);
    }
    admin.remove(3).await.expect("removed");
    assert!(!cluster.node(3).replicas().is_empty(), "it cannot know yet");
    cluster.network.heal();
    lets_go(&cluster, 3).await;
    drop(admin);
    cluster.stop().await;
}
