//! Nodes that are missing, late, or not there yet.

use std::fmt::Debug;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use keevo_core::ErrorKind;
use keevo_proto::admin::v1 as admin;
use keevo_proto::admin::v1::admin_client::AdminClient;
use keevo_proto::error_from_status;
use keevo_proto::kv::v1 as pb;
use keevo_proto::kv::v1::kv_client::KvClient;
use tokio::time::{Instant, sleep};
use tonic::transport::Endpoint;
use tonic::{Response, Status};

use super::daemon::{Keevod, free_addresses};
use super::golden::Golden;
use super::wire::{Wire, get, put, write};

pub(crate) async fn run() -> Golden {
    let dir = tempfile::tempdir().expect("a folder");
    let mut golden = Golden::default();
    not_founded(&mut golden, dir.path()).await;
    let (grpc, http) = (free_addresses(3), free_addresses(3));
    let mut nodes: Vec<Keevod> = (0..3).map(|at| member(dir.path(), at, &grpc, http[at])).collect();
    for node in &nodes {
        node.serves().await;
    }
    let wire = Wire::connect(&nodes[0]).await;
    wire.good_input_still_works().await;
    lead(&wire, 2).await;
    wire.good_input_still_works().await;
    golden.hide(grpc[1].to_string(), "ADDRESS");
    golden.hide(grpc[2].to_string(), "ADDRESS");
    late(&mut golden, &wire, &nodes[1]).await;
    drop(nodes.drain(1..));
    for dead in ["node 2", "node 3"] {
        golden.hide(dead, "node N");
    }
    without_a_quorum(&mut golden, &wire).await;
    assert!(nodes[0].is_running(), "the daemon has survived");
    golden
}

/// One of three nodes that are to found a cluster.
fn member(dir: &Path, at: usize, grpc: &[SocketAddr], http: SocketAddr) -> Keevod {
    let peers: Vec<String> = grpc.iter().enumerate().map(|(at, address)| format!("{}={address}", at + 1)).collect();
    let more = ["--node-id".to_owned(), (at + 1).to_string(), "--peers".to_owned(), peers.join(",")];
    Keevod::spawn(grpc[at], http, &dir.join(format!("{}-{at}", grpc[at].port())), &more)
}

/// One node of three: there is no cluster yet.
async fn not_founded(golden: &mut Golden, dir: &Path) {
    golden.section("other: a cluster that is not founded yet");
    let (grpc, http) = (free_addresses(3), free_addresses(1));
    let node = member(dir, 0, &grpc, http[0]);
    let endpoint = Endpoint::from_shared(format!("http://{}", node.grpc)).expect("an address");
    let deadline = Instant::now() + Duration::from_secs(30);
    let channel = loop {
        match endpoint.connect().await {
            Ok(channel) => break channel,
            Err(error) => assert!(Instant::now() < deadline, "keevod does not listen: {error}: {}", node.log()),
        }
        sleep(Duration::from_millis(20)).await;
    };
    let mut kv = KvClient::new(channel.clone());
    let notes = pb::KeyspaceRef { id: 1, ordered_partition_bytes: 0 };
    let find = pb::KeyspaceRequest { name: "notes".to_owned(), create: None, deadline_ms: 1_000 };
    golden.call("a keyspace, where one of three nodes has started", kv.keyspace(find)).await;
    golden.call("a put there", kv.write(write(notes, "p", vec![put("s", "1")]))).await;
    golden.call("a get there", kv.get(get(notes, "p", "s"))).await;
    let mut client = AdminClient::new(channel);
    golden.call("the status of the cluster there", client.cluster_status(admin::ClusterStatusRequest {})).await;
}

/// Makes a node the leader of every shard.
async fn lead(wire: &Wire, to_node_id: u64) {
    let mut client = AdminClient::new(wire.channel.clone());
    for shard in [0, 1] {
        let deadline = Instant::now() + Duration::from_secs(30);
        while let Err(status) = client.transfer(admin::TransferRequest { shard, to_node_id }).await {
            assert!(Instant::now() < deadline, "node {to_node_id} does not lead: {status}");
            sleep(Duration::from_millis(100)).await;
        }
    }
}

/// The leader is there and does not answer.
async fn late(golden: &mut Golden, wire: &Wire, leader: &Keevod) {
    let mut kv = wire.kv.clone();
    leader.signal("STOP");
    golden.section("A deadline");
    let read = || pb::GetRequest { deadline_ms: 300, ..get(wire.notes, "good", "input") };
    let began = Instant::now();
    // A process stops when it is next scheduled; until then it may answer once more.
    let refused = loop {
        match kv.get(read()).await {
            Ok(_) => assert!(began.elapsed() < Duration::from_secs(1), "the leader has not stopped"),
            Err(status) => break status,
        }
    };
    golden.refused("a read with a deadline of 300 ms, whose leader hangs", &refused);
    golden.section("other: a write without an answer");
    let request = write(wire.notes, "good", vec![put("input", "works")]);
    let written = kv.write(pb::WriteRequest { deadline_ms: 300, ..request });
    golden.call("a write with a deadline of 300 ms, whose leader hangs", written).await;
    leader.signal("CONT");
}

/// Two of three nodes are dead.
async fn without_a_quorum(golden: &mut Golden, wire: &Wire) {
    golden.section("A missing quorum");
    let mut kv = wire.kv.clone();
    let request = pb::WriteRequest { deadline_ms: 1_000, ..write(wire.notes, "p", vec![put("s", "1")]) };
    let refused = missed(async || kv.write(request.clone()).await).await;
    golden.refused("a put, where one of three nodes is left", &refused);
    let read = pb::GetRequest { deadline_ms: 1_000, ..get(wire.notes, "good", "input") };
    let refused = missed(async || kv.get(read.clone()).await).await;
    golden.refused("a get there", &refused);
    let make = pb::KeyspaceRequest {
        name: "late".to_owned(),
        create: Some(pb::KeyspaceKind { ordered_partition_bytes: 0 }),
        deadline_ms: 1_000,
    };
    let refused = missed(async || kv.keyspace(make.clone()).await).await;
    golden.refused("a new keyspace there", &refused);
    let session = pb::OpenSessionRequest {
        client: vec![9; 16].into(),
        scope: Some(pb::open_session_request::Scope::Shard(1)),
        deadline_ms: 1_000,
    };
    let refused = missed(async || kv.open_session(session.clone()).await).await;
    golden.refused("a session there", &refused);
    let stale = Some(pb::Consistency { level: 3, max_age_ms: Some(60_000) });
    let read = pb::GetRequest { consistency: stale, ..get(wire.notes, "good", "input") };
    golden.call("a get that may be a minute old", kv.get(read)).await;
}

/// How a call is refused once the nodes that are left know of the others: until then it may still be under way to one
/// that died, or a leader may still hope.
async fn missed<T: Debug>(mut call: impl AsyncFnMut() -> Result<Response<T>, Status>) -> Status {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let status = call().await.expect_err("one of three");
        let kind = error_from_status(&status).kind();
        if kind == ErrorKind::NoQuorum {
            return status;
        }
        assert!(matches!(kind, ErrorKind::OutcomeUnknown | ErrorKind::DeadlineExceeded), "{status}");
        assert!(Instant::now() < deadline, "the quorum is not missed: {status}");
    }
}
