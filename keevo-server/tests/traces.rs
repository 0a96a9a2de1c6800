//! One put on a cluster is one trace: client, the node that was called, its leader, the log of every replica, and apply. The
//! spans arrive at a collector of the test, which speaks OTLP over gRPC.

#![allow(clippy::indexing_slicing, reason = "a test may panic where it is wrong")]

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use keevo_client::otlp::wire::{EXPORT_PATH, ExportRequest, ExportResponse, Span};
use keevo_client::{ClientOptions, Otlp, OtlpOptions, RemoteEngine};
use keevo_core::trace::{Trace, TraceContext};
use keevo_core::{Batch, Consistency, Engine, KeyspaceKind};
use keevo_server::config::{Config, Layers};
use keevo_server::daemon::Daemon;
use tokio::time::{Instant, sleep};
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::transport::server::TcpIncoming;
use tonic::{Status, codegen::Service};
use tonic_prost::ProstCodec;

const PATIENCE: Duration = Duration::from_secs(40);

/// The spans that arrived, each with the service and instance that it is of.
type Arrived = Arc<Mutex<Vec<Told>>>;

/// A collector: as small as one can be.
#[derive(Clone, Default)]
struct Collector {
    arrived: Arrived,
}

impl NamedService for Collector {
    const NAME: &'static str = "opentelemetry.proto.collector.trace.v1.TraceService";
}

impl UnaryService<ExportRequest> for Collector {
    type Response = ExportResponse;
    type Future = std::future::Ready<Result<tonic::Response<ExportResponse>, Status>>;

    fn call(&mut self, request: tonic::Request<ExportRequest>) -> Self::Future {
        let mut arrived = self.arrived.lock().expect("not poisoned");
        for process in request.into_inner().resource_spans {
            let attributes = process.resource.expect("whose they are").attributes;
            let attribute = |key: &str| {
                let found = attributes.iter().find(|one| one.key == key).and_then(|one| one.value.as_ref());
                found.and_then(|value| value.string_value.clone()).expect("it is said")
            };
            let (service, instance) = (attribute("service.name"), attribute("service.instance.id"));
            for span in process.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                arrived.push((service.clone(), instance.clone(), span));
            }
        }
        std::future::ready(Ok(tonic::Response::new(ExportResponse {})))
    }
}

impl Service<Request<Body>> for Collector {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        assert_eq!(request.uri().path(), EXPORT_PATH);
        let this = self.clone();
        Box::pin(async move {
            let codec: ProstCodec<ExportResponse, ExportRequest> = ProstCodec::default();
            Ok(Grpc::new(codec).unary(this, request).await)
        })
    }
}

impl Collector {
    /// Listens on loopback; gives its address.
    async fn start() -> (Self, String) {
        let collector = Self::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = format!("http://{}", listener.local_addr().expect("bound"));
        let server = tonic::transport::Server::builder().add_service(collector.clone());
        tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        (collector, address)
    }

    /// Waits until a trace has all spans that `is_whole` asks for.
    async fn whole(
        &self,
        trace_id: impl Fn(&Self) -> Option<Vec<u8>>,
        is_whole: impl Fn(&[Told]) -> bool,
    ) -> Vec<Told> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(id) = trace_id(self) {
                let all = self.arrived.lock().expect("not poisoned").clone();
                let of_trace: Vec<_> = all.into_iter().filter(|(_, _, span)| span.trace_id == id).collect();
                if is_whole(&of_trace) {
                    return of_trace;
                }
                assert!(Instant::now() < deadline, "{}", shown(&of_trace));
            }
            assert!(Instant::now() < deadline, "no span of the trace has come");
            sleep(Duration::from_millis(50)).await;
        }
    }
}

fn shown(spans: &[Told]) -> String {
    let line = |(service, instance, span): &Told| format!("{service} {instance} {}", span.name);
    spans.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Three nodes that trace what their callers do, and begin no trace by themselves.
async fn nodes(dir: &Path, collector: &str) -> Vec<Daemon> {
    let held: Vec<_> = (0..6).map(|_| std::net::TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
    let at: Vec<String> = held.iter().map(|held| held.local_addr().expect("bound").to_string()).collect();
    drop(held);
    let peers = (1..=3).map(|id| format!("{id}={}", at[id - 1])).collect::<Vec<_>>().join(",");
    let mut starting = Vec::new();
    for id in 1..=3 {
        let mut layers = Layers::defaults();
        for (name, value) in [
            ("node_id", id.to_string()),
            ("data_dir", dir.join(format!("node-{id}")).display().to_string()),
            ("grpc", at[id - 1].clone()),
            ("http", at[id + 2].clone()),
            ("peers", peers.clone()),
            ("shards", "2".to_owned()),
            ("heartbeat_ms", "100".to_owned()),
            ("election_ms_min", "1000".to_owned()),
            ("election_ms_max", "2000".to_owned()),
            ("block_cache_mib", "8".to_owned()),
            ("write_buffer_mib", "8".to_owned()),
            ("traces_endpoint", collector.to_owned()),
            ("traces_ratio", "0".to_owned()),
        ] {
            layers.add_flag(name, &value);
        }
        let config = Config::from_layers(&layers).expect("a good configuration");
        starting.push(Daemon::start(config));
    }
    let daemons = futures::future::try_join_all(starting).await.expect("all start");
    for daemon in &daemons {
        daemon.node().ready(PATIENCE).await.expect("every shard finds a leader");
    }
    daemons
}

/// A span, with the service and instance that it is of.
type Told = (String, String, Span);

/// The write's spans at the client, at the node that was called and at the leader, and those of the log and of apply, once
/// those of all three replicas are there. The session that it is written in has spans of its own.
fn way_of_write(spans: &[Told]) -> Option<(&Told, &Told, &Told, Vec<&Told>)> {
    let named = |name: &'static str| spans.iter().filter(move |(_, _, span)| span.name == name);
    let client = named("keevo.write").next()?;
    let call = named("keevo.kv.v1.Kv/Pipe.Write").find(|(_, _, span)| span.status.is_none())?;
    let propose = named("raft.propose").find(|(_, _, span)| span.parent_span_id == call.2.span_id)?;
    let below = |name| named(name).filter(|(_, _, span)| span.parent_span_id == propose.2.span_id);
    let nodes = |name| below(name).map(|(_, instance, _)| instance.as_str()).collect::<BTreeSet<_>>().len();
    let is_whole = nodes("raft.append") == 3 && nodes("raft.apply") == 3;
    is_whole.then(|| (client, call, propose, below("raft.append").chain(below("raft.apply")).collect()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cluster_a_put_is_one_trace_through_client_leader_followers_and_apply() {
    let dir = tempfile::tempdir().expect("a folder");
    let (collector, address) = Collector::start().await;
    let daemons = nodes(dir.path(), &address).await;
    let grpc: Vec<String> = daemons.iter().map(|daemon| daemon.grpc().to_string()).collect();
    // What is not traced comes first: it is to leave no span.
    let quiet = ClientOptions { deadline: PATIENCE, ..ClientOptions::default() };
    let plain = RemoteEngine::connect(grpc.clone(), quiet.clone()).await.expect("it connects");
    let keyspace = plain.keyspace("traced", KeyspaceKind::Hashed).await.expect("a keyspace");
    let key = keyspace.key("alice", "name");
    plain.write(Batch::new().put(key.clone(), "untold")).await.expect("written");

    let otlp = OtlpOptions { endpoint: address, service: "client".into(), instance: "c".into(), ratio: 1.0 };
    let otlp = Otlp::start(&otlp).expect("a good collector");
    let traced = ClientOptions { traces: Some(otlp), ..quiet };
    let engine = RemoteEngine::connect(grpc, traced).await.expect("it connects");
    engine.write(Batch::new().put(key.clone(), "Alice")).await.expect("written");
    let of_write = |collector: &Collector| {
        let arrived = collector.arrived.lock().expect("not poisoned");
        arrived.iter().find(|(_, _, span)| span.name == "keevo.write").map(|(_, _, span)| span.trace_id.clone())
    };
    let spans = collector.whole(of_write, |spans| way_of_write(spans).is_some()).await;
    parts_fit(&spans);
    {
        let arrived = collector.arrived.lock().expect("not poisoned");
        let traces: BTreeSet<&[u8]> = arrived.iter().map(|(_, _, span)| span.trace_id.as_slice()).collect();
        assert_eq!(traces.len(), 1, "only the traced put has spans: {}", shown(&arrived));
        for (_, _, span) in arrived.iter() {
            let told = format!("{span:?}");
            assert!(!told.contains("alice") && !told.contains("Alice") && !told.contains("untold"), "{told}");
        }
    }
    follows_its_caller(&plain, &collector, key).await;
    for daemon in daemons {
        daemon.stop().await.expect("it stops");
    }
}

/// The spans say who did what for whom, and when.
fn parts_fit(spans: &[Told]) {
    let (client, call, propose, below) = way_of_write(spans).expect("it is whole");
    assert_eq!((client.0.as_str(), client.2.kind, client.2.parent_span_id.len()), ("client", 3, 0));
    assert_eq!((call.0.as_str(), call.2.kind), ("keevod", 2));
    assert_eq!(call.2.parent_span_id, client.2.span_id);
    let leader = &propose.1;
    let appends: Vec<_> = below.iter().filter(|(_, _, span)| span.name == "raft.append").collect();
    let here = appends.iter().filter(|(_, node, _)| node == leader).count();
    assert_eq!((here, appends.len()), (1, 3), "the leader appends, and so do its followers: {}", shown(spans));
    for (_, _, span) in below {
        assert_eq!(span.attributes[0].key, "keevo.shard");
    }
    for (_, _, span) in spans {
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano && span.span_id.len() == 8, "{span:?}");
    }
    // The leader's part took no longer than the whole did.
    let took = |span: &Span| span.end_time_unix_nano - span.start_time_unix_nano;
    assert!(took(&client.2) >= took(&propose.2), "{} {}", took(&client.2), took(&propose.2));
}

/// A caller that has a trace decides that its calls are traced, with no collector of its own.
async fn follows_its_caller(engine: &RemoteEngine, collector: &Collector, key: keevo_core::Key) {
    let context = TraceContext { trace_id: 0xfeed, span_id: 7, sampled: true };
    let read = Trace::begin(Some(context)).run(engine.get(key, Consistency::Linearizable)).await.expect("read");
    assert_eq!(read.expect("there").value.as_ref(), b"Alice");
    let is_whole = |spans: &[Told]| !spans.is_empty();
    let spans = collector.whole(|_| Some(0xfeed_u128.to_be_bytes().to_vec()), is_whole).await;
    assert_eq!(spans[0].2.name, "keevo.kv.v1.Kv/Pipe.Get");
    assert_eq!(spans[0].2.parent_span_id, 7_u64.to_be_bytes());
}
