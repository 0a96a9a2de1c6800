//! A keevod: stores, node, services, wired together and taken apart again.
//!
//! Order of the start: the addresses are bound (a taken port is found before anything is touched), the folders
//! are opened, the node starts, then requests are served. Order of the end: no new requests, those under way
//! are answered, the replicas stop, the data is flushed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::serve::ListenerExt;
use futures::FutureExt;
use keevo_chat_gateway::{ChatGateway, ChatGatewayOptions, Gatekeeper};
use keevo_core::call::CallLog;
use keevo_core::{Clock, Error, ErrorKind, Result, RocksStore, SeededRandom, SystemClock};
use keevo_feeds::FeedsOptions;
use keevo_gateway::apps::{Apps, OsRandom};
use keevo_gateway::{Gateway, GatewayOptions, Registry};
use keevo_proto::admin::v1::observe_server::ObserveServer;
use keevo_proto::{DEADLINE_MS_DEFAULT, FILE_DESCRIPTOR_SET};
use keevo_raft::{ClusterEngine, Node, NodeOptions, NodeParts, PeerHandler, StorageCare, Transport};
use keevo_streams::Sinks;
use keevo_tls::{Protocol, ServerTls, TlsIncoming};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::server::TcpIncoming;

use crate::apilog::replay::Doors;
use crate::apilog::{self, Logged, Replayer};
use crate::archive::Archiving;
use crate::auth::{Authority, DoorLayer};
use crate::backup::Backups;
use crate::calls::{Calls, Counted};
use crate::cluster_host::ClusterHost;
use crate::config::Config;
use crate::console::{Console, ConsoleParts};
use crate::grpc::admin::AdminService;
use crate::grpc::apilog::ApiLogService;
use crate::grpc::apps::AppsService;
use crate::grpc::auth::AuthService;
use crate::grpc::backup::BackupService;
use crate::grpc::chat::ChatService;
use crate::grpc::chat_realtime::RealtimeService;
use crate::grpc::chat_search::ChatSearchService;
use crate::grpc::chat_transfer::ChatTransferService;
use crate::grpc::feeds::FeedsService;
use crate::grpc::kv::KvService;
use crate::grpc::moderation::ModerationService;
use crate::grpc::observe::ObserveService;
use crate::grpc::refusals::Refusals;
use crate::grpc::sinks::SinksService;
use crate::grpc::social::SocialService;
use crate::health::Health;
use crate::http::{Https, over_tls};
use crate::identity::{Folders, IdentityFile};
use crate::metrics::{Metrics, meters};
use crate::moderation::{self, Moderation};
use crate::observe::{RecentLog, trace_to};
use crate::peer::{GrpcTransport, LocalPeer, RaftService};
use crate::slow::SlowLog;
use crate::stores::{Stores, open_log};
use crate::{search, streams};

/// How long requests under way may take to end when the daemon stops.
const DRAIN: Duration = Duration::from_secs(10);
/// How long those who watch the node's health have to hear of its end before their streams end.
const FAREWELL: Duration = Duration::from_millis(100);
/// How long the feeds' workers, and what waits for their changes, may take to end.
const WORKER_STOP: Duration = Duration::from_secs(5);
/// How much less time than a call's default deadline an engine call of feeds or chat has, so that its error is heard.
const LAYER_MARGIN: Duration = Duration::from_secs(1);

/// A daemon that runs.
#[derive(Debug)]
pub struct Daemon {
    node: Node,
    grpc: SocketAddr,
    http: SocketAddr,
    /// Whether HTTP is served over TLS.
    https: bool,
    shutdown: CancellationToken,
    servers: Vec<JoinHandle<Result<()>>>,
    health: Health,
    gateway: Gateway,
    /// The workers of feeds and chat, the webhooks, and moderation's pipeline.
    background: JoinHandle<()>,
    /// Keeps the folders locked.
    _folders: Arc<Folders>,
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
    pub fn start(config: Config) -> impl Future<Output = Result<Self>> + Send {
        async move {
            let (grpc_listener, http_listener) = listen(&config).await?;
            let local = |listener: &TcpListener| listener.local_addr().map_err(no_listener);
            let (grpc, http) = (local(&grpc_listener)?, local(&http_listener)?);
            let tls = config.tls.clone().map(ServerTls::open).transpose()?;
            let random = Arc::new(SeededRandom::from_os());
            IdentityFile::in_dir(&config.data_dir).check_level(config.levels)?;
            let folders = Arc::new(Folders::open(&config.data_dir, config.node_id, random.as_ref())?);
            let (data_db, log_folder) = folders.stores()?;
            let store = RocksStore::open(data_db, config.storage.data_store()?)?;
            let log = open_log(&log_folder, &config.storage)?;
            let stores = Stores::new(store.clone(), Arc::clone(&log), Arc::clone(&folders), &config.storage);
            let local_peer =
                LocalPeer { node_id: config.node_id, address: config.advertise.clone(), levels: config.levels };
            let transport = Arc::new(
                GrpcTransport::new(local_peer.clone(), config.snapshot_bytes_per_second).with_tls(tls.clone()),
            );
            let parts = NodeParts {
                store: store.clone().into(),
                log: Arc::clone(&log),
                transport: Arc::clone(&transport) as Arc<dyn Transport>,
                identity: Arc::new(folders.identity.clone()),
                clock: Arc::new(SystemClock::new()),
                random,
            };
            let care = StorageCare { disk: Arc::new(folders.disk()), limits: config.storage.limits };
            let node = Node::start_with(node_options(&config), parts, care).await?;
            let archiving = Archiving::open(&config.archive, &node)?;
            let backups = Backups::open(&config, &node)?;
            let shutdown = CancellationToken::new();
            let traces = config.traces.as_ref().map(|traces| trace_to(traces, &node)).transpose()?;
            let calls = Arc::new(Calls::watched(SlowLog::new(config.slow_call), traces));
            let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
            let call_log = CallLog::new(config.node_id, config.api_log, Arc::clone(&clock), Arc::new(OsRandom));
            let gateway = gateway(&config, &node, &call_log, shutdown.clone())?;
            let moderation = moderation::of_node(&config.moderation, &node, layers(&node), gateway.registry())?;
            let gate = moderation.gate().map(|gate| Arc::new(gate) as Arc<dyn Gatekeeper>);
            let search = search::of_node(&config, &node, layers(&node), &gateway);
            let options = ChatGatewayOptions { search: search.clone(), ..ChatGatewayOptions::default() };
            let chat = ChatGateway::new(gateway.clone(), gate, options);
            let sinks = streams::runner(&config, &node, layers(&node));
            let authority = authority(&config, &node)?;
            let door = door(&config, tls.is_some(), &authority);
            let scrubs = stores.scrubs();
            let (feeds, moderated) = meters(&gateway, &moderation);
            let metrics = Arc::new(Metrics {
                node: node.clone(),
                log,
                store,
                scrubs,
                calls: Arc::clone(&calls),
                transport,
                chat: chat.clone(),
                feeds,
                moderation: moderated,
                sinks: sinks.clone(),
                search: search.clone(),
                tls: tls.clone(),
                authority: door.authority.clone(),
                call_log: Arc::clone(&call_log),
                archive: Box::new(archiving.meter()),
            });
            let parts = GrpcParts {
                observe: ObserveService::server(Arc::clone(&metrics), config.shown.clone(), RecentLog::of_process()),
                node: &node,
                stores: &stores,
                calls: &calls,
                gateway: &gateway,
                chat: &chat,
                call_log: &call_log,
                clock,
                backups,
                moderation: &moderation,
                sinks: sinks.sinks(),
                authority: Arc::clone(&authority),
                door: door.clone(),
                tls: tls.clone(),
            };
            let grpc_server = serve_grpc(grpc_listener, parts, local_peer, shutdown.clone()).await?;
            let console = console(&config, &gateway, &moderation, &metrics);
            let routes = crate::http::routes(metrics, &console, &gateway, &chat);
            let http_server = serve_http(http_listener, routes, tls.clone(), shutdown.clone())?;
            let servers = vec![grpc_server.task, http_server];
            let pipeline = moderation.run(shutdown.clone());
            let streams = sinks.run(shutdown.clone());
            let (pipeline, https) =
                (futures::future::join3(pipeline, archiving.run(shutdown.clone()), streams).map(drop), tls.is_some());
            let rights = follow_rights(door.authority, shutdown.clone());
            let security =
                futures::future::join3(watch_tls(tls, shutdown.clone()), rights, console.run(shutdown.clone()));
            let outcomes = apilog::outcomes::run(node.engine(), call_log, shutdown.clone());
            let searching = search::run(search, shutdown.clone());
            let layers = futures::future::join3(gateway.clone().run(), chat.run(), searching);
            let background = tokio::spawn(futures::future::join4(layers, pipeline, security, outcomes).map(drop));
            let health = grpc_server.health;
            tracing::info!(node = config.node_id, %grpc, %http, data_dir = %config.data_dir.display(), "keevod serves");
            Ok(Self { node, grpc, http, https, shutdown, servers, health, gateway, background, _folders: folders })
        }
        .boxed()
    }

    /// The node inside.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The feeds REST API, whose apps can be changed through it.
    pub fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    /// Where gRPC is served.
    pub fn grpc(&self) -> SocketAddr {
        self.grpc
    }

    /// Where HTTP is served.
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// The address of the console.
    pub fn console(&self) -> String {
        let scheme = if self.https { "https" } else { "http" };
        format!("{scheme}://{}/console/", self.http)
    }

    /// Waits until a server of the daemon ends although nobody stopped it, and says why. The daemon is of no use then,
    /// but is still to be stopped.
    pub async fn failed(&mut self) -> Error {
        if self.servers.is_empty() {
            return std::future::pending().await;
        }
        let (ended, which, _) = futures::future::select_all(self.servers.iter_mut()).await;
        drop(self.servers.swap_remove(which));
        match ended {
            Ok(Err(error)) => error,
            Ok(Ok(())) => Error::new(ErrorKind::Io, "a server ended although nobody stopped it"),
            Err(error) => Error::new(ErrorKind::Io, "a server's task failed").with_source(error),
        }
    }

    /// Stops the daemon: what is under way is answered, everything is flushed. The first error is told, but keeps
    /// nothing from being stopped.
    pub fn stop(mut self) -> impl Future<Output = Result<()>> + Send {
        async move {
            self.health.stop().await;
            self.shutdown.cancel();
            tokio::time::sleep(FAREWELL).await;
            self.health.close().await;
            let mut stopped = Ok(());
            for server in self.servers {
                let abort = server.abort_handle();
                match tokio::time::timeout(DRAIN, server).await {
                    Ok(Ok(ended)) => stopped = stopped.and(ended),
                    Ok(Err(error)) => tracing::warn!(%error, "a server ended badly"),
                    Err(_elapsed) => {
                        tracing::warn!("requests were still under way after {} s; they are cut off", DRAIN.as_secs());
                        abort.abort();
                    }
                }
            }
            let abort = self.background.abort_handle();
            if tokio::time::timeout(WORKER_STOP, self.background).await.is_err() {
                tracing::warn!(
                    "the feeds' workers were still busy after {} s; they are cut off",
                    WORKER_STOP.as_secs()
                );
                abort.abort();
            }
            stopped.and(self.node.shutdown().await)
        }
        .boxed()
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
        archive: config.archive.limits,
        levels: config.levels,
    }
}

/// The engine of feeds and chat: its calls end before the caller's patience does.
fn layers(node: &Node) -> ClusterEngine {
    let patience = Duration::from_millis(DEADLINE_MS_DEFAULT.into());
    node.engine().with_deadline(patience.saturating_sub(LAYER_MARGIN))
}

/// The feeds REST API over the node.
fn gateway(config: &Config, node: &Node, calls: &Arc<CallLog>, shutdown: CancellationToken) -> Result<Gateway> {
    let apps = Apps::new(node.engine().meta(), Arc::new(SystemClock::new()), Arc::new(OsRandom));
    let registry = Registry::new(layers(node), FeedsOptions::default());
    let options = GatewayOptions {
        files_dir: Some(config.files_dir.clone()),
        files_url: config.files_url.clone(),
        private_fetches: config.private_fetches,
        calls: Some(Arc::clone(calls)),
        ..GatewayOptions::default()
    };
    Gateway::open(apps, registry, options, shutdown)
}

/// The console of the node.
fn console(
    config: &Config,
    gateway: &Gateway,
    moderation: &Moderation<ClusterEngine>,
    metrics: &Arc<Metrics>,
) -> Console {
    Console::new(ConsoleParts {
        node: metrics.node.clone(),
        engine: layers(&metrics.node),
        gateway: gateway.clone(),
        moderation: moderation.clone(),
        metrics: Arc::clone(metrics),
        authority: metrics.authority.clone(),
        open: config.http.ip().is_loopback() || config.insecure,
        clock: Arc::new(SystemClock::new()),
        random: Arc::new(OsRandom),
    })
}

/// The gRPC side of a daemon.
struct GrpcServer {
    task: JoinHandle<Result<()>>,
    health: Health,
}

/// What the gRPC services are over.
struct GrpcParts<'a> {
    observe: ObserveServer<ObserveService>,
    node: &'a Node,
    stores: &'a Stores,
    calls: &'a Arc<Calls>,
    gateway: &'a Gateway,
    chat: &'a ChatGateway,
    call_log: &'a Arc<CallLog>,
    clock: Arc<dyn Clock>,
    backups: Backups,
    moderation: &'a Moderation<ClusterEngine>,
    sinks: &'a Sinks,
    authority: Arc<Authority>,
    door: DoorLayer,
    tls: Option<Arc<ServerTls>>,
}

/// The listeners of gRPC and of HTTP.
async fn listen(config: &Config) -> Result<(TcpListener, TcpListener)> {
    if config.insecure && !(config.grpc.ip().is_loopback() && config.http.ip().is_loopback()) {
        tracing::warn!("insecure: whoever reaches this node may read and write everything");
    }
    Ok((bind("gRPC", config.grpc).await?, bind("HTTP", config.http).await?))
}

/// Who may call.
fn door(config: &Config, has_tls: bool, authority: &Arc<Authority>) -> DoorLayer {
    DoorLayer {
        authority: config.auth.is_some().then(|| Arc::clone(authority)),
        proven: has_tls || (config.auth.is_some() && !config.insecure),
    }
}

async fn serve_grpc(
    listener: TcpListener,
    parts: GrpcParts<'_>,
    local: LocalPeer,
    shutdown: CancellationToken,
) -> Result<GrpcServer> {
    let GrpcParts { node, stores, calls, gateway, chat, call_log, clock, .. } = parts;
    let GrpcParts { observe, backups, moderation, sinks, authority, door, tls, .. } = parts;
    let host = Arc::new(ClusterHost::new(node.clone(), stores.clone()).with_tls(tls.clone()));
    let handler: Arc<dyn PeerHandler> = Arc::new(node.clone());
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .map_err(|error| Error::new(ErrorKind::Config, "reflection cannot be set up").with_source(error))?;
    let (health, health_service) = Health::start(node.clone()).await;
    let feeds_service = FeedsService::server(gateway.clone());
    let social_service = SocialService::server(gateway.clone());
    let apps_service = AppsService::server(gateway.apps().clone());
    let chat_service = ChatService::server(layers(node), moderation.gate(), shutdown.clone());
    let transfer_service = ChatTransferService::server(layers(node));
    let moderation_service = ModerationService::server(moderation.clone());
    let recorded = Some(Arc::clone(call_log));
    let kv_service = KvService::recording_server(Arc::clone(&host), shutdown.clone(), Arc::clone(calls), recorded);
    let doors = Doors {
        grpc: Routes::new(feeds_service.clone())
            .add_service(social_service.clone())
            .add_service(chat_service.clone())
            .add_service(transfer_service.clone()),
        feeds: gateway.router(),
        chat: chat.router(),
    };
    let replayer = Replayer::new(layers(node), Arc::clone(call_log), clock, doors);
    let log_service = ApiLogService::server(node.clone(), Arc::clone(call_log), replayer, backups.clone());
    let proven = door.proven;
    let server = tonic::transport::Server::builder()
        .initial_stream_window_size(8 << 20)
        .initial_connection_window_size(16 << 20)
        .http2_keepalive_interval(Some(Duration::from_secs(10)))
        .layer(door)
        .add_service(Counted::new(Refusals::of(kv_service), calls))
        .add_service(Counted::new(Refusals::of(AdminService::server(host)), calls))
        .add_service(Counted::new(Refusals::of(apps_service), calls))
        .add_service(Counted::new(Refusals::of(log_service), calls))
        .add_service(Counted::new(Refusals::of(AuthService::server(authority)), calls))
        .add_service(Counted::new(Refusals::of(BackupService::server(backups)), calls))
        .add_service(Counted::new(Refusals::of(moderation_service), calls))
        .add_service(Counted::new(Refusals::of(SinksService::server(sinks.clone())), calls))
        .add_service(Counted::new(Refusals::of(observe), calls))
        .add_service(RaftService::proving_server(handler, local, proven, shutdown.clone()))
        .add_service(Counted::new(Refusals::of(Logged::new(feeds_service, call_log)), calls))
        .add_service(Counted::new(Refusals::of(Logged::new(social_service, call_log)), calls))
        .add_service(Counted::new(Refusals::of(Logged::new(chat_service, call_log)), calls))
        .add_service(Counted::new(Refusals::of(Logged::new(transfer_service, call_log)), calls))
        .add_service(Counted::new(Refusals::of(ChatSearchService::server(layers(node), gateway, chat.search())), calls))
        .add_service(Counted::new(Refusals::of(RealtimeService::server(chat.clone())), calls))
        .add_service(health_service)
        .add_service(reflection);
    let ended = shutdown.cancelled_owned();
    let failed = |error| Error::new(ErrorKind::Io, "the gRPC server failed").with_source(error);
    let task = if let Some(tls) = tls {
        let incoming = TlsIncoming::start(listener, tls, Protocol::Grpc).map_err(no_listener)?;
        let served = server.serve_with_incoming_shutdown(incoming, ended);
        tokio::spawn(async move { served.await.map_err(failed) })
    } else {
        // Without it small answers wait for the acknowledgement of those before, 40 ms at a time.
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let served = server.serve_with_incoming_shutdown(incoming, ended);
        tokio::spawn(async move { served.await.map_err(failed) })
    };
    Ok(GrpcServer { task, health })
}

fn no_listener(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, "the listening address cannot be read").with_source(error)
}

/// Who may do what on a node.
fn authority(config: &Config, node: &Node) -> Result<Arc<Authority>> {
    let key = config.auth.as_ref().and_then(|auth| auth.admin_key_file.as_ref()).map(|path| {
        std::fs::read_to_string(path).map_err(|error| {
            let message = format!("auth_admin_key_file: {} cannot be read", path.display());
            Error::new(ErrorKind::Config, message).with_source(error)
        })
    });
    let key = key.transpose()?;
    let clock = Arc::new(SystemClock::new());
    Authority::new(node.engine().meta(), config.node_id, key.as_deref(), clock, Arc::new(OsRandom))
}

/// Keeps the table of roles and keys fresh, until `shutdown`.
async fn follow_rights(authority: Option<Arc<Authority>>, shutdown: CancellationToken) {
    if let Some(authority) = authority {
        authority.follow(shutdown).await;
    }
}

/// Takes the TLS files anew when they change, until `shutdown`.
async fn watch_tls(tls: Option<Arc<ServerTls>>, shutdown: CancellationToken) {
    if let Some(tls) = tls {
        tls.watch(shutdown).await;
    }
}

fn serve_http(
    listener: TcpListener,
    routes: Router,
    tls: Option<Arc<ServerTls>>,
    shutdown: CancellationToken,
) -> Result<JoinHandle<Result<()>>> {
    let ended = shutdown.cancelled_owned();
    let failed = |error| Error::new(ErrorKind::Io, "the HTTP server failed").with_source(error);
    Ok(if let Some(tls) = tls {
        let incoming = TlsIncoming::start(listener, tls, Protocol::Http).map_err(no_listener)?;
        let server = axum::serve(Https(incoming), over_tls(routes)).with_graceful_shutdown(ended);
        tokio::spawn(async move { server.await.map_err(failed) })
    } else {
        // Without it small frames wait for the acknowledgement of those before, 40 ms at a time.
        let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
        let server = axum::serve(listener, routes).with_graceful_shutdown(ended);
        tokio::spawn(async move { server.await.map_err(failed) })
    })
}
