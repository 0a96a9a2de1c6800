//! Calls as a client in any language makes them, down to bytes that no message has.

use bytes::{Buf, BufMut, Bytes};
use keevo_proto::kv::v1 as pb;
use keevo_proto::kv::v1::kv_client::KvClient;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};

use super::daemon::Keevod;

/// The most bytes of an answer that the tests take.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// A connection to a node, and two keyspaces there.
#[derive(Debug, Clone)]
pub(crate) struct Wire {
    pub(crate) channel: Channel,
    pub(crate) kv: KvClient<Channel>,
    /// Hashed.
    pub(crate) notes: pb::KeyspaceRef,
    /// Ordered, with partitions of 8 bytes.
    pub(crate) events: pb::KeyspaceRef,
}

impl Wire {
    pub(crate) async fn connect(node: &Keevod) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{}", node.grpc)).expect("an address");
        let channel = endpoint.connect().await.expect("connects");
        let mut kv = KvClient::new(channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX);
        let mut keyspaces = Vec::new();
        for (name, ordered_partition_bytes) in [("notes", 0), ("events", 8)] {
            let create = Some(pb::KeyspaceKind { ordered_partition_bytes });
            let request = pb::KeyspaceRequest { name: name.to_owned(), create, deadline_ms: 20_000 };
            let made = kv.keyspace(request).await.expect("made").into_inner();
            keyspaces.push(made.keyspace.expect("a keyspace"));
        }
        Self { channel, kv, notes: keyspaces[0], events: keyspaces[1] }
    }

    /// A call of any method with any bytes.
    pub(crate) async fn raw(&self, path: &'static str, body: Bytes) -> Result<Response<Bytes>, Status> {
        let mut grpc = tonic::client::Grpc::new(self.channel.clone());
        grpc.ready().await.expect("connected");
        grpc.unary(Request::new(body), PathAndQuery::from_static(path), Plain).await
    }

    /// A write and a read of it.
    pub(crate) async fn good_input_still_works(&self) {
        let mut kv = self.kv.clone();
        kv.write(write(self.notes, "good", vec![put("input", "works")])).await.expect("written");
        let read = kv.get(get(self.notes, "good", "input")).await.expect("read").into_inner();
        assert_eq!(read.record.expect("there").value, "works");
    }
}

pub(crate) fn bytes(length: usize) -> Bytes {
    vec![b'k'; length].into()
}

pub(crate) fn put(sort: impl Into<Bytes>, value: impl Into<Bytes>) -> pb::Op {
    pb::Op { op: Some(pb::op::Op::Put(pb::Put { sort: sort.into(), value: value.into(), ttl_ms: None })) }
}

pub(crate) fn batch(keyspace: pb::KeyspaceRef, partition: impl Into<Bytes>, ops: Vec<pb::Op>) -> pb::Batch {
    pb::Batch { keyspace: Some(keyspace), partition: partition.into(), ops, ..pb::Batch::default() }
}

pub(crate) fn write(keyspace: pb::KeyspaceRef, partition: impl Into<Bytes>, ops: Vec<pb::Op>) -> pb::WriteRequest {
    pb::WriteRequest { batch: Some(batch(keyspace, partition, ops)), deadline_ms: 0 }
}

pub(crate) fn key(keyspace: pb::KeyspaceRef, partition: impl Into<Bytes>, sort: impl Into<Bytes>) -> pb::Key {
    pb::Key { keyspace: Some(keyspace), partition: partition.into(), sort: sort.into() }
}

pub(crate) fn get(keyspace: pb::KeyspaceRef, partition: impl Into<Bytes>, sort: impl Into<Bytes>) -> pb::GetRequest {
    pb::GetRequest { key: Some(key(keyspace, partition, sort)), ..pb::GetRequest::default() }
}

pub(crate) fn scan(keyspace: pb::KeyspaceRef, partition: impl Into<Bytes>, limit: u32) -> pb::ScanRequest {
    let range = pb::PartitionRange { keyspace: Some(keyspace), partition: partition.into(), ..Default::default() };
    pb::ScanRequest { range: Some(pb::scan_request::Range::Partition(range)), limit, ..Default::default() }
}

pub(crate) fn fan_out(keyspace: pb::KeyspaceRef, value: Bytes, targets: Vec<pb::Target>) -> pb::FanOutRequest {
    let action = Some(pb::fan_out::Action::Put(pb::FanOutPut { value, ttl_ms: None }));
    let fan_out = pb::FanOut { keyspace: Some(keyspace), sort: "s".into(), action, guard_sort: None, targets };
    pb::FanOutRequest { fan_out: Some(fan_out), deadline_ms: 20_000 }
}

pub(crate) fn target(partition: impl Into<Bytes>) -> pb::Target {
    pb::Target { partition: partition.into(), guard: None }
}

pub(crate) fn watch(keyspace: pb::KeyspaceRef, partition: impl Into<Bytes>) -> pb::WatchRequest {
    let range = pb::PartitionWatch { keyspace: Some(keyspace), partition: partition.into(), prefix: Bytes::new() };
    pb::WatchRequest { range: Some(pb::watch_request::Range::Partition(range)), ..Default::default() }
}

/// Messages that are bytes and nothing else.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plain;

impl Codec for Plain {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(item);
        Ok(())
    }
}

impl Decoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}
