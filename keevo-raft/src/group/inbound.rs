//! Appends from the leader, pipelined into the Raft core in the order of their arrival.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use keevo_core::{Error, ErrorKind, Result, Revision};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::fatal;
use crate::messages;
use crate::quorum::Freshness;
use crate::state_machine::GroupMachine;
use crate::types::{Raft, TypeConfig};

/// How many appends may wait for the core.
const APPENDS_QUEUED_MAX: usize = 256;
/// How many may be in the core at once.
const APPENDS_RUNNING_MAX: usize = 64;

/// The last time the leader was heard of, and what it said of how current this replica is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Contact {
    at: Instant,
    freshness: Freshness,
}

impl Contact {
    /// Whether a replica that has applied everything up to `applied` has all that had been acknowledged `max_age`
    /// before `now_ms`, its wall clock. Judged by both clocks: the wall clocks of the two nodes may be apart, and the
    /// leader's word may have been long on its way; only what is both at once goes unnoticed.
    pub(super) fn is_fresh(&self, applied: Revision, max_age: Duration, now_ms: u64) -> bool {
        let Freshness { revision, as_of_ms, age_ms } = self.freshness;
        let max_age_ms = u64::try_from(max_age.as_millis()).unwrap_or(u64::MAX);
        // A leader that promises nothing, or one of an older version, names no revision.
        as_of_ms > 0
            && revision > Revision(0)
            && revision <= applied
            && now_ms.saturating_sub(as_of_ms) <= max_age_ms
            && self.at.elapsed().saturating_add(Duration::from_millis(age_ms)) <= max_age
    }
}

type Answer = oneshot::Sender<Result<Bytes>>;
type Queued = (AppendEntriesRequest<TypeConfig>, Freshness, Answer);

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

    /// Appends that wait for the core, and the most that may.
    pub(super) fn queued(&self) -> (u64, u64) {
        let (free, all) = (self.append_tx.capacity(), self.append_tx.max_capacity());
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        (count(all.saturating_sub(free)), count(all))
    }

    pub(super) fn contact(&self) -> Option<Contact> {
        *self.contact.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn append(
        &self,
        request: AppendEntriesRequest<TypeConfig>,
        freshness: Freshness,
    ) -> BoxFuture<'static, Result<Bytes>> {
        let (answer_tx, answer_rx) = oneshot::channel();
        let queued = self.append_tx.try_send((request, freshness, answer_tx)).map_err(|error| match error {
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
                Some((request, freshness, answer)) => {
                    let heard = Contact { at: Instant::now(), freshness };
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
        let mut contact = contact.lock().unwrap_or_else(PoisonError::into_inner);
        // Answers come in any order.
        if contact.is_none_or(|known| known.at <= heard.at) {
            *contact = Some(heard);
        }
    }
    // The leader may have given up waiting; then nobody needs the answer.
    drop(answer.send(result.map(|response| messages::encode_append_answer(&response))));
}

#[cfg(test)]
mod tests {
    use super::*;

    const WALL_MS: u64 = 1_000_000;

    fn contact(freshness: Freshness) -> Contact {
        Contact { at: Instant::now(), freshness }
    }

    fn is_fresh(contact: Contact, applied: u64, max_age_ms: u64, now_ms: u64) -> bool {
        contact.is_fresh(Revision(applied), Duration::from_millis(max_age_ms), now_ms)
    }

    #[tokio::test]
    async fn what_the_leader_named_must_be_applied() {
        let told = contact(Freshness { revision: Revision(7), as_of_ms: WALL_MS, age_ms: 0 });
        assert!(is_fresh(told, 7, 10_000, WALL_MS));
        assert!(is_fresh(told, 8, 10_000, WALL_MS));
        assert!(!is_fresh(told, 6, 10_000, WALL_MS));
        assert!(!is_fresh(contact(Freshness::default()), 7, u64::MAX, WALL_MS), "the leader promised nothing");
        let nameless = contact(Freshness { revision: Revision(0), as_of_ms: WALL_MS, age_ms: 0 });
        assert!(!is_fresh(nameless, 7, u64::MAX, WALL_MS), "it names no revision");
    }

    #[tokio::test]
    async fn age_counts_by_the_wall_clocks_and_by_the_monotonic_ones() {
        let told = |age_ms| contact(Freshness { revision: Revision(7), as_of_ms: WALL_MS, age_ms });
        assert!(is_fresh(told(0), 7, 10_000, WALL_MS + 9_000));
        assert!(!is_fresh(told(0), 7, 10_000, WALL_MS + 11_000), "it was long on its way");
        // This node's clock is far behind the leader's: by it, the word is from the future.
        assert!(is_fresh(told(9_000), 7, 10_000, WALL_MS - 60_000));
        assert!(!is_fresh(told(11_000), 7, 10_000, WALL_MS - 60_000), "the leader itself said that it is old");
        let mut heard = told(9_990);
        heard.at -= Duration::from_millis(20);
        assert!(!is_fresh(heard, 7, 10_000, WALL_MS - 60_000), "and it was heard a while ago");
        assert!(is_fresh(heard, 7, u64::MAX, WALL_MS));
    }
}
