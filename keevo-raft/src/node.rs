//! A node: the replicas it holds, the map it follows, and what it answers to its peers.
//!
//! All groups share one log store, one data store and one transport. The shard map in the meta group says which
//! replicas a node holds; a loop makes it so, step by step and repeatably, so that a crash at any point
//! is mended by the next round.

mod bootstrap;
mod changes;
mod flush;
mod reconcile;
mod rows;
mod serve;
mod status;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use keevo_core::{Clock, ClusterId, Error, ErrorKind, Random, Result, ShardId, Store};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::cluster_engine::ClusterEngine;
use crate::group::{Group, GroupContext};
use crate::log_store::LogStore;
use crate::network::AddressBook;
use crate::shard_map::ShardMap;
use crate::timing::Timing;
use crate::transport::Transport;

pub use changes::{ChangesPage, ChangesRequest};
pub(crate) use status::decode as decode_status;
pub use status::{NodeStatus, ReplicaStatus};

/// Who a node is: kept beside its stores, so that a wiped or swapped folder is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The node's id.
    pub node_id: u64,
    /// Names the pair of stores; drawn once, when they are made.
    pub pair: u128,
    /// The cluster; `None` until the node takes part in one.
    pub cluster: Option<ClusterId>,
}

/// Keeps a node's [`Identity`] durably.
pub trait IdentityStore: std::fmt::Debug + Send + Sync + 'static {
    /// The identity, if one was saved.
    fn load(&self) -> Result<Option<Identity>>;
    /// Saves the identity; durable when it returns.
    fn save(&self, identity: &Identity) -> Result<()>;
}

/// How a node is set up.
#[derive(Debug, Clone)]
pub struct NodeOptions {
    /// Its id, unique in the cluster.
    pub node_id: u64,
    /// Where its peers reach it: `host:port`.
    pub address: String,
    /// The nodes that found the cluster, this one included, by id. Also where a joining node asks for the map.
    pub peers: BTreeMap<u64, String>,
    /// How many data shards a new cluster gets.
    pub shards: u32,
    /// How many replicas each shard of a new cluster gets.
    pub replication_factor: u32,
    /// Waits to be added to an existing cluster; never founds one.
    pub join: bool,
    /// Heartbeats and elections.
    pub timing: Timing,
    /// How often the data store is flushed so that the log can be purged.
    pub flush_every: Duration,
    /// A folder for snapshots on their way.
    pub staging: PathBuf,
}

/// What a node is made of.
#[derive(Debug)]
pub struct NodeParts<S: Store> {
    /// The data store, shared by all shards.
    pub store: S,
    /// The log store, shared by all groups.
    pub log: Arc<dyn LogStore>,
    /// The way to the peers.
    pub transport: Arc<dyn Transport>,
    /// The node's identity.
    pub identity: Arc<dyn IdentityStore>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The source of randomness.
    pub random: Arc<dyn Random>,
}

/// A node of a cluster. Cheap to clone; clones are the same node.
#[derive(Debug)]
pub struct Node<S: Store> {
    pub(crate) inner: Arc<NodeInner<S>>,
}

impl<S: Store> Clone for Node<S> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

#[derive(Debug)]
pub(crate) struct NodeInner<S: Store> {
    pub(crate) options: NodeOptions,
    pub(crate) parts: NodeParts<S>,
    identity: RwLock<Identity>,
    pub(crate) map_tx: watch::Sender<Option<Arc<ShardMap>>>,
    groups: RwLock<BTreeMap<ShardId, Arc<Group<S>>>>,
    pub(crate) addresses: Arc<AddressBook>,
    wake: tokio::sync::Notify,
    closed: watch::Sender<bool>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl<S: Store> Node<S> {
    /// Starts the node: opens the replicas it holds and begins to follow the map.
    pub async fn start(options: NodeOptions, parts: NodeParts<S>) -> Result<Self> {
        let identity = bootstrap::load_identity(&options, &parts)?;
        if let Err(error) = std::fs::remove_dir_all(&options.staging)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Err(Error::new(ErrorKind::Io, "old snapshot files cannot be removed").with_source(error));
        }
        std::fs::create_dir_all(&options.staging)
            .map_err(|error| Error::new(ErrorKind::Io, "the staging folder cannot be made").with_source(error))?;
        let inner = Arc::new(NodeInner {
            identity: RwLock::new(identity),
            map_tx: watch::Sender::new(None),
            groups: RwLock::new(BTreeMap::new()),
            addresses: Arc::new(AddressBook::default()),
            wake: tokio::sync::Notify::new(),
            closed: watch::Sender::new(false),
            tasks: Mutex::new(Vec::new()),
            options,
            parts,
        });
        for (&id, address) in &inner.options.peers {
            inner.addresses.set(id, address);
        }
        if let Some(map) = rows::load_map(&inner.parts.store)? {
            inner.adopt_in_memory(map);
            inner.open_groups().await?;
        }
        let node = Self { inner };
        node.spawn(reconcile::run(Arc::clone(&node.inner)));
        node.spawn(flush::run(Arc::clone(&node.inner)));
        Ok(node)
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.inner.tasks.lock().unwrap_or_else(PoisonError::into_inner).push(tokio::spawn(task));
    }

    /// The engine over the whole cluster, as seen from this node.
    pub fn engine(&self) -> ClusterEngine<S> {
        ClusterEngine::new(self.clone())
    }

    /// The node's id.
    pub fn id(&self) -> u64 {
        self.inner.options.node_id
    }

    /// The cluster; `None` until the node takes part in one.
    pub fn cluster(&self) -> Option<ClusterId> {
        self.inner.identity().cluster
    }

    /// The shard map as the node knows it.
    pub fn map(&self) -> Option<Arc<ShardMap>> {
        self.inner.map_tx.borrow().clone()
    }

    /// The shard map, or `Unavailable` with what the node waits for to get one.
    pub fn require_map(&self) -> Result<Arc<ShardMap>> {
        self.inner.map_or_wait()
    }

    /// Waits until every shard of the map has a leader that this node knows, or fails at the deadline.
    pub async fn ready(&self, deadline: Duration) -> Result<()> {
        let wait = async {
            loop {
                if self.inner.all_led() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(deadline, wait).await.map_err(|elapsed| {
            Error::new(ErrorKind::NoQuorum, format!("not every shard had a leader within {} ms", deadline.as_millis()))
                .with_source(elapsed)
        })
    }

    /// Flushes the data store and lets the logs be purged behind it.
    pub async fn flush(&self) -> Result<()> {
        flush::once(&self.inner).await
    }

    /// Stops the node: its replicas end, its data is flushed.
    pub async fn shutdown(&self) -> Result<()> {
        self.inner.closed.send_replace(true);
        let tasks = std::mem::take(&mut *self.inner.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        for task in tasks {
            task.abort();
            if let Err(error) = task.await
                && !error.is_cancelled()
            {
                tracing::warn!(%error, "a task of the node ended badly");
            }
        }
        let groups = std::mem::take(&mut *self.inner.groups.write().unwrap_or_else(PoisonError::into_inner));
        for group in groups.into_values() {
            group.shutdown().await;
        }
        let store = self.inner.parts.store.clone();
        tokio::task::spawn_blocking(move || store.flush())
            .await
            .map_err(|error| Error::new(ErrorKind::Io, "the last flush did not run").with_source(error))?
    }
}

impl<S: Store> NodeInner<S> {
    pub(crate) fn identity(&self) -> Identity {
        *self.identity.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_identity(&self, identity: Identity) -> Result<()> {
        self.parts.identity.save(&identity)?;
        *self.identity.write().unwrap_or_else(PoisonError::into_inner) = identity;
        Ok(())
    }

    pub(crate) fn group(&self, shard: ShardId) -> Option<Arc<Group<S>>> {
        self.groups.read().unwrap_or_else(PoisonError::into_inner).get(&shard).cloned()
    }

    pub(crate) fn groups(&self) -> Vec<Arc<Group<S>>> {
        self.groups.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    pub(crate) fn insert_group(&self, group: Arc<Group<S>>) {
        self.groups.write().unwrap_or_else(PoisonError::into_inner).insert(group.shard(), group);
    }

    pub(crate) fn take_group(&self, shard: ShardId) -> Option<Arc<Group<S>>> {
        self.groups.write().unwrap_or_else(PoisonError::into_inner).remove(&shard)
    }

    pub(crate) fn map(&self) -> Option<Arc<ShardMap>> {
        self.map_tx.borrow().clone()
    }

    /// The map, or why there is none yet.
    pub(crate) fn map_or_wait(&self) -> Result<Arc<ShardMap>> {
        self.map().ok_or_else(|| {
            let (node_id, founders) = (self.options.node_id, self.options.peers.len());
            let waits = match (self.options.join, founders) {
                (true, _) => "waits for `keevo-cli cluster join` to take it in".to_owned(),
                (false, 0 | 1) => "founds its cluster just now".to_owned(),
                (false, _) => format!("waits until all {founders} nodes of its `peers` have started"),
            };
            Error::new(ErrorKind::Unavailable, format!("node {node_id} is in no cluster yet: it {waits}"))
        })
    }

    pub(crate) fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }

    pub(crate) fn adopt_in_memory(&self, map: ShardMap) {
        for node in map.nodes.values() {
            self.addresses.set(node.id, &node.address);
        }
        self.map_tx.send_replace(Some(Arc::new(map)));
    }

    fn context(&self, cluster: ClusterId) -> GroupContext {
        GroupContext {
            cluster,
            log: Arc::clone(&self.parts.log),
            transport: Arc::clone(&self.parts.transport),
            addresses: Arc::clone(&self.addresses),
            clock: Arc::clone(&self.parts.clock),
            timing: self.options.timing,
            staging: self.options.staging.clone(),
        }
    }

    fn all_led(&self) -> bool {
        let Some(map) = self.map() else { return false };
        map.shards.iter().all(|shard| {
            let here = shard.replica_on(self.options.node_id).is_some();
            !here || self.group(shard.id).is_some_and(|group| group.leader_node().is_some())
        }) && crate::cluster_map::meta_is_written(self)
    }
}
