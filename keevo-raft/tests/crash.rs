//! Power cuts: what a majority confirmed survives, and nothing takes its place.

use std::time::Duration;

use keevo_core::{Batch, Consistency, Engine, ErrorKind, KeyspaceKind, ShardId};
use keevo_raft::testing::crash::CrashCluster;

/// A leader may confirm a write that two followers have made durable while its own sync still waits. When it then loses
/// power and comes back at once, the write must be there, and no other may lie under its log id.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cluster_a_leader_that_lost_its_unsynced_log_does_not_lead_on() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut cluster = CrashCluster::start(dir.path(), 3, 1).await;
    let keyspace = cluster.engine(1).keyspace("k", KeyspaceKind::Hashed).await.expect("the keyspace");
    let shard = ShardId(1);
    for round in 0..3 {
        let leader = cluster.leader(shard).await;
        let key = |name: &str| keyspace.key("p", format!("{name}{round}"));
        let engine = cluster.engine(leader).with_deadline(Duration::from_secs(20));
        engine.write(Batch::new().put(key("before"), "1")).await.expect("written");
        cluster.log(leader).hold_syncs();
        engine.write(Batch::new().put(key("acknowledged"), "1")).await.expect("two followers suffice");
        assert!(cluster.log(leader).unsynced() > 0, "the leader's own sync still waits");
        drop(engine);
        cluster.crash(leader).await;
        cluster.start_node(leader).await;
        let engine = cluster.engine(leader).with_deadline(Duration::from_secs(20));
        engine.write(Batch::new().put(key("after"), "1")).await.expect("written");
        for id in 1..=3 {
            for name in ["before", "acknowledged", "after"] {
                let found = cluster.engine(id).get(key(name), Consistency::Linearizable).await.expect("read");
                assert!(found.is_some(), "round {round}: {name} is lost, as seen from node {id}");
            }
        }
        cluster.hashes_agree(leader, shard).await;
    }
}

/// The first attempt at a write may be applied though its answer is lost; what follows must not call it "not applied".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cluster_a_write_whose_answer_was_lost_is_never_called_not_applied() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut cluster = CrashCluster::start(dir.path(), 3, 1).await;
    let keyspace = cluster.engine(1).keyspace("k", KeyspaceKind::Hashed).await.expect("the keyspace");
    let leader = cluster.leader(ShardId(1)).await;
    let others: Vec<u64> = (1..=3).filter(|id| *id != leader).collect();
    let [through, third] = others[..] else { panic!("there are three nodes") };
    let engine = cluster.engine(through).with_deadline(Duration::from_secs(4));
    // Opens the session.
    engine.write(Batch::new().put(keyspace.key("p", "first"), "1")).await.expect("written");
    // The leader takes the write but cannot commit it; then it is gone, and so is the third.
    cluster.network.disconnect(third);
    cluster.log(leader).hold_syncs();
    let write = tokio::spawn(async move { engine.write(Batch::new().put(keyspace.key("p", "k"), "1")).await });
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!write.is_finished(), "nothing can be committed");
    cluster.crash(leader).await;
    let error = write.await.expect("runs").expect_err("there is no quorum");
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error}");
}
