//! Raft groups, the log store and the sharded cluster engine of Keevo.
//!
//! A [`Node`] holds replicas of shards, each a Raft group of its own; all of them share one log store, one data
//! store and one [`Transport`]. [`ClusterEngine`] is the [`keevo_core::Engine`] over the whole.
//!
//! Invariant: nothing here knows how bytes travel: the network is a trait, which the server implements over gRPC
//! and tests over memory. Absent on purpose: tonic, HTTP, configuration files.

pub mod answer;
mod archive_hold;
mod backlog;
mod blocking;
mod cluster_engine;
mod cluster_map;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod gate;
mod group;
mod hlc;
pub mod log_store;
mod membership;
mod messages;
mod network;
mod node;
mod peer_messages;
mod quorum;
pub mod runtime;
pub mod shard_map;
mod stages;
mod state_machine;
mod storage_care;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod timing;
pub mod transport;
pub mod types;
pub mod wire;

pub use archive_hold::ArchiveLimits;
pub use cluster_engine::{ClusterEngine, DEADLINE, Meta};
pub use group::Group;
pub use membership::Upgrade;
pub use node::{
    ArchiveState, CallEntry, CallsPage, ChangesPage, ChangesRequest, Identity, IdentityStore, LoggedEntry, LoggedKind,
    Node, NodeOptions, NodeParts, NodeStatus, ReplicaGauges, ReplicaStatus, ShardCopy,
};
pub use shard_map::ShardMap;
pub use stages::{STAGE_BUCKETS_US, Stage, StageTimes};
pub use state_machine::StagedFiles;
pub use storage_care::{StorageCare, StorageLimits, StorageStatus};
pub use timing::Timing;
pub use transport::{Peer, PeerCall, PeerHandler, PeerRequest, SnapshotHead, Transport};
