//! The service as clients in other languages see it: unary calls, statuses, pipes and watches by hand.

use bytes::Bytes;
use keevo_core::{Engine, ErrorKind, KeyspaceKind};
use keevo_proto::admin::v1 as admin;
use keevo_proto::kv::v1 as pb;
use keevo_proto::kv::v1::kv_client::KvClient;
use keevo_proto::{KIND_METADATA, error_from_status};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::support::{Server, single};

async fn unary(server: &Server) -> KvClient<Channel> {
    KvClient::connect(format!("http://{}", server.address)).await.expect("connects")
}

fn kind(status: &Status) -> ErrorKind {
    assert!(status.metadata().contains_key(KIND_METADATA), "{status:?} names its kind");
    error_from_status(status).kind()
}

fn put(keyspace: pb::KeyspaceRef, sort: &'static str) -> pb::WriteRequest {
    let put = pb::Put { sort: Bytes::from(sort), value: Bytes::from("value"), ttl_ms: None };
    let batch = pb::Batch {
        keyspace: Some(keyspace),
        partition: Bytes::from("alice"),
        ops: vec![pb::Op { op: Some(pb::op::Op::Put(put)) }],
        ..pb::Batch::default()
    };
    pb::WriteRequest { batch: Some(batch), deadline_ms: 0 }
}

fn key(keyspace: pb::KeyspaceRef, sort: &'static str) -> pb::Key {
    pb::Key { keyspace: Some(keyspace), partition: Bytes::from("alice"), sort: Bytes::from(sort) }
}

#[tokio::test]
async fn unary_calls_work_by_themselves() {
    let (_engine, server, _client) = single().await;
    let mut kv = unary(&server).await;
    let name = "notes".to_owned();
    let create = Some(pb::KeyspaceKind { ordered_partition_bytes: 0 });
    let made = kv.keyspace(pb::KeyspaceRequest { name: name.clone(), create, deadline_ms: 0 }).await.expect("made");
    let keyspace = made.into_inner().keyspace.expect("a keyspace");
    let found = kv.keyspace(pb::KeyspaceRequest { name, create: None, deadline_ms: 0 }).await.expect("found");
    assert_eq!(found.into_inner().keyspace, Some(keyspace));
    let written = kv.write(put(keyspace, "a")).await.expect("written").into_inner();
    kv.write(put(keyspace, "b")).await.expect("written");
    let read = kv.get(pb::GetRequest { key: Some(key(keyspace, "a")), ..Default::default() }).await.expect("read");
    assert_eq!(read.into_inner().record.expect("a record").revision, written.revision);
    let keys = vec![key(keyspace, "b"), key(keyspace, "x")];
    let read = kv.multi_get(pb::MultiGetRequest { keys, ..Default::default() }).await.expect("read").into_inner();
    assert_eq!(read.records.iter().map(|one| one.record.is_some()).collect::<Vec<_>>(), [true, false]);
    let all = pb::PartitionRange { keyspace: Some(keyspace), partition: "alice".into(), ..Default::default() };
    let range = Some(pb::scan_request::Range::Partition(all));
    let page = kv.scan(pb::ScanRequest { range, limit: 10, ..Default::default() }).await.expect("a page").into_inner();
    assert_eq!(page.records.iter().map(|one| one.partition.len()).collect::<Vec<_>>(), [5, 0], "named once");
}

#[tokio::test]
async fn what_is_missing_or_wrong_is_named() {
    let (_engine, server, client) = single().await;
    let keyspace: pb::KeyspaceRef = client.keyspace("notes", KeyspaceKind::Hashed).await.expect("made").into();
    let mut kv = unary(&server).await;
    let missing = kv.get(pb::GetRequest::default()).await.expect_err("no key");
    assert_eq!((missing.code(), missing.message()), (Code::InvalidArgument, "get.key is missing"));
    let missing = kv.write(pb::WriteRequest::default()).await.expect_err("no batch");
    assert_eq!((kind(&missing), missing.message()), (ErrorKind::Invalid, "write.batch is missing"));
    let unknown = pb::KeyspaceRef { id: 77, ..keyspace };
    let refused = kv.write(put(unknown, "a")).await.expect_err("no such keyspace");
    assert_eq!((refused.code(), kind(&refused)), (Code::NotFound, ErrorKind::UnknownKeyspace));
    let posing = pb::KeyspaceRef { ordered_partition_bytes: 5, ..keyspace };
    let refused = kv.write(put(posing, "a")).await.expect_err("another kind");
    assert_eq!(kind(&refused), ErrorKind::UnknownKeyspace);
    let meta = pb::KeyspaceRef { id: 0, ordered_partition_bytes: 0 };
    let read = kv.get(pb::GetRequest { key: Some(key(meta, "a")), ..Default::default() }).await;
    assert_eq!(kind(&read.expect_err("not for users")), ErrorKind::Invalid);
    let mut session = pb::OpenSessionRequest { client: Bytes::from("short"), ..Default::default() };
    session.scope = Some(pb::open_session_request::Scope::Shard(1));
    assert_eq!(kind(&kv.open_session(session).await.expect_err("5 bytes")), ErrorKind::Invalid);
}

#[tokio::test]
async fn a_pipe_answers_out_of_order_and_in_batches() {
    let (engine, server, client) = single().await;
    let keyspace: pb::KeyspaceRef = client.keyspace("notes", KeyspaceKind::Hashed).await.expect("made").into();
    let mut kv = unary(&server).await;
    let (request_tx, request_rx) = tokio::sync::mpsc::channel(1);
    let mut answers = kv.pipe(ReceiverStream::new(request_rx)).await.expect("opens").into_inner();
    engine.stall(true);
    let get = pb::pipe_request::Request::Get(pb::GetRequest { key: Some(key(keyspace, "a")), ..Default::default() });
    let mut requests: Vec<_> =
        (1..=100).map(|id| pb::PipeRequest { id, request: Some(get.clone()), ..Default::default() }).collect();
    requests.push(pb::PipeRequest { id: 101, ..Default::default() });
    request_tx.send(pb::PipeRequests { requests }).await.expect("sent");
    let first = answers.message().await.expect("open").expect("a message");
    let failure = match &first.responses[..] {
        [pb::PipeResponse { id: 101, response: Some(pb::pipe_response::Response::Failure(failure)) }] => failure,
        other => panic!("the request that needs no engine is answered first: {other:?}"),
    };
    assert_eq!((failure.kind.as_str(), failure.grpc_code), ("INVALID", 3));
    engine.stall(false);
    let mut ids = Vec::new();
    while ids.len() < 100 {
        let message = answers.message().await.expect("open").expect("a message");
        ids.extend(message.responses.iter().map(|one| one.id));
    }
    ids.sort_unstable();
    assert_eq!(ids, (1..=100).collect::<Vec<_>>(), "each is answered once");
    drop(request_tx);
    assert!(answers.message().await.expect("a clean end").is_none());
}

#[tokio::test]
async fn a_watch_begins_with_where_it_starts() {
    let (_engine, server, client) = single().await;
    let keyspace: pb::KeyspaceRef = client.keyspace("notes", KeyspaceKind::Hashed).await.expect("made").into();
    let mut kv = unary(&server).await;
    let before = kv.write(put(keyspace, "a")).await.expect("written").into_inner();
    let range = Some(pb::watch_request::Range::Keyspace(keyspace));
    let mut watch = kv.watch(pb::WatchRequest { range, ..Default::default() }).await.expect("opens").into_inner();
    let header = watch.message().await.expect("open").expect("a message");
    let Some(pb::watch_response::Part::Watching(header)) = header.part else { panic!("a header first") };
    assert_eq!(header.start.len(), 1, "one shard");
    assert!(header.start[0].revision >= before.revision);
    let written = kv.write(put(keyspace, "b")).await.expect("written").into_inner();
    let events = watch.message().await.expect("open").expect("a message");
    let Some(pb::watch_response::Part::Events(events)) = events.part else { panic!("events next") };
    let revisions: Vec<_> =
        events.events.iter().filter_map(|one| one.cursor.as_ref()).map(|one| one.revision).collect();
    assert_eq!(revisions, [written.revision]);
    server.shutdown.cancel();
    let ended = watch.message().await.expect_err("the node stops");
    assert_eq!(kind(&ended), ErrorKind::Unavailable);
}

#[tokio::test]
async fn administration_reaches_the_host() {
    let (engine, _server, client) = single().await;
    let mut admin = client.admin().await.expect("a node");
    let info = admin.info(admin::InfoRequest {}).await.expect("answers").into_inner();
    assert_eq!(info.cluster_id, keevo_proto::id_bytes(engine.memory.cluster_id().0));
    let refused = admin.join(admin::JoinRequest { address: "x:1".to_owned() }).await.expect_err("a single node");
    assert_eq!(kind(&refused), ErrorKind::Invalid);
    assert_eq!(kind(&admin.checksum(admin::ChecksumRequest::default()).await.expect_err("none")), ErrorKind::NotFound);
    admin.flush(admin::FlushRequest {}).await.expect("flushes");
    let mut progress = admin.compact(admin::CompactRequest::default()).await.expect("begins").into_inner();
    let mut steps = Vec::new();
    while let Some(step) = progress.message().await.expect("no error") {
        steps.push((step.done_steps, step.total_steps));
    }
    assert_eq!(steps, [(1, 2), (2, 2)]);
}
