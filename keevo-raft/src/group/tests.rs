//! Votes and leases: who has promised a leader its lease elects nobody else meanwhile, not even after a restart. Writes:
//! each is answered, whatever becomes of the replica.

use std::time::Duration;

use bytes::Bytes;
use keevo_core::{Batch, ClientId, Command, Consistency, Engine, ErrorKind, KeyspaceKind, ShardId};
use openraft::raft::VoteRequest;

use super::Group;
use crate::messages;
use crate::testing::crash::CrashCluster;
use crate::types::{TypeConfig, Vote, log_id};

const SHARD: ShardId = ShardId(1);

/// Asks for a vote as a candidate of the next term whose log is ahead of everybody's.
fn request(group: &Group, candidate: u64) -> Bytes {
    let term = group.metrics().vote.leader_id.term;
    let request: VoteRequest<TypeConfig> = VoteRequest {
        vote: Vote::new(term + 1, candidate),
        last_log_id: Some(log_id(term, candidate, 1_000_000)),
        leadership_transfer: false,
    };
    messages::encode_vote_request(&request)
}

async fn is_granted(group: &Group, candidate: u64, pre_vote: bool) -> keevo_core::Result<bool> {
    let answer = group.vote(&request(group, candidate), pre_vote).await?;
    Ok(messages::decode_vote_answer(&answer).expect("an answer").vote_granted)
}

/// The leader of the shard, and the other two.
async fn roles(cluster: &CrashCluster) -> (u64, u64, u64) {
    let leader = cluster.leader(SHARD).await;
    let others: Vec<u64> = (1..=3).filter(|id| *id != leader).collect();
    (leader, others[0], others[1])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cluster_a_follower_with_a_live_lease_elects_nobody_else() {
    let dir = tempfile::tempdir().expect("a folder");
    let cluster = CrashCluster::start(dir.path(), 3, 1).await;
    let (leader, follower, third) = roles(&cluster).await;
    let group = cluster.node(follower).inner.group(SHARD).expect("a replica");
    let candidate = cluster.node(third).inner.group(SHARD).expect("a replica").replica();
    for pre_vote in [true, false] {
        assert!(!is_granted(&group, candidate, pre_vote).await.expect("an answer"), "pre-vote: {pre_vote}");
    }
    // Its lease runs out, and nobody renews it.
    cluster.network.cut(leader, follower);
    cluster.network.cut(third, follower);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !is_granted(&group, candidate, true).await.expect("an answer") {
        assert!(tokio::time::Instant::now() < deadline, "the lease never ends");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// openraft restores the vote without the lease that came with it: a replica that restarted would help elect another
/// leader while the old one still reads by its lease.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cluster_a_restarted_replica_keeps_the_promise_that_it_forgot() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut cluster = CrashCluster::start(dir.path(), 3, 1).await;
    let (leader, follower, third) = roles(&cluster).await;
    let candidate = cluster.node(third).inner.group(SHARD).expect("a replica").replica();
    let promised = cluster.timing.lease_max();
    cluster.crash(follower).await;
    cluster.network.cut(leader, follower);
    cluster.network.cut(third, follower);
    let restarted = tokio::time::Instant::now();
    cluster.start_node(follower).await;
    let group = cluster.node(follower).inner.group(SHARD).expect("a replica");
    loop {
        for pre_vote in [true, false] {
            match is_granted(&group, candidate, pre_vote).await {
                Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}"),
                Ok(granted) => {
                    assert!(granted, "it votes again, and nobody holds it back");
                    assert!(restarted.elapsed() >= promised, "it voted after {:?}", restarted.elapsed());
                    return;
                }
            }
        }
        assert!(restarted.elapsed() < Duration::from_secs(10), "it never votes again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A core that stops answers one write of a batch and ends; asking it for the next answer was a panic, after which the
/// group took no more proposals. Found by the simulator (a log that fails under load).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cluster_every_write_of_a_batch_is_answered_when_the_log_fails() {
    let dir = tempfile::tempdir().expect("a folder");
    let cluster = CrashCluster::start(dir.path(), 1, 1).await;
    let leader = cluster.leader(SHARD).await;
    let group = cluster.node(leader).inner.group(SHARD).expect("a replica");
    let write = |number: u128| {
        let group = std::sync::Arc::clone(&group);
        async move { group.propose(Command::OpenSession(ClientId(number)), Duration::from_secs(20)).await }
    };
    cluster.log(leader).hold_syncs();
    let writes: Vec<_> = (1..=64).map(|number| tokio::spawn(write(number))).collect();
    while cluster.log(leader).unsynced() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    cluster.log(leader).fail();
    for answer in writes {
        let error = answer.await.expect("no panic").expect_err("nothing was durable");
        assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error}");
    }
    let error = write(65).await.expect_err("the replica has stopped");
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "the way in is still there: {error}");
}

/// A follower hears that an entry is committed, applies it and shows it. A leader that is slower to apply it answered by its
/// lease from before it: a read that went back. Found by reads on all nodes while leaders changed (keevo-raft/tests/reads.rs).
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn cluster_a_leader_that_applies_late_shows_nothing_older_than_its_followers() {
    let dir = tempfile::tempdir().expect("a folder");
    let cluster = CrashCluster::start(dir.path(), 3, 1).await;
    let (leader, follower, _) = roles(&cluster).await;
    let keyspace = cluster.engine(1).keyspace("k", KeyspaceKind::Hashed).await.expect("the keyspace");
    let engine = cluster.engine(leader);
    let key = || keyspace.key("p", "register");
    engine.write(Batch::new().put(key(), "old")).await.expect("written");
    let get = async |limit| engine.clone().with_deadline(limit).get(key(), Consistency::Linearizable).await;
    assert_eq!(get(Duration::from_secs(5)).await.expect("read").expect("there").value, "old");
    let group = |node: u64| cluster.node(node).inner.group(SHARD).expect("a replica");
    // Whoever applies waits for the machine.
    let (shared, (go_on_tx, go_on_rx), (held_tx, held_rx)) =
        (std::sync::Arc::clone(&group(leader).shared), std::sync::mpsc::channel(), std::sync::mpsc::channel());
    let holding = std::thread::spawn(move || {
        let _machine = shared.lock();
        held_tx.send(()).expect("heard");
        go_on_rx.recv().expect("told to go on");
    });
    held_rx.recv().expect("held");
    let before = group(follower).reader().applied();
    let write = tokio::spawn({
        let (engine, batch) = (engine.clone(), Batch::new().put(key(), "new"));
        async move { engine.write(batch).await }
    });
    while group(follower).reader().applied() == before {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let early = get(Duration::from_millis(300)).await;
    go_on_tx.send(()).expect("heard");
    holding.join().expect("it ended well");
    assert!(early.is_err(), "the follower shows the new value already: {early:?}");
    write.await.expect("it ran").expect("written");
    assert_eq!(get(Duration::from_secs(5)).await.expect("read").expect("there").value, "new");
}
