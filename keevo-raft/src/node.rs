//! A node: the replicas it holds, the map it follows, and what it answers to its peers.
//!
//! All groups share one log store, one data store and one transport. The shard map in the meta group says which
//! replicas a node holds; a loop makes it so, step by step and repeatably, so that a crash at any point
//! is mended by the next round. A replica that fails is closed, reported and opened again; the others go on.

mod archive;
mod bootstrap;
mod calls;
mod care;
mod changes;
mod checkpoint;
mod faults;
mod flush;
mod members;
mod parts;
mod reconcile;
mod removed;
mod rows;
mod serve;
mod status;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use futures::FutureExt;
use keevo_core::machine::ShardView;
use keevo_core::views::{ViewLimits, Views};
use keevo_core::{ClusterId, Error, ErrorKind, Result, ShardId, Store};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::blocking;
use crate::cluster_engine::ClusterEngine;
use crate::gate::Gate;
pub use crate::group::ReplicaGauges;
use crate::group::{Group, GroupContext};
use crate::hlc::NodeHlc;
use crate::network::AddressBook;
use crate::shard_map::ShardMap;
use crate::storage_care::StorageCare;

pub use archive::{ArchiveState, LoggedEntry, LoggedKind, ShardCopy};
pub(crate) use bootstrap::Hello;
#[cfg(feature = "fuzzing")]
pub(crate) use bootstrap::decode_hello;
pub use calls::{CallEntry, CallsPage};
pub(crate) use changes::page_of;
pub use changes::{ChangesPage, ChangesRequest};
pub use parts::{Identity, IdentityStore, NodeOptions, NodeParts};
pub use status::{NodeStatus, ReplicaStatus};
pub(crate) use status::{Told, decode as decode_status};

/// A node of a cluster. Cheap to clone; clones are the same node.
#[derive(Debug, Clone)]
pub struct Node {
    pub(crate) inner: Arc<NodeInner>,
}

#[derive(Debug)]
pub(crate) struct NodeInner {
    pub(crate) options: NodeOptions,
    pub(crate) parts: NodeParts,
    identity: RwLock<Identity>,
    pub(crate) map_tx: watch::Sender<Option<Arc<ShardMap>>>,
    /// Held while a map is adopted: the row on disk and the map in memory never go back.
    adopting: Mutex<()>,
    groups: RwLock<BTreeMap<ShardId, Arc<Group>>>,
    faults: faults::Faults,
    pub(crate) addresses: Arc<AddressBook>,
    /// The read views of consistent scans.
    pub(crate) views: Arc<Views<ShardView>>,
    wake: tokio::sync::Notify,
    pub(crate) gate: Arc<Gate>,
    /// The level of the map in memory; 0 before there is one.
    level: Arc<AtomicU32>,
    /// The latest clock of any write that this node led or heard of.
    pub(crate) hlc: Arc<NodeHlc>,
    /// Asks for a flush before its time.
    flush_wanted: tokio::sync::Notify,
    /// Held during a flush and its purges.
    flushing: tokio::sync::Mutex<()>,
    closed: watch::Sender<bool>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl Node {
    /// Starts the node: opens the replicas it holds and begins to follow the map. A replica that does not open is
    /// reported and tried again; it keeps none of the others down. Without limits on its storage.
    pub fn start(options: NodeOptions, parts: NodeParts) -> impl Future<Output = Result<Self>> + Send {
        Self::start_with(options, parts, StorageCare::default())
    }

    /// As [`Node::start`], taking care of its disk and its stores.
    pub fn start_with(
        options: NodeOptions,
        parts: NodeParts,
        care: StorageCare,
    ) -> impl Future<Output = Result<Self>> + Send {
        async move {
            let identity = bootstrap::load_identity(&options, &parts)?;
            if let Err(error) = std::fs::remove_dir_all(&options.staging)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                return Err(Error::new(ErrorKind::Io, "old snapshot files cannot be removed").with_source(error));
            }
            std::fs::create_dir_all(&options.staging)
                .map_err(|error| Error::new(ErrorKind::Io, "the staging folder cannot be made").with_source(error))?;
            let (clock, random) = (Arc::clone(&parts.clock), parts.random.as_ref());
            let views = Arc::new(Views::new(options.node_id, ViewLimits::default(), clock, random));
            let inner = Arc::new(NodeInner {
                views,
                identity: RwLock::new(identity),
                map_tx: watch::Sender::new(None),
                adopting: Mutex::new(()),
                groups: RwLock::new(BTreeMap::new()),
                faults: faults::Faults::default(),
                addresses: Arc::new(AddressBook::default()),
                wake: tokio::sync::Notify::new(),
                gate: Arc::new(Gate::new(&care)),
                level: Arc::default(),
                hlc: Arc::default(),
                flush_wanted: tokio::sync::Notify::new(),
                flushing: tokio::sync::Mutex::new(()),
                closed: watch::Sender::new(false),
                tasks: Mutex::new(Vec::new()),
                options,
                parts,
            });
            for (&id, address) in &inner.options.peers {
                inner.addresses.set(id, address);
            }
            match (rows::load_map(&inner.parts.store)?, identity.cluster) {
                (Some(map), _) => {
                    inner.resume(map.clone())?;
                    inner.open_groups(&map).await;
                }
                (None, Some(cluster)) => return Err(bootstrap::lost_data(cluster)),
                (None, None) => {}
            }
            let node = Self { inner };
            node.spawn(reconcile::run(Arc::clone(&node.inner)));
            node.spawn(flush::run(Arc::clone(&node.inner)));
            if node.inner.gate.is_on() {
                node.spawn(care::run(Arc::clone(&node.inner)));
            }
            Ok(node)
        }
        .boxed()
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.inner.tasks.lock().unwrap_or_else(PoisonError::into_inner).push(tokio::spawn(task));
    }

    /// The engine over the whole cluster, as seen from this node.
    pub fn engine(&self) -> ClusterEngine {
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

    /// The shard map, if the node may serve by it. `Unavailable` before it takes part in a cluster, and once it was
    /// removed from it.
    pub fn serving_map(&self) -> Result<Arc<ShardMap>> {
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
    pub fn shutdown(&self) -> impl Future<Output = Result<()>> + Send {
        async move {
            self.halt().await;
            let store = self.inner.parts.store.clone();
            blocking::run(&self.inner.parts.store, "the last flush", move || store.flush()).await
        }
        .boxed()
    }

    /// Ends the node's tasks and replicas; what is not durable yet stays so.
    pub(crate) fn halt(&self) -> futures::future::BoxFuture<'_, ()> {
        Box::pin(self.end())
    }

    async fn end(&self) {
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
        self.inner.views.end_all();
    }
}

impl NodeInner {
    pub(crate) fn identity(&self) -> Identity {
        *self.identity.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_identity(&self, identity: Identity) -> Result<()> {
        self.parts.identity.save(&identity)?;
        *self.identity.write().unwrap_or_else(PoisonError::into_inner) = identity;
        Ok(())
    }

    pub(crate) fn group(&self, shard: ShardId) -> Option<Arc<Group>> {
        self.groups.read().unwrap_or_else(PoisonError::into_inner).get(&shard).cloned()
    }

    pub(crate) fn groups(&self) -> Vec<Arc<Group>> {
        self.groups.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    pub(crate) fn insert_group(&self, group: Arc<Group>) {
        self.groups.write().unwrap_or_else(PoisonError::into_inner).insert(group.shard(), group);
    }

    pub(crate) fn take_group(&self, shard: ShardId) -> Option<Arc<Group>> {
        self.groups.write().unwrap_or_else(PoisonError::into_inner).remove(&shard)
    }

    pub(crate) fn map(&self) -> Option<Arc<ShardMap>> {
        self.map_tx.borrow().clone()
    }

    /// The map, or why there is none to work by: the node does not take part yet, or no longer.
    pub(crate) fn map_or_wait(&self) -> Result<Arc<ShardMap>> {
        let map = self.map().ok_or_else(|| {
            let (node_id, founders) = (self.options.node_id, self.options.peers.len());
            let waits = match (self.options.join, founders) {
                (true, _) => "waits for `keevo-cli cluster join` to take it in".to_owned(),
                (false, 0 | 1) => "founds its cluster just now".to_owned(),
                (false, _) => format!("waits until all {founders} nodes of its `peers` have started"),
            };
            Error::new(ErrorKind::Unavailable, format!("node {node_id} is in no cluster yet: it {waits}"))
        })?;
        if removed::is_removed(&map, self.options.node_id) {
            return Err(removed::error(&map, self.options.node_id));
        }
        Ok(map)
    }

    pub(crate) fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }

    pub(crate) fn adopt_in_memory(&self, map: ShardMap) {
        for node in map.nodes.values() {
            self.addresses.set(node.id, &node.address);
        }
        self.level.store(map.level, Ordering::Release);
        self.map_tx.send_replace(Some(Arc::new(map)));
    }

    fn context(&self, cluster: ClusterId) -> GroupContext {
        GroupContext {
            cluster,
            log: Arc::clone(&self.parts.log),
            transport: Arc::clone(&self.parts.transport),
            addresses: Arc::clone(&self.addresses),
            clock: Arc::clone(&self.parts.clock),
            gate: Arc::clone(&self.gate),
            hlc: Arc::clone(&self.hlc),
            timing: self.options.timing,
            staging: self.options.staging.clone(),
            views: Arc::clone(&self.views),
            archive: self.options.archive,
            level: Arc::clone(&self.level),
        }
    }

    fn all_led(&self) -> bool {
        let Ok(map) = self.map_or_wait() else { return false };
        map.shards.iter().all(|shard| {
            let here = shard.replica_on(self.options.node_id).is_some();
            !here || self.group(shard.id).is_some_and(|group| group.leader_node().is_some())
        }) && crate::cluster_map::meta_is_written(self)
    }
}

#[cfg(all(test, feature = "rocksdb"))]
mod tests;
