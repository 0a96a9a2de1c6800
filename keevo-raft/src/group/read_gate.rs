//! Linearizable reads, many behind one confirmation of the leader.
//!
//! Reads that arrive while a confirmation runs wait for the next one: a confirmation says nothing about
//! writes that were acknowledged after it started.
//!
//! A confirmation says that nobody else led at its start. How long after that the store is read does not matter, nor
//! whether the process is stopped in between: what was the newest state at the start, or became it later, is an
//! answer to a read that was under way all that time.

use std::sync::Arc;
use std::time::Duration;

use keevo_core::{Error, ErrorKind, Result};
use openraft::errors::{LinearizableReadError, RaftError};
use openraft::raft::linearizable_read::{Linearizer, LinearizerOption};
use tokio::sync::{mpsc, oneshot};

use super::{fatal, forward_error};
use crate::quorum::QuorumClock;
use crate::state_machine::GroupMachine;
use crate::timing::Timing;
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
    pub(super) fn start(raft: Raft<GroupMachine>, quorum: Arc<QuorumClock>, timing: &Timing) -> Self {
        let (join_tx, join_rx) = mpsc::channel(READS_WAITING_MAX);
        let confirming =
            Confirming { raft, quorum, lease: timing.lease_for_reads(), patience: timing.confirmation_timeout() };
        tokio::spawn(run(confirming, join_rx));
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

async fn run(confirming: Confirming, mut join_rx: mpsc::Receiver<Answer>) {
    let mut waiting = Vec::new();
    while join_rx.recv_many(&mut waiting, READS_WAITING_MAX).await > 0 {
        let confirmed = confirming.confirm().await;
        for answer in waiting.drain(..) {
            // The reader may have given up waiting; then nobody needs the answer.
            drop(answer.send(confirmed.clone()));
        }
    }
}

/// What it takes to confirm the leader.
struct Confirming {
    raft: Raft<GroupMachine>,
    quorum: Arc<QuorumClock>,
    /// How old a quorum's acknowledgement may be for a read to be served without asking again.
    lease: Duration,
    /// How long a quorum may take to answer.
    patience: Duration,
}

impl Confirming {
    async fn confirm(&self) -> Result<u64> {
        let start = self.quorum.begin();
        let mut linearizer = self.linearizer(self.lease).await?;
        let leader = linearizer.read_log_id().log_id().leader_id;
        if !self.quorum.is_confirmed(leader, start, self.lease) {
            // Makes openraft ask the peers; whether they answered that very request is counted here.
            linearizer = self.linearizer(Duration::ZERO).await?;
            let confirmed = self.quorum.confirmed(leader, start, self.lease);
            tokio::time::timeout(self.patience, confirmed).await.map_err(|elapsed| {
                Error::new(ErrorKind::NoQuorum, "no quorum confirmed that this replica still leads")
                    .with_source(elapsed)
            })?;
        }
        let ready = linearizer.await_ready(&self.raft).await.map_err(fatal)?;
        // An entry of another leader may have come to lie at the index: then nothing says that this one ever led.
        if ready.applied().is_none_or(|applied| applied.leader_id != leader) {
            return Err(Error::new(ErrorKind::NotLeader, "this replica leads its shard no more"));
        }
        Ok(ready.read_log_id().index())
    }

    async fn linearizer(&self, lease: Duration) -> Result<Linearizer<TypeConfig>> {
        let option = LinearizerOption::new(Some(lease), true);
        self.raft.get_read_linearizer(option).await.map_err(|error| read_error(&error))
    }
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
