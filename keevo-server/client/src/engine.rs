//! `RemoteEngine`: the engine of a cluster, or of a single node, over the network.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use keevo_core::sessions::Sessions;
use keevo_core::trace::{self, Span, SpanKind, Trace};
use keevo_core::{
    Batch, ClientId, Consistency, Engine, Error, ErrorKind, FanOut, FannedOut, Key, Keyspace, KeyspaceKind, Record,
    Result, Scan, ScanPage, ShardId, Watch, WatchFrom, WatchRange, Written,
};
use keevo_proto::admin::v1::admin_client::AdminClient;
use keevo_proto::id_bytes;
use keevo_proto::kv::v1 as pb;
use tokio::time::Instant;

use crate::access::Connection;
use crate::node::Nodes;
use crate::options::ClientOptions;
use crate::pipe::{Answer, Ask};
use crate::retry::Retry;
use crate::routes::Routes;
use crate::shard_map::ShardMap;

/// The [`Engine`] of a cluster or a single node, over gRPC. Cheap to clone; clones share connections, shard map and
/// sessions.
///
/// Each call has a deadline ([`ClientOptions::deadline`]), within which it is retried: reads, fan-outs and sessions
/// freely, writes under the same request id. Its errors are those of the engine that answers, and:
///
/// * `DeadlineExceeded`: a read that was not answered in time.
/// * `OutcomeUnknown`: a write that was sent and not answered in time.
/// * `Unavailable`, `NoQuorum`: what the last attempts met with; nothing was applied. `NoQuorum` is told also when the
///   last attempt had no time left to hear it again.
/// * `ResourceExhausted`: too many requests wait in this client already, which is told at once; or a node was that
///   busy, or full, until the deadline.
#[derive(Debug, Clone)]
pub struct RemoteEngine {
    pub(crate) inner: Arc<Inner>,
    deadline: Duration,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) options: Arc<ClientOptions>,
    pub(crate) nodes: Arc<Nodes>,
    pub(crate) routes: Routes,
    pub(crate) sessions: Sessions,
}

impl RemoteEngine {
    /// Connects to a cluster through any of its nodes: `addresses` are `host:port`.
    ///
    /// Fails with `Invalid` for no or a malformed address, and with `Unavailable` when none of them answers before
    /// the deadline.
    pub async fn connect(addresses: Vec<String>, options: ClientOptions) -> Result<Self> {
        if addresses.is_empty() {
            return Err(Error::invalid("no address of a node was given"));
        }
        let deadline = options.deadline;
        let options = Arc::new(options);
        let nodes = Arc::new(Nodes::new(Arc::clone(&options)));
        for address in &addresses {
            nodes.at(address)?;
        }
        let routes = Routes::new(Arc::clone(&options), Arc::clone(&nodes), addresses);
        let inner = Arc::new(Inner { options, nodes, routes, sessions: Sessions::default() });
        let engine = Self { inner, deadline };
        let mut retry = engine.retry();
        while let Err(error) = engine.inner.routes.refresh(None, None, retry.deadline()).await {
            if error.kind() != ErrorKind::Unavailable {
                return Err(error);
            }
            retry.pause(&error).await?;
        }
        Ok(engine)
    }

    /// The same engine with another deadline for its calls.
    #[must_use]
    pub fn with_deadline(&self, deadline: Duration) -> Self {
        Self { deadline, ..self.clone() }
    }

    /// Applies a batch as [`Engine::write`] does, with a deadline of its own.
    pub async fn write_within(&self, batch: Batch, deadline: Duration) -> Result<Written> {
        self.with_deadline(deadline).write(batch).await
    }

    /// The shard map as the client goes by it.
    pub async fn shard_map(&self) -> Result<Arc<ShardMap>> {
        self.inner.routes.map(self.until()).await
    }

    /// The administration client of the node that leads the meta group, or of any other if that is not known.
    pub async fn admin(&self) -> Result<AdminClient<Connection>> {
        let map = self.shard_map().await?;
        let shard = map.locate(&meta_key().encode())?;
        let address = self.inner.routes.address_of(shard, false, 0)?;
        Ok(self.inner.nodes.at(&address)?.admin())
    }

    /// Opens the session of `client` on every shard, for callers that name their requests themselves
    /// ([`Batch::with_request`]). Other writes get a session and a request id of the engine's own.
    pub async fn open_session(&self, client: ClientId) -> Result<()> {
        let mut retry = self.retry();
        'again: loop {
            let map = self.map_by(&mut retry).await?;
            for shard in map.shards.iter().filter(|shard| map.shards.len() == 1 || shard.id != ShardId::META) {
                match self.open_session_on(shard.id, shard.start.clone(), client, retry.deadline()).await {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::ShardMoved => {
                        retry.pause(&error).await?;
                        continue 'again;
                    }
                    Err(error) => return Err(error),
                }
            }
            return Ok(());
        }
    }

    /// Opens a session on the shard `id`, which starts at `start`. `ShardMoved`: there is a newer map.
    pub(crate) async fn open_session_on(
        &self,
        id: ShardId,
        start: bytes::Bytes,
        client: ClientId,
        deadline: Instant,
    ) -> Result<()> {
        let ask = |deadline_ms| {
            Ask::OpenSession(pb::OpenSessionRequest {
                client: id_bytes(client.0),
                scope: Some(pb::open_session_request::Scope::Shard(id.0)),
                deadline_ms,
            })
        };
        match self.repeat_unless_moved(&start, false, deadline, ask).await? {
            Answer::OpenSession(_) => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Makes a call inside a span of its own, where calls are traced.
    async fn traced<T>(&self, name: &'static str, call: impl Future<Output = Result<T>>) -> Result<T> {
        let Some(sink) = &self.inner.options.traces else { return call.await };
        let parent = trace::current().and_then(|trace| trace.context());
        let Some(context) = parent.map(|parent| parent.at(sink.new_id())).or_else(|| sink.sample()) else {
            return call.await;
        };
        let trace = Trace::begin(Some(context));
        let result = trace.run(call).await;
        sink.take(Span {
            name: name.into(),
            kind: SpanKind::Client,
            trace_id: context.trace_id,
            parent: parent.map(|parent| parent.span_id),
            id: Some(context.span_id),
            shard: None,
            began: trace.began(),
            ended: Instant::now(),
            failed: result.is_err(),
        });
        result
    }

    /// When a call that starts now must be over.
    pub(crate) fn until(&self) -> Instant {
        Instant::now() + self.deadline
    }

    pub(crate) fn retry(&self) -> Retry<'_> {
        Retry::until(&self.inner.options, self.until())
    }

    async fn ask_keyspace(&self, name: &str, create: Option<KeyspaceKind>) -> Result<Keyspace> {
        let answer = self
            .repeat(&meta_key().encode(), false, self.until(), |deadline_ms| {
                Ask::Keyspace(pb::KeyspaceRequest {
                    name: name.to_owned(),
                    create: create.map(Into::into),
                    deadline_ms,
                })
            })
            .await?;
        match answer {
            Answer::Keyspace(pb::KeyspaceResponse { keyspace: Some(keyspace) }) => keyspace.try_into(),
            other => Err(unexpected(&other)),
        }
    }
}

/// A key in the shard that knows the keyspaces.
fn meta_key() -> Key {
    Keyspace::META.key("keyspaces", "")
}

/// An answer to another request than the one that was asked: the node is broken.
pub(crate) fn unexpected(_answer: &Answer) -> Error {
    Error::corrupt("the node answered another request than the one it was asked")
}

// Boxed, by plain functions: what calls an engine does not become as deep as the engine is, nor compile it again.
impl Engine for RemoteEngine {
    async fn keyspace(&self, name: &str, kind: KeyspaceKind) -> Result<Keyspace> {
        kind.validate()?;
        self.ask_keyspace(name, Some(kind)).await
    }

    async fn find_keyspace(&self, name: &str) -> Result<Keyspace> {
        self.ask_keyspace(name, None).await
    }

    fn get(&self, key: Key, consistency: Consistency) -> impl Future<Output = Result<Option<Record>>> + Send {
        async move { self.traced("keevo.get", self.remote_get(key, consistency)).await }.boxed()
    }

    fn multi_get(
        &self,
        keys: Vec<Key>,
        consistency: Consistency,
    ) -> impl Future<Output = Result<Vec<Option<Record>>>> + Send {
        async move { self.traced("keevo.multi_get", self.remote_multi_get(keys, consistency)).await }.boxed()
    }

    fn scan(&self, scan: Scan) -> impl Future<Output = Result<ScanPage>> + Send {
        async move { self.traced("keevo.scan", self.remote_scan(scan)).await }.boxed()
    }

    fn write(&self, batch: Batch) -> impl Future<Output = Result<Written>> + Send {
        async move { self.traced("keevo.write", self.remote_write(batch)).await }.boxed()
    }

    fn fan_out(&self, fan_out: FanOut) -> impl Future<Output = Result<FannedOut>> + Send {
        async move { self.traced("keevo.fan_out", self.remote_fan_out(fan_out)).await }.boxed()
    }

    fn watch(&self, range: WatchRange, from: WatchFrom) -> impl Future<Output = Result<Watch>> + Send {
        async move { self.remote_watch(range, from).await }.boxed()
    }
}
