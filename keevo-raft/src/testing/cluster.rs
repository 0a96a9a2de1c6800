//! Clusters in one process: real stores in a folder, nodes wired by memory, to be killed and started again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use keevo_core::key_file::KeyRing;
use keevo_core::{Disk, Levels, ManualDisk, Result, RocksOptions, RocksStore, SeededRandom, ShardId, SystemClock};

use super::identity::MemoryIdentity;
use crate::log_store::{LogStore, SegmentedLogOptions, open_segmented_log_store};
use crate::node::{IdentityStore, Node, NodeOptions, NodeParts};
use crate::timing::Timing;
use crate::transport::PeerHandler;
use crate::transport::memory::MemoryNetwork;
use crate::{ClusterEngine, DEADLINE, StorageCare, StorageLimits};

/// A node that runs.
#[derive(Debug)]
struct Running {
    node: Node,
    store: RocksStore,
    log: Arc<dyn LogStore>,
    /// Keeps the node on the network.
    _handler: Arc<dyn PeerHandlerDebug>,
}

trait PeerHandlerDebug: PeerHandler + std::fmt::Debug {}
impl<T: PeerHandler + std::fmt::Debug> PeerHandlerDebug for T {}

/// A cluster of nodes 1 to N.
#[derive(Debug)]
pub struct TestCluster {
    dir: PathBuf,
    /// The wires, to be cut.
    pub network: MemoryNetwork,
    founders: u64,
    shards: u32,
    /// How the nodes keep time.
    pub timing: Timing,
    /// What the nodes that are started from now on may leave undone.
    pub limits: StorageLimits,
    /// What nodes know that play another release than this one.
    levels: BTreeMap<u64, Levels>,
    /// The keys that nodes seal their stores with, from their next start on.
    pub keys: BTreeMap<u64, Arc<KeyRing>>,
    /// The nodes' disks.
    disks: BTreeMap<u64, Arc<ManualDisk>>,
    identities: BTreeMap<u64, Arc<MemoryIdentity>>,
    /// How often each node was killed: it goes on in a copy of its folder.
    kills: BTreeMap<u64, u32>,
    running: BTreeMap<u64, Running>,
}

impl TestCluster {
    /// Starts `nodes` nodes with `shards` data shards in `dir`, and waits until every shard has a leader.
    pub async fn start(dir: &Path, nodes: u64, shards: u32) -> Self {
        Self::start_with(dir, nodes, shards, Timing::quick()).await
    }

    /// The same with other timing.
    pub async fn start_with(dir: &Path, nodes: u64, shards: u32, timing: Timing) -> Self {
        let mut cluster = Self::prepare(dir, nodes, shards, timing);
        for id in 1..=nodes {
            cluster.start_node(id, false).await;
        }
        cluster.ready().await;
        cluster
    }

    /// A cluster whose nodes are yet to be started.
    pub fn prepare(dir: &Path, nodes: u64, shards: u32, timing: Timing) -> Self {
        Self {
            dir: dir.to_owned(),
            network: MemoryNetwork::new(),
            founders: nodes,
            shards,
            timing,
            limits: StorageLimits::NONE,
            levels: BTreeMap::new(),
            keys: BTreeMap::new(),
            disks: BTreeMap::new(),
            identities: BTreeMap::new(),
            kills: BTreeMap::new(),
            running: BTreeMap::new(),
        }
    }

    /// Where a node keeps its stores.
    fn home(&self, id: u64) -> PathBuf {
        let name = match self.kills.get(&id) {
            Some(kills) => format!("{id}.{kills}"),
            None => id.to_string(),
        };
        self.dir.join(name)
    }

    /// Opens the stores of a node that does not run: what a node that is killed later will find, or what one left.
    pub async fn open_stores(&self, id: u64) -> (RocksStore, Arc<dyn LogStore>) {
        assert!(!self.running.contains_key(&id), "node {id} runs");
        let home = self.home(id);
        std::fs::create_dir_all(&home).expect("a folder for the node");
        let keys = self.keys.get(&id).map(Arc::clone);
        let settings = RocksOptions { wal: false, keys: keys.clone(), ..RocksOptions::default() };
        let store = patiently(|| RocksStore::open(home.join("data"), settings.clone())).await;
        let settings = SegmentedLogOptions { keys, ..SegmentedLogOptions::default() };
        let log = patiently(|| open_segmented_log_store(home.join("log"), &settings)).await;
        (store, log)
    }

    /// A node's identity, as kept beside its stores.
    pub fn identity(&mut self, id: u64) -> Arc<dyn IdentityStore> {
        let identity: Arc<MemoryIdentity> = Arc::clone(self.identities.entry(id).or_default());
        identity
    }

    fn options(&self, id: u64, join: bool) -> NodeOptions {
        NodeOptions {
            node_id: id,
            address: format!("node-{id}:7000"),
            peers: (1..=self.founders).map(|id| (id, format!("node-{id}:7000"))).collect(),
            shards: self.shards,
            replication_factor: 3,
            join,
            timing: self.timing,
            flush_every: Duration::from_millis(700),
            staging: self.home(id).join("staging"),
            archive: None,
            levels: self.levels.get(&id).copied().unwrap_or(Levels::OURS),
        }
    }

    /// Starts a node, new or again; `join` = it waits to be added.
    pub async fn start_node(&mut self, id: u64, join: bool) {
        self.try_start_node(id, join).await.expect("the node starts");
    }

    /// The same, where it may fail.
    pub fn try_start_node(&mut self, id: u64, join: bool) -> futures::future::BoxFuture<'_, Result<()>> {
        Box::pin(self.start_new(id, join))
    }

    async fn start_new(&mut self, id: u64, join: bool) -> Result<()> {
        let (store, log) = self.open_stores(id).await;
        let identity = self.identity(id);
        let parts = NodeParts {
            store: store.clone().into(),
            log: Arc::clone(&log),
            transport: self.network.transport(id),
            identity,
            clock: Arc::new(SystemClock::new()),
            random: Arc::new(SeededRandom::from_os()),
        };
        let disk = Arc::clone(self.disks.entry(id).or_default()) as Arc<dyn Disk>;
        let care = StorageCare { disk, limits: self.limits };
        let node = Node::start_with(self.options(id, join), parts, care).await?;
        let handler: Arc<Node> = Arc::new(node.clone());
        let on_network: Arc<dyn PeerHandler> = Arc::clone(&handler) as Arc<dyn PeerHandler>;
        self.network.connect(id, &on_network);
        self.running.insert(id, Running { node, store, log, _handler: handler });
        Ok(())
    }

    /// Takes a node off the network and stops it in order: its data is flushed.
    pub async fn stop_node(&mut self, id: u64) {
        self.network.disconnect(id);
        if let Some(running) = self.running.remove(&id) {
            running.node.shutdown().await.expect("the node stops");
        }
    }

    /// Kills a node: it goes on, when it is started again, with what was on its disk at this moment. Data that was
    /// not flushed is lost to it; the log has what it made durable.
    pub async fn kill_node(&mut self, id: u64) {
        self.network.disconnect(id);
        let running = self.running.remove(&id).expect("the node runs");
        running.node.halt().await;
        let from = self.home(id);
        *self.kills.entry(id).or_default() += 1;
        // The stores would flush when they are closed, so the next start finds a copy made before that.
        for store in ["data", "log"] {
            copy_store(&from.join(store), &self.home(id).join(store)).await;
        }
    }

    /// The levels that a node knows from its next start on.
    pub fn set_levels(&mut self, id: u64, levels: Levels) {
        self.levels.insert(id, levels);
    }

    /// A node's disk, to be filled and emptied: as far as its `limits` go, not for its stores.
    pub fn disk(&self, id: u64) -> &ManualDisk {
        self.disks.get(&id).expect("the node was started")
    }

    /// Removes a stopped node's folder and identity, as if its disks were lost.
    pub fn wipe_node(&mut self, id: u64) {
        assert!(!self.running.contains_key(&id), "node {id} still runs");
        self.identities.remove(&id);
        std::fs::remove_dir_all(self.home(id)).expect("the folder goes");
    }

    /// Removes one store of a stopped node, `data` or `log`, as if its disk was replaced by an empty one.
    pub fn lose_store(&mut self, id: u64, store: &str) {
        assert!(!self.running.contains_key(&id), "node {id} still runs");
        std::fs::remove_dir_all(self.home(id).join(store)).expect("the folder goes");
    }

    /// A node.
    pub fn node(&self, id: u64) -> &Node {
        &self.running.get(&id).expect("the node runs").node
    }

    /// A node's data store.
    pub fn store(&self, id: u64) -> &RocksStore {
        &self.running.get(&id).expect("the node runs").store
    }

    /// A node's log store.
    pub fn log(&self, id: u64) -> &Arc<dyn LogStore> {
        &self.running.get(&id).expect("the node runs").log
    }

    /// The engine as seen from a node.
    pub fn engine(&self, id: u64) -> ClusterEngine {
        self.node(id).engine()
    }

    /// Waits until all running nodes know a leader of all shards.
    pub async fn ready(&self) {
        for running in self.running.values() {
            running.node.ready(Duration::from_secs(30)).await.expect("every shard finds a leader");
        }
    }

    /// Whether a node believes that it leads a shard.
    pub fn leads(&self, id: u64, shard: ShardId) -> bool {
        self.node(id).replicas().iter().any(|one| one.shard == shard && one.role == "leader")
    }

    /// The node that leads a shard, as the running nodes see it.
    pub async fn leader(&self, shard: ShardId) -> u64 {
        let deadline = tokio::time::Instant::now() + DEADLINE;
        loop {
            if let Some(&id) = self.running.keys().find(|&&id| self.leads(id, shard)) {
                return id;
            }
            assert!(tokio::time::Instant::now() < deadline, "shard {shard} has no leader");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until every running replica of every shard has the same hash at the same revision.
    pub async fn hashes_agree(&self, through: u64) -> usize {
        let engine = self.engine(through);
        let map = self.node(through).map().expect("a map");
        for shard in map.shards.iter().map(|shard| shard.id) {
            let (revision, hash, _) = engine.checksum(shard).await.expect("a checksum");
            let deadline = tokio::time::Instant::now() + DEADLINE;
            for running in self.running.values() {
                loop {
                    let own = running.node.replicas().into_iter().find(|one| one.shard == shard);
                    let Some(own) = own else { break };
                    match own.checksum {
                        Some((at, theirs, _)) if at == revision => {
                            assert_eq!(theirs, hash, "shard {shard} differs on node {}", running.node.id());
                            break;
                        }
                        _ => {
                            assert!(tokio::time::Instant::now() < deadline, "shard {shard}: no checksum in time");
                            tokio::time::sleep(Duration::from_millis(20)).await;
                        }
                    }
                }
            }
        }
        map.shards.len()
    }

    /// Stops all nodes.
    pub async fn stop(mut self) {
        let ids: Vec<u64> = self.running.keys().copied().collect();
        for id in ids {
            self.stop_node(id).await;
        }
    }
}

/// Opens a store, again for a while if the node that had it open before is still letting go of it.
async fn patiently<T>(open: impl Fn() -> Result<T>) -> T {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    loop {
        match open() {
            Ok(opened) => return opened,
            Err(error) => assert!(tokio::time::Instant::now() < deadline, "the store does not open: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Copies a store's folder as it is; again if its files changed meanwhile, since a last flush may still be running.
async fn copy_store(from: &Path, to: &Path) {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    loop {
        let before = sizes(from);
        if to.exists() {
            std::fs::remove_dir_all(to).expect("an incomplete copy goes");
        }
        std::fs::create_dir_all(to).expect("a folder for the copy");
        let copied = before.keys().all(|name| std::fs::copy(from.join(name), to.join(name)).is_ok());
        if copied && sizes(from) == before {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{} keeps changing", from.display());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The files of a folder and their sizes.
fn sizes(dir: &Path) -> BTreeMap<std::ffi::OsString, u64> {
    let entries = std::fs::read_dir(dir).expect("the store's folder").map(|entry| entry.expect("an entry"));
    let files = entries
        .filter_map(|entry| entry.metadata().ok().filter(std::fs::Metadata::is_file).map(|found| (entry, found)));
    files.map(|(entry, found)| (entry.file_name(), found.len())).collect()
}
