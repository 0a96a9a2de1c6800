//! A keevod: stores, node, services, wired together and taken apart again.
//!
//! Order of the start: the addresses are bound (a taken port is found before anything is touched), the folders
//! are opened, the node starts, then requests are served. Order of the end: no new requests, those under way
//! are answered, the replicas stop, the data is flushed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use keevo_core::{Error, ErrorKind, Result, RocksOptions, RocksStore, SeededRandom, SystemClock};
use keevo_proto::FILE_DESCRIPTOR_SET;
use keevo_raft::log_store::{LogStore, RocksLogOptions, open_rocks_log_store};
use keevo_raft::{Node, NodeOptions, NodeParts, PeerHandler};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;

use crate::cluster_host::ClusterHost;
use crate::config::Config;
use crate::grpc::admin::AdminService;
use crate::grpc::chat::ChatService;
use crate::grpc::feeds::FeedsService;
use crate::grpc::kv::KvService;
use crate::grpc::refusals::Refusals;
use crate::identity::Folders;
use crate::metrics::Metrics;
use crate::peer::{GrpcTransport, LocalPeer, RaftService};

/// How long requests under way may take to end when the daemon stops.
const DRAIN: Duration = Duration::from_secs(10);

/// A daemon that runs.
#[derive(Debug)]
pub struct Daemon {
    node: Node<RocksStore>,
    grpc: SocketAddr,
    http: SocketAddr,
    shutdown: CancellationToken,
    servers: Vec<JoinHandle<Result<()>>>,
    /// Keeps the folders locked.
    _folders: Folders,
}

/// Binds an address; a taken one is `AddressInUse`.
async fn bind(what: &str, address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let kind =
            if error.kind() == std::io::ErrorKind::AddrInUse { ErrorKind::AddressInUse } else { ErrorKind::Config };
        Error::new(kind, format!("cannot listen for {what} on {address}")).with_source(error)
    })
}

impl Daemon {
    /// Starts a daemon.
    pub async fn start(config: Config) -> Result<Self> {
        if !config.grpc.ip().is_loopback() || !config.http.ip().is_loopback() {
            return Err(Error::new(
                ErrorKind::Config,
                "this version has neither TLS nor authentication: it listens on loopback addresses only",
            ));
        }
        let grpc_listener = bind("gRPC", config.grpc).await?;
        let http_listener = bind("HTTP", config.http).await?;
        let local = |listener: &TcpListener| {
            listener
                .local_addr()
                .map_err(|error| Error::new(ErrorKind::Io, "the listening address cannot be read").with_source(error))
        };
        let (grpc, http) = (local(&grpc_listener)?, local(&http_listener)?);
        let random = Arc::new(SeededRandom::from_os());
        let folders = Folders::open(&config.data_dir, config.node_id, random.as_ref())?;
        let store = RocksStore::open(folders.data.path().join("db"), store_options(&config))?;
        let log = open_rocks_log_store(folders.log.path().join("db"), &RocksLogOptions::default())?;
        let local_peer = LocalPeer { node_id: config.node_id, address: config.advertise.clone() };
        let parts = NodeParts {
            store: store.clone(),
            log: Arc::clone(&log),
            transport: Arc::new(GrpcTransport::new(local_peer.clone())),
            identity: Arc::new(folders.identity.clone()),
            clock: Arc::new(SystemClock::new()),
            random,
        };
        let node = Node::start(node_options(&config), parts).await?;
        let shutdown = CancellationToken::new();
        let servers = vec![
            serve_grpc(grpc_listener, &node, &store, local_peer, shutdown.clone()).await?,
            serve_http(http_listener, &node, log, store, shutdown.clone()),
        ];
        tracing::info!(node = config.node_id, %grpc, %http, data_dir = %config.data_dir.display(), "keevod serves");
        Ok(Self { node, grpc, http, shutdown, servers, _folders: folders })
    }

    /// The node inside.
    pub fn node(&self) -> &Node<RocksStore> {
        &self.node
    }

    /// Where gRPC is served.
    pub fn grpc(&self) -> SocketAddr {
        self.grpc
    }

    /// Where HTTP is served.
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// Stops the daemon: what is under way is answered, everything is flushed.
    pub async fn stop(self) -> Result<()> {
        self.shutdown.cancel();
        for server in self.servers {
            let abort = server.abort_handle();
            match tokio::time::timeout(DRAIN, server).await {
                Ok(Ok(ended)) => ended?,
                Ok(Err(error)) => tracing::warn!(%error, "a server ended badly"),
                Err(_elapsed) => {
                    tracing::warn!("requests were still under way after {} s; they are cut off", DRAIN.as_secs());
                    abort.abort();
                }
            }
        }
        self.node.shutdown().await
    }
}

fn store_options(config: &Config) -> RocksOptions {
    RocksOptions {
        wal: false,
        block_cache_bytes: config.block_cache_bytes,
        write_buffer_bytes: config.write_buffer_bytes,
        ..RocksOptions::default()
    }
}

fn node_options(config: &Config) -> NodeOptions {
    NodeOptions {
        node_id: config.node_id,
        address: config.advertise.clone(),
        peers: config.peers.clone(),
        shards: config.shards,
        replication_factor: config.replication_factor,
        join: config.join,
        timing: config.timing,
        flush_every: config.flush_every,
        staging: config.data_dir.join("staging"),
    }
}

async fn serve_grpc(
    listener: TcpListener,
    node: &Node<RocksStore>,
    store: &RocksStore,
    local: LocalPeer,
    shutdown: CancellationToken,
) -> Result<JoinHandle<Result<()>>> {
    let host = Arc::new(ClusterHost::new(node.clone(), store.clone()));
    let handler: Arc<dyn PeerHandler> = Arc::new(node.clone());
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .map_err(|error| Error::new(ErrorKind::Config, "reflection cannot be set up").with_source(error))?;
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_service_status("", tonic_health::ServingStatus::Serving).await;
    let server = tonic::transport::Server::builder()
        .tcp_nodelay(true)
        .initial_stream_window_size(8 << 20)
        .initial_connection_window_size(16 << 20)
        .http2_keepalive_interval(Some(Duration::from_secs(10)))
        .add_service(Refusals::of(KvService::server(Arc::clone(&host), shutdown.clone())))
        .add_service(Refusals::of(AdminService::server(host)))
        .add_service(RaftService::server(handler, local, shutdown.clone()))
        .add_service(Refusals::of(FeedsService::server(node.engine(), shutdown.clone())))
        .add_service(Refusals::of(ChatService::server(node.engine(), shutdown.clone())))
        .add_service(health)
        .add_service(reflection)
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), shutdown.cancelled_owned());
    Ok(tokio::spawn(async move {
        server.await.map_err(|error| Error::new(ErrorKind::Io, "the gRPC server failed").with_source(error))
    }))
}

fn serve_http(
    listener: TcpListener,
    node: &Node<RocksStore>,
    log: Arc<dyn LogStore>,
    store: RocksStore,
    shutdown: CancellationToken,
) -> JoinHandle<Result<()>> {
    let routes = crate::http::routes(Arc::new(Metrics::new(node.clone(), log, store)));
    let server = axum::serve(listener, routes).with_graceful_shutdown(shutdown.cancelled_owned());
    tokio::spawn(async move {
        server.await.map_err(|error| Error::new(ErrorKind::Io, "the HTTP server failed").with_source(error))
    })
}
