//! The key-value service and administration: keyspaces, scans, sessions, cursors, and bytes that are no requests.

use bytes::Bytes;
use keevo_core::{Error, ErrorKind};
use keevo_proto::Message;
use keevo_proto::admin::v1 as admin;
use keevo_proto::admin::v1::admin_client::AdminClient;
use keevo_proto::kv::v1 as pb;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Request, Status};

use super::daemon::Keevod;
use super::golden::Golden;
use super::wire::{Plain, Wire, batch, bytes, fan_out, get, key, put, scan, target, watch, write};

pub(crate) async fn run(golden: &mut Golden, wire: &Wire) {
    golden.section("Unknown keyspaces");
    unknown_keyspaces(golden, wire).await;
    golden.section("other: keyspaces");
    keyspaces(golden, wire).await;
    golden.section("other: reads");
    reads(golden, wire).await;
    golden.section("other: writes");
    writes(golden, wire).await;
    sessions(golden, wire).await;
    golden.section("other: bytes that are no requests");
    bytes_that_are_no_requests(golden, wire).await;
    golden.section("other: watches");
    watches(golden, wire).await;
    golden.section("other: administration");
    administration(golden, wire).await;
}

fn kind_of(status: &Status) -> ErrorKind {
    keevo_proto::error_from_status(status).kind()
}

async fn unknown_keyspaces(golden: &mut Golden, wire: &Wire) {
    let mut kv = wire.kv.clone();
    let unknown = pb::KeyspaceRef { id: 77, ordered_partition_bytes: 0 };
    let find = pb::KeyspaceRequest { name: "nobody.s".to_owned(), create: None, deadline_ms: 0 };
    golden.call("a name that nobody made", kv.keyspace(find)).await;
    golden.call("a get from an id that nobody made", kv.get(get(unknown, "p", "s"))).await;
    golden.call("a put to it", kv.write(write(unknown, "p", vec![put("s", "1")]))).await;
    golden.call("a scan of it", kv.scan(scan(unknown, "p", 10))).await;
    golden.call("a fan-out to it", kv.fan_out(fan_out(unknown, bytes(1), vec![target("p")]))).await;
    golden.call("a watch of it", kv.watch(watch(unknown, "p"))).await;
    for made in [wire.notes, wire.events] {
        golden.hide(format!("keyspace {} is", made.id), "keyspace N is");
    }
    let posing = pb::KeyspaceRef { ordered_partition_bytes: 1, ..wire.notes };
    golden.call("a get from a hashed one as an ordered one", kv.get(get(posing, "p", "s"))).await;
    let posing = pb::KeyspaceRef { ordered_partition_bytes: 0, ..wire.events };
    golden.call("a get from an ordered one as a hashed one", kv.get(get(posing, "p", "s"))).await;
}

async fn keyspaces(golden: &mut Golden, wire: &Wire) {
    let mut kv = wire.kv.clone();
    let meta = pb::KeyspaceRef { id: 0, ordered_partition_bytes: 0 };
    golden.call("a put to the cluster's own keyspace", kv.write(write(meta, "p", vec![put("s", "1")]))).await;
    golden.call("a get from it", kv.get(get(meta, "p", "s"))).await;
    golden.call("a watch of it", kv.watch(watch(meta, "p"))).await;
    let make = |name: &str, ordered_partition_bytes| pb::KeyspaceRequest {
        name: name.to_owned(),
        create: Some(pb::KeyspaceKind { ordered_partition_bytes }),
        deadline_ms: 0,
    };
    golden.call("a name of 0 bytes", kv.keyspace(make("", 0))).await;
    golden.call("a name of 64 bytes", kv.keyspace(make(&"n".repeat(64), 0))).await;
    golden.call("a name of 65 bytes", kv.keyspace(make(&"n".repeat(65), 0))).await;
    golden.call("a name in capitals", kv.keyspace(make("Notes", 0))).await;
    let endless = kv.keyspace(make(&"N\n".repeat(100_000), 0)).await.expect_err("too long");
    assert_eq!((kind_of(&endless), endless.message().len() < 4_096), (ErrorKind::Invalid, true), "cut, not lost");
    golden.call("partitions of 64 bytes", kv.keyspace(make("wide", 64))).await;
    golden.call("partitions of 65 bytes", kv.keyspace(make("wider", 65))).await;
    golden.call("partitions of 4,294,967,295 bytes", kv.keyspace(make("widest", u32::MAX))).await;
    golden.call("a name that exists with another layout", kv.keyspace(make("notes", 8))).await;
}

async fn reads(golden: &mut Golden, wire: &Wire) {
    let mut kv = wire.kv.clone();
    for limit in [0, 1, 10_000, 10_001, u32::MAX] {
        golden.call(&format!("a scan of {limit} records a page"), kv.scan(scan(wire.notes, "p", limit))).await;
    }
    golden.call("a scan without a range", kv.scan(pb::ScanRequest { limit: 1, ..Default::default() })).await;
    let ordered = pb::OrderedRange { keyspace: Some(wire.notes), start: Bytes::new(), end: Bytes::new() };
    let range = Some(pb::scan_request::Range::Ordered(ordered));
    golden
        .call(
            "a scan across the partitions of a hashed keyspace",
            kv.scan(pb::ScanRequest { range, limit: 1, ..Default::default() }),
        )
        .await;
    for (case, token) in [("no bytes", Bytes::new()), ("three bytes", bytes(3)), ("one MiB", bytes(1 << 20))] {
        let after = pb::ScanRequest { after: Some(token), ..scan(wire.notes, "p", 10) };
        golden.call(&format!("a page token of {case}"), kv.scan(after)).await;
    }
    for one in ["s1", "s2"] {
        kv.write(write(wire.notes, "paged", vec![put(one, "1")])).await.expect("written");
    }
    let page = kv.scan(scan(wire.notes, "paged", 1)).await.expect("a page").into_inner();
    let after = pb::ScanRequest { after: page.next, ..scan(wire.notes, "other", 10) };
    golden.call("a page token of another partition", kv.scan(after)).await;
    golden.call("a get without a key", kv.get(pb::GetRequest::default())).await;
    let key = pb::Key { keyspace: None, ..key(wire.notes, "p", "s") };
    golden.call("a get without a keyspace", kv.get(pb::GetRequest { key: Some(key), ..Default::default() })).await;
    for (case, level, max_age_ms) in [
        ("a consistency level that does not exist", 99, None),
        ("a stale read without an age", 3, None),
        ("a linearizable read with an age", 1, Some(5)),
    ] {
        let consistency = Some(pb::Consistency { level, max_age_ms });
        golden.call(case, kv.get(pb::GetRequest { consistency, ..get(wire.notes, "p", "s") })).await;
    }
}

async fn writes(golden: &mut Golden, wire: &Wire) {
    let mut kv = wire.kv.clone();
    golden.call("a write without a batch", kv.write(pb::WriteRequest::default())).await;
    golden.call("a batch without operations", kv.write(write(wire.notes, "p", Vec::new()))).await;
    golden.call("an operation that is none", kv.write(write(wire.notes, "p", vec![pb::Op::default()]))).await;
    let check = pb::Precondition { sort: "s".into(), check: None };
    let unchecked = pb::Batch { preconditions: vec![check], ..batch(wire.notes, "p", vec![put("s", "1")]) };
    golden
        .call("a precondition that is none", kv.write(pb::WriteRequest { batch: Some(unchecked), deadline_ms: 0 }))
        .await;
    for ttl_ms in [0, 1, 315_360_000_001] {
        let put = pb::Put { sort: "brief".into(), value: "1".into(), ttl_ms: Some(ttl_ms) };
        let answer = kv.write(write(wire.notes, "p", vec![pb::Op { op: Some(pb::op::Op::Put(put)) }]));
        golden.call(&format!("a time to live of {ttl_ms} ms"), answer).await;
    }
    kv.write(write(wire.notes, "p", vec![put("text", "abc")])).await.expect("written");
    let merge = pb::Op { op: Some(pb::op::Op::Merge(pb::Merge { sort: "text".into(), delta: 1 })) };
    golden.call("a merge into text", kv.write(write(wire.notes, "p", vec![merge]))).await;
    golden.call("a fan-out without targets", kv.fan_out(fan_out(wire.notes, bytes(1), Vec::new()))).await;
    let guarded = vec![pb::Target { guard: Some(1), ..target("p") }];
    golden.call("a guard without its sort key", kv.fan_out(fan_out(wire.notes, bytes(1), guarded))).await;
    golden.call("a fan-out that is none", kv.fan_out(pb::FanOutRequest::default())).await;
}

async fn sessions(golden: &mut Golden, wire: &Wire) {
    let mut kv = wire.kv.clone();
    for (case, client, sequence, acked_below) in [
        ("a request of a session that is not open", bytes(16), 1, 0),
        ("a request that claims its own answer", bytes(16), 4, 5),
        ("a session id of 5 bytes", bytes(5), 1, 0),
    ] {
        let request = Some(pb::RequestId { client, sequence, acked_below });
        let named = pb::Batch { request, ..batch(wire.notes, "p", vec![put("s", "1")]) };
        golden.call(case, kv.write(pb::WriteRequest { batch: Some(named), deadline_ms: 0 })).await;
    }
    let open = |client, scope| pb::OpenSessionRequest { client, scope, deadline_ms: 0 };
    let shard = |id| Some(pb::open_session_request::Scope::Shard(id));
    golden.call("a session opened on a shard that does not exist", kv.open_session(open(bytes(16), shard(999)))).await;
    golden.call("a session opened nowhere", kv.open_session(open(bytes(16), None))).await;
    golden.call("a session opened with an id of 5 bytes", kv.open_session(open(bytes(5), shard(1)))).await;
}

async fn bytes_that_are_no_requests(golden: &mut Golden, wire: &Wire) {
    let noise = || Bytes::from_static(&[0xff; 40]);
    golden.call("noise for a get", wire.raw("/keevo.kv.v1.Kv/Get", noise())).await;
    let whole = write(wire.notes, "p", vec![put("s", "1")]).encode_to_vec();
    golden
        .call("a write that is cut short", wire.raw("/keevo.kv.v1.Kv/Write", whole[..whole.len() - 1].to_vec().into()))
        .await;
    golden.call("nothing for a write", wire.raw("/keevo.kv.v1.Kv/Write", Bytes::new())).await;
    golden.call("noise for a feed", wire.raw("/keevo.feeds.v1.Feeds/GetFeed", noise())).await;
    golden.call("noise for a chat", wire.raw("/keevo.chat.v1.Chat/SendMessage", noise())).await;
    golden.call("noise for the administration", wire.raw("/keevo.admin.v1.Admin/Join", noise())).await;
    golden.call("more than a chat takes", wire.raw("/keevo.chat.v1.Chat/SendMessage", bytes(5 << 20))).await;
    golden.call("a method that does not exist", wire.raw("/keevo.kv.v1.Kv/Guess", noise())).await;
    let mut kv = wire.kv.clone();
    let (request_tx, request_rx) = tokio::sync::mpsc::channel(1);
    let mut answers = kv.pipe(ReceiverStream::new(request_rx)).await.expect("opens").into_inner();
    let requests = vec![pb::PipeRequest { id: 1, ..Default::default() }];
    request_tx.send(pb::PipeRequests { requests }).await.expect("sent");
    let answer = answers.message().await.expect("open").expect("an answer").responses.remove(0);
    let Some(pb::pipe_response::Response::Failure(failure)) = answer.response else { panic!("{answer:?}") };
    golden.error("a request of a pipe that is none", &Error::from(failure), true);
    golden.refused("noise in a pipe, between requests", &noise_in_a_pipe(wire).await);
}

/// Sends a good request and then noise; the request is answered before the stream ends.
async fn noise_in_a_pipe(wire: &Wire) -> Status {
    let request = Some(pb::pipe_request::Request::Get(get(wire.notes, "p", "s")));
    let good =
        pb::PipeRequests { requests: vec![pb::PipeRequest { id: 1, request, ..Default::default() }] }.encode_to_vec();
    let messages = futures::stream::iter([Bytes::from(good), Bytes::from_static(&[0xff; 40])]);
    let mut grpc = tonic::client::Grpc::new(wire.channel.clone());
    grpc.ready().await.expect("connected");
    let path = PathAndQuery::from_static("/keevo.kv.v1.Kv/Pipe");
    let mut answers = grpc.streaming(Request::new(messages), path, Plain).await.expect("opens").into_inner();
    let first = answers.message().await.expect("open").expect("an answer");
    assert_eq!(pb::PipeResponses::decode(first).expect("answers").responses.len(), 1, "the good request is answered");
    answers.message().await.expect_err("the stream ends with an error")
}

async fn watches(golden: &mut Golden, wire: &Wire) {
    let mut kv = wire.kv.clone();
    golden.call("a watch of nothing", kv.watch(pb::WatchRequest::default())).await;
    let mut begun = kv.watch(watch(wire.notes, "p")).await.expect("opens").into_inner();
    let header = begun.message().await.expect("open").expect("a message");
    let Some(pb::watch_response::Part::Watching(header)) = header.part else { panic!("a header first") };
    let ahead = pb::Cursor { revision: u64::MAX, ..header.start[0].clone() };
    let request = pb::WatchRequest { after: vec![ahead], ..watch(wire.notes, "p") };
    golden.call("a cursor ahead of the shard", kv.watch(request)).await;
    let short = pb::Cursor { cluster: bytes(5), ..header.start[0].clone() };
    let request = pb::WatchRequest { after: vec![short], ..watch(wire.notes, "p") };
    golden.call("a cursor whose cluster has 5 bytes", kv.watch(request)).await;
    golden.section("A data folder of another cluster");
    let foreign = pb::Cursor { cluster: bytes(16), ..header.start[0].clone() };
    let request = pb::WatchRequest { after: vec![foreign], ..watch(wire.notes, "p") };
    golden.call("a watch from a cursor of another cluster", kv.watch(request)).await;
}

async fn administration(golden: &mut Golden, wire: &Wire) {
    let mut client = AdminClient::new(wire.channel.clone());
    let join = |address: &str| admin::JoinRequest { address: address.to_owned() };
    golden.call("a node at an address that is none", client.join(join("no where"))).await;
    golden.call("a node at an address where nobody listens", client.join(join("127.0.0.1:1"))).await;
    golden.call("the removal of a node that does not exist", client.remove(admin::RemoveRequest { node_id: 9 })).await;
    let transfer = |shard, to_node_id| admin::TransferRequest { shard, to_node_id };
    golden.call("the transfer of a shard that does not exist", client.transfer(transfer(999, 1))).await;
    golden.call("a transfer to a node that does not exist", client.transfer(transfer(1, 9))).await;
    let dir = tempfile::tempdir().expect("a folder");
    let other = Keevod::start_dev(&dir.path().join("other")).await;
    golden.section("A data folder of another cluster");
    golden.hide(other.grpc.to_string(), "ADDRESS");
    golden.call("a node that belongs to another cluster, taken in", client.join(join(&other.grpc.to_string()))).await;
}
