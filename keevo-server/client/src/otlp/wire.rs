//! The part of OTLP's messages that Keevo sends (opentelemetry-proto 1.x, `collector/trace/v1`), and the call that takes them.
//!
//! Invariant: field numbers are those of the specification; a collector skips what it does not know, and so is this.

use keevo_core::trace::{Span as Done, SpanKind};
use prost::Message;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

/// Where a collector takes spans.
pub const EXPORT_PATH: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
/// Who made the spans, as code.
const SCOPE: &str = "keevo";

/// `ExportTraceServiceRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct ExportRequest {
    /// Spans by who made them.
    #[prost(message, repeated, tag = "1")]
    pub resource_spans: Vec<ResourceSpans>,
}

/// `ExportTraceServiceResponse`.
#[derive(Clone, PartialEq, Message)]
pub struct ExportResponse {}

/// The spans of one process.
#[derive(Clone, PartialEq, Message)]
pub struct ResourceSpans {
    /// The process.
    #[prost(message, optional, tag = "1")]
    pub resource: Option<Resource>,
    /// Its spans.
    #[prost(message, repeated, tag = "2")]
    pub scope_spans: Vec<ScopeSpans>,
}

/// A process.
#[derive(Clone, PartialEq, Message)]
pub struct Resource {
    /// What is known of it.
    #[prost(message, repeated, tag = "1")]
    pub attributes: Vec<KeyValue>,
}

/// The spans of one library.
#[derive(Clone, PartialEq, Message)]
pub struct ScopeSpans {
    /// The library.
    #[prost(message, optional, tag = "1")]
    pub scope: Option<Scope>,
    /// Its spans.
    #[prost(message, repeated, tag = "2")]
    pub spans: Vec<Span>,
}

/// A library.
#[derive(Clone, PartialEq, Message)]
pub struct Scope {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its version.
    #[prost(string, tag = "2")]
    pub version: String,
}

/// A span.
#[derive(Clone, PartialEq, Message)]
pub struct Span {
    /// 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub trace_id: Vec<u8>,
    /// 8 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub span_id: Vec<u8>,
    /// 8 bytes; empty = it is the first of its trace.
    #[prost(bytes = "vec", tag = "4")]
    pub parent_span_id: Vec<u8>,
    /// What was done.
    #[prost(string, tag = "5")]
    pub name: String,
    /// 1 internal, 2 server, 3 client.
    #[prost(int32, tag = "6")]
    pub kind: i32,
    /// When it began, in nanoseconds since the epoch.
    #[prost(fixed64, tag = "7")]
    pub start_time_unix_nano: u64,
    /// When it ended.
    #[prost(fixed64, tag = "8")]
    pub end_time_unix_nano: u64,
    /// What else is known of it.
    #[prost(message, repeated, tag = "9")]
    pub attributes: Vec<KeyValue>,
    /// How it ended.
    #[prost(message, optional, tag = "15")]
    pub status: Option<SpanStatus>,
}

/// How a span ended.
#[derive(Clone, PartialEq, Message)]
pub struct SpanStatus {
    /// 0 unset, 2 error.
    #[prost(int32, tag = "3")]
    pub code: i32,
}

/// A name and a value.
#[derive(Clone, PartialEq, Message)]
pub struct KeyValue {
    /// The name.
    #[prost(string, tag = "1")]
    pub key: String,
    /// The value.
    #[prost(message, optional, tag = "2")]
    pub value: Option<AnyValue>,
}

/// A value: text or a number.
#[derive(Clone, PartialEq, Message)]
pub struct AnyValue {
    /// Text.
    #[prost(string, optional, tag = "1")]
    pub string_value: Option<String>,
    /// A number.
    #[prost(int64, optional, tag = "3")]
    pub int_value: Option<i64>,
}

fn text(key: &str, value: &str) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { string_value: Some(value.into()), int_value: None }) }
}

/// The process with that service name and instance.
pub(super) fn resource(service: &str, instance: &str) -> Resource {
    let version = env!("CARGO_PKG_VERSION");
    let attributes =
        vec![text("service.name", service), text("service.instance.id", instance), text("service.version", version)];
    Resource { attributes }
}

impl Span {
    /// A span that is done, with its id and times in nanoseconds since the epoch.
    pub(super) fn of(span: Done, id: u64, began_ns: u64, ended_ns: u64) -> Self {
        let shard = span.shard.map(|shard| KeyValue {
            key: "keevo.shard".into(),
            value: Some(AnyValue { string_value: None, int_value: i64::try_from(shard.0).ok() }),
        });
        let kind = match span.kind {
            SpanKind::Internal => 1,
            SpanKind::Server => 2,
            SpanKind::Client => 3,
        };
        Self {
            trace_id: span.trace_id.to_be_bytes().to_vec(),
            span_id: id.to_be_bytes().to_vec(),
            parent_span_id: span.parent.map(|parent| parent.to_be_bytes().to_vec()).unwrap_or_default(),
            name: span.name.into_owned(),
            kind,
            start_time_unix_nano: began_ns,
            end_time_unix_nano: ended_ns.max(began_ns),
            attributes: shard.into_iter().collect(),
            status: span.failed.then_some(SpanStatus { code: 2 }),
        }
    }
}

/// The client of a collector.
#[derive(Debug)]
pub(super) struct Collector {
    grpc: Grpc<Channel>,
}

impl Collector {
    pub(super) fn new(channel: Channel) -> Self {
        Self { grpc: Grpc::new(channel) }
    }

    /// Hands spans over.
    pub(super) async fn export(&mut self, resource: &Resource, spans: Vec<Span>) -> Result<(), Status> {
        let scope = Scope { name: SCOPE.to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() };
        let scope_spans = vec![ScopeSpans { scope: Some(scope), spans }];
        let resource_spans = vec![ResourceSpans { resource: Some(resource.clone()), scope_spans }];
        let unavailable = |error: tonic::transport::Error| Status::unavailable(error.to_string());
        self.grpc.ready().await.map_err(unavailable)?;
        let codec: ProstCodec<ExportRequest, ExportResponse> = ProstCodec::default();
        let path = PathAndQuery::from_static(EXPORT_PATH);
        self.grpc.unary(Request::new(ExportRequest { resource_spans }), path, codec).await.map(drop)
    }
}
