//! A cluster of two releases: it goes on, at the level that all nodes know, until a person raises it.

#![cfg(feature = "rocksdb")]

use keevo_core::{Archived, Batch, Consistency, Engine, ErrorKind, KeyspaceKind, Levels, ShardId};
use keevo_raft::Timing;
use keevo_raft::testing::cluster::TestCluster;

const OLD: Levels = Levels { min: 1, max: 1 };
const NEW: Levels = Levels::OURS;
/// A shard with data.
const SHARD: ShardId = ShardId(1);

/// Notes how far the shard's log is archived, at its leader.
async fn note_archived(cluster: &TestCluster, upto: u64) -> Result<(), ErrorKind> {
    let leader = cluster.leader(SHARD).await;
    let noted = cluster.node(leader).note_archived(SHARD, Archived { from: 0, upto }).await;
    noted.map_err(|error| error.kind())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn cluster_of_two_releases_writes_on_and_is_raised_when_all_know_the_level() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut cluster = TestCluster::prepare(dir.path(), 3, 2, Timing::quick());
    cluster.set_levels(3, OLD);
    for id in 1..=3 {
        cluster.start_node(id, false).await;
    }
    cluster.ready().await;
    let engine = cluster.engine(1);
    let keyspace = engine.keyspace("k", KeyspaceKind::Hashed).await.expect("a keyspace");
    let write = async |engine: &keevo_raft::ClusterEngine, number: u32| {
        engine.write(Batch::new().put(keyspace.key("p", number.to_string()), "x")).await.expect("written");
    };
    write(&engine, 1).await;

    // It was founded at the level that all know. Its log is archived all the same: what stops there stops writes in the end.
    let state = engine.upgrade_state().await.expect("the state");
    assert_eq!((state.level, state.newest), (1, NEW.max));
    assert_eq!(state.obstacles().len(), 1, "{:?}", state.obstacles());
    assert_eq!(note_archived(&cluster, 1).await, Ok(()));
    let refused = engine.finalize_upgrade().await.expect_err("node 3 does not know the new level");
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    assert!(
        refused.message().contains("node 3 runs") && refused.message().contains(&format!("level {}", NEW.max)),
        "{refused}"
    );

    // A node that is down could be of any release.
    cluster.stop_node(3).await;
    let refused = engine.finalize_upgrade().await.expect_err("node 3 does not answer");
    assert!(refused.message().contains("node 3 does not answer"), "{refused}");
    write(&engine, 2).await;

    // It comes back with the new release.
    cluster.set_levels(3, NEW);
    cluster.start_node(3, false).await;
    cluster.ready().await;
    let state = engine.upgrade_state().await.expect("the state");
    assert_eq!((state.level, state.newest, state.obstacles()), (1, NEW.max, Vec::new()));
    assert_eq!(engine.finalize_upgrade().await.expect("raised").level, NEW.max);
    assert_eq!(engine.finalize_upgrade().await.expect("again").level, NEW.max, "repeatable");
    write(&engine, 3).await;
    let deadline = tokio::time::Instant::now() + keevo_raft::DEADLINE;
    while !(1..=3).all(|id| cluster.node(id).map().is_some_and(|map| map.level == NEW.max)) {
        assert!(tokio::time::Instant::now() < deadline, "a node does not hear of the new level");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(note_archived(&cluster, 2).await, Ok(()));

    // There is no way back, and no way in for an old release.
    cluster.stop_node(3).await;
    cluster.set_levels(3, OLD);
    let refused = cluster.try_start_node(3, false).await.expect_err("too old");
    assert_eq!(refused.kind(), ErrorKind::NewerFormat);
    assert!(refused.message().contains("too old; install the release"), "{refused}");
    cluster.set_levels(3, NEW);
    cluster.start_node(3, false).await;
    cluster.set_levels(4, OLD);
    cluster.start_node(4, true).await;
    let refused = engine.join(4, "node-4:7000").await.expect_err("too old to join");
    assert_eq!(refused.kind(), ErrorKind::NewerFormat);
    cluster.stop_node(4).await;
    cluster.ready().await;
    let keys = (1..=3).map(|number: u32| keyspace.key("p", number.to_string())).collect();
    let read = cluster.engine(3).multi_get(keys, Consistency::Linearizable).await.expect("read");
    assert!(read.iter().all(Option::is_some), "what was written while the releases were mixed is there");
    cluster.hashes_agree(1).await;
    cluster.stop().await;
}
