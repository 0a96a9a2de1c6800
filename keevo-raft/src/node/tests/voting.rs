//! Who may vote: nobody that has just started, and nobody whose stores have lost what it once promised.

use std::time::Duration;

use bytes::Bytes;
use keevo_core::{ErrorKind, Result, ShardId};
use openraft::raft::VoteRequest;
use tokio::time::Instant;

use super::all_shards_work;
use crate::messages;
use crate::node::Node;
use crate::testing::cluster::TestCluster;
use crate::transport::{PeerCall, PeerHandler, PeerRequest};
use crate::types::{Vote, log_id};

const SHARD: ShardId = ShardId(1);

/// What a node answers to a candidate of a far later term with a far longer log.
async fn ask_for_a_vote(node: &Node, call: PeerCall) -> Result<Bytes> {
    let vote = Vote::new(1_000, 99);
    let request = VoteRequest { vote, last_log_id: Some(log_id(999, 99, 1_000_000)), leadership_transfer: false };
    let body = messages::encode_vote_request(&request);
    node.handle(PeerRequest { call, cluster: node.cluster(), shard: SHARD, replica: 0, body }).await
}

/// Openraft restores a vote without its lease: a replica that has restarted would help to elect a new leader while the
/// old one still serves reads by the lease that this very replica had granted it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_has_just_started_does_not_vote_before_every_lease_has_run_out() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut cluster = TestCluster::start(dir.path(), 3, 1).await;
    let lease = cluster.timing.lease_max();
    let follower = (1..=3).find(|id| !cluster.leads(*id, SHARD)).expect("two do not lead");
    cluster.kill_node(follower).await;
    let started = Instant::now();
    cluster.start_node(follower, false).await;
    for call in [PeerCall::Vote, PeerCall::PreVote] {
        let refused = ask_for_a_vote(cluster.node(follower), call).await.expect_err("it has just started");
        assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused}");
        assert!(refused.message().contains("does not vote yet"), "{refused}");
    }
    while ask_for_a_vote(cluster.node(follower), PeerCall::PreVote).await.is_err() {
        assert!(started.elapsed() < 20 * lease, "it votes again some time");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(started.elapsed() >= lease, "it voted {:?} after its start", started.elapsed());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_have_just_started_elect_nobody_before_every_lease_has_run_out() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut cluster = TestCluster::start(dir.path(), 3, 1).await;
    let lease = cluster.timing.lease_max();
    for id in 1..=3 {
        cluster.kill_node(id).await;
    }
    cluster.start_node(1, false).await;
    let started = Instant::now();
    cluster.start_node(2, false).await;
    while ![1, 2].into_iter().any(|id| cluster.leads(id, SHARD)) {
        assert!(started.elapsed() < 20 * lease, "the two are a quorum");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(started.elapsed() >= lease, "a leader {:?} after the start of the second", started.elapsed());
    all_shards_work(&cluster.engine(1)).await;
    cluster.stop().await;
}

/// With the node file and the log in place, an empty data store was taken for that of a new replica: its log, vote
/// included, was destroyed, and the replica took part under its old id.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_data_store_was_lost_does_not_start() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut cluster = TestCluster::start(dir.path(), 3, 1).await;
    all_shards_work(&cluster.engine(1)).await;
    cluster.stop_node(3).await;
    cluster.lose_store(3, "data");
    let refused = cluster.try_start_node(3, false).await.expect_err("its data is lost");
    assert_eq!(refused.kind(), ErrorKind::Corrupt, "{refused}");
    assert!(refused.message().contains("data store is empty"), "{refused}");
    let (_, log) = cluster.open_stores(3).await;
    assert!(log.vote(SHARD.0).expect("readable").is_some(), "the log is left as it is");
    drop(log);
    all_shards_work(&cluster.engine(1)).await;
    cluster.stop().await;
}

/// A replica whose log had been replaced by an empty one went on from its data without the vote that it had cast.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_whose_log_was_lost_is_reported_and_does_not_vote() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut cluster = TestCluster::start(dir.path(), 3, 1).await;
    all_shards_work(&cluster.engine(1)).await;
    cluster.stop_node(3).await;
    cluster.lose_store(3, "log");
    cluster.start_node(3, false).await;
    let replicas = cluster.node(3).replicas();
    assert!(replicas.iter().all(|one| one.fault.contains("its log is lost")), "{replicas:?}");
    assert!(ask_for_a_vote(cluster.node(3), PeerCall::Vote).await.is_err());
    all_shards_work(&cluster.engine(1)).await;
    cluster.stop().await;
}
