//! How nodes reach each other: a trait that the server implements over gRPC and tests over memory.
//!
//! Invariant: requests of one node to another are handed to the receiver's [`PeerHandler::handle`] in the
//! order they were given to [`Transport::call`], as long as the connection lives; the answers may come in any
//! order. Appends of a group are pipelined and rely on it. No call that was on a connection when it broke is answered
//! any more: the receiver may still work on it, after what comes over the next connection, and openraft takes the two
//! answers of one stream for being in order.

#[cfg(any(test, feature = "testing"))]
pub mod memory;

use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use keevo_core::{ClusterId, Error, Result, ShardId, SnapshotFile};

/// A node as its peers address it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Peer {
    /// The node's id.
    pub node_id: u64,
    /// Where it listens for its peers: `host:port`.
    pub address: String,
}

/// What a peer request asks for; the number is its code on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum PeerCall {
    /// Raft AppendEntries, heartbeats included.
    Append = 1,
    /// Raft RequestVote.
    Vote = 2,
    /// Raft pre-vote.
    PreVote = 3,
    /// Raft leader transfer.
    Transfer = 4,
    /// The leader's read index, for a follower read.
    ReadIndex = 5,
    /// A write on behalf of a client: an encoded entry.
    Propose = 6,
    /// A read on behalf of a client.
    Read = 7,
    /// The shard map and the nodes.
    Map = 8,
    /// Who are you: cluster, node, pair.
    Hello = 9,
    /// Take part in a new cluster.
    Bootstrap = 10,
    /// Change a shard's membership; for its leader.
    Membership = 11,
    /// What a node knows of its replicas.
    Status = 12,
    /// A page of changes of a shard, for a watch elsewhere.
    Changes = 13,
    /// Raft AppendEntries without entries: it may wait a moment for others to travel with.
    Heartbeat = 14,
}

impl PeerCall {
    /// Every call.
    pub const ALL: [Self; 14] = [
        Self::Append,
        Self::Vote,
        Self::PreVote,
        Self::Transfer,
        Self::ReadIndex,
        Self::Propose,
        Self::Read,
        Self::Map,
        Self::Hello,
        Self::Bootstrap,
        Self::Membership,
        Self::Status,
        Self::Changes,
        Self::Heartbeat,
    ];

    /// The code on the wire.
    pub fn code(self) -> u32 {
        self as u32
    }

    /// The call with this code.
    pub fn from_code(code: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|call| call.code() == code)
    }
}

/// One request to a peer.
#[derive(Debug, Clone)]
pub struct PeerRequest {
    /// What it asks for.
    pub call: PeerCall,
    /// The cluster of the sender: a receiver of another cluster refuses. `None` before bootstrap.
    pub cluster: Option<ClusterId>,
    /// The shard it concerns; [`ShardId::META`] for calls about the node itself.
    pub shard: ShardId,
    /// The replica of the receiver that it is meant for; 0 = whichever there is. A replica id is never
    /// reused, so a message for a replica that is gone reaches nobody.
    pub replica: u64,
    /// The encoded request.
    pub body: Bytes,
}

/// The head of a snapshot: what the files that follow hold.
#[derive(Debug, Clone)]
pub struct SnapshotHead {
    /// The cluster of the sender.
    pub cluster: ClusterId,
    /// The shard.
    pub shard: ShardId,
    /// The replica it is meant for.
    pub replica: u64,
    /// The encoded vote and snapshot meta.
    pub body: Bytes,
}

/// Sends requests and snapshots to other nodes.
pub trait Transport: Debug + Send + Sync + 'static {
    /// Sends one request and gives its answer. A request that certainly did not reach the peer fails with
    /// `Unavailable`; one that may have, with `OutcomeUnknown`; what the peer refused, with the peer's error.
    fn call(&self, to: &Peer, request: PeerRequest, timeout: Duration) -> BoxFuture<'static, Result<Bytes>>;

    /// Streams a snapshot's files, each verified by its CRC on arrival, and gives the receiver's answer. A dead
    /// connection is noticed within seconds, not when the timeout of minutes is over: the follower gets nothing else
    /// meanwhile.
    fn send_snapshot(
        &self,
        to: &Peer,
        head: SnapshotHead,
        files: Vec<SnapshotFile>,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Bytes>>;
}

/// What a node does with what its peers send.
pub trait PeerHandler: Send + Sync + 'static {
    /// Answers a request. The part before the first await runs in the call itself: it queues appends in order.
    fn handle(&self, request: PeerRequest) -> BoxFuture<'static, Result<Bytes>>;

    /// Whether a peer may call: `NewerFormat`, with what to do, where it does not know the level that the cluster is at. By
    /// default everybody may.
    fn admits(&self, node_id: u64, levels: keevo_core::Levels, release: &str) -> Result<()> {
        let _ = (node_id, levels, release);
        Ok(())
    }

    /// A folder of its own for the files of a snapshot that is about to arrive. Dropping it removes it.
    fn stage_snapshot(&self, head: &SnapshotHead) -> Result<crate::StagedFiles>;

    /// Installs a snapshot whose files lie, complete, in their staging folder.
    fn install_snapshot(&self, head: SnapshotHead, staged: crate::StagedFiles) -> BoxFuture<'static, Result<Bytes>>;
}

/// `future`, or `DeadlineExceeded` after `timeout`.
pub(crate) async fn within<T>(timeout: Duration, what: &str, future: impl Future<Output = Result<T>>) -> Result<T> {
    match tokio::time::timeout(timeout, future).await {
        Ok(result) => result,
        Err(_elapsed) => Err(Error::new(
            keevo_core::ErrorKind::DeadlineExceeded,
            format!("{what} took longer than {} ms", timeout.as_millis()),
        )),
    }
}
