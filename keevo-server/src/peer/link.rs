//! One stream of requests to a peer. It is used until it breaks; then the transport opens another.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use keevo_core::{Error, ErrorKind, Result};
use keevo_proto::raft::v1 as pb;
use keevo_proto::raft::v1::raft_client::RaftClient;
use keevo_proto::{KIND_METADATA, MESSAGE_BYTES_MAX, error_from_status};
use keevo_raft::{Peer, PeerRequest, answer};
use tokio::sync::oneshot;

use super::outbox::{self, Inbox, Outbox};
use super::{Dial, PeerQueue};

/// How many requests may wait to be sent.
const FRAMES_QUEUED_MAX: usize = 8_192;
/// How long after a failure calls fail at once instead of trying to connect again.
const PAUSE: Duration = Duration::from_millis(100);

type Waiting = Arc<Mutex<State>>;

#[derive(Default)]
struct State {
    /// Set when the link has ended.
    ended: Option<Error>,
    /// Whether the peer has answered on this link.
    reached: bool,
    /// Whether the peer refused the link as such, so that it took none of the requests.
    refused: bool,
    /// Whether the pause after a failure is over, so that another link may be tried.
    spent: bool,
    answers: BTreeMap<u64, Waiter>,
}

/// Who waits for an answer.
struct Waiter {
    answer_tx: oneshot::Sender<Result<Bytes>>,
    /// Whether the request was handed to the connection: from then on it may have arrived.
    left: bool,
}

/// A stream to a peer.
pub(super) struct Link {
    inbox: Inbox,
    state: Waiting,
    next_id: AtomicU64,
    node_id: u64,
}

fn lock(state: &Waiting) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Link {
    /// Opens a stream to the peer in the background; requests may be sent at once.
    pub(super) fn open(peer: &Peer, hello: pb::Hello, dial: Dial) -> Self {
        let (inbox, outbox) = outbox::queue(FRAMES_QUEUED_MAX);
        let state = Waiting::default();
        tokio::spawn(run(peer.clone(), hello, dial, outbox, Arc::clone(&state)));
        Self { inbox, state, next_id: AtomicU64::new(1), node_id: peer.node_id }
    }

    /// What waits to be sent.
    pub(super) fn queue_state(&self) -> PeerQueue {
        let [frames, frames_max, bytes, bytes_max] = self.inbox.queued();
        let unanswered = u64::try_from(lock(&self.state).answers.len()).unwrap_or(u64::MAX);
        PeerQueue { node_id: self.node_id, frames, frames_max, bytes, bytes_max, unanswered }
    }

    /// Whether the link has ended and another may be opened.
    pub(super) fn is_spent(&self) -> bool {
        lock(&self.state).spent
    }

    /// Queues a request, in the order of the calls, and gives its answer.
    pub(super) fn send(
        &self,
        request: PeerRequest,
        timeout: Duration,
    ) -> impl Future<Output = Result<Bytes>> + Send + 'static {
        let call_id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let waits = Guard { state: Arc::clone(&self.state), call_id };
        let queued = self.queue(call_id, request, timeout);
        async move {
            let answer_rx = queued?;
            let answer = answer_rx.await;
            drop(waits);
            answer.unwrap_or_else(|gone| {
                Err(Error::new(ErrorKind::OutcomeUnknown, "the connection ended before the answer").with_source(gone))
            })
        }
    }

    fn queue(&self, call_id: u64, request: PeerRequest, timeout: Duration) -> Result<oneshot::Receiver<Result<Bytes>>> {
        let (answer_tx, answer_rx) = oneshot::channel();
        let frame = pb::Frame {
            call_id,
            group: request.shard.0,
            kind: request.call.code(),
            body: request.body,
            response: false,
            replica: request.replica,
            failure: None,
            deadline_ms: u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX),
        };
        let mut state = lock(&self.state);
        if let Some(error) = &state.ended {
            return Err(Error::new(ErrorKind::Unavailable, error.message().to_owned()));
        }
        self.inbox.try_push(frame).map_err(|error| {
            Error::new(error.kind(), format!("node {}: {}", self.node_id, error.message())).with_source(error)
        })?;
        state.answers.insert(call_id, Waiter { answer_tx, left: false });
        Ok(answer_rx)
    }
}

/// Forgets a request that nobody waits for any more.
struct Guard {
    state: Waiting,
    call_id: u64,
}

impl Drop for Guard {
    fn drop(&mut self) {
        lock(&self.state).answers.remove(&self.call_id);
    }
}

async fn run(peer: Peer, hello: pb::Hello, dial: Dial, outbox: Outbox, state: Waiting) {
    let ended = match talk(&peer, hello, &dial, outbox, &state).await {
        Ok(()) => Error::new(ErrorKind::Unavailable, format!("node {} has closed the connection", peer.node_id)),
        Err(error) => error,
    };
    let cause = std::error::Error::source(&ended).map(ToString::to_string).unwrap_or_default();
    if lock(&state).reached {
        tracing::info!(node = peer.node_id, address = peer.address, error = %ended, cause, "a link has ended");
    } else {
        tracing::debug!(node = peer.node_id, address = peer.address, error = %ended, cause, "a link did not come up");
    }
    fail_all(&state, &ended);
    tokio::time::sleep(PAUSE).await;
    lock(&state).spent = true;
}

fn fail_all(state: &Waiting, ended: &Error) {
    let mut state = lock(state);
    state.ended = Some(ended.clone());
    let refused = state.refused;
    for (_, waiter) in std::mem::take(&mut state.answers) {
        let kind = if waiter.left && !refused { ErrorKind::OutcomeUnknown } else { ended.kind() };
        // Whoever asked may have given up; then nobody needs the answer.
        drop(waiter.answer_tx.send(Err(Error::new(kind, ended.message().to_owned()))));
    }
}

/// The messages of a link. What leaves is marked so, and what nobody waits for any more stays.
fn messages(outbox: Outbox, state: Waiting) -> impl futures::Stream<Item = pb::Frames> + Send + 'static {
    futures::stream::unfold((outbox, state), |(mut outbox, state)| async move {
        let mut frames = outbox.next().await?;
        {
            let mut state = lock(&state);
            frames.retain(|frame| match state.answers.get_mut(&frame.call_id) {
                Some(waiter) => {
                    waiter.left = true;
                    true
                }
                None => false,
            });
        }
        Some((pb::Frames { hello: None, frames }, (outbox, state)))
    })
}

async fn talk(peer: &Peer, hello: pb::Hello, dial: &Dial, outbox: Outbox, state: &Waiting) -> Result<()> {
    let mut client = RaftClient::new(dial.channel(peer)?)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let first = pb::Frames { hello: Some(hello), frames: Vec::new() };
    let outbound = futures::stream::once(std::future::ready(first)).chain(messages(outbox, Arc::clone(state)));
    let opened = client.link(outbound).await.map_err(|status| {
        // A kind is the peer's own word, and it says it before it reads any request.
        lock(state).refused = status.metadata().contains_key(KIND_METADATA);
        unreachable_error(peer, status)
    });
    let mut inbound = opened?.into_inner();
    while let Some(frames) = inbound.message().await.map_err(|status| unreachable_error(peer, status))? {
        let mut state = lock(state);
        state.reached = true;
        for frame in frames.frames {
            if let Some(waiter) = state.answers.remove(&frame.call_id) {
                // Whoever asked may have given up; then nobody needs the answer.
                drop(waiter.answer_tx.send(answer::decode(frame.body)));
            }
        }
    }
    Ok(())
}

fn unreachable_error(peer: &Peer, status: tonic::Status) -> Error {
    let error = error_from_status(&status);
    match error.kind() {
        ErrorKind::WrongCluster | ErrorKind::Corrupt | ErrorKind::NewerFormat => error,
        _ => {
            let message = format!("node {} at {} cannot be reached: {}", peer.node_id, peer.address, status.message());
            Error::new(ErrorKind::Unavailable, message).with_source(status)
        }
    }
}
