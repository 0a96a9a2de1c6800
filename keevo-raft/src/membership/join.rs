//! A node comes: into the map first, then shard by shard as a learner and a voter.

use futures::future::BoxFuture;
use keevo_core::{Error, ErrorKind, Result, ShardId};

use super::operation::{Change, Ticket};
use super::{PATIENCE, order, shard_of};
use crate::cluster_engine::{ClusterEngine, DEADLINE, Effect};
use crate::node::{Hello, NodeStatus};
use crate::peer_messages::{self, MembershipWire, ReadRequest};
use crate::shard_map::{NodeInfo, Replica, ReplicaRole, ShardMap};
use crate::transport::{Peer, PeerCall};

impl ClusterEngine {
    /// Takes the node that waits to join at an address into the cluster, and gives its id.
    ///
    /// Errors: as [`ClusterEngine::join`].
    pub async fn join_at(&self, address: &str) -> Result<u64> {
        let peer = Peer { node_id: 0, address: address.to_owned() };
        let hello = self.node.inner.hello(&peer).await?;
        self.join(hello.node_id, address).await?;
        Ok(hello.node_id)
    }

    /// Takes a node, which waits to join, into the cluster, and gives it a replica of every shard that has too few.
    /// Repeated after a crash or an error, it finishes what was begun.
    ///
    /// Errors: `Conflict` if its id was used before: a wiped or removed node needs a new id. `Unavailable` while
    /// another change of the members is under way. `WrongCluster` if it belongs to another cluster.
    pub fn join<'a>(&'a self, node_id: u64, address: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let peer = Peer { node_id, address: address.to_owned() };
            let hello = self.node.inner.hello(&peer).await?;
            if hello.node_id != node_id {
                return Err(Error::invalid(format!("the node at {address} is node {}, not {node_id}", hello.node_id)));
            }
            let own = self.node.inner.identity().cluster;
            if hello.cluster.is_some() && hello.cluster != own {
                return Err(Error::new(ErrorKind::WrongCluster, format!("node {node_id} belongs to another cluster")));
            }
            let info = NodeInfo { id: node_id, address: address.to_owned(), pair: hello.pair };
            let ticket = Ticket::begin(self, Change::Join(node_id)).await?;
            let admit = |map: &mut ShardMap| {
                fits(map, &hello)?;
                enter(map, &info)
            };
            if let Err(error) = admit(&mut self.fresh_map().await?) {
                return Err(ticket.give_up(self, error).await);
            }
            let map = ticket.update(self, admit).await?;
            self.hand_map_to(&peer, &map).await?;
            let factor = usize::try_from(map.replication_factor).unwrap_or(usize::MAX);
            for shard in &map.shards {
                let here = shard.replica_on(node_id).map(|replica| replica.role);
                if here == Some(ReplicaRole::Learner) || (here.is_none() && shard.voters().count() < factor) {
                    self.add_replica(&ticket, shard.id, node_id).await?;
                }
            }
            ticket.finish(self, |_map| Ok(())).await.map(drop)
        })
    }

    /// Gives a node a replica of the shard and makes it a voter.
    async fn add_replica(&self, ticket: &Ticket, shard: ShardId, node_id: u64) -> Result<()> {
        let map = self.place_learner(ticket, shard, node_id).await?;
        let missing = || Error::new(ErrorKind::NotFound, format!("shard {shard} or node {node_id} has gone"));
        let replica = map.shard(shard).and_then(|info| info.replica_on(node_id)).ok_or_else(missing)?.id;
        let address = map.nodes.get(&node_id).ok_or_else(missing)?.address.clone();
        let learner = MembershipWire { kind: order::ADD_LEARNER, replica, node_id, address };
        self.order(ticket, shard, &learner).await?;
        self.wait_caught_up(shard, node_id, replica).await?;
        self.order(ticket, shard, &MembershipWire { kind: order::ADD_VOTER, ..learner }).await?;
        ticket.update(self, |map| make_voter(map, shard, replica)).await.map(drop)
    }

    /// Gives a node a place in a shard, under a new replica id.
    pub(super) async fn place_learner(&self, ticket: &Ticket, shard: ShardId, node_id: u64) -> Result<ShardMap> {
        ticket
            .update(self, |map| {
                if !map.nodes.contains_key(&node_id) {
                    return Err(Error::new(ErrorKind::NotFound, format!("there is no node {node_id}")));
                }
                let id = map.next_replica_id;
                let info = shard_of(map, shard)?;
                if info.replica_on(node_id).is_none() {
                    info.replicas.push(Replica { id, node_id, role: ReplicaRole::Learner });
                    info.epoch.conf_version += 1;
                    map.next_replica_id += 1;
                }
                Ok(())
            })
            .await
    }

    /// Waits until a new replica has applied all that the shard had committed when the wait began: a voter that is
    /// not there yet would weaken the group. Openraft's own wait is content with a lag of many entries.
    pub(super) async fn wait_caught_up(&self, shard: ShardId, node_id: u64, replica: u64) -> Result<()> {
        let patient = self.clone().with_deadline(PATIENCE);
        // Only the leader, confirmed by a quorum, knows what is committed: nobody's silence counts as "nothing".
        let body = peer_messages::encode_read(
            &ReadRequest::Keys(Vec::new()),
            u64::try_from(DEADLINE.as_millis()).unwrap_or(u64::MAX),
            keevo_core::Consistency::Linearizable,
        );
        let answer = patient
            .until_deadline(Effect::None, |attempt| {
                patient.ask_leader(shard, PeerCall::ReadIndex, body.clone(), attempt)
            })
            .await?;
        let goal = peer_messages::decode_read_index(&answer)?;
        patient
            .until_deadline(Effect::None, |_attempt| async {
                let (_, nodes) = patient.cluster_status().await?;
                if applied(&nodes, node_id, shard, replica).is_some_and(|applied| applied >= goal) {
                    return Ok(());
                }
                Err(Error::new(
                    ErrorKind::DeadlineExceeded,
                    format!("the new replica of shard {shard} on node {node_id} has not caught up"),
                ))
            })
            .await
    }
}

/// How far a replica has applied its log, as its node says.
fn applied(nodes: &[NodeStatus], node_id: u64, shard: ShardId, replica: u64) -> Option<u64> {
    let replicas = nodes.iter().filter(|node| node.node_id == node_id).flat_map(|node| &node.replicas);
    replicas.filter(|one| one.shard == shard && one.replica == replica).map(|one| one.applied).max()
}

/// Refuses a node that does not know the level of the map.
fn fits(map: &ShardMap, hello: &Hello) -> Result<()> {
    let refused = hello.levels.refusal(map.level, format!("node {}", hello.node_id));
    refused.map_or(Ok(()), |why| Err(Error::new(ErrorKind::NewerFormat, why)))
}

/// Puts a node into the map, or gives it its new address.
pub(super) fn enter(map: &mut ShardMap, info: &NodeInfo) -> Result<()> {
    let conflict = |text: String| Err(Error::new(ErrorKind::Conflict, text));
    let id = info.id;
    if map.removed.contains_key(&id) {
        return conflict(format!(
            "node {id} was removed from this cluster, and an id is used once: empty its folder and let it join under a \
             new id"
        ));
    }
    match map.nodes.get(&id) {
        Some(known) if known.pair != info.pair => {
            conflict(format!("node {id} is known with other stores; remove it first and join under a new id"))
        }
        _ => {
            map.nodes.insert(id, info.clone());
            Ok(())
        }
    }
}

/// Says in the map that this one replica votes; the others stay as they are.
fn make_voter(map: &mut ShardMap, shard: ShardId, replica: u64) -> Result<()> {
    let info = shard_of(map, shard)?;
    let gone = || Error::new(ErrorKind::Conflict, format!("replica {replica} of shard {shard} left the map meanwhile"));
    let found = info.replicas.iter_mut().find(|one| one.id == replica).ok_or_else(gone)?;
    if found.role != ReplicaRole::Voter {
        found.role = ReplicaRole::Voter;
        info.epoch.conf_version += 1;
    }
    Ok(())
}
