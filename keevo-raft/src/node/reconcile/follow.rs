//! Following the map: the newest that the meta replica here or any peer knows.
//!
//! A replica that was taken out of the meta group hears no more of it and would stay at the map it had. So a node
//! asks its peers too, several of them, and takes the highest version: no single answer counts as the truth.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use keevo_core::{Error, ErrorKind, Result, ShardId};

use super::super::{NodeInner, removed};
use crate::cluster_map;
use crate::shard_map::ShardMap;
use crate::transport::{Peer, PeerCall, PeerRequest};

/// How long the peers have to answer.
const MAP_TIMEOUT: Duration = Duration::from_secs(1);
/// A node with a meta replica asks its peers in every so many rounds.
const ASK_EVERY: u64 = 4;
/// How many peers are asked in one round.
const PEERS_ASKED_MAX: usize = 8;

/// Adopts the newest map that can be found.
pub(super) async fn newest_map(node: &Arc<NodeInner>, round: u64) -> Result<()> {
    if node.removal().is_some() {
        return Ok(());
    }
    match cluster_map::read_local(node) {
        Ok(Some(map)) => {
            node.adopt(map).await?;
            if !round.is_multiple_of(ASK_EVERY) {
                return Ok(());
            }
        }
        Ok(None) => {}
        Err(error) => tracing::warn!(%error, "the map in the meta replica here cannot be read; asking the peers"),
    }
    match ask_peers(node).await? {
        Some(map) => node.adopt(map).await,
        None => Ok(()),
    }
}

/// The newest map that the peers have and this node has not.
async fn ask_peers(node: &Arc<NodeInner>) -> Result<Option<ShardMap>> {
    let known = node.map();
    let body = Bytes::copy_from_slice(&known.as_ref().map_or(0, |map| map.version).to_be_bytes());
    let cluster = node.identity().cluster;
    let request = PeerRequest { call: PeerCall::Map, cluster, shard: ShardId::META, replica: 0, body };
    let mut asked: FuturesUnordered<_> = peers(node, known.as_deref())
        .into_iter()
        .map(|peer| node.parts.transport.call(&peer, request.clone(), MAP_TIMEOUT))
        .collect();
    let mut newest: Option<ShardMap> = None;
    // Of a node whose release does not fit the cluster any more, or not yet.
    let mut refused = None;
    while let Some(answer) = asked.next().await {
        let body = match answer {
            Ok(body) => body,
            Err(error) => {
                if error.kind() == ErrorKind::NewerFormat {
                    refused = Some(error);
                }
                continue;
            }
        };
        if body.is_empty() {
            continue;
        }
        let map = match ShardMap::decode(&body) {
            Ok(map) => map,
            Err(error) => {
                tracing::warn!(%error, "a peer's map cannot be read");
                continue;
            }
        };
        if concerns(node, &map)? && newest.as_ref().is_none_or(|newest| newest.version < map.version) {
            newest = Some(map);
        }
    }
    match (newest, refused) {
        (None, Some(refused)) => Err(refused),
        (newest, _) => Ok(newest),
    }
}

/// Whether a peer's map is one to follow. Before it takes part in a cluster, a node follows only a map that names it.
fn concerns(node: &NodeInner, map: &ShardMap) -> Result<bool> {
    let own = node.options.node_id;
    match node.identity().cluster {
        Some(cluster) => Ok(cluster == map.cluster),
        None if removed::is_removed(map, own) => Err(Error::new(
            ErrorKind::Conflict,
            format!(
                "node {own} was removed from cluster {}, and an id is used once: give this node a new id and let it \
                 join",
                map.cluster
            ),
        )),
        None => Ok(map.nodes.contains_key(&own)),
    }
}

/// Whom to ask: those with a meta replica first, then the other nodes, then those of the configuration.
fn peers(node: &NodeInner, known: Option<&ShardMap>) -> Vec<Peer> {
    let mut found: Vec<Peer> = Vec::new();
    let mut add = |node_id: u64, address: &str| {
        if node_id != node.options.node_id && found.iter().all(|peer| peer.node_id != node_id) {
            found.push(Peer { node_id, address: address.to_owned() });
        }
    };
    if let Some(map) = known {
        let meta = map.shard(ShardId::META).map(|shard| shard.replicas.as_slice()).unwrap_or_default();
        for info in meta.iter().filter_map(|replica| map.nodes.get(&replica.node_id)).chain(map.nodes.values()) {
            add(info.id, &info.address);
        }
    }
    let listed: &BTreeMap<u64, String> = &node.options.peers;
    for (&id, address) in listed {
        add(id, address);
    }
    found.truncate(PEERS_ASKED_MAX);
    found
}

impl NodeInner {
    /// The map for a peer that has the version in `body`; empty if it has the newest one, or if there is none here.
    pub(in crate::node) fn map_after(&self, mut body: &[u8]) -> Bytes {
        let known = body.try_get_u64().unwrap_or(0);
        self.map().filter(|map| map.version > known).map(|map| map.encode()).unwrap_or_default()
    }
}
