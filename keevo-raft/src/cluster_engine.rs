//! The engine over a whole cluster, as seen from one of its nodes.
//!
//! A call finds the shard of its key in the map, goes to the replica here if that one leads, else to the node
//! that does, and follows hints until the deadline. Writes carry a request id of this engine's own session in the
//! shard, so that one whose answer was lost is sent again and applied once.

mod known;
mod reads;
mod route;
mod view_scan;
mod watch;
mod writes;

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use keevo_core::keyspaces::{self, MetaStore};
use keevo_core::sessions::Sessions;
use keevo_core::{
    Batch, ClientId, Command, Consistency, Engine, Error, ErrorKind, FanOut, FannedOut, Key, Keyspace, KeyspaceKind,
    Outcome, Record, Restore, Result, Scan, ScanPage, ShardId, Watch, WatchFrom, WatchRange, Written,
};

use crate::node::Node;
pub(crate) use route::{Attempt, Effect};

/// How long a call may take unless told otherwise.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// The engine over a cluster. Cheap to clone; clones share sessions and routes.
#[derive(Debug, Clone)]
pub struct ClusterEngine {
    pub(crate) node: Node,
    shared: Arc<Shared>,
    deadline: Duration,
}

#[derive(Debug)]
struct Shared {
    sessions: Sessions,
    routes: route::Routes,
    known: known::Known,
}

impl ClusterEngine {
    pub(crate) fn new(node: Node) -> Self {
        let shared =
            Shared { sessions: Sessions::default(), routes: route::Routes::default(), known: known::Known::default() };
        Self { node, shared: Arc::new(shared), deadline: DEADLINE }
    }

    /// The same engine with another deadline for every call.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// The node it looks out from.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The shard that owns a key.
    pub fn shard_of(&self, key: &Key) -> Result<ShardId> {
        Ok(self.node.inner.map_or_wait()?.locate(&key.encode())?.id)
    }

    /// Opens a client's session in the shard that owns `key`, so that the client's requests to it are applied once.
    pub async fn open_session(&self, key: &Key, client: ClientId) -> Result<()> {
        self.open_session_in(self.shard_of(key)?, client).await
    }

    /// Opens a client's session in a shard.
    pub async fn open_session_in(&self, shard: ShardId, client: ClientId) -> Result<()> {
        self.propose(shard, Command::OpenSession(client)).await.map(drop)
    }

    /// Has every replica of a shard compute the hash of its records at one point of the log. The replicas' results
    /// are in their status.
    pub async fn checksum(&self, shard: ShardId) -> Result<(u64, u64, u64)> {
        match self.propose(shard, Command::Checksum).await? {
            Outcome::Checksum { revision, hash, records } => Ok((revision.0, hash, records)),
            Outcome::Refused(error) => Err(error),
            other => Err(Error::corrupt(format!("a checksum was answered by {other:?}"))),
        }
    }

    /// Puts rows of a backup in place in the shard, which must own them all: whoever calls this has checked that the
    /// rows may be written. Repeatable.
    pub async fn restore(&self, shard: ShardId, restore: Restore) -> Result<()> {
        restore.validate()?;
        match self.propose(shard, Command::Restore(restore)).await? {
            Outcome::Refused(error) => Err(error),
            _ => Ok(()),
        }
    }

    /// The meta keyspace, for the cluster's own configuration: users do not write to it, and whoever has this may.
    pub fn meta(&self) -> Meta {
        Meta(self.clone())
    }

    pub(crate) fn get_unchecked(&self, key: Key) -> BoxFuture<'_, Result<Option<Record>>> {
        Box::pin(self.get_key(key, Consistency::Linearizable))
    }

    pub(crate) fn write_unchecked(&self, batch: Batch) -> BoxFuture<'_, Result<Written>> {
        Box::pin(async move {
            batch.validate()?;
            self.write_batch(batch).await
        })
    }
}

/// The meta keyspace through the engine itself. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Meta(ClusterEngine);

impl MetaStore for Meta {
    async fn get(&self, key: Key) -> Result<Option<Record>> {
        self.0.get_unchecked(key).await
    }

    async fn write(&self, batch: Batch) -> Result<Written> {
        self.0.write_unchecked(batch).await
    }
}

// Boxed, by plain functions: what calls an engine does not become as deep as the engine is, nor compile it again.
impl Engine for ClusterEngine {
    async fn keyspace(&self, name: &str, kind: KeyspaceKind) -> Result<Keyspace> {
        keyspaces::ensure_keyspace(&self.meta(), name, kind).await
    }

    async fn find_keyspace(&self, name: &str) -> Result<Keyspace> {
        keyspaces::find_keyspace(&self.meta(), name).await
    }

    fn get(&self, key: Key, consistency: Consistency) -> impl Future<Output = Result<Option<Record>>> + Send {
        async move {
            key.validate()?;
            self.check_keyspace(key.keyspace).await?;
            self.get_key(key, consistency).await
        }
        .boxed()
    }

    fn multi_get(
        &self,
        keys: Vec<Key>,
        consistency: Consistency,
    ) -> impl Future<Output = Result<Vec<Option<Record>>>> + Send {
        async move {
            if keys.len() > keevo_core::limits::MULTI_GET_KEYS_MAX {
                return Err(Error::new(
                    ErrorKind::BatchTooLarge,
                    format!("{} keys, more than {}", keys.len(), keevo_core::limits::MULTI_GET_KEYS_MAX),
                ));
            }
            for key in &keys {
                key.validate()?;
                self.check_keyspace(key.keyspace).await?;
            }
            self.get_keys(keys, consistency).await
        }
        .boxed()
    }

    fn scan(&self, scan: Scan) -> impl Future<Output = Result<ScanPage>> + Send {
        async move {
            scan.validate()?;
            self.check_keyspace(reads::scan_keyspace(&scan)).await?;
            self.scan_page(scan).await
        }
        .boxed()
    }

    fn write(&self, batch: Batch) -> impl Future<Output = Result<Written>> + Send {
        async move {
            batch.validate()?;
            if let Some(key) = batch.partition_key() {
                self.check_keyspace(key.keyspace).await?;
            }
            self.write_batch(batch).await
        }
        .boxed()
    }

    fn fan_out(&self, fan_out: FanOut) -> impl Future<Output = Result<FannedOut>> + Send {
        async move {
            fan_out.validate()?;
            self.check_keyspace(fan_out.keyspace).await?;
            self.fan_out_all(fan_out).await
        }
        .boxed()
    }

    fn watch(&self, range: WatchRange, from: WatchFrom) -> impl Future<Output = Result<Watch>> + Send {
        async move {
            let (WatchRange::Partition { keyspace, .. } | WatchRange::Keyspace(keyspace)) = &range;
            self.check_keyspace(*keyspace).await?;
            self.watch_range(range, from).await
        }
        .boxed()
    }
}
