//! Nodes in one process: a transport that hands requests over directly, with links that can be cut.
//!
//! For tests and the simulator. Order holds as [`Transport`] demands, since a request is handed over in the call.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use keevo_core::{Error, ErrorKind, Result, SnapshotFile};

use super::{Peer, PeerHandler, PeerRequest, SnapshotHead, Transport};
use crate::answer;

/// The wires between the nodes of one process.
#[derive(Clone, Default)]
pub struct MemoryNetwork {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    handlers: BTreeMap<u64, Weak<dyn PeerHandler>>,
    cut: BTreeSet<(u64, u64)>,
}

impl fmt::Debug for MemoryNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryNetwork").finish_non_exhaustive()
    }
}

impl MemoryNetwork {
    /// A network without nodes.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The transport of one node.
    pub fn transport(&self, node_id: u64) -> Arc<dyn Transport> {
        Arc::new(MemoryTransport { network: self.clone(), from: node_id })
    }

    /// Connects a node's handler; it stays connected while the handler lives.
    pub fn connect(&self, node_id: u64, handler: &Arc<dyn PeerHandler>) {
        self.lock().handlers.insert(node_id, Arc::downgrade(handler));
    }

    /// Takes a node off the network.
    pub fn disconnect(&self, node_id: u64) {
        self.lock().handlers.remove(&node_id);
    }

    /// Cuts what `from` sends to `to`; the other direction stays.
    pub fn cut(&self, from: u64, to: u64) {
        self.lock().cut.insert((from, to));
    }

    /// Mends all links.
    pub fn heal(&self) {
        self.lock().cut.clear();
    }

    fn handler(&self, from: u64, to: u64) -> Result<Arc<dyn PeerHandler>> {
        let state = self.lock();
        let cut = state.cut.contains(&(from, to));
        state
            .handlers
            .get(&to)
            .filter(|_| !cut)
            .and_then(Weak::upgrade)
            .ok_or_else(|| Error::new(ErrorKind::Unavailable, format!("node {to} cannot be reached from node {from}")))
    }
}

#[derive(Debug)]
struct MemoryTransport {
    network: MemoryNetwork,
    from: u64,
}

async fn answered(
    network: MemoryNetwork,
    from: u64,
    to: u64,
    timeout: Duration,
    answer: BoxFuture<'static, Result<Bytes>>,
) -> Result<Bytes> {
    let lost = || Error::new(ErrorKind::OutcomeUnknown, format!("node {to} did not answer"));
    // The receiver works on even if the sender gives up, as over a wire.
    let working = tokio::spawn(answer);
    let answer = tokio::time::timeout(timeout, working).await.map_err(|elapsed| lost().with_source(elapsed))?;
    let answer = answer.map_err(|error| lost().with_source(error))?;
    if network.handler(to, from).is_err() && from != to {
        return Err(lost());
    }
    answer::decode(answer::encode(&answer))
}

impl Transport for MemoryTransport {
    fn call(&self, to: &Peer, request: PeerRequest, timeout: Duration) -> BoxFuture<'static, Result<Bytes>> {
        match self.network.handler(self.from, to.node_id) {
            Ok(handler) => {
                let answer = handler.handle(request);
                Box::pin(answered(self.network.clone(), self.from, to.node_id, timeout, answer))
            }
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }

    fn send_snapshot(
        &self,
        to: &Peer,
        head: SnapshotHead,
        files: Vec<SnapshotFile>,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Bytes>> {
        let (network, from, to) = (self.network.clone(), self.from, to.node_id);
        Box::pin(async move {
            let handler = network.handler(from, to)?;
            let mut staged = handler.stage_snapshot(&head)?;
            for file in files {
                let name = file.path.file_name().ok_or_else(|| Error::invalid("a snapshot file has no name"))?;
                let path = staged.dir.join(name);
                tokio::fs::copy(&file.path, &path).await.map_err(|error| {
                    Error::new(ErrorKind::Io, "a snapshot file cannot be copied").with_source(error)
                })?;
                staged.files.push(SnapshotFile { path, ..file });
            }
            let answer = handler.install_snapshot(head, staged);
            answered(network, from, to, timeout, answer).await
        })
    }
}
