//! Linearizable reads, many behind one confirmation of the leader.
//!
//! Reads that arrive while a confirmation runs wait for the next one: a confirmation says nothing about
//! writes that were acknowledged after it started.

use std::time::Duration;

use keevo_core::{Error, ErrorKind, Result};
use openraft::LinearizerOption;
use openraft::errors::{LinearizableReadError, RaftError};
use tokio::sync::{mpsc, oneshot};

use super::{fatal, forward_error};
use crate::state_machine::GroupMachine;
use crate::types::{Raft, TypeConfig};

/// How many reads may wait for a confirmation.
const READS_WAITING_MAX: usize = 16_384;

type Answer = oneshot::Sender<Result<u64>>;

/// Where reads wait for the leader to be confirmed.
#[derive(Debug)]
pub(super) struct ReadGate {
    join_tx: mpsc::Sender<Answer>,
}

impl ReadGate {
    /// `lease` is how old a quorum's acknowledgement may be for a read to be served without asking again.
    pub(super) fn start(raft: Raft<GroupMachine>, lease: Duration) -> Self {
        let (join_tx, join_rx) = mpsc::channel(READS_WAITING_MAX);
        tokio::spawn(run(raft, lease, join_rx));
        Self { join_tx }
    }

    /// The log index up to which everything was applied when the leader was confirmed.
    pub(super) async fn join(&self) -> Result<u64> {
        let (answer_tx, answer_rx) = oneshot::channel();
        self.join_tx.try_send(answer_tx).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                Error::new(ErrorKind::ResourceExhausted, "too many reads are waiting")
            }
            mpsc::error::TrySendError::Closed(_) => Error::new(ErrorKind::Unavailable, "the replica has stopped"),
        })?;
        answer_rx
            .await
            .map_err(|error| Error::new(ErrorKind::Unavailable, "the replica has stopped").with_source(error))?
    }
}

async fn run(raft: Raft<GroupMachine>, lease: Duration, mut join_rx: mpsc::Receiver<Answer>) {
    let mut waiting = Vec::new();
    while join_rx.recv_many(&mut waiting, READS_WAITING_MAX).await > 0 {
        let confirmed = confirm(&raft, lease).await;
        for answer in waiting.drain(..) {
            // The reader may have given up waiting; then nobody needs the answer.
            drop(answer.send(confirmed.clone()));
        }
    }
}

async fn confirm(raft: &Raft<GroupMachine>, lease: Duration) -> Result<u64> {
    let option = LinearizerOption::new(Some(lease), true);
    let linearizer = raft.get_read_linearizer(option).await.map_err(|error| read_error(&error))?;
    let index = linearizer.read_log_id().index();
    linearizer.await_ready(raft).await.map_err(fatal)?;
    Ok(index)
}

fn read_error(error: &RaftError<TypeConfig, LinearizableReadError<TypeConfig>>) -> Error {
    match error {
        RaftError::APIError(LinearizableReadError::ForwardToLeader(forward)) => {
            forward_error(keevo_core::ShardId(u64::MAX), forward)
        }
        RaftError::APIError(LinearizableReadError::QuorumNotEnough(missing)) => {
            Error::new(ErrorKind::NoQuorum, missing.to_string())
        }
        RaftError::Fatal(error) => fatal(error.clone()),
    }
}
