//! Servers over `MemoryEngine` whose faults a test controls.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::stream::BoxStream;
use keevo_client::{ClientOptions, RemoteEngine};
use keevo_core::{
    Batch, ClientId, Consistency, Cursor, Engine, Error, ErrorKind, FanOut, FannedOut, Key, Keyspace, KeyspaceId,
    KeyspaceKind, MemoryEngine, NodeId, Record, Result, Scan, ScanPage, ShardId, Watch, WatchFrom, WatchRange, Written,
};
use keevo_proto::admin::v1 as admin;
use keevo_proto::id_bytes;
use keevo_server::grpc::admin::AdminService;
use keevo_server::grpc::kv::KvService;
use keevo_server::host::{Host, SessionScope, end_of_one_shard, one_shard_map};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;

/// What a script says about the next call.
#[derive(Debug)]
pub(crate) enum Fault {
    /// It is refused before it reaches the engine.
    Refuse(Error),
    /// It is applied, and then answered with this error.
    Answer(Error),
}

/// Which encoded keys a node serves; the others are refused with the error.
pub(crate) type Owns = Arc<dyn Fn(&[u8]) -> Result<()> + Send + Sync>;

/// A `MemoryEngine` with a switch that stalls it, scripted faults, and a registry of its keyspaces.
#[derive(Clone)]
pub(crate) struct FaultyEngine {
    pub(crate) memory: MemoryEngine,
    registry: Arc<Mutex<BTreeMap<KeyspaceId, Keyspace>>>,
    stalled: Arc<watch::Sender<bool>>,
    script: Arc<Mutex<VecDeque<Fault>>>,
    owns: Option<Owns>,
    /// Calls that reached the node, refused ones too.
    pub(crate) calls: Arc<AtomicUsize>,
}

impl FaultyEngine {
    pub(crate) fn new(memory: MemoryEngine) -> Self {
        Self {
            memory,
            registry: Arc::default(),
            stalled: Arc::new(watch::Sender::new(false)),
            script: Arc::default(),
            owns: None,
            calls: Arc::default(),
        }
    }

    /// The same data as another node serves it.
    pub(crate) fn node(&self, owns: Owns) -> Self {
        Self {
            stalled: Arc::new(watch::Sender::new(false)),
            script: Arc::default(),
            calls: Arc::default(),
            owns: Some(owns),
            ..self.clone()
        }
    }

    /// Calls wait from now on, or go on.
    pub(crate) fn stall(&self, stalled: bool) {
        self.stalled.send_replace(stalled);
    }

    /// What happens to the next calls, one fault each.
    pub(crate) fn script(&self, faults: impl IntoIterator<Item = Fault>) {
        self.script.lock().expect("not poisoned").extend(faults);
    }

    /// Forgets the faults that are left.
    pub(crate) fn clear_script(&self) {
        self.script.lock().expect("not poisoned").clear();
    }

    async fn call<T>(&self, keys: Vec<bytes::Bytes>, call: impl Future<Output = Result<T>>) -> Result<T> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.stalled.subscribe().wait_for(|stalled| !stalled).await.expect("the sender lives");
        if let Some(owns) = &self.owns {
            keys.iter().try_for_each(|key| owns(key))?;
        }
        let fault = self.script.lock().expect("not poisoned").pop_front();
        match fault {
            None => call.await,
            Some(Fault::Refuse(error)) => Err(error),
            Some(Fault::Answer(error)) => call.await.and(Err(error)),
        }
    }

    fn keep(&self, keyspace: Keyspace) -> Keyspace {
        self.registry.lock().expect("not poisoned").insert(keyspace.id, keyspace);
        keyspace
    }
}

impl Engine for FaultyEngine {
    async fn keyspace(&self, name: &str, kind: KeyspaceKind) -> Result<Keyspace> {
        self.call(vec![], self.memory.keyspace(name, kind)).await.map(|keyspace| self.keep(keyspace))
    }

    async fn find_keyspace(&self, name: &str) -> Result<Keyspace> {
        self.call(vec![], self.memory.find_keyspace(name)).await.map(|keyspace| self.keep(keyspace))
    }

    async fn get(&self, key: Key, consistency: Consistency) -> Result<Option<Record>> {
        self.call(vec![key.encode()], self.memory.get(key, consistency)).await
    }

    async fn multi_get(&self, keys: Vec<Key>, consistency: Consistency) -> Result<Vec<Option<Record>>> {
        self.call(keys.iter().map(Key::encode).collect(), self.memory.multi_get(keys, consistency)).await
    }

    async fn scan(&self, scan: Scan) -> Result<ScanPage> {
        let (lower, upper) = scan.encoded_bounds();
        // Both ends of what is left lie in the shard, or at its edge.
        let keys = if lower < upper { vec![lower] } else { vec![] };
        self.call(keys, self.memory.scan(scan)).await
    }

    async fn write(&self, batch: Batch) -> Result<Written> {
        let keys = batch.partition_key().map(Key::encode).into_iter().collect();
        self.call(keys, self.memory.write(batch)).await
    }

    async fn fan_out(&self, fan_out: FanOut) -> Result<FannedOut> {
        let key = |partition: &bytes::Bytes| fan_out.keyspace.key(partition.clone(), "").encode();
        let keys = fan_out.targets.iter().map(|target| key(&target.partition)).collect();
        self.call(keys, self.memory.fan_out(fan_out)).await
    }

    async fn watch(&self, range: WatchRange, from: WatchFrom) -> Result<Watch> {
        self.call(vec![], self.memory.watch(range, from)).await
    }
}

/// A host over a `FaultyEngine`.
pub(crate) struct TestHost {
    engine: FaultyEngine,
    node: NodeId,
    map: Arc<Mutex<Option<admin::ShardMapResponse>>>,
}

impl TestHost {
    pub(crate) fn new(engine: FaultyEngine) -> Self {
        Self { engine, node: NodeId(1), map: Arc::default() }
    }

    /// A node of several that serve the map.
    pub(crate) fn of_map(engine: FaultyEngine, map: Arc<Mutex<Option<admin::ShardMapResponse>>>) -> Self {
        Self { engine, node: NodeId(1), map }
    }
}

impl Host for TestHost {
    type Engine = FaultyEngine;

    fn engine(&self) -> &FaultyEngine {
        &self.engine
    }

    async fn keyspace_by_id(&self, id: KeyspaceId) -> Result<Keyspace> {
        let unknown = || Error::new(ErrorKind::UnknownKeyspace, format!("there is no keyspace with id {id}"));
        self.engine.registry.lock().expect("not poisoned").get(&id).copied().ok_or_else(unknown)
    }

    async fn open_session(&self, _scope: SessionScope, client: ClientId) -> Result<ShardId> {
        self.engine.call(vec![], self.engine.memory.open_session(client)).await?;
        Ok(ShardId::LOCAL)
    }

    async fn watch_start(&self, range: &WatchRange, _only: Option<&BTreeSet<ShardId>>) -> Result<Vec<Cursor>> {
        end_of_one_shard(&self.engine.memory, range).await
    }

    fn info(&self) -> admin::InfoResponse {
        admin::InfoResponse {
            version: "test".to_owned(),
            node_id: self.node.0,
            cluster_id: id_bytes(self.engine.memory.cluster_id().0),
        }
    }

    async fn shard_map(&self) -> Result<admin::ShardMapResponse> {
        let map = self.map.lock().expect("not poisoned").clone();
        Ok(map.unwrap_or_else(|| one_shard_map(self.info().cluster_id, ShardId::LOCAL)))
    }

    async fn cluster_status(&self) -> Result<admin::ClusterStatusResponse> {
        Ok(admin::ClusterStatusResponse { cluster_id: self.info().cluster_id, ..Default::default() })
    }

    async fn checksum(&self, _request: admin::ChecksumRequest) -> Result<admin::ChecksumResponse> {
        Err(Error::new(ErrorKind::NotFound, "memory has no checksums"))
    }

    async fn flush(&self) -> Result<()> {
        Ok(())
    }

    async fn compact(
        &self,
        _request: admin::CompactRequest,
    ) -> Result<BoxStream<'static, Result<admin::CompactProgress>>> {
        let step = |done_steps| {
            let what = "memory".to_owned();
            Ok(admin::CompactProgress { done_steps, total_steps: 2, what, ..admin::CompactProgress::default() })
        };
        Ok(Box::pin(futures::stream::iter([step(1), step(2)])))
    }
}

/// A server that can be stopped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Server {
    /// A server on a free port.
    pub(crate) async fn start(host: TestHost) -> Self {
        Self::start_on(host, SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    /// A server on a port that was free a moment ago.
    pub(crate) async fn start_on(host: TestHost, address: SocketAddr) -> Self {
        let mut listener = TcpListener::bind(address).await;
        for _ in 0..100 {
            if listener.is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
            listener = TcpListener::bind(address).await;
        }
        Self::start_with(host, listener.expect("the port is free"))
    }

    /// A server on `listener`.
    pub(crate) fn start_with(host: TestHost, listener: TcpListener) -> Self {
        let address = listener.local_addr().expect("bound");
        let (host, shutdown) = (Arc::new(host), CancellationToken::new());
        let serve = tonic::transport::Server::builder()
            .add_service(KvService::server(Arc::clone(&host), shutdown.clone()))
            .add_service(AdminService::server(host))
            .serve_with_incoming_shutdown(TcpListenerStream::new(listener), shutdown.clone().cancelled_owned());
        let task = tokio::spawn(async move { serve.await.expect("serves") });
        Self { address, shutdown, task }
    }

    /// Stops gracefully: in-flight requests are answered.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(Duration::from_secs(10), self.task).await.expect("it stops in time").expect("no panic");
    }
}

/// Short pauses, so that tests are quick.
pub(crate) fn options() -> ClientOptions {
    ClientOptions {
        deadline: Duration::from_secs(10),
        attempt_timeout: Duration::from_secs(2),
        pause_min: Duration::from_millis(2),
        pause_max: Duration::from_millis(50),
        ..ClientOptions::default()
    }
}

pub(crate) async fn connect(address: SocketAddr, options: ClientOptions) -> RemoteEngine {
    RemoteEngine::connect(vec![address.to_string()], options).await.expect("connects")
}

/// An engine, its server, and a client of it.
pub(crate) async fn single() -> (FaultyEngine, Server, RemoteEngine) {
    let engine = FaultyEngine::new(MemoryEngine::new());
    let server = Server::start(TestHost::new(engine.clone())).await;
    let client = connect(server.address, options()).await;
    (engine, server, client)
}

/// A client id that nobody used before.
pub(crate) fn new_client() -> ClientId {
    static LAST: AtomicU64 = AtomicU64::new(0);
    ClientId(LAST.fetch_add(1, Ordering::Relaxed).into())
}

/// The integer under a key.
pub(crate) async fn integer(engine: &impl Engine, key: Key) -> Option<i64> {
    let record = engine.get(key, Consistency::Linearizable).await.expect("a get is answered")?;
    Some(i64::from_be_bytes(record.value.as_ref().try_into().expect("8 bytes")))
}
