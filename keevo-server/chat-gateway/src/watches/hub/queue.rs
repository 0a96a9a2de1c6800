//! What waits for a follower.
//!
//! Invariant: never more than the bounds; one that would pass them is ended behind what it holds, and nothing is put in
//! any more.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use keevo_core::{CommitEvent, Error, Result};
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

#[derive(Debug, Default)]
struct Held {
    events: VecDeque<CommitEvent>,
    bytes: usize,
    ended: bool,
    error: Option<Error>,
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

    /// Ends it behind what it holds, with an error or so that the follower starts anew.
    pub(super) fn end(&self, error: Option<Error>) {
        let mut held = self.lock();
        held.ended = true;
        held.error = error;
        drop(held);
        self.news.notify_one();
    }

    /// The next change; `None` behind the last one of a queue that has ended.
    pub(super) async fn next(&self) -> Result<Option<CommitEvent>> {
        loop {
            {
                let mut held = self.lock();
                if let Some(event) = held.events.pop_front() {
                    held.bytes = held.bytes.saturating_sub(bytes_of(&event));
                    return Ok(Some(event));
                }
                // What was needed once is not kept for ten thousand who are quiet.
                held.events = VecDeque::new();
                if held.ended {
                    return held.error.take().map_or(Ok(None), Err);
                }
            }
            self.news.notified().await;
        }
    }
}
