//! The API call that a write belongs to: its envelope rides in the call's first log entry.
//!
//! ```text
//! door: CallLog::begin ─▶ Call ─▶ Call::run(handler) ─▶ … ─▶ Engine::write ─▶ entry = clock, command, note
//!                          │                                                                     └ envelope, attempt
//!                          └─▶ time and randomness of whatever the handler makes up
//! ```
//!
//! A handler runs inside its call, a task-local, so that nothing between the door and the engine has to hand it on. The
//! engine takes a [`Note`] from it for the first write that is applied, which may be applied on another node. Ids and times
//! that a handler makes up come from the call ([`now_ms`], [`stamp_us`], [`random_u64`]): the same envelope gives the same
//! ones again, which is what makes a replay repeatable.
//!
//! Invariant: a note changes nothing about what its entry does. Apply never looks at it.

mod envelope;
mod log;
mod note;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

pub use envelope::{CallDoor, CallId, CallOrigin, CallRequest, Envelope, PRINCIPAL_BYTES_MAX, REQUEST_BYTES_MAX};
pub use log::{CallLog, FAILED_MAX, FailedCall, NewCall, REFUSED_MAX, RefusedCall};
pub use note::{EntryNote, Note, Outcomes};

use crate::clock::{Clock, Random, SeededRandom};
use crate::ids::ShardId;

tokio::task_local! {
    static CURRENT: Option<Arc<Call>>;
}

/// A call on its way through a handler.
#[derive(Debug)]
pub struct Call {
    envelope: Envelope,
    /// The bytes of the envelope, as they go into the log.
    encoded: bytes::Bytes,
    random: SeededRandom,
    stamps: AtomicU64,
    /// Writes that carried the note and were not applied.
    attempt: AtomicU32,
    carried: AtomicBool,
    /// The shard that the note went to, plus one; 0 = none yet.
    home: AtomicU64,
}

impl Call {
    /// The call of an envelope.
    pub fn new(envelope: Envelope) -> Arc<Self> {
        Arc::new(Self {
            encoded: envelope.encode(),
            random: SeededRandom::new(envelope.seed),
            envelope,
            stamps: AtomicU64::new(0),
            attempt: AtomicU32::new(0),
            carried: AtomicBool::new(false),
            home: AtomicU64::new(0),
        })
    }

    /// Its envelope.
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// Runs a handler inside the call.
    pub async fn run<F: Future>(self: &Arc<Self>, handler: F) -> F::Output {
        CURRENT.scope(Some(Arc::clone(self)), handler).await
    }

    /// The shard whose log may hold the call; `None` = nothing of it was proposed.
    pub fn home(&self) -> Option<ShardId> {
        self.home.load(Ordering::SeqCst).checked_sub(1).map(ShardId)
    }

    /// The note for a write to `shard`, unless one that was applied has carried it. Where the write itself is the request,
    /// every write carries it.
    pub fn note(&self, shard: ShardId) -> Option<Note> {
        let is_request = matches!(self.envelope.request, CallRequest::Command);
        if self.carried.load(Ordering::SeqCst) && !is_request {
            return None;
        }
        self.home.store(shard.0.saturating_add(1), Ordering::SeqCst);
        Some(Note { envelope: self.encoded.clone(), attempt: self.attempt.load(Ordering::SeqCst) })
    }

    /// Notes what became of the write that carried the note.
    pub fn carried(&self, applied: bool) {
        if applied {
            self.carried.store(true, Ordering::SeqCst);
        } else {
            self.attempt.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// The call that the caller's task is in, if it is in one.
pub fn current() -> Option<Arc<Call>> {
    CURRENT.try_with(Clone::clone).ok().flatten()
}

/// Runs writes of a call that prepare its effect and are not it, such as the pointer to a job: they carry no note.
pub async fn aside<F: Future>(future: F) -> F::Output {
    CURRENT.scope(None, future).await
}

/// Whether the caller repeats a call that was accepted before: what refused too many or too early is past.
pub fn is_replay() -> bool {
    current().is_some_and(|call| call.envelope.origin.is_some())
}

/// The time that a call's rows are given, in milliseconds since the epoch; outside of calls that of `clock`.
pub fn now_ms(clock: &dyn Clock) -> u64 {
    current().map_or_else(|| clock.now_ms(), |call| call.envelope.at_us / 1_000)
}

/// A time of the current call in microseconds since the epoch, each one later than the one before.
pub fn stamp_us() -> Option<u64> {
    current().map(|call| call.envelope.at_us.saturating_add(call.stamps.fetch_add(1, Ordering::SeqCst)))
}

/// 64 random bits of the current call; outside of calls of `random`.
pub fn random_u64(random: &dyn Random) -> u64 {
    current().map_or_else(|| random.next_u64(), |call| call.random.next_u64())
}

/// 128 random bits of the current call; outside of calls of `random`.
pub fn random_u128(random: &dyn Random) -> u128 {
    current().map_or_else(|| random.next_u128(), |call| call.random.next_u128())
}

#[cfg(test)]
mod tests;
