//! [`Host`] over a node of a cluster.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use keevo_core::{
    ClientId, Cursor, Engine, Error, ErrorKind, Keyspace, KeyspaceId, KeyspaceKind, Result, ShardId, WatchRange,
    keyspaces,
};
use keevo_proto::admin::v1 as admin;
use keevo_proto::admin::v1::compact_request::Scope as WhatToCompact;
use keevo_raft::shard_map::ShardInfo;
use keevo_raft::{ClusterEngine, Node, NodeStatus, ReplicaStatus, ShardMap, StorageStatus};
use keevo_tls::ServerTls;

use crate::host::{Host, SessionScope};
use crate::stores::{Scope, Stores};

/// A node of a cluster as the gRPC services see it.
#[derive(Debug, Clone)]
pub struct ClusterHost {
    node: Node,
    engine: ClusterEngine,
    stores: Stores,
    tls: Option<Arc<ServerTls>>,
}

impl ClusterHost {
    /// The host over a node and its stores.
    pub fn new(node: Node, stores: Stores) -> Self {
        let engine = node.engine();
        Self { node, engine, stores, tls: None }
    }

    /// The same host, which tells of its TLS too.
    #[must_use]
    pub fn with_tls(self, tls: Option<Arc<ServerTls>>) -> Self {
        Self { tls, ..self }
    }

    fn map(&self) -> Result<Arc<ShardMap>> {
        self.node.serving_map()
    }
}

fn epoch(shard: &ShardInfo) -> admin::Epoch {
    admin::Epoch { version: shard.epoch.version, conf_version: shard.epoch.conf_version }
}

fn id_bytes(id: u128) -> Bytes {
    Bytes::copy_from_slice(&id.to_be_bytes())
}

fn role(status: &ReplicaStatus) -> admin::Role {
    match status.role.as_str() {
        "leader" => admin::Role::Leader,
        "follower" => admin::Role::Follower,
        "learner" => admin::Role::Learner,
        "candidate" => admin::Role::Candidate,
        _ => admin::Role::Unspecified,
    }
}

fn checksum(status: &ReplicaStatus) -> Option<admin::ShardChecksum> {
    status.checksum.map(|(revision, hash, records)| admin::ShardChecksum { revision, hash, records })
}

fn replica(node_id: u64, status: &ReplicaStatus) -> admin::ReplicaStatus {
    admin::ReplicaStatus {
        replica_id: status.replica,
        node_id,
        role: role(status).into(),
        applied_index: status.applied,
        committed_index: status.committed,
        last_log_index: status.last_log,
        term: status.term,
        checksum: checksum(status),
        fault: status.fault.clone(),
    }
}

fn storage(status: StorageStatus) -> admin::StorageStatus {
    admin::StorageStatus {
        free_bytes: status.free_bytes,
        low_water_bytes: status.low_water_bytes,
        disk_full: status.disk_full,
        refusal: status.refusal,
        pressure_permille: status.pressure_permille,
    }
}

fn shard_status(shard: &ShardInfo, nodes: &[NodeStatus]) -> admin::ShardStatus {
    let replicas = shard
        .replicas
        .iter()
        .map(|one| {
            let node = nodes.iter().find(|node| node.node_id == one.node_id);
            let found = node.and_then(|node| node.replicas.iter().find(|status| status.shard == shard.id));
            let alive = node.is_some_and(|node| node.alive);
            found.map_or_else(
                || admin::ReplicaStatus {
                    replica_id: one.id,
                    node_id: one.node_id,
                    fault: if alive { "not open yet" } else { "node unreachable" }.to_owned(),
                    ..admin::ReplicaStatus::default()
                },
                |status| replica(one.node_id, status),
            )
        })
        .collect();
    admin::ShardStatus {
        id: shard.id.0,
        start_key: shard.start.clone(),
        end_key: shard.end.clone(),
        epoch: Some(epoch(shard)),
        replicas,
    }
}

impl Host for ClusterHost {
    type Engine = ClusterEngine;

    fn engine(&self) -> &Self::Engine {
        &self.engine
    }

    fn bounded(self: &Arc<Self>, limit: Duration) -> Arc<Self> {
        let engine = self.engine.clone().with_deadline(limit);
        Arc::new(Self { node: self.node.clone(), engine, stores: self.stores.clone(), tls: self.tls.clone() })
    }

    async fn keyspace_by_id(&self, id: KeyspaceId) -> Result<Keyspace> {
        self.engine.keyspace_by_id(id).await
    }

    async fn keyspace_name(&self, id: KeyspaceId) -> Result<String> {
        keyspaces::keyspace_by_id(&self.engine.meta(), id).await.map(|(name, _)| name)
    }

    async fn open_session(&self, scope: SessionScope, client: ClientId) -> Result<ShardId> {
        let shard = match scope {
            SessionScope::Shard(shard) => shard,
            SessionScope::Key(key) => self.engine.shard_of(&key)?,
        };
        if self.map()?.shard(shard).is_none() {
            return Err(Error::new(ErrorKind::ShardMoved, format!("there is no shard {shard}")));
        }
        self.engine.open_session_in(shard, client).await?;
        Ok(shard)
    }

    async fn watch_start(&self, range: &WatchRange, only: Option<&BTreeSet<ShardId>>) -> Result<Vec<Cursor>> {
        self.engine.watch_start_of(range, |shard| only.is_none_or(|only| only.contains(&shard))).await
    }

    fn info(&self) -> admin::InfoResponse {
        admin::InfoResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            node_id: self.node.id(),
            cluster_id: self.node.cluster().map(|id| id_bytes(id.0)).unwrap_or_default(),
        }
    }

    async fn shard_map(&self) -> Result<admin::ShardMapResponse> {
        let map = self.map()?;
        let own = self.node.replicas();
        let shards = map
            .shards
            .iter()
            .map(|shard| {
                let leader = own.iter().find(|status| status.shard == shard.id).map_or(0, |status| status.leader_node);
                let address = |node_id: u64| map.nodes.get(&node_id).map(|info| info.address.clone());
                admin::ShardRoute {
                    id: shard.id.0,
                    start_key: shard.start.clone(),
                    end_key: shard.end.clone(),
                    epoch: Some(epoch(shard)),
                    leader_node_id: leader,
                    leader_address: address(leader).unwrap_or_default(),
                    replica_addresses: shard.replicas.iter().filter_map(|one| address(one.node_id)).collect(),
                }
            })
            .collect();
        Ok(admin::ShardMapResponse { cluster_id: id_bytes(map.cluster.0), version: map.version, shards })
    }

    async fn cluster_status(&self) -> Result<admin::ClusterStatusResponse> {
        let (map, nodes) = self.engine.cluster_status().await?;
        Ok(admin::ClusterStatusResponse {
            cluster_id: id_bytes(map.cluster.0),
            shards: map.shards.iter().map(|shard| shard_status(shard, &nodes)).collect(),
            nodes: nodes
                .into_iter()
                .map(|node| admin::NodeStatus {
                    id: node.node_id,
                    address: node.address,
                    reachable: node.alive,
                    version: node.version,
                    storage: node.alive.then(|| storage(node.storage)),
                })
                .collect(),
        })
    }

    async fn checksum(&self, request: admin::ChecksumRequest) -> Result<admin::ChecksumResponse> {
        let map = self.map()?;
        let wanted = |shard: ShardId| request.shard.is_none_or(|one| one == shard.0);
        let mut asked = Vec::new();
        for shard in map.shards.iter().filter(|shard| wanted(shard.id)) {
            asked.push((shard.id, self.engine.checksum(shard.id).await?.0));
        }
        if let (Some(shard), true) = (request.shard, asked.is_empty()) {
            return Err(Error::new(ErrorKind::NotFound, format!("there is no shard {shard}")));
        }
        self.engine.wait_checksums(&asked).await?;
        let (_, nodes) = self.engine.cluster_status().await?;
        let replicas = nodes
            .iter()
            .flat_map(|node| {
                node.replicas.iter().filter(|status| wanted(status.shard)).map(|status| admin::ReplicaChecksum {
                    shard: status.shard.0,
                    replica_id: status.replica,
                    node_id: node.node_id,
                    checksum: checksum(status),
                })
            })
            .collect();
        Ok(admin::ChecksumResponse { replicas })
    }

    async fn flush(&self) -> Result<()> {
        self.node.flush().await
    }

    async fn compact(
        &self,
        request: admin::CompactRequest,
    ) -> Result<BoxStream<'static, Result<admin::CompactProgress>>> {
        let scope = match request.scope {
            None => Scope::Everything,
            Some(WhatToCompact::Shard(shard)) => Scope::Shard(ShardId(shard)),
            Some(WhatToCompact::Keyspace(name)) => match self.engine.find_keyspace(&name).await? {
                Keyspace { kind: KeyspaceKind::Hashed, .. } => Scope::Everything,
                ordered => Scope::Keyspace(ordered.id),
            },
            Some(WhatToCompact::Range(range)) => Scope::Range(range.start_key, range.end_key),
        };
        self.stores.compact(&self.node, &scope)
    }

    async fn scrub(&self, request: admin::ScrubRequest) -> Result<BoxStream<'static, Result<admin::ScrubProgress>>> {
        self.stores.scrub(&self.node, request)
    }

    async fn diagnose(&self) -> Result<admin::DiagnoseResponse> {
        self.stores.diagnose(self.tls.as_ref()).await
    }

    async fn checkpoint(&self, request: admin::CheckpointRequest) -> Result<admin::CheckpointResponse> {
        self.stores.checkpoint(&self.node, request).await
    }

    async fn join(&self, request: admin::JoinRequest) -> Result<admin::JoinResponse> {
        let node_id = self.engine.join_at(&request.address).await.map_err(|error| match error.kind() {
            // The address is no setting of this node but an argument of the call.
            ErrorKind::Config => Error::invalid(error.message()),
            _ => error,
        })?;
        let cluster_id = self.node.cluster().map(|id| id_bytes(id.0)).unwrap_or_default();
        Ok(admin::JoinResponse { node_id, cluster_id })
    }

    async fn remove(&self, request: admin::RemoveRequest) -> Result<()> {
        self.engine.remove(request.node_id).await
    }

    async fn upgrade(&self, request: admin::UpgradeRequest) -> Result<admin::UpgradeResponse> {
        let state =
            if request.finalize { self.engine.finalize_upgrade().await } else { self.engine.upgrade_state().await }?;
        let obstacles = state.obstacles();
        let node = |one: NodeStatus| admin::UpgradeNode {
            id: one.node_id,
            version: one.version,
            level_min: one.levels.min,
            level_max: one.levels.max,
        };
        let nodes = state.nodes.into_iter().map(node).collect();
        Ok(admin::UpgradeResponse { level: state.level, newest: state.newest, nodes, obstacles })
    }

    async fn transfer(&self, request: admin::TransferRequest) -> Result<()> {
        self.engine.transfer(ShardId(request.shard), request.to_node_id).await
    }
}
