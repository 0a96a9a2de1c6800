//! Clusters in memory whose nodes lose power: what was not synced or flushed is gone, as on a real machine.
//!
//! Invariant: a node that starts again after [`CrashCluster::crash`] has exactly what its disks held at that moment.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use keevo_core::{Levels, MemoryStore, SeededRandom, ShardId, SystemClock};

use super::identity::MemoryIdentity;
use crate::ClusterEngine;
use crate::log_store::{MemoryDisk, MemoryLogStore};
use crate::node::{Node, NodeOptions, NodeParts, ReplicaStatus};
use crate::timing::Timing;
use crate::transport::PeerHandler;
use crate::transport::memory::MemoryNetwork;

/// What a node keeps over a crash.
#[derive(Debug, Default)]
struct Disks {
    log: Arc<MemoryDisk>,
    data: MemoryStore,
    identity: Arc<MemoryIdentity>,
}

/// A node that runs.
#[derive(Debug)]
struct Running {
    node: Node,
    log: Arc<MemoryLogStore>,
    // Keeps the node on the network.
    _handler: Arc<Node>,
}

/// A cluster of nodes 1 to N in memory; all of them hold every shard.
#[derive(Debug)]
pub struct CrashCluster {
    dir: PathBuf,
    /// The wires, to be cut.
    pub network: MemoryNetwork,
    nodes: u64,
    shards: u32,
    /// How the nodes keep time.
    pub timing: Timing,
    disks: BTreeMap<u64, Disks>,
    running: BTreeMap<u64, Running>,
}

impl CrashCluster {
    /// Starts `nodes` nodes with `shards` data shards, and waits until every shard has a leader. `dir` is for
    /// snapshots on their way.
    pub async fn start(dir: &Path, nodes: u64, shards: u32) -> Self {
        Self::start_with(dir, nodes, shards, Timing::quick()).await
    }

    /// As [`CrashCluster::start`], with another timing.
    pub async fn start_with(dir: &Path, nodes: u64, shards: u32, timing: Timing) -> Self {
        let mut cluster = Self {
            dir: dir.to_owned(),
            network: MemoryNetwork::new(),
            nodes,
            shards,
            timing,
            disks: BTreeMap::new(),
            running: BTreeMap::new(),
        };
        for id in 1..=nodes {
            cluster.start_node(id).await;
        }
        cluster.ready().await;
        cluster
    }

    /// Starts a node on what its disks hold.
    pub async fn start_node(&mut self, id: u64) {
        let disks = self.disks.entry(id).or_default();
        let log = disks.log.open();
        let parts = NodeParts {
            store: disks.data.clone().into(),
            log: Arc::clone(&log) as Arc<dyn crate::log_store::LogStore>,
            transport: self.network.transport(id),
            identity: Arc::clone(&disks.identity) as Arc<dyn crate::node::IdentityStore>,
            clock: Arc::new(SystemClock::new()),
            random: Arc::new(SeededRandom::from_os()),
        };
        let options = NodeOptions {
            node_id: id,
            address: format!("node-{id}:7000"),
            peers: (1..=self.nodes).map(|id| (id, format!("node-{id}:7000"))).collect(),
            shards: self.shards,
            replication_factor: 3,
            join: false,
            timing: self.timing,
            flush_every: Duration::from_millis(700),
            staging: self.dir.join(format!("{id}/staging")),
            archive: None,
            levels: Levels::OURS,
        };
        let node = Node::start(options, parts).await.expect("the node starts");
        let handler = Arc::new(node.clone());
        let on_network: Arc<dyn PeerHandler> = Arc::clone(&handler) as Arc<dyn PeerHandler>;
        self.network.connect(id, &on_network);
        self.running.insert(id, Running { node, log, _handler: handler });
    }

    /// Cuts a node's power. What its log had not synced and its data not flushed is gone.
    pub async fn crash(&mut self, id: u64) {
        self.network.disconnect(id);
        let running = self.running.remove(&id).expect("the node runs");
        let disks = self.disks.get_mut(&id).expect("it has disks");
        // The log closes, the data is what a power cut leaves; then the old node may end as it likes.
        drop(disks.log.open());
        disks.data = disks.data.flushed_copy();
        if let Err(error) = running.node.shutdown().await {
            tracing::debug!(id, %error, "a crashed node did not end cleanly");
        }
    }

    /// A node.
    pub fn node(&self, id: u64) -> &Node {
        &self.running.get(&id).expect("the node runs").node
    }

    /// What a node says of its replica of a shard.
    pub fn replica(&self, id: u64, shard: ShardId) -> ReplicaStatus {
        let found = self.node(id).replicas().into_iter().find(|one| one.shard == shard);
        found.expect("the node has a replica of the shard")
    }

    /// A node's log.
    pub fn log(&self, id: u64) -> &MemoryLogStore {
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

    /// The node that leads a shard, as the running nodes see it.
    pub async fn leader(&self, shard: ShardId) -> u64 {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        loop {
            for (&id, running) in &self.running {
                if running.node.replicas().iter().any(|one| one.shard == shard && one.role == "leader") {
                    return id;
                }
            }
            assert!(tokio::time::Instant::now() < deadline, "shard {shard} has no leader");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until every replica of the shard has the same hash at the same revision.
    pub async fn hashes_agree(&self, through: u64, shard: ShardId) {
        let (revision, hash, _) = self.engine(through).checksum(shard).await.expect("a checksum");
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        for running in self.running.values() {
            loop {
                let own = running.node.replicas().into_iter().find(|one| one.shard == shard);
                match own.and_then(|own| own.checksum) {
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
}
