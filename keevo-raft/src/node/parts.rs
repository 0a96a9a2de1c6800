//! What a node is made of and how it is set up.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use keevo_core::{Clock, ClusterId, DataStore, Levels, Random, Result};

use crate::archive_hold::ArchiveLimits;
use crate::log_store::LogStore;
use crate::timing::Timing;
use crate::transport::Transport;

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
    /// Notes durably that the cluster is at a level, so that a release that does not know it refuses the folder before it
    /// opens anything. Repeatable; by default nothing is noted.
    fn note_level(&self, level: u32) -> Result<()> {
        let _ = level;
        Ok(())
    }
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
    /// What holds while the log is archived; `None` = it is not, and goes once it is flushed.
    pub archive: Option<ArchiveLimits>,
    /// The levels that the node knows.
    pub levels: Levels,
}

/// What a node is made of.
#[derive(Debug)]
pub struct NodeParts {
    /// The data store, shared by all shards.
    pub store: DataStore,
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
