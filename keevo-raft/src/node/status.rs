//! What a node can say of itself and its replicas.

use std::sync::Arc;

use bytes::Bytes;
use keevo_core::trace::SpanSink;
use keevo_core::{Levels, Result, ShardId};
use openraft::ServerState;

use super::faults::Down;
use super::{Node, NodeInner};
use crate::group::{Group, ReplicaGauges};
use crate::peer_messages::{ReplicaStatusWire, StatusWire, StorageWire, pack, parse};
use crate::stages::{Stage, StageTimes};
use crate::storage_care::{StorageLimits, StorageStatus};

/// The state of one replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaStatus {
    /// The shard.
    pub shard: ShardId,
    /// The replica's Raft id.
    pub replica: u64,
    /// `leader`, `follower`, `candidate`, `learner` or `stopped`.
    pub role: String,
    /// The Raft term.
    pub term: u64,
    /// The index of the last log entry.
    pub last_log: u64,
    /// The last index known to be committed.
    pub committed: u64,
    /// The last index applied.
    pub applied: u64,
    /// The last index purged from the log.
    pub purged: u64,
    /// The node that leads, 0 if unknown.
    pub leader_node: u64,
    /// The last checksum: the revision it was taken at, the hash, the records it covers.
    pub checksum: Option<(u64, u64, u64)>,
    /// Why the replica is down; empty when it runs.
    pub fault: String,
}

/// The state of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeStatus {
    /// The node.
    pub node_id: u64,
    /// Its address.
    pub address: String,
    /// Whether it answered.
    pub alive: bool,
    /// The version of Keevo that it runs; empty if it did not answer.
    pub version: String,
    /// The levels that it knows; 0 to 0 if it did not answer.
    pub levels: Levels,
    /// Its replicas, by shard.
    pub replicas: Vec<ReplicaStatus>,
    /// Its disk and its stores; all zero if it did not answer.
    pub storage: StorageStatus,
}

/// What a node tells of itself.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) version: String,
    pub(crate) levels: Levels,
    pub(crate) replicas: Vec<ReplicaStatus>,
    pub(crate) storage: StorageStatus,
}

/// The version of this build.
const VERSION: &str = env!("CARGO_PKG_VERSION");

impl Node {
    /// The replicas of this node, by shard; those that are down too.
    pub fn replicas(&self) -> Vec<ReplicaStatus> {
        self.inner.replicas()
    }

    /// How far the replicas have come, and what waits in their queues, by shard.
    pub fn gauges(&self) -> Vec<ReplicaGauges> {
        self.inner.groups().iter().map(|group| group.gauges()).collect()
    }

    /// How long the stages of writes took here since the node was started.
    pub fn stage_times(&self) -> [(Stage, StageTimes); Stage::ALL.len()] {
        self.inner.gate.stages().times()
    }

    /// Has the spans of traced writes go to `sink`: proposals, appends and applies of this node's replicas.
    pub fn trace_to(&self, sink: Arc<dyn SpanSink>) {
        self.inner.gate.stages().trace_to(sink);
    }

    /// The limits of its storage.
    pub fn storage_limits(&self) -> StorageLimits {
        *self.inner.gate.limits()
    }

    /// The node's disk and stores.
    pub fn storage(&self) -> StorageStatus {
        self.inner.gate.status()
    }

    pub(crate) fn own_status(&self) -> Told {
        Told {
            version: VERSION.to_owned(),
            levels: self.inner.options.levels,
            replicas: self.inner.replicas(),
            storage: self.storage(),
        }
    }
}

impl NodeInner {
    fn replicas(&self) -> Vec<ReplicaStatus> {
        let mut all: Vec<_> = self.groups().iter().map(|group| replica_status(group)).collect();
        for down in self.faults.down() {
            if all.iter().all(|one| one.shard != down.shard) {
                all.push(down_status(down));
            }
        }
        all.sort_by_key(|one| one.shard);
        all
    }

    pub(super) fn status_wire(&self) -> Bytes {
        let replicas = self.replicas().iter().map(wire_of).collect();
        let storage = Some(storage_wire(self.gate.status()));
        let Levels { min: level_min, max: level_max } = self.options.levels;
        pack(&StatusWire { replicas, version: VERSION.to_owned(), storage, level_min, level_max })
    }
}

fn down_status(down: Down) -> ReplicaStatus {
    ReplicaStatus {
        shard: down.shard,
        replica: down.replica,
        role: "stopped".to_owned(),
        term: 0,
        last_log: 0,
        committed: 0,
        applied: 0,
        purged: 0,
        leader_node: 0,
        checksum: None,
        fault: down.error,
    }
}

fn replica_status(group: &Group) -> ReplicaStatus {
    let metrics = group.metrics();
    let index = |log_id: Option<crate::types::LogId>| log_id.map_or(0, |log_id| log_id.index);
    let fault = group.fault();
    let role = match (&fault, metrics.state) {
        (Some(_), _) | (_, ServerState::Shutdown) => "stopped",
        (_, ServerState::Leader) => "leader",
        (_, ServerState::Follower) => "follower",
        (_, ServerState::Candidate) => "candidate",
        (_, ServerState::Learner) => "learner",
    };
    ReplicaStatus {
        shard: group.shard(),
        replica: group.replica(),
        role: role.to_owned(),
        term: metrics.current_term,
        last_log: metrics.last_log_index.unwrap_or(0),
        committed: index(metrics.local_committed),
        applied: index(metrics.last_applied),
        purged: index(metrics.purged),
        leader_node: group.leader_node().map_or(0, |node| node.node_id),
        checksum: checksum(group),
        fault: fault.map(|error| error.to_string()).unwrap_or_default(),
    }
}

fn checksum(group: &Group) -> Option<(u64, u64, u64)> {
    match group.reader().checksum() {
        Ok(checksum) => checksum.map(|(revision, hash, records)| (revision.0, hash, records)),
        Err(error) => {
            tracing::error!(shard = %group.shard(), %error, "the checksum row cannot be read");
            None
        }
    }
}

fn wire_of(status: &ReplicaStatus) -> ReplicaStatusWire {
    let (checksum_revision, checksum, records) = status.checksum.unwrap_or_default();
    ReplicaStatusWire {
        shard: status.shard.0,
        replica: status.replica,
        role: status.role.clone(),
        term: status.term,
        last_log: status.last_log,
        committed: status.committed,
        applied: status.applied,
        leader_node: status.leader_node,
        checksum_revision,
        checksum,
        records,
        purged: status.purged,
        fault: status.fault.clone(),
    }
}

fn storage_wire(status: StorageStatus) -> StorageWire {
    StorageWire {
        free_bytes: status.free_bytes,
        low_water_bytes: status.low_water_bytes,
        ballast_bytes: status.ballast_bytes,
        disk_full: status.disk_full,
        pressure_permille: status.pressure_permille,
        unflushed_bytes: status.unflushed_bytes,
        unapplied_bytes: status.unapplied_bytes,
        refused_for_space: status.refused_for_space,
        refused_for_load: status.refused_for_load,
        delayed_micros: status.delayed_micros,
        refusal: status.refusal,
    }
}

fn storage_of(wire: StorageWire) -> StorageStatus {
    StorageStatus {
        free_bytes: wire.free_bytes,
        low_water_bytes: wire.low_water_bytes,
        ballast_bytes: wire.ballast_bytes,
        disk_full: wire.disk_full,
        pressure_permille: wire.pressure_permille,
        unflushed_bytes: wire.unflushed_bytes,
        unapplied_bytes: wire.unapplied_bytes,
        refused_for_space: wire.refused_for_space,
        refused_for_load: wire.refused_for_load,
        delayed_micros: wire.delayed_micros,
        refusal: wire.refusal,
    }
}

/// Decodes what a peer tells of itself.
pub(crate) fn decode(body: &Bytes) -> Result<Told> {
    let wire: StatusWire = parse("a status", body)?;
    let replicas = wire
        .replicas
        .into_iter()
        .map(|one| ReplicaStatus {
            shard: ShardId(one.shard),
            replica: one.replica,
            role: one.role,
            term: one.term,
            last_log: one.last_log,
            committed: one.committed,
            applied: one.applied,
            purged: one.purged,
            leader_node: one.leader_node,
            checksum: (one.checksum_revision > 0).then_some((one.checksum_revision, one.checksum, one.records)),
            fault: one.fault,
        })
        .collect();
    let storage = wire.storage.map(storage_of).unwrap_or_default();
    let levels = Levels::told(wire.level_min, wire.level_max);
    Ok(Told { version: wire.version, levels, replicas, storage })
}
