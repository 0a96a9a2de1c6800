//! What waits for a follower.
//!
//! Invariant: never more than the bounds; one that would pass them is ended behind what it holds, and nothing is put in
//! any more.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use keevo_core::{CommitEvent, Cursor, Error, Result};
use tokio::sync::Notify;

use super::bytes_of;

/// The most changes that wait, and their most bytes.
const QUEUE_MAX: usize = 1_024;
const QUEUE_BYTES_MAX: usize = 1 << 20;

/// A queue.
#[derive(Debug, Default)]
pub(super) struct Queue {
    held: Mutex<Held>,
    news: Notify,
}

/// What a queue gives.
#[derive(Debug)]
pub(in crate::watches) enum Given {
    /// A change.
    Change(CommitEvent),
    /// The end, behind what it held: start anew, behind the cursor where there is one, up to which everything was given.
    Anew(Option<Cursor>),
    /// The end, behind what it held: the changes behind the cursor are gone. Whoever has come further starts anew.
    Gone(Cursor, Error),
}

#[derive(Debug, Default)]
struct Held {
    events: VecDeque<CommitEvent>,
    bytes: usize,
    ended: bool,
    error: Option<Error>,
    upto: Option<Cursor>,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a change at the end; false where the queue has ended.
    pub(super) fn push(&self, event: &CommitEvent) -> bool {
        let mut held = self.lock();
        let bytes = held.bytes + bytes_of(event);
        // One change fits whatever its size.
        let full = !held.events.is_empty() && (held.events.len() >= QUEUE_MAX || bytes > QUEUE_BYTES_MAX);
        held.ended |= full;
        if !held.ended {
            held.bytes = bytes;
            held.events.push_back(event.clone());
        }
        let goes_on = !held.ended;
        drop(held);
        self.news.notify_one();
        goes_on
    }

    /// Ends it behind what it holds, with an error or so that the follower starts anew. All changes up to `upto` were put in, if
    /// it has not ended before; with both, the error is what those behind it are gone for.
    pub(super) fn end(&self, error: Option<Error>, upto: Option<Cursor>) {
        let mut held = self.lock();
        if !held.ended {
            (held.ended, held.error, held.upto) = (true, error, upto);
        }
        drop(held);
        self.news.notify_one();
    }

    /// Whether it goes on, and nothing waits.
    pub(super) fn is_drained(&self) -> bool {
        let held = self.lock();
        held.events.is_empty() && !held.ended
    }

    /// What comes next; behind the last change of a queue that has ended, that it has.
    pub(super) async fn next(&self) -> Result<Given> {
        loop {
            {
                let mut held = self.lock();
                if let Some(event) = held.events.pop_front() {
                    held.bytes = held.bytes.saturating_sub(bytes_of(&event));
                    return Ok(Given::Change(event));
                }
                // What was needed once is not kept for ten thousand who are quiet.
                held.events = VecDeque::new();
                if held.ended {
                    return match (held.error.take(), held.upto) {
                        (Some(error), Some(upto)) => Ok(Given::Gone(upto, error)),
                        (Some(error), None) => Err(error),
                        (None, upto) => Ok(Given::Anew(upto)),
                    };
                }
            }
            self.news.notified().await;
        }
    }
}
