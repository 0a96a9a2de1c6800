//! A node goes: out of every group first, shard 0 last, then out of the map.

use futures::future::BoxFuture;
use keevo_core::{Error, ErrorKind, Result, ShardId};

use super::operation::{Change, Ticket};
use super::{order, shard_of};
use crate::cluster_engine::ClusterEngine;
use crate::peer_messages::MembershipWire;
use crate::shard_map::{Replica, ReplicaRole, ShardInfo, ShardMap};
use crate::transport::Peer;

impl ClusterEngine {
    /// Takes a node out of the cluster: out of every group first, then out of the map. Its id is never used again.
    /// Repeated after a crash or an error, it finishes what was begun; once it is done, it does nothing.
    ///
    /// Errors: `Conflict` if the node holds the last replica of a shard, `NotFound` if there never was such a node,
    /// `Unavailable` while another change of the members is under way.
    pub fn remove(&self, node_id: u64) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            if self.fresh_map().await?.removed.contains_key(&node_id) {
                return Ok(());
            }
            let ticket = Ticket::begin(self, Change::Remove(node_id)).await?;
            let map = self.fresh_map().await?;
            if let Err(error) = may_go(&map, node_id) {
                return Err(ticket.give_up(self, error).await);
            }
            // Shard 0 comes last: as long as the node is in the meta group, it learns from it what happens.
            for shard in map.shards.iter().filter(|shard| shard.id != ShardId::META) {
                self.leave(&ticket, shard, node_id).await?;
            }
            if let Some(meta) = map.shard(ShardId::META) {
                self.leave(&ticket, meta, node_id).await?;
            }
            let last = ticket
                .finish(self, |map| {
                    if let Some(info) = map.nodes.remove(&node_id) {
                        map.removed.insert(node_id, info.pair);
                    }
                    Ok(())
                })
                .await?;
            if let Some(info) = map.nodes.get(&node_id) {
                let peer = Peer { node_id, address: info.address.clone() };
                if let Err(error) = self.hand_map_to(&peer, &last).await {
                    tracing::info!(node = node_id, %error, "the removed node will learn of it when it asks its peers");
                }
            }
            Ok(())
        })
    }

    /// Takes the node's replica of a shard out of the group, then out of the map.
    async fn leave(&self, ticket: &Ticket, shard: &ShardInfo, node_id: u64) -> Result<()> {
        let Some(replica) = shard.replica_on(node_id).map(|replica| replica.id) else { return Ok(()) };
        self.give_up_lead(shard, node_id).await?;
        let remove = MembershipWire { kind: order::REMOVE, replica, ..MembershipWire::default() };
        self.order(ticket, shard.id, &remove).await?;
        ticket.update(self, |map| take_out(map, shard.id, replica)).await.map(drop)
    }

    /// Moves the leadership of a shard off a node that is about to leave its group, if another voter is up.
    async fn give_up_lead(&self, shard: &ShardInfo, node_id: u64) -> Result<()> {
        let (_, nodes) = self.cluster_status().await?;
        let replica_of = |id: u64| {
            let replicas = nodes.iter().filter(move |node| node.node_id == id).flat_map(|node| &node.replicas);
            replicas.into_iter().find(|one| one.shard == shard.id && one.fault.is_empty())
        };
        if replica_of(node_id).is_none_or(|one| one.role != "leader") {
            return Ok(());
        }
        let mut others = shard.voters().filter(|one| one.node_id != node_id);
        match others.find(|one| replica_of(one.node_id).is_some()) {
            Some(heir) => self.transfer(shard.id, heir.node_id).await,
            None => Err(Error::new(
                ErrorKind::NoQuorum,
                format!("no other voter of shard {} is up to lead it without node {node_id}", shard.id),
            )),
        }
    }
}

/// Whether the node is there and every shard has a voter elsewhere.
fn may_go(map: &ShardMap, node_id: u64) -> Result<()> {
    if !map.nodes.contains_key(&node_id) {
        return Err(Error::new(ErrorKind::NotFound, format!("there is no node {node_id}")));
    }
    let stays = |replica: &Replica| replica.node_id != node_id && replica.role == ReplicaRole::Voter;
    match map.shards.iter().find(|shard| shard.replica_on(node_id).is_some() && !shard.replicas.iter().any(stays)) {
        None => Ok(()),
        Some(shard) => Err(Error::new(
            ErrorKind::Conflict,
            format!("node {node_id} holds the last replica of shard {}; add another node first", shard.id),
        )),
    }
}

/// Takes this one replica out of the map; the others stay as they are.
fn take_out(map: &mut ShardMap, shard: ShardId, replica: u64) -> Result<()> {
    let info = shard_of(map, shard)?;
    let before = info.replicas.len();
    info.replicas.retain(|one| one.id != replica);
    if info.replicas.len() != before {
        info.epoch.conf_version += 1;
    }
    Ok(())
}
