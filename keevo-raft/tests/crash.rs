//! Power cuts, purges and snapshots: what a majority confirmed survives, once, and nothing takes its place.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use keevo_core::{
    Batch, ClientId, Consistency, Engine, ErrorKind, Keyspace, KeyspaceKind, RequestId, ShardId, WatchFrom, WatchRange,
};
use keevo_raft::testing::crash::CrashCluster;
use keevo_raft::{ClusterEngine, Timing};
use tokio::task::JoinHandle;

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

const SHARD: ShardId = ShardId(1);

/// No entry is kept for followers that lag: whatever is flushed may be purged.
fn tight() -> Timing {
    Timing { log_entries_kept: 0, ..Timing::quick() }
}

/// Adds one to a sum and leaves a mark per write, until told to stop; gives the marks that were acknowledged and those
/// of which nobody knows.
fn writer(engine: ClusterEngine, keyspace: Keyspace, name: u64, stop: &Arc<AtomicBool>) -> JoinHandle<(u64, u64)> {
    let stop = Arc::clone(stop);
    tokio::spawn(async move {
        let (mut acknowledged, mut unknown) = (0, 0);
        let mut number = 0_u64;
        while !stop.load(Ordering::Relaxed) {
            let mark = keyspace.key("p", format!("w{name}-{number}"));
            let batch = Batch::new().merge(keyspace.key("p", "sum"), 1).put(mark.clone(), "x");
            match engine.write(batch).await {
                Ok(_) => acknowledged += 1,
                Err(_) => unknown += 1,
            }
            number += 1;
        }
        (acknowledged, unknown)
    })
}

async fn sum(engine: &ClusterEngine, keyspace: Keyspace) -> u64 {
    let found = engine.get(keyspace.key("p", "sum"), Consistency::Linearizable).await.expect("read");
    found.map_or(0, |record| u64::from_be_bytes(record.value.as_ref().try_into().expect("8 bytes")))
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// All nodes lose power at once, again and again, while writers retry under their request ids: each acknowledged write
/// is there, none is there twice, and the replicas are equal. The logs keep nothing beyond what is flushed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cluster_power_cuts_of_all_nodes_lose_nothing_and_apply_nothing_twice() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut cluster = CrashCluster::start_with(dir.path(), 3, 1, tight()).await;
    let keyspace = cluster.engine(1).keyspace("k", KeyspaceKind::Hashed).await.expect("the keyspace");
    let (mut acknowledged, mut unknown) = (0, 0);
    for round in 0..4 {
        let stop = Arc::new(AtomicBool::new(false));
        let patient = |id| cluster.engine(id).with_deadline(Duration::from_secs(5));
        let writers: Vec<_> = (1..=3).map(|id| writer(patient(id), keyspace, round * 3 + id, &stop)).collect();
        let goal = cluster.replica(1, SHARD).applied + 300;
        eventually("300 entries are applied", || cluster.replica(1, SHARD).applied >= goal).await;
        cluster.node(1 + round % 3).flush().await.expect("flushed");
        stop.store(true, Ordering::Relaxed);
        for id in 1..=3 {
            cluster.crash(id).await;
        }
        for writer in writers {
            let (more, lost) = writer.await.expect("the writer ends well");
            acknowledged += more;
            unknown += lost;
        }
        for id in 1..=3 {
            cluster.start_node(id).await;
        }
        cluster.ready().await;
        let sum = sum(&cluster.engine(2).with_deadline(Duration::from_secs(20)), keyspace).await;
        assert!(acknowledged >= 300 * (round + 1) / 2, "round {round}: only {acknowledged} were acknowledged");
        assert!(
            (acknowledged..=acknowledged + unknown).contains(&sum),
            "round {round}: {sum} were applied, {acknowledged} acknowledged, {unknown} unknown"
        );
        cluster.hashes_agree(1, SHARD).await;
    }
}

/// Openraft's issues 2116 and the fuzzer's panic after snapshots and purges: with no margin, a flush after every few
/// writes, and followers that come and go, cores must not end, and the log must not pass the flushed data.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cluster_purges_without_a_margin_under_load_end_no_core() {
    let dir = tempfile::tempdir().expect("a folder");
    let cluster = CrashCluster::start_with(dir.path(), 3, 1, tight()).await;
    let keyspace = cluster.engine(1).keyspace("k", KeyspaceKind::Hashed).await.expect("the keyspace");
    let stop = Arc::new(AtomicBool::new(false));
    let patient = |id| cluster.engine(id).with_deadline(Duration::from_secs(20));
    let writers: Vec<_> = (1..=3).map(|id| writer(patient(id), keyspace, id, &stop)).collect();
    let mut round = 0_u64;
    let deadline = tokio::time::Instant::now() + Duration::from_mins(1);
    while cluster.replica(1, SHARD).purged < 4_000 {
        assert!(tokio::time::Instant::now() < deadline, "the purge has come to {}", cluster.replica(1, SHARD).purged);
        for id in 1..=3 {
            cluster.node(id).flush().await.expect("flushed");
            let replica = cluster.replica(id, SHARD);
            assert_eq!(replica.fault, "", "round {round}: the core on node {id} has ended");
            assert!(replica.purged <= replica.applied, "round {round}: {replica:?}");
        }
        // A follower that lags needs what is being purged, and then a snapshot.
        match round % 40 {
            10 => (1..=2).for_each(|id| cluster.network.cut(id, 3)),
            30 => cluster.network.heal(),
            _ => tokio::time::sleep(Duration::from_millis(2)).await,
        }
        round += 1;
    }
    cluster.network.heal();
    stop.store(true, Ordering::Relaxed);
    let mut acknowledged = 0;
    for writer in writers {
        let (more, unknown) = writer.await.expect("the writer ends well");
        assert_eq!(unknown, 0, "nothing has failed");
        acknowledged += more;
    }
    assert_eq!(sum(&cluster.engine(1), keyspace).await, acknowledged);
    cluster.hashes_agree(1, SHARD).await;
}

/// What a snapshot brings: nothing that its sender has deleted stays, a request that was applied before is not applied
/// again, and a watch from before it is told so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cluster_a_snapshot_replaces_all_of_a_shard_sessions_and_changes_too() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut cluster = CrashCluster::start_with(dir.path(), 3, 1, tight()).await;
    let keyspace = cluster.engine(1).keyspace("k", KeyspaceKind::Hashed).await.expect("the keyspace");
    let range = WatchRange::Keyspace(keyspace);
    let before = cluster.engine(3).watch_start(&range).await.expect("cursors");
    for number in 0..40 {
        let key = keyspace.key(format!("p{}", number % 8), format!("{number}"));
        cluster.engine(1).write(Batch::new().put(key, "x")).await.expect("written");
    }
    cluster.node(3).flush().await.expect("flushed");
    let last_log = cluster.replica(3, SHARD).last_log;
    cluster.crash(3).await;
    let engine = cluster.engine(1).with_deadline(Duration::from_secs(20));
    for partition in 0..8 {
        let all = Batch::new().delete_range(keyspace.key(format!("p{partition}"), ""), "");
        engine.write(all).await.expect("deleted");
    }
    let client = ClientId(77);
    engine.open_session_in(SHARD, client).await.expect("a session");
    let request = RequestId { client, sequence: 3, acked_below: 2 };
    let once = Batch::new().merge(keyspace.key("p", "once"), 1).with_request(request);
    let first = engine.write(once.clone()).await.expect("written");
    for number in 0..400 {
        engine.write(Batch::new().put(keyspace.key("p", format!("{number}")), "x")).await.expect("written");
    }
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while (1..=2).any(|id| cluster.replica(id, SHARD).purged <= last_log) {
        assert!(tokio::time::Instant::now() < deadline, "the logs were not purged");
        for id in 1..=2 {
            cluster.node(id).flush().await.expect("flushed");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop(engine);
    cluster.start_node(3).await;
    cluster.ready().await;
    eventually("node 3 has a snapshot", || cluster.replica(3, SHARD).purged > last_log).await;
    cluster.hashes_agree(3, SHARD).await;
    let engine = cluster.engine(3).with_deadline(Duration::from_secs(20));
    let gone = engine.get(keyspace.key("p1", "1"), Consistency::Follower).await.expect("read");
    assert_eq!(gone, None, "what was deleted before the snapshot does not come back");
    let stale = engine.watch(range, WatchFrom::After(before)).await.err().map(|error| error.kind());
    assert_eq!(stale, Some(ErrorKind::CursorCompacted), "node 3 has no changes from before its snapshot");
    engine.transfer(SHARD, 3).await.expect("transferred");
    eventually("node 3 leads", || cluster.replica(3, SHARD).role == "leader").await;
    assert_eq!(engine.write(once).await.expect("answered"), first, "the answer came with the snapshot");
    let counted = engine.get(keyspace.key("p", "once"), Consistency::Linearizable).await.expect("read");
    assert_eq!(counted.expect("there").value.as_ref(), 1_u64.to_be_bytes());
}
