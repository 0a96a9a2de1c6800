//! What a node answers to its peers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use keevo_core::trace::{Trace, TraceContext};
use keevo_core::{Error, ErrorKind, Levels, Result, ShardId, Store};

use super::{Node, NodeInner, changes};
use crate::cluster_engine::ClusterEngine;
use crate::group::Group;
use crate::messages;
use crate::peer_messages::{self, HelloWire, ProposeWire, ReadAnswer, ReadWire, pack, parse};
use crate::shard_map::ShardMap;
use crate::state_machine::StagedFiles;
use crate::transport::{PeerCall, PeerHandler, PeerRequest, SnapshotHead};

/// The longest that a peer may let this node work on one request.
const DEADLINE_MAX: Duration = Duration::from_mins(1);

fn deadline(deadline_ms: u64) -> Duration {
    Duration::from_millis(deadline_ms).min(DEADLINE_MAX)
}

impl PeerHandler for Node {
    fn handle(&self, request: PeerRequest) -> BoxFuture<'static, Result<Bytes>> {
        if let Err(error) = self.inner.check_cluster(&request) {
            return Box::pin(std::future::ready(Err(error)));
        }
        // Appends are queued before the first await, in the order of the calls.
        if matches!(request.call, PeerCall::Append | PeerCall::Heartbeat) {
            return match self.inner.group_for(&request) {
                Ok(group) => group.append(&request.body),
                Err(error) => Box::pin(std::future::ready(Err(error))),
            };
        }
        let node = Arc::clone(&self.inner);
        Box::pin(async move { node.answer(request).await })
    }

    fn admits(&self, node_id: u64, levels: Levels, release: &str) -> Result<()> {
        let Some(map) = self.map() else { return Ok(()) };
        let whose = format!("node {node_id}, which runs {release},");
        levels.refusal(map.level, whose).map_or(Ok(()), |why| Err(Error::new(ErrorKind::NewerFormat, why)))
    }

    fn stage_snapshot(&self, head: &SnapshotHead) -> Result<StagedFiles> {
        self.inner.replica_of(head.shard, head.replica)?;
        self.inner.gate.admit_files()?;
        // Before anything is sent: what cannot be opened here would be received for nothing.
        let (_, _, keys) = messages::decode_snapshot_head(&head.body)?;
        let admitted = self.inner.parts.store.admit_keys(&keys);
        admitted.inspect_err(|error| tracing::error!(shard = %head.shard, %error, "a snapshot is refused"))?;
        StagedFiles::new(&self.inner.options.staging, &format!("receive-{}-{}", head.shard, head.replica))
    }

    fn install_snapshot(&self, head: SnapshotHead, staged: StagedFiles) -> BoxFuture<'static, Result<Bytes>> {
        let node = Arc::clone(&self.inner);
        Box::pin(async move {
            if node.identity().cluster != Some(head.cluster) {
                return Err(Error::new(ErrorKind::WrongCluster, "the snapshot comes from another cluster"));
            }
            let group = node.replica_of(head.shard, head.replica)?;
            group.install(&head.body, staged).await
        })
    }
}

impl NodeInner {
    fn check_cluster(&self, request: &PeerRequest) -> Result<()> {
        let own = self.identity().cluster;
        match (request.cluster, own) {
            (Some(theirs), Some(own)) if theirs != own => Err(Error::new(
                ErrorKind::WrongCluster,
                format!("this node belongs to cluster {own}, the request to {theirs}"),
            )),
            // Only what brings a node into a cluster comes from one that is in none.
            (None, _) if !matches!(request.call, PeerCall::Hello | PeerCall::Map | PeerCall::Bootstrap) => {
                Err(Error::new(ErrorKind::WrongCluster, "the request names no cluster"))
            }
            _ => Ok(()),
        }
    }

    fn replica_of(&self, shard: ShardId, replica: u64) -> Result<Arc<Group>> {
        self.group(shard).filter(|group| replica == 0 || group.replica() == replica).ok_or_else(|| {
            Error::new(
                ErrorKind::Unavailable,
                format!("node {} holds no replica {replica} of shard {shard}", self.options.node_id),
            )
        })
    }

    pub(super) fn group_for(&self, request: &PeerRequest) -> Result<Arc<Group>> {
        self.replica_of(request.shard, request.replica)
    }

    async fn answer(self: Arc<Self>, request: PeerRequest) -> Result<Bytes> {
        match request.call {
            PeerCall::Append | PeerCall::Heartbeat => self.group_for(&request)?.append(&request.body).await,
            PeerCall::Vote => self.group_for(&request)?.vote(&request.body, false).await,
            PeerCall::PreVote => self.group_for(&request)?.vote(&request.body, true).await,
            PeerCall::Transfer => self.group_for(&request)?.transfer(&request.body).await,
            PeerCall::ReadIndex => self.read_index(&request).await,
            PeerCall::Propose => self.propose(&request).await,
            PeerCall::Read => self.read(&request).await,
            PeerCall::Map => Ok(self.map_after(&request.body)),
            PeerCall::Hello => Ok(self.own_hello()),
            PeerCall::Bootstrap => {
                self.adopt(ShardMap::decode(&request.body)?).await?;
                Ok(Bytes::new())
            }
            PeerCall::Membership => self.membership(&request).await,
            PeerCall::Status => Ok(self.status_wire()),
            PeerCall::Changes => changes::answer(&self, &request).await,
        }
    }

    fn own_hello(&self) -> Bytes {
        let identity = self.identity();
        pack(&HelloWire {
            cluster: identity.cluster.map(|id| Bytes::copy_from_slice(&id.0.to_be_bytes())).unwrap_or_default(),
            node_id: identity.node_id,
            pair: Bytes::copy_from_slice(&identity.pair.to_be_bytes()),
            level_min: self.options.levels.min,
            level_max: self.options.levels.max,
        })
    }

    async fn read_index(&self, request: &PeerRequest) -> Result<Bytes> {
        let wire: ReadWire = parse("a read index request", &request.body)?;
        let group = self.group_for(request)?;
        let index = group.read_barrier(deadline(wire.deadline_ms)).await?;
        Ok(Bytes::copy_from_slice(&index.to_be_bytes()))
    }

    async fn propose(&self, request: &PeerRequest) -> Result<Bytes> {
        let wire: ProposeWire = parse("a proposal", &request.body)?;
        let (command, hlc) = peer_messages::decode_command(&wire.entry)?;
        let aside = peer_messages::aside_of(&wire)?;
        self.hlc.hear(hlc, self.parts.clock.now_ms());
        let group = self.group_for(request)?;
        let propose = group.propose_with(command, aside, deadline(wire.deadline_ms));
        let outcome = match wire.trace.as_deref().and_then(TraceContext::decode) {
            Some(context) => Trace::begin(Some(context)).run(propose).await?,
            None => propose.await?,
        };
        Ok(peer_messages::encode_outcome(&outcome, self.hlc.read()))
    }

    async fn read(self: &Arc<Self>, request: &PeerRequest) -> Result<Bytes> {
        let wire: ReadWire = parse("a read", &request.body)?;
        let limit = deadline(wire.deadline_ms);
        let group = self.group_for(request)?;
        let max_age_ms = wire.stale_ms_plus_1.checked_sub(1);
        let request = peer_messages::read_of(wire)?;
        if request.view().is_some() {
            let engine = ClusterEngine::new(Node { inner: Arc::clone(self) }).with_deadline(limit);
            return engine.read_view(&group, &request).await.map(ReadAnswer::encode);
        }
        match max_age_ms {
            Some(max_age_ms) if group.is_fresh(Duration::from_millis(max_age_ms)) => {
                group.read_here(&request).map(|(answer, _)| answer.encode())
            }
            _ => group.read(&request, limit).await.map(ReadAnswer::encode),
        }
    }
}
