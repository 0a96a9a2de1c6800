//! How a cluster begins.
//!
//! The node with the lowest id of those listed founds it, and only when every listed node answers and none
//! belongs to a cluster: so a founder whose folder was wiped does not found a second one. It writes the new
//! cluster's id and first map durably at home, then hands both to its peers, which do the same; a crash in
//! between is mended by the next start or by handing them over again. Then each shard's first replica starts its group.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use keevo_core::{ClusterId, Error, ErrorKind, Levels, Random, Result, ShardId, failpoint};

use super::{Identity, NodeInner, NodeOptions, NodeParts, rows};
use crate::blocking;
use crate::peer_messages::{HelloWire, parse};
use crate::shard_map::{NodeInfo, ShardMap};
use crate::transport::{Peer, PeerCall, PeerRequest};

const HELLO_TIMEOUT: Duration = Duration::from_secs(2);

/// The node's identity: as saved, or drawn now.
pub(super) fn load_identity(options: &NodeOptions, parts: &NodeParts) -> Result<Identity> {
    if let Some(identity) = parts.identity.load()? {
        if identity.node_id != options.node_id {
            return Err(Error::new(
                ErrorKind::WrongCluster,
                format!("the data folder belongs to node {}, not to node {}", identity.node_id, options.node_id),
            ));
        }
        return Ok(identity);
    }
    let random: &dyn Random = parts.random.as_ref();
    let identity = Identity { node_id: options.node_id, pair: random.next_u128(), cluster: None };
    parts.identity.save(&identity)?;
    Ok(identity)
}

/// The error of a node whose data store is not the one that it had. The map is durable before the node takes part in a
/// cluster, so a store without one is new; on it the node would begin its replicas anew, and could vote a second time.
pub(super) fn lost_data(cluster: ClusterId) -> Error {
    Error::corrupt(format!(
        "this node belongs to cluster {cluster}, but its data store is empty: it was lost or replaced; remove the node \
         and let it join under a new id with empty folders"
    ))
}

/// What a peer says of itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hello {
    pub(crate) cluster: Option<ClusterId>,
    pub(crate) node_id: u64,
    pub(crate) pair: u128,
    pub(crate) levels: Levels,
}

impl NodeInner {
    pub(crate) async fn hello(&self, peer: &Peer) -> Result<Hello> {
        let request =
            PeerRequest { call: PeerCall::Hello, cluster: None, shard: ShardId::META, replica: 0, body: Bytes::new() };
        let body = self.parts.transport.call(peer, request, HELLO_TIMEOUT).await?;
        decode_hello(&body)
    }

    /// Founds the cluster if this node is the one to do it and the time has come.
    pub(super) async fn try_found(self: &Arc<Self>) -> Result<()> {
        let options = &self.options;
        let founder = options.peers.keys().next().copied();
        if options.join || founder != Some(options.node_id) {
            return Ok(());
        }
        let own = self.identity();
        let mut nodes = BTreeMap::new();
        // The highest level that all of them know.
        let mut level = options.levels.max;
        for (&id, address) in &options.peers {
            let pair = if id == options.node_id {
                own.pair
            } else {
                let peer = Peer { node_id: id, address: address.clone() };
                let hello = self.hello(&peer).await?;
                if hello.node_id != id {
                    return Err(Error::new(
                        ErrorKind::Config,
                        format!("the node at {address} is node {}, not node {id} as listed", hello.node_id),
                    ));
                }
                if let Some(cluster) = hello.cluster {
                    return Err(Error::new(
                        ErrorKind::WrongCluster,
                        format!(
                            "node {id} already belongs to cluster {cluster}, but the folder of this node is empty: \
                             remove node {} from that cluster and let it join as a new one",
                            options.node_id
                        ),
                    ));
                }
                level = level.min(hello.levels.max);
                hello.pair
            };
            nodes.insert(id, NodeInfo { id, address: address.clone(), pair });
        }
        let cluster = ClusterId(self.parts.random.next_u128());
        let mut map =
            ShardMap::bootstrap(cluster, nodes.into_values().collect(), options.shards, options.replication_factor)?;
        map.level = level;
        tracing::info!(%cluster, level, nodes = map.nodes.len(), shards = map.shards.len(), "founding a cluster");
        self.adopt(map).await
    }

    /// Hands the first map to the listed nodes that have none yet. One that is down keeps none of the others
    /// waiting; the first error comes back when all were tried.
    pub(super) async fn hand_out_first_map(&self, map: &ShardMap) -> Result<()> {
        failpoint("bootstrap.handing");
        let others = map.nodes.values().filter(|info| info.id != self.options.node_id);
        let handed = futures::future::join_all(others.map(|info| self.hand_first_map_to(info, map))).await;
        handed.into_iter().collect()
    }

    async fn hand_first_map_to(&self, info: &NodeInfo, map: &ShardMap) -> Result<()> {
        let peer = Peer { node_id: info.id, address: info.address.clone() };
        let hello = self.hello(&peer).await?;
        if hello.cluster.is_some() || hello.pair != info.pair {
            return Ok(());
        }
        let request = PeerRequest {
            call: PeerCall::Bootstrap,
            cluster: None,
            shard: ShardId::META,
            replica: 0,
            body: map.encode(),
        };
        self.parts.transport.call(&peer, request, HELLO_TIMEOUT).await.map(drop)
    }

    /// Goes on with the map that was saved, at the start. A crash between saving the first map and the identity is
    /// mended here: the map says which cluster it is.
    pub(super) fn resume(&self, map: ShardMap) -> Result<()> {
        self.check_ours(&map)?;
        self.join_cluster(&map)?;
        self.parts.identity.note_level(map.level)?;
        self.adopt_in_memory(map);
        Ok(())
    }

    /// Takes part in the cluster of the map, and follows it from now on. Durable when it returns. A map that is not
    /// newer than the known one changes nothing.
    pub(crate) async fn adopt(self: &Arc<Self>, map: ShardMap) -> Result<()> {
        if self.knows(&map) {
            return Ok(());
        }
        let node = Arc::clone(self);
        // Once begun it runs to its end, whatever becomes of the caller: the check and the row belong together.
        blocking::run(&self.parts.store, "the saving of a map", move || node.adopt_now(map)).await
    }

    /// One at a time: between the check and the row nobody else may save an older or a newer map.
    fn adopt_now(&self, map: ShardMap) -> Result<()> {
        let _one = self.adopting.lock().unwrap_or_else(PoisonError::into_inner);
        self.check_ours(&map)?;
        if self.knows(&map) {
            return Ok(());
        }
        rows::save_map(&self.parts.store, &map)?;
        failpoint("bootstrap.saved");
        self.join_cluster(&map)?;
        self.parts.identity.note_level(map.level)?;
        self.adopt_in_memory(map);
        self.wake.notify_one();
        Ok(())
    }

    fn knows(&self, map: &ShardMap) -> bool {
        self.map().is_some_and(|known| known.cluster == map.cluster && known.version >= map.version)
    }

    /// Whether the map is one of this node's cluster, at a level that the node knows, and knows the node by its stores.
    fn check_ours(&self, map: &ShardMap) -> Result<()> {
        if let Some(why) = self.options.levels.refusal(map.level, "this node") {
            return Err(Error::new(ErrorKind::NewerFormat, why));
        }
        let identity = self.identity();
        if let Some(cluster) = identity.cluster
            && cluster != map.cluster
        {
            return Err(Error::new(
                ErrorKind::WrongCluster,
                format!("this node belongs to cluster {cluster}, not to {}", map.cluster),
            ));
        }
        if let Some(info) = map.nodes.get(&identity.node_id)
            && info.pair != identity.pair
        {
            return Err(Error::new(
                ErrorKind::WrongCluster,
                format!(
                    "the cluster knows node {} with other stores than these: it was wiped or swapped; \
                     remove the node and let it join under a new id",
                    identity.node_id
                ),
            ));
        }
        Ok(())
    }

    fn join_cluster(&self, map: &ShardMap) -> Result<()> {
        let identity = self.identity();
        if identity.cluster.is_some() {
            return Ok(());
        }
        self.set_identity(Identity { cluster: Some(map.cluster), ..identity })
    }
}

pub(crate) fn decode_hello(body: &Bytes) -> Result<Hello> {
    let wire: HelloWire = parse("a hello", body)?;
    let id = |bytes: &Bytes| {
        <[u8; 16]>::try_from(bytes.as_ref())
            .map(u128::from_be_bytes)
            .map_err(|error| Error::corrupt("a hello holds a malformed id").with_source(error))
    };
    let cluster = if wire.cluster.is_empty() { None } else { Some(ClusterId(id(&wire.cluster)?)) };
    let levels = Levels::told(wire.level_min, wire.level_max);
    Ok(Hello { cluster, node_id: wire.node_id, pair: id(&wire.pair)?, levels })
}
