//! Reads under trouble: late answers, leaders that change, replicas that are cut off.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use keevo_core::{Batch, Consistency, Engine, Error, ErrorKind, Key, KeyspaceKind, ShardId};
use keevo_raft::testing::crash::CrashCluster;
use keevo_raft::{ClusterEngine, PeerCall, Timing};
use tokio::time::Instant;

const SHARD: ShardId = ShardId(1);

async fn register(cluster: &CrashCluster) -> Key {
    cluster.engine(1).keyspace("k", KeyspaceKind::Hashed).await.expect("the keyspace").key("p", "register")
}

async fn add_one(engine: &ClusterEngine, key: &Key) {
    engine.write(Batch::new().merge(key.clone(), 1)).await.expect("written");
}

async fn read(engine: &ClusterEngine, key: &Key, consistency: Consistency) -> Result<u64, Error> {
    let record = engine.get(key.clone(), consistency).await?;
    Ok(record.map_or(0, |record| u64::from_be_bytes(record.value.as_ref().try_into().expect("8 bytes"))))
}

/// The leader of the shard, and the other nodes of three.
async fn roles(cluster: &CrashCluster) -> (u64, [u64; 2]) {
    let leader = cluster.leader(SHARD).await;
    let mut others = (1..=3).filter(|id| *id != leader);
    (leader, [(); 2].map(|()| others.next().expect("three nodes")))
}

/// Waits until the replica on a node has in its log what the leader's has.
async fn has_the_log(cluster: &CrashCluster, node: u64, of: u64) {
    let last = |id: u64| {
        let replicas = cluster.node(id).replicas();
        replicas.iter().find(|one| one.shard == SHARD).map_or(0, |one| one.last_log)
    };
    let deadline = Instant::now() + Duration::from_secs(10);
    while last(node) < last(of) {
        assert!(Instant::now() < deadline, "node {node} does not get the entry");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// openraft credits the late answer to an append to every younger append with the same last log id, among them the
/// empty ones that tell a new commit index. A leader that was stopped for longer than its lease could so take old
/// answers for new ones, and read by a lease that nobody grants any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cluster_a_late_answer_extends_no_lease() {
    let dir = tempfile::tempdir().expect("a folder");
    let timing = Timing { election_ms_min: 2_400, election_ms_max: 3_000, drift_ms_max: 400, ..Timing::quick() };
    let lease = Duration::from_millis(timing.election_ms_min - timing.drift_ms_max);
    let cluster = CrashCluster::start_with(dir.path(), 3, 1, timing).await;
    let key = register(&cluster).await;
    let (leader, others) = roles(&cluster).await;
    let engine = cluster.engine(leader);
    add_one(&engine, &key).await;
    for other in others {
        cluster.network.hold_answers(PeerCall::Append, other, leader);
    }
    let write = tokio::spawn({
        let (engine, key) = (engine.clone(), key.clone());
        async move { add_one(&engine, &key).await }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    for other in others {
        has_the_log(&cluster, other, leader).await;
        cluster.network.cut(leader, other);
    }
    let unheard_since = Instant::now();
    assert!(!write.is_finished(), "nobody has answered");
    tokio::time::sleep_until(unheard_since + lease - Duration::from_millis(200)).await;
    cluster.network.let_answers_go(PeerCall::Append, others[0], leader);
    write.await.expect("the answer commits the write");
    // The new commit index is on its way to the other one, behind the append whose answer comes now.
    tokio::time::sleep(Duration::from_millis(100)).await;
    cluster.network.let_answers_go(PeerCall::Append, others[1], leader);
    tokio::time::sleep_until(unheard_since + lease + Duration::from_millis(200)).await;
    let hurried = engine.with_deadline(Duration::from_millis(500));
    let answer = read(&hurried, &key, Consistency::Linearizable).await;
    let error = answer.expect_err("no follower has heard of this leader for longer than its lease");
    assert!(matches!(error.kind(), ErrorKind::NoQuorum | ErrorKind::DeadlineExceeded), "{error}");
}

/// What readers and the writer of a register know of each other.
#[derive(Default)]
struct Shared {
    /// Additions that were acknowledged.
    written: AtomicU64,
    /// The highest value that any read has shown.
    seen: AtomicU64,
    reads: AtomicU64,
    stop: AtomicBool,
}

/// Reads the register on one node until told to stop: what was acknowledged or shown before a read began, it shows.
async fn reads(engine: ClusterEngine, key: Key, consistency: Consistency, shared: Arc<Shared>) -> u64 {
    let mut answered = 0;
    while !shared.stop.load(Ordering::SeqCst) {
        let written = shared.written.load(Ordering::SeqCst);
        let seen = shared.seen.load(Ordering::SeqCst);
        // A node that is cut off answers nothing, which is right.
        let Ok(found) = read(&engine, &key, consistency).await else { continue };
        let through = engine.node().id();
        assert!(found >= written, "{consistency:?} on node {through}: {found}, although {written} was acknowledged");
        assert!(found >= seen, "{consistency:?} on node {through}: {found}, although {seen} was shown before");
        shared.seen.fetch_max(found, Ordering::SeqCst);
        shared.reads.fetch_add(1, Ordering::SeqCst);
        answered += 1;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    answered
}

/// Lets readers and the writer get on by some steps.
async fn goes_on(shared: &Shared) {
    let (written, reads) = (shared.written.load(Ordering::SeqCst), shared.reads.load(Ordering::SeqCst));
    let deadline = Instant::now() + Duration::from_secs(30);
    while shared.written.load(Ordering::SeqCst) < written + 20 || shared.reads.load(Ordering::SeqCst) < reads + 60 {
        assert!(Instant::now() < deadline, "nothing goes on");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cluster_reads_on_every_node_never_go_back_nor_miss_a_write_while_leaders_change() {
    let dir = tempfile::tempdir().expect("a folder");
    let cluster = CrashCluster::start(dir.path(), 3, 1).await;
    let key = register(&cluster).await;
    let shared = Arc::new(Shared::default());
    let writer = tokio::spawn({
        let (engine, key, shared) = (cluster.engine(1), key.clone(), Arc::clone(&shared));
        let engine = engine.with_deadline(Duration::from_secs(30));
        async move {
            while !shared.stop.load(Ordering::SeqCst) {
                add_one(&engine, &key).await;
                shared.written.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    let mut readers = Vec::new();
    for id in 1..=3 {
        for consistency in [Consistency::Follower, Consistency::Follower, Consistency::Linearizable] {
            let engine = cluster.engine(id).with_deadline(Duration::from_secs(2));
            readers.push(tokio::spawn(reads(engine, key.clone(), consistency, Arc::clone(&shared))));
        }
    }
    let mut terms = std::collections::BTreeSet::new();
    for round in 0..6 {
        let (leader, others) = roles(&cluster).await;
        let replicas = cluster.node(leader).replicas();
        terms.extend(replicas.iter().filter(|one| one.shard == SHARD).map(|one| one.term));
        if round % 2 == 0 {
            // Who loses the race against an election leaves the leader as it is; the next round tries again.
            if let Err(error) = cluster.engine(leader).transfer(SHARD, others[round / 2 % 2]).await {
                assert_ne!(error.kind(), ErrorKind::Corrupt, "{error}");
            }
        } else {
            for other in others {
                cluster.network.cut(leader, other);
                cluster.network.cut(other, leader);
            }
            if leader == 1 {
                // The writer's own node is cut off; it goes on after the heal.
                tokio::time::sleep(Duration::from_millis(1_500)).await;
            } else {
                goes_on(&shared).await;
            }
            cluster.network.heal();
        }
        goes_on(&shared).await;
    }
    shared.stop.store(true, Ordering::SeqCst);
    writer.await.expect("the writer ends well");
    for reader in readers {
        assert!(reader.await.expect("no read was wrong") > 0, "a reader got no answer");
    }
    assert!(terms.len() >= 4, "the leaders changed in {terms:?} only");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cluster_follower_reads_share_the_question_for_the_read_index() {
    let dir = tempfile::tempdir().expect("a folder");
    let cluster = CrashCluster::start(dir.path(), 3, 1).await;
    let key = register(&cluster).await;
    let (leader, [follower, _]) = roles(&cluster).await;
    let engine = cluster.engine(follower);
    add_one(&engine, &key).await;
    assert_eq!(read(&engine, &key, Consistency::Follower).await.expect("an answer"), 1);
    let asked = || cluster.network.calls(PeerCall::ReadIndex, follower, leader);
    let before = asked();
    cluster.network.hold_answers(PeerCall::ReadIndex, leader, follower);
    let reads: Vec<_> = (0..200)
        .map(|_| {
            let (engine, key) = (engine.clone(), key.clone());
            tokio::spawn(async move { read(&engine, &key, Consistency::Follower).await })
        })
        .collect();
    let deadline = Instant::now() + Duration::from_secs(10);
    while asked() == before {
        assert!(Instant::now() < deadline, "the leader is never asked");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    cluster.network.let_answers_go(PeerCall::ReadIndex, leader, follower);
    for one in reads {
        assert_eq!(one.await.expect("runs").expect("an answer"), 1);
    }
    assert!(asked() - before <= 20, "200 reads asked {} times", asked() - before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cluster_stale_reads_are_served_here_as_long_as_they_are_fresh_enough() {
    let dir = tempfile::tempdir().expect("a folder");
    let cluster = CrashCluster::start(dir.path(), 3, 1).await;
    let key = register(&cluster).await;
    let (leader, [follower, third]) = roles(&cluster).await;
    let (near, far) = (cluster.engine(follower).with_deadline(Duration::from_secs(1)), cluster.engine(leader));
    add_one(&far, &key).await;
    let stale = |max_age_ms| Consistency::Stale { max_age_ms };
    read(&near, &key, Consistency::Follower).await.expect("it has caught up");
    // Nothing is written, and heartbeats alone keep the replica fresh.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let asked = || {
        let calls = |to| cluster.network.calls(PeerCall::Read, follower, to);
        calls(leader) + calls(third)
    };
    let before = asked();
    for _ in 0..20 {
        assert_eq!(read(&near, &key, stale(500)).await.expect("an answer"), 1);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(asked() - before <= 2, "an idle shard's replica asked the leader {} times", asked() - before);
    for other in [leader, third] {
        cluster.network.cut(follower, other);
        cluster.network.cut(other, follower);
    }
    let cut = Instant::now();
    add_one(&far, &key).await;
    assert_eq!(read(&near, &key, stale(30_000)).await.expect("served without the leader"), 1);
    tokio::time::sleep_until(cut + Duration::from_millis(700)).await;
    let error = read(&near, &key, stale(500)).await.expect_err("it knows of nothing so young, and reaches nobody");
    assert!(error.kind().is_retryable() || error.kind() == ErrorKind::DeadlineExceeded, "{error}");
    assert_eq!(read(&near, &key, stale(30_000)).await.expect("old enough is good enough"), 1);
    cluster.network.heal();
    assert_eq!(read(&near, &key, stale(0)).await.expect("the leader answers"), 2);
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let before = asked();
        let found = read(&near, &key, stale(500)).await.expect("an answer");
        if asked() == before {
            assert_eq!(found, 2, "fresh again");
            break;
        }
        assert!(Instant::now() < deadline, "the replica does not become fresh again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
