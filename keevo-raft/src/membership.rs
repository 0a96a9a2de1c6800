//! Changes to who is in the cluster: join, remove, transfer. Every step can be repeated after a crash.
//!
//! A replica is added in this order: the map gives it an id and a place as a learner, its node opens it, the group
//! sends it the log, joint consensus makes it a voter, the map says so. It is removed in the opposite order:
//! the group first, then the map, then the node drops the data.
//!
//! Invariants:
//! * One change at a time: its record ([`operation`]) is in the meta group from before the first step until after
//!   the last one, and every step is refused once the record is another's.
//! * A step touches one replica, in the group and in the map: whatever else is there stays.

mod join;
mod level;
pub(crate) mod operation;
mod remove;

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use keevo_core::{Error, ErrorKind, Result, ShardId};

use crate::cluster_engine::{Attempt, ClusterEngine, Effect};
use crate::cluster_map;
use crate::node::{NodeStatus, Told, decode_status};
use crate::peer_messages::{self, MembershipWire};
use crate::shard_map::{NodeInfo, ReplicaRole, ShardInfo, ShardMap};
use crate::transport::{Peer, PeerCall, PeerRequest};
pub use level::Upgrade;
use operation::Ticket;

const STATUS_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a step may wait for its group: a new replica has to catch up.
const PATIENCE: Duration = Duration::from_mins(10);

/// The orders of a [`MembershipWire`].
pub(crate) mod order {
    /// Add a learner.
    pub(crate) const ADD_LEARNER: u32 = 1;
    /// Transfer the leadership.
    pub(crate) const TRANSFER: u32 = 3;
    /// Make a learner a voter.
    pub(crate) const ADD_VOTER: u32 = 4;
    /// Take a replica out of the group, voter or learner.
    pub(crate) const REMOVE: u32 = 5;
}

impl ClusterEngine {
    /// What every node of the map says of itself; one that does not answer in time is not alive.
    pub async fn cluster_status(&self) -> Result<(ShardMap, Vec<NodeStatus>)> {
        let map = self.node.inner.map_or_wait()?;
        let mut asked: FuturesUnordered<_> = map.nodes.values().map(|info| self.node_status(info)).collect();
        let mut nodes = Vec::new();
        while let Some(status) = asked.next().await {
            nodes.push(status);
        }
        nodes.sort_by_key(|node| node.node_id);
        drop(asked);
        Ok((map.as_ref().clone(), nodes))
    }

    async fn node_status(&self, info: &NodeInfo) -> NodeStatus {
        let status = if info.id == self.node.id() {
            Ok(self.node.own_status())
        } else {
            let peer = Peer { node_id: info.id, address: info.address.clone() };
            // Not by `ask`: who answers this is no sign of who leads.
            let cluster = self.node.inner.identity().cluster;
            let call = PeerCall::Status;
            let request = PeerRequest { call, cluster, shard: ShardId::META, replica: 0, body: Bytes::new() };
            let answer = self.node.inner.parts.transport.call(&peer, request, STATUS_TIMEOUT).await;
            answer.and_then(|body| decode_status(&body))
        };
        let alive = status.is_ok();
        let Told { version, levels, replicas, storage } = status.unwrap_or_default();
        NodeStatus { node_id: info.id, address: info.address.clone(), alive, version, levels, replicas, storage }
    }

    /// Waits until every replica that can be reached and runs has taken the checksum of its shard at the revision.
    pub async fn wait_checksums(&self, asked: &[(ShardId, u64)]) -> Result<()> {
        self.until_deadline(Effect::None, |_attempt| async move {
            let (_, nodes) = self.cluster_status().await?;
            let running = nodes.iter().flat_map(|node| &node.replicas).filter(|status| status.fault.is_empty());
            let behind = running.into_iter().find(|status| {
                let revision = asked.iter().find(|(shard, _)| *shard == status.shard).map(|(_, revision)| *revision);
                revision.is_some_and(|revision| status.checksum.is_none_or(|(taken, _, _)| taken < revision))
            });
            match behind {
                None => Ok(()),
                Some(status) => Err(Error::new(
                    ErrorKind::DeadlineExceeded,
                    format!("replica {} of shard {} lags behind", status.replica, status.shard),
                )),
            }
        })
        .await
    }

    /// Hands the leadership of a shard to the replica on a node, and waits until that one leads; at once if it does.
    ///
    /// Errors: `NotFound` without such a node, or without a voter of the shard on it;
    /// `DeadlineExceeded` if it does not lead in time.
    pub async fn transfer(&self, shard: ShardId, node_id: u64) -> Result<()> {
        let map = self.fresh_map().await?;
        let target = map.shard(shard).and_then(|info| info.replica_on(node_id)).ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("node {node_id} has no replica of shard {shard}"))
        })?;
        if target.role != ReplicaRole::Voter {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("the replica of shard {shard} on node {node_id} does not vote yet, so it cannot lead"),
            ));
        }
        let info = map
            .nodes
            .get(&node_id)
            .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("there is no node {node_id}")))?;
        let order = MembershipWire { kind: order::TRANSFER, replica: target.id, ..MembershipWire::default() };
        self.until_deadline(Effect::None, |attempt| {
            let order = order.clone();
            async move {
                let status = self.node_status(info).await;
                let leads = |one: &crate::node::ReplicaStatus| one.shard == shard && one.role == "leader";
                if status.replicas.iter().any(leads) {
                    return Ok(());
                }
                // Asked again from time to time only: a transfer takes an election.
                if attempt.number % 4 == 0 {
                    self.order_once(shard, &order, attempt).await?;
                }
                Err(Error::new(ErrorKind::DeadlineExceeded, format!("node {node_id} does not lead shard {shard} yet")))
            }
        })
        .await
    }

    async fn fresh_map(&self) -> Result<ShardMap> {
        cluster_map::read(self).await.map(|(map, _revision)| map)
    }

    /// Gives an order to the leader of a shard, again until it is carried out, as long as the change is still ours.
    async fn order(&self, ticket: &Ticket, shard: ShardId, order: &MembershipWire) -> Result<()> {
        let patient = self.clone().with_deadline(PATIENCE);
        patient
            .until_deadline(Effect::None, |attempt| async {
                ticket.check(self).await?;
                patient.order_once(shard, order, attempt).await
            })
            .await
    }

    async fn order_once(&self, shard: ShardId, order: &MembershipWire, attempt: Attempt) -> Result<()> {
        let body = peer_messages::pack(order);
        self.ask_leader(shard, PeerCall::Membership, body, attempt).await.map(drop)
    }

    /// Hands a map to a node at once; without it the node would learn of it a little later, or, if it waits to
    /// join, never.
    async fn hand_map_to(&self, peer: &Peer, map: &ShardMap) -> Result<()> {
        let request = PeerRequest {
            call: PeerCall::Bootstrap,
            cluster: None,
            shard: ShardId::META,
            replica: 0,
            body: map.encode(),
        };
        self.node.inner.parts.transport.call(peer, request, STATUS_TIMEOUT).await.map(drop)
    }
}

fn shard_of(map: &mut ShardMap, shard: ShardId) -> Result<&mut ShardInfo> {
    map.shard_mut(shard).ok_or_else(|| Error::new(ErrorKind::NotFound, format!("there is no shard {shard}")))
}

#[cfg(all(test, feature = "rocksdb"))]
mod tests;
