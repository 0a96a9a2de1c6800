//! Nodes in one process: a transport that hands requests over directly, with links that can be cut and answers that
//! can be held back.
//!
//! For tests and the simulator. Order holds as [`Transport`] demands, since a request is handed over in the call.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use keevo_core::{Error, ErrorKind, Result, SnapshotFile};
use tokio::sync::watch;

use super::{Peer, PeerCall, PeerHandler, PeerRequest, SnapshotHead, Transport};
use crate::answer;

/// The wires between the nodes of one process.
#[derive(Clone)]
pub struct MemoryNetwork {
    state: Arc<Mutex<State>>,
    held: Arc<watch::Sender<BTreeSet<Held>>>,
}

/// Answers to `call` on their way from one node to another.
type Held = (PeerCall, u64, u64);

#[derive(Default)]
struct State {
    handlers: BTreeMap<u64, Weak<dyn PeerHandler>>,
    cut: BTreeSet<(u64, u64)>,
    calls: BTreeMap<(PeerCall, u64, u64), u64>,
}

impl Default for MemoryNetwork {
    fn default() -> Self {
        Self { state: Arc::default(), held: Arc::new(watch::Sender::default()) }
    }
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

    /// Mends all links, and lets the answers go.
    pub fn heal(&self) {
        self.lock().cut.clear();
        self.held.send_modify(BTreeSet::clear);
    }

    /// Holds back what `from` answers to requests of `to`, until it is let go or who asked has waited long enough.
    pub fn hold_answers(&self, call: PeerCall, from: u64, to: u64) {
        self.held.send_modify(|held| {
            held.insert((call, from, to));
        });
    }

    /// Lets the answers go that were held back.
    pub fn let_answers_go(&self, call: PeerCall, from: u64, to: u64) {
        self.held.send_modify(|held| {
            held.remove(&(call, from, to));
        });
    }

    /// How many requests `from` has sent to `to`, those over a cut link included.
    pub fn calls(&self, call: PeerCall, from: u64, to: u64) -> u64 {
        self.lock().calls.get(&(call, from, to)).copied().unwrap_or(0)
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
    (call, from, to): (Option<PeerCall>, u64, u64),
    timeout: Duration,
    answer: BoxFuture<'static, Result<Bytes>>,
) -> Result<Bytes> {
    let lost = || Error::new(ErrorKind::OutcomeUnknown, format!("node {to} did not answer"));
    // The receiver works on even if the sender gives up, as over a wire.
    let working = tokio::spawn(answer);
    let mut held_rx = network.held.subscribe();
    let arrives = async {
        let answer = working.await;
        if let Some(call) = call {
            // It fails only without a network, and then nothing is held.
            drop(held_rx.wait_for(|held| !held.contains(&(call, to, from))).await);
        }
        answer
    };
    let answer = tokio::time::timeout(timeout, arrives).await.map_err(|elapsed| lost().with_source(elapsed))?;
    let answer = answer.map_err(|error| lost().with_source(error))?;
    if network.handler(to, from).is_err() && from != to {
        return Err(lost());
    }
    answer::decode(answer::encode(&answer))
}

impl Transport for MemoryTransport {
    fn call(&self, to: &Peer, request: PeerRequest, timeout: Duration) -> BoxFuture<'static, Result<Bytes>> {
        let call = request.call;
        *self.network.lock().calls.entry((call, self.from, to.node_id)).or_default() += 1;
        match self.network.handler(self.from, to.node_id) {
            Ok(handler) => {
                let answer = handler.handle(request);
                Box::pin(answered(self.network.clone(), (Some(call), self.from, to.node_id), timeout, answer))
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
            answered(network, (None, from, to), timeout, answer).await
        })
    }
}
