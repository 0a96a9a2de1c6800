//! Appends from the leader, pipelined into the Raft core in the order of their arrival.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use keevo_core::{Error, ErrorKind, Result};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::fatal;
use crate::messages;
use crate::state_machine::GroupMachine;
use crate::types::{Raft, TypeConfig};

/// How many appends may wait for the core.
const APPENDS_QUEUED_MAX: usize = 256;
/// How many may be in the core at once.
const APPENDS_RUNNING_MAX: usize = 64;

/// The last time the leader was heard of, and what it had committed when a quorum last followed it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Contact {
    pub(super) at: Instant,
    pub(super) committed: u64,
    /// By the leader's wall clock, in milliseconds.
    pub(super) as_of_ms: u64,
}

type Answer = oneshot::Sender<Result<Bytes>>;
type Queued = (AppendEntriesRequest<TypeConfig>, u64, Answer);

/// The way in for appends.
#[derive(Debug)]
pub(super) struct Inbound {
    append_tx: mpsc::Sender<Queued>,
    contact: Arc<Mutex<Option<Contact>>>,
}

impl Inbound {
    pub(super) fn start(raft: Raft<GroupMachine>) -> Self {
        let (append_tx, append_rx) = mpsc::channel(APPENDS_QUEUED_MAX);
        let contact = Arc::new(Mutex::new(None));
        tokio::spawn(run(raft, append_rx, Arc::clone(&contact)));
        Self { append_tx, contact }
    }

    pub(super) fn contact(&self) -> Option<Contact> {
        *self.contact.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn append(
        &self,
        request: AppendEntriesRequest<TypeConfig>,
        as_of_ms: u64,
    ) -> BoxFuture<'static, Result<Bytes>> {
        let (answer_tx, answer_rx) = oneshot::channel();
        let queued = self.append_tx.try_send((request, as_of_ms, answer_tx)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                Error::new(ErrorKind::ResourceExhausted, "the replica has too many appends waiting")
            }
            mpsc::error::TrySendError::Closed(_) => Error::new(ErrorKind::Unavailable, "the replica has stopped"),
        });
        Box::pin(async move {
            queued?;
            answer_rx
                .await
                .map_err(|error| Error::new(ErrorKind::Unavailable, "the replica has stopped").with_source(error))?
        })
    }
}

async fn run(raft: Raft<GroupMachine>, mut append_rx: mpsc::Receiver<Queued>, contact: Arc<Mutex<Option<Contact>>>) {
    // FuturesUnordered polls what was pushed first first, and the first poll queues the append in the core.
    let mut running = FuturesUnordered::new();
    let mut open = true;
    while open || !running.is_empty() {
        tokio::select! {
            biased;
            Some((result, answer, heard)) = running.next(), if !running.is_empty() => {
                finish(result, answer, heard, &contact);
            }
            next = append_rx.recv(), if open && running.len() < APPENDS_RUNNING_MAX => match next {
                Some((request, as_of_ms, answer)) => {
                    let heard = Contact {
                        at: Instant::now(),
                        committed: request.leader_commit.map_or(0, |log_id| log_id.index),
                        as_of_ms,
                    };
                    let raft = raft.clone();
                    running.push(async move {
                        (raft.append_entries(request).await.map_err(|error| fatal(error.unwrap_fatal())), answer, heard)
                    });
                }
                None => open = false,
            },
        }
    }
}

fn finish(
    result: Result<AppendEntriesResponse<TypeConfig>>,
    answer: Answer,
    heard: Contact,
    contact: &Mutex<Option<Contact>>,
) {
    if matches!(result, Ok(AppendEntriesResponse::Success | AppendEntriesResponse::PartialSuccess(_))) {
        *contact.lock().unwrap_or_else(PoisonError::into_inner) = Some(heard);
    }
    // The leader may have given up waiting; then nobody needs the answer.
    drop(answer.send(result.map(|response| messages::encode_append_answer(&response))));
}
