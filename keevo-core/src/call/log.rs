//! What a node's doors use: it begins calls, and keeps what the log of the shards does not say by itself.
//!
//! * Calls that were refused before anything was proposed: the newest [`REFUSED_MAX`], in memory, best effort.
//! * Calls that left a note and failed nevertheless: queued, at most [`FAILED_MAX`], for whoever writes their outcomes into
//!   the log of the shard that has the note. What does not fit is counted, and then looks like a call that went well.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use super::envelope::{CallId, CallOrigin, Envelope, PRINCIPAL_BYTES_MAX};
use super::{Call, CallDoor, CallRequest};
use crate::clock::{Clock, Random};
use crate::error::Error;
use crate::ids::ShardId;

/// How many refused calls are kept.
pub const REFUSED_MAX: usize = 4_096;
/// The most bytes of their requests together.
const REFUSED_BYTES_MAX: usize = 4 << 20;
/// How many failed calls may wait to be written.
pub const FAILED_MAX: usize = 65_536;

/// A call at the door; see [`Envelope`] for the fields.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "the fields are those of the envelope")]
pub struct NewCall {
    pub door: CallDoor,
    pub app: Option<u32>,
    /// Its first [`PRINCIPAL_BYTES_MAX`] bytes are kept.
    pub principal: String,
    pub method: String,
    pub request: CallRequest,
    pub redacted: bool,
}

/// A call that was refused before anything was proposed.
#[derive(Debug, Clone)]
pub struct RefusedCall {
    /// Who asked for what.
    pub envelope: Envelope,
    /// The name of the error's kind.
    pub kind: String,
    /// What the caller was told.
    pub message: String,
}

/// A call that left a note and failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedCall {
    /// Which.
    pub id: CallId,
    /// The shard whose log has the note.
    pub shard: ShardId,
    /// The name of the error's kind.
    pub kind: String,
}

#[derive(Debug, Default)]
struct Kept {
    refused: VecDeque<RefusedCall>,
    refused_bytes: usize,
    failed: VecDeque<FailedCall>,
}

/// The calls of one node. Shared by its doors.
pub struct CallLog {
    node: u64,
    on: AtomicBool,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    last_us: AtomicU64,
    kept: Mutex<Kept>,
    has_failed: Notify,
    begun: AtomicU64,
    refused: AtomicU64,
    lost: AtomicU64,
}

impl fmt::Debug for CallLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallLog").field("node", &self.node).field("on", &self.is_on()).finish_non_exhaustive()
    }
}

impl CallLog {
    /// The calls of a node; none where it is off.
    pub fn new(node: u64, on: bool, clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Arc<Self> {
        Arc::new(Self {
            node,
            on: AtomicBool::new(on),
            clock,
            random,
            last_us: AtomicU64::new(0),
            kept: Mutex::default(),
            has_failed: Notify::new(),
            begun: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        })
    }

    /// Whether calls are recorded.
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// Begins a call; `None` where none are recorded.
    pub fn begin(&self, new: NewCall) -> Option<Arc<Call>> {
        if !self.is_on() {
            return None;
        }
        let stamp_us = self.stamp_us();
        let NewCall { door, app, mut principal, method, request, redacted } = new;
        if principal.len() > PRINCIPAL_BYTES_MAX {
            let end = (0..=PRINCIPAL_BYTES_MAX).rev().find(|at| principal.is_char_boundary(*at)).unwrap_or_default();
            principal.truncate(end);
        }
        Some(Call::new(Envelope {
            id: CallId { node: self.node, stamp_us },
            at_us: stamp_us,
            seed: self.random.next_u64(),
            app,
            door,
            principal,
            method,
            request,
            redacted,
            origin: None,
            erased: false,
        }))
    }

    /// Begins a call that was recorded at `origin`, with its time and its random numbers. It is recorded here too.
    pub fn again(&self, mut envelope: Envelope, origin: CallOrigin) -> Arc<Call> {
        envelope.id = CallId { node: self.node, stamp_us: self.stamp_us() };
        envelope.origin = Some(origin);
        Call::new(envelope)
    }

    fn stamp_us(&self) -> u64 {
        self.begun.fetch_add(1, Ordering::Relaxed);
        let now_us = self.clock.now_ms().saturating_mul(1_000);
        let next = |last: u64| now_us.max(last.saturating_add(1));
        let before = self.last_us.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |last| Some(next(last)));
        next(before.unwrap_or_else(|unchanged| unchanged))
    }

    /// Notes that a call failed.
    pub fn failed(&self, call: &Call, error: &Error) {
        self.failed_as(call, error.kind().row().name, error.message());
    }

    /// Notes that a call failed, with the name of a kind of error and what the caller was told.
    pub fn failed_as(&self, call: &Call, kind: &str, message: &str) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shard) = call.home() {
            if kept.failed.len() >= FAILED_MAX {
                self.lost.fetch_add(1, Ordering::Relaxed);
                return;
            }
            kept.failed.push_back(FailedCall { id: call.envelope().id, shard, kind: kind.to_owned() });
            drop(kept);
            self.has_failed.notify_one();
            return;
        }
        self.refused.fetch_add(1, Ordering::Relaxed);
        let one = RefusedCall { envelope: call.envelope().clone(), kind: kind.to_owned(), message: message.to_owned() };
        kept.refused_bytes += bytes_of(&one);
        kept.refused.push_back(one);
        while kept.refused.len() > REFUSED_MAX || kept.refused_bytes > REFUSED_BYTES_MAX {
            let Some(oldest) = kept.refused.pop_front() else { break };
            kept.refused_bytes = kept.refused_bytes.saturating_sub(bytes_of(&oldest));
        }
    }

    /// Counts outcomes that were taken and could not be written.
    pub fn lose(&self, count: u64) {
        self.lost.fetch_add(count, Ordering::Relaxed);
    }

    /// The newest `limit` calls that were refused before anything was proposed, newest first.
    pub fn refused(&self, limit: usize) -> Vec<RefusedCall> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.refused.iter().rev().take(limit).cloned().collect()
    }

    /// Waits for failed calls, and takes up to `limit` of them.
    pub async fn take_failed(&self, limit: usize) -> Vec<FailedCall> {
        loop {
            let waiting = self.has_failed.notified();
            let failed = self.take_failed_now(limit);
            if !failed.is_empty() {
                return failed;
            }
            waiting.await;
        }
    }

    /// Takes up to `limit` of the failed calls that wait.
    pub fn take_failed_now(&self, limit: usize) -> Vec<FailedCall> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let count = kept.failed.len().min(limit);
        kept.failed.drain(..count).collect()
    }

    /// Calls begun, calls refused before anything was proposed, and outcomes that were lost: too many waited, or they could not be
    /// written.
    pub fn counts(&self) -> (u64, u64, u64) {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (count(&self.begun), count(&self.refused), count(&self.lost))
    }
}

fn bytes_of(call: &RefusedCall) -> usize {
    let body = if let CallRequest::Body(body) = &call.envelope.request { body.len() } else { 0 };
    body + call.envelope.method.len() + call.envelope.principal.len() + call.message.len()
}
