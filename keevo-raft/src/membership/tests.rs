//! Changes of the members that are cut off between their steps, and that come at the same time.

use std::collections::BTreeSet;
use std::time::Duration;

use keevo_core::{Batch, Consistency, Engine, ErrorKind, Keyspace, KeyspaceKind, ShardId};

use super::operation::{Change, Ticket};
use super::{MembershipWire, join, order};
use crate::ClusterEngine;
use crate::shard_map::{NodeInfo, ReplicaRole};
use crate::testing::cluster::TestCluster;

fn address(node_id: u64) -> String {
    format!("node-{node_id}:7000")
}

/// A cluster of node 1 alone, and nodes 4 and 5 that wait to join it.
async fn founder_and_two(dir: &std::path::Path) -> TestCluster {
    let mut cluster = TestCluster::start(dir, 1, 1).await;
    cluster.start_node(4, true).await;
    cluster.start_node(5, true).await;
    cluster
}

/// The first steps of a join: into the map, and as a learner of a shard into map and group. Gives the replica's id.
async fn begin_join(cluster: &TestCluster, engine: &ClusterEngine, node_id: u64, shard: ShardId) -> (Ticket, u64) {
    let ticket = Ticket::begin(engine, Change::Join(node_id)).await.expect("nothing else is under way");
    let pair = cluster.node(node_id).inner.identity().pair;
    let info = NodeInfo { id: node_id, address: address(node_id), pair };
    let map = ticket.update(engine, |map| join::enter(map, &info)).await.expect("in the map");
    cluster.node(node_id).inner.adopt(map).await.expect("the node takes part");
    let map = engine.place_learner(&ticket, shard, node_id).await.expect("a place");
    let replica = map.shard(shard).and_then(|info| info.replica_on(node_id)).expect("a learner").id;
    let order = MembershipWire { kind: order::ADD_LEARNER, replica, node_id, address: address(node_id) };
    engine.order(&ticket, shard, &order).await.expect("a learner of the group");
    (ticket, replica)
}

/// Every shard has these voters, in the map and in its group alike, and nobody else takes part in the group.
async fn members_are(cluster: &TestCluster, nodes: &[u64]) {
    let (map, _) = cluster.engine(1).cluster_status().await.expect("a status");
    assert_eq!(map.nodes.keys().copied().collect::<Vec<_>>(), nodes);
    for shard in &map.shards {
        assert!(shard.replicas.iter().all(|one| one.role == ReplicaRole::Voter), "{shard:?}");
        let on: BTreeSet<u64> = shard.replicas.iter().map(|one| one.node_id).collect();
        assert_eq!(on, nodes.iter().copied().collect(), "shard {}", shard.id);
        let leader = cluster.leader(shard.id).await;
        let group = cluster.node(leader).inner.group(shard.id).expect("the leader's group");
        let membership = group.metrics().membership_config.membership().clone();
        let ids: BTreeSet<u64> = shard.replicas.iter().map(|one| one.id).collect();
        assert_eq!(membership.get_joint_config(), &vec![ids.clone()], "shard {}", shard.id);
        assert_eq!(membership.nodes().map(|(id, _)| *id).collect::<BTreeSet<_>>(), ids, "shard {}", shard.id);
    }
}

async fn writes_work(engine: &impl Engine) {
    let keyspace: Keyspace = engine.keyspace("test", KeyspaceKind::Hashed).await.expect("a keyspace");
    let key = keyspace.key("p", "k");
    engine.write(Batch::new().put(key.clone(), "v")).await.expect("written");
    assert!(engine.get(key, Consistency::Linearizable).await.expect("read").is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_join_that_was_cut_off_keeps_others_out_and_is_finished_by_asking_again() {
    let dir = tempfile::tempdir().expect("a folder");
    let cluster = founder_and_two(dir.path()).await;
    let engine = cluster.engine(1);
    let (ticket, replica) = begin_join(&cluster, &engine, 4, ShardId(1)).await;
    engine.wait_caught_up(ShardId(1), 4, replica).await.expect("caught up");
    let order = MembershipWire { kind: order::ADD_VOTER, replica, node_id: 4, address: address(4) };
    engine.order(&ticket, ShardId(1), &order).await.expect("a voter of the group");
    // Here the node that carried it out is cut off: the group has two voters, the map knows of one.
    for other in [engine.join(5, &address(5)).await, engine.remove(1).await] {
        let error = other.expect_err("one change at a time");
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.message().contains("the joining of node 4"), "{error}");
    }
    engine.join(4, &address(4)).await.expect("finished");
    members_are(&cluster, &[1, 4]).await;
    let late = ticket.update(&engine, |_map| Ok(())).await.expect_err("the change is another's");
    assert_eq!(late.kind(), ErrorKind::Conflict);
    let late = engine.order(&ticket, ShardId(1), &order).await.expect_err("the change is another's");
    assert_eq!(late.kind(), ErrorKind::Conflict);
    engine.join(5, &address(5)).await.expect("joined");
    engine.join(5, &address(5)).await.expect("nothing is left to do");
    members_are(&cluster, &[1, 4, 5]).await;
    writes_work(&cluster.engine(5)).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_join_at_the_same_time_do_not_push_each_other_out() {
    let dir = tempfile::tempdir().expect("a folder");
    let cluster = founder_and_two(dir.path()).await;
    let join = |node_id: u64| {
        let engine = cluster.engine(1);
        async move {
            let mut refused = 0;
            loop {
                match engine.join(node_id, &address(node_id)).await {
                    Ok(()) => return refused,
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}"),
                }
                refused += 1;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    };
    let (first, second) = tokio::join!(join(4), join(5));
    assert!(first + second > 0, "they did not overlap");
    members_are(&cluster, &[1, 4, 5]).await;
    assert_eq!(cluster.hashes_agree(1).await, 2);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_join_whose_node_has_died_is_undone_by_removing_the_node() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut cluster = founder_and_two(dir.path()).await;
    let engine = cluster.engine(1);
    begin_join(&cluster, &engine, 4, ShardId(1)).await;
    cluster.stop_node(4).await;
    assert_eq!(engine.join(5, &address(5)).await.expect_err("under way").kind(), ErrorKind::Unavailable);
    engine.remove(4).await.expect("removed");
    engine.remove(4).await.expect("nothing is left to do");
    engine.join(5, &address(5)).await.expect("joined");
    members_are(&cluster, &[1, 5]).await;
    assert_eq!(engine.remove(77).await.expect_err("no such node").kind(), ErrorKind::NotFound);
    // A join that did not get as far as the map.
    Ticket::begin(&engine, Change::Join(88)).await.expect("begun");
    assert_eq!(engine.remove(88).await.expect_err("no such node").kind(), ErrorKind::NotFound);
    engine.remove(5).await.expect("the change is over");
    assert_eq!(engine.remove(1).await.expect_err("the last replicas").kind(), ErrorKind::Conflict);
    writes_work(&engine).await;
    drop(engine);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_goes_to_voters_only_and_stays_where_it_is_without_harm() {
    let dir = tempfile::tempdir().expect("a folder");
    let cluster = founder_and_two(dir.path()).await;
    let engine = cluster.engine(1);
    writes_work(&engine).await;
    engine.transfer(ShardId(1), 1).await.expect("it leads already");
    let (ticket, replica) = begin_join(&cluster, &engine, 4, ShardId(1)).await;
    assert_eq!(engine.transfer(ShardId(1), 4).await.expect_err("a learner").kind(), ErrorKind::NotFound);
    // Nor does the leader itself take such an order, or one that names itself.
    let order = |replica| MembershipWire { kind: order::TRANSFER, replica, ..MembershipWire::default() };
    let refused = engine.order(&ticket, ShardId(1), &order(replica)).await.expect_err("a learner");
    assert_eq!(refused.kind(), ErrorKind::NotFound);
    let own = cluster.node(1).inner.group(ShardId(1)).expect("here").replica();
    engine.order(&ticket, ShardId(1), &order(own)).await.expect("nothing is left to do");
    writes_work(&engine).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_replica_has_not_caught_up_while_nobody_says_with_what() {
    let dir = tempfile::tempdir().expect("a folder");
    let cluster = founder_and_two(dir.path()).await;
    let (_ticket, replica) = begin_join(&cluster, &cluster.engine(1), 4, ShardId(1)).await;
    cluster.network.cut(4, 1);
    let engine = cluster.engine(4);
    let wait = engine.wait_caught_up(ShardId(1), 4, replica);
    assert!(tokio::time::timeout(Duration::from_millis(700), wait).await.is_err(), "the leader was not asked");
    cluster.network.heal();
    engine.wait_caught_up(ShardId(1), 4, replica).await.expect("now it has");
    drop(engine);
    cluster.stop().await;
}
