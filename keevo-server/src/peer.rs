//! The nodes' own network over gRPC: `keevo.raft.v1.Raft`.
//!
//! One bidirectional stream per peer pair and direction carries the requests of all groups, batched: what is
//! queued when the stream is writable travels in one message. Snapshots go on streams of their own.
//!
//! Invariant: requests leave in the order of the calls and are handed to the node in the order of their
//! arrival; the answers come in any order.

mod link;
mod outbox;
mod service;
mod snapshot;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use keevo_core::{ClusterId, Error, ErrorKind, Levels, Result, SnapshotFile};
use keevo_proto::raft::v1 as pb;
use keevo_raft::{Peer, PeerRequest, SnapshotHead, Transport};
use keevo_tls::{Dialer, ServerTls};

use link::Link;
pub use service::RaftService;

/// How long a connection may take to come up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Who this node is, as its peers are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalPeer {
    /// Its id.
    pub node_id: u64,
    /// Where it listens.
    pub address: String,
    /// The levels that it knows.
    pub levels: Levels,
}

impl LocalPeer {
    fn hello(&self, cluster: Option<ClusterId>) -> pb::Hello {
        pb::Hello {
            cluster_id: cluster_bytes(cluster),
            node_id: self.node_id,
            pair_id: Bytes::new(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            address: self.address.clone(),
            level_min: self.levels.min,
            level_max: self.levels.max,
        }
    }
}

/// A cluster id on the wire: empty before there is one.
fn cluster_bytes(cluster: Option<ClusterId>) -> Bytes {
    cluster.map(|id| Bytes::copy_from_slice(&id.0.to_be_bytes())).unwrap_or_default()
}

fn cluster_of(bytes: &[u8]) -> Result<Option<ClusterId>> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let array = <[u8; 16]>::try_from(bytes)
        .map_err(|error| Error::corrupt("a cluster id is not 16 bytes").with_source(error))?;
    Ok(Some(ClusterId(u128::from_be_bytes(array))))
}

/// What waits to be sent to another node, and for its answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerQueue {
    /// The node.
    pub node_id: u64,
    /// Frames that wait to be sent.
    pub frames: u64,
    /// The most that may.
    pub frames_max: u64,
    /// Bytes of those that are not small.
    pub bytes: u64,
    /// The most that may wait.
    pub bytes_max: u64,
    /// Requests without an answer so far.
    pub unanswered: u64,
}

type LinkKey = (Peer, Option<ClusterId>);

/// Keevo's transport between nodes.
pub struct GrpcTransport {
    local: LocalPeer,
    dial: Dial,
    pace: Arc<snapshot::Pace>,
    links: Mutex<HashMap<LinkKey, Arc<Link>>>,
}

impl fmt::Debug for GrpcTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrpcTransport").field("local", &self.local).finish_non_exhaustive()
    }
}

impl GrpcTransport {
    /// A transport for the node that listens as `local` says. All the snapshots it sends have so many bytes a second
    /// together, at most; 0 = no bound.
    pub fn new(local: LocalPeer, snapshot_bytes_per_second: u64) -> Self {
        let pace = Arc::new(snapshot::Pace::new(snapshot_bytes_per_second));
        Self { local, dial: Dial { tls: None }, pace, links: Mutex::new(HashMap::new()) }
    }

    /// The same transport over TLS, or over TCP as it is.
    #[must_use]
    pub fn with_tls(self, tls: Option<Arc<ServerTls>>) -> Self {
        Self { dial: Dial { tls }, ..self }
    }

    /// What waits for other nodes, a link each; those that have ended are left out.
    pub fn queues(&self) -> Vec<PeerQueue> {
        let links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        let mut queues: Vec<_> =
            links.values().filter(|link| !link.is_spent()).map(|link| link.queue_state()).collect();
        queues.sort_by_key(|queue| queue.node_id);
        queues.dedup_by_key(|queue| queue.node_id);
        queues
    }

    fn link(&self, peer: &Peer, cluster: Option<ClusterId>) -> Arc<Link> {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (peer.clone(), cluster);
        if let Some(link) = links.get(&key).filter(|link| !link.is_spent()) {
            return Arc::clone(link);
        }
        // One link a peer: what belonged to an older address or to the time before the cluster ends here.
        links.retain(|(other, _), link| other.node_id != peer.node_id || !link.is_spent());
        let link = Arc::new(Link::open(peer, self.local.hello(cluster), self.dial.clone()));
        links.insert(key, Arc::clone(&link));
        link
    }
}

impl Transport for GrpcTransport {
    fn call(&self, to: &Peer, request: PeerRequest, timeout: Duration) -> BoxFuture<'static, Result<Bytes>> {
        let answer = self.link(to, request.cluster).send(request, timeout);
        let node_id = to.node_id;
        Box::pin(async move {
            match tokio::time::timeout(timeout, answer).await {
                Ok(answer) => answer,
                Err(elapsed) => Err(Error::new(
                    ErrorKind::OutcomeUnknown,
                    format!("node {node_id} did not answer within {} ms", timeout.as_millis()),
                )
                .with_source(elapsed)),
            }
        })
    }

    fn send_snapshot(
        &self,
        to: &Peer,
        head: SnapshotHead,
        files: Vec<SnapshotFile>,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Bytes>> {
        let (peer, pace, dial) = (to.clone(), Arc::clone(&self.pace), self.dial.clone());
        Box::pin(async move {
            match tokio::time::timeout(timeout, snapshot::send(&peer, &dial, head, files, pace)).await {
                Ok(answer) => answer,
                Err(elapsed) => Err(Error::new(
                    ErrorKind::Unavailable,
                    format!("node {} did not take the snapshot within {} s", peer.node_id, timeout.as_secs()),
                )
                .with_source(elapsed)),
            }
        })
    }
}

/// How peers are dialled.
#[derive(Debug, Clone)]
struct Dial {
    /// `None` = over TCP as it is.
    tls: Option<Arc<ServerTls>>,
}

impl Dial {
    /// A channel to a peer, which connects when it is first used. Over TLS the peer must show that it is the node that is
    /// meant, whatever answers at its address.
    fn channel(&self, peer: &Peer) -> Result<tonic::transport::Channel> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let address = format!("{scheme}://{}", peer.address);
        let endpoint = tonic::transport::Endpoint::from_shared(address).map_err(|error| {
            Error::new(ErrorKind::Config, format!("{} is no address of a node", peer.address)).with_source(error)
        })?;
        let endpoint = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(Duration::from_secs(5))
            .keep_alive_timeout(Duration::from_secs(5))
            .initial_stream_window_size(8 << 20)
            .initial_connection_window_size(16 << 20);
        Ok(match &self.tls {
            None => endpoint.connect_lazy(),
            Some(tls) => endpoint.connect_with_connector_lazy(Dialer::peer(Arc::clone(tls), peer.node_id)),
        })
    }
}
