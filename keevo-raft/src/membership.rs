//! Changes to who is in the cluster: join, remove, transfer. Every step can be repeated after a crash.
//!
//! A replica is added in this order: the map gives it an id and a place as a learner, its node opens it, the group
//! sends it the log, joint consensus makes it a voter, the map says so. It is removed in the opposite order:
//! the group first, then the map, then the node drops the data.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use keevo_core::{Error, ErrorKind, Result, ShardId, Store};

use crate::cluster_engine::{Attempt, ClusterEngine, Effect};
use crate::cluster_map;
use crate::node::{NodeStatus, decode_status};
use crate::peer_messages::{self, MembershipWire};
use crate::shard_map::{NodeInfo, Replica, ReplicaRole, ShardInfo, ShardMap};
use crate::transport::{Peer, PeerCall, PeerRequest};

const STATUS_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a new replica may take to catch up.
const CATCH_UP_TIMEOUT: Duration = Duration::from_mins(10);

impl<S: Store> ClusterEngine<S> {
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
        let replicas = if info.id == self.node.id() {
            Ok(self.node.replicas())
        } else {
            let peer = Peer { node_id: info.id, address: info.address.clone() };
            let answer = self.ask(&peer, PeerCall::Status, ShardId::META, Bytes::new(), STATUS_TIMEOUT).await;
            answer.and_then(|body| decode_status(&body))
        };
        NodeStatus {
            node_id: info.id,
            address: info.address.clone(),
            alive: replicas.is_ok(),
            replicas: replicas.unwrap_or_default(),
        }
    }

    /// Takes the node that waits to join at an address into the cluster, and gives its id.
    pub async fn join_at(&self, address: &str) -> Result<u64> {
        let peer = Peer { node_id: 0, address: address.to_owned() };
        let hello = self.node.inner.hello(&peer).await?;
        self.join(hello.node_id, address).await?;
        Ok(hello.node_id)
    }

    /// Waits until every replica that can be reached has taken the checksum of its shard at the revision.
    pub async fn wait_checksums(&self, asked: &[(ShardId, u64)]) -> Result<()> {
        self.until_deadline(Effect::Reads, |_attempt| async move {
            let (_, nodes) = self.cluster_status().await?;
            let behind = nodes.iter().flat_map(|node| &node.replicas).find(|status| {
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

    /// Takes a node, which waits to join, into the cluster, and gives it a replica of every shard that has too few.
    /// `Conflict` if its id was used before by other stores: a wiped node needs a new id.
    pub async fn join(&self, node_id: u64, address: &str) -> Result<()> {
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
        let map = cluster_map::update(self, |map| {
            match map.nodes.get(&node_id) {
                Some(known) if known.pair != info.pair => {
                    return Err(Error::new(
                        ErrorKind::Conflict,
                        format!("node {node_id} is known with other stores; remove it first and join under a new id"),
                    ));
                }
                _ => drop(map.nodes.insert(node_id, info.clone())),
            }
            Ok(())
        })
        .await?;
        let hand_over = PeerRequest {
            call: PeerCall::Bootstrap,
            cluster: None,
            shard: ShardId::META,
            replica: 0,
            body: map.encode(),
        };
        self.node.inner.parts.transport.call(&peer, hand_over, STATUS_TIMEOUT).await?;
        let factor = usize::try_from(map.replication_factor).unwrap_or(usize::MAX);
        for shard in &map.shards {
            let voters = shard.replicas.iter().filter(|replica| replica.role == ReplicaRole::Voter).count();
            let here = shard.replica_on(node_id).map(|replica| replica.role);
            if here == Some(ReplicaRole::Learner) || (here.is_none() && voters < factor) {
                self.add_replica(shard.id, node_id).await?;
            }
        }
        Ok(())
    }

    /// Gives a node a replica of the shard and makes it a voter.
    pub async fn add_replica(&self, shard: ShardId, node_id: u64) -> Result<()> {
        let map = cluster_map::update(self, |map| {
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
        .await?;
        let missing = || Error::new(ErrorKind::NotFound, format!("shard {shard} or node {node_id} has gone"));
        let info = map.shard(shard).ok_or_else(missing)?;
        let replica = info.replica_on(node_id).ok_or_else(missing)?;
        let address = map.nodes.get(&node_id).ok_or_else(missing)?.address.clone();
        let learner = MembershipWire { kind: 1, replica: replica.id, node_id, address, voters: Vec::new() };
        self.change(shard, &learner).await?;
        self.wait_caught_up(shard, node_id).await?;
        self.set_voters(shard, voters_with(info, replica.id)).await
    }

    /// Waits until the replica on a node has applied all that the shard had committed when the wait began: a voter
    /// that is not there yet would weaken the group. Openraft's own wait is content with a lag of many entries.
    async fn wait_caught_up(&self, shard: ShardId, node_id: u64) -> Result<()> {
        let applied = |nodes: &[NodeStatus], here: bool| {
            let replicas =
                nodes.iter().filter(|node| (node.node_id == node_id) == here).flat_map(|node| &node.replicas);
            replicas.filter(|one| one.shard == shard).map(|one| one.applied.max(one.committed)).max()
        };
        let (_, nodes) = self.cluster_status().await?;
        let goal = applied(&nodes, false).unwrap_or(0);
        let patient = self.clone().with_deadline(CATCH_UP_TIMEOUT);
        patient
            .until_deadline(Effect::Reads, |_attempt| async {
                let (_, nodes) = patient.cluster_status().await?;
                if applied(&nodes, true).is_some_and(|applied| applied >= goal) {
                    return Ok(());
                }
                Err(Error::new(
                    ErrorKind::DeadlineExceeded,
                    format!("the new replica of shard {shard} on node {node_id} has not caught up"),
                ))
            })
            .await
    }

    /// Takes a node out of the cluster: out of every group first, then out of the map.
    /// `Conflict` if it holds the last replica of a shard.
    pub async fn remove(&self, node_id: u64) -> Result<()> {
        let map = self.fresh_map().await?;
        if !map.nodes.contains_key(&node_id) {
            return Err(Error::new(ErrorKind::NotFound, format!("there is no node {node_id}")));
        }
        for shard in map.shards.iter().filter(|shard| shard.replica_on(node_id).is_some()) {
            let voters: BTreeSet<u64> = shard
                .replicas
                .iter()
                .filter(|replica| replica.node_id != node_id && replica.role == ReplicaRole::Voter)
                .map(|replica| replica.id)
                .collect();
            if voters.is_empty() {
                return Err(Error::new(
                    ErrorKind::Conflict,
                    format!("node {node_id} holds the last replica of shard {}; add another node first", shard.id),
                ));
            }
            self.leave(shard, node_id).await?;
            self.set_voters(shard.id, voters).await?;
        }
        cluster_map::update(self, |map| {
            map.nodes.remove(&node_id);
            Ok(())
        })
        .await
        .map(drop)
    }

    /// Moves the leadership of a shard off a node that is about to leave its group.
    async fn leave(&self, shard: &ShardInfo, node_id: u64) -> Result<()> {
        let Some(other) = shard.replicas.iter().find(|one| one.node_id != node_id && one.role == ReplicaRole::Voter)
        else {
            return Ok(());
        };
        let (_, nodes) = self.cluster_status().await?;
        let leads = nodes.iter().filter(|node| node.node_id == node_id).flat_map(|node| &node.replicas);
        if leads.into_iter().any(|replica| replica.shard == shard.id && replica.role == "leader") {
            self.transfer(shard.id, other.node_id).await?;
        }
        Ok(())
    }

    /// Hands the leadership of a shard to the replica on a node, and waits until that one leads.
    pub async fn transfer(&self, shard: ShardId, node_id: u64) -> Result<()> {
        let map = self.fresh_map().await?;
        let replica = map
            .shard(shard)
            .and_then(|info| info.replica_on(node_id))
            .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("node {node_id} has no replica of shard {shard}")))?
            .id;
        let info = map
            .nodes
            .get(&node_id)
            .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("there is no node {node_id}")))?;
        let order = MembershipWire { kind: 3, replica, ..MembershipWire::default() };
        self.until_deadline(Effect::Reads, |attempt| {
            let order = order.clone();
            async move {
                let status = self.node_status(info).await;
                let leads = |one: &crate::node::ReplicaStatus| one.shard == shard && one.role == "leader";
                if status.replicas.iter().any(leads) {
                    return Ok(());
                }
                // Asked again from time to time only: a transfer takes an election.
                if attempt.number % 4 == 0 {
                    self.change_once(shard, &order, attempt).await?;
                }
                Err(Error::new(ErrorKind::DeadlineExceeded, format!("node {node_id} does not lead shard {shard} yet")))
            }
        })
        .await
    }

    async fn set_voters(&self, shard: ShardId, voters: BTreeSet<u64>) -> Result<()> {
        let order = MembershipWire { kind: 2, voters: voters.iter().copied().collect(), ..MembershipWire::default() };
        self.change(shard, &order).await?;
        cluster_map::update(self, |map| {
            let info = shard_of(map, shard)?;
            info.replicas.retain(|replica| voters.contains(&replica.id));
            for replica in &mut info.replicas {
                replica.role = ReplicaRole::Voter;
            }
            info.epoch.conf_version += 1;
            Ok(())
        })
        .await
        .map(drop)
    }

    async fn fresh_map(&self) -> Result<ShardMap> {
        let record = self.get_unchecked(cluster_map::map_key()).await?;
        let record = record.ok_or_else(|| Error::new(ErrorKind::Unavailable, "the cluster has no shard map yet"))?;
        ShardMap::decode(&record.value)
    }

    async fn change(&self, shard: ShardId, order: &MembershipWire) -> Result<()> {
        let patient = self.clone().with_deadline(CATCH_UP_TIMEOUT);
        patient.until_deadline(Effect::Writes, |attempt| patient.change_once(shard, order, attempt)).await
    }

    async fn change_once(&self, shard: ShardId, order: &MembershipWire, attempt: Attempt) -> Result<()> {
        let body = peer_messages::pack(order);
        self.ask_leader(shard, PeerCall::Membership, body, attempt).await.map(drop)
    }
}

fn shard_of(map: &mut ShardMap, shard: ShardId) -> Result<&mut ShardInfo> {
    map.shard_mut(shard).ok_or_else(|| Error::new(ErrorKind::NotFound, format!("there is no shard {shard}")))
}

fn voters_with(info: &ShardInfo, added: u64) -> BTreeSet<u64> {
    info.replicas
        .iter()
        .filter(|replica| replica.role == ReplicaRole::Voter)
        .map(|replica| replica.id)
        .chain([added])
        .collect()
}
