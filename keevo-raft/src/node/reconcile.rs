//! The loop that makes a node hold what the map says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use keevo_core::{Result, ShardId};

use super::{NodeInner, rows};
use crate::cluster_map;
use crate::group::Group;
use crate::shard_map::{ReplicaRole, ShardInfo, ShardMap};
use crate::transport::{Peer, PeerCall, PeerRequest};
use crate::types::PeerNode;

const ROUND: Duration = Duration::from_millis(250);
const MAP_TIMEOUT: Duration = Duration::from_secs(2);

/// Runs rounds until the node stops.
pub(super) async fn run(node: Arc<NodeInner>) {
    let mut last_error = String::new();
    while !node.is_closed() {
        match round(&node).await {
            Ok(()) => last_error.clear(),
            Err(error) => {
                let text = error.to_string();
                if text != last_error {
                    tracing::warn!(%error, "the node is not yet where the map wants it");
                    last_error = text;
                }
            }
        }
        // A round that is woken early is only a round more.
        drop(tokio::time::timeout(ROUND, node.wake.notified()).await);
    }
}

async fn round(node: &Arc<NodeInner>) -> Result<()> {
    if node.map().is_none() {
        node.try_found().await?;
    }
    refresh_map(node).await?;
    let Some(map) = node.map() else { return Ok(()) };
    node.open_groups().await?;
    node.drop_groups(&map).await?;
    if map.version == 1 && map.nodes.keys().next() == Some(&node.options.node_id) {
        node.hand_out_first_map(&map).await?;
    }
    node.start_groups(&map).await?;
    cluster_map::write_first(node, &map).await
}

/// Looks for a newer map: in the meta replica here, else at a node that has one.
async fn refresh_map(node: &Arc<NodeInner>) -> Result<()> {
    if let Some(map) = cluster_map::read_local(node)? {
        return node.adopt(map);
    }
    let known = node.map();
    let asked: Vec<Peer> = match &known {
        Some(map) => meta_peers(map),
        None => {
            node.options.peers.iter().map(|(&node_id, address)| Peer { node_id, address: address.clone() }).collect()
        }
    };
    for peer in asked.into_iter().filter(|peer| peer.node_id != node.options.node_id) {
        let request = PeerRequest {
            call: PeerCall::Map,
            cluster: node.identity().cluster,
            shard: ShardId::META,
            replica: 0,
            body: Bytes::new(),
        };
        let Ok(body) = node.parts.transport.call(&peer, request, MAP_TIMEOUT).await else { continue };
        if body.is_empty() {
            continue;
        }
        let map = ShardMap::decode(&body)?;
        // Before it takes part in a cluster, a node follows only a map that names it.
        if node.identity().cluster.is_some() || map.nodes.contains_key(&node.options.node_id) {
            return node.adopt(map);
        }
    }
    Ok(())
}

fn meta_peers(map: &ShardMap) -> Vec<Peer> {
    let replicas = map.shard(ShardId::META).map(|shard| shard.replicas.as_slice()).unwrap_or_default();
    replicas
        .iter()
        .filter_map(|replica| map.nodes.get(&replica.node_id))
        .map(|info| Peer { node_id: info.id, address: info.address.clone() })
        .collect()
}

impl NodeInner {
    /// Opens the replicas that the map places here and that are not open yet.
    pub(super) async fn open_groups(&self) -> Result<()> {
        let Some(map) = self.map() else { return Ok(()) };
        for shard in &map.shards {
            let Some(replica) = shard.replica_on(self.options.node_id) else { continue };
            if self.group(shard.id).is_some_and(|group| group.replica() == replica.id) {
                continue;
            }
            if let Some(old) = self.take_group(shard.id) {
                old.shutdown().await;
            }
            let kept = rows::load_replica(&self.parts.store, shard.id)?;
            let restarted = kept == Some(replica.id);
            if !restarted {
                if kept.is_some() {
                    self.destroy(shard).await?;
                }
                rows::save_replica(&self.parts.store, shard.id, replica.id)?;
            }
            let store = self.parts.store.clone();
            let group = Group::open(self.context(map.cluster), store, shard, replica.id, restarted).await?;
            tracing::info!(shard = %shard.id, replica = replica.id, restarted, "a replica is open");
            self.insert_group(group);
        }
        Ok(())
    }

    /// Ends the replicas that the map no longer places here, and removes their data.
    async fn drop_groups(&self, map: &ShardMap) -> Result<()> {
        for group in self.groups() {
            let Some(shard) = map.shard(group.shard()) else { continue };
            if shard.replica_on(self.options.node_id).is_none() {
                drop(self.take_group(shard.id));
                group.shutdown().await;
                self.destroy(shard).await?;
                tracing::info!(shard = %shard.id, replica = group.replica(), "a replica was removed");
            }
        }
        Ok(())
    }

    async fn destroy(&self, shard: &ShardInfo) -> Result<()> {
        self.parts.log.destroy(shard.id.0).await?;
        rows::destroy(&self.parts.store, shard)
    }

    /// Starts the groups of a new cluster: each by its first replica alone.
    async fn start_groups(&self, map: &ShardMap) -> Result<()> {
        for shard in map.shards.iter().filter(|shard| shard.epoch.conf_version == 1) {
            let Some(first) = shard.replicas.first() else { continue };
            if first.node_id != self.options.node_id {
                continue;
            }
            let Some(group) = self.group(shard.id) else { continue };
            let mut members = BTreeMap::new();
            for replica in shard.replicas.iter().filter(|replica| replica.role == ReplicaRole::Voter) {
                if let Some(info) = map.nodes.get(&replica.node_id) {
                    members.insert(replica.id, PeerNode { node_id: info.id, address: info.address.clone() });
                }
            }
            group.initialize(members).await?;
        }
        Ok(())
    }
}
