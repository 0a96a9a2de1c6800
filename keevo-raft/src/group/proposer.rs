//! Proposals of one group, put into the log in batches.
//!
//! ```text
//! propose ─▶ queue (bounded) ─▶ batch, while at most BATCHES_MAX are under way ─▶ Raft core ─▶ answers, in order
//! ```
//!
//! Each batch costs the leader one turn of its core and one append, and its followers one message and one append. A second
//! batch goes while one is under way only if it is as large as the last one, and a third waits in any case: so the batches
//! grow with the load, and a lone proposal waits for nobody.
//!
//! Invariant: the limits shape batches and stop nothing. A batch that does not come to an end, for want of a quorum, holds
//! up the next one for [`PATIENCE`] only, so that it is told so by the core.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use keevo_core::{Error, ErrorKind, Result};
use openraft::errors::{ClientWriteError, Fatal, RaftError};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::stages::{Stage, Stages};
use crate::state_machine::GroupMachine;
use crate::types::{Applied, Payload, Raft, TypeConfig};

/// How many batches may be under way before the next one waits for one of them.
const BATCHES_MAX: usize = 2;
/// How long it waits.
const PATIENCE: Duration = Duration::from_millis(5);
/// The most entries of a batch.
const ENTRIES_MAX: usize = 1_024;

/// What became of a proposal: its place in the log, and what applying it gave.
pub(super) type Proposed = Result<(u64, Applied), RaftError<TypeConfig, ClientWriteError<TypeConfig>>>;

/// An entry, since when it waits, and who waits for it.
type Proposal = (Payload, Instant, oneshot::Sender<Proposed>);

/// The way in for proposals.
#[derive(Debug)]
pub(super) struct Proposer {
    propose_tx: mpsc::Sender<Proposal>,
}

impl Proposer {
    /// `proposals_max` is how many may wait at once.
    pub(super) fn start(raft: Raft<GroupMachine>, proposals_max: usize, stages: Arc<Stages>) -> Self {
        let (propose_tx, propose_rx) = mpsc::channel(proposals_max);
        tokio::spawn(run(raft, propose_rx, stages));
        Self { propose_tx }
    }

    /// Proposes an entry: entries are put into the log in the order of these calls. What is returned ends when the entry is
    /// applied here, or refused. `ResourceExhausted` when too many wait.
    pub(super) fn propose(&self, payload: Payload) -> Result<impl Future<Output = Proposed> + use<>> {
        let (answer_tx, answer_rx) = oneshot::channel();
        self.propose_tx.try_send((payload, Instant::now(), answer_tx)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                Error::new(ErrorKind::ResourceExhausted, "too many writes wait to be proposed")
            }
            mpsc::error::TrySendError::Closed(_) => Error::new(ErrorKind::Unavailable, "the replica has stopped"),
        })?;
        Ok(async { answer_rx.await.unwrap_or(Err(RaftError::Fatal(Fatal::Stopped))) })
    }
}

async fn run(raft: Raft<GroupMachine>, mut propose_rx: mpsc::Receiver<Proposal>, stages: Arc<Stages>) {
    let mut under_way = FuturesUnordered::new();
    let mut waiting = Vec::new();
    // How many proposals the last batch had.
    let mut last = 0;
    loop {
        tokio::select! {
            biased;
            Some(()) = under_way.next(), if !under_way.is_empty() => {}
            count = propose_rx.recv_many(&mut waiting, ENTRIES_MAX) => {
                if count == 0 {
                    break;
                }
                let mut patience = std::pin::pin!(tokio::time::sleep(PATIENCE));
                while under_way.len() >= BATCHES_MAX || (!under_way.is_empty() && waiting.len() < last) {
                    let room = ENTRIES_MAX.saturating_sub(waiting.len());
                    tokio::select! {
                        biased;
                        Some(()) = under_way.next() => {}
                        count = propose_rx.recv_many(&mut waiting, room), if room > 0 => {
                            if count == 0 {
                                break;
                            }
                        }
                        () = &mut patience => break,
                    }
                }
                // What has come meanwhile goes along.
                while waiting.len() < ENTRIES_MAX
                    && let Ok(proposal) = propose_rx.try_recv()
                {
                    waiting.push(proposal);
                }
                last = waiting.len();
                if let Some((_, since, _)) = waiting.first() {
                    stages.took(Stage::Queue, since.elapsed());
                }
                under_way.push(propose(raft.clone(), std::mem::take(&mut waiting)));
            }
        }
    }
    while under_way.next().await.is_some() {}
}

/// Proposes a batch and hands out the answers.
async fn propose(raft: Raft<GroupMachine>, batch: Vec<Proposal>) {
    // Nobody waits for what was given up before it was proposed.
    let wanted = batch.into_iter().filter(|(_, _, answer_tx)| !answer_tx.is_closed());
    let (payloads, answers): (Vec<_>, Vec<_>) = wanted.map(|(payload, _, answer_tx)| (payload, answer_tx)).unzip();
    if payloads.is_empty() {
        return;
    }
    // Fused: a core that stops answers one of them and ends.
    let mut results = match raft.client_write_many(payloads).await {
        Ok(results) => results.fuse(),
        Err(fatal) => return refuse_all(answers, &fatal),
    };
    for answer_tx in answers {
        let proposed = match results.next().await {
            Some(Ok(result)) => {
                result.map(|written| (written.log_id.index, written.response)).map_err(RaftError::APIError)
            }
            Some(Err(fatal)) => Err(RaftError::Fatal(fatal)),
            None => Err(RaftError::Fatal(Fatal::Stopped)),
        };
        // The caller may have given up waiting.
        drop(answer_tx.send(proposed));
    }
}

fn refuse_all(answers: Vec<oneshot::Sender<Proposed>>, fatal: &Fatal<TypeConfig>) {
    for answer_tx in answers {
        drop(answer_tx.send(Err(RaftError::Fatal(fatal.clone()))));
    }
}
