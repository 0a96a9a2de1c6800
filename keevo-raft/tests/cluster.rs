//! Clusters of real stores in one process: failover, snapshots, membership, nothing lost and nothing twice.

#![cfg(feature = "rocksdb")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use keevo_core::key_file::{KeyFile, KeyRing, SecretKey};
use keevo_core::{Batch, Consistency, Engine, ErrorKind, Keyspace, KeyspaceKind, Scan, ShardId};
use keevo_raft::Timing;
use keevo_raft::testing::cluster::TestCluster;

async fn counters(engine: &impl Engine) -> Keyspace {
    engine.keyspace("counters", KeyspaceKind::Hashed).await.expect("the keyspace")
}

/// Writes to many partitions until told to stop; every write adds one and records its number, so that a lost
/// write or one applied twice shows in the sums.
fn load(
    engine: impl Engine,
    keyspace: Keyspace,
    writer: u64,
    stop: Arc<AtomicBool>,
    acked: Arc<AtomicU64>,
) -> tokio::task::JoinHandle<Vec<(u64, u64)>> {
    tokio::spawn(async move {
        let mut written = Vec::new();
        let mut number = 0;
        while !stop.load(Ordering::Relaxed) {
            let partition = format!("p{}", (writer * 7 + number) % 40);
            let batch = Batch::new()
                .merge(keyspace.key(partition.clone(), "sum"), 1)
                .put(keyspace.key(partition, format!("w{writer:03}-{number:06}")), "x");
            match engine.write(batch).await {
                Ok(_) => {
                    written.push((writer, number));
                    acked.fetch_add(1, Ordering::Relaxed);
                }
                // The cluster may be without a leader for longer than the deadline; such a write counts as unknown.
                Err(error) => panic!("write {number} of {writer}: {error}"),
            }
            number += 1;
        }
        written
    })
}

async fn check(engine: &impl Engine, keyspace: Keyspace, acked: &BTreeSet<(u64, u64)>) {
    let mut found = BTreeSet::new();
    let mut sums = 0;
    for partition in 0..40 {
        let partition = format!("p{partition}");
        let mut marks = 0;
        let mut after = None;
        loop {
            let scan = Scan::prefix(keyspace, partition.clone(), "w", 1_000).after(after);
            let page = engine.scan(scan).await.expect("a page");
            for (key, _) in &page.records {
                let text = std::str::from_utf8(&key.sort).expect("ascii");
                let (writer, number) = text[1..].split_once('-').expect("two parts");
                found.insert((writer.parse::<u64>().expect("a number"), number.parse::<u64>().expect("a number")));
                marks += 1;
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let sum = engine.get(keyspace.key(partition.clone(), "sum"), Consistency::Linearizable).await.expect("read");
        let sum = sum.map_or(0, |record| i64::from_be_bytes(record.value.as_ref().try_into().expect("8 bytes")));
        assert_eq!(sum, marks, "partition {partition}: a write was applied twice or in half");
        sums += sum;
    }
    let lost: Vec<_> = acked.difference(&found).collect();
    assert!(lost.is_empty(), "acknowledged writes are lost: {lost:?}");
    assert!(sums > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_leader_loses_nothing_and_the_node_comes_back_equal() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut cluster = TestCluster::start(dir.path(), 3, 4).await;
    let keyspace = counters(&cluster.engine(1)).await;
    let stop = Arc::new(AtomicBool::new(false));
    let acked = Arc::new(AtomicU64::new(0));
    let victim = cluster.leader(ShardId(1)).await;
    let others: Vec<u64> = (1..=3).filter(|id| *id != victim).collect();
    let writers: Vec<_> = (0..6)
        .map(|writer| {
            let through = others[usize::try_from(writer).expect("small") % 2];
            load(cluster.engine(through), keyspace, writer, Arc::clone(&stop), Arc::clone(&acked))
        })
        .collect();
    wait_for(&acked, 300).await;
    cluster.kill_node(victim).await;
    let before = acked.load(Ordering::Relaxed);
    wait_for(&acked, before + 300).await;
    cluster.start_node(victim, false).await;
    wait_for(&acked, acked.load(Ordering::Relaxed) + 300).await;
    stop.store(true, Ordering::Relaxed);
    let mut written = BTreeSet::new();
    for writer in writers {
        written.extend(writer.await.expect("the writer ends well"));
    }
    cluster.ready().await;
    for id in 1..=3 {
        check(&cluster.engine(id), keyspace, &written).await;
    }
    assert_eq!(cluster.hashes_agree(1).await, 5);
    cluster.stop().await;
}

async fn wait_for(counter: &AtomicU64, at_least: u64) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while counter.load(Ordering::Relaxed) < at_least {
        assert!(tokio::time::Instant::now() < deadline, "only {} writes", counter.load(Ordering::Relaxed));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_nodes_restart_and_everything_is_there() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut cluster = TestCluster::start(dir.path(), 3, 4).await;
    let keyspace = counters(&cluster.engine(1)).await;
    for number in 0..200_u32 {
        let key = keyspace.key(format!("k{number}"), "v");
        cluster.engine(1).write(Batch::new().put(key, number.to_string())).await.expect("written");
    }
    for id in 1..=3 {
        cluster.stop_node(id).await;
    }
    for id in 1..=3 {
        cluster.start_node(id, false).await;
    }
    cluster.ready().await;
    for number in 0..200_u32 {
        let key = keyspace.key(format!("k{number}"), "v");
        let found = cluster.engine(2).get(key, Consistency::Linearizable).await.expect("read").expect("there");
        assert_eq!(found.value, number.to_string());
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_far_behind_is_mended_by_a_snapshot_and_watches_say_so() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut cluster = TestCluster::start(dir.path(), 3, 1).await;
    let keyspace = counters(&cluster.engine(1)).await;
    let victim = (1..=3).find(|id| *id != 1).expect("there are three");
    cluster.stop_node(victim).await;
    for number in 0..3_000_u32 {
        let key = keyspace.key(format!("k{}", number % 100), format!("{number}"));
        cluster.engine(1).write(Batch::new().put(key, vec![b'x'; 100])).await.expect("written");
    }
    // Two flushes: the first tells openraft how far the data is durable, and the log behind it goes.
    for id in (1..=3).filter(|id| *id != victim) {
        cluster.node(id).flush().await.expect("flushed");
    }
    let leader = cluster.leader(ShardId(1)).await;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        let purged = cluster.node(leader).replicas().iter().find(|one| one.shard == ShardId(1)).expect("here").purged;
        if purged > 1_500 {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "the log was not purged: {purged}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    cluster.start_node(victim, false).await;
    cluster.ready().await;
    assert_eq!(cluster.hashes_agree(victim).await, 2);
    cluster.stop().await;
}

/// Values travel sealed: a node that lacks a key takes no snapshot, and says which; with it, it does. No file of any node shows
/// a value.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cluster_a_snapshot_of_sealed_values_takes_their_keys() {
    const SECRET: &[u8] = b"this-is-what-nobody-may-read";
    let dir = tempfile::tempdir().expect("a folder");
    let files = tempfile::tempdir().expect("a folder");
    let ring = |name: &str, file: &KeyFile| {
        let path = files.path().join(name);
        std::fs::write(&path, file.text()).expect("written");
        Arc::new(KeyRing::open("data_key_file", &path).expect("a key file"))
    };
    let mut file = KeyFile::new(SecretKey([1; 32]));
    let mut cluster = TestCluster::prepare(dir.path(), 3, 1, Timing::quick());
    let (shared, lacking) = (ring("shared", &file), ring("lacking", &file));
    for id in 1..=3 {
        cluster.keys.insert(id, if id == 3 { Arc::clone(&lacking) } else { Arc::clone(&shared) });
        cluster.start_node(id, false).await;
    }
    cluster.ready().await;
    let keyspace = counters(&cluster.engine(1)).await;
    cluster.stop_node(3).await;
    // A key that node 3 does not get.
    file.add(SecretKey([2; 32])).expect("room");
    std::fs::write(files.path().join("shared"), file.text()).expect("written");
    for number in 0..3_000_u32 {
        let key = keyspace.key(format!("k{}", number % 100), format!("{number}"));
        cluster.engine(1).write(Batch::new().put(key, SECRET)).await.expect("written");
    }
    for id in 1..=2 {
        cluster.node(id).flush().await.expect("flushed");
    }
    let leader = cluster.leader(ShardId(1)).await;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while cluster.node(leader).replicas().iter().find(|one| one.shard == ShardId(1)).expect("here").purged <= 1_500 {
        assert!(tokio::time::Instant::now() < deadline, "the log was not purged");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    cluster.start_node(3, false).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let applied = |cluster: &TestCluster| {
        let replicas = cluster.node(3).replicas();
        replicas.iter().find(|one| one.shard == ShardId(1)).map_or(0, |one| one.applied)
    };
    assert!(applied(&cluster) < 1_500, "a snapshot was taken whose values cannot be opened");
    std::fs::write(files.path().join("lacking"), file.text()).expect("written");
    cluster.ready().await;
    assert_eq!(cluster.hashes_agree(3).await, 2);
    for id in 1..=3 {
        cluster.node(id).flush().await.expect("flushed");
    }
    cluster.stop().await;
    assert!(!shows(dir.path(), SECRET));
}

/// Whether a file below a folder shows these bytes.
fn shows(folder: &std::path::Path, wanted: &[u8]) -> bool {
    std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("read").path()).any(|path| {
        if path.is_dir() {
            return shows(&path, wanted);
        }
        std::fs::read(&path).expect("read").windows(wanted.len()).any(|part| part == wanted)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_node_is_refused_and_a_new_one_takes_its_place() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut cluster = TestCluster::start(dir.path(), 3, 2).await;
    let keyspace = counters(&cluster.engine(1)).await;
    for number in 0..100_u32 {
        let key = keyspace.key(format!("k{number}"), "v");
        cluster.engine(1).write(Batch::new().put(key, "x")).await.expect("written");
    }
    cluster.stop_node(3).await;
    cluster.wipe_node(3);
    cluster.start_node(3, false).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(cluster.node(3).cluster(), None, "a wiped node must not take part under its old id");
    cluster.stop_node(3).await;
    let admin = cluster.engine(1).with_deadline(Duration::from_secs(30));
    admin.remove(3).await.expect("removed");
    cluster.start_node(4, true).await;
    admin.join(4, "node-4:7000").await.expect("joined");
    cluster.ready().await;
    let (map, nodes) = admin.cluster_status().await.expect("a status");
    assert_eq!(map.nodes.keys().copied().collect::<Vec<_>>(), [1, 2, 4]);
    assert!(nodes.iter().all(|node| node.alive && node.replicas.len() == 3), "{nodes:?}");
    assert_eq!(cluster.hashes_agree(4).await, 3);
    admin.transfer(ShardId(1), 4).await.expect("transferred");
    assert_eq!(cluster.leader(ShardId(1)).await, 4);
    drop(admin);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_quorum_writes_and_reads_fail_clearly_and_go_on_after_the_heal() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut cluster = TestCluster::start(dir.path(), 3, 1).await;
    let keyspace = counters(&cluster.engine(1)).await;
    let key = keyspace.key("p", "k");
    cluster.engine(1).write(Batch::new().put(key.clone(), "before")).await.expect("written");
    cluster.stop_node(2).await;
    cluster.stop_node(3).await;
    // Longer than a leader's lease, so that a leader that was left alone knows it, and takes no write in.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let engine = cluster.engine(1).with_deadline(Duration::from_secs(3));
    let write = engine.write(Batch::new().put(key.clone(), "during")).await.expect_err("no quorum");
    assert_eq!(write.kind(), ErrorKind::NoQuorum, "{write}");
    let read = engine.get(key.clone(), Consistency::Linearizable).await.expect_err("no quorum");
    assert_eq!(read.kind(), ErrorKind::NoQuorum, "{read}");
    let hurried = engine.with_deadline(Duration::from_millis(400));
    let read = hurried.get(key.clone(), Consistency::Linearizable).await.expect_err("no quorum");
    assert_eq!(read.kind(), ErrorKind::NoQuorum, "however little time there is: {read}");
    drop(hurried);
    cluster.start_node(2, false).await;
    cluster.ready().await;
    let found = cluster.engine(1).get(key, Consistency::Linearizable).await.expect("read").expect("there");
    assert_eq!(found.value, "before", "a write that was refused for want of a quorum was not applied");
    cluster.stop().await;
}

/// A replica that came by a snapshot knows its group from the snapshot's rows alone; with a stale membership (openraft's
/// issue 1808) it would count a quorum among nodes that are gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_came_by_a_snapshot_knows_its_group() {
    let dir = tempfile::tempdir().expect("a folder");
    let timing = Timing { log_entries_kept: 0, ..Timing::quick() };
    let mut cluster = TestCluster::start_with(dir.path(), 3, 1, timing).await;
    let keyspace = counters(&cluster.engine(1)).await;
    let key = |number: u32| keyspace.key(format!("p{}", number % 7), format!("{number}"));
    for number in 0..600 {
        cluster.engine(1).write(Batch::new().put(key(number), "x")).await.expect("written");
    }
    let shard = ShardId(1);
    let purged = |cluster: &TestCluster, id| {
        cluster.node(id).replicas().into_iter().find(|one| one.shard == shard).map_or(0, |one| one.purged)
    };
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while (1..=2).any(|id| purged(&cluster, id) == 0) {
        assert!(tokio::time::Instant::now() < deadline, "the logs were not purged");
        for id in 1..=2 {
            cluster.node(id).flush().await.expect("flushed");
        }
    }
    let admin = cluster.engine(1).with_deadline(Duration::from_secs(30));
    admin.remove(3).await.expect("removed");
    cluster.stop_node(3).await;
    cluster.start_node(4, true).await;
    admin.join(4, "node-4:7000").await.expect("joined");
    assert!(purged(&cluster, 4) > 0, "node 4 has its data from a snapshot");
    cluster.kill_node(4).await;
    cluster.start_node(4, false).await;
    cluster.ready().await;
    cluster.kill_node(2).await;
    // Only 1 and 4 are left of the three: each needs the other, and only the new membership says so.
    let engine = cluster.engine(4).with_deadline(Duration::from_secs(30));
    engine.write(Batch::new().put(key(1_000), "x")).await.expect("two of three are a quorum");
    cluster.kill_node(1).await;
    let alone = cluster.engine(4).with_deadline(Duration::from_secs(2));
    alone.write(Batch::new().put(key(1_001), "x")).await.expect_err("one of three is none");
    drop((admin, engine, alone));
    cluster.start_node(1, false).await;
    cluster.start_node(2, false).await;
    cluster.ready().await;
    assert_eq!(cluster.hashes_agree(4).await, 2);
    cluster.stop().await;
}

/// Openraft's issue 2080: a leader whose appends arrive and whose answers are lost keeps its followers from electing
/// another, though it can commit nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_hears_no_answers_makes_way() {
    let dir = tempfile::tempdir().expect("a folder");
    let cluster = TestCluster::start(dir.path(), 3, 1).await;
    let keyspace = counters(&cluster.engine(1)).await;
    let leader = cluster.leader(ShardId(1)).await;
    let others: Vec<u64> = (1..=3).filter(|id| *id != leader).collect();
    for other in &others {
        cluster.network.cut(*other, leader);
    }
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while !others.iter().any(|id| cluster.leads(*id, ShardId(1))) {
        assert!(tokio::time::Instant::now() < deadline, "the two that hear each other have no leader");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let engine = cluster.engine(others[0]).with_deadline(Duration::from_secs(20));
    engine.write(Batch::new().put(keyspace.key("p", "k"), "x")).await.expect("written");
    cluster.network.heal();
    cluster.ready().await;
    cluster.stop().await;
}
