//! API calls in the log: a call's envelope is on every replica, whichever node was called, and the clocks follow the calls.

use std::sync::Arc;
use std::time::Duration;

use keevo_core::call::{Call, CallDoor, CallId, CallLog, CallRequest, EntryNote, NewCall, Outcomes};
use keevo_core::{
    Batch, Check, Engine, ErrorKind, FanOut, FanOutAction, Hlc, KeyspaceKind, SeededRandom, ShardId, SystemClock,
    Target,
};
use keevo_raft::Node;
use keevo_raft::testing::cluster::TestCluster;

const SHARDS: u32 = 3;

fn begin(log: &CallLog, request: CallRequest) -> Arc<Call> {
    let (principal, method) = ("somebody".to_owned(), "a.B/C".to_owned());
    let new = NewCall { door: CallDoor::Grpc, app: None, principal, method, request, redacted: false };
    log.begin(new).expect("it is on")
}

/// What the logs of a node say of calls: clock, call and attempt, or how calls ended.
async fn read(node: &Node) -> (Vec<(Hlc, CallId, u32)>, Vec<(CallId, String)>) {
    let (mut calls, mut failed) = (Vec::new(), Vec::new());
    for shard in (0..=u64::from(SHARDS)).map(ShardId) {
        let mut from = 0;
        loop {
            let page = node.calls(shard, from).await.expect("a replica is here");
            for call in page.calls {
                match call.note {
                    EntryNote::Call { envelope, attempt } => calls.push((call.entry.hlc, envelope.id, attempt)),
                    EntryNote::Outcomes(outcomes) => failed.extend(outcomes.0),
                }
            }
            if page.next >= page.end {
                break;
            }
            from = page.next;
        }
    }
    calls.sort();
    (calls, failed)
}

/// Waits until all nodes have in their logs as many calls as there are.
async fn agreed(cluster: &TestCluster, count: usize) -> Vec<(Hlc, CallId, u32)> {
    for _ in 0..200 {
        let mut all = Vec::new();
        for id in 1..=3 {
            all.push(read(cluster.node(id)).await.0);
        }
        if all.iter().all(|one| one.len() == count && Some(one) == all.first()) {
            return all.swap_remove(0);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the nodes do not come to agree on {count} calls");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cluster_a_call_is_in_every_log_and_its_clock_follows_those_before_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let cluster = TestCluster::start(dir.path(), 3, SHARDS).await;
    let keyspace = cluster.engine(1).keyspace("k", KeyspaceKind::Hashed).await.expect("made");
    let log = CallLog::new(9, true, Arc::new(SystemClock::new()), Arc::new(SeededRandom::new(1)));
    let mut made = Vec::new();
    // One call after the other at one node, over all shards, which several nodes lead.
    let engine = cluster.engine(1);
    for number in 0..60_u64 {
        let call = begin(&log, CallRequest::Body("request".into()));
        let write = Batch::new().put(keyspace.key(format!("p{number}"), "a"), "v");
        let second = Batch::new().put(keyspace.key(format!("q{number}"), "a"), "v");
        call.run(async {
            engine.write(write).await.expect("written");
            engine.write(second).await.expect("written");
        })
        .await;
        made.push(call.envelope().id);
    }
    let calls = agreed(&cluster, made.len()).await;
    let in_order: Vec<CallId> = calls.iter().map(|(_, id, _)| *id).collect();
    assert_eq!(in_order, made, "a call that follows another has the later clock");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cluster_a_refused_write_leaves_the_note_to_the_next_one() {
    let dir = tempfile::tempdir().expect("a folder");
    let cluster = TestCluster::start(dir.path(), 3, SHARDS).await;
    let engine = cluster.engine(2);
    let keyspace = engine.keyspace("k", KeyspaceKind::Hashed).await.expect("made");
    let log = CallLog::new(9, true, Arc::new(SystemClock::new()), Arc::new(SeededRandom::new(1)));
    let key = keyspace.key("p", "a");
    let call = begin(&log, CallRequest::Body("request".into()));
    call.run(async {
        let refused = engine.write(Batch::new().put(key.clone(), "v").require(key.clone(), Check::Exists)).await;
        assert_eq!(refused.expect_err("it is absent").kind(), ErrorKind::Conflict);
        engine.write(Batch::new().put(key.clone(), "v")).await.expect("written");
        engine.write(Batch::new().put(key.clone(), "w")).await.expect("written");
    })
    .await;
    let attempts: Vec<u32> = agreed(&cluster, 2).await.iter().map(|(_, _, attempt)| *attempt).collect();
    assert_eq!(attempts, [0, 1]);

    let targets = (0..40).map(|number| Target { partition: format!("f{number}").into(), guard: None }).collect();
    let action = FanOutAction::Put { value: "v".into(), ttl_ms: None };
    let fan_out = FanOut { keyspace, sort: "s".into(), action, guard_sort: None, targets };
    let told = begin(&log, CallRequest::Command);
    told.run(engine.fan_out(fan_out)).await.expect("told");
    let calls = agreed(&cluster, 2 + 3).await;
    assert_eq!(calls.iter().filter(|(_, id, _)| *id == told.envelope().id).count(), 3, "a record in each shard");

    let shard = call.home().expect("it was written");
    let outcomes = Outcomes(vec![(call.envelope().id, "CONFLICT".to_owned())]);
    engine.note_outcomes(shard, outcomes.clone()).await.expect("noted");
    let leader = cluster.leader(shard).await;
    // How far a node has applied is told a moment after the answer.
    let mut failed = Vec::new();
    for _ in 0..200 {
        failed = read(cluster.node(leader)).await.1;
        if !failed.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(failed, outcomes.0);
    cluster.stop().await;
}
